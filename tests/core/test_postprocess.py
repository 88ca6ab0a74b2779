"""Quantising, and the decision rule by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saltseg.core.postprocess import HALF, Rule, quantise
from saltseg.errors import InputError


def test_quantise_by_hand() -> None:
    values = np.array([0, 1, 0.5, 0.4999, 1 / 510 - 1e-6, 1 / 510 + 1e-6, 0.2])
    assert quantise(values).tolist() == [0, 255, 128, 127, 0, 1, 51]
    assert quantise(values).dtype == np.uint8


@given(hnp.arrays(np.float64, 5, elements=st.floats(0, 1)))
def test_quantising_loses_half_a_step_at_most(values: np.ndarray) -> None:
    assert np.abs(quantise(values) / 255 - values).max() <= 0.5 / 255 + 1e-12


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_half_is_salt_and_the_number_below_is_not(dtype: type) -> None:
    half = dtype(0.5)
    below = np.nextafter(half, dtype(0))
    assert quantise(np.array([half, below], dtype)).tolist() == [128, 127]


@pytest.mark.parametrize("value", [math.nan, -0.01, 1.01, math.inf])
def test_quantise_refuses_what_is_no_probability(value: float) -> None:
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        quantise(np.array([0.5, value]))
    with pytest.raises(InputError, match="only floats are quantised: dtype int64"):
        quantise(np.array([0, 1], np.int64))


def test_rule_by_hand() -> None:
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
    assert Rule(100, 0).apply(probabilities).tolist() == at_100
    assert Rule(100, 1).apply(probabilities).tolist() == at_100
    assert Rule(100, 2).apply(probabilities).tolist() == [at_100[0], none, none]
    assert Rule(100, 3).apply(probabilities).tolist() == [none, none, none]
    assert Rule(100, 2).apply(probabilities / 255).tolist() == [at_100[0], none, none]
    assert Rule(100, 2).apply(probabilities).dtype == np.uint8


def test_half_is_one_half() -> None:
    probabilities = np.array([[[0.5, 0.499, 1, 0]]])
    assert HALF.apply(probabilities).tolist() == [[[1, 0, 1, 0]]]
    assert Rule() == HALF


def test_applying_a_rule_leaves_the_probabilities_alone() -> None:
    probabilities = np.full((1, 2, 2), 200, np.uint8)
    Rule(1, 5).apply(probabilities)
    assert (probabilities == 200).all()


def test_rule_survives_json() -> None:
    rule = Rule(np.int64(140), np.int32(55))  # type: ignore[arg-type]
    assert Rule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule == Rule(140, 55)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0, "min_area": 0}, r"threshold must be 1 \.\.\. 255 \(255ths\): 0"),
        ({"threshold": 256, "min_area": 0}, "255ths.: 256"),
        ({"threshold": 0.5, "min_area": 0}, "threshold must be a whole number: 0.5"),
        ({"threshold": True, "min_area": 0}, "threshold must be a whole number: True"),
        ({"threshold": 128, "min_area": -1}, "min_area must be 0 or more pixels: -1"),
        ({"threshold": 128, "min_area": "9"}, "min_area must be a whole number: '9'"),
        ({"threshold": 128}, r"keys threshold and min_area: \['threshold'\]"),
        ({"threshold": 128, "min_area": 0, "mode": 1}, "'mode'"),
    ],
)
def test_bad_rules_are_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rule.from_dict(values)


def test_apply_refuses_other_arrays() -> None:
    with pytest.raises(InputError, match=r"stack \(N, H, W\): shape \(2, 2\)"):
        HALF.apply(np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="dtype int64; use quantise"):
        HALF.apply(np.zeros((1, 2, 2), np.int64))
