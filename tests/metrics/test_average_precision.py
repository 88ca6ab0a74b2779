"""The metric against literal values and Kaggle's definition in fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saltseg.errors import InputError
from saltseg.metrics import average_precision


def brute_force(predicted: np.ndarray, true: np.ndarray) -> Fraction:
    """Kaggle's definition for one image, pixel by pixel and threshold by threshold."""
    pairs = list(zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True))
    union = sum(1 for p, t in pairs if p or t)
    if union == 0:
        return Fraction(1)
    iou = Fraction(sum(1 for p, t in pairs if p and t), union)
    return Fraction(sum(iou > Fraction(50 + 5 * step, 100) for step in range(10)), 10)


@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.just(2), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
        elements=st.integers(0, 1),
    )
)
def test_average_precision_agrees_with_brute_force(pair: np.ndarray) -> None:
    predicted, true = pair
    expected = [float(brute_force(p, t)) for p, t in zip(predicted, true, strict=True)]
    assert average_precision.average_precision(predicted, true).tolist() == expected
    assert average_precision.score(predicted, true) == pytest.approx(np.mean(expected))


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
def test_areas_agree_with_fractions(common: int, only_predicted: int, only_true: int) -> None:
    union = common + only_predicted + only_true
    passed = sum(Fraction(common, union) > Fraction(50 + 5 * step, 100) for step in range(10)) if union else 10
    value = average_precision.average_precision_from_areas(common, common + only_predicted, common + only_true)
    assert value == passed / 10


@pytest.mark.parametrize(
    ("common", "union", "expected"),
    [
        (0, 1, 0.0),
        (1, 2, 0.0),  # exactly one half is not above one half
        (51, 100, 0.1),
        (11, 20, 0.1),  # exactly 0.55 passes 0.50 alone
        (12, 20, 0.2),
        (13, 20, 0.3),
        (14, 20, 0.4),  # in floats 0.5 + 4 * 0.05 is not 0.7
        (15, 20, 0.5),
        (16, 20, 0.6),
        (17, 20, 0.7),
        (18, 20, 0.8),
        (19, 20, 0.9),  # exactly 0.95 does not pass 0.95
        (10200, 10201, 1.0),
        (1, 1, 1.0),
    ],
)
def test_iou_at_the_thresholds(common: int, union: int, expected: float) -> None:
    assert average_precision.average_precision_from_areas(common, common, union) == expected
    assert average_precision.average_precision_from_areas(common, union, common) == expected
    repeated = 500  # the same fraction with larger terms
    assert (
        average_precision.average_precision_from_areas(common * repeated, common * repeated, union * repeated)
        == expected
    )


EMPTY, FULL = np.zeros((101, 101), np.uint8), np.ones((101, 101), np.uint8)
LAST = EMPTY.copy()
LAST[100, 100] = 1
TOP_80 = EMPTY.copy()
TOP_80[:80] = 1
TOP_40 = EMPTY.copy()
TOP_40[:40] = 1


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        (EMPTY, EMPTY, 1.0),
        (FULL, FULL, 1.0),
        (LAST, LAST, 1.0),
        (EMPTY, FULL, 0.0),
        (FULL, EMPTY, 0.0),
        (LAST, EMPTY, 0.0),
        (EMPTY, LAST, 0.0),
        (LAST, FULL, 0.0),
        (TOP_40, TOP_80, 0.0),  # IoU exactly 1/2
        (TOP_80, FULL, 0.6),  # IoU 80/101 = 0.792 passes 0.50 ... 0.75
        (EMPTY, TOP_80, 0.0),  # the metric of many kernels gives 0.6 here
    ],
)
def test_degenerate_masks(predicted: np.ndarray, true: np.ndarray, expected: float) -> None:
    assert average_precision.average_precision(predicted[None], true[None]).tolist() == [expected]


def test_areas_broadcast() -> None:
    values = average_precision.average_precision_from_areas([[3, 4]], [[4, 4]], [[4], [8]])
    assert values.tolist() == [[0.2, 1.0], [0.0, 0.0]]  # 3/5, 4/4; 3/9, 4/8
    values = average_precision.average_precision_from_areas(np.uint8(200), np.uint8(200), np.uint8(250))  # 16/20
    assert values == 0.6


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="no images"):
        average_precision.score(np.zeros((0, 2, 2)), np.zeros((0, 2, 2)))
    with pytest.raises(InputError, match=r"differ in shape: \(1, 2, 2\), \(1, 2, 3\)"):
        average_precision.score(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match="true must hold only 0 and 1: found 255"):
        average_precision.score(np.zeros((1, 2, 2)), np.full((1, 2, 2), 255))
    with pytest.raises(InputError, match="whole numbers"):
        average_precision.average_precision_from_areas(0.5, 1, 1)
    with pytest.raises(InputError, match="between 0 and either area: largest 3"):
        average_precision.average_precision_from_areas(3, 2, 4)
