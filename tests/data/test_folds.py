"""Cross-validation splits, by properties and by hand; tables are saved once and read in any order of ids."""

import csv
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saltseg.config import FoldsConfig
from saltseg.data import folds
from saltseg.data.folds import Folds
from saltseg.errors import InputError

CLASSES = st.lists(st.integers(0, 10), min_size=2, max_size=200).map(np.array)
IDS = tuple(f"{letter}{k}" for letter in "abc" for k in range(10))
COUNT = FoldsConfig(count=3)


def masks(n: int = len(IDS)) -> np.ndarray:
    """uint8 (n, 10, 10) with 0, 1, 10, 11, 30, 100, 0, 1, … pixels of salt."""
    area = np.resize([0, 1, 10, 11, 30, 100], n)
    return (np.arange(100) < area[:, None]).astype(np.uint8).reshape(n, 10, 10)


def images(n: int = len(IDS)) -> np.ndarray:
    """uint8 (n, 10, 10), all different and none constant."""
    return np.random.default_rng(0).integers(0, 256, (n, 10, 10), dtype=np.uint8)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def rewrite(path: Path, table: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


# ---------------------------------------------------------------- schemes


@settings(deadline=None)
@given(CLASSES, st.integers(2, 10), st.integers(0, 5))
def test_stratified_folds_are_even_in_size_and_in_every_class(classes: np.ndarray, count: int, seed: int) -> None:
    fold = folds.stratified(classes, count, seed)
    assert set(fold) <= set(range(count))
    for wanted in (np.ones(len(classes), bool), *(classes == c for c in np.unique(classes))):
        sizes = np.bincount(fold[wanted], minlength=count)
        assert sizes.max() - sizes.min() <= 1


def test_stratified_depends_on_the_seed_and_is_random_within_a_class() -> None:
    classes = np.zeros(60, int)
    first = folds.stratified(classes, 3, 0)
    assert np.array_equal(first, folds.stratified(classes, 3, 0))
    assert not np.array_equal(first, folds.stratified(classes, 3, 1))
    assert not np.array_equal(first, np.arange(60) % 3)  # not merely in the order of the file


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=2, max_size=80), st.integers(0, 3))
def test_grouped_never_splits_a_group_and_leaves_no_fold_empty(table: list[tuple[int, int]], seed: int) -> None:
    groups, classes = np.array(table).T
    count = min(4, len(set(groups.tolist())))
    if count < 2:
        return
    fold = folds.grouped(classes, groups.astype(str), count, seed)
    assert all(len(set(fold[groups == group].tolist())) == 1 for group in groups)
    assert set(fold.tolist()) == set(range(count))


def grouped_by_hand(sizes: dict[str, dict[int, int]], count: int) -> set[frozenset[str]]:
    """Which groups share a fold, when group -> {class: images}."""
    images = [(group, c) for group, per_class in sizes.items() for c, n in per_class.items() for _ in range(n)]
    groups, classes = (np.array(column) for column in zip(*images, strict=True))
    fold = folds.grouped(classes, groups, count, 0)
    return {frozenset(groups[fold == k].tolist()) for k in range(count)}


def test_grouped_by_hand() -> None:
    # One class, largest first: 6 | 5, then 4 to the 5, then 3 to the 6: 9 and 9.
    assert grouped_by_hand({"a": {0: 6}, "b": {0: 5}, "c": {0: 4}, "d": {0: 3}}, 2) == {
        frozenset("ad"),
        frozenset("bc"),
    }
    # Two classes: by size alone it would be {a, d} and {b, c}, a fold for each class.
    assert grouped_by_hand({"a": {0: 10}, "b": {1: 8}, "c": {1: 6}, "d": {0: 4}}, 2) == {
        frozenset("ac"),
        frozenset("bd"),
    }


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 groups cannot fill 3 folds; lower folds.count or use"):
        folds.grouped(np.zeros(4, int), np.array(list("aabb")), 3, 0)


def test_holdout_validates_exactly_the_share() -> None:
    fold = folds.holdout(4000, 0.1, 0)
    assert Counter(fold.tolist()) == {0: 400, -1: 3600}
    assert np.array_equal(fold, folds.holdout(4000, 0.1, 0))
    assert not np.array_equal(fold, folds.holdout(4000, 0.1, 1))
    assert Counter(folds.holdout(10, 0.01, 0).tolist()) == {0: 1, -1: 9}  # one at least
    with pytest.raises(InputError, match=r"folds.holdout=0.99 leaves nothing to train on of 10 images; lower it"):
        folds.holdout(10, 0.99, 0)


# ---------------------------------------------------------------- the saved table


