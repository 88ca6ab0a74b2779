"""Records of the case study's trainings: read, checked, and each variant paired with what it is compared with.

scripts/study.py leaves them, one JSON file per variant and seed; `saltseg.inference.study.record` says what is in one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import config, storage, studies
from saltseg.core import metric
from saltseg.errors import InputError
from saltseg.inference import levers
from saltseg.inference.levers import Worth
from saltseg.studies import BASE

Record = Mapping[str, Any]
Gain = tuple[float, float, float]  # paired difference, low and high end of its 95 % interval over images

PARTNERS = {"fcn_same_parameters": "narrow", "fcn_same_parameters_dilated": "narrow"}  # all others: base
NEEDED = (
    "variant", "budget", "seed", "changes", "folds", "n_train", "n", "dataset", "dataset_hash", "folds_hash", "device",
    "log_loss", "at_half", "cross_fitted", "whole_rule", "tenths_at_half", "tenths_cross_fitted", "tenths_whole_rule",
    "pixel_accuracy", "thresholds", "tuned", "pixels", "true_pixels", "images_with_salt", "boundary", "parameters",
    "operations", "milliseconds", "seconds_per_epoch", "peak_memory_mb", "curves", "train", "valid", "git_commit",
    "machine",
)  # fmt: skip
ENSEMBLE = ("n", "folds", "trained", "at_half", "cross_fitted", "alone", "together")
OF_BASE = ("seed", "dataset_hash", "folds_hash", "git_commit")  # whose networks ensemble.json is about
ALIKE = ("dataset_hash", "folds_hash", "device")  # or trainings do not compare


@dataclass(frozen=True)
class Study:
    """Records of one dataset and budget: variant → its records in the order of seeds, and what it is worth.

    worth: `levers.Worth`, its gains against `partner`; without gains where that was trained with other seeds or not
    at all. noise: see `levers.seed_noise`, None unless base has several seeds. ensemble: what averaging the folds of
    base gives, see `saltseg.inference.study.ensemble`.
    """

    data: str
    budget: str
    records: Mapping[str, Sequence[Record]]
    worth: Mapping[str, Worth]
    noise: float | None
    ensemble: Mapping[str, Any] | None = None

    def measured(self, variants: Sequence[str]) -> list[str]:
        """Those of ``variants`` that have a record."""
        return [variant for variant in variants if variant in self.records]

    def lacking(self, variants: Sequence[str]) -> list[str]:
        """Those of ``variants`` that the budget trains and that have no record yet."""
        return [name for name in variants if name not in (*self.records, *studies.BUDGETS[self.budget].without)]

    def mean(self, variant: str, key: str) -> float:
        """Mean over seeds of a number in the records of a measured variant."""
        return float(np.mean([entry[key] for entry in self.records[variant]]))

    def side(self, variant: str, name: str) -> tuple[float, float]:
        """Pixel accuracy and score, both at 0.5, on the ``train`` or the ``valid`` images, mean over seeds."""
        figures = [(entry[name]["pixel_accuracy"], entry[name]["score_at_half"]) for entry in self.records[variant]]
        accuracy, score = np.mean(figures, axis=0).tolist()
        return accuracy, score

    def gap(self, variant: str) -> float:
        """Score at 0.5 on training images minus that on validation images, mean over seeds."""
        return self.side(variant, "train")[1] - self.side(variant, "valid")[1]

    def sigma(self, variant: str, rule: str = "cross_fitted") -> float | None:
        """Standard deviation of the variant's mean gain between trainings, if known.

        Where there are several seeds, from seed to seed, pooled over all variants (of the tuned score alone); else
        `training_noise`. None for a variant that is the same network as base.
        """
        if not _is_retrained(self.records[variant][0]):
            return None
        if self.noise is not None:
            noise = levers.gain_noise(list(self.worth.values())) if rule == "cross_fitted" else None
            return None if noise is None else noise / len(self.worth[variant].by_seed) ** 0.5
        return self.training_noise(rule)

    def fold_gains(self, variant: str, rule: str = "cross_fitted") -> tuple[float, ...]:
        """The mean gain in each fold; () without a gain, or where records do not say which fold an image was in."""
        parts = self._fold_differences(variant, rule)
        return tuple(float(part.mean()) for part in parts)

    def training_noise(self, rule: str) -> float | None:
        """Standard deviation of a gain between trainings, judged by how far the folds disagree.

        Folds are separate trainings. What their gains differ by more than images alone explain is the noise of
        training, pooled over the variants with a training of their own and a fixed length. None with one fold, and
        without such a variant.
        """
        excess = []
        for variant in (name for name in self.records if name != studies.PLATEAU):
            parts = self._fold_differences(variant, rule)
            void = self.silent(variant) or self.silent(partner(variant)) if parts else True
            if len(parts) < 2 or void or not _is_retrained(self.records[variant][0]):
                continue
            total = np.var([part.mean() for part in parts], ddof=1) / len(parts)
            excess.append(total - sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2)
        return float(np.sqrt(max(0.0, np.mean(excess)))) if excess else None

    def silent(self, variant: str) -> list[int]:
        """Folds whose network marks nothing at 0.5 in any image; of the seeds that are compared with its partner's."""
        shared = {entry["seed"] for entry in self.records.get(partner(variant), ())}
        own = (entry for entry in self.records.get(variant, ()) if entry["seed"] in shared)
        return sorted({fold for entry in own for fold in _silent(entry)})

    def gain_over_other_seeds(self, variant: str) -> Gain | None:
        """The tuned gain over the mean of its partner's trainings with other seeds that mark something in every fold.

        Paired by image alone. None where there is no such training.
        """
        seeds = {entry["seed"] for entry in self.records[variant]}
        heard = [e for e in self.records[partner(variant)] if e["seed"] not in seeds and not _silent(e)]
        if not heard:
            return None
        others = np.mean([_scores(entry, "cross_fitted") for entry in heard], axis=0)
        return _gain([_scores(entry, "cross_fitted") - others for entry in self.records[variant]])

    def _fold_differences(self, variant: str, rule: str) -> list[np.ndarray]:
        """`_differences`, mean over seeds, cut into folds; [] where records do not say which fold an image was in."""
        differences, folds = self._differences(variant, rule), _folds(self.records[variant][0])
        if not differences or folds is None:
            return []
        mean = np.mean(differences, axis=0)
        return [mean[folds == place] for place in np.unique(folds)]

    def _differences(self, variant: str, rule: str) -> list[np.ndarray]:
        """What each image gains over the `partner`, an array for each shared seed; [] where `worth` has no gain."""
        if self.worth[variant].gain_cross_fitted is None:
            return []
        of_seed = {entry["seed"]: entry for entry in self.records[partner(variant)]}
        pairs = [(entry, of_seed[entry["seed"]]) for entry in self.records[variant] if entry["seed"] in of_seed]
        return [_scores(one, rule) - _scores(other, rule) for one, other in pairs]

    def gain_at_half(self, variant: str) -> Gain | None:
        """What a variant gives over its `partner` at threshold 0.5; None where `worth` has no gain either."""
        differences = self._differences(variant, "at_half")
        return _gain(differences) if differences else None

    def ensemble_gain(self, rule: str) -> Gain | None:
        """What averaging the folds of base gives, at_half or cross_fitted; None where nobody measured it."""
        if self.ensemble is None:
            return None
        low, high = self.ensemble[rule]["interval"]
        return self.ensemble[rule]["gain"], low, high

    def gain_of_tuned_rule(self) -> Gain:
        """What the tuned rule, cross-fitted, gives base over threshold 0.5."""
        return _gain([_scores(entry, "cross_fitted") - _scores(entry, "at_half") for entry in self.records[BASE]])


