"""What each lever of a recipe is worth: small records of finished runs, and paired differences between them.

A record holds the score of every validation image, so tables can be made again, and continued on another machine,
without the runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import config, experiments, storage
from saltseg.core import decision, metric
from saltseg.core.areas import log_loss
from saltseg.core.postprocess import HALF
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import blend
from saltseg.inference.steps import Place, with_truth
from saltseg.runs import RunDir

BASE = "base"
SAME = ("experiment", "budget", "dataset", "dataset_hash", "folds_hash", "device")  # or records do not compare


def record(run: RunDir, place: Place, baseline: config.Config, budget: str, lever: str, seed: int) -> dict[str, Any]:
    """`figures` of a run with what it was, ready for JSON."""
    return {
        "experiment": baseline.name,
        "budget": budget,
        "settings": config.flat(config.override(baseline, experiments.BUDGETS[budget])),
        "lever": lever,
        "changes": experiments.with_lever(baseline, budget, lever)[len(experiments.BUDGETS[budget]) :],
        "seed": seed,
        **figures(run, with_truth(blend.collate(run.finished_folds()), competition.read_train(place.root(run)))),
    }


def figures(run: RunDir, images: decision.OutOfFold) -> dict[str, Any]:
    """Figures of a run whose folds are finished, with their predictions and truth in id order, ready for JSON.

    Scores under the three rules of `saltseg.core.decision.scores`, fitted on the other folds (five random parts where
    there is one fold); ``tenths_…``: ten times that of each out-of-fold image in id order, a hexadecimal digit each.
    """
    loss = log_loss(images.areas(HALF))
    scores = decision.scores(images)
    of_fold = [storage.read_json(fold.metrics) for fold in run.finished_folds()]
    origin = run.read_provenance()
    memory = [f.get("peak_gpu_memory_mb") or f["peak_memory_mb"] or 0 for f in of_fold]
    return {
        **{key: origin[key] for key in ("dataset", "dataset_hash", "folds_hash")},
        "n_train": of_fold[0]["n_train"],
        "n": len(images.probabilities),
        "log_loss": loss,
        **{rule: float(values.mean()) for rule, values in scores.items()},
        "seconds_per_epoch": float(np.mean([f["n_train"] / f["images_per_second"] for f in of_fold])),
        "peak_memory_mb": max(memory),
        "command": origin["command"],
        "git_commit": of_fold[0]["git_commit"],
        "machine": origin["machine"],
        "device": "gpu" if of_fold[0].get("peak_gpu_memory_mb") else "cpu",
        **{f"tenths_{rule}": to_digits(values) for rule, values in scores.items()},
    }


def to_digits(scores: np.ndarray) -> str:
    """Scores of images, each 0.0, 0.1 … 1.0, as tenths: a hexadecimal digit each."""
    return "".join(f"{tenths:x}" for tenths in np.rint(10 * scores).astype(int))


@dataclass(frozen=True)
class Worth:
    """One lever against the baseline, on the same images and with the same seeds.

    changes: the settings that make the lever. n_train: images of an epoch. n: images that judge. at_half, cross_fitted,
    whole_rule: mean score (see `figures`) over images and over the seeds that the baseline was trained with, too.
    gain_…: paired difference to the baseline with its 95 % interval over images; None for the baseline itself. by_seed:
    the cross-fitted gain of each of those seeds; for the baseline, its score.
    """

    lever: str
    changes: tuple[str, ...]
    by_seed: tuple[float, ...]
    n_train: int
    n: int
    at_half: float
    cross_fitted: float
    whole_rule: float
    log_loss: float
    gain_cross_fitted: tuple[float, float, float] | None
    gain_whole_rule: tuple[float, float, float] | None


def table(records: Sequence[Mapping[str, Any]], base: str = BASE) -> list[Worth]:
    """The baseline first, then every lever by its cross-fitted gain, best first.

    base: what gains are measured against, the plain baseline or another lever; levers that share no seed with that
    one are left out.

    The interval over images does not hold the noise between trainings (`seed_noise`): a lever that changes the network
    starts from other weights, so that one seed's gain means little below twice that noise.

    Raises InputError when there is no baseline with a lever's seed, or records that do not compare.
    """
    if not records:
        raise InputError(f"no records yet; train the baseline first: scripts/levers.py EXPERIMENT --only {BASE}")
    _demand_alike(records)
    of_lever: dict[str, dict[int, Mapping[str, Any]]] = {}
    for entry in records:
        of_lever.setdefault(entry["lever"], {})[entry["seed"]] = entry
    if base not in of_lever:
        raise InputError(config.unknown("lever with a record", base, of_lever))
    comparable = {k: v for k, v in sorted(of_lever.items()) if base == BASE or v.keys() & of_lever[base].keys()}
    found = [_worth(lever, of_seed, of_lever[base], base) for lever, of_seed in comparable.items()]
    return sorted(found, key=lambda worth: (worth.lever != base, -(worth.gain_cross_fitted or (0,))[0], worth.lever))


def _demand_alike(records: Sequence[Mapping[str, Any]]) -> None:
    """All about the same baseline: an option that did not exist when a record was made had its default's effect."""
    old = [entry["lever"] for entry in records if "tenths_whole_rule" not in entry]
    if old:
        raise InputError(f"the record of {old[0]!r} has no score under the whole rule; remove it and train that again")
    default = config.flat(config.Config())
    known = sorted({key for entry in records for key in entry["settings"]})
    for key in (*SAME, *known):
        found = [entry[key] if key in SAME else entry["settings"].get(key, default.get(key)) for entry in records]
        if len(values := sorted(set(map(str, found)))) > 1:
            raise InputError(
                f"records differ in {key} ({', '.join(values[:3])}); they do not compare, remove the odd ones"
            )


