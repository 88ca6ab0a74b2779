"""Which steps a decision rule should have: each is tried out of fold and adopted only when the score rises.

The steps are tried in a fixed order, each on top of those adopted before it. Whatever a step leaves open, its own
value, the threshold and the minimum area, is fitted on the other folds and scored on the fold (cross-fitted), so a
step that merely fits its images does not raise the score. What remains of the selection is the choice among a handful
of steps by that same score; it flatters a little.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core import metric, thresholds
from saltseg.core.areas import Areas, areas, log_loss
from saltseg.core.postprocess import HALF, Rule, as_quantised
from saltseg.core.thresholds import Search
from saltseg.errors import InputError

_CHUNK = 1024  # images at once: hole filling and hysteresis hold several copies of them
HIGHS = (128, 153, 179, 204, 230)  # 0.5, 0.6 ... 0.9
GATES = (13, 26, 51, 77, 102, 128, 153, 179, 204)  # 0.05, 0.1, 0.2 ... 0.8

STEPS: dict[str, tuple[dict[str, Any], ...]] = {
    "threshold": ({},),
    "minimum area": ({},),
    "hole filling": ({"fill_holes": True},),
    "hysteresis": tuple({"high": high} for high in HIGHS),
    "empty-image gate": tuple({"gate": gate} for gate in GATES),
}
"""Name -> what the step may set in a rule, in the order of trying. The threshold is fitted in every step, the minimum
area in its own and, once adopted, in those after it."""


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions with their truth.

    probabilities: uint8 (N, H, W) in 255ths; true: {0, 1} (N, H, W); groups: (N,) whole numbers to cross-fit over;
    presence: uint8 (N,) in 255ths, or None where the network does not say whether an image holds salt.
    """

    probabilities: NDArray[np.uint8]
    true: ArrayLike
    groups: NDArray
    presence: ArrayLike | None
    _counted: dict[Rule, Areas] = field(default_factory=dict)

    def areas(self, rule: Rule) -> Areas:
        """Areas after hole filling, hysteresis and gate of a rule; its threshold and minimum area do not matter.

        Counts are kept (4 MB for 4,000 images) until `keep` lets go of them, so that gates need no second pass over
        the pixels.
        """
        shape = _shape(rule)
        if shape not in self._counted:
            true, size = np.asarray(self.true), len(self.probabilities)
            stacks = [slice(begin, begin + _CHUNK) for begin in range(0, size, _CHUNK)]
            self._counted[shape] = Areas.concatenate(
                [areas(shape.shape(self.probabilities[part]), true[part]) for part in stacks]
            )
        counted = self._counted[shape]
        return counted.emptied(rule.gated(len(counted.true), self.presence)) if rule.gate else counted

    def keep(self, rules: Iterable[Rule]) -> None:
        """Forget the counts that none of these rules needs."""
        needed = set(map(_shape, rules))
        for shape in self._counted.keys() - needed:
            del self._counted[shape]


def _shape(rule: Rule) -> Rule:
    """The steps of a rule that change which pixels are marked at a threshold."""
    return Rule(fill_holes=rule.fill_holes, high=rule.high)


@dataclass(frozen=True)
class FittedRules:
    """One rule per group, fitted on all other groups; key None: fitted on all images.

    average_precision: float64 (N,), each image under the rule that never saw its group. min_area: whether the minimum
    area was fitted, too.
    """

    rules: dict[int | None, Rule]
    average_precision: NDArray[np.float64]
    min_area: bool

    @property
    def score(self) -> float:
        """The cross-fitted score, in [0, 1]."""
        return float(self.average_precision.mean())


