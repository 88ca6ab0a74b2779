"""Augmentation: image and mask move together, gravity keeps its direction, nothing but the seed decides."""

import random
from collections import Counter

import numpy as np
import pytest

from saltseg.data.augmentation import Augment
from saltseg.errors import InputError

SEEDS = range(120)


@pytest.fixture(scope="module")
def light() -> Augment:
    return Augment("light")


def body() -> np.ndarray:
    """An asymmetric salt body, uint8 {0, 1} (101, 101)."""
    row, column = np.mgrid[:101, :101]
    return (((row - 60) ** 2 / 900 + (column - 35) ** 2 / 400 < 1) | ((row > 80) & (column < 60))).astype(np.uint8)


def slope(axis: int) -> np.ndarray:
    """Gray values rising from 30 to 230 down (axis 0) or along (axis 1) the tile."""
    values = np.linspace(30, 230, 101).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values[:, None] if axis == 0 else values, (101, 101)))


def test_none_is_the_identity() -> None:
    image, mask = slope(0), body()
    for seed in (0, 1, 2**31 - 1):
        same_image, same_mask = Augment("none")(image, mask, seed)
        assert np.array_equal(same_image, slope(0))
        assert np.array_equal(same_mask, body())


def test_strong_changes_more_and_hides_rectangles_of_the_image_alone(light: Augment) -> None:
    strong, mask = Augment("strong"), body()
    gray, empty, full = (
        np.full((101, 101), 100, np.uint8),
        np.zeros((101, 101), np.uint8),
        np.ones((101, 101), np.uint8),
    )
    hidden = []
    for seed in SEEDS:
        image, moved = strong(gray, mask, seed)
        assert image.shape == moved.shape == (101, 101)
        assert image.dtype == moved.dtype == np.uint8
        assert set(np.unique(moved).tolist()) == {0, 1}
        assert not strong(gray, empty, seed)[1].any()
        assert strong(gray, full, seed)[1].all()  # borders are reflected, and what is hidden is salt all the same
        values, counts = np.unique(image, return_counts=True)
        assert len(values) <= 5  # the gray of the tile, and of up to four rectangles
        hidden.append(1 - counts.max() / image.size)
    assert 0.3 < np.mean(np.array(hidden) > 0) < 0.7
    assert max(hidden) < 0.25
    depth = [np.polyfit(np.arange(101), strong(slope(0), mask, seed)[0].mean(axis=1), 1)[0] for seed in SEEDS]
    assert min(depth) > 0.5  # never upside down
    middle = np.zeros((101, 101), np.uint8)
    middle[48:53, 48:53] = 1

    def farthest(augment: Augment) -> float:
        return max(np.abs(np.argwhere(augment(gray, middle, seed)[1]).mean(axis=0) - 50).max() for seed in SEEDS)

    assert farthest(light) + 3 < farthest(strong) < 16


def test_the_mask_stays_binary_and_follows_the_image(light: Augment) -> None:
    mask = body()
    for seed in SEEDS:
        image, moved = light(mask * np.uint8(255), mask, seed)
        assert image.shape == moved.shape == (101, 101)
        assert image.dtype == moved.dtype == np.uint8
        assert set(np.unique(moved).tolist()) == {0, 1}
        bright = image > 127
        intersection, union = (bright & (moved == 1)).sum(), (bright | (moved == 1)).sum()
        assert intersection / union > 0.95, f"seed {seed}: the mask left the image"


def test_empty_and_full_masks_stay_so(light: Augment) -> None:
    for seed in SEEDS:
        assert not light(slope(0), np.zeros((101, 101), np.uint8), seed)[1].any()
        assert light(slope(0), np.ones((101, 101), np.uint8), seed)[1].all()  # borders are reflected, not black


def test_the_three_changes_happen_independently(light: Augment) -> None:
    """Flip, movement, brightness, each in half of the tiles: each of the eight combinations in an eighth."""
    image = np.random.default_rng(0).integers(60, 200, (101, 101), dtype=np.uint8)
    gray, mask = np.full((101, 101), 100, np.uint8), np.zeros((101, 101), np.uint8)
    seen: Counter[tuple[str, bool]] = Counter()
    for seed in range(400):
        changed, brightened = light(image, mask, seed)[0], bool((light(gray, mask, seed)[0] != 100).any())
        if not brightened and np.array_equal(changed, image):
            seen["nothing", brightened] += 1
        elif not brightened and np.array_equal(changed, image[:, ::-1]):
            seen["flip alone", brightened] += 1
        else:
            seen["other", brightened] += 1
    share = {key: count / 400 for key, count in seen.items()}
    assert share["nothing", False] == pytest.approx(1 / 8, abs=0.06)
    assert share["flip alone", False] == pytest.approx(1 / 8, abs=0.06)
    assert share["other", False] == pytest.approx(1 / 4, abs=0.08)  # moved, flipped or not
    assert share["other", True] == pytest.approx(1 / 2, abs=0.09)


def test_never_upside_down_and_left_to_right_half_of_the_time(light: Augment) -> None:
    depth = np.array([np.polyfit(np.arange(101), light(slope(0), body(), s)[0].mean(axis=1), 1)[0] for s in SEEDS])
    along = np.array([np.polyfit(np.arange(101), light(slope(1), body(), s)[0].mean(axis=0), 1)[0] for s in SEEDS])
    assert (depth > 1).all()  # 2 gray values a row, less what scaling and contrast take
    assert (np.abs(along) > 1).all()  # no quarter turns either
    assert 0.35 < (along < 0).mean() < 0.65


def test_moves_and_turns_are_small(light: Augment) -> None:
    """At most 5 % of 101 pixels each way and 6 degrees: a cross in the middle stays there, a level stays level."""
    middle = np.zeros((101, 101), np.uint8)
    middle[48:53, 48:53] = 1
    centers = np.array([np.argwhere(light(slope(0), middle, seed)[1]).mean(axis=0) for seed in SEEDS])
    assert np.abs(centers - 50).max() <= 6.5
    assert np.abs(centers - 50).max() > 2
    level = (np.mgrid[:101, :101][0] >= 50).astype(np.uint8)
    for seed in SEEDS:
        top = np.argmax(light(slope(0), level, seed)[1], axis=0)
        assert abs(np.polyfit(np.arange(10, 91), top[10:91], 1)[0]) < np.tan(np.radians(6 + 5)) + 0.03


def test_brightness_and_contrast_change_little(light: Augment) -> None:
    gray, mask = np.full((101, 101), 100, np.uint8), np.zeros((101, 101), np.uint8)
    found = np.array([light(gray, mask, seed)[0].mean() for seed in SEEDS])
    assert np.abs(found - 100).max() <= 0.08 * 255 + 0.08 * 100 + 1
    assert found.std() > 2


def test_the_seed_alone_decides(light: Augment) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (101, 101), dtype=np.uint8)
    first = {seed: light(image, body(), seed) for seed in range(20)}
    other = Augment("light")  # another instance, another order, other global generators
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    for seed in reversed(range(20)):
        again = other(image, body(), seed)
        assert np.array_equal(again[0], first[seed][0])
        assert np.array_equal(again[1], first[seed][1])
    assert len({pair[0].tobytes() for pair in first.values()}) > 8


def test_the_arguments_are_left_alone(light: Augment) -> None:
    image, mask = slope(0), body()
    for seed in range(30):
        light(image, mask, seed)
    assert np.array_equal(image, slope(0))
    assert np.array_equal(mask, body())


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown augmentation 'ligth'; did you mean light"):
        Augment("ligth")
