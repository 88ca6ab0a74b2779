"""Synthetic seismic tiles with exact salt masks.

A section is a seismic line some tiles high and wide: `saltseg.synthetic.geology` simulates the rock, `imaging` the
seismic image. It is cut into adjacent 101x101 tiles, and each tile is stretched to 0..255 by itself, as the real tiles
were (94 % of them reach 0 and 94 % reach 255); so a tile of salt may be dark or light. Full masks are left out, because
no real mask covers all of its 10,201 pixels. Constant black tiles come from parts of a line that were not recorded.
Quotas keep the distribution of coverage close to that of the real training set, see `tiles`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from saltseg.metrics import rle
from saltseg.synthetic import bodies, geology, imaging

TILE = rle.TILE_SHAPE[0]
# Shares in the real labeled data: constant black tiles (80 of 4,000), then the coverage classes 0 (empty,
# without the constant ones), (0, 0.1], (0.1, 0.2] ... (0.9, 1].
SHARES = np.array([0.02, 0.372, 0.144, 0.075, 0.057, 0.047, 0.057, 0.048, 0.041, 0.036, 0.040, 0.063])
# Tiles by which a class may exceed its share: a larger value wastes fewer sections, a smaller one is exact sooner.
_AHEAD = 20
# Geology is simulated beyond the edge of the section, so that filters leave no mark on it.
_MARGIN = 12


@dataclass(frozen=True)
class Section:
    """A synthetic seismic line, (H, W) with H and W multiples of 101.

    Attributes:
        image: float32 (H, W), amplitude with mean about 0 and deviation about 1; exactly 0 where nothing was recorded.
        mask: uint8 {0, 1} (H, W), 1 = salt.
    """

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Tile:
    """A tile of a section.

    Attributes:
        image: uint8 (101, 101), 0..255.
        mask: uint8 {0, 1} (101, 101), 1 = salt.
        section: number of the section.
        row: row in the section, in tiles.
        column: column in the section, in tiles.
    """

    image: np.ndarray
    mask: np.ndarray
    section: int
    row: int
    column: int


def section(rng: np.random.Generator) -> Section:
    """Simulate a section of 2-3 by 2-4 tiles; the same state of `rng` gives the same bytes."""
    shape = (TILE * int(rng.integers(2, 4)), TILE * int(rng.integers(2, 5)))
    wavelength = float(np.clip(np.exp(rng.normal(np.log(16), 0.5)), 5.5, 42))
    quality = float(rng.beta(1.3, 0.9))
    larger = (shape[0] + 2 * _MARGIN, shape[1] + 2 * _MARGIN)
    rock = geology.simulate(rng, larger, wavelength)
    inner = (slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    image = imaging.simulate(rng, rock, wavelength, quality)[inner].copy()
    mask = bodies.annotate(rng, (rock.salt >= 0.5)[inner].astype(np.uint8), rock.kind, quality)
    _drop_recording(rng, image, mask)
    return Section(image, mask)


def numbered_section(seed: int, number: int) -> Section:
    """Section `number` of the endless sequence of `seed`, without simulating those before it."""
    return section(np.random.default_rng((seed, number)))


def stretch(amplitude: np.ndarray) -> np.ndarray:
    """Map amplitudes, float (H, W), to uint8: minimum to 0, maximum to 255; a constant becomes 0."""
    low, high = float(amplitude.min()), float(amplitude.max())
    if high == low:
        return np.zeros(amplitude.shape, np.uint8)
    return np.rint((amplitude - low) * (255 / (high - low))).astype(np.uint8)


def tiles(seed: int = 0) -> Iterator[Tile]:
    """Yield endless tiles, section by section, the same for the same seed.

    A tile is skipped while its class (constant, empty, coverage in steps of 0.1) exceeds its share in `SHARES` by 20
    tiles, so every long prefix has the real shares. Tiles that are all salt are always skipped. About half of the tiles
    of a section remain.
    """
    counts = np.zeros(len(SHARES), np.int64)
    number = 0
    while True:
        whole = numbered_section(seed, number)
        height, width = whole.mask.shape
        for row in range(height // TILE):
            for column in range(width // TILE):
                window = (slice(row * TILE, (row + 1) * TILE), slice(column * TILE, (column + 1) * TILE))
                image, mask = stretch(whole.image[window]), whole.mask[window]
                group = _share_class(image, mask)
                if group is None or counts[group] >= SHARES[group] * (counts.sum() + _AHEAD):
                    continue
                counts[group] += 1
                yield Tile(image, mask.copy(), number, row, column)
        number += 1


def _share_class(image: np.ndarray, mask: np.ndarray) -> int | None:
    """Index into `SHARES`; None for a tile that is all salt."""
    if not image.any():
        return 0
    salt = int(mask.sum())
    if salt == mask.size:
        return None
    return 1 + -(-10 * salt // mask.size)


def _drop_recording(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """In a tenth of the sections, set the lowest row of tiles from some tile on to zero, without label."""
    if rng.random() < 0.10:
        start = TILE * int(rng.integers(0, image.shape[1] // TILE))
        image[-TILE:, start:] = 0
        mask[-TILE:, start:] = 0
