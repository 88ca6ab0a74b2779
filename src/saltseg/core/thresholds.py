"""The search for the decision rule: exact over every threshold and every minimum area, in one pass over the
pixels.

For each image, a histogram of its quantised probabilities inside and outside the true mask gives the
intersection and the predicted area at all 255 thresholds (cumulative sums), hence its average precision at
all of them. A minimum area makes an image empty when its predicted area is smaller, which changes its score
by a known amount; adding up those changes in order of area gives the whole surface of 255 x (H W + 1) scores.
Scores are counted in tenths, as whole numbers, so every sum is exact.

Anything tuned is reported twice: on the images it was tuned on, and cross-fitted (`cross_fit`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core import metric
from saltseg.core.areas import Areas, areas, log_loss
from saltseg.core.postprocess import HALF, Rule
from saltseg.errors import InputError

THRESHOLD_REACH = 8  # 255ths to either side: 0.03 in probability
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
        tenths: int64 (255, H W + 1), sum over images of ten times the score; row t - 1 is threshold t.
    """

    n: int
    score_at_half: float
    best: Rule
    best_score: float
    rule: Rule
    rule_score: float
    tenths: NDArray[np.int64]

    @property
    def surface(self) -> NDArray[np.float64]:
        """Scores float64 (255, H W + 1): threshold 1 ... 255 down, minimum area 0 ... H W across."""
        return self.tenths / (10 * self.n)

    def curve_threshold(self, min_area: int) -> NDArray[np.float64]:
        """Scores (255,) at thresholds 1 ... 255 for one minimum area."""
        return self.tenths[:, min_area] / (10 * self.n)

    def curve_area(self, threshold: int) -> NDArray[np.float64]:
        """Scores (H W + 1,) at minimum areas 0 ... H W for one threshold (255ths)."""
        return self.tenths[threshold - 1] / (10 * self.n)


@dataclass(frozen=True)
class CrossFit:
    """Result of `cross_fit`: every image scored under a rule that never saw its group.

    Attributes:
        average_precision: float64 (N,), in the order of the images.
        score: its mean.
        interval: 95 % bootstrap interval of the mean.
        rules: group -> the rule fitted on all other groups.
    """

    average_precision: NDArray[np.float64]
    score: float
    interval: tuple[float, float]
    rules: dict[int, Rule]


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


def search_areas(counted: Areas) -> Search:
    """`search` without a second pass over the pixels."""
    tenths = _surface(counted)
    rows, columns = np.nonzero(tenths == tenths.max())
    nearest = np.lexsort((columns, np.abs(rows + 1 - HALF.threshold)))[0]
    best = Rule(rows[nearest] + 1, columns[nearest])
    rule = plateau_rule(tenths)
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
    groups = np.asarray(group)
    if groups.shape != counted.true.shape or groups.dtype.kind not in "ui":
        raise InputError(
            f"one whole number is needed per image: group is {groups.dtype} {groups.shape} "
            f"for {len(counted.true)} images; give the fold of each"
        )
    names = [int(name) for name in np.unique(groups)]
    if len(names) < 2:
        raise InputError(f"cross-fitting needs two groups or more: only group {names[0]}; use random_parts")
    held_out = np.empty(len(groups))
    rules: dict[int, Rule] = {}
    for name in names:
        rules[name] = plateau_rule(_surface(counted.take(groups != name)))
        held_out[groups == name] = counted.take(groups == name).average_precision(rules[name])
    return CrossFit(held_out, float(held_out.mean()), metric.bootstrap_interval(held_out), rules)


