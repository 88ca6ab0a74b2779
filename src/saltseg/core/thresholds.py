"""The search for threshold and minimum area: exact over all there are, in one pass over the pixels.

For each image, a histogram of its quantised probabilities inside and outside the true mask gives the
intersection and the predicted area at all 255 thresholds (cumulative sums), hence its average precision at
all of them. A minimum area makes an image empty when its predicted area is smaller, which changes its score
by a known amount; adding up those changes in order of area gives the whole surface of 255 x (H W + 1) scores.
Scores are counted in tenths, as whole numbers, so every sum is exact, and the surface of some images is that of all
less that of the others.

Anything tuned is reported twice: on the images it was tuned on, and cross-fitted (`cross_fit`). The other steps of a
rule are tried in `saltseg.core.decision`.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core import metric
from saltseg.core.areas import Areas, areas
from saltseg.core.postprocess import HALF, Rule
from saltseg.errors import InputError

THRESHOLD_REACH = 8  # 255ths to either side: 0.03 in probability
_CHUNK = 512  # images whose scores under all thresholds are held at once
AREA_REACH = 3  # pixels to either side, plus a tenth of the area itself


@dataclass(frozen=True)
class Search:
    """Result of `search`. Scores are in [0, 1], all on the images that were searched.

    Attributes:
        n: number of images.
        score_at_half: score of the rule that needs no tuning.
        best, best_score: the naive optimum, the highest point of the surface (ties: the one nearest to one
            half).
        rule, rule_score: the recommended rule, the middle of a plateau, and its own score. It may lie below
            `best_score`; the difference is what a lone spike on these images would have promised.
        tenths: int32 (255, H W + 1), sum over images of ten times the score; row t - 1 is threshold t.
    """

    n: int
    score_at_half: float
    best: Rule
    best_score: float
    rule: Rule
    rule_score: float
    tenths: NDArray[np.int32]

    @property
    def surface(self) -> NDArray[np.float64]:
        """Scores float64 (255, H W + 1): threshold 1 ... 255 down, minimum area 0 ... H W across."""
        return self.tenths / (10 * self.n)

    def curve_threshold(self, min_area: int) -> NDArray[np.float64]:
        """Scores (255,) at thresholds 1 ... 255 for one minimum area."""
        return self.tenths[:, min_area] / (10 * self.n)


@dataclass(frozen=True)
class CrossFit:
    """Result of `cross_fit`: every image scored under a rule that never saw its group.

    Attributes:
        average_precision: float64 (N,), in the order of the images.
        rules: group -> the rule fitted on all other groups.
    """

    average_precision: NDArray[np.float64]
    rules: dict[int, Rule]

    @property
    def score(self) -> float:
        """Mean over the images."""
        return float(self.average_precision.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean."""
        return metric.bootstrap_interval(self.average_precision)


def search(probabilities: ArrayLike, true: ArrayLike) -> Search:
    """Score every rule there is and choose one.

    The recommended rule maximises the score averaged over its neighbours: thresholds within 8/255, minimum
    areas within 3 pixels plus a tenth; neighbours outside the grid are left out, ties go to their middle. A
    point that is high by chance has low neighbours and loses to a slightly lower plateau. The point
    chosen may itself score less than a neighbour: compare `rule_score` with `best_score`, and
    believe neither before `cross_fit`.

    Args:
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.

    Returns:
        `Search`.

    Raises:
        InputError: as `areas`.
    """
    return search_areas(areas(probabilities, true))


def search_areas(counted: Areas, min_area: bool = True) -> Search:
    """`search` without a second pass over the pixels; without ``min_area`` over thresholds alone (A = 1)."""
    tenths = surface(counted)[:, : None if min_area else 1]
    rows, columns = np.nonzero(tenths == tenths.max())
    nearest = np.lexsort((columns, np.abs(rows + 1 - HALF.threshold)))[0]
    best = Rule(rows[nearest] + 1, columns[nearest])
    rule, _ = plateau(tenths)
    n = len(counted.true)

    def score(chosen: Rule) -> float:
        return float(tenths[chosen.threshold - 1, chosen.min_area] / (10 * n))

    return Search(n, score(HALF), best, score(best), rule, score(rule), tenths)


def cross_fit(probabilities: ArrayLike, true: ArrayLike, group: ArrayLike) -> CrossFit:
    """Score each group under the rule fitted on all other groups: what tuning is worth on unseen images.

    Args:
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.
        group: (N,) whole numbers, usually the fold.

    Returns:
        `CrossFit`.

    Raises:
        InputError: as `areas`; a group array that does not fit; fewer than two groups (see `random_parts`).
    """
    return cross_fit_areas(areas(probabilities, true), group)


