"""Weighted means by fractions, selection against a slow second implementation, cross-fitting without leakage."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltseg.errors import InputError
from saltseg.metrics import average_precision
from saltseg.postprocessing import blend_weights, threshold_search
from saltseg.postprocessing.areas import areas


def library(members: int, n: int = 24, size: int = 12, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Masks (a quarter of them empty) and members that see them through noise of their own, more from first to last."""
    generator = np.random.default_rng(seed)
    true = np.zeros((n, size, size), np.uint8)
    for index, rows in enumerate(generator.integers(1, size, n)):
        true[index, : rows if index % 4 else 0] = 1
    noise = [generator.normal(0, 40 + 10 * m, true.shape) for m in range(members)]
    return [np.clip(90 + 75.0 * true + part, 0, 255).astype(np.uint8) for part in noise], true


def salt(n: int = 12, size: int = 20) -> np.ndarray:
    """Masks (n, size, size) of one half salt each, shifted from image to image."""
    columns = (np.arange(size) + np.arange(n)[:, None]) % size < size // 2
    return np.repeat(columns[:, None, :], size, axis=1).astype(np.uint8)


def noise(like: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, like.shape).astype(np.uint8)


# ---------------------------------------------------------------- the mean


@given(st.data(), st.integers(1, 5))
def test_the_weighted_mean_of_any_members_by_fractions(data: st.DataObject, members: int) -> None:
    # Weights around the limits of 8, 16, 32 and 64 bits as well, where a sum in too narrow a type would wrap.
    weight = st.one_of(st.integers(0, 9), *(st.integers(2**bits // 511, 2**bits + 2) for bits in (8, 16, 32, 64)))
    counts = data.draw(st.lists(weight, min_size=members, max_size=members).filter(any))
    row = st.lists(st.integers(0, 255), min_size=3, max_size=3)
    pixels = data.draw(st.lists(row, min_size=members, max_size=members))
    result = blend_weights.weighted_mean([np.array([[values]], np.uint8) for values in pixels], counts)
    assert result.dtype == np.uint8
    for column, value in zip(zip(*pixels, strict=True), result[0, 0].tolist(), strict=True):
        exact = Fraction(sum(c * p for c, p in zip(counts, column, strict=True)), sum(counts))
        assert value == (exact + Fraction(1, 2)).__floor__()


def test_the_mean_of_more_images_than_are_averaged_at_once() -> None:
    one, other = (np.random.default_rng(seed).integers(0, 256, (150, 2, 3)).astype(np.uint8) for seed in (0, 1))
    expected = (2 * (3 * one.astype(int) + other) + 4) // 8
    assert np.array_equal(blend_weights.weighted_mean([one, other], (3, 1)), expected)


@pytest.mark.parametrize("counts", [(), (1,), (1, 1, 1), (1, -1), (0, 0), (0.5, 0.5), ("1", "1")])
def test_weights_that_do_not_fit_are_refused(counts: tuple) -> None:
    stack = np.zeros((1, 1, 1), np.uint8)
    with pytest.raises(InputError, match=r"2 weights are needed, whole numbers from 0 up, not all 0: \["):
        blend_weights.weighted_mean([stack, stack], counts)


# ---------------------------------------------------------------- selection


def select(stacks: list[np.ndarray], true: np.ndarray) -> tuple[int, ...]:
    """Weights fitted on all images."""
    return blend_weights.cross_fit(stacks, true, np.arange(len(true)) % 2).counts


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_perfect_member_among_noise_gets_all_the_weight(position: int) -> None:
    true = salt()
    stacks = [noise(true, 1), noise(true, 2)]
    stacks.insert(
        position, (125 + 5 * true).astype(np.uint8)
    )  # right everywhere, but so faint that any noise drowns it
    assert select(stacks, true) == tuple(int(m == position) for m in range(3))


def test_two_members_that_complement_each_other_share_the_weight_and_noise_gets_none() -> None:
    true = salt()
    top, bottom = np.full(true.shape, 128, np.uint8), np.full(true.shape, 128, np.uint8)
    top[:, :10] = 125 + 5 * true[:, :10]  # knows the upper half only
    bottom[:, 10:] = 125 + 5 * true[:, 10:]
    assert select([top, noise(true, 1), bottom], true) == (1, 0, 1)
    assert threshold_search.search(blend_weights.weighted_mean([top, bottom], (1, 1)), true).smoothed_argmax_score == 1
    assert threshold_search.search(top, true).argmax_score < 1


def test_where_weights_make_no_difference_they_stay_equal() -> None:
    stacks, true = library(1)
    assert select(stacks * 3, true) == (1, 1, 1)
    assert select(stacks * 25, true) == (1,) * 25  # more members than rounds: the path cannot get there
    assert select([np.full(true.shape, value, np.uint8) for value in (10, 20)], true) == (1, 1)


def slow_select(stacks: list[np.ndarray], true: np.ndarray) -> tuple[int, ...]:
    """Greedy selection as one would write it down, every candidate scored from its pixels."""

    def key(counts: tuple[int, ...]) -> tuple[float, Fraction]:
        total = sum(counts)
        mean = sum(count * stack.astype(int) for count, stack in zip(counts, stacks, strict=True))
        score = threshold_search.search(
            ((2 * mean + total) // (2 * total)).astype(np.uint8), true
        ).smoothed_argmax_score
        return score, -sum(Fraction(count, total) ** 2 for count in counts)

    members = len(stacks)
    options = [tuple(int(m == chosen) for m in range(members)) for chosen in range(members)]
    seen = [(1,) * members, *options]
    for _ in range(min(4 * members, 20)):
        best = max(options, key=key)
        options = [(*best[:m], best[m] + 1, *best[m + 1 :]) for m in range(members)]
        seen += options
    best = max(seen, key=key)
    return tuple(count // np.gcd.reduce(best) for count in best)


@pytest.mark.parametrize(("members", "seed"), [(1, 0), (2, 1), (2, 2), (3, 3), (3, 4), (4, 5)])
def test_selection_is_what_the_slow_implementation_finds(members: int, seed: int) -> None:
    stacks, true = library(members, seed=seed)
    assert select(stacks, true) == slow_select(stacks, true)


# ---------------------------------------------------------------- cross-fitting


def test_each_group_is_scored_with_weights_and_rule_of_the_others() -> None:
    stacks, true = library(3, seed=6)
    group = np.random.default_rng(0).permutation(np.arange(len(true)) % 3) + 4
    result = blend_weights.cross_fit(stacks, true, group)
    assert result.counts == slow_select(stacks, true)
    assert set(result.counts_of_group) == {4, 5, 6}
    for name, counts in result.counts_of_group.items():
        own, others = group == name, group != name
        assert counts == slow_select([stack[others] for stack in stacks], true[others])
        mean = blend_weights.weighted_mean(stacks, counts)
        tuned = threshold_search.search(mean[others], true[others]).smoothed_argmax
        assert np.array_equal(
            result.average_precision[own], average_precision.average_precision(tuned.apply(mean[own]), true[own])
        )
    equal = threshold_search.cross_fit_areas(areas(blend_weights.weighted_mean(stacks, (1, 1, 1)), true), group)
    assert np.array_equal(result.equal, equal.average_precision)
    assert not np.array_equal(result.equal, result.average_precision)


def test_the_labels_of_a_group_do_not_influence_its_own_weights() -> None:
    stacks, true = library(3, seed=7)
    group = np.arange(len(true)) % 3
    mixed = true.copy()
    mixed[group == 1] = true[group == 1][::-1]
    before, after = (blend_weights.cross_fit(stacks, labels, group) for labels in (true, mixed))
    assert before.counts_of_group[1] == after.counts_of_group[1]
    assert before.counts_of_group != after.counts_of_group  # those of the others do change
    assert not np.array_equal(before.average_precision[group == 1], after.average_precision[group == 1])


def test_progress_is_called_to_the_end() -> None:
    stacks, true = library(2)
    calls: list[tuple[int, int]] = []
    blend_weights.cross_fit(stacks, true, np.arange(len(true)) % 2, lambda done, total: calls.append((done, total)))
    assert calls == [(done, 9) for done in range(1, 10)]  # singles and equal weights, then eight rounds


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (np.zeros(3, int), r"one whole number is needed per image: group is int64 \(3,\)"),
        (np.linspace(0, 1, 24), r"one whole number is needed per image: group is float64"),
        (np.zeros(24, int), r"cross-fitting needs two groups or more: only group 0; use random_parts"),
    ],
)
def test_groups_that_do_not_fit_are_refused(group: np.ndarray, message: str) -> None:
    stacks, true = library(2)
    with pytest.raises(InputError, match=message):
        blend_weights.cross_fit(stacks, true, group)
