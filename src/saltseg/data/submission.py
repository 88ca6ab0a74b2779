"""Submission files: written, read and scored as in the competition.

A submission is a CSV file ``id,rle_mask``, one row an image; an empty cell is an empty mask. ``solution.csv`` has the
same columns and, optionally, ``usage``. Messages number rows as an editor does: the header is row 1.
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

from saltseg.data.tables import read_table
from saltseg.errors import InputError
from saltseg.io import atomic_path
from saltseg.metrics import average_precision, pixels, rle
from saltseg.metrics.masks import as_masks

COLUMNS = ("id", "rle_mask")
USAGES = ("Public", "Private")
_SHOWN = 3  # ids or rows named in a message before it only counts


@dataclass(frozen=True)
class Submission:
    """Result of `check`: the valid rows of a file, in its order, and its problems.

    Attributes:
        ids, texts: id and RLE of each row.
        usage: "Public" or "Private" for each row; None when the file has no such column.
        problems: one line each, with the row and the reason; empty for a valid file.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    usage: tuple[str, ...] | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class SubmissionScore:
    """Scores in [0, 1] as Kaggle would show them; None for a part without images.

    Attributes:
        all, public, private: mean score of all images and of the two parts.
        n, n_public, n_private: their numbers of images.
        per_coverage: scores of all images by coverage of the true mask, see `pixels.per_coverage`.
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
) -> Submission:
    """Read a file of masks and list its problems; never raises for an invalid file.

    Args:
        path: a CSV file with the columns id and rle_mask, in either order.
        expected_ids: the ids the file must have, no more and no fewer; None to take any.
        shape: (H, W) of every mask.
        allow_usage: whether a third column ``usage`` is permitted.

    Returns:
        `Submission`.
    """
    table = read_table(Path(path), COLUMNS, ("usage",) if allow_usage else ())
    problems = [f"row {problem.line}: {problem.what}" if problem.line else problem.what for problem in table.problems]
    if not table.usable:
        return Submission((), (), None, tuple(problems))
    if not table.rows and not problems:
        problems.append("it has no rows below the header")
    expected = set(table.rows) if expected_ids is None else set(expected_ids)
    valid: dict[str, dict[str, str]] = {}
    for name, values in table.rows.items():
        if reason := _problem(name, values, expected, shape):
            problems.append(f"row {table.lines[name]}: {reason}")
        else:
            valid[name] = values
    if missing := sorted(expected.difference(table.rows)):
        problems.append(f"{len(missing)} of {len(expected)} ids are missing: {_first(missing)}")
    return Submission(
        tuple(valid),
        tuple(values["rle_mask"] for values in valid.values()),
        tuple(values["usage"] for values in valid.values()) if "usage" in table.columns else None,
        tuple(problems),
    )


def _problem(name: str, values: dict[str, str], expected: set[str], shape: tuple[int, int]) -> str | None:
    """What is wrong with a row, or None."""
    if name not in expected:
        return f"id '{name}' is not asked for"
    if values.get("usage", USAGES[0]) not in USAGES:
        return f"usage '{values['usage']}' is neither Public nor Private"
    try:
        rle.parse(values["rle_mask"], shape[0] * shape[1])
    except InputError as error:
        return f"rle_mask of id '{name}': {error}"
    return None


def read(
    path: Path | str, expected_ids: Iterable[str] | None = None, shape: tuple[int, int] = rle.TILE_SHAPE
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read a submission, as strictly as Kaggle.

    Args:
        path, expected_ids, shape: as `check`.

    Returns:
        (ids, RLE texts) in the order of the file, each of length N.

    Raises:
        InputError: unreadable file, wrong columns, missing, extra or duplicate ids, malformed RLE; the message names
            the first three with row and reason and counts the others.
    """
    table = _read(path, expected_ids, shape)
    return table.ids, table.texts


def _read(
    path: Path | str, expected_ids: Iterable[str] | None, shape: tuple[int, int], allow_usage: bool = False
) -> Submission:
    table = check(path, expected_ids, shape, allow_usage)
    if table.problems:
        raise InputError(
            f"{path} is refused: {_first(table.problems, ' | ')}; correct it (saltseg submit writes valid files)"
        )
    return table


