"""Exact search for the best threshold and minimum area, over all values of both.

`Areas` gives each image's average precision at all 255 thresholds. A minimum area makes an image empty when its
predicted area is smaller, which changes its score by a known amount; cumulative sums of those changes in order of area
give the whole surface of 255 x (H W + 1) scores. Scores are summed as numbers of IoU thresholds passed. They are whole,
so sums are exact, and the surface of some images is that of all minus that of the others.

Tuned values are scored twice: on the images they were tuned on, and cross-fitted (`cross_fit_areas`). The other
steps of post-processing are selected in `saltseg.postprocessing.step_selection`.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError
from saltseg.metrics import average_precision
from saltseg.postprocessing.areas import Areas, areas
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing

SEARCHED = ("threshold", "min_area")  # the parameters that are searched over all their values
THRESHOLD_REACH = 8  # 255ths to either side: 0.03 in probability
AREA_REACH = 3  # pixels to either side, plus a tenth of the area itself
_CHUNK = 512  # images whose scores at all thresholds are held at once
_ROWS = 8  # thresholds averaged at once: they stay in the processor's cache


@dataclass(frozen=True)
class Search:
    """Result of `search`. Scores are in [0, 1], all on the images that were searched.

    Attributes:
        n: number of images.
        score_at_half: score at threshold 0.5.
        argmax, argmax_score: the highest point of the surface (ties: the threshold nearest to one half).
        smoothed_argmax, smoothed_argmax_score: the highest point of the smoothed surface, and its own score on the
            unsmoothed one, which may lie below ``argmax_score``.
        thresholds_passed: int32 (255, H W + 1), IoU thresholds passed, summed over images; row t - 1 is threshold t.
    """

    n: int
    score_at_half: float
    argmax: Postprocessing
    argmax_score: float
    smoothed_argmax: Postprocessing
    smoothed_argmax_score: float
    thresholds_passed: NDArray[np.int32]

    def curve_threshold(self, min_area: int) -> NDArray[np.float64]:
        """Scores (255,) at thresholds 1 ... 255 for one minimum area."""
        return self.thresholds_passed[:, min_area] / (10 * self.n)


@dataclass(frozen=True)
class CrossFit:
    """Result of `cross_fit_areas`: every image scored with values fitted without its group.

    Attributes:
        average_precision: float64 (N,), in the order of the images.
        per_group: group -> the parameters fitted on all other groups.
    """

    average_precision: NDArray[np.float64]
    per_group: dict[int, Postprocessing]


def search(probabilities: ArrayLike, true: ArrayLike) -> Search:
    """Score every threshold and minimum area, and choose one pair; see `smoothed_argmax`.

    All scores of the result are optimistic: the images are those that the values were tuned on. See `cross_fit_areas`.

    Args:
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.

    Returns:
        `Search`.

    Raises:
        InputError: as `areas`.
    """
    return search_areas(areas(probabilities, true))


def search_areas(counted: Areas, searched: Collection[str] = SEARCHED) -> Search:
    """`search` on counted areas, over those of threshold and minimum area that are ``searched``."""
    passed = surface(counted)
    first, part = _part(passed, searched)
    rows, columns = np.nonzero(part == part.max())
    nearest = np.lexsort((columns, np.abs(rows + first - THRESHOLD_HALF.threshold)))[0]
    best = Postprocessing(rows[nearest] + first, columns[nearest])
    smoothed, _ = smoothed_argmax(part, first)
    n = len(counted.true)

    def score(chosen: Postprocessing) -> float:
        return float(passed[chosen.threshold - 1, chosen.min_area] / (10 * n))

    return Search(n, score(THRESHOLD_HALF), best, score(best), smoothed, score(smoothed), passed)


def cross_fit_areas(counted: Areas, group: ArrayLike) -> CrossFit:
    """Score each group with values fitted on all other groups: an honest score of tuned values.

    Args:
        counted: N images.
        group: (N,) whole numbers, usually the fold.

    Raises:
        InputError: a group array that does not fit; fewer than two groups (see `random_parts`).
    """
    groups = as_groups(group, len(counted.true))
    names = np.unique(groups).tolist()
    fitted = fit_without(counted, groups, names)
    per_group = {name: fitted[name][0] for name in names}
    held_out = np.empty(len(groups))
    for name, postprocessing in per_group.items():
        held_out[groups == name] = counted.take(groups == name).average_precision(postprocessing)
    return CrossFit(held_out, per_group)


def fit_without(
    counted: Areas, groups: NDArray, without: Collection[int | None], searched: Collection[str] = SEARCHED
) -> dict[int | None, tuple[Postprocessing, float]]:
    """Fit threshold and minimum area on all images but those of one group, for several groups.

    Args:
        counted: N images.
        groups: (N,) whole numbers.
        without: the groups to leave out, one at a time; None leaves out no image.
        searched: which of the two to fit; the others stay at one half and at 0.

    Returns:
        group left out -> what `smoothed_argmax` returns for the others.
    """
    names = np.unique(groups).tolist()
    own = {name: _part(surface(counted.take(groups == name)), searched) for name in names}
    first, total = own[names[0]][0], np.sum([part for _, part in own.values()], axis=0)
    return {name: smoothed_argmax(total if name is None else total - own[name][1], first) for name in without}


def _part(scores: NDArray, searched: Collection[str]) -> tuple[int, NDArray]:
    """The first threshold, and the part of a surface (255, A), of the parameters that are searched."""
    columns = slice(None if "min_area" in searched else 1)
    if "threshold" in searched:
        return 1, scores[:, columns]
    half = THRESHOLD_HALF.threshold
    return half, scores[half - 1 : half, columns]


def as_groups(group: ArrayLike, n: int) -> NDArray:
    """Check the groups (n,) to cross-fit over; raises InputError as `cross_fit_areas`."""
    groups = np.asarray(group)
    if groups.shape != (n,) or groups.dtype.kind not in "ui":
        raise InputError(
            f"one whole number is needed per image: group is {groups.dtype} {groups.shape} "
            f"for {n} images; give the fold of each"
        )
    if len(np.unique(groups)) < 2:
        raise InputError(f"cross-fitting needs two groups or more: only group {groups[0]}; use random_parts")
    return groups


def random_parts(n: int, parts: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Assign n images at random to parts 0, 1 ... of nearly equal size, int64 (n,): groups where there are no folds."""
    return np.random.default_rng(seed).permutation(np.arange(n) % parts)


