"""Areas at every threshold: all that the score of a decision rule depends on, counted in one pass over the
pixels.

For each image, a histogram of its quantised probabilities inside and outside the true mask gives, by
cumulative sums, the intersection and the predicted area at all thresholds. The score under any rule, pixel
scores and the log loss follow from these counts without touching a pixel again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core import metric
from saltseg.core.postprocess import Rule, as_quantised
from saltseg.core.rle import as_masks
from saltseg.errors import InputError

Counts = NDArray[np.int16] | NDArray[np.int32]  # pixels
_CHUNK = 16  # images counted at once: the index array stays in the processor's cache


@dataclass(frozen=True)
class Areas:
    """All that a decision rule needs to know of the images.

    All of one dtype, int16 where the sum of two areas fits (up to 16,383 pixels an image), else int32.

    Attributes:
        intersection: (N, 256), pixels of true salt with a probability of at least t 255ths, t = 0 ... 255.
        predicted: (N, 256), pixels with a probability of at least t 255ths.
        true: (N,), pixels of true salt.
    """

    intersection: Counts
    predicted: Counts
    true: Counts

    @property
    def pixels(self) -> int:
        """Pixels of an image: those with a probability of at least 0."""
        return int(self.predicted[0, 0])

    @classmethod
    def concatenate(cls, parts: Sequence["Areas"]) -> "Areas":
        """Those of several stacks of images, one after the other."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def take(self, index: NDArray | slice) -> "Areas":
        """The images chosen by a slice, an index or a boolean array."""
        return Areas(self.intersection[index], self.predicted[index], self.true[index])

    def emptied(self, empty: NDArray[np.bool_]) -> "Areas":
        """The same with nothing predicted, at any threshold but 0, in the images that ``empty`` (N,) marks."""
        stays = ~empty[:, None] | (np.arange(256) == 0)
        return Areas(self.intersection * stays, self.predicted * stays, self.true)

    def under(self, rule: Rule) -> tuple[Counts, Counts]:
        """Intersection and predicted area (N,) of each image under the threshold and minimum area of a rule.

        Its other steps must have been taken before: count ``rule.shape(probabilities)``, then `emptied`.
        """
        predicted = self.predicted[:, rule.threshold]
        kept = predicted >= rule.min_area
        return np.where(kept, self.intersection[:, rule.threshold], 0), np.where(kept, predicted, 0)

    def average_precision(self, rule: Rule) -> NDArray[np.float64]:
        """The competition's metric of each image, float64 (N,); what holds for `under` holds here."""
        return metric.tenths_from_areas(*self.under(rule), self.true) / 10


def areas(probabilities: ArrayLike, true: ArrayLike) -> Areas:
    """Count, for every image and threshold, predicted and rightly predicted pixels.

    Args:
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.

    Returns:
        `Areas`.

    Raises:
        InputError: shapes differ, values out of range, or no images.
    """
    quantised, masks = as_quantised(probabilities), as_masks(true, "true")
    if quantised.shape != masks.shape or len(masks) == 0:
        raise InputError(
            f"probabilities and true must be of one shape, not empty: {quantised.shape} and {masks.shape}; "
            "match them by id"
        )
    n, pixels = len(masks), masks[0].size
    dtype = np.int16 if 2 * pixels <= np.iinfo(np.int16).max else np.int32
    intersection, predicted = np.empty((n, 256), dtype), np.empty((n, 256), dtype)
    for begin in range(0, n, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        key = masks[part].reshape(-1, pixels).astype(np.int64) << 8
        key |= quantised[part].reshape(key.shape)
        key += 512 * np.arange(len(key))[:, None]
        histogram = np.bincount(key.ravel(), minlength=512 * len(key)).reshape(-1, 2, 256)  # [image, true, 255ths]
        at_least = np.cumsum(histogram[:, :, ::-1], axis=2)[:, :, ::-1]
        intersection[part], predicted[part] = at_least[:, 1], at_least.sum(axis=1)
    return Areas(intersection, predicted, intersection[:, 0].copy())


def log_loss(counted: Areas) -> float:
    """Mean binary cross-entropy a pixel, in nats, from probabilities in 255ths.

    Those are clipped to [1/510, 1 - 1/510], half a step from the ends, since a stored 0 means "below 1/510".
    """
    edge = np.zeros((len(counted.true), 1), np.int64)
    salt = -np.diff(counted.intersection, axis=1, append=edge).sum(axis=0)
    every = -np.diff(counted.predicted, axis=1, append=edge).sum(axis=0)
    probability = np.clip(np.arange(256) / 255, 1 / 510, 1 - 1 / 510)
    nats = salt @ np.log(probability) + (every - salt) @ np.log(1 - probability)
    return float(-nats / every.sum())