@dataclass(frozen=True)
class Trial:
    """A step, fitted on top of the steps adopted before it (``before``), and whether it is adopted."""

    step: str
    before: FittedRules
    fit: FittedRules

    @property
    def adopted(self) -> bool:
        """Whether the cross-fitted score rises, in whole tenths: rounding adopts nothing."""
        return bool(np.rint(10 * self.gain).sum() > 0)

    @property
    def gain(self) -> NDArray[np.float64]:
        """What the step changes, image by image (N,)."""
        return self.fit.average_precision - self.before.average_precision

    def to_dict(self) -> dict[str, Any]:
        """``{"step", "adopted", "score", "gain": {"mean", "interval"}}``, ready for JSON."""
        return {"step": self.step, "adopted": self.adopted, "score": self.fit.score, "gain": _mean(self.gain)}


def try_steps(images: OutOfFold, progress: Callable[[], object] = lambda: None) -> list[Trial]:
    """Try every step of `STEPS` in turn; the gate only where there is ``presence``.

    ``progress`` is called after each of them, tried or not.
    """
    names = np.unique(images.groups).tolist()
    at_half = images.areas(HALF).average_precision(HALF)
    adopted = FittedRules(dict.fromkeys([*names, None], HALF), at_half, min_area=False)
    trials = []
    for step, options in STEPS.items():
        if step != "empty-image gate" or images.presence is not None:
            min_area = adopted.min_area or step == "minimum area"
            trials.append(Trial(step, adopted, _fit(images, adopted.rules, options, min_area)))
            adopted = trials[-1].fit if trials[-1].adopted else adopted
        progress()
    return trials


def cross_fit(images: OutOfFold) -> NDArray[np.float64]:
    """Each image (N,) under the whole rule that `try_steps` adopts, its values fitted on the other groups.

    Which steps the rule has is chosen on all images, by the sign of a cross-fitted gain; that flatters a little.
    """
    adopted = [trial.fit.average_precision for trial in try_steps(images) if trial.adopted]
    return adopted[-1] if adopted else images.areas(HALF).average_precision(HALF)


RULES = ("at_half", "cross_fitted", "whole_rule")


def scores(images: OutOfFold) -> dict[str, NDArray[np.float64]]:
    """What each image scores, float64 (N,) in [0, 1], under three rules: what runs, levers and starts are compared by.

    at_half: threshold 0.5. cross_fitted: a threshold and a minimum area fitted on the other groups, the same kind of
    rule for every network. whole_rule: as `cross_fit`, so with what would be submitted.
    """
    counted = images.areas(HALF)
    return {
        "at_half": counted.average_precision(HALF),
        "cross_fitted": thresholds.cross_fit_areas(counted, images.groups).average_precision,
        "whole_rule": cross_fit(images),
    }


def _fit(
    images: OutOfFold, before: dict[int | None, Rule], options: Iterable[dict[str, Any]], min_area: bool
) -> FittedRules:
    """For each group, extend its rule by the option with the highest plateau on the other groups."""
    asked: dict[Rule, list[int | None]] = {}  # groups that share a rule share its count of pixels
    for option in options:
        for name, rule in before.items():
            asked.setdefault(replace(rule, threshold=HALF.threshold, min_area=0, **option), []).append(name)
    rules: dict[int | None, Rule] = {}
    heights: dict[int | None, float] = {}
    held_out = np.empty(len(images.groups))
    for steps, names in asked.items():
        counted = images.areas(steps)
        for name, (found, height) in thresholds.fit_without(counted, images.groups, names, min_area).items():
            if height > heights.get(name, -1):
                heights[name] = height
                rules[name] = replace(steps, threshold=found.threshold, min_area=found.min_area)
                if name is not None:
                    own = images.groups == name
                    held_out[own] = counted.take(own).average_precision(found)
        images.keep([*before.values(), *rules.values()])
    return FittedRules(rules, held_out, min_area)


