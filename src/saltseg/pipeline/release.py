"""A run → a released model: the weights of one fold in half precision, and what was measured about them.

Every number comes from the run's own records, or is measured here on the tiles that the fold did not train on.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from saltseg import io, predictions, provenance, releases, schemas
from saltseg.config import Config, weights_file
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.metrics import average_precision, bootstrap
from saltseg.models import checkpoints, half_precision
from saltseg.pipeline import compare, trained, tune
from saltseg.pipeline.workspace import Workspace, sections_of
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.predictions import Predictions
from saltseg.releases import ModelDir
from saltseg.runs import FoldDir, RunDir

TGS_LICENSE = (
    "for non-commercial research and education only, as the rules of the TGS Salt Identification Challenge have it; "
    "the network learned from its tiles"
)

Card = Callable[[RunDir, ModelDir, dict[str, Any]], str]  # Markdown, of a run, the model made of it, its manifest


def release(
    run: RunDir,
    workspace: Workspace,
    target: Path,
    card: Card,
    *,
    fold: int | None = None,
    terms: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the folder of a model; it is made completely or not at all.

    Args:
        run: with an out-of-fold score and post-processing of its own.
        workspace: with the dataset of the run.
        target: the folder, whose name becomes the model's.
        card: writes the model card.
        fold: whose networks are released; None: the first finished one.
        terms: the license, for data that are neither simulated nor the competition's, see `license_of`.
        overwrite: replace a model that is there.

    Returns:
        What model.json says.

    Raises:
        InputError: the folder exists, the run has no such fold or no score, the license is unknown, the dataset has
            changed, a file of weights is too large.
    """
    model = ModelDir(target)
    if target.exists() and not (overwrite and model.manifest.is_file()):
        raise InputError(f"{target} exists; choose another --name, or replace a model with --overwrite")
    run.require_oof_score("a model needs a score: release {teacher} instead")
    source = _fold(run, fold)
    manifest: dict[str, Any] = {
        "format": 1,
        "name": model.name,
        "license": license_of(run, workspace.output_dir, terms),
        "run": run.name,
        "fold": source.number,
    }
    postprocessing = tune.own_postprocessing(run)
    tune.require_nested(run)
    before = checkpoints.load_networks(run.read_config(), source)
    metrics = schemas.read(source.metrics)
    target.parent.mkdir(parents=True, exist_ok=True)
    with io.atomic_dir(target, replace=overwrite) as folder:
        new = ModelDir(folder)
        weights = [new.weights(number, len(before)) for number in range(len(before))]
        for path, network in zip(weights, before, strict=True):
            half_precision.write(path, network)
        require_small(weights)
        shutil.copyfile(run.config, new.config)
        shutil.copyfile(run.provenance, new.provenance)
        settings = trained.released_settings(run.read_config(), metrics["tta"])
        networks = [half_precision.read(settings, path).to(next(before[0].parameters()).device) for path in weights]
        manifest |= {
            "files": {path.name: releases.file_hash(path) for path in (new.config, new.provenance, *weights)},
            "weights": [path.name for path in weights],
            "tta": metrics["tta"],
            "postprocessing": postprocessing.to_dict(),
            "start": metrics.get("weights_source", "random"),
            "data": _data(run, workspace, metrics),
            "score": _score(run, workspace, source.number),
            **_measure(run, workspace, source, networks, settings, postprocessing),
            "elsewhere": _elsewhere(run),
        }
        io.write_json(new.manifest, manifest)
        schemas.read(new.manifest)
        io.write_atomic(new.card, card(run, new, manifest))
    return manifest


def license_of(run: RunDir, output_dir: Path, terms: str | None) -> str:
    """The license of weights that were trained in this run, by what they learned from.

    Images without labels come from a folder of which nobody can tell whose they are. Beside the competition's tiles
    they are taken for the competition's own, unless ``terms`` says more; without those tiles ``terms`` must be given.
    What learned from the competition's tiles keeps its terms, whatever ``terms`` adds, and so does what began with a
    released model.

    Raises:
        InputError: the data are of a kind whose license only the user knows, and ``terms`` is None; or ``terms`` is
            given for data whose license is known.
    """
    sources = [run, *provenance.ancestors(run.read_config(), output_dir)]
    settings = [source.read_config() for source in sources if source.config.is_file()]
    masked = [source for source in sources if source.read_provenance().get("method") == "masked"]
    kinds = {kind_of_data(source) for source in sources if source not in masked}
    unlabeled = bool(masked) or any(config.pseudo for config in settings)
    if any(_reads_unknown_file(config) for config in settings) or (unlabeled and "tgs" not in kinds):
        kinds.add("other")
    if "other" in kinds and not terms:
        raise InputError(
            f"{run.name} learned from data whose license is not known; say who may use the weights, and for what: "
            "--license TEXT"
        )
    if terms and not (unlabeled or "other" in kinds):
        raise InputError("--license is for other data than simulated tiles and the competition's; leave it out")
    if "tgs" in kinds:
        found = f"{TGS_LICENSE}; for the other data that it learned from: {terms}" if terms else TGS_LICENSE
    else:
        found = terms or releases.PROJECT_LICENSE
    models = [model for source in sources if (model := ModelDir(source.path)).manifest.is_file()]
    for model in models:
        earlier = schemas.read(model.manifest)["license"]
        if earlier not in (releases.PROJECT_LICENSE, TGS_LICENSE) and earlier not in found:
            found = f"{found}; for what {model.name} learned from: {earlier.removeprefix(f'{TGS_LICENSE}; ')}"
    return found


def _reads_unknown_file(settings: Config) -> bool:
    """Whether a training began with a file beside which no run, pretraining or model says where it came from."""
    files = [weights_file(source) for source in (settings.train.init_from, settings.encoder_weights)]
    folders = [path.absolute().parent for path in files if path is not None]
    return any(not any(RunDir(place).provenance.is_file() for place in (one, one.parent)) for one in folders)


