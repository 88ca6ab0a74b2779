"""Synthetic seismic tiles with exact salt masks, in Kaggle's layout: the data of the demo and of the tests.

A section is a seismic line some tiles high and wide (`salt_geology` draws the rock, `salt_imaging` the
image). It is cut into adjacent 101x101 tiles, each stretched to 0..255 by itself: that is how the real tiles
were made (94 % of them reach 0 and 94 % reach 255), and why a tile of salt may be dark or light. Tiles that
are all salt are left out (no real mask covers all of its 10,201 pixels); constant black tiles come from
parts of a line that were not recorded. Shares of coverage follow those of the real training set by quotas,
see `tiles`.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from saltseg import storage
from saltseg.core import rle
from saltseg.data import salt_bodies, salt_geology, salt_imaging
from saltseg.data.image_files import write_png
from saltseg.errors import InputError

TILE = rle.TILE_SHAPE[0]
# Shares in the real labelled data: constant black tiles (80 of 4,000), then the coverage classes 0 (empty,
# without the constant ones), (0, 0.1], (0.1, 0.2] ... (0.9, 1].
SHARES = np.array([0.02, 0.372, 0.144, 0.075, 0.057, 0.047, 0.057, 0.048, 0.041, 0.036, 0.040, 0.063])
# Tiles by which a class may run ahead of its share: larger wastes fewer sections, smaller is exact sooner.
_AHEAD = 20
# Geology is drawn beyond the edge of the section, so that filters leave no mark on it.
_MARGIN = 12

_Places = list[tuple[str, int, int]]


@dataclass(frozen=True)
class Section:
    """A synthetic seismic line, (H, W) with H and W multiples of 101.

    image float32, amplitude with mean about 0 and deviation about 1, exactly 0 where nothing was recorded;
    mask uint8 {0, 1}, 1 = salt.
    """

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Tile:
    """One tile: image uint8 (101, 101), mask uint8 {0, 1} (101, 101), and its place in units of tiles."""

    image: np.ndarray
    mask: np.ndarray
    section: int
    row: int
    column: int


def section(rng: np.random.Generator) -> Section:
    """Draw a section of 2-3 by 2-4 tiles; the same state of `rng` gives the same bytes."""
    shape = (TILE * int(rng.integers(2, 4)), TILE * int(rng.integers(2, 5)))
    wavelength = float(np.clip(np.exp(rng.normal(np.log(16), 0.5)), 5.5, 42))
    quality = float(rng.beta(1.3, 0.9))
    larger = (shape[0] + 2 * _MARGIN, shape[1] + 2 * _MARGIN)
    geology = salt_geology.simulate(rng, larger, wavelength)
    inner = (slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    image = salt_imaging.image_of(rng, geology, wavelength, quality)[inner].copy()
    mask = salt_bodies.annotate(rng, (geology.salt >= 0.5)[inner].astype(np.uint8), geology.kind, quality)
    _unrecord(rng, image, mask)
    return Section(image, mask)


def numbered_section(seed: int, number: int) -> Section:
    """Section `number` of the endless sequence that belongs to `seed`, without drawing those before it."""
    return section(np.random.default_rng((seed, number)))


def stretch(amplitude: np.ndarray) -> np.ndarray:
    """Amplitude float (H, W) to uint8, its minimum to 0 and its maximum to 255; a constant becomes black."""
    low, high = float(amplitude.min()), float(amplitude.max())
    if high == low:
        return np.zeros(amplitude.shape, np.uint8)
    return np.rint((amplitude - low) * (255 / (high - low))).astype(np.uint8)


def tiles(seed: int = 0) -> Iterator[Tile]:
    """Endless tiles, section by section, the same for the same seed.

    A tile is passed over while its class (constant, empty, coverage by tenths) is ahead of its share in
    `SHARES` by 20 tiles' worth, so every long prefix has the real shares; the rest of its section goes on.
    Tiles that are all salt are always passed over. About half of the cut tiles are kept.
    """
    counts = np.zeros(len(SHARES), np.int64)
    number = 0
    while True:
        whole = numbered_section(seed, number)
        height, width = whole.mask.shape
        for row in range(height // TILE):
            for column in range(width // TILE):
                place = (slice(row * TILE, (row + 1) * TILE), slice(column * TILE, (column + 1) * TILE))
                image, mask = stretch(whole.image[place]), whole.mask[place]
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


def _unrecord(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """In some sections the lowest row of tiles was not recorded from some tile on: zero, without label."""
    if rng.random() < 0.10:
        start = TILE * int(rng.integers(0, image.shape[1] // TILE))
        image[-TILE:, start:] = 0
        mask[-TILE:, start:] = 0


def write_dataset(
    root: Path,
    n_train: int,
    n_test: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a dataset in Kaggle's layout, bit-identical for a seed on one machine.

    Files: train.csv (id, rle_mask), train/images, train/masks, test/images, sample_submission.csv, depths.csv
    (id, z), solution.csv (id, rle_mask, usage: a third Public, the rest Private), sections.csv (id, section,
    row, column). Images are 101x101 8-bit RGB PNGs with equal channels, masks 16-bit grey, 0 or 65535. As in
    the real data the tiles of one section are spread at random over train and test.
    progress: called with (tiles done, tiles in all). Written beside `root` and renamed at the end, so a
    dataset is there as a whole or not at all. Raises InputError if `root` exists or a count is not usable.
    """
    root = Path(root)
    if n_train < 1 or n_test < 1:
        raise InputError(f"dataset size: {n_train} train, {n_test} test; ask for 1 or more of both")
    if seed < 0:
        raise InputError(f"seed: {seed}; use 0 or a positive whole number")
    if root.exists():
        raise InputError(f"dataset folder exists: {root}; remove it or choose another name")
    with storage.atomic_dir(root) as partial:
        _fill(partial, n_train, n_test, seed, progress)


