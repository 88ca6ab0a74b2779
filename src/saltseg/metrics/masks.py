"""Checks and pixel counts of binary masks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError

_CHUNK = 64  # images counted at once: they stay in the processor's cache


def as_masks(masks: ArrayLike, name: str = "masks") -> NDArray[np.uint8]:
    """Check a stack of binary masks and return it as uint8.

    Args:
        masks: (N, H, W), any bool, integer or float dtype, values 0 and 1 only.
        name: what the error message calls it.

    Returns:
        uint8 {0, 1} (N, H, W); shares memory with the input where the dtype allows.

    Raises:
        InputError: wrong number of axes, empty images, or any other value (255 and NaN included).
    """
    try:
        array = np.asarray(masks)
    except ValueError:  # rows of different lengths
        raise InputError(
            f"{name} must be a stack (N, H, W): its rows differ in length; give masks of one size"
        ) from None
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise InputError(f"{name} must be a stack (N, H, W): shape {array.shape}; use mask[None] for one")
    if array.dtype == np.bool_:
        array = array.view(np.uint8)  # checked all the same: a view of other bytes as bool may hold any
    if array.dtype.kind not in "uif":
        raise InputError(f"{name} must hold numbers: dtype {array.dtype}; use uint8")
    if array.dtype == np.uint8:
        binary = array.size == 0 or int(array.max()) <= 1
    else:
        binary = bool(((array == 0) | (array == 1)).all())
    if not binary:
        value = array[(array != 0) & (array != 1)].flat[0]
        raise InputError(f"{name} must hold only 0 and 1: found {value}; convert with (mask > 0)")
    return array.astype(np.uint8, copy=False)


def mask_areas(predicted: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Intersection, predicted area and true area of each image.

    Args:
        predicted, true: (N, H, W), values 0 and 1.

    Returns:
        Three int64 arrays (N,), in pixels.

    Raises:
        InputError: shapes differ, or not binary.
    """
    first, second = as_masks(predicted, "predicted"), as_masks(true, "true")
    if first.shape != second.shape:
        raise InputError(f"predicted and true differ in shape: {first.shape}, {second.shape}; match by id")
    counts = np.empty((3, len(first)), np.int64)
    for begin in range(0, len(first), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        one, other = first[part], second[part]
        counts[:, part] = count_pixels(one & other), count_pixels(one), count_pixels(other)
    return counts[0], counts[1], counts[2]


def count_pixels(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Salt pixels of each image: uint8 {0, 1} (N, H, W) -> (N,). Sums up to 255 rows in bytes, which is faster."""
    columns = masks.sum(axis=1, dtype=np.uint8 if masks.shape[1] <= 255 else np.int64)
    return columns.sum(axis=1, dtype=np.int64)
