"""Views of an image for test-time augmentation, each with its inverse."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int] | torch.Size  # height, width


@dataclass(frozen=True)
class View:
    """What a network sees instead of the image, and the way back for its prediction.

    Attributes:
        forward: images (N, C, H, W) → the same, turned or of another size.
        inverse: predictions for these, and the (H, W) of the image → predictions for the image. Undoes ``forward``
            exactly, but for scales, which resample twice.
    """

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor, Size], Tensor]


def _flip(*dims: int) -> View:
    return View(lambda x: torch.flip(x, dims), lambda x, size: torch.flip(x, dims))


def _scale(eighths: int, *dims: int) -> View:
    """An image of ``eighths`` / 8 of the size, mirrored along ``dims``."""

    def forward(x: Tensor) -> Tensor:
        return _resize(torch.flip(x, dims), (x.shape[-2] * eighths // 8, x.shape[-1] * eighths // 8))

    return View(forward, lambda x, size: torch.flip(_resize(x, size), dims))


def _resize(x: Tensor, size: Size) -> Tensor:
    return functional.interpolate(x, size=(max(1, size[0]), max(1, size[1])), mode="bilinear", align_corners=False)


# With depth channels the rows of a tile of another size are numbered over the frame that the network pads it to: of a
# tile of 128 pixels from -0.87 to 0.87 (`smaller`) and from -0.89 to 0.89 (`larger`).
#
# A new view is a line here and a name in config_schema.View, which checks the settings.
VIEWS: dict[str, View] = {
    "identity": View(lambda x: x, lambda x, size: x),
    "hflip": _flip(-1),
    "vflip": _flip(-2),  # upside down: no augmentation trains it; for comparison
    "rotate180": _flip(-2, -1),
    "transpose": View(lambda x: x.transpose(-2, -1), lambda x, size: x.transpose(-2, -1)),
    "smaller": _scale(7),
    "hflip_smaller": _scale(7, -1),
    "larger": _scale(9),
    "hflip_larger": _scale(9, -1),
}
