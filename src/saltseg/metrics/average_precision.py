"""The competition's metric, mean average precision over IoU thresholds, in exact integers.

Average precision of one image: the share of the ten thresholds t = 0.50, 0.55 ... 0.95 with IoU > t
(strictly). An empty true mask scores 1 when the prediction is empty, else 0; an empty prediction of a
non-empty mask scores 0. Source: the evaluation page of the TGS Salt Identification Challenge (Kaggle, 2018).

With I and U the pixels of intersection and union, the number of thresholds passed is ``ceil(20 I / U) - 10``,
at least 0. Without floats, an IoU of exactly 11/20 cannot be rounded across its threshold. Without histograms of the
mask's own value range, an all-zero mask cannot be read as all-one (a bug of the metric that many kernels copied).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError
from saltseg.metrics.masks import mask_areas


def average_precision(predicted: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """The competition's metric for each image.

    Args:
        predicted, true: (N, H, W), values 0 and 1.

    Returns:
        float64 (N,), each one of 0.0, 0.1 ... 1.0.

    Raises:
        InputError: shapes differ, or a mask is not binary.
    """
    return average_precision_from_areas(*mask_areas(predicted, true))


def average_precision_from_areas(
    intersection: ArrayLike, predicted_area: ArrayLike, true_area: ArrayLike
) -> NDArray[np.float64]:
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
    return num_thresholds_passed(common, predicted, true) / 10


def num_thresholds_passed(intersection: NDArray, predicted_area: NDArray, true_area: NDArray) -> NDArray[np.integer]:
    """Ten times `average_precision_from_areas`, as whole numbers 0 ... 10: their sums are exact in any order.

    Args:
        intersection, predicted_area, true_area: whole numbers of pixels, any shapes that broadcast; not checked. In
            int16, the sum of two areas must fit in int16, too.

    Returns:
        The broadcast shape; int32 for int16, else int64.
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
