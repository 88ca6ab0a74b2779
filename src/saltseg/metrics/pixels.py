"""Scores of pixels (accuracy, precision, recall, IoU, Dice) and coverage of masks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError
from saltseg.metrics.masks import as_masks, count_pixels, mask_areas

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PixelScores:
    """Scores in [0, 1] over the pixels of all images pooled."""

    accuracy: float
    precision: float
    recall: float
    iou: float
    dice: float


def pixel_scores(predicted: ArrayLike, true: ArrayLike) -> PixelScores:
    """Accuracy, precision, recall, IoU and Dice over all pixels of all images together.

    Args:
        predicted, true: (N, H, W), values 0 and 1.

    Returns:
        Scores in [0, 1]; for empty masks see `per_image`.

    Raises:
        InputError: shapes differ, not binary, or no images.
    """
    common, predicted_area, true_area = mask_areas(predicted, true)
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
    return _ratios(*mask_areas(predicted, true))


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


def coverage(masks: ArrayLike) -> Float:
    """Share of salt in each mask: (N, H, W) of 0 and 1 -> float64 (N,) in [0, 1]."""
    array = as_masks(masks)
    return count_pixels(array) / (array.shape[1] * array.shape[2])


def coverage_class(masks: ArrayLike) -> NDArray[np.int8]:
    """Coverage in eleven classes: (N, H, W) of 0 and 1 -> int8 (N,); 0 is empty, else ceil(10 coverage).

    The division is in integers, so that a coverage of exactly 3/10 is class 3.
    """
    array = as_masks(masks)
    return coverage_class_from_areas(count_pixels(array), array.shape[1] * array.shape[2])


def coverage_class_from_areas(area: NDArray, pixels: int) -> NDArray[np.int8]:
    """`coverage_class` from the salt pixels (N,) of images of ``pixels`` pixels."""
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
