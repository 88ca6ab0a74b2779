"""From tiles to what the network sees and back: resizing and reflect padding, each beside its inverse."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from saltseg.core.rle import TILE_SHAPE
from saltseg.errors import InputError

TILE = TILE_SHAPE[0]  # the competition's tiles are square


@dataclass(frozen=True)
class Fit:
    """Maps images (N, H, W) to (N, height, width) and probabilities back to (N, H, W).

    ``resize`` interpolates bilinearly (pixel centres aligned as in OpenCV and PIL; anti-aliased when shrinking).
    ``pad`` reflects at the border without repeating the edge pixel, the larger half below and to the right; its
    inverse cuts the same border off and is exact.
    """

    kind: Literal["resize", "pad"]
    height: int
    width: int

    @classmethod
    def square(cls, kind: Literal["resize", "pad"], size: int) -> "Fit":
        """To size x size, for tiles."""
        return cls(kind, size, size)

    @classmethod
    def section(cls, kind: Literal["resize", "pad"], size: int, height: int, width: int) -> "Fit":
        """For an image of any size, at the scale that ``square(kind, size)`` gives a tile of 101 pixels."""
        scale = size / TILE if kind == "resize" else 1.0
        return cls(kind, max(1, round(height * scale)), max(1, round(width * scale)))

    def forward(self, images: np.ndarray) -> np.ndarray:
        """Float32, when padding of any type (N, H, W) → the same type (N, height, width), same range."""
        if self.kind == "pad":
            vertical, horizontal = _border(images.shape[1], self.height), _border(images.shape[2], self.width)
            return np.pad(images, ((0, 0), vertical, horizontal), mode="reflect")
        return _resample(images, self.height, self.width)

    def forward_masks(self, masks: np.ndarray) -> np.ndarray:
        """Masks uint8 {0, 1} (N, H, W) → uint8 {0, 1} (N, height, width); a resized pixel is salt from one half on."""
        if self.kind == "pad":
            return self.forward(masks)
        return (self.forward(masks.astype(np.float32)) >= 0.5).astype(np.uint8)

    def inverse(self, probabilities: np.ndarray, height: int, width: int) -> np.ndarray:
        """Float32 (N, self.height, self.width) → float32 (N, height, width)."""
        if self.kind == "pad":
            top, left = _border(height, self.height)[0], _border(width, self.width)[0]
            return probabilities[:, top : top + height, left : left + width]
        return _resample(probabilities, height, width)


def _border(length: int, size: int) -> tuple[int, int]:
    """Pixels to add before and after ``length`` to reach ``size``."""
    missing = size - length
    if missing < 0:
        raise InputError(f"data.size is {size}, smaller than tiles of {length} pixels; raise it or use data.fit=resize")
    if missing - missing // 2 >= length:
        raise InputError(f"data.size is {size}: reflecting cannot more than triple {length} pixels; lower it")
    return missing // 2, missing - missing // 2


def _resample(images: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = resampling_matrix(images.shape[1], height), resampling_matrix(images.shape[2], width)
    return rows @ images.astype(np.float32, copy=False) @ columns.T


@lru_cache(maxsize=64)
def resampling_matrix(length: int, new_length: int) -> np.ndarray:
    """Float32 (new_length, length): each row holds the weights of a triangle filter and sums to one.

    The filter is one pixel wide on either side when enlarging and ``length / new_length`` pixels when shrinking
    (as PIL's ``BILINEAR``), so resampling an image is two matrix products: fast, and the same on every machine.
    """
    scale = length / new_length
    centre = (np.arange(new_length) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(length)[None, :] - centre[:, None])
    weight = np.maximum(0.0, 1.0 - distance / max(scale, 1.0))
    matrix = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix
