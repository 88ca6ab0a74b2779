"""The competition's metric, in exact integers, and the usual pixel scores.

Average precision of one image: the share of the ten thresholds t = 0.50, 0.55 ... 0.95 with IoU > t
(strictly). An empty true mask scores 1 when the prediction is empty, else 0; an empty prediction of a
non-empty mask scores 0. Source: the evaluation page of the TGS Salt Identification Challenge (Kaggle, 2018).

With I and U the pixels of intersection and union, the number of thresholds passed is ``ceil(20 I / U) - 10``,
at least 0: no floats, so that an IoU of exactly 11/20 cannot be rounded across its threshold, and no
histograms of the mask's own value range, which read an all-zero mask as all-one (the bug of the metric that
many kernels copy).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core.rle import as_masks
from saltseg.errors import InputError

_CHUNK = 64  # images counted at once: they stay in the processor's cache
Float = NDArray[np.float64]
Integer = NDArray[np.int64]


@dataclass(frozen=True)
class PixelScores:
    """Scores in [0, 1] over the pixels of all images pooled."""

    accuracy: float
    precision: float
    recall: float
    iou: float
    dice: float


def average_precision(predicted: ArrayLike, true: ArrayLike) -> Float:
    """The competition's metric for each image.

    Args:
        predicted: (N, H, W), values 0 and 1.
        true: (N, H, W), values 0 and 1.

    Returns:
        float64 (N,), each one of 0.0, 0.1 ... 1.0.

    Raises:
        InputError: shapes differ, or a mask is not binary.
    """
    return average_precision_from_areas(*_areas(predicted, true))


def average_precision_from_areas(intersection: ArrayLike, predicted_area: ArrayLike, true_area: ArrayLike) -> Float:
    """The competition's metric from numbers of pixels.

    Args:
        intersection, predicted_area, true_area: whole numbers of pixels, any shapes that broadcast.

    Returns:
        float64 of the broadcast shape, each one of 0.0, 0.1 ... 1.0.

    Raises:
        InputError: not whole numbers, or an intersection below 0 or above one of the two areas.
    """
    arrays = [np.asarray(array) for array in (intersection, predicted_area, true_area)]
    if any(array.dtype.kind not in "ui" for array in arrays):
        raise InputError(f"areas are whole numbers: dtypes {[str(a.dtype) for a in arrays]}; count pixels")
    common, predicted, true = (array.astype(np.int64) for array in arrays)
    if ((common < 0) | (common > predicted) | (common > true)).any():
        raise InputError(f"an intersection lies between 0 and either area: largest {common.max()}; check the order")
    return tenths_from_areas(common, predicted, true) / 10


def tenths_from_areas(intersection: NDArray, predicted_area: NDArray, true_area: NDArray) -> NDArray[np.integer]:
    """`average_precision_from_areas` as the number of thresholds passed, 0 ... 10; input not checked.

    Sums of it are exact in any order, which is what the search over decision rules needs. int64, or int32 for areas in
    int16, whose sums of two must fit in int16, too.
    """
    wide = np.int32 if intersection.dtype == np.int16 else np.int64
    union = np.asarray(predicted_area + true_area - intersection, wide)
    common = np.asarray(intersection, wide)
    ceiling = -((-20 * common) // np.maximum(union, 1))
    return np.where(union == 0, 10, np.clip(ceiling - 10, 0, 10))


def score(predicted: ArrayLike, true: ArrayLike) -> float:
    """The competition's score: mean of `average_precision` over the images. InputError for none."""
    values = average_precision(predicted, true)
    if len(values) == 0:
        raise InputError("no images to score: 0 masks; give at least one")
    return float(values.mean())


def pixel_scores(predicted: ArrayLike, true: ArrayLike) -> PixelScores:
    """Accuracy, precision, recall, IoU and Dice over all pixels of all images together.

    Args:
        predicted, true: (N, H, W), values 0 and 1.

    Returns:
        Scores in [0, 1]; for empty masks see `per_image`.

    Raises:
        InputError: shapes differ, not binary, or no images.
    """
    common, predicted_area, true_area = _areas(predicted, true)
    pixels = np.asarray(true).size
    return pixel_scores_from_areas(int(common.sum()), int(predicted_area.sum()), int(true_area.sum()), pixels)


def pixel_scores_from_areas(intersection: int, predicted_area: int, true_area: int, pixels: int) -> PixelScores:
    """`pixel_scores` from totals, in pixels. InputError when there are no pixels."""
    if pixels < 1:
        raise InputError("no pixels to score: 0 images; give at least one")
    ratios = _ratios(*(np.array([area]) for area in (intersection, predicted_area, true_area)))
    accuracy = (pixels - predicted_area - true_area + 2 * intersection) / pixels
    return PixelScores(accuracy, **{name: float(values[0]) for name, values in ratios.items()})


