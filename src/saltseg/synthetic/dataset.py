"""Synthetic datasets in Kaggle's layout: the data of the demo and of the tests."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from saltseg import io
from saltseg.data import install
from saltseg.data.competition import Progress
from saltseg.data.image_files import write_png
from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.synthetic.tiles import TILE, tiles


def simulate(
    input_dir: Path,
    name: str = "synthetic",
    n_train: int = 1000,
    n_test: int = 500,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, str]:
    """Write a synthetic dataset to `input_dir/<name>`, see `write_dataset`.

    Returns:
        Path of the dataset, and "written" or, for the same counts and seed as before, "already there".

    Raises:
        InputError: a count or the seed is out of range, or something else has that name and `overwrite` is off.
    """
    source = {"source": "synthetic", "train": n_train, "test": n_test, "seed": seed}
    with install.preparing(input_dir, name) as target:
        if install.exists_from(target, source, overwrite):
            return target, "already there"
        staged = install.staging_path(target, "written")
        for leftover in (staged, *staged.parent.glob(f".{staged.name}.*")):  # of a killed process
            io.remove(leftover)
        write_dataset(staged, n_train, n_test, seed, progress)
        install.move_into_place(staged, target, source)
    return target, "written"


def write_dataset(root: Path, n_train: int, n_test: int, seed: int = 0, progress: Progress | None = None) -> None:
    """Write a synthetic dataset, bit-identical for a seed on one machine.

    The files are those of input/README.md, the optional ones included; a third of the test tiles are Public, the rest
    Private. Images are 101x101 8-bit RGB PNGs with equal channels, masks 16-bit gray of 0 and 65535. As in the real
    data, the tiles of one section are spread at random over train and test.

    Args:
        root: new folder; exists afterwards only on success.
        n_train: number of labeled tiles, at least 1.
        n_test: number of test tiles, at least 1.
        seed: 0 or positive.
        progress: called with (tiles done, all tiles).

    Raises:
        InputError: `root` exists, or a count or the seed is out of range.
    """
    if n_train < 1 or n_test < 1:
        raise InputError(f"dataset size: {n_train} train, {n_test} test; ask for at least 1 of both")
    if seed < 0:
        raise InputError(f"seed: {seed}; use 0 or a positive whole number")
    if root.exists():
        raise InputError(f"dataset folder exists: {root}; remove it or choose another name")
    with io.atomic_dir(root) as partial:
        _write_files(partial, n_train, n_test, seed, progress)


def _write_files(root: Path, n_train: int, n_test: int, seed: int, progress: Callable[[int, int], None] | None) -> None:
    total = n_train + n_test
    rng = np.random.default_rng((seed, 0, 1))  # apart from the sections, which use (seed, number)
    ids = _random_ids(rng, total)
    in_train = np.zeros(total, bool)
    in_train[rng.permutation(total)[:n_train]] = True
    for folder in ("train/images", "train/masks", "test/images"):
        (root / folder).mkdir(parents=True)
    masks = np.zeros((total, TILE, TILE), np.uint8)
    positions = []
    for index, tile in enumerate(islice(tiles(seed), total)):
        name, part = f"{ids[index]}.png", "train" if in_train[index] else "test"
        write_png(root / part / "images" / name, np.repeat(tile.image[:, :, None], 3, axis=2))
        if in_train[index]:
            write_png(root / "train" / "masks" / name, tile.mask.astype(np.uint16) * 65535)
        masks[index] = tile.mask
        positions.append((f"s{tile.section:06d}", tile.row, tile.column))
        if progress is not None:
            progress(index + 1, total)
    _write_tables(root, rng, ids, masks, in_train, positions)


def _write_tables(
    root: Path,
    rng: np.random.Generator,
    ids: list[str],
    masks: np.ndarray,
    in_train: np.ndarray,
    positions: list[tuple[str, int, int]],
) -> None:
    """Write the five CSV files, each sorted by id as Kaggle's are. positions: (section, row, column) of each tile."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    train, test = [i for i in order if in_train[i]], [i for i in order if not in_train[i]]
    codes = rle.encode_batch(masks)
    public = set(rng.permutation(test)[: round(len(test) / 3)].tolist())
    # One depth for a section and one step for a row of tiles; the range is that of the real file.
    first = {section: int(rng.triangular(50, 500, 930)) for section in sorted({section for section, _, _ in positions})}
    _write_csv(root / "train.csv", "id,rle_mask", [(ids[i], codes[i]) for i in train])
    _write_csv(root / "sample_submission.csv", "id,rle_mask", [(ids[i], "1 1") for i in test])
    _write_csv(root / "depths.csv", "id,z", [(ids[i], first[positions[i][0]] + 10 * positions[i][1]) for i in order])
    _write_csv(root / "sections.csv", "id,section,row,column", [(ids[i], *positions[i]) for i in order])
    usage = ["Public" if i in public else "Private" for i in test]
    solution = [(ids[i], codes[i], part) for i, part in zip(test, usage, strict=True)]
    _write_csv(root / "solution.csv", "id,rle_mask,usage", solution)


def _write_csv(path: Path, columns: str, rows: list[tuple]) -> None:
    io.write_csv(path, [dict(zip(columns.split(","), row, strict=True)) for row in rows])


def _random_ids(rng: np.random.Generator, count: int) -> list[str]:
    """Unique ids of ten hexadecimal digits, independent of section, split and order."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        ids[f"{int(rng.integers(16**10)):010x}"] = None
    return list(ids)