def write(path: Path | str, ids: Sequence[str] | NDArray[np.str_], masks: ArrayLike, sample_ids: Sequence[str]) -> None:
    """Write a submission in the order of the sample, atomically; the file is read back and compared first.

    Args:
        path: the file to write; replaced only by a complete file.
        ids: N ids of the masks, each once, in any order.
        masks: (N, H, W), values 0 and 1.
        sample_ids: the ids of ``sample_submission.csv``, in its order; the same set as `ids`.

    Raises:
        InputError: ids missing, extra or twice, or none; a number of masks that differs; masks that are not
            binary. Nothing is written in that case.
    """
    array = as_masks(masks)
    names, sample = [str(name) for name in ids], [str(name) for name in sample_ids]
    if len(names) != len(array):
        raise InputError(f"every mask needs its id: {len(names)} ids for {len(array)} masks; keep both")
    _require_one_to_one(names, sample)
    index_of_id = {name: index for index, name in enumerate(names)}
    texts = rle.encode_batch(array)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((name, texts[index_of_id[name]]) for name in sample)
    with atomic_path(Path(path)) as beside:
        beside.write_text(buffer.getvalue(), encoding="utf-8", newline="")
        shape = (array.shape[1], array.shape[2])
        read_ids, read_texts = read(beside, sample, shape)
        if read_ids != tuple(sample):  # no assert: python -O drops those
            raise AssertionError(f"{path} would not hold the ids that were written")
        for begin in range(0, len(sample), 1000):  # in parts, to need little memory
            part = slice(begin, begin + 1000)
            written = array[[index_of_id[name] for name in sample[part]]]
            if not np.array_equal(rle.decode_batch(read_texts[part], shape), written):
                raise AssertionError(f"{path} would not hold the masks that were written")


def _require_one_to_one(names: Sequence[str], sample: Sequence[str]) -> None:
    """InputError unless predictions and sample have the same ids, each once."""
    for source, ids in (("predictions", names), ("sample", sample)):
        if repeated := [id_ for id_, count in Counter(ids).items() if count > 1]:
            raise InputError(f"ids of the {source} occur twice: {_first(repeated)}; each image has one mask")
    if not sample:
        raise InputError("the sample lists no image, so there is nothing to submit; give the dataset test images")
    if missing := sorted(set(sample) - set(names)):
        raise InputError(f"no prediction for {len(missing)} ids: {_first(missing)}; predict them all")
    if extra := sorted(set(names) - set(sample)):
        raise InputError(f"{len(extra)} ids are not in the sample: {_first(extra)}; predict this dataset")


def score(
    submission_path: Path | str, solution_path: Path | str, shape: tuple[int, int] = rle.TILE_SHAPE
) -> SubmissionScore:
    """Score a submission as Kaggle does.

    Args:
        submission_path: a CSV file ``id,rle_mask``, rows in any order.
        solution_path: a CSV file ``id,rle_mask`` with the true masks and, optionally, ``usage`` (Public or
            Private); without it a third of the ids, chosen by their hash, is public.
        shape: (H, W) of every mask.

    Returns:
        `SubmissionScore`.

    Raises:
        InputError: either file is invalid, as in `read`.
    """
    solution = _read(solution_path, None, shape, allow_usage=True)
    submission_ids, texts = read(submission_path, solution.ids, shape)
    text_of_id = dict(zip(submission_ids, texts, strict=True))
    true = rle.decode_batch(solution.texts, shape)
    predicted = rle.decode_batch([text_of_id[name] for name in solution.ids], shape)
    values = average_precision.average_precision(predicted, true)
    public = np.array([name == "Public" for name in solution.usage or map(usage_of_id, solution.ids)])
    return SubmissionScore(
        float(values.mean()),
        float(values[public].mean()) if public.any() else None,
        float(values[~public].mean()) if not public.all() else None,
        len(values),
        int(public.sum()),
        int((~public).sum()),
        pixels.per_coverage(values, pixels.coverage_class(true)),
    )


def usage_of_id(name: str) -> str:
    """Public for about a third of all ids, else Private; by hash, so the same in every file."""
    return USAGES[0] if int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % 3 == 0 else USAGES[1]


def _first(names: Sequence[str], separator: str = ", ") -> str:
    """The first few, then a count."""
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
