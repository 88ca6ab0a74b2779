"""Records of the case study: checked, compared, and weighed against the noise between trainings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import schemas
from saltseg.errors import InputError
from saltseg.metrics.bootstrap import MeanInterval, mean_interval
from saltseg.studies import results
from saltseg.studies.case_study.variants import BASE, LARGER, PLATEAU
from saltseg.studies.records import AT_HALF, KINDS, TUNED, Record
from saltseg.studies.results import VariantResult
from saltseg.studies.sweep import Sweep

NORMAL_95 = 1.96  # half the width of a 95 % interval in standard deviations


@dataclass(frozen=True)
class CaseStudy:
    """Records of one dataset and budget by variant, in the order of seeds.

    Attributes:
        results: each variant compared with its reference.
        noise: see `saltseg.studies.results.seed_noise`; None unless base has several seeds.
        larger: the same dataset on a larger budget, which answers for the comparisons that it has, if there are any.
        least_noise: by kind of score, the least that `gain_noise` takes, because few variants tell little about it.
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
        rest = [variant for variant in own if self.reference(variant) and variant not in answered]
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

        None for a variant that is the same network as its reference.
        """
        noise = self.gain_noise(kind)
        if noise is None or not self._retrained(variant):
            return None
        return noise / max(1, len(self._seed_gains(variant, kind))) ** 0.5

    def gain_noise(self, kind: str) -> float | None:
        """Standard deviation of the gain of one training over another.

        From seed to seed, pooled over the variants that are compared over several; where there are none, the largest of
        `training_noise`, `least_noise` and what the scores of base with several seeds scatter by. None where none is
        known.
        """
        between_seeds = results.pooled([self._seed_gains(name, kind) for name in self.results])
        if between_seeds is not None:
            return between_seeds
        scatter = results.seed_noise({BASE: self.records[BASE]}, BASE, kind)
        known = (self.training_noise(kind), self.least_noise.get(kind), None if scatter is None else 2**0.5 * scatter)
        return max((noise for noise in known if noise is not None), default=None)

    def fold_gains(self, variant: str, kind: str = TUNED) -> list[np.ndarray]:
        """What each image gains, mean over seeds, an array for each fold; [] without a gain."""
        gains = self._gains(variant, kind)
        if gains is None:
            return []
        folds = _folds(self.results[variant].records[0])
        return [gains.mean(axis=0)[folds == index] for index in np.unique(folds)]

    def _pairs(self, variant: str) -> list[tuple[Record, Record]]:
        """Each record of a variant that counts with the one that it is compared with; [] without a reference."""
        result = self.results[variant]
        of_seed = {record.seed: record for record in self.records.get(result.reference, ())}
        return [(record, of_seed[record.seed]) for record in result.records] if result.reference else []

    def _gains(self, variant: str, kind: str) -> np.ndarray | None:
        """What each image gains with each seed, float64 (seeds, images); None without a gain."""
        if self.results[variant].gains[kind] is None:
            return None
        return results.differences(self._pairs(variant), kind)

    def _seed_gains(self, variant: str, kind: str) -> list[float]:
        """The gain of each seed; [] without a gain, and for a variant that is the same network as its reference."""
        gains = self._gains(variant, kind) if self._retrained(variant) else None
        return [] if gains is None else gains.mean(axis=1).tolist()

    def _retrained(self, variant: str) -> bool:
        """Whether a variant has networks of its own; one that changes the prediction alone has those of its reference.

        Such a one is trained again all the same, with the same curves unless processor or code are others.
        """
        if any(not change.startswith("predict.") for change in self.records[variant][0].changes):
            return True
        return any(one.details["curves"] != other.details["curves"] for one, other in self._pairs(variant))

    def training_noise(self, kind: str) -> float | None:
        """Standard deviation of a gain between trainings, estimated by how far the folds disagree.

        Folds are separate trainings. What their gains differ by more than images alone explain is the noise of
        training, pooled over the variants with a training of their own and a fixed length. None without such a variant.
        """
        excess = []
        for variant in (name for name in self.records if name != PLATEAU):
            parts, void = self.fold_gains(variant, kind), self.silent(variant) or self.silent(self.reference(variant))
            if len(parts) > 1 and not void and self._retrained(variant):
                total = np.var([part.mean() for part in parts], ddof=1) / len(parts)
                excess.append(total - sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2)
        return float(np.sqrt(max(0.0, np.mean(excess)))) if excess else None

    def silent(self, variant: str) -> list[int]:
        """Folds whose network marks nothing at 0.5 in any image, of the seeds that count."""
        records = self.results[variant].records if variant in self.results else ()
        return sorted({fold for record in records for fold in _silent(record)})

    def not_silent(self, variant: str) -> list[Record]:
        """The trainings of a variant that mark something in every fold."""
        return [record for record in self.records.get(variant, ()) if not _silent(record)]

    def gain_over(self, variant: str, others: Sequence[Record], kind: str = TUNED) -> tuple[MeanInterval, float | None]:
        """The gain over the mean of trainings of another variant, paired by image alone.

        Returns:
            The gain; its standard deviation between trainings, if known: `gain_noise`, and how far ``others`` scatter
            where there are several.
        """
        mean = np.mean([record.images(kind) for record in others], axis=0)
        gain = mean_interval(np.mean([record.images(kind) - mean for record in self.records[variant]], axis=0))
        scatter = results.pooled([[record.images(kind).mean() for record in others]])
        known = [self.gain_noise(kind), None if scatter is None else scatter / len(others) ** 0.5]
        return gain, math.hypot(*(sigma for sigma in known if sigma is not None)) if any(known) else None

    def gain_of_tuning(self) -> MeanInterval:
        """What a tuned threshold and minimum area, cross-fitted, give base over threshold 0.5."""
        gains = [record.images(TUNED) - record.images(AT_HALF) for record in self.records[BASE]]
        return mean_interval(np.mean(gains, axis=0))


def _folds(record: Record) -> np.ndarray:
    """The index of each image's fold, int (images,)."""
    return np.array([int(digit) for digit in record.details["image_folds"]])


