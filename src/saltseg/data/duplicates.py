"""Tiles with the same pixels under different names.

Constant tiles are left out throughout: they are frequent, and all alike.
"""

import hashlib
from collections.abc import Sequence

import numpy as np


def pixel_keys(images: np.ndarray) -> list[bytes]:
    """A key of the pixels of each of the tiles uint8 (N, H, W); b"" for a constant one."""
    return [b"" if image.min() == image.max() else hashlib.sha256(image.tobytes()).digest() for image in images]


def first_identical(images: np.ndarray) -> np.ndarray:
    """For each of the tiles uint8 (N, H, W) the index of the first with the same pixels, int64 (N,)."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(key, i) if key else i for i, key in enumerate(pixel_keys(images))], np.int64)


def shared_tiles(
    ids: Sequence[str], images: np.ndarray, other_ids: Sequence[str], others: np.ndarray
) -> list[tuple[str, str]]:
    """Pairs of ids of two sets of tiles uint8 (N, H, W) and (M, H, W) that have the same pixels, at most N."""
    other_of_key = dict(zip(pixel_keys(others), other_ids, strict=True))
    keys = zip(ids, pixel_keys(images), strict=True)
    return [(id_, other_of_key[key]) for id_, key in keys if key and key in other_of_key]
