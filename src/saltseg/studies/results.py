"""Records of a sweep, read and checked; each variant compared with its reference, image by image and seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saltseg import config
from saltseg.errors import InputError, unknown_name
from saltseg.metrics import bootstrap
from saltseg.metrics.bootstrap import MeanInterval
from saltseg.studies import records
from saltseg.studies.records import KINDS, POSTPROCESSED, TUNED, Record
from saltseg.studies.sweep import Sweep

# Names of runs and folders differ between machines; `Record.precision` holds what train.precision=auto has become.
NOT_COMPARED = ("name", "pseudo.images", "pseudo.teacher", "pseudo.transduction", "train.init_from", "train.precision")
ALIKE = ("dataset_hash", "folds_hash", "device", "precision", "n")  # or records do not compare


@dataclass(frozen=True)
class VariantResult:
    """A variant compared with its reference on the same images and with the same seeds.

    Attributes:
        reference: "" where there is none, or none with a seed in common: then there are no gains.
        records: of the seeds in common; without a reference of all seeds.
        main: the score kind that it is ranked by.
        gains: by score kind, the paired difference with its interval over images; None where a record lacks the score.
        per_seed: the gain of each seed in ``main``, () where that is None; without a reference its score.
    """

    variant: str
    reference: str
    records: tuple[Record, ...]
    main: str
    gains: Mapping[str, MeanInterval | None]
    per_seed: tuple[float, ...]

    @property
    def gain(self) -> MeanInterval | None:
        """The gain in ``main``."""
        return self.gains[self.main]

    def score(self, kind: str) -> float | None:
        """The mean over seeds; None where a record lacks it."""
        scores = [record.scores[kind] for record in self.records]
        return None if None in scores else float(np.mean(np.array(scores, float)))


def main_kind(records: Sequence[Record]) -> str:
    """The score with a tuned threshold and minimum area, the same steps for all; the post-processed one without it."""
    return TUNED if all(record.passed[TUNED] for record in records) else POSTPROCESSED


def compare(variant: str, own: Sequence[Record], reference: str, others: Sequence[Record]) -> VariantResult:
    """Pair a variant with its reference, seed by seed and image by image.

    The interval is over images: it does not cover the noise between trainings (`seed_noise`).
    """
    of_seed = {record.seed: record for record in others}
    pairs = [(record, of_seed[record.seed]) for record in own if record.seed in of_seed]
    main = main_kind([record for pair in pairs for record in pair] or own)
    if not pairs:
        scores = tuple(record.scores[main] or 0.0 for record in own)
        return VariantResult(variant, "", tuple(own), main, dict.fromkeys(KINDS), scores)
    gains = dict[str, MeanInterval | None]()
    for kind in KINDS:
        known = all(record.passed[kind] for pair in pairs for record in pair)
        if kind == POSTPROCESSED:  # older records have another kind of it
            known &= len({record.nested for pair in pairs for record in pair}) == 1
        gains[kind] = bootstrap.mean_interval(differences(pairs, kind).mean(axis=0)) if known else None
    per_seed = tuple(differences(pairs, main).mean(axis=1).tolist()) if gains[main] else ()
    return VariantResult(variant, reference, tuple(record for record, _ in pairs), main, gains, per_seed)


def differences(pairs: Sequence[tuple[Record, Record]], kind: str) -> NDArray[np.float64]:
    """What each image gains, float64 (seeds, images)."""
    return np.array([one.images(kind) - other.images(kind) for one, other in pairs])


def seed_noise(of_variant: Mapping[str, Sequence[Record]], reference: str = "", kind: str = "") -> float | None:
    """Standard deviation (n - 1) of the score between trainings that differ in the seed only, pooled over variants.

    Of the score of this kind; "": the `main_kind` of all. None where no variant has several seeds, or ``reference`` has
    not: other variants alone may be odd ones.
    """
    if reference and len(of_variant.get(reference, ())) < 2:
        return None
    kind = kind or main_kind([record for own in of_variant.values() for record in own])
    return pooled([[record.scores[kind] or 0.0 for record in own] for own in of_variant.values()])


def gain_noise(results: Sequence[VariantResult]) -> float | None:
    """Standard deviation (n - 1) of a gain from seed to seed, pooled over the variants that have several."""
    return pooled([result.per_seed for result in results if result.reference and result.per_seed])


def pooled(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation (n - 1) within groups, pooled over those of several values; None without such a group."""
    groups = [values for values in groups if len(values)]
    freedom = sum(len(values) - 1 for values in groups)
    spread = sum(((np.array(values) - np.mean(values)) ** 2).sum() for values in groups)
    return float(np.sqrt(spread / freedom)) if freedom else None