def _worth(
    lever: str, of_seed: Mapping[int, Mapping[str, Any]], reference: Mapping[int, Mapping[str, Any]], base: str
) -> Worth:
    shared = sorted(of_seed.keys() & reference.keys())
    if not shared:
        raise InputError(
            f"no record of the lever {BASE!r} with seed {min(of_seed)} to compare {lever!r} with; "
            f"run scripts/levers.py --only {BASE} --seeds {min(of_seed)}"
        )

    def difference(key: str) -> np.ndarray:  # (seeds, images)
        return np.array([from_digits(of_seed[seed][key]) - from_digits(reference[seed][key]) for seed in shared])

    def gain(key: str) -> tuple[float, float, float] | None:
        mean = difference(key).mean(axis=0)
        return None if lever == base else (float(mean.mean()), *metric.bootstrap_interval(mean))

    def mean(key: str) -> float:
        return float(np.mean([of_seed[seed][key] for seed in shared]))

    scores = [of_seed[seed]["cross_fitted"] for seed in shared]
    return Worth(
        lever,
        tuple(of_seed[shared[0]]["changes"]),
        tuple(scores if lever == base else difference("tenths_cross_fitted").mean(axis=1).tolist()),
        of_seed[shared[0]]["n_train"],
        of_seed[shared[0]]["n"],
        mean("at_half"),
        mean("cross_fitted"),
        mean("whole_rule"),
        mean("log_loss"),
        gain("tenths_cross_fitted"),
        gain("tenths_whole_rule"),
    )


def from_digits(digits: str) -> np.ndarray:
    """The inverse of `to_digits`: float64 (images,)."""
    return np.array([int(digit, 16) for digit in digits]) / 10


def seed_noise(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Standard deviation (n - 1) of the cross-fitted score between trainings that differ in the seed only, pooled."""
    levers = sorted({entry["lever"] for entry in records})
    return _pooled([[entry["cross_fitted"] for entry in records if entry["lever"] == lever] for lever in levers])


def gain_noise(found: Sequence[Worth]) -> float | None:
    """Standard deviation (n - 1) of a lever's gain from seed to seed, pooled over the levers that have several."""
    return _pooled([worth.by_seed for worth in found if worth.gain_cross_fitted])


def _pooled(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation (n - 1) within groups, pooled over those of several values; None where there is none."""
    freedom = sum(len(values) - 1 for values in groups)
    spread = sum(((np.array(values) - np.mean(values)) ** 2).sum() for values in groups)
    return float(np.sqrt(spread / freedom)) if freedom else None


def read(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder, in the order of their names."""
    return [storage.read_json(path) for path in sorted(folder.glob("*-*.json"))]


def markdown(
    found: Sequence[Worth], noise: float | None, costs: Mapping[str, Mapping[str, float]] | None = None
) -> str:
    """The table for RESULTS.md, with what has to be said about it.

    noise: see `seed_noise`. costs: ``{lever: {"time": ratio to the baseline's step, "mb": peak MiB}}``, the baseline's
    also with "images_per_second", measured by benchmarks/levers.py; what is not there was not measured.
    """
    columns: tuple[str, ...] = ("lever", "changes", "cross-fitted", "gain [95 %]", "by seed")
    columns += ("whole rule", "gain [95 %]", "at 0.5", "log-loss", "epoch", "MiB")
    seconds = found[0].n_train / costs[found[0].lever]["images_per_second"] if costs else 0.0  # of the baseline's epoch
    rows = []
    for worth in found:
        cost = (costs or {}).get(worth.lever)
        rows.append(
            (
                f"`{worth.lever}`",
                " ".join(f"`{change}`" for change in worth.changes),
                f"{worth.cross_fitted:.4f}",
                signed(worth.gain_cross_fitted),
                " ".join(
                    f"{value:.4f}" if worth.gain_cross_fitted is None else f"{value:+.4f}" for value in worth.by_seed
                ),
                f"{worth.whole_rule:.4f}",
                signed(worth.gain_whole_rule),
                f"{worth.at_half:.4f}",
                f"{worth.log_loss:.4f}",
                f"{cost['time'] * seconds:.0f} s ({cost['time']:.2f})" if cost else "",
                f"{cost['mb']:,.0f}" if cost else "",
            )
        )
    said = (
        f"{found[0].n:,} images. Cross-fitted: threshold and minimum area, fitted on other images. Whole rule: with "
        "all steps that raise this score, their values cross-fitted likewise. Intervals are over images "
        "alone; the noise between trainings comes on top. "
    )
    if costs:
        said += "Epoch: its steps alone, a ratio to the baseline's times the baseline's fastest. "
    if noise is None:
        said += "The noise between trainings that differ in the seed only was not measured."
    else:
        said += (
            f"Scores of trainings that differ in the seed only scatter by {noise:.4f} (one sigma), so the difference "
            f"of two unrelated trainings by {2**0.5 * noise:.4f}. "
        )
    paired = gain_noise(found)
    if paired is not None:
        count = sum(worth.gain_cross_fitted is not None and len(worth.by_seed) > 1 for worth in found)
        said += f"Gains with the same seed on both sides scatter by {paired:.4f} from seed to seed ({count} levers)."
    return f"{markdown_table(columns, rows)}\n\n{said.strip()}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells without line breaks."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ("---",) * len(columns), *rows))


def signed(gain: Sequence[float] | None) -> str:
    """A difference with its interval, as (difference, low, high); "" for None."""
    return "" if gain is None else f"{gain[0]:+.4f} [{gain[1]:+.4f}, {gain[2]:+.4f}]"
