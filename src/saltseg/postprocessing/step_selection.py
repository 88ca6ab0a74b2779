"""Forward selection of the steps of post-processing on out-of-fold predictions.

The steps are tried in a fixed order, each on top of those selected before it. A step is selected only if the
cross-fitted score rises: its own value, the threshold and the minimum area are fitted on the other folds and scored on
the fold, so a step that merely fits its images does not pass. Which steps are selected is decided on all images by that
same score; this remaining choice makes the final score slightly optimistic.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.metrics import bootstrap
from saltseg.postprocessing import threshold_search
from saltseg.postprocessing.areas import Areas, areas
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing

_CHUNK = 1024  # images at once: hole filling and hysteresis hold several copies of them
HYSTERESIS_HIGHS = (128, 153, 179, 204, 230)  # 0.5, 0.6 ... 0.9
PRESENCE_THRESHOLDS = (13, 26, 51, 77, 102, 128, 153, 179, 204)  # 0.05, 0.1, 0.2 ... 0.8

STEPS: dict[str, tuple[dict[str, Any], ...]] = {
    "threshold": ({},),
    "minimum area": ({},),
    "hole filling": ({"fill_holes": True},),
    "hysteresis": tuple({"hysteresis_high": value} for value in HYSTERESIS_HIGHS),
    "presence threshold": tuple({"presence_threshold": value} for value in PRESENCE_THRESHOLDS),
}
"""Step -> the parameters it may set, in the order of trying. The threshold is fitted in every step, the minimum area in
its own step and, once selected, in those after it."""

SCORE_KINDS = ("score_at_half", "score_tuned_cv", "score_postprocessed_cv")


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions with their true masks.

    Attributes:
        probabilities: uint8 (N, H, W) in 255ths.
        true: {0, 1} (N, H, W).
        groups: (N,) whole numbers to cross-fit over.
        presence_probability: uint8 (N,) in 255ths; None for a network without a presence head.
    """

    probabilities: NDArray[np.uint8]
    true: ArrayLike
    groups: NDArray
    presence_probability: ArrayLike | None
    _counted: dict[Postprocessing, Areas] = field(default_factory=dict)

    def areas(self, postprocessing: Postprocessing) -> Areas:
        """Areas after hole filling, hysteresis and presence threshold; threshold and minimum area do not matter.

        Counts are cached (4 MB for 4,000 images) until `drop_cache_except`: presence thresholds need no second pass
        over the pixels.
        """
        filters = filters_of(postprocessing)
        if filters not in self._counted:
            true, size = np.asarray(self.true), len(self.probabilities)
            stacks = [slice(begin, begin + _CHUNK) for begin in range(0, size, _CHUNK)]
            self._counted[filters] = Areas.concatenate(
                [areas(filters.filter_probabilities(self.probabilities[part]), true[part]) for part in stacks]
            )
        counted = self._counted[filters]
        if not postprocessing.presence_threshold:
            return counted
        return counted.emptied(postprocessing.emptied_by_presence(len(counted.true), self.presence_probability))

    def drop_cache_except(self, needed: Iterable[Postprocessing]) -> None:
        """Drop the counts that none of these needs."""
        for filters in self._counted.keys() - set(map(filters_of, needed)):
            del self._counted[filters]


def filters_of(postprocessing: Postprocessing) -> Postprocessing:
    """The steps that change which pixels are salt at a given threshold."""
    return replace(postprocessing, threshold=THRESHOLD_HALF.threshold, min_area=0, presence_threshold=0)


@dataclass(frozen=True)
class FittedPostprocessing:
    """Parameters fitted on all other groups, for each group.

    Attributes:
        per_group: group -> parameters fitted on all other groups; None -> fitted on all images.
        average_precision: float64 (N,), each image under the parameters fitted without its group.
        min_area: whether the minimum area was fitted, too.
    """

    per_group: dict[int | None, Postprocessing]
    average_precision: NDArray[np.float64]
    min_area: bool

    @property
    def score(self) -> float:
        """The cross-fitted score, in [0, 1]."""
        return float(self.average_precision.mean())