def kind_of_data(run: RunDir) -> str:
    """ "simulated", "tgs" or "other": what a run or a pretraining learned from."""
    recorded = run.read_provenance()
    dataset = recorded.get("dataset") or ""
    if recorded.get("synthetic") or recorded.get("method") == "synthetic":
        return "simulated"
    return "tgs" if competition.is_tgs(dataset) else "other"


def _fold(run: RunDir, number: int | None) -> FoldDir:
    folds = {fold.number: fold for fold in run.trained_folds()}
    if number is None:
        return next(iter(folds.values()))
    if number not in folds:
        raise InputError(f"--fold {number}: {run.name} has finished {', '.join(map(str, folds))}; choose one of these")
    return folds[number]


def _data(run: RunDir, workspace: Workspace, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the networks learned from."""
    source = competition.read_source(workspace.root(run))
    return {
        "dataset": run.read_provenance()["dataset"],
        "kind": kind_of_data(run),
        "source": source if isinstance(source, dict) and kind_of_data(run) == "simulated" else {},
        "n_train": metrics["n_train"],
        "n_pseudo": metrics.get("n_pseudo", 0),
        "epochs": metrics["epochs"],
        "epoch": metrics["best_epoch"],
        "epoch_chosen_by": metrics["best_epoch_chosen_by"],
    }


def require_small(paths: Sequence[Path]) -> None:
    """Raise InputError where a file of weights is too large for a repository."""
    for path in paths:
        if (size := path.stat().st_size) > releases.MAX_WEIGHTS_BYTES:
            raise InputError(
                f"the weights take {size / 1e6:.1f} MB, at most {releases.MAX_WEIGHTS_BYTES / 1e6:.0f}; release a "
                "network with a smaller encoder"
            )


def _score(run: RunDir, workspace: Workspace, fold: int) -> dict[str, Any]:
    """The score of the released networks: on the tiles of the fold, with what post-processing is released.

    Tuned post-processing is fitted on other tiles; threshold 0.5, where that is selected, is fitted on none.
    """
    rows = [row for row in compare.image_scores(run, workspace) if row["fold"] == fold]
    if not rows:
        raise InputError(
            f"fold {fold} is not in {run.oof}; first saltseg predict {run.name}, then saltseg tune {run.name}"
        )
    sections = bootstrap.clusters([row["section"] for row in rows]) if "section" in rows[0] else None
    tuned = schemas.read(run.postprocess)
    used = "score_at_half" if tuned["selected"] == "half" else "score_postprocessed_cv"
    half, released = (np.array([float(row[key]) for row in rows]) for key in ("score_at_half", used))
    mean = bootstrap.mean_interval(released, sections)
    return {
        "n": len(rows),
        "at_half": float(half.mean()),
        "postprocessed": mean.mean,
        "interval": mean.interval,
        "by": bootstrap.resampled(sections),
        "fitted_on": tuned["cross_fit_groups"],
    }


def _measure(
    run: RunDir,
    workspace: Workspace,
    fold: FoldDir,
    networks: Sequence[nn.Module],
    settings: Config,
    postprocessing: Postprocessing,
) -> dict[str, Any]:
    """Predict the fold's tiles with the released networks, as they are and with the polarity reversed."""
    own, root = predictions.load_predictions(fold.oof), workspace.root(run)
    labeled = competition.read_train(root)
    ids = own.ids.tolist()
    index_of_id = {id_: index for index, id_ in enumerate(labeled.ids)}
    tiles = labeled.subset(np.array([index_of_id[id_] for id_ in ids]))
    sections = sections_of(root, ids)

    with tqdm(desc="measuring", total=2 * len(ids), unit="img", mininterval=1) as bar:

        def predicted(images: np.ndarray) -> Predictions:
            return predict.predictions(networks, ids, images, settings, progress=bar.update)

        started = time.perf_counter()
        half = predicted(tiles.images)
        seconds = time.perf_counter() - started
        reverse = predicted(255 - tiles.images)

    def masks(found: Predictions, steps: Postprocessing) -> np.ndarray:
        return steps.apply(found.probabilities, found.presence_probability)

    def difference(one: Predictions, other: Predictions, steps: Postprocessing) -> dict[str, Any]:
        first, second = (
            average_precision.average_precision(masks(found, steps), tiles.masks) for found in (one, other)
        )
        paired = bootstrap.paired_difference(first, second, sections)
        return {"mean": paired.mean, "interval": paired.interval}

    change = np.abs(half.probabilities.astype(np.int16) - own.probabilities)
    return {
        "half_precision": {
            "difference": {
                "at_half": difference(own, half, THRESHOLD_HALF),
                "postprocessed": difference(own, half, postprocessing),
            },
            "largest_change": int(change.max()),
            "changed_pixels": float((masks(own, postprocessing) != masks(half, postprocessing)).mean()),
        },
        "reversed_polarity": {
            "postprocessed": average_precision.score(masks(reverse, postprocessing), tiles.masks),
            "difference": difference(half, reverse, postprocessing),
        },
        "speed": {"tiles_per_second": round(len(ids) / seconds, 1), "machine": provenance.record()["machine"]},
    }


def _elsewhere(run: RunDir) -> list[dict[str, Any]]:
    """What `saltseg evaluate` measured on other datasets, with all networks of the run."""
    found = [schemas.read(path) for path in sorted(run.path.glob("on_*.json"))]
    keys = ("dataset", "n", "score_postprocessed", "interval")
    return [
        {**{key: scores[key] for key in keys}, "networks": scores.get("networks", len(run.trained_folds()))}
        for scores in found
    ]
