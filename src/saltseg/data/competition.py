"""Read a dataset in Kaggle's layout (input/README.md) into arrays that carry their ids.

The organizers ship images as RGB PNGs with three equal channels and masks as 16-bit grayscale PNGs of 0 and 65535.
Both are read as `uint8 (N, 101, 101)`, images 0..255 and masks {0, 1}. Images are never normalized by their own
maximum: a dark tile stays dark.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saltseg.data.files import FileProblem, is_hidden, read_bytes
from saltseg.data.image_files import read_image, read_mask
from saltseg.data.tables import read_columns, read_table
from saltseg.errors import InputError
from saltseg.metrics import rle

SHAPE = rle.TILE_SHAPE  # rows (depth), columns (along the section) of every tile of the competition
SOURCE_FILE = "source.json"  # in the dataset's folder: what `saltseg prepare` made it from
WORKERS = 4  # decoding releases the interpreter lock; more than a few gain nothing on small files
CHUNK = 100  # files per task of a worker: a task per 6 kB file costs as much as decoding it

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Images:
    """Tiles and their ids, in one order.

    Attributes:
        ids: N names.
        images: uint8 (N, 101, 101), 0..255, rows are depth.
    """

    ids: tuple[str, ...]
    images: np.ndarray

    def __post_init__(self) -> None:
        assert self.images.shape == (len(self.ids), *SHAPE)
        assert self.images.dtype == np.uint8


@dataclass(frozen=True)
class Labeled(Images):
    """Tiles with their masks.

    Attributes:
        masks: uint8 {0, 1} (N, 101, 101), 1 = salt.
    """

    masks: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.masks.shape == self.images.shape
        assert self.masks.dtype == np.uint8

    def subset(self, indices: np.ndarray) -> "Labeled":
        """The tiles at these indices, int (M,), in that order."""
        return Labeled(tuple(self.ids[i] for i in indices), self.images[indices], self.masks[indices])

    def masks_of(self, ids: Sequence[str]) -> np.ndarray:
        """Masks uint8 {0, 1} (M, 101, 101) of these ids, in that order; each must exist."""
        index_of_id = {id_: i for i, id_ in enumerate(self.ids)}
        return self.masks[[index_of_id[id_] for id_ in ids]]


# ---------------------------------------------------------------- folders


def check_name(dataset: str) -> str:
    """Return `dataset` if it can name a folder under input/; raise InputError for separators, '..' and the like."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", dataset):
        raise InputError(f"dataset name: {dataset!r}; use letters, digits, '-', '_' and '.', no path")
    return dataset


def list_datasets(input_dir: Path) -> list[str]:
    """Sorted names of the folders in `input_dir` that hold a train.csv."""
    names = (path.parent.name for path in input_dir.glob("*/train.csv"))
    return sorted(name for name in names if not is_hidden(name))


def dataset_root(input_dir: Path, dataset: str) -> Path:
    """Folder of `dataset`; InputError names the existing datasets and the command that makes this one."""
    root = input_dir / check_name(dataset)
    if (root / "train.csv").is_file():
        return root
    if root.is_symlink() and not root.exists():
        problem = f"{root} is a link to {root.readlink()}, which is gone"
    elif root.exists():
        problem = f"{root} has no train.csv"
    else:
        problem = f"no dataset {dataset!r} under {input_dir}"
    existing = ", ".join(list_datasets(input_dir)) or "none"
    source = "kaggle" if dataset == "tgs" else "synthetic"
    raise InputError(f"{problem} (there: {existing}); get it with: saltseg prepare --source {source} --name {dataset}")


def read_source(root: Path) -> Any:
    """What `saltseg prepare` made the dataset from (source.json); None where that is unknown."""
    try:
        return json.loads(read_bytes(root / SOURCE_FILE))
    except (ValueError, RecursionError):  # InputError is one
        return None


def is_synthetic(root: Path) -> bool:
    """Whether the dataset was simulated, so that its scores say little about real data."""
    source = read_source(root)
    return isinstance(source, dict) and source.get("source") == "synthetic"


# ---------------------------------------------------------------- tables


def train_ids(root: Path) -> tuple[str, ...]:
    """Ids of the labeled tiles in the order of train.csv; InputError if there are none."""
    ids = tuple(id_ for id_, _ in _labeled_rows(root))
    if not ids:
        raise InputError(f"{root / 'train.csv'} lists no image; there is nothing to learn from")
    return ids


def test_ids(root: Path) -> tuple[str, ...]:
    """Ids of the tiles to predict in the order of sample_submission.csv, which a submission must have."""
    return tuple(id_ for (id_,) in read_columns(root / "sample_submission.csv", ("id",)))


def salt_rows(root: Path) -> set[tuple[str, ...]]:
    """(id, rle_mask) of the labeled tiles with salt: datasets that share rows share labels."""
    return {row for row in _labeled_rows(root) if row[1]}


def _labeled_rows(root: Path) -> list[tuple[str, ...]]:
    """(id, rle_mask) of each row of train.csv."""
    return read_columns(root / "train.csv", ("id", "rle_mask"))


def read_depths(root: Path) -> dict[str, int] | None:
    """Depth `z` of each id (depths.csv; the organizers do not state its unit); None if there is no file.

    Rows without a whole number are left out, because no step needs depths: `whole_number` says which.
    """
    path = root / "depths.csv"
    if not path.exists():
        return None
    depths = {id_: whole_number(row["z"]) for id_, row in read_table(path, ("id", "z"), None).rows.items()}
    return {id_: z for id_, z in depths.items() if z is not None}


