"""RLE against worked-out texts, pycocotools and the real data."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from saltseg.errors import InputError
from saltseg.metrics import rle

REAL = Path(os.environ.get("SALTSEG_TGS", Path(__file__).resolve().parents[3] / "shared" / "tgs"))

binary = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 12)),
    elements=st.integers(0, 1),
)


def one_pixel(row: int, column: int) -> np.ndarray:
    mask = np.zeros((101, 101), np.uint8)
    mask[row, column] = 1
    return mask


DEGENERATE = {
    "empty": (np.zeros((101, 101)), ""),
    "full": (np.ones((101, 101)), "1 10201"),
    "first pixel": (one_pixel(0, 0), "1 1"),
    "second down": (one_pixel(1, 0), "2 1"),
    "second across": (one_pixel(0, 1), "102 1"),
    "bottom left": (one_pixel(100, 0), "101 1"),
    "last pixel": (one_pixel(100, 100), "10201 1"),
    "last column": (np.arange(101) * np.ones((101, 1)) == 100, "10101 101"),
    "bottom row": (
        np.arange(101)[:, None] * np.ones(101) == 100,
        " ".join(f"{101 * column} 1" for column in range(1, 102)),
    ),
    "all but the first": (1 - one_pixel(0, 0), "2 10200"),
    "all but the last": (1 - one_pixel(100, 100), "1 10200"),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_masks_have_these_texts(name: str) -> None:
    mask, text = DEGENERATE[name]
    assert rle.encode(mask) == text
    np.testing.assert_array_equal(rle.decode(text), mask)


def test_a_run_goes_on_from_column_to_column_but_not_from_image_to_image() -> None:
    mask = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)  # down the columns: 0 1 | 1 1 | 0 0
    assert rle.encode(mask) == "2 3"
    full = np.ones((2, 2), bool)
    assert rle.encode_batch(np.stack([full, full, ~full, full])) == ["1 4", "1 4", "", "1 4"]


def coco_runs(mask: np.ndarray) -> str:
    """The same text by way of pycocotools: its counts alternate background and salt, down the columns."""
    counts = coco.frPyObjects(
        {"counts": _uncompressed(mask), "size": list(mask.shape)}, *mask.shape
    )  # checks that our counts are what its own encoder makes
    assert counts["counts"] == coco.encode(np.asfortranarray(mask))["counts"]
    position, words = 1, []
    for index, count in enumerate(_uncompressed(mask)):
        if index % 2 and count:
            words += [str(position), str(count)]
        position += count
    return " ".join(words)


def _uncompressed(mask: np.ndarray) -> list[int]:
    counts, value, length = [], 0, 0
    for pixel in mask.ravel(order="F").tolist():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return [*counts, length]


@given(binary)
def test_encoding_agrees_with_pycocotools_and_decoding_inverts_it(masks: np.ndarray) -> None:
    texts = rle.encode_batch(masks)
    assert texts == [coco_runs(mask) for mask in masks]
    decoded = rle.decode_batch(texts, masks.shape[1:])
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, masks)


@pytest.mark.parametrize(
    "shape", [(1, 181, 181), (1, 128, 256), (3, 200, 201)]
)  # from 2**15 pixels numbers are written
def test_large_masks(shape: tuple[int, int, int]) -> None:
    masks = (np.random.default_rng(0).random(shape) < 0.3).astype(np.uint8)
    masks[:, -1, -1] = 1
    texts = rle.encode_batch(masks)
    assert texts == [coco_runs(mask) for mask in masks]
    np.testing.assert_array_equal(rle.decode_batch(texts, shape[1:]), masks)


def test_batches_longer_than_a_chunk() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (600, 5, 7)).astype(np.uint8)
    texts = rle.encode_batch(masks)
    assert texts == [rle.encode(mask) for mask in masks]
    np.testing.assert_array_equal(rle.decode_batch(texts, (5, 7)), masks)


def test_the_quick_way_is_taken_and_finds_the_same_runs() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (9, 5, 7)).astype(np.uint8)
    masks[[0, 4, 8]] = 0
    texts = rle.encode_batch(masks)
    texts[1] = f"  {texts[1]}  "
    quick = rle._bounds(texts, 35)
    assert quick is not None
    assert quick.tolist() == rle._bounds_one_by_one(texts, 35, None).tolist()


@given(st.lists(st.integers(1, 9), max_size=8))
@settings(max_examples=200)
def test_what_decodes_is_what_was_meant(numbers: list[int]) -> None:
    """Any even list of numbers either is refused or paints exactly its runs."""
    text = " ".join(map(str, numbers))
    painted = [
        pixel
        for start, length in zip(numbers[::2], numbers[1::2], strict=False)
        for pixel in range(start, start + length)
    ]
    valid = len(numbers) % 2 == 0 and painted == sorted(set(painted)) and max(painted, default=1) <= 12
    if valid:
        mask = rle.decode(text, (4, 3))
        assert (np.flatnonzero(mask.ravel(order="F")) + 1).tolist() == painted
    else:
        with pytest.raises(InputError):
            rle.decode(text, (4, 3))


@given(st.lists(st.text(" \t\x1c\u2028\ud80012345", max_size=9), max_size=4))
@settings(max_examples=500)
def test_texts_read_together_are_read_as_one_by_one(texts: list[str]) -> None:
    """The quick way for a chunk takes what `parse` takes, paints the same and leaves refusing to it."""
    expected = np.zeros((len(texts), 12), np.uint8)
    try:
        for row, text in zip(expected, texts, strict=True):
            for first, end in rle.parse(text, 12):
                row[first:end] = 1
    except InputError as error:
        with pytest.raises(InputError, match=re.escape(str(error)) + "$"):
            rle.decode_batch(texts, (4, 3))
    else:
        np.testing.assert_array_equal(rle.decode_batch(texts, (4, 3)).transpose(0, 2, 1).reshape(-1, 12), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "run 1: start 1 has no length"),
        ("1 2 7", "run 2: start 7 has no length"),
        ("1 2 a 3", "run 2: 'a' is not a whole number"),
        ("1 2.0", r"run 1: '2\.0' is not a whole number"),
        ("1 -2", "run 1: '-2' is not a whole number"),
        ("+1 2", r"run 1: '\+1' is not a whole number"),
        ("1 1_0", "run 1: '1_0' is not a whole number"),
        ("1 ٣", "run 1: '٣' is not a whole number"),
        ("1\u00a02", r"run 1: '1\\xa02' is not a whole number"),  # white space that is none of ASCII's
        ("\u30001 2", r"run 1: '\\u30001' is not a whole number"),
        ("1 2 \ud800", r"run 2: '\\ud800' is not a whole number"),
        ("1 " + "9" * 5000, "run 1: '99999999999999999999' is not a whole number"),
        ("20 " + "9" * 19, "run 1: '9999999999999999999' is not a whole number"),
        ("0 2", "run 1: start 0 is below 1"),
        ("1 0", "run 1: length 0 is below 1"),
        ("3 2 4 1", "run 2: start 4 is not after pixel 4"),
        ("5 1 2 1", "run 2: start 2 is not after pixel 5"),
        ("5 1 5 1", "run 2: start 5 is not after pixel 5"),
        ("10201 2", "run 1: start 10201 length 2 goes past the last pixel 10201"),
        ("10202 1", "run 1: start 10202 length 1 goes past the last pixel 10201"),
    ],
)
def test_malformed_texts_are_refused_with_run_and_value(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        rle.decode(text)
    assert ";" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="text 1: " + message):
        rle.decode_batch(["", text, ""])


def test_a_missing_value_is_not_an_empty_mask() -> None:
    with pytest.raises(InputError, match="an RLE is text: nan"):
        rle.decode(float("nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [2, 255, -1, 0.5, np.nan])
def test_masks_must_be_binary(value: float) -> None:
    mask = np.zeros((3, 3))
    mask[1, 2] = value
    with pytest.raises(InputError, match=f"only 0 and 1: found {value}"):
        rle.encode(mask)


def test_bytes_under_a_bool_array_are_looked_at() -> None:
    with pytest.raises(InputError, match="must hold only 0 and 1: found 255"):
        rle.encode((255 * np.eye(3, dtype=np.uint8)).view(bool))


def test_a_shape_of_small_integers_does_not_overflow() -> None:
    shape = np.array([101, 101], np.int8)
    assert rle.decode("10201 1", shape)[100, 100] == 1  # type: ignore[arg-type]


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="rows differ in length"):
        rle.encode_batch([[[0, 1], [1]]])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (-1, 5), (3,), (3.0, 3.0), ("3", "3"), 3])
def test_a_shape_without_pixels_is_refused(shape: tuple[int, int]) -> None:
    for texts in ([], [""]):
        with pytest.raises(InputError, match="a mask has height and width: shape"):
            rle.decode_batch(texts, shape)


def test_masks_of_wrong_form_are_refused() -> None:
    with pytest.raises(InputError, match=r"two axes \(H, W\): shape \(1, 2, 3\)"):
        rle.encode(np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match=r"stack \(N, H, W\): shape \(2, 3\)"):
        rle.encode_batch(np.zeros((2, 3)))
    with pytest.raises(InputError, match="must hold numbers"):
        rle.encode(np.array([["0"]]))


def test_import_is_light() -> None:
    code = (
        "import sys, saltseg.metrics.rle; "
        "print(*sorted({'torch', 'pandas', 'scipy', 'cv2', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.skipif(not REAL.is_dir(), reason="the real TGS data are missing: set SALTSEG_TGS to their folder")
def test_real_masks_and_texts_are_each_others_images() -> None:
    import cv2

    with (REAL / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3000
    masks = np.stack([cv2.imread(str(REAL / "train/masks" / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED) for row in rows])
    assert masks.dtype == np.uint16
    texts = [row["rle_mask"] for row in rows]
    np.testing.assert_array_equal(rle.decode_batch(texts), masks > 0)
    assert rle.encode_batch(masks > 0) == texts
