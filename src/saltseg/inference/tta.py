"""Views of an image for test-time augmentation, each with its inverse."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class View:
    """``inverse(forward(x)) == x`` for every tensor (N, C, H, W); ``inverse`` is applied to the prediction."""

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]


def _flip(*dims: int) -> View:
    return View(lambda x: torch.flip(x, dims), lambda x: torch.flip(x, dims))


# A new view is a line here and a name in config_schema.View, which checks the settings.
VIEWS: dict[str, View] = {
    "identity": View(lambda x: x, lambda x: x),
    "hflip": _flip(-1),
    "vflip": _flip(-2),  # upside down: geology does not do this, but a network trained with it may still gain
    "rotate180": _flip(-2, -1),
    "transpose": View(lambda x: x.transpose(-2, -1), lambda x: x.transpose(-2, -1)),
}
