"""Forward selection of the steps of post-processing on out-of-fold predictions.

The steps are tried in a fixed order, each on top of those selected before it. A step fits its own parameters, and
refits those of the selected steps, on the other folds; it is scored on the fold. A parameter of a step that was not
selected stays at its default, so the gain of a step is its own. A step is selected only if the score rises by more than
`MARGIN` standard errors of the paired gain.

That selection sees all images, so its own score is optimistic. `cross_fit` repeats it without each group: then the
steps, too, are selected on other images than those that are scored (nested cross-validation, Varma and Simon 2006).
"""

from collections.abc import Callable, Collection, Iterable
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

MARGIN = 1.0  # standard errors; benchmarks/postprocessing_of_means.py compares margins


@dataclass(frozen=True)
class Step:
    """The parameters that a step fits.

    Attributes:
        options: alternatives for parameters that are tried one by one.
        searched: those of "threshold" and "min_area" that are searched over all values.
    """

    options: tuple[dict[str, Any], ...] = ({},)
    searched: frozenset[str] = frozenset()


STEPS: dict[str, Step] = {
    "threshold": Step(searched=frozenset({"threshold"})),
    "minimum area": Step(searched=frozenset({"min_area"})),
    "hole filling": Step(({"fill_holes": True},)),
    # A pair of thresholds: the high one decides which bodies stay, the low one where they end.
    "hysteresis": Step(tuple({"hysteresis_high": value} for value in HYSTERESIS_HIGHS), frozenset({"threshold"})),
    "presence threshold": Step(tuple({"presence_threshold": value} for value in PRESENCE_THRESHOLDS)),
}
"""In the order of trying."""

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

        Counts are cached, 4 MB for 4,000 images and each of at most twelve filters: presence thresholds and `without`
        need no second pass over the pixels.
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

    def without(self, group: int) -> "Rest":
        """The images of all other groups."""
        return Rest(self, self.groups != group)


@dataclass(frozen=True)
class Rest:
    """Some of the images, which share the counts of the whole.

    Attributes:
        whole: all images.
        kept: bool (N,).
    """

    whole: OutOfFold
    kept: NDArray[np.bool_]

    @property
    def groups(self) -> NDArray:
        """Whole numbers to cross-fit over; random parts where the images are of one group."""
        return threshold_search.folds_or_parts(self.whole.groups[self.kept])

    @property
    def presence_probability(self) -> ArrayLike | None:
        """As that of the whole."""
        return (
            None if self.whole.presence_probability is None else np.asarray(self.whole.presence_probability)[self.kept]
        )

    def areas(self, postprocessing: Postprocessing) -> Areas:
        """As those of the whole."""
        return self.whole.areas(postprocessing).take(self.kept)


def filters_of(postprocessing: Postprocessing) -> Postprocessing:
    """The steps that change which pixels are salt at a given threshold."""
    return replace(postprocessing, threshold=THRESHOLD_HALF.threshold, min_area=0, presence_threshold=0)


@dataclass(frozen=True)
class FittedPostprocessing:
    """Parameters fitted on all other groups, for each group.

    Attributes:
        per_group: group -> parameters fitted on all other groups; None -> fitted on all images.
        average_precision: float64 (N,), each image under the parameters fitted without its group.
        searched: which of "threshold" and "min_area" were searched over all values.
    """

    per_group: dict[int | None, Postprocessing]
    average_precision: NDArray[np.float64]
    searched: frozenset[str]

    @property
    def score(self) -> float:
        """The cross-fitted score, in [0, 1]."""
        return float(self.average_precision.mean())


@dataclass(frozen=True)
class StepResult:
    """A step fitted on top of the steps selected before it (``before``), and whether its gain passed the margin."""

    step: str
    before: FittedPostprocessing
    fit: FittedPostprocessing
    selected: bool

    @property
    def gain(self) -> NDArray[np.float64]:
        """Change of the score of each image (N,)."""
        return self.fit.average_precision - self.before.average_precision

    def to_dict(self, sections: ArrayLike | None = None) -> dict[str, Any]:
        """Ready for JSON: ``step``, ``selected``, ``score``, ``gain`` with ``mean`` and ``interval``, and the
        ``postprocessing`` fitted on all images; sections: to resample."""
        gain = bootstrap.mean_interval(self.gain, sections)
        return {
            "step": self.step,
            "selected": self.selected,
            "score": self.fit.score,
            "gain": {"mean": gain.mean, "interval": gain.interval},
            "postprocessing": self.fit.per_group[None].to_dict(),
        }


@dataclass(frozen=True)
class CrossFitted:
    """Steps selected and parameters fitted without a group, for each group.

    Attributes:
        per_group: group -> the post-processing that the other groups suggest; threshold 0.5 where no step helps them.
        average_precision: float64 (N,), each image under the post-processing of its group.
    """

    per_group: dict[int, Postprocessing]
    average_precision: NDArray[np.float64]

    @property
    def score(self) -> float:
        """In [0, 1]."""
        return float(self.average_precision.mean())


