"""What a record of the case study holds beside scores: pixel errors, cost, curves, and predicted tiles beside it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from saltseg import io, predictions, schemas
from saltseg.config import Config
from saltseg.data import competition, folds
from saltseg.inference import predict
from saltseg.metrics import bootstrap, pixels
from saltseg.models import checkpoints, precision, zoo
from saltseg.pipeline.workspace import Workspace
from saltseg.postprocessing import threshold_search
from saltseg.postprocessing.areas import Areas, areas
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.postprocessing.step_selection import OutOfFold
from saltseg.runs import RunDir
from saltseg.studies.case_study.variants import BASE, SHOWN
from saltseg.studies.records import AT_HALF, TUNED

REACH = 20  # pixels from the boundary within which errors are counted one by one; the last bins hold the others


def details(
    run: RunDir, workspace: Workspace, oof: predictions.Predictions, images: OutOfFold, path: Path
) -> dict[str, Any]:
    """The details of a record, ready for JSON; writes predicted tiles of some variants beside the record at ``path``.

    Tiles of simulated data only: the license of the real ones forbids to show them.

    Returns:
        ``folds``: that were trained. ``image_folds``: the index in these of the fold that each image validated in, a
        digit each, in id order. ``pixel_accuracy``: share of the pixels that are right at 0.5. ``totals``: see
        `totals`. ``tuned``: as its thresholds, one number each, with threshold and minimum area fitted on the other
        folds. ``boundary``: see `errors_by_distance`. ``curves``: rows of each fold's log. ``train``, ``valid``: means
        over folds at 0.5, on a sample of the training images and on the validation images. ``parameters``,
        ``operations``: see `cost`. ``ensemble``: see `ensemble`; of the base only.
    """
    finished, variant = run.finished_folds(), path.stem.rpartition("-")[0]
    numbers = [fold.number for fold in finished]
    counted, marked = images.areas(THRESHOLD_HALF), THRESHOLD_HALF.apply(images.probabilities)
    metrics = [schemas.read(fold.metrics) for fold in finished]
    if variant in SHOWN and competition.is_synthetic(workspace.root(run)):
        io.write_arrays(path.with_suffix(".npz"), tiles(run, workspace))

    def mean(key: str) -> float:
        return float(np.mean([fold[key] for fold in metrics]))

    return {
        "folds": numbers,
        "image_folds": "".join(map(str, np.searchsorted(numbers, np.asarray(oof.fold)))),
        "pixel_accuracy": float((marked == images.true).mean()),
        "totals": totals(counted),
        "tuned": tuned_errors(counted, images.groups),
        "boundary": errors_by_distance(marked, np.asarray(images.true)),
        "curves": [_curve(schemas.read(fold.log)) for fold in finished],
        "train": {name: mean(f"train_{name}") for name in ("pixel_accuracy", "score_at_half")},
        "valid": {"score_at_half": mean("score_at_half"), "pixel_accuracy": mean("valid_pixel_accuracy")},
        **cost(run.read_config()),
        "ensemble": ensemble(run, workspace) if variant == BASE else None,
    }


def totals(counted: Areas) -> dict[str, Any]:
    """Errors, summed over images, ready for JSON.

    Returns:
        ``thresholds``: for "salt where the probability is at least t 255ths", t = 0 … 255, the pixels ``intersection``
        and ``predicted``, and the images ``missed`` (salt, none predicted) and ``invented`` (no salt, some predicted).
        ``n``, ``images_with_salt``, ``pixels``, ``true_pixels``: how many there are.
    """
    return {
        "thresholds": _counts(counted.intersection, counted.predicted, counted.true[:, None]),
        "n": len(counted.true),
        "images_with_salt": int((counted.true > 0).sum()),
        "pixels": counted.pixels * len(counted.true),
        "true_pixels": int(counted.true.sum()),
    }


def tuned_errors(counted: Areas, groups: np.ndarray) -> dict[str, Any]:
    """Errors as those of `totals`, with threshold and minimum area fitted on the other groups (N,): one number each."""
    found = np.zeros((2, len(counted.true)), np.int64)
    for name, fitted in threshold_search.cross_fit_areas(counted, groups).per_group.items():
        found[:, groups == name] = counted.take(groups == name).apply(fitted)
    return _counts(found[0], found[1], counted.true)


def _counts(intersection: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Areas (N, …) of N images, summed; true: their pixels of salt, in a shape that fits."""
    counts = {
        "intersection": intersection,
        "predicted": predicted,
        "missed": (true > 0) & (predicted == 0),
        "invented": (true == 0) & (predicted > 0),
    }
    return {name: values.sum(axis=0, dtype=np.int64).tolist() for name, values in counts.items()}


