"""A dataset in Kaggle's layout, read into arrays that carry their ids.

``input/<dataset>/`` holds ``train.csv`` (id,rle_mask), ``train/images``, ``train/masks``, ``test/images``,
``sample_submission.csv`` and, where known, ``depths.csv``, ``solution.csv`` and ``sections.csv``. The
organisers ship images as RGB PNGs with three equal channels and masks as **16-bit** greyscale PNGs of 0 and
65535: both come out of here as ``uint8 (N, 101, 101)``, images 0..255 and masks {0, 1}. Nothing is ever
scaled by the largest value of a picture: a dark tile stays dark.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saltseg.core import rle
from saltseg.data.image_files import FileProblem, read_folder, read_image, read_mask
from saltseg.errors import InputError

__all__ = ["FileProblem", "Images", "Labelled", "read_folder", "read_image", "read_mask"]

SHAPE = rle.TILE_SHAPE  # rows (depth), columns (along the section) of every tile of the competition
WORKERS = 4  # decoding releases the interpreter lock; more than a few gain nothing on small files
CHUNK = 100  # files a worker reads at a time: handing over single 6 kB files costs as much as decoding them

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Images:
    """Tiles and their ids, in one order. images: uint8 (N, 101, 101), 0..255, rows are depth."""

    ids: tuple[str, ...]
    images: np.ndarray

    def __post_init__(self) -> None:
        assert self.images.shape == (len(self.ids), *SHAPE)
        assert self.images.dtype == np.uint8


@dataclass(frozen=True)
class Labelled:
    """Tiles, masks, ids in one order. images: uint8 (N, 101, 101), 0..255; masks: uint8 {0, 1}, 1 = salt."""

    ids: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray

    def __post_init__(self) -> None:
        assert self.images.shape == self.masks.shape == (len(self.ids), *SHAPE)
        assert self.images.dtype == self.masks.dtype == np.uint8

    def at(self, positions: np.ndarray) -> "Labelled":
        """The tiles at these positions, int (M,), in that order."""
        return Labelled(tuple(self.ids[i] for i in positions), self.images[positions], self.masks[positions])

    def masks_of(self, ids: Sequence[str]) -> np.ndarray:
        """Masks uint8 {0, 1} (N, 101, 101) in the order of ``ids``, all of which must be here."""
        position = {id_: i for i, id_ in enumerate(self.ids)}
        return self.masks[[position[id_] for id_ in ids]]


# ---------------------------------------------------------------- which dataset


def check_name(dataset: str) -> str:
    """Return `dataset` if it can name a folder under input/; InputError for separators, '..' and the like."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", dataset):
        raise InputError(f"dataset name: {dataset!r}; use letters, digits, '-', '_' and '.', no path")
    return dataset


def list_datasets(input_dir: Path) -> list[str]:
    """Names of the folders under `input_dir` that hold a train.csv, sorted."""
    input_dir = Path(input_dir)
    if not input_dir.is_dir():
        return []
    return sorted(path.parent.name for path in input_dir.glob("*/train.csv"))


def dataset_root(input_dir: Path, dataset: str) -> Path:
    """Folder of `dataset` under `input_dir`; InputError with what there is instead and how to get it."""
    root = Path(input_dir) / check_name(dataset)
    if (root / "train.csv").is_file():
        return root
    if root.is_symlink() and not root.exists():
        what = f"{root} is a link to {root.readlink()}, which is gone"
    elif root.exists():
        what = f"{root} has no train.csv"
    else:
        what = f"no dataset {dataset!r} under {input_dir}"
    there = ", ".join(list_datasets(Path(input_dir))) or "none"
    source = "kaggle" if dataset == "tgs" else "synthetic"
    command = f"python scripts/prepare_data.py --source {source} --name {dataset}"
    raise InputError(f"{what} (there: {there}); get it with: {command}")


# ---------------------------------------------------------------- tables and whole datasets


def read_columns(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Values of the named columns of a CSV file with a header, one tuple a row; other columns are left out.

    The first column is the key. InputError: file or column missing, broken row, empty or repeated key.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; see input/README.md for the layout") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV file ({error}); fetch it again") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    if not set(columns) <= set(header):
        raise InputError(f"{path}: columns {','.join(header)!r}; needed: {','.join(columns)}")
    places = [header.index(name) for name in columns]
    rows: dict[str, tuple[str, ...]] = {}
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise InputError(f"{path} line {line}: {len(row)} fields, not {len(header)}; fix the row")
        values = tuple(row[place].strip() for place in places)
        if not values[0] or values[0] in rows:
            raise InputError(f"{path} line {line}: {columns[0]} {values[0]!r} empty or repeated; keep one row")
        rows[values[0]] = values
    return list(rows.values())