def _fill(root: Path, n_train: int, n_test: int, seed: int, progress: Callable[[int, int], None] | None) -> None:
    """Draw the tiles, write their PNGs as they come, then the tables."""
    total = n_train + n_test
    rng = np.random.default_rng((seed, 0, 1))  # a sequence of its own: the sections use (seed, number)
    ids = _draw_ids(rng, total)
    in_train = np.zeros(total, bool)
    in_train[rng.permutation(total)[:n_train]] = True
    for folder in ("train/images", "train/masks", "test/images"):
        (root / folder).mkdir(parents=True)
    masks = np.zeros((total, TILE, TILE), np.uint8)
    places = []
    for index, tile in enumerate(islice(tiles(seed), total)):
        name, part = f"{ids[index]}.png", "train" if in_train[index] else "test"
        write_png(root / part / "images" / name, np.repeat(tile.image[:, :, None], 3, axis=2))
        if in_train[index]:
            write_png(root / "train" / "masks" / name, tile.mask.astype(np.uint16) * 65535)
        masks[index] = tile.mask
        places.append((f"s{tile.section:06d}", tile.row, tile.column))
        if progress is not None:
            progress(index + 1, total)
    _write_tables(root, rng, ids, masks, in_train, places)


def _write_tables(
    root: Path,
    rng: np.random.Generator,
    ids: list[str],
    masks: np.ndarray,
    in_train: np.ndarray,
    places: _Places,
) -> None:
    """The five CSV files, each sorted by id as Kaggle's are."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    train, test = [i for i in order if in_train[i]], [i for i in order if not in_train[i]]
    codes = rle.encode_batch(masks)
    public = set(rng.permutation(test)[: round(len(test) / 3)].tolist())
    # One depth for a section and one step for a row of tiles; the range is that of the real file.
    first = {name: int(rng.triangular(50, 500, 930)) for name in sorted({name for name, _, _ in places})}
    write = _write_csv
    write(root / "train.csv", ("id", "rle_mask"), [(ids[i], codes[i]) for i in train])
    write(root / "sample_submission.csv", ("id", "rle_mask"), [(ids[i], "1 1") for i in test])
    write(root / "depths.csv", ("id", "z"), [(ids[i], first[places[i][0]] + 10 * places[i][1]) for i in order])
    write(root / "sections.csv", ("id", "section", "row", "column"), [(ids[i], *places[i]) for i in order])
    rows = [(ids[i], codes[i], "Public" if i in public else "Private") for i in test]
    write(root / "solution.csv", ("id", "rle_mask", "usage"), rows)


def _draw_ids(rng: np.random.Generator, count: int) -> list[str]:
    """Unique random ids of ten hexadecimal digits: they say nothing about section, part or order."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        ids[f"{int(rng.integers(16**10)):010x}"] = None
    return list(ids)


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    """Write one table with Unix line ends on every platform."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_text(text.getvalue(), newline="\n")
