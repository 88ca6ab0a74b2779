"""Losses as pure functions of logits and masks. Images count equally, as they do in the competition."""

from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean over pixels of -log p(true class), natural logarithm: the case study's loss and "log-loss".

    logits: float (N, 1, H, W), any real number; masks: float {0, 1} of the same shape. Returns a scalar.
    """
    return functional.binary_cross_entropy_with_logits(logits, masks)