@dataclass(frozen=True)
class StepResult:
    """A step fitted on top of the steps selected before it (``before``)."""

    step: str
    before: FittedPostprocessing
    fit: FittedPostprocessing

    @property
    def selected(self) -> bool:
        """Whether the cross-fitted score rises; compared in whole tenths, so that rounding selects nothing."""
        return bool(np.rint(10 * self.gain).sum() > 0)

    @property
    def gain(self) -> NDArray[np.float64]:
        """Change of the score of each image (N,)."""
        return self.fit.average_precision - self.before.average_precision

    def to_dict(self, sections: ArrayLike | None = None) -> dict[str, Any]:
        """``{"step", "selected", "score", "gain": {"mean", "interval"}}``, ready for JSON; sections: to resample."""
        gain = bootstrap.mean_interval(self.gain, sections)
        return {
            "step": self.step,
            "selected": self.selected,
            "score": self.fit.score,
            "gain": {"mean": gain.mean, "interval": gain.interval},
        }


def forward_selection(images: OutOfFold, progress: Callable[[], object] = lambda: None) -> list[StepResult]:
    """Try every step of `STEPS` in turn; the presence threshold only where there are presence probabilities.

    Args:
        images: predictions with their true masks.
        progress: called after each step, also when it was left out.

    Returns:
        The steps that were tried, in order.
    """
    names = np.unique(images.groups).tolist()
    at_half = images.areas(THRESHOLD_HALF).average_precision(THRESHOLD_HALF)
    selected = FittedPostprocessing(dict.fromkeys([*names, None], THRESHOLD_HALF), at_half, min_area=False)
    results = []
    for step, options in STEPS.items():
        if step != "presence threshold" or images.presence_probability is not None:
            min_area = selected.min_area or step == "minimum area"
            results.append(StepResult(step, selected, fit_step(images, selected.per_group, options, min_area)))
            selected = results[-1].fit if results[-1].selected else selected
        progress()
    return results


def fit_step(
    images: OutOfFold, before: dict[int | None, Postprocessing], options: Iterable[dict[str, Any]], min_area: bool
) -> FittedPostprocessing:
    """Add a step to each group's parameters, with the option that scores highest on the other groups.

    Args:
        images: predictions with their true masks.
        before: group -> parameters so far; None: those for all images.
        options: parameters to set, one alternative each.
        min_area: whether to fit the minimum area, too; otherwise it is 0.

    Returns:
        For each group the option and the threshold with the highest smoothed score (`smoothed_argmax`).
    """
    groups_of: dict[Postprocessing, list[int | None]] = {}  # groups with the same filters share their counts
    for option in options:
        for name, postprocessing in before.items():
            candidate = replace(postprocessing, threshold=THRESHOLD_HALF.threshold, min_area=0, **option)
            groups_of.setdefault(candidate, []).append(name)
    per_group: dict[int | None, Postprocessing] = {}
    best: dict[int | None, float] = {}
    held_out = np.empty(len(images.groups))
    for candidate, names in groups_of.items():
        counted = images.areas(candidate)
        for name, (fitted, score) in threshold_search.fit_without(counted, images.groups, names, min_area).items():
            if score > best.get(name, -1):
                best[name] = score
                per_group[name] = replace(candidate, threshold=fitted.threshold, min_area=fitted.min_area)
                if name is not None:
                    own = images.groups == name
                    held_out[own] = counted.take(own).average_precision(fitted)
        images.drop_cache_except([*before.values(), *per_group.values()])
    return FittedPostprocessing(per_group, held_out, min_area)


def cross_fit(images: OutOfFold) -> NDArray[np.float64]:
    """Score each image (N,) under the steps that `forward_selection` selects, fitted on the other groups."""
    selected = [result.fit.average_precision for result in forward_selection(images) if result.selected]
    return selected[-1] if selected else images.areas(THRESHOLD_HALF).average_precision(THRESHOLD_HALF)


def scores(images: OutOfFold) -> dict[str, NDArray[np.float64]]:
    """Score each image under three kinds of post-processing (`SCORE_KINDS`); runs are compared by these.

    Returns:
        Each float64 (N,) in [0, 1]. score_at_half: threshold 0.5. score_tuned_cv: a threshold and a minimum area
        fitted on the other groups, the same steps for every network. score_postprocessed_cv: as `cross_fit`, the
        post-processing that would be submitted.
    """
    counted = images.areas(THRESHOLD_HALF)
    return {
        "score_at_half": counted.average_precision(THRESHOLD_HALF),
        "score_tuned_cv": threshold_search.cross_fit_areas(counted, images.groups).average_precision,
        "score_postprocessed_cv": cross_fit(images),
    }
