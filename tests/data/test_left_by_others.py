"""A dataset as macOS, Windows and a spreadsheet leave it: each cause is named once, hidden files never."""

import csv
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_dataset import write_png, write_rows

from saltseg.cli import app
from saltseg.data import competition, image_files, install, names, unlabeled
from saltseg.data.check import check_dataset
from saltseg.errors import InputError

HIDDEN = (
    ".DS_Store",
    "._x.png",
    "Thumbs.db",
    "desktop.ini",
    "Icon\r",
    ".~lock.train.csv#",
    "~$train.csv",
    "ehthumbs.db",
)


def litter(root: Path) -> None:
    """Put hidden files into every folder."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for name in HIDDEN:
            (folder / name).write_bytes(b"\0\5\x16\7 not yours")
    (root / "__MACOSX" / "train").mkdir(parents=True)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def rename_ids(root: Path, new: Callable[[int, str], str], tables: tuple[str, ...] = ()) -> list[str]:
    """Give every labeled tile another name, in all tables (or those) and folders; return the names."""
    labeled = [row[0] for row in rows(root / "train.csv")[1:]]
    name_of_id = {id_: new(k, id_) for k, id_ in enumerate(labeled)}
    for table in root.glob("*.csv"):
        write_rows(table, [[name_of_id.get(row[0], row[0]), *row[1:]] for row in rows(table)])
    for part in ("images", "masks"):
        for path in list((root / "train" / part).iterdir()):
            path.rename(path.with_name(f"{name_of_id[path.stem]}.png"))
    return list(name_of_id.values())


def change_ids(table: Path, new: Callable[[str], str]) -> None:
    """What a spreadsheet or a person does to the ids of one table."""
    header, *body = rows(table)
    write_rows(table, [header, *([new(row[0]), *row[1:]] for row in body)])


def causes(root: Path) -> dict[str, int]:
    """How often each cause was found, by its fix."""
    return {problem.fix: len(problem.places) for problem in check_dataset(root) if not problem.is_note}


def test_hidden_files_change_nothing_and_stop_nothing(make_dataset, tmp_path):
    root = make_dataset(n_train=4, n_test=2)
    before = competition.fingerprint(root)
    litter(root)
    assert check_dataset(root) == []
    assert competition.fingerprint(root) == before
    assert install.link(tmp_path / "other", root, "tgs")[1] == "linked"
    assert len(list(image_files.read_folder(root / "train/images"))) == 4
    assert len(unlabeled.read(root / "test/images").ids) == 2
    shutil.copytree(root, root.parent / ".trash")
    assert competition.list_datasets(root.parent) == ["small"]


@pytest.mark.parametrize("stray", ["notes.txt", "more/notes.txt", "unnamed.png"])
def test_files_that_no_table_names_leave_the_fingerprint_as_it_is(make_dataset, stray):
    root = make_dataset(n_train=2, n_test=1)
    before = competition.manifest(root)
    for part in ("train/images", "train/masks", "test/images"):
        (root / part / stray).parent.mkdir(exist_ok=True)
        (root / part / stray).write_text("")
    assert competition.differences(before, competition.manifest(root)) == []


# ---------------------------------------------------------------- one cause


def test_ids_with_the_suffix_of_a_file_are_one_problem(make_dataset):
    root = make_dataset(n_train=5, n_test=3)
    change_ids(root / "train.csv", lambda id_: f"{id_}.png")
    (problem,) = check_dataset(root)
    assert (problem.fix, len(problem.places)) == ("write ids without the suffix of a file", 5)
    assert str(problem).startswith("train.csv line 2: id '")
    assert "(5 such)" in str(problem)


def test_files_with_another_suffix_are_one_problem(make_dataset):
    root = make_dataset(n_train=5, n_test=3)
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    assert causes(root) == {"name every file <id>.png, and save other formats as PNG": 13}


def test_names_in_another_unicode_form_are_one_problem(make_dataset):
    root = make_dataset(n_train=5, n_test=3)
    rename_ids(root, lambda k, _: f"ligne_é{k}")
    for path in (root / "train/images").iterdir():
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    assert causes(root) == {"write both in the same Unicode form (NFC)": 5}


@pytest.mark.parametrize(
    ("original", "mangled"),
    [
        ("00{}", lambda id_: str(int(id_))),
        ("{}e5", lambda id_: str(int(float(id_)))),
        ("{}e5", lambda id_: f"{float(id_):.2E}"),
        ("{}0000000000", lambda id_: f"{float(id_):.1E}"),
        ("1234567890{}", lambda id_: f"{float(id_):.5E}"),  # all of them become one number
    ],
    ids=["007", "1e5", "1.00E+05", "1.0E+10", "rounded"],
)
def test_ids_that_a_spreadsheet_turned_into_numbers_are_one_problem(make_dataset, original, mangled):
    root = make_dataset(n_train=5, n_test=3)
    rename_ids(root, lambda k, _: original.format(k + 1))
    change_ids(root / "train.csv", mangled)
    assert causes(root) == {names.FIXES[names.AS_NUMBER]: 5}


@pytest.mark.parametrize("table", ["solution.csv", "sections.csv"])
@pytest.mark.parametrize(
    ("new", "fix"),
    [
        (lambda id_: f"{id_}.png", names.ID_SUFFIX),
        (str.upper, names.CASE),
        (lambda id_: str(int(id_[2:])) if id_.startswith("00") else id_, names.AS_NUMBER),
    ],
    ids=["suffix", "case", "number"],
)
def test_ids_of_another_table_that_differ_in_writing_are_one_problem(make_dataset, table, new, fix):
    root = make_dataset(n_train=5, n_test=3)
    if fix == names.AS_NUMBER:
        rename_ids(root, lambda k, _: f"00{k + 1}")
        sample = rows(root / "sample_submission.csv")[1:]
        for k, (id_, _) in enumerate(sample):
            (root / "test/images" / f"{id_}.png").rename(root / "test/images" / f"0090{k}.png")
            for path in root.glob("*.csv"):
                change_ids(path, lambda old, id_=id_, k=k: f"0090{k}" if old == id_ else old)  # type: ignore[misc]
    assert check_dataset(root) == []
    change_ids(root / table, new)
    (problem,) = check_dataset(root)
    assert problem.fix == names.FIXES[fix]
    assert len(problem.places) in (3, 5)


# ---------------------------------------------------------------- duplicates


def test_tiles_with_the_same_pixels_are_noted(make_dataset):
    root = make_dataset(n_train=6, n_test=3)
    train, test = [*sorted(competition.train_ids(root))], competition.test_ids(root)
    train.insert(0, train.pop(train.index(competition.train_ids(root)[0])))
    original = (root / "train/images" / f"{train[2]}.png").read_bytes()
    (root / "train/images" / f"{train[4]}.png").write_bytes(original)
    write_png(
        root / "test/images" / f"{test[1]}.png", image_files.read_image(root / "train/images" / f"{train[2]}.png")
    )
    for id_ in (train[5], test[0]):  # constant tiles are all alike: train[0] is one
        write_png(
            root / ("train" if id_ in train else "test") / "images" / f"{id_}.png", np.zeros((101, 101), np.uint8)
        )
    notes = {problem.places[0]: problem for problem in check_dataset(root)}
    assert all(problem.is_note for problem in notes.values())
    assert set(notes) == {
        (f"train/images/{train[4]}.png", f"the same pixels as the labeled tile {train[2]}"),
        (f"train/images/{train[4]}.png", f"another mask than {train[2]}, with the same pixels"),
        (f"test/images/{test[1]}.png", f"the same pixels as the labeled tile {train[2]}"),
    }
    assert install.link(root.parent / "elsewhere", root)[1] == "linked"  # notes stop nothing


# ---------------------------------------------------------------- everything at once


@pytest.fixture
def neglected(make_dataset: Callable[..., Path]) -> Path:
    """Numbered tiles, copied by macOS and Windows, its tables saved by a spreadsheet."""
    root = make_dataset("neglected", n_train=12, n_test=6)
    labeled = rename_ids(root, lambda k, _: f"00{k + 1}" if k < 4 else f"Profil_é{k}")
    litter(root)
    for path in (root / "train/images").glob("Profil*"):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    for path in list((root / "test/images").glob("[!._]*.png")):
        path.rename(path.with_suffix(".PNG"))
    for id_ in labeled[4:6]:
        (root / "train/masks" / f"{id_}.png").rename(root / "train/masks" / f"{id_.lower()}.png")
    (root / "train/masks" / f"{labeled[6]}.png").rename(root / "train/masks" / f"{labeled[6]} .png")
    change_ids(root / "train.csv", lambda id_: str(int(id_)) if id_.startswith("00") else id_)
    change_ids(root / "sample_submission.csv", lambda id_: f"{id_}.png")
    depths = rows(root / "depths.csv")
    write_rows(
        root / "depths.csv", [["", *depths[0]], *([str(k), id_, f"{z}.0"] for k, (id_, z) in enumerate(depths[1:]))]
    )
    sections = rows(root / "sections.csv")
    write_rows(root / "sections.csv", [sections[0], *([row[0], "", "", ""] for row in sections[1:])])
    solution = rows(root / "solution.csv")
    write_rows(
        root / "solution.csv", [["Usage", " RLE_mask ", "ID"], *([u, text, id_] for id_, text, u in solution[1:])]
    )
    (root / "train/masks" / "copy of notes.txt").write_text("")
    return root


def test_everything_at_once_is_named_once_each(neglected, capsys):
    problems = check_dataset(neglected)
    found = {problem.fix: (problem.places[0][0], len(problem.places)) for problem in problems if not problem.is_note}
    profile = unicodedata.normalize("NFD", "Profil_é10.png")
    assert found == {
        names.FIXES[names.AS_NUMBER]: ("train.csv line 2", 4),
        names.FIXES[names.ID_SUFFIX]: ("sample_submission.csv line 2", 6),
        names.FIXES[names.FORM]: (f"train/images/{profile}", 8),
        names.FIXES[names.CASE]: ("train/masks/profil_é4.png", 2),
        names.FIXES[names.BLANKS]: ("train/masks/Profil_é6 .png", 1),
        names.FIXES[names.FILE_SUFFIX]: (found[names.FIXES[names.FILE_SUFFIX]][0], 6),
        "move it elsewhere": ("train/masks/copy of notes.txt", 1),
    }
    notes = {problem.places[0][0]: len(problem.places) for problem in problems if problem.is_note}
    assert notes == {"depths.csv line 1": 1, "depths.csv line 2": 18, "sections.csv line 2": 18}
    assert app.call(["check", str(neglected)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{neglected}: 28 problems"
    assert len(lines) == 1 + 10 * 3 + 7  # a blank, the fix and an example each, and how many more
    assert sum("fix: " in line for line in lines) == len(problems)
    with pytest.raises(InputError, match=r"problems: 28, first: .* \| .* \| .*saltseg check"):
        install.link(neglected.parent / "other", neglected)


def test_following_the_advice_makes_it_a_dataset(neglected):
    change_ids(neglected / "train.csv", lambda id_: f"00{id_}" if len(id_) == 1 else id_)
    change_ids(neglected / "sample_submission.csv", lambda id_: id_.removesuffix(".png"))
    for path in [path for path in neglected.rglob("*.[pP][nN][gG]") if path.name != "._x.png"]:
        name = unicodedata.normalize("NFC", path.name).replace("profil", "Profil").replace(" .", ".")
        path.rename(path.with_name(name.replace(".PNG", ".png")))
    (neglected / "train/masks" / "copy of notes.txt").unlink()
    assert [problem.is_note for problem in check_dataset(neglected)] == [True] * 3
    assert len(competition.read_train(neglected).ids) == 12