def folds_or_parts(fold: NDArray) -> NDArray:
    """Groups to cross-fit over, (n,): the fold of each image, or `random_parts` where there is one fold only."""
    return fold if len(np.unique(fold)) > 1 else random_parts(len(fold))


def smoothed_argmax(scores: NDArray, first: int = 1) -> tuple[Postprocessing, float]:
    """Threshold and minimum area with the highest score averaged over their neighbors.

    Neighbors are thresholds within 8/255 and minimum areas within 3 pixels plus a tenth; those outside of the grid are
    left out. A point that is high by chance has low neighbors and loses to a slightly lower plateau. Ties go to their
    middle.

    Args:
        scores: (T, A), thresholds down, minimum areas 0 ... A - 1 across, in any unit.
        first: the threshold of the first row, in 255ths.

    Returns:
        The parameters, and their mean over the neighbors in the unit of ``scores``.
    """
    thresholds, columns = np.arange(scores.shape[0]), np.arange(scores.shape[1])
    reach = AREA_REACH + columns // 10
    top, bottom = (
        np.maximum(thresholds - THRESHOLD_REACH, 0),
        np.minimum(thresholds + THRESHOLD_REACH, len(scores) - 1) + 1,
    )
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach, scores.shape[1] - 1) + 1
    total = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1), np.result_type(scores, np.int64))
    np.cumsum(scores, axis=0, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    mean = np.empty(scores.shape)
    for begin in range(0, scores.shape[0], _ROWS):
        rows = slice(begin, begin + _ROWS)
        band = total[bottom[rows]] - total[top[rows]]
        neighbors = (bottom[rows] - top[rows])[:, None] * (right - left)
        mean[rows] = (band.take(right, axis=1) - band.take(left, axis=1)) / neighbors
    tied = mean >= mean.max() - 1e-9 * abs(mean.max())
    high = np.flatnonzero(tied.any(axis=1))
    row = high[len(high) // 2]
    # Windows grow with the area, so the middle is geometric: of 0 ... 899 pixels it is 29, not 450.
    wide = np.flatnonzero(tied[row])
    middle = np.sqrt((wide[0] + 1.0) * (wide[-1] + 1.0)) - 1
    column = wide[np.abs(wide - middle).argmin()]
    return Postprocessing(row + first, column), float(mean[row, column])


def surface(counted: Areas) -> NDArray[np.int32]:
    """IoU thresholds passed, summed over the images (up to 200 million): int32 (255, H W + 1), as `Search` has them."""
    size = counted.pixels + 1
    gain = np.zeros(255 * size)  # sums of whole numbers below 2**53: exact in float64
    total = np.zeros((255, size), np.int32)
    for begin in range(0, len(counted.true), _CHUNK):
        part = counted.take(slice(begin, begin + _CHUNK))
        predicted = part.predicted[:, 1:]
        passed = average_precision.num_thresholds_passed(part.intersection[:, 1:], predicted, part.true[:, None])
        if_empty = np.where(part.true == 0, 10, 0)
        key = predicted + size * np.arange(255)
        gain += np.bincount(key.ravel(), (if_empty[:, None] - passed).ravel(), minlength=255 * size)
        total[:, 0] += passed.sum(axis=0)
    gains = gain.reshape(255, size)[:, :-1]
    total[:, 1:] = total[:, :1] + np.cumsum(gains, axis=1, out=gains)
    return total