def _read_all(
    read: Callable[[Path, tuple[int, int]], np.ndarray],
    folder: Path,
    ids: Sequence[str],
) -> np.ndarray:
    """(N, 101, 101) uint8 of `folder/<id>.png`, in the order of `ids`."""
    stack = np.empty((len(ids), *SHAPE), dtype=np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + CHUNK, len(ids))):
            stack[index] = read(folder / f"{ids[index]}.png", SHAPE)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(fill, range(0, len(ids), CHUNK)))  # to have what it raises
    return stack


def _whole_list(root: Path, error: InputError) -> InputError:
    return InputError(f"{error}; python scripts/check_data.py {root.name} lists every problem")


def train_ids(root: Path) -> tuple[str, ...]:
    """Ids of the labelled tiles in the order of train.csv, without reading a picture; InputError if there are none."""
    found = tuple(row[0] for row in read_columns(Path(root) / "train.csv", ("id", "rle_mask")))
    if not found:
        raise InputError(f"{Path(root) / 'train.csv'} lists no image; there is nothing to learn from")
    return found


def test_ids(root: Path) -> tuple[str, ...]:
    """Ids of the tiles to predict in the order of sample_submission.csv, which a submission must have."""
    return tuple(row[0] for row in read_columns(Path(root) / "sample_submission.csv", ("id",)))


def salt_rows(root: Path) -> set[tuple[str, ...]]:
    """(id, run lengths) of the labelled tiles that hold salt: what two datasets have in common if one is cut of one."""
    return {row for row in read_columns(Path(root) / "train.csv", ("id", "rle_mask")) if row[1]}


def read_train(root: Path) -> Labelled:
    """Labelled tiles in the order of train.csv.

    Masks come from train/masks/*.png; a dataset without that folder has them decoded from `rle_mask`.
    InputError names the first file or row that cannot be used.
    """
    root = Path(root)
    try:
        rows = read_columns(root / "train.csv", ("id", "rle_mask"))
        ids = tuple(row[0] for row in rows)
        images = _read_all(read_image, root / "train" / "images", ids)
        if (root / "train" / "masks").is_dir():
            masks = _read_all(read_mask, root / "train" / "masks", ids)
        else:
            masks = rle.decode_batch([row[1] for row in rows], SHAPE)
    except InputError as error:
        raise _whole_list(root, error) from None
    return Labelled(ids, images, masks)


def read_test(root: Path) -> Images:
    """Tiles to predict, in the order of sample_submission.csv; raises as `read_train` does."""
    root = Path(root)
    try:
        ids = test_ids(root)
        return Images(ids, _read_all(read_image, root / "test" / "images", ids))
    except InputError as error:
        raise _whole_list(root, error) from None


def read_depths(root: Path) -> dict[str, int] | None:
    """Depth `z` of each id (depths.csv; its unit is not stated by the organisers), or None if no file."""
    path = Path(root) / "depths.csv"
    if not path.is_file():
        return None
    depths = {}
    for identity, z in read_columns(path, ("id", "z")):
        try:
            depths[identity] = int(z)
        except ValueError:
            raise InputError(f"{path}: z of {identity} is {z!r}; use a whole number") from None
    return depths


def read_sections(root: Path) -> dict[str, str] | None:
    """Section each tile was cut from (sections.csv), to keep neighbours in one fold; None if no file."""
    path = Path(root) / "sections.csv"
    if not path.is_file():
        return None
    return {row[0]: row[1] for row in read_columns(path, ("id", "section"))}


def list_files(folder: Path) -> list[str]:
    """Sorted names of what lies in `folder`; empty where there is no such folder."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 (names, without a Path each)


def is_synthetic(root: Path) -> bool:
    """Whether the dataset was simulated (``source.json``, written by prepare_data.py): its scores mean little."""
    try:
        found = json.loads((Path(root) / "source.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("source") == "synthetic"


def fingerprint(root: Path) -> str:
    """SHA-256 (hex) over train.csv and the sorted names and sizes in bytes of all images: the data a run saw.

    Reads no pixels, so it takes milliseconds; an image changed without changing its size goes unnoticed.
    Mask files are not hashed: check_data.py holds them against the run lengths in train.csv, which are.
    """
    try:
        digest = hashlib.sha256((Path(root) / "train.csv").read_bytes())
        for part in ("train/images", "test/images"):
            folder = Path(root) / part
            for name in list_files(folder):
                digest.update(f"\n{part}/{name} {(folder / name).stat().st_size}".encode())
    except OSError as error:
        raise _whole_list(Path(root), InputError(f"{error.filename}: {error.strerror}")) from None
    return digest.hexdigest()
