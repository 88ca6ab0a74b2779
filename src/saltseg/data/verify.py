"""Everything that is wrong with a dataset, all at once, each problem with its fix.

Training on a dataset with transposed masks or repeated ids goes through without a word; here they are found
before hours are spent. Constant tiles, empty masks and nearly full ones belong to the real data: no problem.
"""

import csv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saltseg.core import rle
from saltseg.core.submission import USAGES
from saltseg.data import competition
from saltseg.data.competition import SHAPE, FileProblem, Progress
from saltseg.errors import InputError

FETCH = "fetch the file again"


@dataclass(frozen=True)
class Problem:
    """One thing to repair: `where` (file in the dataset, with line), `what` is wrong, and the `fix`."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


@dataclass(frozen=True)
class _Rows:
    """A CSV file as far as it can be read: the first row of each id, as line number and named fields."""

    name: str
    lines: dict[str, int]
    rows: dict[str, dict[str, str]]

    def at(self, identity: str) -> str:
        """Where the row of `identity` is."""
        return f"{self.name} line {self.lines[identity]}"


def verify(root: Path, progress: Progress | None = None) -> list[Problem]:
    """List every problem of the dataset in folder `root`, tables first; an empty list means ready to train.

    Reads every pixel: 4,000 tiles take a few seconds. `progress(done, total)` is called per tile if given.
    """
    root = Path(root)
    if not root.is_dir():
        return [Problem(str(root), "folder is missing", "get the data with scripts/prepare_data.py")]
    problems: list[Problem] = []
    train = _table(root, "train.csv", ("id", "rle_mask"), (), problems)
    if train is not None and not train.rows:
        problems.append(Problem("train.csv", "no rows", FETCH))
    sample = _table(root, "sample_submission.csv", ("id", "rle_mask"), (), problems)
    if sample is not None and not sample.rows:
        problems.append(Problem("sample_submission.csv", "no rows", "list the images to predict, one at least"))
    decoded = _decode(train, problems)
    _check_optional_tables(root, train, sample, problems)
    if train is not None and sample is not None:
        for both in [identity for identity in sample.rows if identity in train.rows]:
            what = f"id {both} is in train.csv too"
            problems.append(Problem(sample.at(both), what, "keep it in one of the two"))
    images = _check_folder(root, "train/images", train, problems)
    masks = _check_folder(root, "train/masks", train, problems)
    tests = _check_folder(root, "test/images", sample, problems)
    jobs: list[tuple[Callable[[Path], object], Path]] = []
    jobs += [(lambda path: competition.read_image(path, SHAPE), path) for path in images + tests]
    jobs += [(lambda path: _compare(path, decoded.get(path.stem)), path) for path in masks]
    with ThreadPoolExecutor(competition.WORKERS) as pool:
        for done, error in enumerate(pool.map(_attempt, jobs), start=1):
            if error is not None:
                where = error.where.relative_to(root).as_posix()
                problems.append(Problem(where, error.what, error.fix))
            if progress is not None:
                progress(done, len(jobs))
    return problems


# ---------------------------------------------------------------- tables


def _table(
    root: Path, name: str, required: tuple[str, ...], optional: tuple[str, ...], problems: list[Problem]
) -> _Rows | None:
    """Read `name` as far as possible, adding what is wrong; None where it cannot be used at all."""
    path = root / name
    if not path.is_file():
        problems.append(Problem(name, "file is missing", "restore it; input/README.md describes the layout"))
        return None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem(name, f"not a readable CSV file ({error})", FETCH))
        return None
    header = [column.strip() for column in lines[0][1]] if lines else []
    if not set(required) <= set(header) <= {*required, *optional} or len(set(header)) < len(header):
        expected = ",".join(required) + "".join(f"[,{column}]" for column in optional)
        what = f"unexpected columns {','.join(header)!r}"
        problems.append(Problem(f"{name} line 1", what, f"make the first line {expected}"))
    if not set(required) <= set(header):
        return None
    table = _Rows(name, {}, {})
    for line, row in lines[1:]:
        problem = _add_row(table, line, header, row)
        if problem is not None:
            problems.append(Problem(f"{name} line {line}", *problem))
    return table


def _add_row(table: _Rows, line: int, header: list[str], row: list[str]) -> tuple[str, str] | None:
    """Add one row to `table`, or return what is wrong with it and the fix."""
    if len(row) != len(header):
        return f"{len(row)} fields, not {len(header)}", "give the row one field for each column"
    fields = dict(zip(header, (field.strip() for field in row), strict=True))
    identity = fields["id"]
    if not identity or "/" in identity or "\\" in identity:
        return f"id {identity!r} is no file name", "write the name of the image without .png"
    if identity in table.rows:
        return f"id {identity} repeated (first in line {table.lines[identity]})", "keep one row for each id"
    table.lines[identity] = line
    table.rows[identity] = fields
    return None


def _decode(table: _Rows | None, problems: list[Problem]) -> dict[str, np.ndarray]:
    """Masks uint8 (101, 101) {0, 1} by id; each malformed `rle_mask` is added to `problems` instead."""
    decoded: dict[str, np.ndarray] = {}
    if table is None:
        return decoded
    for identity, fields in table.rows.items():
        try:
            decoded[identity] = rle.decode(fields["rle_mask"], SHAPE)
        except InputError as error:
            what = f"malformed RLE of id {identity}: {error}"
            problems.append(Problem(table.at(identity), what, "write the mask's RLE anew"))
    return decoded


def _check_optional_tables(root: Path, train: _Rows | None, sample: _Rows | None, problems: list[Problem]) -> None:
    """depths.csv, sections.csv and solution.csv, each only where it is there."""
    if (root / "depths.csv").exists():
        depths = _table(root, "depths.csv", ("id", "z"), (), problems)
        _check_values(depths, "z", _is_whole, "write a whole number", problems)
    if (root / "sections.csv").exists():
        sections = _table(root, "sections.csv", ("id", "section"), ("row", "column"), problems)
        _same_ids(train, sections, problems)
    if (root / "solution.csv").exists():
        solution = _table(root, "solution.csv", ("id", "rle_mask"), ("usage",), problems)
        _decode(solution, problems)
        _check_values(solution, "usage", USAGES.__contains__, "write Public or Private", problems)
        _same_ids(sample, solution, problems)
        _same_ids(solution, sample, problems)


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _check_values(
    table: _Rows | None, column: str, valid: Callable[[str], bool], fix: str, problems: list[Problem]
) -> None:
    """Add each value of `column` that is not `valid`; a table without the column passes."""
    if table is None:
        return
    for identity, fields in table.rows.items():
        if column in fields and not valid(fields[column]):
            problems.append(Problem(table.at(identity), f"{column} {fields[column]!r}", fix))


def _same_ids(table: _Rows | None, other: _Rows | None, problems: list[Problem]) -> None:
    """Add each id of `table` that has no row in `other`, if both can be read."""
    if table is None or other is None:
        return
    for identity in table.rows:
        if identity not in other.rows:
            what = f"no row for id {identity} of {table.name}"
            problems.append(Problem(other.name, what, f"add the row or remove it from {table.name}"))


# ---------------------------------------------------------------- images and masks


def _check_folder(root: Path, part: str, table: _Rows | None, problems: list[Problem]) -> list[Path]:
    """Compare the files of a folder with the ids of its table; return the images that are there, by name."""
    if not (root / part).is_dir():
        fix = "restore it; input/README.md describes the layout"
        problems.append(Problem(part, "folder is missing", fix))
        return []
    there = [file for file in competition.list_files(root / part) if not file.startswith(".")]
    expected = set() if table is None else {f"{identity}.png" for identity in table.rows}
    for file in there:
        if not file.endswith(".png"):
            problems.append(Problem(f"{part}/{file}", "extra file, not <id>.png", "move it elsewhere"))
        elif table is not None and file not in expected:
            fix = "add its row or move the file elsewhere"
            problems.append(Problem(f"{part}/{file}", f"no row in {table.name}", fix))
    for file in sorted(expected.difference(there)):
        problems.append(Problem(f"{part}/{file}", "file is missing", "restore it or remove its row"))
    return [root / part / file for file in there if file.endswith(".png")]


def _attempt(job: tuple[Callable[[Path], object], Path]) -> FileProblem | None:
    """Run the check of one file; what it raises is the result."""
    check, path = job
    try:
        check(path)
    except FileProblem as error:
        return error
    return None


def _compare(path: Path, from_text: np.ndarray | None) -> None:
    """Read a mask and compare it with the mask of its RLE (None: not known); raises FileProblem."""
    mask = competition.read_mask(path, SHAPE)
    if from_text is None or np.array_equal(mask, from_text):
        return
    if np.array_equal(mask.T, from_text):
        raise FileProblem(path, "its rle_mask in train.csv is the transpose", "write the RLE column by column")
    pixels = int(np.count_nonzero(mask != from_text))
    what = f"differs from its rle_mask in train.csv in {pixels} pixels"
    raise FileProblem(path, what, "restore both from one source")


# ---------------------------------------------------------------- what a sound dataset holds


@dataclass(frozen=True)
class Statistics:
    """Counts of a sound dataset; shares are 0..1. None: the dataset has no such file."""

    train: int
    test: int
    empty_share: float
    mean_coverage: float
    constant_tiles: int
    sections: int | None
    without_depth: int | None
    solution: bool


def statistics(root: Path) -> Statistics:
    """Count what the dataset in folder `root` holds; InputError as `competition.read_train` raises it."""
    root = Path(root)
    labelled = competition.read_train(root)
    tests = competition.test_ids(root)
    flat = labelled.images.reshape(len(labelled.ids), -1)
    sections, depths = competition.read_sections(root), competition.read_depths(root)
    return Statistics(
        train=len(labelled.ids),
        test=len(tests),
        empty_share=float((~labelled.masks.any(axis=(1, 2))).mean()),
        mean_coverage=float(labelled.masks.mean()),
        constant_tiles=int((flat.min(axis=1) == flat.max(axis=1)).sum()),
        sections=None if sections is None else len(set(sections.values())),
        without_depth=None if depths is None else len({*labelled.ids, *tests}.difference(depths)),
        solution=(root / "solution.csv").is_file(),
    )