def test_a_new_table_says_what_it_is_made_of(tmp_path: Path) -> None:
    path = tmp_path / "folds" / "x.csv"
    sections = {id_: f"line {id_[0]}" for id_ in IDS}
    made = folds.load_or_create(path, replace(COUNT, scheme="grouped"), IDS, images(), masks(), sections)
    header, *table = rows(path)
    assert header == ["id", "fold", "coverage_class", "group"]
    assert [row[0] for row in table] == list(IDS)
    assert [row[1] for row in table] == list(map(str, made.fold))
    assert [row[2] for row in table[:6]] == ["0", "1", "1", "2", "3", "10"]  # ceil(10 * coverage)
    assert [row[3] for row in table] == [sections[id_] for id_ in IDS]
    assert made.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_folds_that_sections_do_not_decide_are_the_same_when_sections_become_known(tmp_path: Path) -> None:
    sections = {id_: f"line {id_[0]}" for id_ in IDS}
    before = folds.load_or_create(tmp_path / "a.csv", COUNT, IDS, images(), masks(), None)
    after = folds.load_or_create(tmp_path / "b.csv", COUNT, IDS, images(), masks(), sections)
    assert before.digest == after.digest  # so that a run goes on where its table is made again


@pytest.mark.parametrize("scheme", ["stratified", "grouped", "holdout"])
def test_every_scheme_splits_into_two_sides_without_overlap(scheme: str, tmp_path: Path) -> None:
    config = replace(COUNT, scheme=scheme, holdout=0.2)
    sections = {id_: id_[0] for id_ in IDS}
    made = folds.load_or_create(tmp_path / "x.csv", config, IDS, images(), masks(), sections)
    assert made.numbers == ([0] if scheme == "holdout" else [0, 1, 2])
    validated: Counter[int] = Counter()
    for number in made.numbers:
        training, validating = made.split(number, config)
        assert sorted([*training, *validating]) == list(range(30))
        assert not set(training) & set(validating)
        assert list(training) == sorted(training)
        validated.update(validating.tolist())
        if scheme == "grouped":
            assert not {IDS[i][0] for i in training} & {IDS[i][0] for i in validating}
    assert set(validated.values()) == {1}
    assert len(validated) == (6 if scheme == "holdout" else 30)


def test_a_saved_table_is_kept_and_joined_by_id(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    made = folds.load_or_create(path, COUNT, IDS, images(), masks(), None)
    before = path.read_bytes()
    shuffled = tuple(np.random.default_rng(0).permutation(IDS).tolist())
    again = folds.load_or_create(path, replace(COUNT, seed=9), shuffled, images(), masks(), None)
    assert path.read_bytes() == before
    assert again.ids == shuffled
    assert dict(zip(again.ids, again.fold, strict=True)) == dict(zip(made.ids, made.fold, strict=True))
    assert again.digest == made.digest


def test_a_table_in_another_order_means_the_same_but_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    made = folds.load_or_create(path, COUNT, IDS, images(), masks(), None)
    header, *table = rows(path)
    rewrite(path, [header, *reversed(table)])
    again = folds.read_table(path, IDS)
    assert np.array_equal(again.fold, made.fold)
    assert again.digest != made.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[:-1], r"differ in 1 ids, the first 'c9'; delete .*x.csv to make new folds"),
        (lambda table: [*table, ["new", "0", "0", ""]], r"differ in 1 ids, the first 'new'"),
        (lambda table: [*table[:-1], ["zz", "0", "0", ""]], r"differ in 2 ids, the first 'c9'"),
        (lambda table: [*table, table[3]], r"lists an id twice; delete .*, and train under a new --name"),
        (lambda table: [["name", *table[0][1:]], *table[1:]], r"is not a table id,fold,coverage_class,group"),
        (lambda table: [*table[:-1], ["c9", "first", "0", ""]], r"is not a table id,fold,coverage_class,group"),
        (lambda table: [*table[:-1], ["c9"]], r"is not a table id,fold,coverage_class,group"),
    ],
    ids=["missing", "foreign", "exchanged", "twice", "header", "not a number", "short row"],
)
def test_a_changed_table_is_refused(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.csv"
    folds.load_or_create(path, COUNT, IDS, images(), masks(), None)
    rewrite(path, change(rows(path)))
    with pytest.raises(InputError, match=message):
        folds.load_or_create(path, COUNT, IDS, images(), masks(), None)


def test_a_binary_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"id,fold\n\xff\xfe,0\n")
    with pytest.raises(InputError, match=r"x\.csv"):
        folds.read_table(tmp_path / "x.csv", IDS)


def test_groups_that_are_not_known_are_asked_for(tmp_path: Path) -> None:
    grouped = replace(COUNT, scheme="grouped")
    with pytest.raises(InputError, match=r"folds.scheme=grouped needs sections.csv \(id,section\)"):
        folds.load_or_create(tmp_path / "x.csv", grouped, IDS, images(), masks(), None)
    with pytest.raises(InputError, match=r"sections.csv lacks 20 ids, the first 'b0'; add them"):
        folds.load_or_create(tmp_path / "x.csv", grouped, IDS, images(), masks(), dict.fromkeys(IDS[:10], "s"))
    assert not (tmp_path / "x.csv").exists()


