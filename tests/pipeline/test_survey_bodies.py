"""Bodies of salt joined from line to line."""

import cv2
import numpy as np
import pytest

from saltseg.pipeline import folder
from saltseg.pipeline.survey_bodies import Bodies
from saltseg.postprocessing.parameters import Postprocessing

WIDE = np.arange(8)


def section(*boxes: tuple[int, int, int, int, int], width: int = 8) -> np.ndarray:
    """uint8 (8, width): boxes (top, bottom, left, right, probability) on 0."""
    image = np.zeros((8, width), np.uint8)
    for top, bottom, left, right, value in boxes:
        image[top:bottom, left:right] = value
    return image


def masks(postprocessing: Postprocessing, sections: list[np.ndarray], numbers: list[np.ndarray] | None = None) -> list:
    numbers = numbers or [WIDE] * len(sections)
    bodies = Bodies(postprocessing, zip(numbers, sections, strict=True))
    return [bodies.mask(position, image) for position, image in enumerate(sections)]


def test_a_small_part_of_a_large_body_stays_and_a_small_body_goes() -> None:
    large, small = section((0, 4, 0, 4, 200)), section((1, 2, 1, 2, 200), (6, 8, 6, 8, 200))
    found = masks(Postprocessing(128, 10), [large, small])
    assert found[0].sum() == 16
    assert np.array_equal(found[1], section((1, 2, 1, 2, 1)))
    assert masks(Postprocessing(128, 17), [large, small])[0].sum() == 0


def test_hysteresis_asks_the_whole_body() -> None:
    faint, clear = section((0, 2, 0, 2, 150), (5, 7, 5, 7, 150)), section((1, 3, 1, 3, 220))
    found = masks(Postprocessing(128, hysteresis_high=200), [faint, clear, faint])
    assert [mask.sum() for mask in found] == [4, 4, 4]
    assert found[0][0, 0] == 1
    assert masks(Postprocessing(128, hysteresis_high=221), [faint, clear, faint])[1].sum() == 0


def test_two_arms_become_one_body_where_a_later_line_joins_them() -> None:
    arms = section((0, 8, 0, 2, 150), (0, 8, 6, 8, 220))
    bridge = section((3, 5, 0, 8, 150))
    found = masks(Postprocessing(128, hysteresis_high=200), [arms, bridge])
    assert [mask.sum() for mask in found] == [32, 16]
    assert masks(Postprocessing(128, hysteresis_high=200), [arms])[0].sum() == 16


def test_lines_are_aligned_by_their_numbers() -> None:
    first, second = section((0, 4, 0, 4, 200)), section((0, 1, 0, 1, 200))
    for start, kept in ((3, 1), (4, 0)):  # its first trace is the last of the large body, or the one behind
        found = masks(Postprocessing(128, 10), [first, second], [WIDE, WIDE + start])
        assert found[1].sum() == kept


def test_no_salt_and_one_line_alone() -> None:
    assert masks(Postprocessing(128, 10), [section(), section()])[1].sum() == 0
    assert masks(Postprocessing(1), [np.full((8, 8), 255, np.uint8)])[0].all()


@pytest.mark.parametrize("fill_holes", [False, True])
def test_one_line_is_treated_as_a_large_image_is(fill_holes: bool) -> None:
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.normal(size=(120, 130)), (0, 0), 3)
    probability = np.clip(128 + 100 * noise / noise.std(), 0, 255).astype(np.uint8)
    postprocessing = Postprocessing(140, 60, fill_holes, 220)
    one = masks(postprocessing, [probability], [np.arange(130)])[0]
    assert 0 < one.mean() < 1
    assert np.array_equal(one, folder.postprocess(probability[None], postprocessing)[0])
