"""Bootstrap intervals against the normal distribution, of images and of groups."""

import numpy as np
import pytest

from saltseg.errors import InputError
from saltseg.metrics import bootstrap


def test_bootstrap_interval_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(3, 2, 2000)
    low, high = bootstrap.bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert bootstrap.bootstrap_interval(values) == (low, high)
    narrow = bootstrap.bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap.bootstrap_interval([0.5]) == (0.5, 0.5)


def test_bootstrap_refuses_what_is_not_one_finite_value_an_image() -> None:
    for values in ([], [[1.0]], [1.0, np.nan]):
        with pytest.raises(InputError, match="one finite value per image"):
            bootstrap.bootstrap_interval(values)
    with pytest.raises(InputError, match=r"between 0 and 1: 95"):
        bootstrap.bootstrap_interval([1.0], level=95)


def test_groups_of_one_image_each_give_the_interval_over_images() -> None:
    values = np.random.default_rng(2).normal(0, 1, 300)
    labels = np.random.default_rng(3).permutation(300)  # in any order
    assert bootstrap.bootstrap_interval(values, labels) == bootstrap.bootstrap_interval(values)
    assert bootstrap.bootstrap_interval(values, labels.astype(str)) == bootstrap.bootstrap_interval(values)


def test_images_that_repeat_within_their_group_add_nothing() -> None:
    """Four copies of each value tell no more than one; resampling images would halve the interval all the same."""
    once = np.random.default_rng(4).normal(0, 1, 200)
    values, groups = np.repeat(once, 4), np.repeat(np.arange(200), 4)
    low, high = bootstrap.bootstrap_interval(once)
    assert bootstrap.bootstrap_interval(values, groups) == pytest.approx((low, high), abs=1e-12)
    plain = bootstrap.bootstrap_interval(values)
    assert plain[1] - plain[0] == pytest.approx((high - low) / 2, rel=0.1)


def test_groups_weigh_as_many_images_as_they_have() -> None:
    """Two groups, three images of 1 and one of 0: a resample is either group twice, or both, with mean 3/4."""
    values, groups = [1.0, 1.0, 0.0, 1.0], ["a", "a", "b", "a"]
    assert bootstrap.bootstrap_interval(values, groups) == (0, 1)
    assert bootstrap.bootstrap_interval(values, groups, level=0.01) == (0.75, 0.75)
    assert bootstrap.mean_interval(values, groups) == (0.75, 0, 1)


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"one label per value: \(2,\) for \(3,\); match them by id"):
        bootstrap.bootstrap_interval([1.0, 2.0, 3.0], [0, 1])
    with pytest.raises(InputError, match=r"two or more to resample: only .*7.*; leave groups out"):
        bootstrap.bootstrap_interval([1.0, 2.0], [7, 7])


def test_paired_difference_is_that_of_the_second_over_the_first() -> None:
    generator = np.random.default_rng(5)
    first = generator.random(400)
    second = first + generator.normal(0.1, 0.01, 400)  # nearly the same gain for every image
    gain = bootstrap.paired_difference(first, second)
    assert gain.mean == pytest.approx((second - first).mean())
    assert gain.interval == [gain.low, gain.high] == list(bootstrap.bootstrap_interval(second - first))
    assert 0.098 < gain.low < gain.mean < gain.high < 0.102
    groups = np.arange(400) // 4
    assert bootstrap.paired_difference(first, second, groups) == bootstrap.mean_interval(second - first, groups)
    with pytest.raises(InputError, match=r"differ in shape: \(2,\), \(3,\); match them by id"):
        bootstrap.paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_standard_error_of_images_and_of_sections() -> None:
    values = np.array([-1.0, 0.0, 1.0, 1.0])
    assert bootstrap.standard_error(values) == pytest.approx(3**0.5 / 4)
    assert bootstrap.standard_error(values, ["a", "a", "b", "b"]) == pytest.approx(5**0.5 / 4)  # sums -1 and 2
    assert bootstrap.standard_error(np.zeros(3)) == 0