def _scores(entry: Record, rule: str) -> np.ndarray:
    """Of each image under a rule, float64 (images,) in [0, 1], in the order of their ids."""
    return levers.from_digits(entry[f"tenths_{rule}"])


def _folds(entry: Record) -> np.ndarray | None:
    """The place in ``folds`` of each image's fold, int (images,); None in records that do not say."""
    return np.array([int(digit) for digit in entry["image_folds"]]) if "image_folds" in entry else None


def _silent(entry: Record) -> list[int]:
    """Folds in which every image scores 0 or 1 at 0.5, as without any network."""
    scores, folds = _scores(entry, "at_half"), _folds(entry)
    if folds is None:
        return []
    return [number for place, number in enumerate(entry["folds"]) if np.isin(scores[folds == place], (0, 1)).all()]


def _is_retrained(entry: Record) -> bool:
    """Whether a variant has networks of its own; what changes the prediction alone has base's."""
    return any(not change.startswith("predict.") for change in entry["changes"])


def _gain(differences: Sequence[np.ndarray]) -> Gain:
    """Of differences (images,), one array per seed: the mean over seeds, image by image, and its interval."""
    mean = np.mean(differences, axis=0)
    return float(mean.mean()), *metric.bootstrap_interval(mean)


def partner(variant: str) -> str:
    """The variant that this one is compared with."""
    return PARTNERS.get(variant, BASE)


