"""Reading a dataset: exact pixels, the order of the tables, every error with its message."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from saltseg.data import competition, tables
from saltseg.errors import InputError
from saltseg.metrics import rle


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def put(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def test_train_is_in_the_order_of_the_table_with_the_pixels_as_stored(make_dataset):
    root = make_dataset()
    rows = rows_of(root / "train.csv")
    with (root / "train.csv").open("w", newline="") as file:  # the order of neither names nor depths
        csv.writer(file).writerows([rows[0], *sorted(rows[1:], key=lambda row: row[0][::-1])])
    labeled = competition.read_train(root)
    assert labeled.ids == tuple(sorted((row[0] for row in rows[1:]), key=lambda identity: identity[::-1]))
    texts = dict(rows[1:])
    for identity, image, mask in zip(labeled.ids, labeled.images, labeled.masks, strict=True):
        stored = cv2.imread(str(root / "train/images" / f"{identity}.png"), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(image, stored)
        assert rle.encode(mask) == texts[identity]


def test_test_images_are_in_the_order_of_the_sample(make_dataset):
    root = make_dataset()
    rows = rows_of(root / "sample_submission.csv")
    with (root / "sample_submission.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *rows[:0:-1]])
    images = competition.read_test(root)
    assert images.ids == tuple(row[0] for row in rows[:0:-1])
    stored = cv2.imread(str(root / "test/images" / f"{images.ids[0]}.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(images.images[0], stored)


def test_masks_come_from_the_rle_where_there_is_no_folder_of_them(make_dataset):
    root = make_dataset()
    with_folder = competition.read_train(root)
    shutil.rmtree(root / "train/masks")
    without = competition.read_train(root)
    np.testing.assert_array_equal(without.masks, with_folder.masks)
    assert without.ids == with_folder.ids


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((101, 100), np.uint8), "size 101x100, not 101x101"),
        (np.zeros((101, 101), np.uint16), "uint16 pixels, not 8-bit"),
        (np.full((101, 101, 3), [7, 7, 9], np.uint8), "channels differ by up to 2; save it as grayscale"),
    ],
)
def test_an_image_that_is_no_tile_is_named(make_dataset, pixels, message):
    root = make_dataset("mine")
    identity = rows_of(root / "train.csv")[3][0]
    put(root / "train/images" / f"{identity}.png", pixels)
    with pytest.raises(InputError, match=f"{identity}.png: .*{message}.*saltseg check mine lists every problem"):
        competition.read_train(root)


def test_missing_and_damaged_files_are_named(make_dataset):
    root = make_dataset()
    identity = rows_of(root / "sample_submission.csv")[2][0]
    path = root / "test/images" / f"{identity}.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=f"{identity}.png: not a readable image .200 bytes."):
        competition.read_test(root)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=f"{identity}.png: not a readable image .0 bytes."):
        competition.read_test(root)
    path.unlink()
    with pytest.raises(InputError, match=f"{identity}.png: file is missing"):
        competition.read_test(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,mask\na,1 1\n", "unexpected columns 'id,mask'; make the first line id,rle_mask"),
        ("", "unexpected columns ''; make the first line id,rle_mask"),
        ("id,rle_mask\na,1 1\na,\n", r"line 3: id a repeated \(first in line 2\)"),
        ("id,rle_mask\n,1 1\n", "line 2: id '' is no file name"),
        ("id,rle_mask\na\n", "line 2: 1 fields, not 2"),
    ],
)
def test_a_broken_table_is_refused(make_dataset, text, message):
    root = make_dataset()
    (root / "train.csv").write_text(text)
    with pytest.raises(InputError, match=f"train.csv.*{message}"):
        competition.read_train(root)


def test_optional_tables(make_dataset):
    root = make_dataset(n_train=4, n_test=2)
    train = [row[0] for row in rows_of(root / "train.csv")[1:]]
    test = tuple(row[0] for row in rows_of(root / "sample_submission.csv")[1:])
    depths, sections = competition.read_depths(root), competition.read_sections(root)
    assert [depths[identity] for identity in (*train, *test)] == [50, 51, 52, 53, 54, 55]
    assert [sections[identity] for identity in train] == ["line 0", "line 0", "line 0", "line 1"]
    for name in ("depths", "sections"):
        (root / f"{name}.csv").unlink()
    assert competition.read_depths(root) is None
    assert competition.read_sections(root) is None


def test_dataset_root_says_what_there_is_and_how_to_get_more(make_dataset, tmp_path):
    make_dataset("one", n_train=2)
    root = make_dataset("two", n_train=2)
    assert competition.dataset_root(tmp_path / "input", "two") == root
    with pytest.raises(InputError, match=r"no dataset 'tgs' .*there: one, two.*--source kaggle --name tgs"):
        competition.dataset_root(tmp_path / "input", "tgs")
    with pytest.raises(InputError, match=r"there: none.*--source synthetic --name demo"):
        competition.dataset_root(tmp_path / "nowhere", "demo")
    (root / "train.csv").unlink()
    with pytest.raises(InputError, match=r"two has no train.csv"):
        competition.dataset_root(tmp_path / "input", "two")
    (tmp_path / "input/gone").symlink_to(tmp_path / "deleted")
    with pytest.raises(InputError, match=r"gone is a link to .*deleted, which is gone"):
        competition.dataset_root(tmp_path / "input", "gone")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../tgs", "a\\b", ".hidden", "/tmp", "a b", "tgs\n"])
def test_dataset_names_are_no_paths(name, tmp_path):
    with pytest.raises(InputError, match="dataset name"):
        competition.dataset_root(tmp_path, name)


def test_fingerprint_knows_the_data_and_not_the_place(make_dataset, tmp_path):
    root = make_dataset(n_train=3, n_test=2)
    first = competition.fingerprint(root)
    assert len(first) == 64
    shutil.copytree(root, tmp_path / "copy")
    assert competition.fingerprint(tmp_path / "copy") == first


def edit(path: Path, change: Callable[[list[list[str]]], object]) -> None:
    """Change the rows of a table, which is then written as no other program writes it."""
    rows = rows_of(path)
    change(rows)
    path.write_text("\ufeff" + "\r\n".join(",".join(f'"{cell}"' for cell in row) for row in rows), newline="")


def swap_rows(rows: list[list[str]]) -> None:
    rows[1:3] = rows[2:0:-1]


def test_fingerprint_covers_what_training_and_prediction_read(make_dataset):
    root = make_dataset(n_train=3, n_test=2)
    train, test = competition.train_ids(root), competition.test_ids(root)
    before, first = competition.manifest(root), competition.fingerprint(root)
    mask, image = root / f"train/masks/{train[2]}.png", root / f"test/images/{test[0]}.png"
    mask_bytes, image_bytes, table = mask.read_bytes(), image.read_bytes(), (root / "train.csv").read_bytes()

    def differences() -> list[str]:
        assert competition.fingerprint(root) != first
        return [line.partition(":")[0] for line in competition.differences(before, competition.manifest(root))]

    put(mask, np.zeros((101, 101), np.uint16))
    assert differences() == [f"train/masks/{train[2]}.png"]
    mask.write_bytes(mask_bytes[:-1] + b"\0")  # as many bytes as before
    assert differences() == [f"train/masks/{train[2]}.png"]
    mask.write_bytes(mask_bytes)
    image.write_bytes(image_bytes + b"\0")
    assert differences() == [f"test/images/{test[0]}.png"]
    (line,) = competition.differences(before, competition.manifest(root))
    assert line.endswith(f"{len(image_bytes)} bytes, now {len(image_bytes) + 1} bytes")
    image.write_bytes(image_bytes)
    edit(root / "train.csv", lambda rows: rows[2].__setitem__(1, "1 7"))
    assert differences() == [f"train.csv, row {train[1]}"]
    (root / "train.csv").write_bytes(table)
    edit(root / "train.csv", swap_rows)
    assert differences() == ["order of train.csv"]
    (root / "train.csv").write_bytes(table)
    edit(root / "train.csv", list.pop)
    gone = [f"train.csv, row {train[2]}", *(f"train/{part}/{train[2]}.png" for part in ("images", "masks"))]
    assert differences() == ["order of train.csv", *gone]
    (root / "train.csv").write_bytes(table)
    edit(root / "sample_submission.csv", swap_rows)
    assert differences() == ["order of sample_submission.csv"]


def test_fingerprint_ignores_how_tables_are_written_and_what_others_are_there(make_dataset):
    root = make_dataset(n_train=3, n_test=2)
    first = competition.fingerprint(root)
    edit(root / "train.csv", lambda rows: [row.insert(0, "") for row in rows])  # an index column
    edit(root / "sample_submission.csv", lambda rows: rows[1].__setitem__(1, ""))  # the example's masks
    for name in ("depths", "sections", "solution"):
        (root / f"{name}.csv").unlink()
    assert competition.fingerprint(root) == first


@pytest.mark.parametrize("lost", ["train.csv", "sample_submission.csv", "train/images", "train/masks", "test/images"])
def test_a_fingerprint_of_what_is_not_all_there_is_refused(make_dataset, lost):
    root = make_dataset(n_train=3, n_test=2)
    path = root / lost if lost.endswith("csv") else next((root / lost).iterdir())
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name}: file is missing.*saltseg check small lists every problem"):
        competition.fingerprint(root)


def test_real_data_are_read_as_the_organizers_meant_them(real_data):
    labeled = competition.read_train(real_data)
    texts = dict(tables.read_columns(real_data / "train.csv", ("id", "rle_mask")))
    assert len(labeled.ids) == 3000
    np.testing.assert_array_equal(rle.decode_batch([texts[i] for i in labeled.ids]), labeled.masks)
    assert 0.38 < (~labeled.masks.any(axis=(1, 2))).mean() < 0.41
    assert labeled.images.max() == 255
    constant = labeled.images.reshape(3000, -1).max(axis=1) == 0
    assert 40 < constant.sum() < 80  # 80 black tiles among the organizers' 4,000
    assert not labeled.masks[constant].any()
    assert len(competition.read_test(real_data).ids) == 1000
    assert len(competition.read_depths(real_data)) == 4000
