"""Means and paired differences with their bootstrap intervals, by image or by section."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError


class MeanInterval(NamedTuple):
    """A mean and the ends of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def interval(self) -> list[float]:
        """``[low, high]``, ready for JSON."""
        return [self.low, self.high]


def clusters(labels: Sequence[str]) -> NDArray[np.str_] | None:
    """Labels (N,) as groups to resample; None where all images share one, or no two do: then images are resampled."""
    return np.array(labels, np.str_) if 1 < len(set(labels)) < len(labels) else None


def resampled(groups: ArrayLike | None) -> str:
    """What an interval with these groups resamples, "section" or "image", ready for JSON."""
    return "image" if groups is None else "section"


def mean_interval(values: ArrayLike, groups: ArrayLike | None = None) -> MeanInterval:
    """The mean of ``values`` (N,) with its 95 % interval; arguments and errors as `bootstrap_interval`."""
    low, high = bootstrap_interval(values, groups)
    return MeanInterval(float(np.mean(np.asarray(values, np.float64))), low, high)


def paired_difference(first: ArrayLike, second: ArrayLike, groups: ArrayLike | None = None) -> MeanInterval:
    """The mean of ``second - first`` with its 95 % interval.

    Args:
        first, second: (N,) finite scores of two systems on the same images, in the same order.
        groups: as `bootstrap_interval`.

    Returns:
        `MeanInterval` of the difference.

    Raises:
        InputError: shapes differ, or as `bootstrap_interval`.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape:
        raise InputError(f"scores to compare differ in shape: {one.shape}, {other.shape}; match them by id")
    return mean_interval(other - one, groups)


def standard_error(values: ArrayLike, groups: ArrayLike | None = None) -> float:
    """Standard error of the mean of gains (N,) if there is none in truth: their spread around 0.

    With groups (N,) that of whole groups, as `bootstrap_interval`. The mean of a single gain among zeros is as large as
    its error, never larger.
    """
    sample = np.asarray(values, np.float64)
    sums = sample if groups is None else _group_sums(sample, np.asarray(groups))[0]
    return float(np.sqrt((sums**2).sum()) / len(sample))


def bootstrap_interval(
    values: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95, repeats: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979).

    With groups, whole groups are resampled (cluster bootstrap: Efron and Tibshirani 1993, chapter 8; Cameron, Gelbach
    and Miller 2008). Images of one section resemble each other, so an interval over images alone is too narrow for
    other sections.

    Args:
        values: (N,) finite numbers, one an image; paired differences to compare two systems.
        groups: (N,) labels, such as sections; None resamples images.
        level: share of the resampled means inside the interval, between 0 and 1.
        repeats: number of resamples.
        seed: the same seed gives the same interval.

    Returns:
        (low, high).

    Raises:
        InputError: no values, not one axis, values that are not finite, groups of another shape, fewer than two groups,
            or a level outside (0, 1).
    """
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or len(sample) == 0 or not np.isfinite(sample).all():
        raise InputError(f"one finite value per image is needed: shape {sample.shape}; leave out missing ones")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1: {level}; use 0.95")
    sums, sizes = (sample, None) if groups is None else _group_sums(sample, np.asarray(groups))
    generator = np.random.default_rng(seed)
    means = np.empty(repeats)
    for index in range(repeats):  # one resample at a time: memory stays at one copy of the values
        chosen = generator.integers(len(sums), size=len(sums))
        means[index] = sums[chosen].mean() if sizes is None else sums[chosen].sum() / sizes[chosen].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _group_sums(sample: NDArray[np.float64], groups: NDArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and number of the values of each group, in the order of its first image."""
    if groups.shape != sample.shape:
        raise InputError(f"groups must have one label per value: {groups.shape} for {sample.shape}; match them by id")
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) < 2:
        raise InputError(f"groups must be two or more to resample: only {groups[0]!r}; leave groups out")
    order = np.argsort(first)
    return np.bincount(group, weights=sample).astype(np.float64)[order], np.bincount(group)[order]
