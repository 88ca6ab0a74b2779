"""Records of the case study: checked, compared, and weighed against the noise between trainings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from saltseg.errors import InputError
from saltseg.metrics.bootstrap import MeanInterval, mean_interval
from saltseg.studies import results
from saltseg.studies.case_study.variants import BASE, LARGER, PLATEAU
from saltseg.studies.records import AT_HALF, TUNED, Record
from saltseg.studies.results import VariantResult
from saltseg.studies.sweep import Sweep

DETAILS = (  # see `saltseg.studies.case_study.measure.details`
    *("folds", "image_folds", "pixel_accuracy", "totals", "tuned", "boundary", "curves", "train", "valid"),
    *("parameters", "operations", "milliseconds"),
)
NORMAL_95 = 1.96  # half the width of a 95 % interval in standard deviations


@dataclass(frozen=True)
class CaseStudy:
    """Records of one dataset and budget by variant, in the order of seeds.

    Attributes:
        results: each variant compared with its reference.
        noise: see `saltseg.studies.results.seed_noise`; None unless base has several seeds.
        larger: the same dataset on a larger budget, which answers for the comparisons that it has, if there are any.
        least_noise: by kind of score, the least that `sigma` assumes, because few variants tell little about it.
    """

    sweep: Sweep
    records: Mapping[str, Sequence[Record]]
    results: Mapping[str, VariantResult]
    noise: float | None
    larger: "CaseStudy | None" = None
    least_noise: Mapping[str, float] = field(default_factory=dict)

    def parts(self, variants: Sequence[str]) -> list[tuple["CaseStudy", list[str]]]:
        """Which budget answers for which of ``variants``: the larger one for what it compares, this one for the rest.

        Each part has what its variants are compared with, too. A part that compares nothing is left out.
        """
        own = self.measured(variants)
        if self.larger is None:
            return [(self, own)]
        answered = self.larger.compared(variants)
        rest = [variant for variant in self.compared(variants) if variant not in answered]
        parts = [(study, names) for study, names in ((self.larger, answered), (self, rest)) if names]
        with_references = [
            (study, [v for v in study.measured(variants) if v in {*names, *map(study.reference, names)}])
            for study, names in parts
        ]
        return with_references or [(self, own)]

    def best(self, variants: Sequence[str]) -> "CaseStudy":
        """The study that answers for all measured ``variants``: the larger one if it compares them, else this one."""
        parts = self.parts(variants)
        return parts[0][0] if len(parts) == 1 else self

    def compared(self, variants: Sequence[str]) -> list[str]:
        """Those of ``variants`` whose gain is known."""
        return [variant for variant in self.measured(variants) if self.results[variant].gains[TUNED] is not None]

    def measured(self, variants: Sequence[str]) -> list[str]:
        """Those of ``variants`` that have a record."""
        return [variant for variant in variants if variant in self.records]

    def lacking(self, variants: Sequence[str]) -> list[str]:
        """Those of ``variants`` that the budget trains and that have no record yet, of the larger budget neither."""
        known = (*self.records, *(self.larger.records if self.larger else ()))
        return [name for name in variants if name not in (*known, *self.sweep.budget.without)]

    def reference(self, variant: str) -> str:
        """The variant that this one is compared with; "" for base."""
        return self.sweep.study.reference_of(variant)

    def score(self, variant: str, kind: str = TUNED) -> float:
        """Mean score of a measured variant over the seeds that count."""
        return self.results[variant].score(kind) or 0.0

    def seconds_per_epoch(self, variant: str) -> float:
        """Mean over seeds."""
        return float(np.mean([record.seconds_per_epoch or 0.0 for record in self.records[variant]]))

    def mean(self, variant: str, *keys: str) -> float:
        """Mean over seeds of a number in the details, such as ("train", "pixel_accuracy")."""
        values: list[Any] = [record.details for record in self.records[variant]]
        for key in keys:
            values = [value[key] for value in values]
        return float(np.mean(values))

    def gap(self, variant: str, key: str = "score_at_half") -> float:
        """What training images have above validation images, mean over seeds."""
        return self.mean(variant, "train", key) - self.mean(variant, "valid", key)

    def sigma(self, variant: str, kind: str = TUNED) -> float | None:
        """Standard deviation of the variant's mean gain between trainings, if known.

        Where there are several seeds, from seed to seed, pooled over all variants (of the tuned score alone); else
        `training_noise`. None for a variant that is the same network as base.
        """
        if not _is_retrained(self.records[variant][0]):
            return None
        if self.noise is not None:
            noise = results.gain_noise(list(self.results.values())) if kind == TUNED else None
            return None if noise is None else noise / len(self.results[variant].per_seed) ** 0.5
        return self.assumed_noise(kind)

    def assumed_noise(self, kind: str) -> float | None:
        """`training_noise`, but no less than `least_noise`; None where neither is known."""
        known = [noise for noise in (self.training_noise(kind), self.least_noise.get(kind)) if noise is not None]
        return max(known, default=None)

    def fold_gains(self, variant: str, kind: str = TUNED) -> list[np.ndarray]:
        """What each image gains, mean over seeds, an array for each fold; [] without a gain."""
        result = self.results[variant]
        if not result.reference:
            return []
        of_seed = {record.seed: record for record in self.records[result.reference]}
        pairs = [(record, of_seed[record.seed]) for record in result.records]
        mean, folds = results.differences(pairs, kind).mean(axis=0), _folds(result.records[0])
        return [mean[folds == index] for index in np.unique(folds)]

    def training_noise(self, kind: str) -> float | None:
        """Standard deviation of a gain between trainings, estimated by how far the folds disagree.

        Folds are separate trainings. What their gains differ by more than images alone explain is the noise of
        training, pooled over the variants with a training of their own and a fixed length. None without such a variant.
        """
        excess = []
        for variant in (name for name in self.records if name != PLATEAU):
            parts, void = self.fold_gains(variant, kind), self.silent(variant) or self.silent(self.reference(variant))
            if len(parts) > 1 and not void and _is_retrained(self.records[variant][0]):
                total = np.var([part.mean() for part in parts], ddof=1) / len(parts)
                excess.append(total - sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2)
        return float(np.sqrt(max(0.0, np.mean(excess)))) if excess else None

    def silent(self, variant: str) -> list[int]:
        """Folds whose network marks nothing at 0.5 in any image, of the seeds that count."""
        records = self.results[variant].records if variant in self.results else ()
        return sorted({fold for record in records for fold in _silent(record)})

    def gain_over_other_seeds(self, variant: str) -> MeanInterval | None:
        """The tuned gain over the mean of its reference's trainings with other seeds that mark something in every fold.

        Paired by image alone. None where there is no such training.
        """
        seeds = {record.seed for record in self.records[variant]}
        others = [r for r in self.records[self.reference(variant)] if r.seed not in seeds and not _silent(r)]
        if not others:
            return None
        mean = np.mean([record.images(TUNED) for record in others], axis=0)
        return mean_interval(np.mean([record.images(TUNED) - mean for record in self.records[variant]], axis=0))

    def gain_of_tuning(self) -> MeanInterval:
        """What a tuned threshold and minimum area, cross-fitted, give base over threshold 0.5."""
        gains = [record.images(TUNED) - record.images(AT_HALF) for record in self.records[BASE]]
        return mean_interval(np.mean(gains, axis=0))


def _folds(record: Record) -> np.ndarray:
    """The index of each image's fold, int (images,)."""
    return np.array([int(digit) for digit in record.details["image_folds"]])


