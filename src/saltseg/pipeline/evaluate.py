"""Score a run on the labeled images of a dataset that it was not trained on."""

from typing import Any

from tqdm import tqdm

from saltseg import predictions
from saltseg.config import Runtime
from saltseg.data import competition, duplicates
from saltseg.errors import InputError
from saltseg.metrics import average_precision, bootstrap, pixels
from saltseg.pipeline.tune import postprocessing_of
from saltseg.pipeline.workspace import Workspace, sections_of
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.runs import RunDir


def evaluate(run: RunDir, workspace: Workspace, dataset: str, runtime: Runtime | None = None) -> dict[str, Any]:
    """Score the mean over a run's folds on another dataset.

    Returns:
        ``run``, ``dataset`` (names); ``n`` (images); ``always_empty`` (the score of empty masks); ``score_at_half``
        (threshold 0.5); ``score_postprocessed`` (with the run's post-processing, which was tuned on its own dataset)
        and its 95 % bootstrap ``interval``, ``by`` image or section; ``pixel`` (see `pixels.PixelScores`, threshold
        0.5).

    Raises:
        InputError: the dataset is that of the training or shares an id or the pixels of a tile with it, or the run has
            no finished fold.
    """
    from saltseg.inference import predict
    from saltseg.models import checkpoints, precision

    if dataset == run.read_provenance()["dataset"]:
        raise InputError(
            f"{run.name} was trained on {dataset}; its score there is the out-of-fold one (saltseg leaderboard)"
        )
    settings, finished = precision.trained_config(run, runtime), run.trained_folds()
    root = competition.dataset_root(workspace.input_dir, dataset)
    labeled = competition.read_train(root)
    trained = competition.read_train(workspace.root(run))
    shared = [(id_, id_) for id_ in sorted({*labeled.ids} & {*trained.ids})]
    shared += duplicates.shared_tiles(labeled.ids, labeled.images, trained.ids, trained.images)
    if shared:
        id_, other = shared[0]
        raise InputError(
            f"{dataset} shares {len(dict(shared))} images with the training, such as {id_!r} "
            f"({'the same id' if id_ == other else f'the pixels of {other!r}'}); use others"
        )
    postprocessing, parts = postprocessing_of(run), []
    with tqdm(desc="predicting", total=len(finished) * len(labeled.ids), unit="img", mininterval=1) as bar:
        for fold in finished:
            networks = checkpoints.load_networks(settings, fold)
            parts.append(predict.predictions(networks, labeled.ids, labeled.images, settings, progress=bar.update))
    mean = predictions.mean_predictions(parts)
    at_half = THRESHOLD_HALF.apply(mean.probabilities)
    masks = postprocessing.apply(mean.probabilities, mean.presence_probability)
    sections = sections_of(root, labeled.ids)
    score = bootstrap.mean_interval(average_precision.average_precision(masks, labeled.masks), sections)
    return {
        "run": run.name,
        "dataset": dataset,
        "n": len(labeled.ids),
        "always_empty": float((~labeled.masks.any(axis=(1, 2))).mean()),
        "score_at_half": average_precision.score(at_half, labeled.masks),
        "score_postprocessed": score.mean,
        "interval": score.interval,
        "by": bootstrap.resampled(sections),
        "pixel": vars(pixels.pixel_scores(at_half, labeled.masks)),
    }
