"""Weights of a blend: greedy ensemble selection with replacement on the competition's metric.

Source: R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, "Ensemble selection from libraries of models", ICML
2004, sections 2.1 (with replacement, so that weights are counts) and 2.2 (start from the best). The path starts from
the best single member and in each round adds the member that raises the score most. It does not start from all
members once each, because nothing is ever removed: a useless member would keep its weight. Equal weights are scored
beside the path, and the most even weights win a tie, so without a gain the weights are equal.

The score of a candidate is that of its smoothed argmax (`threshold_search.search_areas`) on the images it is fitted on.
It is optimistic, the more so the more members there are; only `cross_fit` is honest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.postprocessing import threshold_search
from saltseg.postprocessing.areas import areas
from saltseg.predictions import Counts, Stack, reduced, weighted_mean

Progress = Callable[[int, int], object]

MOST_ROUNDS = 20  # one more addition would move a weight by less than a twentieth


@dataclass(frozen=True)
class FittedWeights:
    """Result of `cross_fit`.

    Attributes:
        counts: weights fitted on all images.
        counts_of_group: group -> weights fitted on all other groups.
        average_precision: float64 (N,), each image with weights, threshold and minimum area fitted on the other groups.
        equal: float64 (N,), the same with equal weights.
    """

    counts: Counts
    counts_of_group: dict[int, Counts]
    average_precision: NDArray[np.float64]
    equal: NDArray[np.float64]


def cross_fit(
    stacks: Sequence[Stack], true: ArrayLike, group: ArrayLike, progress: Progress | None = None
) -> FittedWeights:
    """Score each group with weights, threshold and minimum area fitted on all other groups.

    Args:
        stacks: M members' probabilities, each uint8 (N, H, W) in 255ths, all in one order of images.
        true: (N, H, W), values 0 and 1.
        group: (N,) whole numbers, usually the fold.
        progress: called with (steps done, steps in all).

    Returns:
        `FittedWeights`.

    Raises:
        InputError: as `areas`; a group array that does not fit; fewer than two groups.
    """
    groups = threshold_search.as_groups(group, len(stacks[0]))
    names = np.unique(groups).tolist()
    everything = np.ones(len(groups), bool)
    counts, *of_groups = _select_each(stacks, true, [everything, *(groups != name for name in names)], progress)
    equal = (1,) * len(stacks)
    scores = {}
    for candidate in {equal, *of_groups}:
        counted = areas(weighted_mean(stacks, candidate), true)
        for name in names:
            tuned = threshold_search.search_areas(counted.take(groups != name)).smoothed_argmax
            scores[name, candidate] = counted.take(groups == name).average_precision(tuned)
    counts_of_group = dict(zip(names, of_groups, strict=True))
    fitted, plain = np.empty(len(groups)), np.empty(len(groups))
    for name in names:
        fitted[groups == name] = scores[name, counts_of_group[name]]
        plain[groups == name] = scores[name, equal]
    return FittedWeights(counts, counts_of_group, fitted, plain)


def _select_each(
    stacks: Sequence[Stack], true: ArrayLike, samples: Sequence[NDArray[np.bool_]], progress: Progress | None
) -> list[Counts]:
    """The weights with the highest score on each of several samples of the images, as counts without a common divisor.

    The samples are searched side by side: they share most of the counting.
    """
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
                scores[s][counts] = threshold_search.search_areas(counted.take(samples[s])).smoothed_argmax_score
        if progress:
            progress(done, rounds + 1)

    def best(options: Sequence[Counts], scored: dict[Counts, float]) -> Counts:
        return max(options, key=lambda counts: (scored[reduced(counts)], -_unevenness(counts)))

    singles = [tuple(int(m == chosen) for m in range(members)) for chosen in range(members)]
    score([[(1,) * members, *singles]] * len(samples), done=1)
    path = [best(singles, scored) for scored in scores]
    for done in range(2, rounds + 2):
        steps = [[tuple(np.add(counts, single).tolist()) for single in singles] for counts in path]
        score([[reduced(counts) for counts in options] for options in steps], done)
        path = [best(options, scored) for options, scored in zip(steps, scores, strict=True)]
    return [best(list(scored), scored) for scored in scores]


def _unevenness(counts: Counts) -> Fraction:
    """Sum of squared shares: 1 / M for equal weights, 1 for a single member."""
    return Fraction(sum(count * count for count in counts), sum(counts) ** 2)