def ensemble(run: RunDir, workspace: Workspace) -> dict[str, Any] | None:
    """The mean of the networks of a run's folds, on the images that none of them was trained on, ready for JSON.

    There are such images where folds train on a part of theirs (``folds.train_images``) and no epoch is selected.

    Returns:
        None for fewer than two folds or images. Else ``folds``; ``n`` images; ``trained``: images that trained one of
        the networks or more; ``score_at_half`` and ``score_tuned_cv``: the score of one network ``alone`` (mean over
        folds) and of all ``together``, the paired ``gain`` and its ``interval``; ``alone``, ``together``: their
        `totals`, the images of alone being those of each network.
    """
    settings, finished = precision.trained_config(run), run.trained_folds()
    labeled = competition.read_train(workspace.root(run))
    path = folds.table_path(workspace.output_dir, run.read_provenance()["dataset"], settings.folds)
    table = folds.read_table(path, labeled.ids)
    trained = {int(i) for fold in finished for i in table.split(fold.number, settings.folds)[0]}
    unseen = np.array([i for i in range(len(labeled.ids)) if i not in trained])
    if len(finished) < 2 or len(unseen) < 2 or settings.train.checkpoint == "best":
        return None
    ids, images, true = [labeled.ids[i] for i in unseen], labeled.images[unseen], labeled.masks[unseen]
    alone = [predict.predictions(checkpoints.load_networks(settings, f), ids, images, settings) for f in finished]
    every = [areas(found.probabilities, true) for found in (*alone, predictions.mean_predictions(alone))]
    parts = threshold_search.random_parts(len(ids))

    def paired(scores: list[np.ndarray]) -> dict[str, Any]:
        """Scores (N,) of each network alone, then of their mean."""
        one, together = np.mean(scores[:-1], axis=0), scores[-1]
        gain = bootstrap.mean_interval(together - one)
        means = {"alone": float(one.mean()), "together": float(together.mean())}
        return {**means, "gain": gain.mean, "interval": gain.interval}

    tuned = [threshold_search.cross_fit_areas(counted, parts).average_precision for counted in every]
    return {
        "folds": [fold.number for fold in finished],
        "n": len(ids),
        "trained": len(trained),
        AT_HALF: paired([counted.average_precision(THRESHOLD_HALF) for counted in every]),
        TUNED: paired(tuned),
        "alone": totals(Areas.concatenate(every[:-1])),
        "together": totals(every[-1]),
    }


def tiles(run: RunDir, workspace: Workspace, each: int = 4) -> dict[str, np.ndarray]:
    """Tiles that the first fold's network trained on and others that it never saw, with its predictions.

    The first of either kind by id with salt on a tenth to nine tenths of their pixels, so that nobody picked them.

    Returns:
        ``images`` uint8, ``masks`` {0, 1} uint8 and ``probabilities`` uint8 in 255ths, each (2, each, H, W), and their
        ``ids`` (2, each): [0] training, [1] validation images; fewer than ``each`` where there are no more of both
        kinds. ``git_commit``: the fold's, text ().
    """
    fold = run.trained_folds()[0]
    labeled = competition.read_train(workspace.root(run))
    salt = dict(zip(labeled.ids, pixels.coverage(labeled.masks).tolist(), strict=True))
    sides = []
    for path in (fold.train, fold.oof):
        found = predictions.load_predictions(path)
        ids = sorted(id_ for id_ in found.ids.tolist() if 0.1 <= salt[id_] <= 0.9)[:each]
        rows = [labeled.ids.index(id_) for id_ in ids]
        arrays = {
            "images": labeled.images[rows],
            "masks": labeled.masks[rows],
            "probabilities": found.select(tuple(ids)),
        }
        sides.append({"ids": np.array(ids, np.str_), **arrays})
    count = min(len(side["masks"]) for side in sides)
    commit = np.array(str(schemas.read(fold.metrics).get("git_commit")))
    return {name: np.stack([side[name][:count] for side in sides]) for name in sides[0]} | {"git_commit": commit}


def errors_by_distance(predicted: np.ndarray, true: np.ndarray) -> dict[str, list[int]]:
    """Pixels and wrong pixels at each distance to the true boundary.

    Args:
        predicted, true: {0, 1} (N, H, W). Images whose true mask has no boundary are left out.

    Returns:
        ``{"distance": [-20 … -1, 1 … 20], "pixels": [...], "errors": [...]}``. Distances are Euclidean, in pixels,
        rounded up: 1 is the first salt pixel inside, -1 the first outside; ±`REACH` holds everything further away.
    """
    distances = np.array([*range(-REACH, 0), *range(1, REACH + 1)])
    pixels, errors = np.zeros(2 * REACH + 1, np.int64), np.zeros(2 * REACH + 1, np.int64)
    for guess, mask in zip(predicted, true, strict=True):
        if 0 < mask.mean() < 1:
            signed = np.ceil(distance_transform_edt(mask)) - np.ceil(distance_transform_edt(1 - mask))
            index = (np.clip(signed, -REACH, REACH) + REACH).astype(np.int64)
            pixels += np.bincount(index.ravel(), minlength=len(pixels))
            errors += np.bincount(index[guess != mask], minlength=len(pixels))
    kept = distances + REACH
    return {"distance": distances.tolist(), "pixels": pixels[kept].tolist(), "errors": errors[kept].tolist()}


def cost(settings: Config) -> dict[str, int]:
    """Parameters, and floating-point operations of a prediction: a multiplication and an addition are two."""
    network = zoo.build(settings.model, pretrained=False).eval()
    image = torch.rand(1, settings.model.in_channels, settings.data.size, settings.data.size)
    return {"parameters": zoo.parameters(network), "operations": operations(network, image)}


def operations(network: nn.Module, image: torch.Tensor) -> int:
    """Floating-point operations of convolutions and matrix products, by PyTorch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops()


def _curve(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Epoch, losses and learning rate of the epochs that were validated and have finite losses."""
    names = ("epoch", "train_loss", "valid_loss", "learning_rate")
    epochs = [{name: float(row[name]) for name in names} for row in rows]
    return [epoch for epoch in epochs if np.isfinite(list(epoch.values())).all()]
