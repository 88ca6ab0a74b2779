"""Areas at every threshold against counting pixels, and the log loss against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saltseg.errors import InputError
from saltseg.metrics import average_precision
from saltseg.postprocessing import threshold_search
from saltseg.postprocessing.areas import areas, log_loss
from saltseg.postprocessing.parameters import Postprocessing

shapes = st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(1, 4))


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(shapes)
    # Values near each other and at the ends, so that pixels and images meet at the same thresholds.
    values = st.sampled_from([0, 1, 2, 127, 128, 129, 130, 253, 254, 255])
    probabilities = draw(hnp.arrays(np.uint8, shape, elements=values))
    return probabilities, draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))


@given(predictions())
@settings(max_examples=50, deadline=None)
def test_areas_are_counts_of_pixels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, true = pair
    counted = areas(probabilities, true)
    assert counted.pixels == true[0].size
    np.testing.assert_array_equal(counted.true, true.sum(axis=(1, 2)))
    for threshold in range(256):
        predicted = probabilities >= threshold
        np.testing.assert_array_equal(counted.predicted[:, threshold], predicted.sum(axis=(1, 2)))
        np.testing.assert_array_equal(counted.intersection[:, threshold], (predicted & true).sum(axis=(1, 2)))


@given(predictions(), st.integers(1, 255), st.integers(0, 17))
@settings(deadline=None)
def test_scores_under_a_rule_are_those_of_its_masks(
    pair: tuple[np.ndarray, np.ndarray], threshold: int, min_area: int
) -> None:
    probabilities, true = pair
    chosen = Postprocessing(threshold, min_area)
    expected = average_precision.average_precision(chosen.apply(probabilities), true)
    np.testing.assert_array_equal(areas(probabilities, true).average_precision(chosen), expected)


@pytest.mark.parametrize(
    ("height", "width", "dtype"), [(101, 101, "int16"), (129, 127, "int16"), (128, 128, "int32"), (300, 300, "int32")]
)
def test_areas_of_images_of_any_size_are_exact_and_no_larger_than_they_need_be(
    height: int, width: int, dtype: str
) -> None:
    """Full masks, predicted full, without the last row, and empty: the largest areas, sums and products there are."""
    true = np.ones((3, height, width), np.uint8)
    predicted = true.copy()
    predicted[1, -1], predicted[2] = 0, 0
    counted = areas(255 * predicted, true)
    assert {part.dtype for part in (counted.intersection, counted.predicted, counted.true)} == {np.dtype(dtype)}
    assert counted.predicted[:, 255].tolist() == [height * width, (height - 1) * width, 0]
    assert counted.true.tolist() == [height * width] * 3
    assert (
        counted.average_precision(Postprocessing(255)).tolist()
        == average_precision.average_precision(predicted, true).tolist()
    )
    assert threshold_search.surface(counted)[254, [0, -1]].tolist() == [20, 10]  # a row is less than a twentieth
    wrong = (height + 1) / (3 * height)  # of the pixels, given a probability of 1/510; the others 509/510
    assert log_loss(counted) == pytest.approx(wrong * np.log(510) - (1 - wrong) * np.log(509 / 510))


def test_emptied_images_have_no_prediction_left() -> None:
    probabilities = np.array([[[10, 0], [0, 200]]] * 3, np.uint8)
    counted = areas(probabilities, np.array([[[1, 0], [0, 1]]] * 3))
    emptied = counted.emptied(np.array([False, True, False]))
    assert emptied.predicted[:, [0, 1, 10, 200, 201]].tolist() == [[4, 2, 2, 1, 0], [4, 0, 0, 0, 0], [4, 2, 2, 1, 0]]
    assert emptied.intersection[:, [0, 1, 10, 200, 201]].tolist() == [[2, 2, 2, 1, 0], [2, 0, 0, 0, 0], [2, 2, 2, 1, 0]]
    assert emptied.true.tolist() == [2, 2, 2]
    assert emptied.pixels == emptied.take(np.array([1])).pixels == 4


def test_floats_are_quantized() -> None:
    probabilities = np.random.default_rng(0).random((3, 5, 5))
    true = (probabilities > 0.3).astype(np.uint8)
    from_floats = areas(probabilities, true)
    from_integers = areas(np.rint(probabilities * 255).astype(np.uint8), true)
    np.testing.assert_array_equal(from_floats.intersection, from_integers.intersection)
    np.testing.assert_array_equal(from_floats.predicted, from_integers.predicted)


def test_log_loss_is_the_mean_over_pixels() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.integers(0, 256, (7, 11, 13)).astype(np.uint8)
    true = generator.integers(0, 2, (7, 11, 13)).astype(np.uint8)
    p = np.clip(probabilities / 255, 1 / 510, 1 - 1 / 510)
    expected = -np.mean(np.where(true == 1, np.log(p), np.log(1 - p)))
    assert log_loss(areas(probabilities, true)) == pytest.approx(expected)


def test_log_loss_by_hand() -> None:
    probabilities = np.array([[[0, 255, 51]]], np.uint8)
    wrong = log_loss(areas(probabilities, np.array([[[1, 0, 1]]])))
    assert wrong == pytest.approx((2 * np.log(510) + np.log(5)) / 3)  # clipped at 1/510, not infinite


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 2, 2\) and \(1, 2, 3\)"):
        areas(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(InputError, match="not empty"):
        areas(np.zeros((0, 2, 2), np.uint8), np.zeros((0, 2, 2), np.uint8))
    with pytest.raises(InputError, match="must be uint8 in 255ths or floats"):
        areas(np.zeros((1, 2, 2), np.int32), np.zeros((1, 2, 2), np.uint8))