def forward_selection(
    images: OutOfFold | Rest,
    progress: Callable[[], object] = lambda: None,
    margin: float = MARGIN,
    sections: ArrayLike | None = None,
) -> list[StepResult]:
    """Try every step of `STEPS` in turn; the presence threshold only where there are presence probabilities.

    Args:
        images: predictions with their true masks.
        progress: called after each step, also when it was left out.
        margin: standard errors that the gain of a step must exceed; 0 selects for any gain, and 1 for no gain of a
            single image.
        sections: (N,) labels; the standard error is over sections. None: over images.

    Returns:
        The steps that were tried, in order; none where all images are of one group: there are no others to fit on.
    """
    names = np.unique(images.groups).tolist()
    if len(names) < 2:
        return []
    at_half = images.areas(THRESHOLD_HALF).average_precision(THRESHOLD_HALF)
    selected = FittedPostprocessing(dict.fromkeys([*names, None], THRESHOLD_HALF), at_half, frozenset())
    results = []
    for name, step in STEPS.items():
        if name != "presence threshold" or images.presence_probability is not None:
            fit = fit_step(images, selected.per_group, step.options, selected.searched | step.searched)
            gain = fit.average_precision - selected.average_precision
            # 1e-9: gains are sums of tenths, so that rounding selects nothing
            passed = gain.mean() > margin * bootstrap.standard_error(gain, sections) + 1e-9
            results.append(StepResult(name, selected, fit, bool(passed)))
            selected = fit if passed else selected
        progress()
    return results


def fit_step(
    images: OutOfFold | Rest,
    before: dict[int | None, Postprocessing],
    options: Iterable[dict[str, Any]],
    searched: Collection[str],
) -> FittedPostprocessing:
    """Add a step to each group's parameters, with the option that scores highest on the other groups.

    Args:
        images: predictions with their true masks.
        before: group -> parameters so far; None: those for all images.
        options: parameters to set, one alternative each.
        searched: which of "threshold" and "min_area" to fit; the others keep their defaults.

    Returns:
        For each group the option, threshold and minimum area with the highest smoothed score (`smoothed_argmax`).
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
        for name, (fitted, score) in threshold_search.fit_without(counted, images.groups, names, searched).items():
            if score > best.get(name, -1):
                best[name] = score
                per_group[name] = replace(candidate, threshold=fitted.threshold, min_area=fitted.min_area)
                if name is not None:
                    own = images.groups == name
                    held_out[own] = counted.take(own).average_precision(fitted)
    return FittedPostprocessing(per_group, held_out, frozenset(searched))


def selected_postprocessing(results: Iterable[StepResult]) -> Postprocessing:
    """What `forward_selection` ends with, fitted on all its images; threshold 0.5 if no step was selected."""
    selected = [result.fit.per_group[None] for result in results if result.selected]
    return selected[-1] if selected else THRESHOLD_HALF


def cross_fit(
    images: OutOfFold,
    progress: Callable[[], object] = lambda: None,
    margin: float = MARGIN,
    sections: ArrayLike | None = None,
) -> CrossFitted:
    """Score each group under the steps, and their parameters, that `forward_selection` finds on the other groups.

    Args: as `forward_selection`, which is run once for each group.
    """
    per_group, scores = dict[int, Postprocessing](), np.empty(len(images.groups))
    for name in np.unique(images.groups).tolist():
        rest = images.without(name)
        labels = None if sections is None else bootstrap.clusters(np.asarray(sections)[rest.kept].tolist())
        tried = forward_selection(rest, progress, margin=margin, sections=labels)
        per_group[name] = selected_postprocessing(tried)
        own = ~rest.kept
        scores[own] = images.areas(per_group[name]).take(own).average_precision(per_group[name])
    return CrossFitted(per_group, scores)


def scores(images: OutOfFold, sections: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
    """Score each image under three kinds of post-processing (`SCORE_KINDS`); runs are compared by these.

    Args:
        images: out of fold.
        sections: (N,) labels, see `forward_selection`.

    Returns:
        Each float64 (N,) in [0, 1]. score_at_half: threshold 0.5. score_tuned_cv: a threshold and a minimum area
        fitted on the other groups, the same steps for every network. score_postprocessed_cv: as `cross_fit`, with steps
        selected on the other groups, too.
    """
    counted = images.areas(THRESHOLD_HALF)
    return {
        "score_at_half": counted.average_precision(THRESHOLD_HALF),
        "score_tuned_cv": threshold_search.cross_fit_areas(counted, images.groups).average_precision,
        "score_postprocessed_cv": cross_fit(images, sections=sections).average_precision,
    }
