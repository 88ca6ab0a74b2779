"""Planted faults, each found alone and all together, in a small dataset and in a copy of the real one."""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from saltseg.cli import app
from saltseg.data.check import Problem, check_dataset
from saltseg.data.statistics import statistics
from saltseg.metrics import rle

Expected = list[tuple[str, str]]  # beginning of `where`, pattern of `what`


class Copy:
    """A dataset to spoil; each tile is handed out once, so faults do not hide each other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rows = self.rows("train.csv")[1:]
        masks = rle.decode_batch([row[1] for row in rows])
        self.tiles: Iterator[str] = iter(
            [row[0] for row, mask in zip(rows, masks, strict=True) if not np.array_equal(mask, mask.T)]
        )
        self.tests: Iterator[str] = iter([row[0] for row in self.rows("sample_submission.csv")[1:]])

    def rows(self, name: str) -> list[list[str]]:
        with (self.root / name).open(newline="") as file:
            return list(csv.reader(file))

    def edit(self, name: str, change: Callable[[list[list[str]]], object]) -> None:
        rows = self.rows(name)
        change(rows)
        (self.root / name).unlink()
        with (self.root / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    def set(self, name: str, identity: str, column: int, value: str) -> None:
        """Change one field of the row of `identity`."""
        self.edit(name, lambda rows: next(r for r in rows if r[0] == identity).__setitem__(column, value))

    def put(self, part: str, data: bytes | np.ndarray) -> None:
        """Write a file in place of what is there; a link's target stays as it is."""
        (self.root / part).unlink(missing_ok=True)
        content = data if isinstance(data, bytes) else cv2.imencode(".png", data)[1].tobytes()
        (self.root / part).write_bytes(content)

    def mask_of(self, identity: str) -> np.ndarray:
        return rle.decode(dict(row[:2] for row in self.rows("train.csv"))[identity])


def nothing_to_predict(copy: Copy) -> Expected:
    (copy.root / "solution.csv").unlink()
    for image in (copy.root / "test" / "images").iterdir():
        image.unlink()
    copy.edit("sample_submission.csv", lambda rows: rows.__delitem__(slice(1, None)))
    return [("sample_submission.csv", "no rows")]


def missing_image(copy: Copy) -> Expected:
    part = f"train/images/{next(copy.tiles)}.png"
    (copy.root / part).unlink()
    return [(part, "file is missing")]


def unreadable_image(copy: Copy) -> Expected:
    part = f"train/images/{next(copy.tiles)}.png"
    copy.put(part, (copy.root / part).read_bytes()[:300])
    return [(part, r"not a readable image \(300 bytes\)")]


def image_of_wrong_size(copy: Copy) -> Expected:
    part = f"train/images/{next(copy.tiles)}.png"
    copy.put(part, np.zeros((101, 100), np.uint8))
    return [(part, "size 101x100, not 101x101")]


def colored_image(copy: Copy) -> Expected:
    part = f"train/images/{next(copy.tiles)}.png"
    copy.put(part, np.full((101, 101, 3), [10, 10, 30], np.uint8))
    return [(part, "color channels differ by up to 20")]


def missing_mask(copy: Copy) -> Expected:
    part = f"train/masks/{next(copy.tiles)}.png"
    (copy.root / part).unlink()
    return [(part, "file is missing")]


def unreadable_mask(copy: Copy) -> Expected:
    part = f"train/masks/{next(copy.tiles)}.png"
    copy.put(part, b"")
    return [(part, r"not a readable image \(0 bytes\)")]


def mask_of_wrong_size(copy: Copy) -> Expected:
    part = f"train/masks/{next(copy.tiles)}.png"
    copy.put(part, np.zeros((128, 128), np.uint16))
    return [(part, "size 128x128, not 101x101")]


def mask_not_binary(copy: Copy) -> Expected:
    identity = next(copy.tiles)
    part = f"train/masks/{identity}.png"
    pixels = copy.mask_of(identity).astype(np.uint16) * 65535
    pixels[5, 5] = 32000
    copy.put(part, pixels)
    return [(part, "not binary")]


def mask_other_than_rle(copy: Copy) -> Expected:
    identity = next(copy.tiles)
    part = f"train/masks/{identity}.png"
    mask = copy.mask_of(identity)
    mask[100, 100] ^= 1  # the very last pixel
    copy.put(part, mask.astype(np.uint16) * 65535)
    return [(part, "differs from its rle_mask in train.csv in 1 pixels")]


def transposed_rle(copy: Copy) -> Expected:
    identity = next(copy.tiles)
    text = rle.encode(copy.mask_of(identity).T)
    copy.set("train.csv", identity, 1, text)
    return [(f"train/masks/{identity}.png", "is the transpose")]