def summarise(
    ids: Sequence[str] | NDArray[np.str_],
    probabilities: ArrayLike,
    true: ArrayLike,
    fold: ArrayLike,
    presence: ArrayLike | None = None,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Everything about the decision rule on out-of-fold predictions, ready for JSON (``postprocess.json``).

    The tuned rule has the steps that raised the cross-fitted score (``steps``, see `Trial`); where none did, it is
    threshold and minimum area. ``naive``, ``plateau``, ``cross_fitted`` and ``curve`` are about the tuned rule,
    ``curve`` with the minimum area of ``plateau``. ``adopted`` is "tuned" when a step is adopted, else "half"; ``rule``
    is the rule adopted. ``per_coverage`` holds the scores without leakage (cross-fitted, or at one half). ``pixel`` is
    at one half, to compare with published figures. ``tuning_gain`` is paired: cross-fitted minus at one half, image by
    image.

    Args:
        ids: N ids, each once.
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.
        fold: (N,) whole numbers; with a single fold, random parts stand in for the folds.
        presence: uint8 (N,) in 255ths, probability that the image holds any salt.
        progress: called after each step of `STEPS`.

    Returns:
        A dict of plain Python values.

    Raises:
        InputError: an id twice, lengths that differ, fewer than two images, or as `areas` and `Rule.apply`.
    """
    counted = areas(probabilities, true)
    n = len(counted.true)
    if len(ids) != n or len(set(map(str, ids))) != n or n < 2:
        raise InputError(f"each image needs its own id, two at least: {len(set(ids))} ids for {n} images")
    folds = np.unique(np.asarray(fold)).tolist()
    group = thresholds.folds_or_parts(np.asarray(fold))
    counts = {_shape(HALF): counted}
    images = OutOfFold(as_quantised(probabilities), true, thresholds.as_groups(group, n), presence, counts)
    trials = try_steps(images, progress)
    adopted = [trial.fit for trial in trials if trial.adopted]
    fit = adopted[-1] if adopted else next(trial.fit for trial in trials if trial.step == "minimum area")
    at_half = counted.average_precision(HALF)
    honest = fit.average_precision if adopted else at_half
    classes = metric.coverage_class_from_areas(counted.true.astype(np.int64), counted.pixels)
    return {
        "rule": (fit.rules[None] if adopted else HALF).to_dict(),
        "adopted": "tuned" if adopted else "half",
        "n": n,
        "folds": folds,
        "cross_fit_groups": "folds" if len(folds) > 1 else "random parts",
        "score_at_half": float(at_half.mean()),
        **_tuned(fit, images),
        "tuning_gain": _mean(fit.average_precision - at_half),
        "steps": [trial.to_dict() for trial in trials],
        "log_loss": log_loss(counted),
        "pixel": _pixel(counted),
        "per_coverage": metric.per_coverage(honest, classes),
    }


def _tuned(fit: FittedRules, images: OutOfFold) -> dict[str, Any]:
    """What `summarise` says about the tuned rule."""
    tuned = fit.rules[None]
    found = thresholds.search_areas(images.areas(tuned), fit.min_area)

    def complete(rule: Rule) -> dict[str, int]:
        return replace(tuned, threshold=rule.threshold, min_area=rule.min_area).to_dict()

    return {
        "naive": {"score": found.best_score, "rule": complete(found.best)},
        "plateau": {"score": found.rule_score, "rule": complete(found.rule)},
        "cross_fitted": {
            "score": fit.score,
            "interval": list(metric.bootstrap_interval(fit.average_precision)),
            "rules": [{"group": name, **rule.to_dict()} for name, rule in fit.rules.items() if name is not None],
        },
        "curve": _curve(found),
    }


def _curve(found: Search) -> dict[str, list]:
    return {
        "threshold": list(range(1, 256)),
        "score": found.curve_threshold(found.rule.min_area).tolist(),
        "score_no_min_area": found.curve_threshold(0).tolist(),
    }


def _pixel(counted: Areas) -> dict[str, float]:
    intersection, predicted = counted.under(HALF)
    common, marked, salt = (int(area.sum()) for area in (intersection, predicted, counted.true))
    return asdict(metric.pixel_scores_from_areas(common, marked, salt, len(counted.true) * counted.pixels))


def _mean(values: NDArray[np.float64]) -> dict[str, Any]:
    """Mean with its 95 % bootstrap interval."""
    return {"mean": float(values.mean()), "interval": list(metric.bootstrap_interval(values))}
