"""Hole filling and hysteresis on probabilities: by hand, and at every threshold against the steps on masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from saltseg.postprocessing.morphology import fill_holes, hysteresis, reconstruct

EIGHT = np.ones((3, 3))


def image(*lines: list[int]) -> np.ndarray:
    return np.array([lines], np.uint8)


def test_a_hole_is_filled_to_the_lowest_part_of_its_rim() -> None:
    before = image([9, 9, 9, 9], [9, 1, 2, 7], [9, 9, 8, 9])
    assert fill_holes(before)[0].tolist() == [[9, 9, 9, 9], [9, 7, 7, 7], [9, 9, 8, 9]]  # out through the 7 at the edge


def test_what_touches_the_border_is_no_hole() -> None:
    bay = image([9, 1, 9], [9, 1, 9], [9, 9, 9])
    assert np.array_equal(fill_holes(bay), bay)
    corner = image([9, 9, 9], [9, 9, 1], [9, 1, 1])
    assert np.array_equal(fill_holes(corner), corner)


def test_rock_does_not_leave_a_hole_through_a_diagonal_gap() -> None:
    ring = image([1, 9, 1, 1], [9, 1, 9, 1], [1, 9, 1, 1], [1, 1, 1, 1])  # four pixels that touch at corners only
    assert fill_holes(ring)[0, 1, 1] == 9
    assert np.array_equal(np.flatnonzero(fill_holes(ring) != ring), [5])


def test_a_body_goes_down_to_where_it_joins_a_strong_one() -> None:
    before = image([200, 90, 150, 0, 140])
    assert hysteresis(before, 180)[0].tolist() == [[200, 90, 90, 0, 0]]
    assert hysteresis(before, 150)[0].tolist() == [[200, 90, 150, 0, 0]]
    assert hysteresis(before, 201).max() == 0
    assert np.array_equal(hysteresis(before, 1), before)


def test_a_body_holds_together_over_a_corner() -> None:
    before = image([200, 0, 0], [0, 130, 0], [0, 0, 130])
    assert np.array_equal(hysteresis(before, 180), before)
    apart = image([200, 0, 0], [0, 0, 0], [0, 0, 130])
    assert hysteresis(apart, 180)[0].tolist() == [[200, 0, 0], [0, 0, 0], [0, 0, 0]]


def spiral(size: int) -> np.ndarray:
    """uint8 (size, size): a path of ones from the upper left corner inwards, one pixel of zeros between its turns."""
    mask = np.zeros((size, size), np.uint8)
    row, column, (down, right) = 0, 0, (0, 1)
    for length in [size - 1, *np.repeat(np.arange(size - 1, 0, -2), 2)]:
        for _ in range(length):
            mask[row, column] = 1
            row, column = row + down, column + right
        down, right = right, -down
    mask[row, column] = 1
    return mask


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_marker_follows_a_spiral_to_its_end(diagonal: bool) -> None:
    limit = np.stack([100 * spiral(41), np.full((41, 41), 7)]).astype(np.uint8)
    marker = np.zeros_like(limit)
    marker[:, 0, 0] = [60, 7]
    assert limit[0].astype(bool).sum() > 800
    assert np.array_equal(reconstruct(marker, limit, diagonal), np.minimum(limit, [[[60]], [[7]]]))


levels = st.sampled_from([0, 1, 50, 51, 128, 200, 254, 255])
stacks = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=levels)
)


@given(stacks)
@settings(max_examples=40, deadline=None)
def test_holes_are_those_of_the_mask_at_every_threshold(stack: np.ndarray) -> None:
    filled = fill_holes(stack)
    for threshold in (1, 2, 50, 51, 52, 128, 200, 201, 254, 255):
        for before, after in zip(stack, filled, strict=True):
            assert np.array_equal(after >= threshold, ndimage.binary_fill_holes(before >= threshold))


def strong_bodies(pixels: np.ndarray, threshold: int, high: int) -> np.ndarray:
    labels, _ = ndimage.label(pixels >= threshold, EIGHT)
    return np.isin(labels, labels[(pixels >= high) & (labels > 0)])


@given(stacks, levels)
@settings(max_examples=40, deadline=None)
def test_bodies_are_those_of_the_mask_at_every_threshold(stack: np.ndarray, high: int) -> None:
    filtered = hysteresis(stack, high)
    for threshold in (1, 2, 50, 51, 52, 128, 200, 201, 254, 255):
        for before, after in zip(stack, filtered, strict=True):
            assert np.array_equal(after >= threshold, strong_bodies(before, threshold, high))


def test_more_images_than_fit_at_once() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (600, 5, 5), dtype=np.uint8)
    before = stack.copy()
    for step in (fill_holes, lambda images: hysteresis(images, 200)):
        alone = np.concatenate([step(one[None]) for one in stack])
        assert np.array_equal(step(stack), alone)
        assert (alone != stack).any(axis=(1, 2)).sum() > 50
    assert np.array_equal(stack, before)
    assert fill_holes(stack[:0]).shape == hysteresis(stack[:0], 9).shape == (0, 5, 5)