def malformed_rle(copy: Copy) -> Expected:
    identity = next(copy.tiles)
    copy.set("train.csv", identity, 1, "5 2 9")
    return [("train.csv line", f"malformed RLE of id {identity}: .*9 has no length")]


def repeated_id(copy: Copy) -> Expected:
    identity = next(copy.tiles)
    copy.edit("train.csv", lambda rows: rows.append(next(r for r in rows if r[0] == identity)))
    return [("train.csv line", f"id {identity} repeated .first in line")]


def row_without_image(copy: Copy) -> Expected:
    copy.edit("train.csv", lambda rows: rows.append(["nosuchtile", "", "", ""][: len(rows[0])]))
    parts = ["train/images/nosuchtile.png", "train/masks/nosuchtile.png"]
    found = [(part, "file is missing") for part in parts]
    return found + [("sections.csv", "no row for id nosuchtile")] * (copy.root / "sections.csv").exists()


def image_without_row(copy: Copy) -> Expected:
    copy.put("train/images/stray.png", np.zeros((101, 101), np.uint8))
    return [("train/images/stray.png", "no row in train.csv")]


def unexpected_column(copy: Copy) -> Expected:
    copy.edit("train.csv", lambda rows: [row.append("note") for row in rows])
    return [("train.csv line 1", "unexpected columns 'id,rle_mask,note'")]


def extra_file(copy: Copy) -> Expected:
    copy.put("train/masks/notes.txt", b"?")
    return [("train/masks/notes.txt", "extra file")]


def missing_test_image(copy: Copy) -> Expected:
    part = f"test/images/{next(copy.tests)}.png"
    (copy.root / part).unlink()
    return [(part, "file is missing")]


def unreadable_test_image(copy: Copy) -> Expected:
    part = f"test/images/{next(copy.tests)}.png"
    copy.put(part, b"<html>please log in</html>")
    return [(part, "not a readable image")]


def unasked_test_image(copy: Copy) -> Expected:
    copy.put("test/images/unasked.png", np.zeros((101, 101), np.uint8))
    return [("test/images/unasked.png", "no row in sample_submission.csv")]


def tile_in_train_and_test(copy: Copy) -> Expected:
    identity = next(copy.tiles)
    copy.edit("sample_submission.csv", lambda rows: rows.append([identity, "1 1"]))
    copy.put(f"test/images/{identity}.png", np.zeros((101, 101), np.uint8))
    if (copy.root / "solution.csv").exists():
        copy.edit("solution.csv", lambda rows: rows.append([identity, "", "Public"]))
    return [("sample_submission.csv line", f"id {identity} is in train.csv too")]


def solution_of_other_ids(copy: Copy) -> Expected:
    identity = next(copy.tests)
    copy.set("solution.csv", identity, 0, "other")
    sample = ("sample_submission.csv", "no row for id other of solution.csv")
    return [("solution.csv", f"no row for id {identity} of sample"), sample]


def wrong_usage(copy: Copy) -> Expected:
    identity = next(copy.tests)
    copy.set("solution.csv", identity, 2, "public")
    return [("solution.csv line", "usage 'public'")]


ON_REAL_DATA = [
    missing_image,
    unreadable_image,
    image_of_wrong_size,
    missing_mask,
    unreadable_mask,
    mask_of_wrong_size,
    mask_not_binary,
    mask_other_than_rle,
    transposed_rle,
    malformed_rle,
    repeated_id,
    row_without_image,
    image_without_row,
    colored_image,
    missing_test_image,
    unexpected_column,
]
FAULTS = [
    *ON_REAL_DATA,
    extra_file,
    unreadable_test_image,
    unasked_test_image,
    tile_in_train_and_test,
    solution_of_other_ids,
    wrong_usage,
]


def assert_exactly(problems: list[Problem], expected: Expected) -> None:
    """Each expected problem is there once, and there is no other."""
    left = [found for problem in problems for found in problem.places if not problem.is_note]
    for where, what in expected:
        hits = [found for found in left if found[0].startswith(where) and re.search(what, found[1])]
        assert hits, f"not found: {where}: {what}\n" + "\n".join(map(str, problems))
        left.remove(hits[0])
    assert not left
    assert len({problem.fix for problem in problems}) == len(problems)
    assert all(problem.fix for problem in problems)


@pytest.mark.parametrize("name", [".", "./", ".."])
def test_the_folder_that_one_stands_in_is_checked(make_dataset, monkeypatch, capsys, name):
    root = make_dataset()
    monkeypatch.chdir(root / "train" if name == ".." else root)
    assert app.call(["check", name]) == 0
    assert f"{root}: no problems" in capsys.readouterr().out


