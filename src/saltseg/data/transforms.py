"""Resizing and reflect padding from tiles to the network's input, each with its inverse."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from saltseg.errors import InputError
from saltseg.metrics.rle import TILE_SHAPE

TILE = TILE_SHAPE[0]  # the competition's tiles are square


@dataclass(frozen=True)
class TileTransform:
    """Maps images (N, H, W) to (N, height, width) and probabilities back to (N, H, W).

    Attributes:
        mode: `resize` interpolates bilinearly (pixel centers aligned as in OpenCV and PIL; anti-aliased when
            shrinking). `pad` reflects at the border without repeating the edge pixel, the larger half below and to the
            right; its inverse crops and is exact.
        height: of the network's input.
        width: of the network's input.
    """

    mode: Literal["resize", "pad"]
    height: int
    width: int

    @classmethod
    def square(cls, mode: Literal["resize", "pad"], size: int) -> "TileTransform":
        """For tiles: to size x size."""
        return cls(mode, size, size)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """Map images (N, H, W) to (N, height, width) in the same range; float32, when padding of the same dtype.

        Raises:
            InputError: padding to a size that is smaller than an image, or more than about three times as large.
        """
        if self.mode == "pad":
            vertical, horizontal = _border(images.shape[1], self.height), _border(images.shape[2], self.width)
            return np.pad(images, ((0, 0), vertical, horizontal), mode="reflect")
        return _resample(images, self.height, self.width)

    def forward_masks(self, masks: np.ndarray) -> np.ndarray:
        """Map masks uint8 {0, 1} (N, H, W) to uint8 {0, 1} (N, height, width); resized pixels are salt from 0.5."""
        if self.mode == "pad":
            return self.forward(masks)
        return (self.forward(masks.astype(np.float32)) >= 0.5).astype(np.uint8)

    def inverse(self, probabilities: np.ndarray, height: int, width: int) -> np.ndarray:
        """Map float32 (N, self.height, self.width) back to float32 (N, height, width)."""
        if self.mode == "pad":
            top, left = _border(height, self.height)[0], _border(width, self.width)[0]
            return probabilities[:, top : top + height, left : left + width]
        return _resample(probabilities, height, width)


def _border(length: int, size: int) -> tuple[int, int]:
    """Pixels to add before and after `length` to reach `size`."""
    missing = size - length
    if missing < 0:
        raise InputError(
            f"data.size is {size}, smaller than tiles of {length} pixels; raise it or use data.resize_mode=resize"
        )
    if missing - missing // 2 >= length:
        raise InputError(f"data.size is {size}: reflecting cannot more than triple {length} pixels; lower it")
    return missing // 2, missing - missing // 2


def _resample(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation, a triangle filter when shrinking, as PIL's `BILINEAR`; (N, H, W) to float32."""
    import torch  # lazily, because the rest of this module does not need it
    from torch.nn import functional

    if width == 1 < height:  # torch 2.15 on a CPU repeats the first row in an output of width 1
        return _resample(images.swapaxes(1, 2), 1, height).swapaxes(1, 2)
    tensor = torch.from_numpy(np.ascontiguousarray(images, np.float32))[:, None]
    with torch.inference_mode():
        resampled = functional.interpolate(
            tensor, (height, width), mode="bilinear", antialias=True, align_corners=False
        )
    return resampled[:, 0].numpy()
