"""Resizing and padding against OpenCV and PIL, by hand, and each with its inverse."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError

SIDES = st.integers(2, 60)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Float32 (2, height, width) in [0, 1]."""
    return np.random.default_rng(seed).random((2, height, width), np.float32)


# ---------------------------------------------------------------- resize


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(0, 70), st.integers(0, 70))
def test_enlarging_is_opencvs_linear_interpolation(height: int, width: int, more: int, wider: int) -> None:
    images = noise(height, width)
    found = TileTransform("resize", height + more, width + wider).forward(images)
    for image, ours in zip(images, found, strict=True):
        theirs = cv2.resize(image, (width + wider, height + more), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.floats(0.02, 1), st.floats(0.02, 1))
def test_shrinking_is_pils_bilinear_filter(height: int, width: int, down: float, along: float) -> None:
    images = noise(height, width)
    new_height, new_width = max(1, round(height * down)), max(1, round(width * along))
    found = TileTransform("resize", new_height, new_width).forward(images)
    for image, ours in zip(images, found, strict=True):
        theirs = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-5)


def test_the_competitions_sizes_against_both_libraries() -> None:
    tile = noise(101, 101)
    large = TileTransform.square("resize", 128).forward(tile)
    theirs = cv2.resize(tile[0], (128, 128), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(large[0], theirs, atol=1e-5)
    back = TileTransform.square("resize", 128).inverse(large, 101, 101)
    theirs = Image.fromarray(large[0]).resize((101, 101), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(back[0], np.asarray(theirs), atol=1e-5)


def test_weights_by_hand() -> None:
    def weights(length: int, new_length: int) -> np.ndarray:
        """(new_length, length): the response to each unit vector."""
        unit = np.eye(length, dtype=np.float32)[:, :, None]
        return TileTransform("resize", new_length, 1).forward(unit)[:, :, 0].T

    # 2 -> 4: centers at -1/4, 1/4, 3/4, 5/4; outside, the edge pixel continues.
    np.testing.assert_allclose(weights(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    # 4 -> 2: the triangle is two pixels wide, centers at 1/2 and 5/2: weights 3/4, 3/4, 1/4 over 7/4.
    np.testing.assert_allclose(weights(4, 2), np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_flipping_and_resizing_commute(height: int, width: int, new_height: int, new_width: int) -> None:
    transform, images = TileTransform("resize", new_height, new_width), noise(height, width)
    flipped = transform.forward(images[:, ::-1, ::-1])[:, ::-1, ::-1]
    np.testing.assert_allclose(flipped, transform.forward(images), atol=1e-5)


@pytest.mark.parametrize("size", [64, 101, 128, 202])
def test_resizing_and_back_keeps_a_slope_and_the_range(size: int) -> None:
    """A linear filter of even weights keeps a straight line, away from the borders; inverse undoes forward."""
    transform = TileTransform.square("resize", size)
    slope = np.broadcast_to(np.linspace(0, 1, 101, dtype=np.float32)[:, None], (1, 101, 101))
    back = transform.inverse(transform.forward(slope), 101, 101)
    np.testing.assert_allclose(back[:, 4:-4], slope[:, 4:-4], atol=2e-3)  # a fifth of a pixel's step
    noisy = transform.inverse(transform.forward(noise(101, 101)), 101, 101)
    assert noisy.min() >= -1e-6
    assert noisy.max() <= 1 + 1e-6
    assert transform.forward(slope).dtype == back.dtype == np.float32


def test_rows_and_columns_are_not_exchanged() -> None:
    images = noise(40, 30)
    transform = TileTransform("resize", 55, 20)
    assert transform.forward(images).shape == (2, 55, 20)
    assert transform.inverse(transform.forward(images), 40, 30).shape == (2, 40, 30)
    striped = np.zeros((1, 40, 30), np.float32)
    striped[:, 20:] = 1  # salt below: constant along every row
    assert np.ptp(transform.forward(striped), axis=2).max() < 1e-6


# ---------------------------------------------------------------- pad


def test_reflection_by_hand() -> None:
    images = np.array([[[1, 2, 3]]], np.float32).repeat(3, axis=1) + np.array([0, 10, 20])[None, :, None]
    rows = np.array([2, 1, 2, 3, 2, 1]) + np.array([10, 0, 10, 20, 10, 0])[:, None]  # one before, two after
    np.testing.assert_array_equal(TileTransform.square("pad", 6).forward(images)[0], rows)


@settings(deadline=None)
@given(SIDES, SIDES, st.data())
def test_padding_is_opencvs_reflection_and_is_undone_exactly(height: int, width: int, data: st.DataObject) -> None:
    transform = TileTransform(
        "pad",
        data.draw(st.integers(height, height + 2 * (height - 1))),
        data.draw(st.integers(width, width + 2 * (width - 1))),
    )
    images = noise(height, width)
    padded = transform.forward(images)
    (down, along) = transform.height - height, transform.width - width
    borders = (down // 2, down - down // 2, along // 2, along - along // 2)
    np.testing.assert_array_equal(padded[1], cv2.copyMakeBorder(images[1], *borders, cv2.BORDER_REFLECT_101))
    np.testing.assert_array_equal(transform.inverse(padded, height, width), images)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (100, r"data.size is 100, smaller than tiles of 101 pixels; raise it or use data.resize_mode=resize"),
        (302, r"data.size is 302: reflecting cannot more than triple 101 pixels; lower it"),
    ],
)
def test_sizes_that_cannot_be_padded_to(size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TileTransform.square("pad", size).forward(noise(101, 101))


@pytest.mark.parametrize("size", [101, 301])
def test_the_extreme_sizes_can(size: int) -> None:
    transform = TileTransform.square("pad", size)
    np.testing.assert_array_equal(transform.inverse(transform.forward(noise(101, 101)), 101, 101), noise(101, 101))


# ---------------------------------------------------------------- masks


def test_a_resized_mask_is_salt_from_one_half_on() -> None:
    edge = np.array([[[0, 1]]], np.uint8)
    assert TileTransform("resize", 1, 4).forward_masks(edge).tolist() == [[[0, 0, 1, 1]]]  # 0, 1/4, 3/4, 1
    assert TileTransform("resize", 1, 3).forward_masks(edge).tolist() == [[[0, 1, 1]]]  # 0, exactly 1/2, 1


@pytest.mark.parametrize(
    "transform",
    [TileTransform.square("resize", 128), TileTransform.square("resize", 64), TileTransform.square("pad", 128)],
)
def test_masks_stay_masks_and_follow_the_image(transform: TileTransform) -> None:
    masks = np.zeros((3, 101, 101), np.uint8)
    masks[1] = 1
    masks[2, 30:, :50] = 1
    found = transform.forward_masks(masks)
    assert found.dtype == np.uint8
    assert not found[0].any()
    assert found[1].all()
    picture = transform.forward(masks.astype(np.float32))
    assert set(np.unique(found)) == {0, 1}
    assert np.abs(found - picture).max() <= 0.5 + 1e-6  # the nearest of 0 and 1, hence never shifted
