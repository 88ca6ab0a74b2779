"""What the case study asks of a trained variant: records with more than a score."""

import time
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from saltseg import runs, storage, studies
from saltseg.config import Config
from saltseg.core import metric, thresholds
from saltseg.core.areas import Areas, areas
from saltseg.core.postprocess import HALF
from saltseg.data import competition, folds
from saltseg.inference import blend, levers, predict
from saltseg.inference.steps import Place, with_truth
from saltseg.models import zoo
from saltseg.models.network import outputs
from saltseg.runs import RunDir

REACH = 20  # pixels from the boundary within which errors are counted one by one; the last bins hold what is beyond
TIMED = 16  # images of a batch whose prediction is timed


def record(run: RunDir, place: Place, variant: str, budget: str, seed: int) -> dict[str, Any]:
    """Everything about a finished variant that the document shows, ready for JSON.

    Beside `levers.figures`: image_folds: the place in ``folds`` of the fold that each image validated in, a digit each,
    in id order; pixel_accuracy at 0.5; `totals`; tuned: its four counts, a number each, under the threshold and minimum
    area that are fitted on the other folds; boundary: see `errors_by_distance`; `cost`; curves: rows of each fold's
    log; train and valid: means of the folds' figures on a sample of their own training images and on their validation
    images, at 0.5.
    """
    finished = run.finished_folds()
    oof = blend.collate(finished)
    assert oof.fold is not None
    images = with_truth(oof, competition.read_train(place.root(run)))
    counted, marked = images.areas(HALF), HALF.apply(images.probabilities)
    of_fold = [storage.read_json(fold.metrics) for fold in finished]

    def mean(key: str) -> float:
        return float(np.mean([figures[key] for figures in of_fold]))

    return {
        "variant": variant,
        "budget": budget,
        "seed": seed,
        "changes": studies.changes(variant, budget),
        "folds": [fold.number for fold in finished],
        "image_folds": "".join(map(str, np.searchsorted([fold.number for fold in finished], oof.fold))),
        **levers.figures(run, images),
        "pixel_accuracy": float((marked == images.true).mean()),
        **totals(counted),
        "tuned": tuned(counted, images.groups),
        "boundary": errors_by_distance(marked, np.asarray(images.true)),
        **cost(run.read_config()),
        "curves": [_curve(storage.read_csv(fold.log)) for fold in finished],
        "train": {name: mean(f"train_{name}") for name in ("pixel_accuracy", "score_at_half")},
        "valid": {name: mean(name) for name in ("score_at_half",)} | {"pixel_accuracy": mean("valid_pixel_accuracy")},
    }


def totals(counted: Areas) -> dict[str, Any]:
    """Errors over all images at every threshold, ready for JSON.

    thresholds: for "salt where the probability is at least t 255ths", t = 0 … 255, the pixels ``intersection`` and
    ``predicted``, and the images ``missed`` (salt, none predicted) and ``invented`` (no salt, some predicted). Beside
    it: n, the images; images_with_salt; pixels; true_pixels.
    """
    return {
        "thresholds": _errors(counted.intersection, counted.predicted, counted.true[:, None]),
        "n": len(counted.true),
        "images_with_salt": int((counted.true > 0).sum()),
        "pixels": counted.pixels * len(counted.true),
        "true_pixels": int(counted.true.sum()),
    }


def tuned(counted: Areas, group: np.ndarray) -> dict[str, int]:
    """The four counts of `totals` under a threshold and a minimum area that are fitted on the other groups (N,)."""
    rules = thresholds.cross_fit_areas(counted, group).rules
    found = np.zeros((2, len(counted.true)), np.int64)
    for name, rule in rules.items():
        found[:, group == name] = counted.take(group == name).under(rule)
    return _errors(found[0], found[1], counted.true)