# ---------------------------------------------------------------- of a sweep


def read(sweep: Sweep) -> dict[str, list[Record]]:
    """The records of a sweep by variant, in the order of the study, each in the order of seeds.

    Raises:
        InputError: a record is damaged, of an unknown variant, of other settings than the study has now, or not of the
            same images as the others; or it learned from an earlier training than the one recorded.
    """
    found = dict[str, list[Record]]()
    folders = {sweep.folder, *(sweep.owner(name).folder for name in sweep.study.shared)}
    for path in sorted(path for folder in folders for path in folder.glob("*-*.json")):
        name = path.stem.rpartition("-")[0]
        if path.parent == sweep.folder or name in sweep.study.shared:
            if name not in sweep.study.variants:
                raise InputError(f"{unknown_name('variant', name, sweep.study.variants)} Remove {path}")
            record = records.read(path)
            _require_current(sweep, record, path)
            found.setdefault(name, []).append(record)
    ordered = {n: sorted(found[n], key=lambda record: record.seed) for n in sweep.study.variants if n in found}
    _require_alike(sweep, [record for own in ordered.values() for record in own])
    return ordered


def _require_current(sweep: Sweep, record: Record, path: Path) -> None:
    """Whether the study as it is now would train the same."""
    name = f"{record.variant}-{record.seed}"
    if path != sweep.record_path(record.variant, record.seed) or record.dataset != sweep.data:
        raise InputError(f"{path} is the record of {name} of {record.study} on {record.dataset}; remove it")
    if record.settings:
        known = {
            key: value for key, value in record.settings.items() if key not in NOT_COMPARED or key == "pseudo.teacher"
        }
        if "pseudo.images" in record.settings:
            known["pseudo.images"] = record.settings["pseudo.images"]
        then = config.change(config.Config(), known)
        lines = config.differences(then, sweep.settings(record.variant, record.seed))
        if lines := [line for line in lines if line.split(":")[0] not in NOT_COMPARED]:
            raise InputError(
                f"{path} was trained with other settings than the study has now ({'; '.join(lines[:3])}); "
                "remove it and rerun"
            )


def _require_alike(sweep: Sweep, every: Sequence[Record]) -> None:
    for key in ALIKE:
        values = {getattr(record, key): record for record in every if getattr(record, key) is not None}
        if len(values) > 1:
            (one, first), (other, second) = list(values.items())[:2]
            raise InputError(
                f"records of {first.variant} and {second.variant} in {sweep.folder} differ in {key} ({one}, {other}); "
                "they do not compare, remove the odd ones"
            )
    finished = {(record.variant, record.seed): record.created for record in every}
    for record in every:
        for need in sweep.study.variants[record.variant].needs:
            before = finished.get((need, record.seed))
            if record.created and before and before > record.created:
                raise InputError(
                    f"{record.variant} learned from an earlier training of {need} than the one recorded; "
                    f"remove {sweep.record_path(record.variant, record.seed)} and {record.run}, then rerun"
                )


def compare_all(sweep: Sweep, of_variant: Mapping[str, Sequence[Record]], against: str = "") -> list[VariantResult]:
    """Every variant compared with its reference.

    In the order of the study; where all have one reference, that first and the others by their gain.

    Args:
        sweep: whose records they are.
        of_variant: as `read` returns them.
        against: a variant to compare all others with instead; those that share no seed with it are left out.

    Raises:
        InputError: there is no record, or none of ``against``.
    """
    if not of_variant:
        command = f"saltseg study {sweep.study.arguments or sweep.study.name} --data {sweep.data}"
        raise InputError(f"no records in {sweep.folder}; train with: {command} --budget {sweep.budget_name}")
    if against and against not in of_variant:
        raise InputError(unknown_name("variant with a record", against, of_variant))
    found = []
    for name, own in of_variant.items():
        reference = against if against != name else ""
        reference = reference if against else sweep.study.reference_of(name)
        result = compare(name, own, reference, of_variant.get(reference, ()))
        if result.reference or name == against or not against:
            found.append(result)
    first = against or sweep.study.reference
    if not first:
        return found
    return sorted(found, key=lambda r: (r.variant != first, -r.gain.mean if r.gain else 0, r.variant))
