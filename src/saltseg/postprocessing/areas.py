"""Areas at every threshold: all that the score of post-processing depends on, counted in one pass over the pixels.

For each image, a histogram of its quantized probabilities inside and outside the true mask gives, by cumulative sums,
the intersection and the predicted area at all thresholds. The score under any parameters, pixel scores and the log loss
follow from these counts without another pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError
from saltseg.metrics import average_precision
from saltseg.metrics.masks import as_masks
from saltseg.postprocessing.parameters import Postprocessing, as_quantized

Counts = NDArray[np.int16] | NDArray[np.int32]  # pixels
_CHUNK = 16  # images counted at once: the index array stays in the processor's cache


@dataclass(frozen=True)
class Areas:
    """Pixel counts of N images at every threshold.

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
        unchanged = ~empty[:, None] | (np.arange(256) == 0)
        return Areas(self.intersection * unchanged, self.predicted * unchanged, self.true)

    def apply(self, postprocessing: Postprocessing) -> tuple[Counts, Counts]:
        """Apply threshold and minimum area.

        The other steps must have been applied before: count ``postprocessing.filter_probabilities(probabilities)``,
        then call `emptied`.

        Returns:
            Intersection and predicted area of each image, (N,).
        """
        predicted = self.predicted[:, postprocessing.threshold]
        large = predicted >= postprocessing.min_area
        return np.where(large, self.intersection[:, postprocessing.threshold], 0), np.where(large, predicted, 0)

    def average_precision(self, postprocessing: Postprocessing) -> NDArray[np.float64]:
        """The competition's metric of each image, float64 (N,), under the parameters that `apply` uses."""
        return average_precision.num_thresholds_passed(*self.apply(postprocessing), self.true) / 10


def areas(probabilities: ArrayLike, true: ArrayLike) -> Areas:
    """Count predicted and correctly predicted pixels of every image at every threshold.

    Args:
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.

    Returns:
        `Areas`.

    Raises:
        InputError: shapes differ, values out of range, or no images.
    """
    quantized, masks = as_quantized(probabilities), as_masks(true, "true")
    if quantized.shape != masks.shape or len(masks) == 0:
        raise InputError(
            f"probabilities and true must be of one shape, not empty: {quantized.shape} and {masks.shape}; "
            "match them by id"
        )
    n, pixels = len(masks), masks[0].size
    dtype = np.int16 if 2 * pixels <= np.iinfo(np.int16).max else np.int32
    intersection, predicted = np.empty((n, 256), dtype), np.empty((n, 256), dtype)
    for begin in range(0, n, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        key = masks[part].reshape(-1, pixels).astype(np.int64) << 8
        key |= quantized[part].reshape(key.shape)
        key += 512 * np.arange(len(key))[:, None]
        histogram = np.bincount(key.ravel(), minlength=512 * len(key)).reshape(-1, 2, 256)  # [image, true, 255ths]
        at_least = np.cumsum(histogram[:, :, ::-1], axis=2)[:, :, ::-1]
        intersection[part], predicted[part] = at_least[:, 1], at_least.sum(axis=1)
    return Areas(intersection, predicted, intersection[:, 0].copy())


def log_loss(counted: Areas) -> float:
    """Mean binary cross-entropy per pixel, in nats, of probabilities in 255ths.

    One of two log-losses, which differ by some percent. This one (``log_loss`` of metrics.json and postprocess.json) is
    of stored predictions: 8-bit probabilities of the tile's own pixels. The other (``valid_loss`` of log.csv) is
    measured while a network trains: float32 logits of the whole frame at the network's resolution. Likewise
    ``valid_pixel_accuracy`` is of stored predictions, ``valid_frame_accuracy`` of the frame.

    Probabilities are clipped to [1/510, 1 - 1/510], half a step from the ends, since a stored 0 means "below 1/510".
    """
    edge = np.zeros((len(counted.true), 1), np.int64)
    salt = -np.diff(counted.intersection, axis=1, append=edge).sum(axis=0)
    every = -np.diff(counted.predicted, axis=1, append=edge).sum(axis=0)
    probability = np.clip(np.arange(256) / 255, 1 / 510, 1 - 1 / 510)
    nats = salt @ np.log(probability) + (every - salt) @ np.log(1 - probability)
    return float(-nats / every.sum())