def _silent(record: Record) -> list[int]:
    """Folds in which every image scores 0 or 1 at 0.5 and some score 1, as where nothing is marked."""
    scores, folds = record.images(AT_HALF), _folds(record)
    every = [(number, scores[folds == index]) for index, number in enumerate(record.details["folds"])]
    return [number for number, own in every if np.isin(own, (0, 1)).all() and own.any()]


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
        _require_details(sweep.record_path(record.variant, record.seed), record, f"remove it and rerun: {command}")
    study = CaseStudy(sweep, found, compared, results.seed_noise(found, BASE))
    return replace(study, larger=_read_larger(study))


def _require_details(path: Path, record: Record, way_out: str) -> None:
    """Raises InputError unless a record has what `saltseg.studies.case_study.measure.details` gives, of its images."""
    details = schemas.check(path, record.details, schemas.CASE_DETAILS, way_out)
    folds, boundary = details["folds"], details["boundary"]
    images, curves = details["image_folds"], details["curves"]
    whole = len(images) == record.n and set(map(int, images)) == set(range(len(folds))) and len(curves) == len(folds)
    if not whole or len({len(column) for column in boundary.values()}) > 1 or record.passed.get(TUNED) is None:
        raise InputError(f"{path}: its scores, folds and counts do not belong together; {way_out}")


def _read_larger(study: CaseStudy) -> CaseStudy | None:
    """The records of the larger budget; None where there is no such budget, or nothing is compared in it yet."""
    name = LARGER.get(study.sweep.budget_name)
    if name is None or not any((sweep := replace(study.sweep, budget_name=name)).folder.glob(f"{BASE}-*.json")):
        return None
    larger = read(sweep)
    for key in ("dataset_hash", "folds_hash"):
        if getattr(larger.records[BASE][0], key) != getattr(study.records[BASE][0], key):
            raise InputError(
                f"the records of the budgets {study.sweep.budget_name} and {name} differ in {key}; remove those of one "
                f"and rerun: saltseg study case_study --data {sweep.data} --budget {name}"
            )
    noise = {kind: sigma for kind in KINDS if (sigma := study.training_noise(kind)) is not None}
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