def whole_number(text: str) -> int | None:
    """The number that a text such as 638 or 638.0 means; None for any other."""
    try:
        number = float(text)
        return int(number) if number.is_integer() else None
    except ValueError:
        return None


def sections_path(root: Path) -> Path:
    """Path of the table of sections, in the dataset or, where it was computed, beside it; it may not exist."""
    path, beside = root / "sections.csv", root.with_name(f"{root.name}.sections.csv")
    return path if path.exists() or not beside.exists() else beside


def read_sections(root: Path) -> dict[str, str] | None:
    """Section of each id, to keep neighbors in one fold; None if there is no table.

    A tile whose cell is empty belongs to no section: it is one of its own.

    Raises:
        InputError: the table is damaged.
    """
    path = sections_path(root)
    if not path.exists():
        return None
    return {
        id_: name if has_section(name) else f"no section: {id_}" for id_, name in read_columns(path, ("id", "section"))
    }


def has_section(cell: str) -> bool:
    """Whether a cell of the column ``section`` names one."""
    return cell.lower() not in ("", "nan", "none", "null", "na", "n/a", "<na>")


# ---------------------------------------------------------------- images and masks


def is_tgs(dataset: str) -> bool:
    """Whether a dataset of this name holds the competition's own tiles: tgs, or tgs-…."""
    return dataset == "tgs" or dataset.startswith("tgs-")


def read_train(root: Path) -> Labeled:
    """Read the labeled tiles in the order of train.csv.

    Masks come from train/masks; in a dataset without that folder, from `rle_mask`.

    Raises:
        InputError: names the first file or row that cannot be used.
    """
    with _referring_to_check(root):
        rows = _labeled_rows(root)
        ids = tuple(id_ for id_, _ in rows)
        images = _read_all(read_image, root / "train" / "images", ids)
        if (root / "train" / "masks").is_dir():
            masks = _read_all(read_mask, root / "train" / "masks", ids)
        else:
            masks = rle.decode_batch([text for _, text in rows], SHAPE)
        return Labeled(ids, images, masks)


def read_test(root: Path) -> Images:
    """Read the tiles to predict in the order of sample_submission.csv; raises as `read_train` does."""
    with _referring_to_check(root):
        ids = test_ids(root)
        return Images(ids, _read_all(read_image, root / "test" / "images", ids))


def _read_all(read: Callable[[Path, tuple[int, int]], np.ndarray], folder: Path, ids: Sequence[str]) -> np.ndarray:
    """uint8 (N, 101, 101) of `folder/<id>.png`, in the order of `ids`."""
    stack = np.empty((len(ids), *SHAPE), dtype=np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + CHUNK, len(ids))):
            stack[index] = read(folder / f"{ids[index]}.png", SHAPE)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(fill, range(0, len(ids), CHUNK)))  # raises what `fill` raised
    return stack


@contextmanager
def _referring_to_check(root: Path) -> Iterator[None]:
    """Every InputError names the command that lists all problems of the dataset."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; saltseg check {root.name} lists every problem") from None


# ---------------------------------------------------------------- fingerprint


def fingerprint(root: Path) -> str:
    """SHA-256 (hex) of a dataset's `manifest`."""
    lines = (f"{name} {value}" for name, value in manifest(root).items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def has_fingerprint(root: Path, expected: str | None) -> bool:
    """Whether a dataset has this fingerprint; False for one that is missing or cannot be trained on."""
    try:
        return fingerprint(root) == expected
    except InputError:
        return False


def manifest(root: Path) -> dict[str, str]:
    """What training and prediction read: a text for each part of a dataset, by its name.

    Ids and their order, the run lengths in train.csv, sizes of the images and hashes of the masks of these ids. Other
    files change nothing, nor does the way a table is written. No pixels are read, so a change of an image that keeps
    its size is missed: 22,000 tiles take half a second.

    Raises:
        InputError: a table cannot be read, or a file is missing.
    """
    with _referring_to_check(root):
        rows, test = _labeled_rows(root), test_ids(root)
        train = tuple(id_ for id_, _ in rows)
        entries = {"order of train.csv": _hash("\n".join(train).encode())}
        entries["order of sample_submission.csv"] = _hash("\n".join(test).encode())
        entries |= {f"train.csv, row {id_}": _hash(text.encode()) for id_, text in rows}
        for part, ids in (("train/images", train), ("test/images", test)):
            entries |= {f"{part}/{id_}.png": f"{_size(root / part, id_)} bytes" for id_ in ids}
        if (root / "train" / "masks").is_dir():
            names = (f"train/masks/{id_}.png" for id_ in train)
            entries |= {name: _hash(read_bytes(root / name)) for name in names}
        return entries


def differences(recorded: dict[str, str], now: dict[str, str]) -> list[str]:
    """What differs between two manifests of a dataset, a line each."""
    return [
        f"{name}: {recorded.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in recorded | now
        if recorded.get(name) != now.get(name)
    ]


def _hash(data: bytes) -> str:
    return f"sha256 {hashlib.sha256(data).hexdigest()[:32]}"


def _size(folder: Path, id_: str) -> int:
    try:
        return os.stat(f"{folder}/{id_}.png").st_size  # noqa: PTH116 (22,000 of them)
    except (OSError, ValueError):
        raise FileProblem(folder / f"{id_}.png", "file is missing", "restore it or remove its row") from None