def cross_fit_areas(counted: Areas, group: ArrayLike) -> CrossFit:
    """`cross_fit` without a second pass over the pixels."""
    groups = as_groups(group, len(counted.true))
    names = np.unique(groups).tolist()
    fitted = fit_without(counted, groups, names)
    rules = {name: fitted[name][0] for name in names}
    held_out = np.empty(len(groups))
    for name, rule in rules.items():
        held_out[groups == name] = counted.take(groups == name).average_precision(rule)
    return CrossFit(held_out, rules)


def fit_without(
    counted: Areas, groups: NDArray, without: Collection[int | None], min_area: bool = True
) -> dict[int | None, tuple[Rule, float]]:
    """The rule fitted on all images but those of a group, for each group of ``without``; None leaves out no image.

    Args:
        counted: N images.
        groups: (N,) whole numbers.
        without: some of the groups, None.
        min_area: False keeps the minimum area at 0.

    Returns:
        group left out -> (rule, the mean of its plateau, in tenths summed over the images).
    """
    columns = slice(None if min_area else 1)
    own = {name: surface(counted.take(groups == name))[:, columns] for name in np.unique(groups).tolist()}
    total = np.sum(list(own.values()), axis=0)
    return {name: plateau(total if name is None else total - own[name]) for name in without}


def as_groups(group: ArrayLike, n: int) -> NDArray:
    """Check the groups (n,) to cross-fit over; raises InputError as `cross_fit`."""
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
    """Parts 0, 1 ... of nearly equal size for n images at random, int64 (n,): where there are no folds."""
    return np.random.default_rng(seed).permutation(np.arange(n) % parts)


def folds_or_parts(fold: NDArray) -> NDArray:
    """What to cross-fit over, (n,): the fold of each image, or `random_parts` where all validated in one."""
    return fold if len(np.unique(fold)) > 1 else random_parts(len(fold))


def plateau(scores: NDArray) -> tuple[Rule, float]:
    """The middle of the highest plateau of a surface (255, A), and the mean over its neighbours; see `search`."""
    thresholds, columns = np.arange(scores.shape[0]), np.arange(scores.shape[1])
    reach = AREA_REACH + columns // 10
    top, bottom = (
        np.maximum(thresholds - THRESHOLD_REACH, 0),
        np.minimum(thresholds + THRESHOLD_REACH, 254) + 1,
    )
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach, scores.shape[1] - 1) + 1
    total = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1), np.result_type(scores, np.int64))
    np.cumsum(scores, axis=0, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    mean = np.empty(scores.shape)
    for row in thresholds:
        line = total[bottom[row]] - total[top[row]]
        mean[row] = (line[right] - line[left]) / ((bottom[row] - top[row]) * (right - left))
    tied = mean >= mean.max() - 1e-9 * abs(mean.max())
    high = np.flatnonzero(tied.any(axis=1))
    row = high[len(high) // 2]
    # Windows grow with the area, so the middle is geometric: of 0 ... 899 pixels it is 29, not 450.
    wide = np.flatnonzero(tied[row])
    middle = np.sqrt((wide[0] + 1.0) * (wide[-1] + 1.0)) - 1
    column = wide[np.abs(wide - middle).argmin()]
    return Rule(row + 1, column), float(mean[row, column])


def surface(counted: Areas) -> NDArray[np.int32]:
    """Sum over the images, up to 200 million, of ten times the score under each rule: int32 (255, H W + 1)."""
    size = counted.pixels + 1
    gain = np.zeros(255 * size)  # sums of whole numbers below 2**53: exact in float64
    total = np.zeros((255, size), np.int32)
    for begin in range(0, len(counted.true), _CHUNK):
        part = counted.take(slice(begin, begin + _CHUNK))
        predicted = part.predicted[:, 1:]
        tenths = metric.tenths_from_areas(part.intersection[:, 1:], predicted, part.true[:, None])
        if_empty = np.where(part.true == 0, 10, 0)
        key = predicted + size * np.arange(255)
        gain += np.bincount(key.ravel(), (if_empty[:, None] - tenths).ravel(), minlength=255 * size)
        total[:, 0] += tenths.sum(axis=0)
    gains = gain.reshape(255, size)[:, :-1]
    total[:, 1:] = total[:, :1] + np.cumsum(gains, axis=1, out=gains)
    return total
