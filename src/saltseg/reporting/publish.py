"""The small files of a run that are worth keeping under version control."""

import shutil
from pathlib import Path

from saltseg import io, schemas
from saltseg.errors import InputError
from saltseg.models import checkpoints, half_precision
from saltseg.pipeline import compare, release, tune
from saltseg.pipeline.workspace import Workspace
from saltseg.reporting import plots, run_summary
from saltseg.runs import FoldDir, RunDir

FILES = (
    "config.yaml",
    "provenance.json",
    "postprocess.json",
    "submission.csv",
    "postprocessing_source.json",
    "solution_score.json",
    "threshold_curve.png",
)
FOLD_FILES = ("metrics.json", "log.csv")
PREDICTIONS = ("oof.npz", "test.npz")
LICENSE = "weights_license.txt"


def publish(run: RunDir, workspace: Workspace, predictions: bool = False, weights: bool = False) -> Path:
    """Copy the small files of a run to ``output/published/RUN`` and score every out-of-fold image; returns that folder.

    What an earlier publication left is replaced.

    Args:
        run: with a submission.
        workspace: with its dataset.
        predictions: add the probabilities of each fold, so that blends and comparisons outlive the machine.
        weights: add the networks of each fold that has them, in half precision, and their license. A copy of the
            folder under ``output/runs`` can then predict, label and be started from.

    Raises:
        InputError: the run has no submission or its post-processing is of other predictions, a file is damaged, the
            scores are of other folds than those that are finished, the folder holds something else, or the weights
            are too large or of an unknown license.
    """
    if not run.submission.is_file():
        raise InputError(f"run {run.name!r} has no submission yet; saltseg submit {run.name}")
    if not run.postprocessing_source.is_file():
        tune.own_postprocessing(run)  # raises InputError where it is of other predictions
        tune.require_nested(run)
    if other_folds := run_summary.read(run).other_folds:
        raise InputError(
            f"the scores of {run.name} are of {other_folds}; first saltseg predict {run.name}, then saltseg tune "
            f"{run.name}"
        )
    target = workspace.output_dir / "published" / run.name
    if target.exists() and not (target / "provenance.json").is_file():
        raise InputError(f"{target} holds something else than a published run; give the run another name")
    finished = run.finished_folds()
    sources = [run.path / name for name in FILES]
    names = FOLD_FILES + (PREDICTIONS if predictions else ())
    sources += [fold.path / name for fold in finished for name in names]
    sources += sorted(run.path.glob("on_*.json"))
    scored = not run.pseudo_labels_from_all_folds()
    with io.atomic_dir(target, replace=True) as beside:
        for source in filter(Path.is_file, sources):
            if source.suffix == ".json":
                schemas.read(source)  # raises InputError for a damaged one
            copy = beside / source.relative_to(run.path)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)
        if scored and finished:
            logs = {fold.number: schemas.read(fold.log) for fold in finished}
            best = {fold.number: schemas.read(fold.metrics)["best_epoch"] for fold in finished}
            io.write_atomic(beside / "learning_curves.png", plots.learning_curves(logs, best))
        if weights:
            io.write_atomic(beside / LICENSE, _license(run, workspace.output_dir) + "\n")
            for fold in finished:
                _write_weights(run, fold, beside / fold.path.name)
        if scored:
            io.write_csv(beside / "image_scores.csv", compare.image_scores(run, workspace))
    return target


def _license(run: RunDir, output_dir: Path) -> str:
    """Who may use the weights of a run; InputError where only the user knows."""
    try:
        return release.license_of(run, output_dir, None)
    except InputError:
        raise InputError(
            f"{run.name} learned from data whose license is not known; leave --weights out, or make a model of a fold: "
            "saltseg release --license TEXT"
        ) from None


def _write_weights(run: RunDir, fold: FoldDir, target: Path) -> None:
    """Write the networks of a fold in half precision; of those that are there in half precision only, a copy."""
    settings = run.read_config()
    for path in fold.networks(settings.train):
        half = checkpoints.half_weights(path)
        if path.is_file():
            half_precision.write(target / half.name, checkpoints.load_network(settings, path))
        elif half.is_file():
            shutil.copyfile(half, target / half.name)
        else:
            continue
        release.require_small([target / half.name])