def random_parts(n: int, parts: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Parts 0, 1 ... of nearly equal size for n images at random, int64 (n,): where there are no folds."""
    return np.random.default_rng(seed).permutation(np.arange(n) % parts)


def plateau_rule(surface: NDArray) -> Rule:
    """The middle of the highest plateau of a surface (255, A) of scores or sums of scores; see `search`."""
    thresholds, columns = np.arange(surface.shape[0]), np.arange(surface.shape[1])
    reach = AREA_REACH + columns // 10
    top, bottom = (
        np.maximum(thresholds - THRESHOLD_REACH, 0),
        np.minimum(thresholds + THRESHOLD_REACH, 254) + 1,
    )
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach, surface.shape[1] - 1) + 1
    total = np.zeros((surface.shape[0] + 1, surface.shape[1] + 1), surface.dtype)
    total[1:, 1:] = surface.cumsum(axis=0).cumsum(axis=1)
    rows = total[bottom] - total[top]  # (255, A + 1)
    mean = (rows[:, right] - rows[:, left]) / ((bottom - top)[:, None] * (right - left))
    tied = mean >= mean.max() - 1e-9 * abs(mean.max())
    high = np.flatnonzero(tied.any(axis=1))
    row = high[len(high) // 2]
    # Windows grow with the area, so the middle is geometric: of 0 ... 899 pixels it is 29, not 450.
    wide = np.flatnonzero(tied[row])
    middle = np.sqrt((wide[0] + 1.0) * (wide[-1] + 1.0)) - 1
    return Rule(row + 1, wide[np.abs(wide - middle).argmin()])


def _surface(counted: Areas) -> NDArray[np.int64]:
    """Sum over the images of ten times the score under each rule: int64 (255, H W + 1)."""
    size = counted.pixels + 1
    predicted = counted.predicted[:, 1:]
    tenths = metric.tenths_from_areas(counted.intersection[:, 1:], predicted, counted.true[:, None])
    if_empty = np.where(counted.true == 0, 10, 0)
    key = predicted + size * np.arange(255)
    gain = np.bincount(key.ravel(), (if_empty[:, None] - tenths).ravel(), minlength=255 * size)
    surface = np.empty((255, size), np.int64)  # sums of whole numbers below 2**53: exact in bincount's float64
    surface[:, 0] = tenths.sum(axis=0)
    surface[:, 1:] = surface[:, :1] + gain.reshape(255, size)[:, :-1].cumsum(axis=1).astype(np.int64)
    return surface


def summarise(
    ids: Sequence[str] | NDArray[np.str_],
    probabilities: ArrayLike,
    true: ArrayLike,
    fold: ArrayLike | None,
) -> dict[str, Any]:
    """Everything about the decision rule on out-of-fold predictions, ready for JSON (``postprocess.json``).

    ``adopted`` is "tuned" when the cross-fitted score is above the score at one half, else "half";
    ``rule`` is the rule adopted. ``per_coverage`` holds the scores without leakage (cross-fitted, or at one
    half). ``pixel`` is at one half, to compare with published figures. ``curve`` has the minimum area of
    ``plateau``. ``tuning_gain`` is
    paired: cross-fitted minus at one half, image by image.

    Args:
        ids: N ids, each once.
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.
        fold: (N,) whole numbers; with None or a single fold, random parts stand in for the folds.

    Returns:
        A dict of plain Python values.

    Raises:
        InputError: an id twice, lengths that differ, fewer than two images, or as `areas`.
    """
    counted = areas(probabilities, true)
    n = len(counted.true)
    if len(ids) != n or len(set(map(str, ids))) != n or n < 2:
        raise InputError(f"each image needs its own id, two at least: {len(set(ids))} ids for {n} images")
    folds = [] if fold is None else [int(name) for name in np.unique(np.asarray(fold))]
    by_fold = len(folds) > 1
    found = search_areas(counted)
    fitted = cross_fit_areas(counted, np.asarray(fold) if by_fold else random_parts(n))
    at_half = counted.average_precision(HALF)
    gain = fitted.average_precision - at_half
    tuned = fitted.score > found.score_at_half
    honest = fitted.average_precision if tuned else at_half
    intersection, predicted = counted.under(HALF)
    pixel = metric.pixel_scores_from_areas(
        int(intersection.sum()), int(predicted.sum()), int(counted.true.sum()), n * counted.pixels
    )
    return {
        "rule": (found.rule if tuned else HALF).to_dict(),
        "adopted": "tuned" if tuned else "half",
        "n": n,
        "folds": folds,
        "cross_fit_groups": "folds" if by_fold else "random parts",
        "score_at_half": found.score_at_half,
        "naive": {"score": found.best_score, "rule": found.best.to_dict()},
        "plateau": {"score": found.rule_score, "rule": found.rule.to_dict()},
        "cross_fitted": {
            "score": fitted.score,
            "interval": list(fitted.interval),
            "rules": [{"group": name, **rule.to_dict()} for name, rule in fitted.rules.items()],
        },
        "tuning_gain": {"mean": float(gain.mean()), "interval": list(metric.bootstrap_interval(gain))},
        "log_loss": log_loss(counted),
        "pixel": asdict(pixel),
        "curve": {
            "threshold": list(range(1, 256)),
            "score": found.curve_threshold(found.rule.min_area).tolist(),
            "score_no_min_area": found.curve_threshold(0).tolist(),
        },
        "per_coverage": metric.per_coverage(
            honest, metric.coverage_class_from_areas(counted.true.astype(np.int64), counted.pixels)
        ),
    }