# ---------------------------------------------------------------- tiles that are the same


def with_copies() -> np.ndarray:
    """`images()` in which a0, a1 and c9 are one picture, b0 and b1 another, and all of c0 to c4 are black."""
    pixels = images()
    pixels[[1, 29]] = pixels[0]
    pixels[11] = pixels[10]
    pixels[20:25] = 0
    return pixels


@pytest.mark.parametrize("scheme", ["stratified", "holdout", "grouped"])
@pytest.mark.parametrize("seed", range(5))
def test_tiles_with_the_same_pixels_share_a_fold(scheme: str, seed: int, tmp_path: Path) -> None:
    config = replace(COUNT, scheme=scheme, holdout=0.3, seed=seed)
    sections = {id_: str(k // 2) for k, id_ in enumerate(IDS)}
    table = folds.load_or_create(tmp_path / "x.csv", config, IDS, with_copies(), masks(), sections)
    assert len(set(table.fold[[0, 1, 29]].tolist())) == len(set(table.fold[[10, 11]].tolist())) == 1
    assert len(set(table.fold[20:25].tolist())) > 1  # black tiles are not copies of one
    if scheme == "grouped":
        for k in range(0, 30, 2):
            assert table.fold[k] == table.fold[k + 1]
        assert table.fold[28] == table.fold[0]  # its section holds c9
    if scheme == "stratified":
        assert np.bincount(table.fold).max() - np.bincount(table.fold).min() <= 3


def test_without_copies_the_folds_are_those_of_the_scheme_itself(tmp_path: Path) -> None:
    classes = np.ceil(10 * masks().mean(axis=(1, 2))).astype(int)
    table = folds.load_or_create(tmp_path / "x.csv", COUNT, IDS, images(), masks(), None)
    assert np.array_equal(table.fold, folds.stratified(classes, 3, COUNT.seed))
    # As written before tiles were compared: must never change, or runs lose their folds.
    assert "".join(map(str, table.fold)) == "021012102021101202012120202101"
    groups = np.array([id_[0] + str(k // 3) for k, id_ in enumerate(IDS)])
    config = replace(COUNT, scheme="grouped")
    sections = dict(zip(IDS, groups.tolist(), strict=True))
    table = folds.load_or_create(tmp_path / "y.csv", config, IDS, images(), masks(), sections)
    assert np.array_equal(table.fold, folds.grouped(classes, groups, 3, config.seed))


def test_fewer_images_to_train_on_are_a_part_of_more() -> None:
    table = folds.Folds(IDS, np.arange(30) % 3, "")
    everything, validating = table.split(1, COUNT)
    few, many = (table.split(1, replace(COUNT, train_images=count))[0] for count in (5, 12))
    assert (len(few), len(many), len(everything)) == (5, 12, 20)
    assert set(few) < set(many) < set(everything)
    assert list(many) == sorted(many)
    assert list(many) != list(everything[:12])
    assert not set(many) & set(validating)
    assert list(table.split(1, replace(COUNT, train_images=20))[0]) == list(everything)
    assert list(table.split(1, replace(COUNT, train_images=5, seed=1))[0]) != list(few)
    with pytest.raises(InputError, match=r"folds.train_images is 21; fold 1 has 20, lower it or use 0"):
        table.split(1, replace(COUNT, train_images=21))


def test_fewer_than_two_images_to_train_on_are_refused() -> None:
    table = Folds(tuple("abc"), np.array([0, 1, 1]), "")
    assert len(table.split(0, FoldsConfig())[0]) == 2
    with pytest.raises(InputError, match=r"fold 1 has 1 training images; batch norm needs at least two"):
        table.split(1, FoldsConfig())
    with pytest.raises(InputError, match=r"fold 0 has 1 training images"):
        table.split(0, FoldsConfig(train_images=1))


def test_a_wrong_fold_number_names_the_right_ones() -> None:
    table = folds.Folds(("a", "b", "c"), np.array([1, 0, -1]), "")
    for wrong in (2, -1):
        with pytest.raises(InputError, match=rf"no fold {wrong}; this table has folds 0, 1"):
            table.split(wrong, COUNT)


def test_every_scheme_has_its_own_file(tmp_path: Path) -> None:
    names = [
        folds.table_path(tmp_path, "tgs", config).relative_to(tmp_path).as_posix()
        for config in (
            FoldsConfig(),
            FoldsConfig(count=3),
            FoldsConfig(scheme="grouped"),
            FoldsConfig(scheme="holdout", count=3),
            FoldsConfig(seed=2),
        )
    ]
    assert names == [
        "folds/tgs-stratified5.csv",
        "folds/tgs-stratified3.csv",
        "folds/tgs-grouped5.csv",
        "folds/tgs-holdout0.1.csv",
        "folds/tgs-stratified5-seed2.csv",
    ]