def _errors(intersection: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Pixels and images (N, …), summed over the N images; true: its pixels of salt, in a shape that fits."""
    counts = {
        "intersection": intersection,
        "predicted": predicted,
        "missed": (true > 0) & (predicted == 0),
        "invented": (true == 0) & (predicted > 0),
    }
    return {name: values.sum(axis=0, dtype=np.int64).tolist() for name, values in counts.items()}


def ensemble(run: RunDir, place: Place) -> dict[str, Any] | None:
    """What averaging the networks of a run's folds gives, on the images that none of them was trained on.

    There are such images where folds train on a part of theirs (``folds.train_images``), and the epoch that is kept is
    no choice. None where there are fewer than two folds or images. Otherwise, ready for JSON: seed, dataset_hash,
    folds_hash and git_commit of the run; its ``folds``; n, the images judged; trained: the images that trained one of
    the networks or more. at_half and cross_fitted: the score of one network ``alone`` (mean over folds) and of all
    ``together``, the paired ``gain`` and its 95 % ``interval``; cross_fitted: a threshold and a minimum area of its own
    for each, fitted on other images. alone, together: their `totals`, the images of alone being those of each network.
    """
    settings, finished = run.read_config(), run.trained_folds()
    labelled = competition.read_train(place.root(run))
    table = folds.read_table(
        folds.table_path(place.output_dir, run.read_provenance()["dataset"], settings.folds), labelled.ids
    )
    trained = {int(i) for fold in finished for i in table.split(fold.number, settings.folds)[0]}
    unseen = np.array([i for i in range(len(labelled.ids)) if i not in trained])
    if len(finished) < 2 or len(unseen) < 2 or settings.train.keep == "best":
        return None
    ids, images, true = [labelled.ids[i] for i in unseen], labelled.images[unseen], labelled.masks[unseen]
    alone = [predict.predictions(predict.load_networks(settings, f), ids, images, settings) for f in finished]
    every = [areas(found.probabilities, true) for found in (*alone, blend.mean(alone))]
    parts = thresholds.random_parts(len(ids))

    def paired(scores: list[np.ndarray]) -> dict[str, Any]:
        """Scores (N,) of each network alone, then of their mean."""
        one, together = np.mean(scores[:-1], axis=0), scores[-1]
        gain, interval = together - one, metric.bootstrap_interval(together - one)
        figures = {"alone": one.mean(), "together": together.mean(), "gain": gain.mean()}
        return {name: float(value) for name, value in figures.items()} | {"interval": list(interval)}

    origin = run.read_provenance()
    return {
        "seed": settings.train.seed,
        **{key: origin[key] for key in ("dataset_hash", "folds_hash")},
        "git_commit": storage.read_json(finished[0].metrics).get("git_commit"),
        "folds": [fold.number for fold in finished],
        "n": len(ids),
        "trained": len(trained),
        "at_half": paired([counted.average_precision(HALF) for counted in every]),
        "cross_fitted": paired([thresholds.cross_fit_areas(counted, parts).average_precision for counted in every]),
        "alone": totals(Areas.concatenate(every[:-1])),
        "together": totals(every[-1]),
    }


def tiles(run: RunDir, place: Place, each: int = 4) -> dict[str, np.ndarray]:
    """Tiles that the first fold's network trained on and others that it never saw, with what it says of them.

    The first of each kind by id with salt on a tenth to nine tenths of their pixels, so nobody picked them.

    Returns:
        ``images`` uint8, ``masks`` {0, 1} uint8 and ``probabilities`` uint8 in 255ths, each (2, each, H, W), and their
        ``ids`` (2, each): [0] training, [1] validation images; fewer than ``each`` where there are no more of both
        kinds. ``git_commit``: the fold's, text ().
    """
    fold = run.trained_folds()[0]
    labelled = competition.read_train(place.root(run))
    salt = dict(zip(labelled.ids, metric.coverage(labelled.masks).tolist(), strict=True))
    sides = []
    for path in (fold.train, fold.oof):
        found = runs.load_predictions(path)
        ids = sorted(id_ for id_ in found.ids.tolist() if 0.1 <= salt[id_] <= 0.9)[:each]
        rows = [labelled.ids.index(id_) for id_ in ids]
        said = found.probabilities[[found.ids.tolist().index(id_) for id_ in ids]]
        images, masks = labelled.images[rows], labelled.masks[rows]
        sides.append({"ids": np.array(ids, np.str_), "images": images, "masks": masks, "probabilities": said})
    count = min(len(side["masks"]) for side in sides)
    commit = storage.read_json(fold.metrics).get("git_commit")
    return {name: np.stack([side[name][:count] for side in sides]) for name in sides[0]} | {
        "git_commit": np.array(str(commit))
    }


def errors_by_distance(predicted: np.ndarray, true: np.ndarray) -> dict[str, list[int]]:
    """Where the errors sit: pixels and wrong pixels at each distance to the true boundary.

    predicted, true: {0, 1} (N, H, W). Distance in pixels, Euclidean, rounded up: 1 is the first salt pixel inside, -1
    the first outside; ±`REACH` holds everything further away. Images whose true mask has no boundary are left out.

    Returns:
        ``{"distance": [-20 … -1, 1 … 20], "pixels": [...], "errors": [...]}``.
    """
    distances = np.array([*range(-REACH, 0), *range(1, REACH + 1)])
    pixels, errors = np.zeros(2 * REACH + 1, np.int64), np.zeros(2 * REACH + 1, np.int64)
    for guess, mask in zip(predicted, true, strict=True):
        if not 0 < mask.mean() < 1:
            continue
        signed = np.ceil(distance_transform_edt(mask)) - np.ceil(distance_transform_edt(1 - mask))
        place = (np.clip(signed, -REACH, REACH) + REACH).astype(np.int64)
        pixels += np.bincount(place.ravel(), minlength=len(pixels))
        errors += np.bincount(place[guess != mask], minlength=len(pixels))
    kept = distances + REACH
    return {"distance": distances.tolist(), "pixels": pixels[kept].tolist(), "errors": errors[kept].tolist()}


def cost(settings: Config) -> dict[str, Any]:
    """Parameters, floating-point operations of a prediction (a multiplication and an addition are two), milliseconds.

    The time is the fastest of five batches, per image, of the bare network on this machine, whatever else it does.
    """
    network = zoo.build(settings.model, pretrained=False).eval().to(memory_format=torch.channels_last)
    size = settings.data.size
    images = torch.rand(TIMED, settings.model.in_channels, size, size).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(5):
            started = time.perf_counter()
            outputs(network, images)
            seconds.append(time.perf_counter() - started)
    return {
        "parameters": zoo.parameters(network),
        "operations": operations(network, images[:1]),
        "milliseconds": 1000 * min(seconds) / TIMED,
    }


def operations(network: nn.Module, image: torch.Tensor) -> int:
    """Floating-point operations of convolutions and matrix products, by PyTorch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops()


def _curve(rows: list[dict[str, str]]) -> list[dict[str, float]]:
    """Epoch, losses and learning rate of the epochs that were validated."""
    names = ("epoch", "train_loss", "valid_loss", "learning_rate")
    return [{name: float(row[name]) for name in names} for row in rows if row["valid_loss"] not in ("", "nan")]
