"""Losses as pure functions of logits and masks. Images count equally, as they do in the competition.

Every loss takes logits, float (N, 1, H, W), any real number, and masks, float, exactly 0 or 1, of the same shape, and
returns a scalar. bfloat16 and float16 logits are computed in float32: sums over 16,384 pixels need its digits.

`from_text` makes a loss from what a configuration says: ``"bce"``, ``"0.5*bce + lovasz"``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from saltseg.errors import InputError, unknown_name

DICE_SMOOTHING = 0.05  # share of the image's pixels


def binary_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean over pixels of -log p(true class), natural logarithm: the case study's loss and "log-loss"."""
    return functional.binary_cross_entropy_with_logits(_precise(logits), _precise(masks))


def focal(logits: Tensor, masks: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean over pixels of -(1 - p)^gamma log p, where p = p(true class): Lin et al. 2017, without their alpha.

    Pixels that are right already weigh little; ``gamma=0`` is the binary cross-entropy.
    """
    margins = _precise(logits) * (2 * _precise(masks) - 1)  # positive where the pixel is right
    wrong = torch.exp(gamma * functional.logsigmoid(-margins))  # (1 - p)^gamma; a power's slope at 0 may be infinite
    return -(wrong * functional.logsigmoid(margins)).mean()


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - soft Dice of each image, mean over images: Dice = (2 |p m| + s) / (|p| + |m| + s), |·| the mean over pixels.

    The smoothing s = 0.05 is a share of the image, not the customary single pixel. Without salt the loss is
    |p| / (|p| + s): predicted full, its slope in |p| is s / (1 + s)^2 = 0.045, a tenth of that on an image half salt.
    One pixel of 16,384 would leave 0.00006, in practice the zero that segmentation-models-pytorch gives. The price:
    salt on a share c of the image that is missed altogether costs c / (c + s), so 0.17 for c = 0.01.
    """
    probabilities, masks = torch.sigmoid(_pixels(logits)), _pixels(masks)
    assert probabilities.shape == masks.shape
    overlap = (probabilities * masks).mean(dim=1)  # (N,)
    total = probabilities.mean(dim=1) + masks.mean(dim=1)
    return (1 - (2 * overlap + DICE_SMOOTHING) / (total + DICE_SMOOTHING)).mean()


def lovasz(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovász hinge of each image, mean over images: Berman et al. 2018, section 2.

    The errors 1 - logit (salt) and 1 + logit (no salt), cut off below 0, are sorted downwards; each counts by how much
    the Jaccard loss 1 - IoU grows when its pixel joins the wrong ones before it. So logits of ±1 cost 2 (1 - IoU).

    Without salt the first wrong pixel takes the IoU from 1 to 0 and the others change nothing: the loss is the largest
    error, and only the pixel with the highest logit receives gradient, at full strength; `symmetric_lovasz`
    reaches all of them. Where salt is everywhere, all pixels count alike.
    """
    errors, masks = _sorted_errors(logits, masks)
    return (functional.relu(errors) * _jaccard_steps(masks)).sum(dim=1).mean()


def lovasz_elu(logits: Tensor, masks: Tensor) -> Tensor:
    """`lovasz` with ELU(error) + 1 instead of ReLU(error), as the TGS winners had it.

    Right pixels beyond the margin keep a small gradient. The loss approaches 0 only as the logits grow without bound;
    an error of 0 or more costs 1 more than under ReLU. Without salt it is again the largest error alone that counts.
    """
    errors, masks = _sorted_errors(logits, masks)
    return ((functional.elu(errors) + 1) * _jaccard_steps(masks)).sum(dim=1).mean()


def symmetric_lovasz(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean of `lovasz_elu` on (logits, masks) and on (-logits, 1 - masks): the TGS 9th place.

    The second half is the Jaccard loss of the background. Without salt it is a mean over all pixels, so every pixel
    receives gradient there too.
    """
    errors, masks = _sorted_errors(logits, masks)  # the same errors, in the same order, for both halves
    steps = (_jaccard_steps(masks) + _jaccard_steps(1 - masks)) / 2
    return ((functional.elu(errors) + 1) * steps).sum(dim=1).mean()


def _precise(values: Tensor) -> Tensor:
    """In float32, or in float64 if it comes so."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _pixels(values: Tensor) -> Tensor:
    """(N, 1, H, W) → (N, H*W), precise."""
    return _precise(values).flatten(start_dim=1)


def _sorted_errors(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Errors of each image, largest first, and the masks in that order: both (N, H*W). Ties may fall either way."""
    logits, masks = _pixels(logits), _pixels(masks)
    assert logits.shape == masks.shape
    errors = 1 - logits * (2 * masks - 1)
    order = _descending(errors.detach())
    return errors.gather(1, order), masks.gather(1, order)


def _descending(values: Tensor) -> Tensor:
    """Indices that sort each row of (N, P), largest first; on a CPU numpy is six times as fast as torch."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.argsort(-values.numpy(), axis=1))
    return values.argsort(dim=1, descending=True)


def _jaccard_steps(masks: Tensor) -> Tensor:
    """Growth of 1 - IoU as pixel after pixel turns wrong, from none to all; masks and steps (N, P), a row sums to 1."""
    salt = masks.sum(dim=1, keepdim=True)
    intersection = salt - masks.cumsum(dim=1)  # a salt pixel turned wrong leaves the intersection
    union = salt + (1 - masks).cumsum(dim=1)  # any other joins the union, so the union is never 0
    return torch.diff(1 - intersection / union, dim=1, prepend=torch.zeros_like(salt))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": binary_cross_entropy,
    "focal": focal,
    "dice": dice,
    "lovasz": lovasz,
    "lovasz_elu": lovasz_elu,
    "symmetric_lovasz": symmetric_lovasz,
}


@dataclass(frozen=True)
class WeightedSum:
    """A loss: the sum of weight * LOSSES[name] over its terms."""

    terms: tuple[tuple[float, str], ...]  # (weight, name)

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        return torch.stack([weight * LOSSES[name](logits, masks) for weight, name in self.terms]).sum()


def from_text(text: str) -> WeightedSum:
    """The loss that ``text`` names: terms ``name`` or ``weight*name`` joined by ``+``; blanks do not matter.

    Raises InputError for no text, a name that is not in LOSSES, a weight that is not a finite positive number.
    """
    terms = []
    for term in text.split("+"):
        weight, star, name = term.rpartition("*")
        name = name.strip()
        if not name:
            raise InputError(f"loss {text!r} lacks a name; write for example bce, lovasz_elu or 0.5*bce+lovasz")
        if name not in LOSSES:
            raise InputError(unknown_name("loss", name, LOSSES))
        terms.append((_weight(weight, term) if star else 1.0, name))
    return WeightedSum(tuple(terms))


def _weight(text: str, term: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InputError(f"loss term {term.strip()!r}: its weight must be a positive number; write for example 0.5*bce")
    return weight
