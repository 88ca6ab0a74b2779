"""Weights of a blend: greedy ensemble selection with replacement on the competition's metric.

Source: R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, "Ensemble selection from libraries of models", ICML
2004, sections 2.1 (with replacement, so that weights are counts) and 2.2 (start from the best). The path starts from
the best single member and in each round adds the member that raises the score most. It does not start from all
members once each, because what is in can never leave: a useless member would keep its share. Equal weights are scored
beside the path, and where scores tie the most even weights win; so whatever does not help comes back to equal weights.

The score of a candidate is that of its plateau rule (`thresholds.search_areas`) on the images it is fitted on. It
flatters, the more so the more members there are; believe `cross_fit` only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core import thresholds
from saltseg.core.areas import areas
from saltseg.errors import InputError

Counts = tuple[int, ...]
Stack = NDArray[np.uint8]
Progress = Callable[[int, int], object]

MOST_ROUNDS = 20  # one more addition would move a weight by less than a twentieth
_CHUNK = 64  # images averaged at once: the sum stays in the processor's cache


@dataclass(frozen=True)
class Fitted:
    """Result of `cross_fit`.

    Attributes:
        counts: weights fitted on all images.
        counts_of_group: group -> weights fitted on all other groups.
        average_precision: float64 (N,), each image under weights and rule fitted on the other groups.
        equal: float64 (N,), each image under equal weights and the rule fitted for them on the other groups.
    """

    counts: Counts
    counts_of_group: dict[int, Counts]
    average_precision: NDArray[np.float64]
    equal: NDArray[np.float64]


def weighted_mean(stacks: Sequence[Stack], counts: Sequence[int]) -> Stack:
    """The weighted mean, exact in whole numbers, halves rounded up.

    Args:
        stacks: one or more uint8 arrays of one shape (N, ...).
        counts: a weight for each, 0 or more, not all 0; only their ratios matter.

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: weights that do not fit, are negative, not whole, or all 0.
    """
    whole = all(isinstance(count, (int, np.integer)) and count >= 0 for count in counts)
    if len(counts) != len(stacks) or not whole or not any(counts):
        raise InputError(
            f"{len(stacks)} weights are needed, whole numbers from 0 up, not all 0: {list(counts)}; such as 2 1"
        )
    reduced = _reduced(counts)
    total = sum(reduced)
    kind = np.min_scalar_type(511 * total)  # holds 2 * 255 * total + total; Python's integers beyond 64 bits
    mean = np.empty_like(stacks[0])
    for begin in range(0, len(mean), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        doubled = np.full(mean[part].shape, total, kind)
        for stack, count in zip(stacks, reduced, strict=True):
            if count:
                doubled += stack[part].astype(kind) * kind.type(2 * count)
        mean[part] = doubled // kind.type(2 * total)
    return mean


def select(stacks: Sequence[Stack], true: ArrayLike, progress: Progress | None = None) -> Counts:
    """Weights with the highest score found on the given images, as counts without a common divisor.

    Args:
        stacks: M members' probabilities, each uint8 (N, H, W) in 255ths, all in one order of images.
        true: (N, H, W), values 0 and 1.
        progress: called with (steps done, steps in all).

    Returns:
        M counts, 0 or more.

    Raises:
        InputError: as `areas`.
    """
    return _select_each(stacks, true, [np.ones(len(stacks[0]), bool)], progress)[0]


def cross_fit(stacks: Sequence[Stack], true: ArrayLike, group: ArrayLike, progress: Progress | None = None) -> Fitted:
    """Score each group under weights and a rule fitted on all other groups, and under equal weights likewise.

    Args:
        stacks: M members' probabilities, each uint8 (N, H, W) in 255ths, all in one order of images.
        true: (N, H, W), values 0 and 1.
        group: (N,) whole numbers, usually the fold.
        progress: called with (steps done, steps in all).

    Returns:
        `Fitted`.

    Raises:
        InputError: as `areas`; a group array that does not fit; fewer than two groups.
    """
    groups = thresholds.as_groups(group, len(stacks[0]))
    names = np.unique(groups).tolist()
    everything = np.ones(len(groups), bool)
    counts, *of_groups = _select_each(stacks, true, [everything, *(groups != name for name in names)], progress)
    equal = (1,) * len(stacks)
    scores = {}
    for tried in {equal, *of_groups}:
        counted = areas(weighted_mean(stacks, tried), true)
        for name in names:
            rule = thresholds.search_areas(counted.take(groups != name)).rule
            scores[name, tried] = counted.take(groups == name).average_precision(rule)
    counts_of_group = dict(zip(names, of_groups, strict=True))
    fitted, plain = np.empty(len(groups)), np.empty(len(groups))
    for name in names:
        fitted[groups == name] = scores[name, counts_of_group[name]]
        plain[groups == name] = scores[name, equal]
    return Fitted(counts, counts_of_group, fitted, plain)


def _select_each(
    stacks: Sequence[Stack], true: ArrayLike, samples: Sequence[NDArray[np.bool_]], progress: Progress | None
) -> list[Counts]:
    """`select` on each of several samples of the images, side by side: they share most of the counting."""
    members = len(stacks)
    rounds = min(4 * members, MOST_ROUNDS)
    scores: list[dict[Counts, float]] = [{} for _ in samples]

    def score(wanted: Sequence[Sequence[Counts]], done: int) -> None:
        """Fill ``scores`` for the counts that each sample wants and does not have."""
        for counts in dict.fromkeys(counts for options in wanted for counts in options):
            asking = [s for s, options in enumerate(wanted) if counts in options and counts not in scores[s]]
            if not asking:
                continue
            counted = areas(weighted_mean(stacks, counts), true)
            for s in asking:
                scores[s][counts] = thresholds.search_areas(counted.take(samples[s])).rule_score
        if progress:
            progress(done, rounds + 1)

    def best(options: Sequence[Counts], known: dict[Counts, float]) -> Counts:
        return max(options, key=lambda counts: (known[_reduced(counts)], -_unevenness(counts)))

    singles = [tuple(int(m == chosen) for m in range(members)) for chosen in range(members)]
    score([[(1,) * members, *singles]] * len(samples), done=1)
    path = [best(singles, known) for known in scores]
    for done in range(2, rounds + 2):
        steps = [[tuple(np.add(counts, single).tolist()) for single in singles] for counts in path]
        score([[_reduced(counts) for counts in options] for options in steps], done)
        path = [best(options, known) for options, known in zip(steps, scores, strict=True)]
    return [best(list(known), known) for known in scores]


def _reduced(counts: Sequence[int]) -> Counts:
    """The same weights without a common divisor: the same mean."""
    divisor = math.gcd(*(int(count) for count in counts))
    return tuple(int(count) // divisor for count in counts)


def _unevenness(counts: Counts) -> Fraction:
    """Sum of squared shares: 1 / M for equal weights, 1 for a single member."""
    return Fraction(sum(count * count for count in counts), sum(counts) ** 2)