def test_a_valid_dataset_has_no_problems_and_these_counts(make_dataset):
    root = make_dataset(n_train=24, n_test=6)  # a constant tile and a full mask among them
    assert check_dataset(root) == []
    counts = statistics(root)
    assert (counts.train, counts.test, counts.constant_tiles) == (24, 6, 1)
    assert (counts.sections, counts.without_depth, counts.solution) == (10, 0, True)
    masks = rle.decode_batch([row[1] for row in Copy(root).rows("train.csv")[1:]])
    assert counts.empty_share == 1 / 24
    assert counts.mean_coverage == pytest.approx(masks.mean())
    for name in ("depths", "sections", "solution"):
        (root / f"{name}.csv").unlink()
    assert check_dataset(root) == []
    counts = statistics(root)
    assert (counts.sections, counts.without_depth, counts.solution) == (None, None, False)


@pytest.mark.parametrize("fault", [*FAULTS, nothing_to_predict], ids=lambda fault: fault.__name__)
def test_each_fault_is_found_and_nothing_else(make_dataset, fault):
    root = make_dataset()
    expected = fault(Copy(root))
    assert_exactly(check_dataset(root), expected)


def test_all_faults_are_found_at_once(make_dataset):
    copy = Copy(make_dataset(n_train=30, n_test=8))
    expected = [found for fault in FAULTS for found in fault(copy)]
    assert len(expected) >= 24
    assert_exactly(check_dataset(copy.root), expected)


@pytest.mark.parametrize("part", ["train/images", "train/masks", "test/images"])
def test_a_missing_folder_is_one_problem(make_dataset, part):
    root = make_dataset()
    shutil.rmtree(root / part)
    assert_exactly(check_dataset(root), [(part, "folder is missing")])


def test_unusable_tables_do_not_hide_the_rest(make_dataset):
    root = make_dataset()
    image = sorted((root / "train/images").iterdir())[0]
    image.write_bytes(b"?")
    found = (f"train/images/{image.name}", "not a readable")
    for data, what in [(b"id\xff,rle_mask\n", "not a readable CSV"), (b"name,mask\n", "unexpected columns")]:
        (root / "train.csv").write_bytes(data)
        assert_exactly(check_dataset(root), [("train.csv", what), found])
    (root / "train.csv").unlink()
    assert_exactly(check_dataset(root), [("train.csv", "file is missing"), found])
    assert_exactly(check_dataset(root / "nowhere"), [(str(root / "nowhere"), "folder is missing")])


def test_dangling_links_and_folders_among_the_images(make_dataset):
    root = make_dataset()
    first, second = sorted((root / "train/images").iterdir())[:2]
    first.unlink()
    first.symlink_to(root / "gone.png")
    second.unlink()
    second.mkdir()
    expected = [
        (f"train/images/{first.name}", "file is missing"),
        (f"train/images/{second.name}", "cannot be"),
    ]
    assert_exactly(check_dataset(root), expected)


def test_progress_counts_every_tile(make_dataset):
    calls = []
    check_dataset(make_dataset(n_train=5, n_test=3), progress=lambda *call: calls.append(call))
    assert calls == [(done, 13) for done in range(1, 14)]


def test_the_command_lists_everything_and_leaves_with_2(make_dataset, tmp_path, capsys):
    root = make_dataset("mine")
    assert app.call(["check", "mine", "--input", str(tmp_path / "input")]) == 0
    valid = capsys.readouterr()
    assert valid.err == ""
    assert "24 labeled tiles: 4.2% without salt" in valid.out
    assert "next: saltseg run unet --data mine" in valid.out
    copy = Copy(root)
    expected = [problem for fault in ON_REAL_DATA for problem in fault(copy)]
    assert app.call(["check", str(root)]) == 2  # a path is accepted too
    faulty = capsys.readouterr().out
    assert f"{len(expected)} problems" in faulty
    for where, what in expected:
        lines = [line for line in faulty.splitlines() if line.startswith(f"  {where}")]
        assert any(re.search(what, line) for line in lines), (where, what)
    assert faulty.count("fix: ") >= 10
    assert "next:" not in faulty
    assert app.call(["check", "other", "--input", str(tmp_path / "input")]) == 2
    assert "no dataset 'other'" in capsys.readouterr().err


@pytest.mark.slow
def test_real_data_pass_and_planted_faults_in_a_copy_are_found(real_data, tmp_path):
    for part in ("train/images", "train/masks", "test/images"):
        (tmp_path / part).mkdir(parents=True)
        for path in (real_data / part).iterdir():
            (tmp_path / part / path.name).symlink_to(path)
    for name in ("train.csv", "sample_submission.csv", "depths.csv"):
        (tmp_path / name).write_bytes((real_data / name).read_bytes())
    assert check_dataset(tmp_path) == []
    copy = Copy(tmp_path)
    expected = [found for fault in ON_REAL_DATA for found in fault(copy)]
    assert len(ON_REAL_DATA) >= 12
    assert_exactly(check_dataset(tmp_path), expected)
