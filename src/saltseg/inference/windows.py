"""Images of any size, predicted in overlapping windows at the scale of the training.

A window is a tile: 101x101 pixels that reach the network as tiles do in training, enlarged or padded, with depth
channels that number the rows of the window. Windows begin every 50 pixels, and one ends with the image. A pixel gets
the mean of the windows that hold it, weighted by a Gaussian around the middle of each, because a network knows least
about the edge of what it sees (as in nnU-Net: Isensee et al. 2021, doi 10.1038/s41592-020-01008-z). Towards the border
of the image the weight does not fall.

An image shorter or narrower than a window is reflected to it at the border, the larger half below and to the right, as
often as needed. So the network always sees as many pixels as in training, at the same scale.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
from torch import nn

from saltseg.config import Config
from saltseg.data.transforms import TILE, TileTransform
from saltseg.errors import InputError
from saltseg.inference.predict import Progress, predict_batch
from saltseg.inference.tta import VIEWS
from saltseg.postprocessing.parameters import quantize

STEP = TILE // 2
SIGMA = TILE / 8  # of the Gaussian; in the corner of a window it is 1e-7, never 0


def predict_images(
    networks: Sequence[nn.Module], images: Iterable[np.ndarray], settings: Config, *, progress: Progress | None = None
) -> Iterator[np.ndarray]:
    """Salt probability of images of any size, averaged over the networks and the views of the settings.

    Batches are filled with windows of as many images as needed, so that many small images take no longer than one
    large one. Images are read one after the other, no earlier than their first window is needed. Beside the image and
    its result, an image takes memory for one row of windows: 8 bytes for each pixel of 101 of its rows.

    Args:
        networks: one or more, on one device; they are set to evaluation mode.
        images: uint8 (H, W) each, of any sizes. An image of 101x101 pixels gets the answer of the tile, to the bit.
        settings: of the networks, with the precision resolved (`saltseg.models.precision.trained_config`).
        progress: called with the number of windows done since its last call; `count_windows` of an image in all.

    Yields:
        uint8 (H, W) in 255ths, in the order of the images.

    Raises:
        InputError: an image of another type or shape, or networks that give NaN.
    """
    views = [VIEWS[name] for name in settings.predict.tta]
    transform = TileTransform.square(settings.data.resize_mode, settings.data.size)
    for network in networks:
        network.eval()
    windows = ((image, row, column) for image in map(_Blend, images) for row, column in image.windows)
    while batch := list(islice(windows, settings.runtime.predict_batch_size)):
        tiles = np.stack([image.cut(row, column) for image, row, column in batch])
        probabilities, _ = predict_batch(networks, tiles, settings, views, transform)
        for (image, row, column), probability in zip(batch, probabilities, strict=True):
            image.add(row, column, probability)
            if (row, column) == image.windows[-1]:
                yield image.result()
        if progress is not None:
            progress(len(batch))


def count_windows(height: int, width: int) -> int:
    """How many windows an image has."""
    return len(starts(height)) * len(starts(width))


def starts(length: int, step: int = STEP) -> list[int]:
    """Where windows of `TILE` pixels begin along an axis of this length, which is at least `TILE` after reflection."""
    return [*range(0, length - TILE, step), max(length - TILE, 0)]


@lru_cache(64)
def _weights(length: int) -> dict[int, np.ndarray]:
    """Weight of each pixel of the windows along an axis, float64 (TILE,), by the start of the window.

    They add up to 1 at each pixel, and are exactly 1 where there is a single window. As the weight of a window is a
    product over both axes, the sum over windows is, too: no sum of weights has to be kept for an image.
    """
    bells = {}
    for start in starts(length):
        distance = np.arange(TILE) - TILE // 2
        if start == 0:  # nothing is left out beyond the border of the image, so that the network knows as much there
            distance = np.maximum(distance, 0)
        if start + TILE >= length:
            distance = np.minimum(distance, 0)
        bells[start] = np.exp(-((distance / SIGMA) ** 2) / 2)
    total = np.zeros(max(length, TILE))
    for start, bell in bells.items():
        total[start : start + TILE] += bell
    return {start: bell / total[start : start + TILE] for start, bell in bells.items()}


class _Blend:
    """An image, and the weighted sum of its windows. They are added row by row, each row from left to right.

    Attributes:
        windows: upper left corner (row, column) of each window.
    """

    def __init__(self, image: np.ndarray) -> None:
        if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
            raise InputError(f"image is {image.dtype} of shape {image.shape}; give uint8 (H, W)")
        self._shape = image.shape
        self._before, after = zip(*map(_border, image.shape), strict=True)
        self._image = np.pad(image, list(zip(self._before, after, strict=True)), "reflect") if any(after) else image
        self._rows, self._columns = map(_weights, self._image.shape)
        self.windows = [(row, column) for row in self._rows for column in self._columns]
        self._top = 0  # row of the image where the sums begin
        self._sums = np.zeros((TILE, self._image.shape[1]))
        self._result = np.empty(self._image.shape, np.uint8)

    def cut(self, row: int, column: int) -> np.ndarray:
        """The pixels of a window, uint8 (TILE, TILE)."""
        return self._image[row : row + TILE, column : column + TILE]

    def add(self, row: int, column: int, probability: np.ndarray) -> None:
        """Add float32 (TILE, TILE) in [0, 1]."""
        if row > self._top:  # no further window has the rows above
            self._finish(row)
        weighted = self._rows[row][:, None] * self._columns[column] * probability
        self._sums[:, column : column + TILE] += weighted

    def result(self) -> np.ndarray:
        """uint8 (H, W) in 255ths, after the last window."""
        self._finish(len(self._result))
        top, left = self._before
        return self._result[top : top + self._shape[0], left : left + self._shape[1]]

    def _finish(self, end: int) -> None:
        """Store the rows of the image before ``end``, and keep the sums of those after it."""
        done = end - self._top
        sums = self._sums[:done]
        if len(self.windows) > 1:  # no rounding errors: where all windows answer 0.5 their mean is 0.5, which is salt
            sums = np.round(sums, 6)
        self._result[self._top : end] = quantize(sums.astype(np.float32))
        self._sums[: TILE - done] = self._sums[done:]
        self._sums[TILE - done :] = 0
        self._top = end


def _border(length: int) -> tuple[int, int]:
    """Pixels to reflect before and after an axis that is shorter than a window."""
    missing = max(0, TILE - length)
    return missing // 2, missing - missing // 2