def read(folder: Path, data: str, budget: str) -> Study:
    """The records of ``folder``, checked and paired.

    Raises InputError: no record at all or none of base, a damaged record, one of another study, or records that were
    not trained and judged on the same images.
    """
    command = f"python scripts/study.py --data {data} --budget {budget}"
    found = levers.read(folder)
    if not found:
        raise InputError(f"no records in {folder}; make them with: {command}")
    for entry in found:
        _check(entry, found[0], folder, budget, command)
    of_variant: dict[str, list[Record]] = {}
    for entry in sorted(found, key=lambda entry: entry["seed"]):
        of_variant.setdefault(entry["variant"], []).append(entry)
    records = {variant: of_variant[variant] for variant in studies.VARIANTS if variant in of_variant}
    if BASE not in records:
        raise InputError(f"no record of {BASE!r} in {folder}, with which all are compared: {command} --only {BASE}")
    as_levers = [{**entry, "lever": entry["variant"], "experiment": "study", "settings": {}} for entry in found]
    worth = {variant: _worth(as_levers, variant) for variant in records}
    ensemble = _ensemble(folder / "ensemble.json", records[BASE], command)
    noise = levers.seed_noise(as_levers) if len(records[BASE]) > 1 else None
    return Study(data, budget, records, worth, noise, ensemble)


def _ensemble(path: Path, base: Sequence[Record], command: str) -> Mapping[str, Any] | None:
    """What averaging the folds of base gives; None where nobody measured it."""
    if not path.is_file():
        return None
    found = storage.read_json(path)
    if not isinstance(found, dict) or not any(all(found.get(key) == entry[key] for key in OF_BASE) for entry in base):
        raise InputError(f"{path} is not of the records of {BASE!r} beside it; delete it and run: {command}")
    if lacking := [key for key in ENSEMBLE if key not in found]:
        raise InputError(f"{path} lacks {lacking[0]!r}; delete it and run: {command}")
    return found


def _check(entry: Record, first: Record, folder: Path, budget: str, command: str) -> None:
    """Whether a record is whole, of this budget's variants as they are now, and of the same images as the first."""
    if lacking := [key for key in NEEDED if key not in entry]:
        raise InputError(f"a record in {folder} lacks {lacking[0]!r}; delete it and run again: {command}")
    variant, name = entry["variant"], f"{entry['variant']}-{entry['seed']}"
    if variant not in studies.VARIANTS:
        raise InputError(f"{config.unknown('variant', variant, studies.VARIANTS)} Remove its record from {folder}")
    if entry["budget"] != budget or entry["changes"] != studies.changes(variant, budget):
        raise InputError(
            f"the record {name} in {folder} is of budget {entry['budget']!r} and changes {entry['changes']}, "
            f"not what studies.py says now; delete it and run again: {command}"
        )
    if (entry["n"], entry["folds"]) != (first["n"], first["folds"]):
        raise InputError(
            f"{name} was judged on {entry['n']} images of folds {entry['folds']}, "
            f"{first['variant']} on {first['n']} of {first['folds']}; remove the odd ones from {folder}"
        )
    for key in ALIKE:
        if entry[key] != first[key]:
            raise InputError(
                f"{name}: records differ in {key} ({first[key]}, {entry[key]}); remove the odd ones from {folder}"
            )


def _worth(found: Sequence[Record], variant: str) -> Worth:
    """A variant against its partner, seed by seed; one that shares no seed with it is its own baseline, without gains.

    found: records that also say what `levers.table` asks for, ``lever`` being the variant.
    """
    seeds = {name: {entry["seed"] for entry in found if entry["lever"] == name} for name in (variant, partner(variant))}
    against = partner(variant) if set.intersection(*seeds.values()) else variant
    return levers.table([entry for entry in found if entry["lever"] in (variant, against)], base=against)[-1]
