"""Score a run or a released model on the labeled images of a dataset that it was not trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from saltseg import config, predictions, provenance
from saltseg.config import Runtime
from saltseg.data import competition, duplicates
from saltseg.errors import InputError
from saltseg.metrics import average_precision, bootstrap, pixels
from saltseg.pipeline.tune import postprocessing_of
from saltseg.pipeline.workspace import Workspace, sections_of
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.releases import ModelDir
from saltseg.runs import RunDir

if TYPE_CHECKING:
    from torch import nn

    from saltseg.config import Config

Loaded = tuple["Config", list[list["nn.Module"]], Postprocessing]  # networks by fold


def evaluate(
    source: RunDir | ModelDir, workspace: Workspace, dataset: str, runtime: Runtime | None = None
) -> dict[str, Any]:
    """Score the mean over a run's folds, or a model, on another dataset.

    Returns:
        ``run``, ``dataset`` (names); ``n`` (images); ``networks`` (whose mean is scored); ``always_empty`` (the score
        of empty masks); ``score_at_half`` (threshold 0.5); ``score_postprocessed`` (with the run's post-processing,
        which was tuned on its own dataset) and its 95 % bootstrap ``interval``, ``by`` image or section; ``pixel`` (see
        `pixels.PixelScores`, threshold 0.5); ``compared_with_training`` (whether the images were compared with those of
        the training, which are not there for most models, and whether the data of all that it learned from are known).

    Raises:
        InputError: the dataset is that of the training or shares an id or the pixels of a tile with it, something that
            it learned from was trained on the same labels, or the run has no finished fold.
    """
    from saltseg.inference import predict

    root = competition.dataset_root(workspace.input_dir, dataset)
    labeled = competition.read_train(root)
    trained = _training_tiles(source, workspace, root)
    if trained is not None:
        _require_other_images(dataset, labeled, trained)
    all_known = _require_other_ancestors(source, workspace, root)
    settings, networks_of_folds, postprocessing = _load(source, runtime)
    parts = []
    with tqdm(desc="predicting", total=len(networks_of_folds) * len(labeled.ids), unit="img", mininterval=1) as bar:
        for networks in networks_of_folds:
            parts.append(predict.predictions(networks, labeled.ids, labeled.images, settings, progress=bar.update))
    mean = predictions.mean_predictions(parts)
    at_half = THRESHOLD_HALF.apply(mean.probabilities)
    masks = postprocessing.apply(mean.probabilities, mean.presence_probability)
    sections = sections_of(root, labeled.ids)
    score = bootstrap.mean_interval(average_precision.average_precision(masks, labeled.masks), sections)
    return {
        "run": source.name,
        "dataset": dataset,
        "n": len(labeled.ids),
        "networks": sum(map(len, networks_of_folds)),
        "always_empty": float((~labeled.masks.any(axis=(1, 2))).mean()),
        "score_at_half": average_precision.score(at_half, labeled.masks),
        "score_postprocessed": score.mean,
        "interval": score.interval,
        "by": bootstrap.resampled(sections),
        "pixel": vars(pixels.pixel_scores(at_half, labeled.masks)),
        "compared_with_training": trained is not None and all_known,
    }


def _load(source: RunDir | ModelDir, runtime: Runtime | None) -> Loaded:
    from saltseg.models import checkpoints
    from saltseg.pipeline import trained

    if isinstance(source, ModelDir):
        settings, networks, postprocessing = trained.load(source, runtime=runtime)
        return settings, [networks], postprocessing
    settings, folds = trained.settings_of(source, runtime), source.trained_folds()
    return settings, [checkpoints.load_networks(settings, fold) for fold in folds], postprocessing_of(source)


def _training_tiles(source: RunDir | ModelDir, workspace: Workspace, root: Path) -> competition.Labeled | None:
    """The labeled tiles that a run was trained on; None where those of a model are not here.

    Raises InputError if ``root`` is the dataset of the training, or that of a run is gone.
    """
    recorded = source.read_provenance()
    if isinstance(source, RunDir):
        if root.name == recorded["dataset"]:
            raise InputError(
                f"{source.name} was trained on {root.name}; its score there is the out-of-fold one "
                "(saltseg leaderboard)"
            )
        return competition.read_train(workspace.root(source))
    if competition.has_fingerprint(root, recorded["dataset_hash"]):
        raise InputError(f"{source.name} was trained on {root.name}; its score there is in {source.card}")
    training = workspace.input_dir / recorded["dataset"]
    return competition.read_train(training) if competition.has_fingerprint(training, recorded["dataset_hash"]) else None


def _require_other_ancestors(source: RunDir | ModelDir, workspace: Workspace, root: Path) -> bool:
    """Whether it is certain that nothing that a run or model learned from was trained on labels of ``root``.

    It is not where that is gone, or its dataset. Raises InputError where something was.
    """
    ancestors, known = provenance.lineage(config.load(source.config), workspace.output_dir)
    for run in ancestors:
        learned = provenance.trained_on_labels_of(run, root)
        if learned:
            raise InputError(
                f"{source.name} learned from {run.name}, which was trained on labels of {root.name}; "
                "evaluate it on another dataset"
            )
        known = known and learned is not None
    return known


def _require_other_images(dataset: str, labeled: competition.Labeled, trained: competition.Labeled) -> None:
    """Raise InputError for images that the training had."""
    shared = [(id_, id_) for id_ in sorted({*labeled.ids} & {*trained.ids})]
    shared += duplicates.shared_tiles(labeled.ids, labeled.images, trained.ids, trained.images)
    if shared:
        id_, other = shared[0]
        raise InputError(
            f"{dataset} shares {len(dict(shared))} images with the training, such as {id_!r} "
            f"({'the same id' if id_ == other else f'the pixels of {other!r}'}); use others"
        )
