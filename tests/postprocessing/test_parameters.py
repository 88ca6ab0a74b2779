"""Quantizing, and post-processing by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from saltseg.errors import InputError
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing, quantize

PUBLISHED = Path(__file__).parents[2] / "output" / "published"


def test_quantize_by_hand() -> None:
    values = np.array([0, 1, 0.5, 0.4999, 1 / 510 - 1e-6, 1 / 510 + 1e-6, 0.2])
    assert quantize(values).tolist() == [0, 255, 128, 127, 0, 1, 51]
    assert quantize(values).dtype == np.uint8


@given(hnp.arrays(np.float64, 5, elements=st.floats(0, 1)))
def test_quantizing_loses_half_a_step_at_most(values: np.ndarray) -> None:
    assert np.abs(quantize(values) / 255 - values).max() <= 0.5 / 255 + 1e-12


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_half_is_salt_and_the_number_below_is_not(dtype: type) -> None:
    half = dtype(0.5)
    below = np.nextafter(half, dtype(0))
    assert quantize(np.array([half, below], dtype)).tolist() == [128, 127]


def test_nan_is_named_with_its_place() -> None:
    values = np.full((2, 3, 4), 0.5)
    values[1, 2, 0] = values[1, 2, 3] = math.nan
    with pytest.raises(InputError, match=r"probabilities hold 2 NaN of 24, the first at index \(1, 2, 0\); the"):
        quantize(values)


@pytest.mark.parametrize("value", [-0.01, 1.01, math.inf])
def test_quantize_refuses_what_is_no_probability(value: float) -> None:
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        quantize(np.array([0.5, value]))
    with pytest.raises(InputError, match="only floats are quantized: dtype int64"):
        quantize(np.array([0, 1], np.int64))


def test_threshold_and_area_by_hand() -> None:
    probabilities = np.array(
        [
            [[0, 99], [100, 255]],  # two pixels at 100 or more
            [[0, 0], [0, 100]],  # one
            [[99, 99], [99, 99]],  # none
        ],
        np.uint8,
    )
    at_100 = [[[0, 0], [1, 1]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    none = [[0, 0], [0, 0]]
    assert Postprocessing(100, 0).apply(probabilities).tolist() == at_100
    assert Postprocessing(100, 1).apply(probabilities).tolist() == at_100
    assert Postprocessing(100, 2).apply(probabilities).tolist() == [at_100[0], none, none]
    assert Postprocessing(100, 3).apply(probabilities).tolist() == [none, none, none]
    assert Postprocessing(100, 2).apply(probabilities / 255).tolist() == [at_100[0], none, none]
    assert Postprocessing(100, 2).apply(probabilities).dtype == np.uint8


def test_half_is_one_half() -> None:
    probabilities = np.array([[[0.5, 0.499, 1, 0]]])
    assert THRESHOLD_HALF.apply(probabilities).tolist() == [[[1, 0, 1, 0]]]
    assert Postprocessing() == THRESHOLD_HALF


def test_applying_leaves_the_probabilities_alone() -> None:
    probabilities = np.full((1, 2, 2), 200, np.uint8)
    Postprocessing(1, 5).apply(probabilities)
    assert (probabilities == 200).all()


def test_parameters_survive_json() -> None:
    chosen = Postprocessing(np.int64(140), np.int32(55))  # type: ignore[arg-type]
    assert Postprocessing.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen == Postprocessing(140, 55)
    chosen = Postprocessing(140, 55, True, 200, 30)
    assert chosen.to_dict() == {
        "threshold": 140,
        "min_area": 55,
        "fill_holes": True,
        "hysteresis_high": 200,
        "presence_threshold": 30,
    }
    assert Postprocessing.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/postprocess.json")), ids=lambda path: path.parent.name)
def test_every_published_file_is_read(path: Path) -> None:
    values = json.loads(path.read_text())["postprocessing"]
    assert Postprocessing.from_dict(values).to_dict() == Postprocessing().to_dict() | values


def test_other_keys_are_off_by_default() -> None:
    assert Postprocessing.from_dict({"threshold": 140, "min_area": 55}) == Postprocessing(
        140, 55, fill_holes=False, hysteresis_high=0, presence_threshold=0
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0, "min_area": 0}, r"threshold must be 1 \.\.\. 255 \(255ths\): 0"),
        ({"threshold": 256, "min_area": 0}, "255ths.: 256"),
        ({"threshold": 0.5, "min_area": 0}, "threshold must be a whole number: 0.5"),
        ({"threshold": True, "min_area": 0}, "threshold must be a whole number: True"),
        ({"threshold": 128, "min_area": -1}, "min_area must be 0 or more pixels: -1"),
        ({"threshold": 128, "min_area": "9"}, "min_area must be a whole number: '9'"),
        (
            {"threshold": 128, "min_area": 0, "hysteresis_high": 256},
            r"hysteresis_high must be 0 \.\.\. 255 \(255ths\): 256; 0 switches",
        ),
        ({"threshold": 128, "min_area": 0, "presence_threshold": -1}, "presence_threshold must be 0 .* -1"),
        (
            {"threshold": 128, "min_area": 0, "presence_threshold": None},
            "presence_threshold must be a whole number: None",
        ),
        ({"threshold": 128, "min_area": 0, "fill_holes": 1}, "fill_holes must be true or false: 1"),
        (
            {"threshold": 128, "hysteresis_high": 9},
            r"keys threshold and min_area, of .*: \['hysteresis_high', 'threshold'\]",
        ),
        ({"threshold": 128, "min_area": 0, "mode": 1}, r"presence_threshold: \['min_area', 'mode', 'threshold'\]"),
    ],
)
def test_bad_parameters_are_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Postprocessing.from_dict(values)


RING = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 150, 150, 150, 0, 140, 0],
        [0, 150, 0, 150, 0, 0, 0],
        [0, 150, 150, 220, 0, 130, 0],
        [0, 0, 0, 0, 0, 0, 120],
    ],
    np.uint8,
)[None]


@pytest.mark.parametrize(
    ("chosen", "area"),
    [
        (Postprocessing(), 10),  # a ring of 8 and two pixels beside it
        (Postprocessing(fill_holes=True), 11),
        (Postprocessing(hysteresis_high=140), 9),  # the 130 goes
        (Postprocessing(hysteresis_high=141), 8),
        (Postprocessing(hysteresis_high=221), 0),
        (Postprocessing(hysteresis_high=128), 10),  # the threshold itself: every body reaches it
        (Postprocessing(hysteresis_high=1), 10),
        (Postprocessing(120, hysteresis_high=130), 11),  # the 120 touches the 130 at a corner
        (Postprocessing(min_area=9, fill_holes=True, hysteresis_high=200), 9),  # the area of the filled ring
        (Postprocessing(min_area=10, fill_holes=True, hysteresis_high=200), 0),  # is counted without the small bodies
        (Postprocessing(min_area=9, hysteresis_high=200), 0),
        (Postprocessing(200, fill_holes=True, hysteresis_high=210), 1),
    ],
)
def test_steps_by_hand(chosen: Postprocessing, area: int) -> None:
    assert chosen.apply(RING).sum() == chosen.apply(RING / 255).sum() == area


def test_a_weak_ring_around_a_strong_body_stays_once_its_hole_is_filled() -> None:
    ring = np.full((1, 5, 5), 150, np.uint8)
    ring[0, 1:4, 1:4] = 0
    ring[0, 2, 2] = 220
    assert Postprocessing(hysteresis_high=200).apply(ring).sum() == 1
    assert Postprocessing(hysteresis_high=200, fill_holes=True).apply(ring).sum() == 25


def test_the_presence_threshold_empties_images() -> None:
    probabilities, presence = np.full((3, 2, 2), 200, np.uint8), np.array([50, 51, 52], np.uint8)
    assert Postprocessing(presence_threshold=51).apply(probabilities, presence).sum(axis=(1, 2)).tolist() == [0, 4, 4]
    assert (
        Postprocessing(presence_threshold=0).apply(probabilities, presence).sum()
        == Postprocessing().apply(probabilities).sum()
        == 12
    )
    with pytest.raises(
        InputError, match=r"presence threshold is 51/255, .* hold no presence probabilities; predict with"
    ):
        Postprocessing(presence_threshold=51).apply(probabilities)
    for wrong in (presence[:2], presence / 255):
        with pytest.raises(
            InputError, match=r"presence_probability must be uint8 \(3,\), one an image: .*; use quantize"
        ):
            Postprocessing(presence_threshold=51).apply(probabilities, wrong)


def one_by_one(chosen: Postprocessing, pixels: np.ndarray, presence: int) -> np.ndarray:
    """The steps on the mask of one image, one after the other."""
    mask = pixels >= chosen.threshold
    if chosen.fill_holes:
        mask = ndimage.binary_fill_holes(mask)
    labels, bodies = ndimage.label(mask, np.ones((3, 3)))
    for body in range(1, bodies + 1):
        if chosen.hysteresis_high > chosen.threshold and pixels[labels == body].max() < chosen.hysteresis_high:
            mask[labels == body] = False
    return mask & (mask.sum() >= chosen.min_area) & (presence >= chosen.presence_threshold)


values = st.sampled_from([0, 20, 40, 60, 80, 100])
parameters = st.builds(
    Postprocessing, st.sampled_from([1, 30, 50]), st.integers(0, 9), st.booleans(), values, st.sampled_from([0, 50])
)


@given(hnp.arrays(np.uint8, (2, 6, 7), elements=values), parameters, hnp.arrays(np.uint8, 2, elements=values))
@settings(deadline=None)
def test_masks_are_those_of_the_steps_one_by_one(
    stack: np.ndarray, chosen: Postprocessing, presence: np.ndarray
) -> None:
    expected = [one_by_one(chosen, pixels, chance) for pixels, chance in zip(stack, presence, strict=True)]
    np.testing.assert_array_equal(chosen.apply(stack, presence), expected)


def test_apply_refuses_other_arrays() -> None:
    with pytest.raises(InputError, match=r"stack \(N, H, W\): shape \(2, 2\)"):
        THRESHOLD_HALF.apply(np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="dtype int64; use quantize"):
        THRESHOLD_HALF.apply(np.zeros((1, 2, 2), np.int64))
