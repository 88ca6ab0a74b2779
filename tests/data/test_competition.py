"""Reading a dataset: exact pixels, the order of the tables, every refusal with its message."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from saltseg.core import rle
from saltseg.data import competition
from saltseg.errors import InputError


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
    labelled = competition.read_train(root)
    assert labelled.ids == tuple(sorted((row[0] for row in rows[1:]), key=lambda identity: identity[::-1]))
    texts = dict(rows[1:])
    for identity, image, mask in zip(labelled.ids, labelled.images, labelled.masks, strict=True):
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


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_rgb_and_rgba_files_give_the_same_unscaled_image(tmp_path, channels):
    grey = np.array([[0, 1], [2, 3]], np.uint8)  # a dark tile stays dark
    pixels = grey if channels == 1 else np.repeat(grey[:, :, None], channels, axis=2)
    if channels == 4:
        pixels[..., 3] = 255
    image = competition.read_image(put(tmp_path / "é.png", pixels))
    np.testing.assert_array_equal(image, grey)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("white", [np.uint8(1), np.uint8(255), np.uint16(1), np.uint16(65535)])
def test_masks_of_any_depth_are_zero_and_one(tmp_path, white):
    salt = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    for mask in (salt, np.ones_like(salt), np.zeros_like(salt)):
        stored = mask.astype(white.dtype) * white
        read = competition.read_mask(put(tmp_path / "mask.png", stored))
        np.testing.assert_array_equal(read, mask)
        assert read.dtype == np.uint8


@pytest.mark.parametrize("values", [(0, 128), (0, 1, 255), (1, 255), (0, 254)])
def test_a_mask_of_other_values_is_refused(tmp_path, values):
    pixels = np.resize(np.array(values, np.uint8), (5, 5))
    with pytest.raises(InputError, match=rf"m\.png: not binary \(values {values[0]}, .*use 0 for no salt"):
        competition.read_mask(put(tmp_path / "m.png", pixels))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((101, 100), np.uint8), "size 101x100, not 101x101"),
        (np.zeros((101, 101), np.uint16), "uint16 pixels, not 8-bit"),
        (np.full((101, 101, 3), [7, 7, 9], np.uint8), "channels differ by up to 2; save it as greyscale"),
    ],
)
def test_an_image_that_is_no_tile_is_named(make_dataset, pixels, message):
    root = make_dataset("mine")
    identity = rows_of(root / "train.csv")[3][0]
    put(root / "train/images" / f"{identity}.png", pixels)
    with pytest.raises(InputError, match=f"{identity}.png: .*{message}.*check_data.py mine lists every problem"):
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
        ("id,mask\na,1 1\n", "columns 'id,mask'; needed: id,rle_mask"),
        ("", "columns ''; needed: id,rle_mask"),
        ("id,rle_mask\na,1 1\na,\n", "line 3: id 'a' empty or repeated"),
        ("id,rle_mask\n,1 1\n", "line 2: id '' empty or repeated"),
        ("id,rle_mask\na\n", "line 2: 1 fields, not 2"),
    ],
)
def test_a_broken_table_is_refused(make_dataset, text, message):
    root = make_dataset()
    (root / "train.csv").write_text(text)
    with pytest.raises(InputError, match=f"train.csv.*{message}"):
        competition.read_train(root)


def test_tables_saved_by_spreadsheets_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffrle_mask,id\r\n1 1 ,ä\r\n\r\n".encode())
    assert competition.read_columns(path, ("id", "rle_mask")) == [("ä", "1 1")]
    path.write_bytes(b"id\n\xff\xfe\n")
    with pytest.raises(InputError, match="not a readable CSV file"):
        competition.read_columns(path, ("id",))


def test_optional_tables(make_dataset):
    root = make_dataset(n_train=4, n_test=2)
    train = [row[0] for row in rows_of(root / "train.csv")[1:]]
    test = tuple(row[0] for row in rows_of(root / "sample_submission.csv")[1:])
    depths, sections = competition.read_depths(root), competition.read_sections(root)
    assert [depths[identity] for identity in (*train, *test)] == [50, 51, 52, 53, 54, 55]
    assert [sections[identity] for identity in train] == ["line 0", "line 0", "line 0", "line 1"]
    (root / "depths.csv").write_text("id,z\na,deep\n")
    with pytest.raises(InputError, match="z of a is 'deep'; use a whole number"):
        competition.read_depths(root)
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


def test_folder_of_images_of_any_size_and_format(tmp_path):
    deep = np.array([[0, 256, 257], [32768, 65534, 65535]], np.uint16)
    put(tmp_path / "b.png", deep)
    put(tmp_path / "a.tif", np.full((2, 2), 257, np.uint16))  # dark, and not stretched to 255
    put(tmp_path / "c.BMP", np.full((5, 7, 3), 9, np.uint8))
    put(tmp_path / "d.jpg", np.full((16, 16, 3), 130, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    images = competition.read_folder(tmp_path)
    assert [name for name, _ in images] == ["a", "b", "c", "d"]
    read = dict(images)
    assert read["b"].tolist() == [[0, 1, 1], [128, 255, 255]]  # value / 257, rounded
    assert read["a"].tolist() == [[1, 1], [1, 1]]
    assert (read["c"].shape, read["c"].max()) == ((5, 7), 9)
    assert abs(int(read["d"][8, 8]) - 130) <= 2
    assert {image.dtype for _, image in images} == {np.dtype(np.uint8)}


def test_folder_refusals(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        competition.read_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no \.png .* in "):
        competition.read_folder(tmp_path)
    put(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    put(tmp_path / "a.bmp", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="a second image named 'a'"):
        competition.read_folder(tmp_path)
    (tmp_path / "a.bmp").unlink()
    put(tmp_path / "b.png", np.full((4, 4, 3), [0, 90, 255], np.uint8))
    with pytest.raises(InputError, match=r"b\.png: colour channels differ by up to 255"):
        competition.read_folder(tmp_path)
    put(tmp_path / "b.tif", np.zeros((4, 4), np.float32))
    (tmp_path / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.tif: float32 pixels"):
        competition.read_folder(tmp_path)


def test_fingerprint_knows_the_data_and_not_the_place(make_dataset, tmp_path):
    root = make_dataset(n_train=3, n_test=2)
    first = competition.fingerprint(root)
    assert len(first) == 64
    shutil.copytree(root, tmp_path / "copy")
    assert competition.fingerprint(tmp_path / "copy") == first

    image = sorted((root / "test/images").iterdir())[0]
    renamed = image.rename(image.with_name("other.png"))
    assert competition.fingerprint(root) != first
    renamed.rename(image)
    assert competition.fingerprint(root) == first
    image.write_bytes(image.read_bytes() + b"\0")
    assert competition.fingerprint(root) != first

    table = tmp_path / "copy/train.csv"
    table.write_text(table.read_text().replace("1", "2", 1))
    assert competition.fingerprint(tmp_path / "copy") != first
    table.unlink()
    with pytest.raises(InputError, match=r"train\.csv: No such file"):
        competition.fingerprint(tmp_path / "copy")


def test_real_data_are_read_as_the_organisers_meant_them(real_data):
    labelled = competition.read_train(real_data)
    texts = dict(competition.read_columns(real_data / "train.csv", ("id", "rle_mask")))
    assert len(labelled.ids) == 3000
    np.testing.assert_array_equal(rle.decode_batch([texts[i] for i in labelled.ids]), labelled.masks)
    assert 0.38 < (~labelled.masks.any(axis=(1, 2))).mean() < 0.41
    assert labelled.images.max() == 255
    constant = labelled.images.reshape(3000, -1).max(axis=1) == 0
    assert 40 < constant.sum() < 80  # 80 black tiles among the organisers' 4,000
    assert not labelled.masks[constant].any()
    assert len(competition.read_test(real_data).ids) == 1000
    assert len(competition.read_depths(real_data)) == 4000
