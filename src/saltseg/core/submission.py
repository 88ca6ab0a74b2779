"""The submission file: written, read and scored as the competition does it.

A CSV file ``id,rle_mask``, one row an image; an empty cell is an empty mask. ``solution.csv`` (with an optional
third column ``usage``) has the same form and the same reader. Rows are numbered as an editor numbers them: the header
is row 1.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core import metric, rle
from saltseg.errors import InputError
from saltseg.storage import atomic_path

COLUMNS = ("id", "rle_mask")
USAGES = ("Public", "Private")
_SHOWN = 3  # ids or rows named in a message before it only counts


@dataclass(frozen=True)
class Table:
    """A file of masks as read by `check`: the good rows, in the order of the file, and all that is wrong.

    Attributes:
        ids, texts: id and RLE of each row.
        usage: "Public" or "Private" for each row; None when the file has no such column.
        problems: one line each, with the row and the reason; empty for a good file.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    usage: tuple[str, ...] | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class SubmissionScore:
    """What Kaggle would show: scores in [0, 1], None for a part without images.

    Attributes:
        all, public, private: mean score of all images and of the two parts.
        n, n_public, n_private: their numbers of images.
        per_coverage: ``[{"coverage_class", "n", "score"}, ...]`` by coverage of the true mask, over all
            images.
    """

    all: float
    public: float | None
    private: float | None
    n: int
    n_public: int
    n_private: int
    per_coverage: list[dict[str, int | float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def check(
    path: Path | str,
    expected_ids: Iterable[str] | None = None,
    shape: tuple[int, int] = rle.TILE_SHAPE,
    allow_usage: bool = False,
) -> Table:
    """Read a file of masks and list everything that is wrong with it; never raises for a bad file.

    Args:
        path: a CSV file with the columns id and rle_mask, in either order.
        expected_ids: the ids the file must have, no more and no fewer; None to take any.
        shape: (H, W) of every mask.
        allow_usage: whether a third column ``usage`` is permitted.

    Returns:
        `Table`.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Table((), (), None, (f"cannot be read as CSV text: {reason}",))
    permitted = [set(COLUMNS), {*COLUMNS, "usage"}][: 1 + allow_usage]
    if set(header) not in permitted or len(header) != len(set(header)):
        return Table((), (), None, (f"row 1: columns are '{','.join(header)[:80]}', not 'id,rle_mask'",))

    problems: list[str] = []
    row_of_id: dict[str, int] = {}
    good: list[dict[str, str]] = []
    expected = None if expected_ids is None else set(expected_ids)
    for row, cells in rows:
        values = dict(zip(header, cells, strict=False))
        reason = _refusal(values, len(cells) == len(header), row_of_id, expected, shape)
        if reason:
            problems.append(f"row {row}: {reason}")
        else:
            good.append(values)
        row_of_id.setdefault(values["id"], row)
    if not rows:
        problems.append("it has no rows below the header")
    missing = [name for name in sorted(expected or ()) if name not in row_of_id]
    if missing:
        problems.append(f"{len(missing)} of {len(expected or ())} ids are missing: {_first(missing)}")
    return Table(
        tuple(values["id"] for values in good),
        tuple(values["rle_mask"] for values in good),
        tuple(values["usage"] for values in good) if "usage" in header else None,
        tuple(problems),
    )


def _refusal(
    values: dict[str, str],
    complete: bool,
    row_of_id: dict[str, int],
    expected: set[str] | None,
    shape: tuple[int, int],
) -> str | None:
    """Why a row is refused, or None."""
    name = values.setdefault("id", "")
    if not complete:
        return "another number of cells than the header has"
    if not name:
        return "the id is empty"
    if name in row_of_id:
        return f"id '{name}' was already in row {row_of_id[name]}"
    if expected is not None and name not in expected:
        return f"id '{name}' is not asked for"
    if values.get("usage", "Public") not in USAGES:
        return f"usage '{values['usage']}' is neither Public nor Private"
    try:
        rle.parse(values["rle_mask"], shape[0] * shape[1])
    except InputError as error:
        return f"rle_mask of id '{name}': {error}"
    return None


def read(
    path: Path | str,
    expected_ids: Iterable[str] | None = None,
    shape: tuple[int, int] = rle.TILE_SHAPE,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids and RLE texts in the order of the file, or a refusal like Kaggle's.

    Args:
        path, expected_ids, shape: as `check`.

    Returns:
        (ids, texts), each of length N.

    Raises:
        InputError: unreadable file, wrong columns, missing, extra or duplicate ids, malformed RLE; one line that
            names the first three with row and reason and counts the others.
    """
    table = _read(path, expected_ids, shape)
    return table.ids, table.texts


def _read(
    path: Path | str,
    expected_ids: Iterable[str] | None,
    shape: tuple[int, int],
    allow_usage: bool = False,
) -> Table:
    table = check(path, expected_ids, shape, allow_usage)
    if table.problems:
        raise InputError(
            f"{path} is refused: {_first(table.problems, ' | ')}; correct it (submit.py writes valid files)"
        )
    return table


def write(path: Path | str, ids: Sequence[str] | NDArray[np.str_], masks: ArrayLike, sample_ids: Sequence[str]) -> None:
    """Write a submission in the order of the sample, atomically, after it was read back and compared.

    Args:
        path: the file to write; replaced only by a complete file.
        ids: N ids of the masks, each once, in any order.
        masks: (N, H, W), values 0 and 1.
        sample_ids: the ids of ``sample_submission.csv``, in its order; the same set as `ids`.

    Raises:
        InputError: ids missing, extra or twice, or none; a number of masks that differs; masks that are not
            binary. Then nothing is written.
    """
    array = rle.as_masks(masks)
    names, wanted = [str(name) for name in ids], [str(name) for name in sample_ids]
    if len(names) != len(array):
        raise InputError(f"every mask needs its id: {len(names)} ids for {len(array)} masks; keep both")
    for what, given in (("predictions", names), ("sample", wanted)):
        twice = [name for name, count in Counter(given).items() if count > 1]
        if twice:
            raise InputError(f"ids of the {what} occur twice: {_first(twice)}; each image has one mask")
    if not wanted:
        raise InputError("the sample lists no image, so there is nothing to submit; give the dataset test images")
    index_of_id = {name: index for index, name in enumerate(names)}
    missing = [name for name in wanted if name not in index_of_id]
    extra = sorted(set(names) - set(wanted))
    if missing:
        raise InputError(f"no prediction for {len(missing)} ids: {_first(missing)}; predict them all")
    if extra:
        raise InputError(f"{len(extra)} ids are not in the sample: {_first(extra)}; predict this dataset")

    texts = rle.encode_batch(array)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((name, texts[index_of_id[name]]) for name in wanted)
    with atomic_path(Path(path)) as beside:
        beside.write_text(buffer.getvalue(), encoding="utf-8", newline="")
        shape = (array.shape[1], array.shape[2])
        read_ids, read_texts = read(beside, wanted, shape)
        assert read_ids == tuple(wanted), f"{path} would not hold the ids that were written"
        for begin in range(0, len(wanted), 1000):  # in parts, to need little memory
            part = slice(begin, begin + 1000)
            written = array[[index_of_id[name] for name in wanted[part]]]
            same = np.array_equal(rle.decode_batch(read_texts[part], shape), written)
            assert same, f"{path} would not hold the masks that were written"


def score(
    submission_path: Path | str, solution_path: Path | str, shape: tuple[int, int] = rle.TILE_SHAPE
) -> SubmissionScore:
    """Score a submission as Kaggle would.

    Args:
        submission_path: a CSV file ``id,rle_mask``, rows in any order.
        solution_path: a CSV file ``id,rle_mask`` with the true masks and, optionally, ``usage`` (Public or
            Private); without it a third of the ids, chosen by their hash, is public.
        shape: (H, W) of every mask.

    Returns:
        `SubmissionScore`.

    Raises:
        InputError: either file is refused, as in `read`.
    """
    solution = _read(solution_path, None, shape, allow_usage=True)
    submission_ids, texts = read(submission_path, solution.ids, shape)
    text_of_id = dict(zip(submission_ids, texts, strict=True))
    true = rle.decode_batch(solution.texts, shape)
    predicted = rle.decode_batch([text_of_id[name] for name in solution.ids], shape)
    values = metric.average_precision(predicted, true)
    public = np.array([name == "Public" for name in solution.usage or map(usage_of_id, solution.ids)])
    return SubmissionScore(
        float(values.mean()),
        float(values[public].mean()) if public.any() else None,
        float(values[~public].mean()) if not public.all() else None,
        len(values),
        int(public.sum()),
        int((~public).sum()),
        metric.per_coverage(values, metric.coverage_class(true)),
    )


def usage_of_id(name: str) -> str:
    """Public for about a third of all ids, else Private: by hash, hence the same in every file."""
    return USAGES[0] if int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % 3 == 0 else USAGES[1]


def _first(names: Sequence[str], separator: str = ", ") -> str:
    """The first few, then a count."""
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