def per_image(predicted: ArrayLike, true: ArrayLike) -> dict[str, Float]:
    """Precision, recall, IoU and Dice of each image.

    Args:
        predicted, true: (N, H, W), values 0 and 1.

    Returns:
        ``{"precision", "recall", "iou", "dice"}``, each float64 (N,) in [0, 1]. Where both masks are empty
        all four are 1; where exactly one is empty all four are 0 (as the competition's metric has it).

    Raises:
        InputError: shapes differ, or not binary.
    """
    return _ratios(*_areas(predicted, true))


def coverage(masks: ArrayLike) -> Float:
    """Share of salt in each mask: (N, H, W) of 0 and 1 -> float64 (N,) in [0, 1]."""
    array = as_masks(masks)
    return _count(array) / (array.shape[1] * array.shape[2])


def coverage_class(masks: ArrayLike) -> NDArray[np.int8]:
    """Coverage in eleven classes: (N, H, W) of 0 and 1 -> int8 (N,); 0 is empty, else ceil(10 coverage).

    The division is in integers, so that a coverage of exactly 3/10 is class 3.
    """
    array = as_masks(masks)
    return coverage_class_from_areas(_count(array), array.shape[1] * array.shape[2])


def coverage_class_from_areas(area: Integer, pixels: int) -> NDArray[np.int8]:
    """`coverage_class` from numbers of salt pixels (N,) in images of so many pixels."""
    return (-((-10 * np.asarray(area, np.int64)) // pixels)).astype(np.int8)


def per_coverage(values: Float, classes: NDArray[np.int8]) -> list[dict[str, int | float]]:
    """Mean score in each coverage class that occurs, ready for JSON.

    Args:
        values: (N,) a score of each image.
        classes: (N,) as from `coverage_class`.

    Returns:
        ``[{"coverage_class", "n", "score"}, ...]`` in rising order of class.
    """
    return [
        {
            "coverage_class": int(number),
            "n": int((classes == number).sum()),
            "score": float(values[classes == number].mean()),
        }
        for number in np.unique(classes)
    ]


def bootstrap_interval(
    values: ArrayLike, level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979); give paired differences to compare two systems.

    Args:
        values: (N,) finite numbers, one an image.
        level: share of the resampled means inside the interval, between 0 and 1.
        repeats: number of resamples.
        seed: the same seed gives the same interval.

    Returns:
        (low, high).

    Raises:
        InputError: no values, not one axis, values that are not finite, or a level outside (0, 1).
    """
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or len(sample) == 0 or not np.isfinite(sample).all():
        raise InputError(f"one finite value per image is needed: shape {sample.shape}; leave out missing ones")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1: {level}; use 0.95")
    generator = np.random.default_rng(seed)
    means = np.empty(repeats)
    for index in range(repeats):  # one resample at a time: memory stays at one copy of the values
        means[index] = sample[generator.integers(len(sample), size=len(sample))].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _areas(predicted: ArrayLike, true: ArrayLike) -> tuple[Integer, Integer, Integer]:
    """Intersection, predicted area and true area of each image, in pixels."""
    first, second = as_masks(predicted, "predicted"), as_masks(true, "true")
    if first.shape != second.shape:
        raise InputError(f"predicted and true differ in shape: {first.shape}, {second.shape}; match by id")
    counts = np.empty((3, len(first)), np.int64)
    for begin in range(0, len(first), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        one, other = first[part], second[part]
        counts[:, part] = _count(one & other), _count(one), _count(other)
    return counts[0], counts[1], counts[2]


def _count(masks: NDArray[np.uint8]) -> Integer:
    """Salt pixels of each image. Columns of up to 255 pixels are summed as bytes, a dozen at a time."""
    columns = masks.sum(axis=1, dtype=np.uint8 if masks.shape[1] <= 255 else np.int64)
    return columns.sum(axis=1, dtype=np.int64)


def _ratios(common: NDArray, predicted: NDArray, true: NDArray) -> dict[str, Float]:
    both_empty = ((predicted == 0) & (true == 0)).astype(np.float64)
    parts = {
        "precision": (common, predicted),
        "recall": (common, true),
        "iou": (common, predicted + true - common),
        "dice": (2 * common, predicted + true),
    }
    return {
        name: np.where(below == 0, both_empty, above / np.maximum(below, 1)) for name, (above, below) in parts.items()
    }