def _silent(record: Record) -> list[int]:
    """Folds in which every image scores 0 or 1 at 0.5, as without any network."""
    scores, folds = record.images(AT_HALF), _folds(record)
    every = enumerate(record.details["folds"])
    return [number for index, number in every if np.isin(scores[folds == index], (0, 1)).all()]


def _is_retrained(record: Record) -> bool:
    """Whether a variant has networks of its own; one that changes the prediction alone has those of base."""
    return any(not change.startswith("predict.") for change in record.changes)


def read(sweep: Sweep) -> CaseStudy:
    """The records of a sweep, with those of its larger budget if there are any that can be compared.

    Raises InputError where there are none, or none of base, where both budgets are of other data or folds, and as
    `saltseg.studies.results.read`.
    """
    found = results.read(sweep)
    compared = {result.variant: result for result in results.compare_all(sweep, found)}
    command = f"saltseg study case_study --data {sweep.data} --budget {sweep.budget_name}"
    if BASE not in found:
        raise InputError(f"no record of base in {sweep.folder}; train it with: {command} --only {BASE}")
    for record in (record for own in found.values() for record in own):
        if lacking := [key for key in DETAILS if key not in record.details]:
            path = sweep.record_path(record.variant, record.seed)
            raise InputError(f"{path} has no {lacking[0]!r}; remove it and rerun: {command}")
    study = CaseStudy(sweep, found, compared, results.seed_noise(found, BASE))
    return replace(study, larger=_read_larger(study))


def _read_larger(study: CaseStudy) -> CaseStudy | None:
    """The records of the larger budget; None where there is no such budget, or nothing is compared in it yet."""
    name = LARGER.get(study.sweep.budget_name)
    if name is None or not any((sweep := replace(study.sweep, budget_name=name)).folder.glob("*.json")):
        return None
    larger = read(sweep)
    for key in ("dataset_hash", "folds_hash"):
        if getattr(larger.records[BASE][0], key) != getattr(study.records[BASE][0], key):
            raise InputError(
                f"the records of the budgets {study.sweep.budget_name} and {name} differ in {key}; remove those of one "
                f"and rerun: saltseg study case_study --data {sweep.data} --budget {name}"
            )
    noise = {kind: sigma for kind in (AT_HALF, TUNED) if (sigma := study.training_noise(kind)) is not None}
    return replace(larger, least_noise=noise) if larger.compared(list(larger.records)) else None


def verdict(gain: MeanInterval | None, sigma: float | None = None) -> str:
    """A gain in words; sigma: its standard deviation between trainings, if known."""
    if gain is None:
        return "not compared: no training of what it is compared with has the same seed"
    if gain.low <= 0 <= gain.high:
        return f"no detectable difference: {interval(gain)}"
    if sigma is not None and abs(gain.mean) < 2 * math.hypot(sigma, (gain.high - gain.low) / (2 * NORMAL_95)):
        word, doubt = "higher" if gain.low > 0 else "lower", ", within the noise between trainings"
    else:
        word, doubt = "better" if gain.low > 0 else "worse", ""
    return f"{word} by {abs(gain.mean):.3f} [{signed(gain.low)}, {signed(gain.high)}]{doubt}"


def interval(gain: MeanInterval | None) -> str:
    """``+0.012 [−0.003, +0.027]``; empty without a gain."""
    return "" if gain is None else f"{signed(gain.mean)} [{signed(gain.low)}, {signed(gain.high)}]"


def signed(value: float, digits: int = 3) -> str:
    """With a sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
