"""Check a dataset: find every problem at once, those with one cause together, each with its fix.

Transposed masks or repeated ids would not stop a training. Constant tiles, empty masks and nearly full masks occur in
the real data and are no problems.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saltseg.data import competition, names
from saltseg.data.competition import SHAPE, Progress
from saltseg.data.duplicates import pixel_keys
from saltseg.data.files import FileProblem, list_files
from saltseg.data.image_files import read_image, read_mask
from saltseg.data.submission import USAGES
from saltseg.data.tables import Table, read_table
from saltseg.errors import InputError
from saltseg.metrics import rle

_Job = tuple[Callable[[Path], bytes | None], Path]  # raises FileProblem for this file


@dataclass(frozen=True)
class Problem:
    """What has one cause and one fix.

    Attributes:
        fix: how to repair it.
        places: where it is (file, relative to the dataset, and line) and what is wrong there; each time it was found.
        is_note: the dataset can be used all the same.
    """

    fix: str
    places: tuple[tuple[str, str], ...]
    is_note: bool = False

    def __str__(self) -> str:
        where, what = self.places[0]
        return f"{where}: {what}{f' ({len(self.places):,} such)' if len(self.places) > 1 else ''}; {self.fix}"


def check_dataset(root: Path, progress: Progress | None = None) -> list[Problem]:
    """Find every problem of a dataset. Reads every pixel: 4,000 tiles take a few seconds.

    Args:
        root: folder of the dataset.
        progress: called with (files checked, all files) after each image or mask.

    Returns:
        Problems by cause, those of the tables first, and notes last; empty for a valid dataset.
    """
    if not root.is_dir():
        return [Problem("get the data with saltseg prepare", ((str(root), "folder is missing"),))]
    check = _Check(root)
    train = check.read_table(root / "train.csv", ("id", "rle_mask"))
    sample = check.read_table(root / "sample_submission.csv", ("id", "rle_mask"))
    if train.usable and not train.rows:
        check.add("train.csv", "no rows", "fetch the table again")
    if sample.usable and not sample.rows:
        check.add("sample_submission.csv", "no rows", "list at least one image to predict")
    masks = check.decode(train)
    check.check_depths()
    check.check_sections(train)
    check.check_solution(sample)
    for id_ in filter(train.rows.__contains__, sample.rows):
        check.add(_line(sample, id_), f"id {id_} is in train.csv too", "keep it in one of the two")
    train_images, train_masks = check.check_folder("train/images", train), check.check_folder("train/masks", train)
    test_images = check.check_folder("test/images", sample)
    check.add_repeated()
    jobs: list[_Job] = [(_pixel_key, path) for path in train_images + test_images]
    jobs += [(lambda path: _compare_mask(path, masks.get(path.stem)), path) for path in train_masks]
    check.compare_pixels(check.read_files(jobs, progress), train)
    return check.problems()


class _Check:
    """Collects the problems of a dataset."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places: dict[str, dict[tuple[str, str], None]] = {}  # by fix
        self.notes: set[str] = set()  # the fixes that are none
        self.numbers: set[str] = set()  # ids that a spreadsheet turned into numbers
        self.repeated: list[tuple[str, FileProblem]] = []  # rows of an id that an earlier row has

    def problems(self) -> list[Problem]:
        problems = [Problem(fix, tuple(places), fix in self.notes) for fix, places in self.places.items()]
        return sorted(problems, key=lambda problem: problem.is_note)

    def add(self, where: str, what: str, fix: str, note: bool = False) -> None:
        self.places.setdefault(fix, {})[where, what] = None
        if note:
            self.notes.add(fix)

    def add_file_problem(self, problem: FileProblem, fix: str = "", note: bool = False) -> None:
        line = f" line {problem.line}" if problem.line else ""
        self.add(f"{self.relative(problem.where)}{line}", problem.what, fix or problem.fix, note)

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    # ------------------------------------------------------------ tables

    def read_table(self, path: Path, required: Sequence[str], optional: Sequence[str] | None = ()) -> Table:
        """Add a table's problems. A repeated id waits: it may be a number to which a spreadsheet rounded several."""
        table = read_table(path, required, optional)
        for problem in table.problems:
            if problem.line in table.repeated:
                self.repeated.append((table.repeated[problem.line], problem))
            else:
                self.add_file_problem(problem)
        return table

    def add_repeated(self) -> None:
        for id_, problem in self.repeated:
            if id_ not in self.numbers:
                self.add_file_problem(problem)

    def decode(self, table: Table) -> dict[str, np.ndarray]:
        """Masks uint8 {0, 1} (101, 101) by id, those with a valid `rle_mask`."""
        masks: dict[str, np.ndarray] = {}
        for id_, fields in table.rows.items():
            try:
                masks[id_] = rle.decode(fields["rle_mask"], SHAPE)
            except InputError as error:
                self.add(_line(table, id_), f"malformed RLE of id {id_}: {error}", "write the mask's RLE again")
        return masks

    def check_depths(self) -> None:
        """No step needs depths, so what cannot be used of them is left out."""
        if not (path := self.root / "depths.csv").exists():
            return
        table = read_table(path, ("id", "z"), None)
        left_out = "none needed: these depths are left out, no step needs them"
        self.note_columns(table, {"id", "z"})
        for problem in table.problems:
            self.add_file_problem(problem, left_out, note=True)
        for id_, fields in table.rows.items():
            z = fields["z"]
            if competition.whole_number(z) is None:
                self.add(_line(table, id_), f"z {z!r}", left_out, note=True)
            elif not z.removeprefix("-").isdecimal():
                self.add(_line(table, id_), f"z {z!r}", "none needed: it is read as a whole number", note=True)

    def check_sections(self, train: Table) -> None:
        """The table of sections, where there is one: a section for every labeled tile, and no other tiles."""
        if not (path := competition.sections_path(self.root)).exists():
            return
        table = self.read_table(path, ("id", "section"), None)
        self.note_columns(table, {"id", "section", "row", "column"})
        for id_, fields in table.rows.items():
            if not competition.has_section(fields["section"]):
                self.add(_line(table, id_), "no section", "none needed: the tile is a section of its own", note=True)
        self.check_ids(train, table)

    def check_solution(self, sample: Table) -> None:
        """The solution, where there is one: a mask for every test image, marked as Kaggle's public or private part."""
        if not (path := self.root / "solution.csv").exists():
            return
        table = self.read_table(path, ("id", "rle_mask"), ("usage",))
        self.decode(table)
        for id_, fields in table.rows.items():
            if fields.get("usage", USAGES[0]) not in USAGES:
                self.add(_line(table, id_), f"usage {fields['usage']!r}", "write Public or Private")
        self.check_ids(sample, table, both=True)

    def note_columns(self, table: Table, used: set[str]) -> None:
        if further := [name for name in table.columns if name not in used]:
            where, fix = f"{table.path.name} line 1", "none needed: they are ignored"
            self.add(where, f"further columns {further}", fix, note=True)

    def check_ids(self, table: Table, other: Table, both: bool = False) -> None:
        """Every id of `table` must have a row in `other`, if that is usable; with `both` the other way round, too."""
        if not table.usable or not other.usable:
            return
        missing = [id_ for id_ in table.rows if id_ not in other.rows]
        extra = [f"{id_}.png" for id_ in other.rows if id_ not in table.rows]  # as `names.explain` wants them
        explained = self.explain(table, missing, extra, other)
        pairs = [(id_, table, other) for id_ in missing]
        pairs += [(name.removesuffix(".png"), other, table) for name in extra if both]
        for id_, having, lacking in pairs:
            if id_ not in explained and f"{id_}.png" not in explained:
                fix = f"add the row or remove it from {having.path.name}"
                self.add(lacking.path.name, f"no row for id {id_} of {having.path.name}", fix)

    def explain(self, table: Table, ids: list[str], others: list[str], place: Table | str) -> set[str]:
        """Add what only differs in writing, each cause under its own fix; return the ids and the others explained.

        others: names in `place`, a folder, or <id>.png for the ids of another table.
        """
        explained: set[str] = set()
        for id_, other, causes in names.explain(ids, others):
            explained |= {id_, other}
            stem = other.removesuffix(".png")
            where = f"{place}/{other}" if isinstance(place, str) else _line(place, stem)
            for cause in causes:
                if cause == names.FILE_SUFFIX and isinstance(place, Table):
                    self.add(where, f"id {stem!r}", names.FIXES[names.ID_SUFFIX])
                elif cause == names.ID_SUFFIX:
                    self.add(_line(table, id_), f"id {id_!r}", names.FIXES[cause])
                elif cause == names.AS_NUMBER:
                    self.add(_line(table, id_), f"id {id_!r}, elsewhere {stem!r}", names.FIXES[cause])
                    self.numbers.add(id_)
                else:
                    self.add(where, f"{stem!a} for id {id_!a}", names.FIXES[cause])
        return explained

    # ------------------------------------------------------------ images and masks

    def check_folder(self, part: str, table: Table) -> list[Path]:
        """Compare the files of a folder with the ids of its table; return its PNGs by name."""
        folder = self.root / part
        if not folder.is_dir():
            self.add(part, "folder is missing", "restore it; input/README.md describes the layout")
            return []
        files = list_files(folder)
        id_of_file = {f"{id_}.png": id_ for id_ in table.rows}
        missing, extra = id_of_file.keys() - set(files), [file for file in files if file not in id_of_file]
        absent = sorted(id_of_file[file] for file in missing)
        explained = self.explain(table, absent, extra, part)
        for file in extra:
            if file not in explained and not file.endswith(".png"):
                self.add(f"{part}/{file}", "extra file, not <id>.png", "move it elsewhere")
            elif file not in explained and table.usable:
                fix = f"add its row to {table.path.name} or move the file elsewhere"
                self.add(f"{part}/{file}", f"no row in {table.path.name}", fix)
        for id_ in absent:
            if id_ not in explained:
                self.add(f"{part}/{id_}.png", "file is missing", "restore it or remove its row")
        return [folder / file for file in files if file.lower().endswith(".png")]

    def read_files(self, jobs: list[_Job], progress: Progress | None) -> dict[Path, bytes]:
        """Keys of the pixels by path; constant tiles, masks and files that cannot be read have none."""
        keys = {}
        with ThreadPoolExecutor(competition.WORKERS) as pool:
            for done, ((_, path), result) in enumerate(zip(jobs, pool.map(_run, jobs), strict=True), start=1):
                if isinstance(result, FileProblem):
                    self.add_file_problem(result)
                elif result:
                    keys[path] = result
                if progress is not None:
                    progress(done, len(jobs))
        return keys

    def compare_pixels(self, keys: dict[Path, bytes], train: Table) -> None:
        """Note the tiles whose pixels are those of a labeled tile."""
        first: dict[bytes, str] = {}  # id of the first labeled tile with these pixels
        for path, key in keys.items():  # labeled tiles come first
            where, labeled = self.relative(path), path.is_relative_to(self.root / "train")
            if labeled and key not in first:
                first[key] = path.stem
            elif key in first:
                same = first[key]
                fix = "new folds keep such tiles together" if labeled else "it will score too well, its mask is known"
                self.add(where, f"the same pixels as the labeled tile {same}", f"none needed: {fix}", note=True)
                text, other = (train.rows.get(id_, {}).get("rle_mask") for id_ in (path.stem, same))
                if labeled and text != other:
                    what = f"another mask than {same}, with the same pixels"
                    self.add(where, what, "check which is right", note=True)


def _line(table: Table, id_: str) -> str:
    return f"{table.path.name} line {table.lines[id_]}"


def _run(job: _Job) -> FileProblem | bytes | None:
    check, path = job
    try:
        return check(path)
    except FileProblem as problem:
        return problem


def _pixel_key(path: Path) -> bytes:
    return pixel_keys(read_image(path, SHAPE)[None])[0]


def _compare_mask(path: Path, decoded: np.ndarray | None) -> None:
    """Compare a mask file with its decoded `rle_mask` (None: unknown); raise FileProblem where they differ."""
    mask = read_mask(path, SHAPE)
    if decoded is None or np.array_equal(mask, decoded):
        return
    if np.array_equal(mask.T, decoded):
        raise FileProblem(path, "its rle_mask in train.csv is the transpose", "write the RLE column by column")
    what = f"differs from its rle_mask in train.csv in {np.count_nonzero(mask != decoded)} pixels"
    raise FileProblem(path, what, "restore both from one source")
