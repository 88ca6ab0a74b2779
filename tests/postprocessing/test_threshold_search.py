"""The search against trying every threshold and area, the smoothed argmax, and cross-fitting without leakage."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saltseg.errors import InputError
from saltseg.metrics import average_precision
from saltseg.postprocessing import threshold_search
from saltseg.postprocessing.areas import areas
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing


def noisy_predictions(n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Squares of salt (some images empty) under smooth noise, with small false alarms in some."""
    generator = np.random.default_rng(seed)
    true = np.zeros((n, size, size), np.uint8)
    for mask in true[: 2 * n // 3]:
        row, column = generator.integers(0, size // 2, 2)
        mask[row : row + size // 2, column : column + size // 2] = 1
    logits = 3.0 * true - 1.5 + generator.normal(0, 1, true.shape) + generator.normal(0, 0.7, (n, 1, 1))
    order = generator.permutation(n)
    return np.rint(255 / (1 + np.exp(-logits[order]))).astype(np.uint8), true[order]


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.uint8, (n, 2, 3), elements=st.integers(0, 255)),
            hnp.arrays(np.uint8, (n, 2, 3), elements=st.integers(0, 1)),
        )
    )
)
@settings(max_examples=15, deadline=None)
def test_the_surface_is_what_trying_everything_gives(pair: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, true = pair
    result = threshold_search.search(probabilities, true)
    expected = np.array(
        [
            [average_precision.score(Postprocessing(threshold, area).apply(probabilities), true) for area in range(7)]
            for threshold in range(1, 256)
        ]
    )
    np.testing.assert_allclose(result.thresholds_passed / (10 * len(true)), expected, rtol=0, atol=1e-12)
    assert result.argmax_score == pytest.approx(expected.max())
    for chosen, score in ((result.argmax, result.argmax_score), (result.smoothed_argmax, result.smoothed_argmax_score)):
        assert score == pytest.approx(expected[chosen.threshold - 1, chosen.min_area])
    assert result.score_at_half == pytest.approx(expected[127, 0])
    np.testing.assert_allclose(result.curve_threshold(3), expected[:, 3])


def test_the_surface_of_larger_images_at_random_points() -> None:
    probabilities, true = noisy_predictions(40, 24)
    surface = threshold_search.search(probabilities, true).thresholds_passed / (10 * len(true))
    assert surface.shape == (255, 24 * 24 + 1)
    generator = np.random.default_rng(1)
    for threshold, area in zip(generator.integers(1, 256, 60), generator.integers(0, 200, 60), strict=True):
        expected = average_precision.score(Postprocessing(threshold, area).apply(probabilities), true)
        assert surface[threshold - 1, area] == pytest.approx(expected)
    empty = float((true.sum(axis=(1, 2)) == 0).mean())
    assert surface[254, -1] == pytest.approx(empty)  # no prediction of 576 pixels at 255: all become empty


def test_ties_of_the_argmax_go_to_the_threshold_nearest_to_one_half() -> None:
    true = np.array([[[1, 0]]])
    result = threshold_search.search(np.array([[[255, 0]]], np.uint8), true)  # every threshold is perfect
    assert result.argmax == THRESHOLD_HALF
    result = threshold_search.search(np.array([[[120, 90]]], np.uint8), true)  # 91 ... 120 are
    assert result.argmax == Postprocessing(120, 0)


def test_a_plateau_is_preferred_to_a_higher_spike() -> None:
    surface = np.full((255, 400), 0.70)
    surface[99:160, 20:61] = 0.80  # thresholds 100 ... 160, areas 20 ... 60
    surface[219, 200] = 0.95
    chosen = threshold_search.smoothed_argmax(surface)[0]
    assert abs(chosen.threshold - 130) <= 2  # the middle
    assert 25 <= chosen.min_area <= 54  # the plateau less its margin
    surface[99:160, 20:61] = 0.70  # without the plateau its surroundings are all there is
    spike = threshold_search.smoothed_argmax(surface)[0]
    assert abs(spike.threshold - 220) <= 1
    assert abs(spike.min_area - 200) <= threshold_search.AREA_REACH + 20


def test_a_spike_in_the_predictions_does_not_win() -> None:
    """The same through `search`: 57 images like thresholds of 60 ... 140, at 200 alone 60 images gain."""
    true = np.zeros((100, 4, 4), np.uint8)
    true[:, :2] = 1
    probabilities = np.zeros((100, 4, 4), np.uint8)
    probabilities[:57, :2], probabilities[:57, 2:] = 140, 59  # perfect at 60 ... 140, else 0
    probabilities[57:, :2], probabilities[57:, 2:] = 200, 199  # perfect at 200 alone
    probabilities[40:57, :2] = 200  # perfect at 60 ... 200
    result = threshold_search.search(probabilities, true)
    assert result.argmax == Postprocessing(200, 0)
    assert result.argmax_score == pytest.approx(0.60)
    assert abs(result.smoothed_argmax.threshold - 100) <= 1
    assert result.smoothed_argmax_score == pytest.approx(0.57)


def test_where_everything_ties_the_middle_is_taken() -> None:
    chosen = threshold_search.smoothed_argmax(np.ones((255, 900)))[0]
    assert chosen == Postprocessing(128, 29)  # geometric: as many times 1 as 900 is times 30


def test_cross_fitting_by_hand() -> None:
    probabilities, true = noisy_predictions(60, 12)
    group = np.arange(60) % 3 + 5
    result = threshold_search.cross_fit_areas(areas(probabilities, true), group)
    assert sorted(result.per_group) == [5, 6, 7]
    for name in (5, 6, 7):
        chosen = threshold_search.search(probabilities[group != name], true[group != name]).smoothed_argmax
        assert result.per_group[name] == chosen
        expected = average_precision.average_precision(chosen.apply(probabilities[group == name]), true[group == name])
        np.testing.assert_array_equal(result.average_precision[group == name], expected)


@pytest.mark.parametrize("name", [0, 1, 2])
def test_what_is_fitted_for_a_group_never_saw_that_group(name: int) -> None:
    probabilities, true = noisy_predictions(60, 12)
    group = np.arange(60) % 3
    before = threshold_search.cross_fit_areas(areas(probabilities, true), group).per_group
    own = group == name
    changed, inverted = true.copy(), probabilities.copy()
    changed[own] = 1 - changed[own]
    inverted[own] = 255 - probabilities[own] // 3
    after = threshold_search.cross_fit_areas(areas(inverted, changed), group).per_group
    assert after[name] == before[name]
    # The others did see it: were labels ignored altogether, this test would prove nothing.
    assert any(after[other] != before[other] for other in before if other != name)


@pytest.mark.parametrize("searched", [("threshold", "min_area"), ("threshold",), ("min_area",), ()])
def test_leaving_out_a_group_is_searching_the_others(searched: tuple[str, ...]) -> None:
    probabilities, true = noisy_predictions(40, 12)
    groups = np.arange(40) % 3
    fitted = threshold_search.fit_without(areas(probabilities, true), groups, [2, None], searched)
    assert list(fitted) == [2, None]
    for name, (chosen, score) in fitted.items():
        seen = groups != 2 if name == 2 else groups >= 0
        result = threshold_search.search_areas(areas(probabilities[seen], true[seen]), searched)
        assert chosen == result.smoothed_argmax
        assert "min_area" in searched or chosen.min_area == 0
        assert "threshold" in searched or chosen.threshold == 128
        rows, columns = neighbors(chosen, result.thresholds_passed.shape)
        rows, columns = rows if "threshold" in searched else [127], columns if "min_area" in searched else [0]
        around = result.thresholds_passed[np.ix_(rows, columns)]
        assert score == pytest.approx(around.mean())


def neighbors(chosen: Postprocessing, shape: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Rows and columns of the surface that the smoothed score is the mean of."""
    row, column, reach = chosen.threshold - 1, chosen.min_area, 3 + chosen.min_area // 10
    return (
        [near for near in range(shape[0]) if abs(near - row) <= 8],
        [near for near in range(shape[1]) if abs(near - column) <= reach],
    )


def test_groups_that_cannot_be_cross_fitted_are_refused() -> None:
    probabilities, true = noisy_predictions(6, 4)
    with pytest.raises(InputError, match="only group 3; use random_parts"):
        threshold_search.cross_fit_areas(areas(probabilities, true), np.full(6, 3))
    with pytest.raises(InputError, match="one whole number is needed per image"):
        threshold_search.cross_fit_areas(areas(probabilities, true), np.arange(5))
    with pytest.raises(InputError, match="float64"):
        threshold_search.cross_fit_areas(areas(probabilities, true), np.arange(6) / 2)


def test_random_parts_are_even_seeded_and_not_in_order() -> None:
    parts = threshold_search.random_parts(103)
    assert np.bincount(parts).tolist() == [21, 21, 21, 20, 20]
    np.testing.assert_array_equal(parts, threshold_search.random_parts(103))
    assert (parts != threshold_search.random_parts(103, seed=1)).any()
    assert (parts != np.arange(103) % 5).any()


def test_four_thousand_images_take_about_a_second() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.integers(0, 256, (4000, 101, 101), dtype=np.uint8)
    true = (probabilities > 100).astype(np.uint8)
    begin = time.process_time()
    threshold_search.search(probabilities, true)
    assert time.process_time() - begin < 4  # 0.3 s measured; room for slow and busy machines
