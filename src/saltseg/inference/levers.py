"""What each lever of a recipe is worth: small records of finished runs, and paired differences between them.

A record holds the score of every validation image, so tables can be made again, and continued on another machine,
without the runs.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import runs
from saltseg.core import metric, thresholds
from saltseg.core.areas import areas, log_loss
from saltseg.core.postprocess import HALF
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import blend
from saltseg.inference.steps import Place
from saltseg.runs import RunDir

BASE = "base"


def record(run: RunDir, place: Place, lever: str, seed: int, budget: str) -> dict[str, Any]:
    """Figures of a run whose folds are finished, ready for JSON.

    ``tenths_at_half`` and ``tenths_cross_fitted``: ten times the metric of each out-of-fold image in id order, under
    threshold 0.5 and under a rule fitted on the other folds (five random parts where there is one fold), a
    hexadecimal digit each.
    """
    folds = run.finished_folds()
    oof = blend.collate(folds)
    labelled = competition.read_train(place.root(run))
    position = {id_: i for i, id_ in enumerate(labelled.ids)}
    counted = areas(oof.probabilities, labelled.masks[[position[id_] for id_ in oof.ids.tolist()]])
    assert oof.fold is not None
    group = oof.fold if len(folds) > 1 else thresholds.random_parts(len(oof.ids))
    at_half = counted.average_precision(HALF)
    fitted = thresholds.cross_fit_areas(counted, group).average_precision
    figures = [runs.read_json(fold.metrics) for fold in folds]
    origin = run.read_provenance()
    return {
        "lever": lever,
        "seed": seed,
        "budget": budget,
        "dataset": origin["dataset"],
        "images": hashlib.sha256("\n".join(oof.ids.tolist()).encode()).hexdigest()[:16],
        "n_train": figures[0]["n_train"],
        "n": len(oof.ids),
        "log_loss": log_loss(counted),
        "at_half": float(at_half.mean()),
        "cross_fitted": float(fitted.mean()),
        "seconds_per_epoch": float(np.mean([f["seconds"] / f["epochs"] for f in figures])),
        "peak_memory_mb": max((f["peak_memory_mb"] or 0) for f in figures),
        "command": origin["command"],
        "git_commit": figures[0]["git_commit"],
        "machine": origin["machine"],
        "tenths_at_half": _digits(at_half),
        "tenths_cross_fitted": _digits(fitted),
    }


def _digits(scores: np.ndarray) -> str:
    return "".join(f"{tenths:x}" for tenths in np.rint(10 * scores).astype(int))


@dataclass(frozen=True)
class Worth:
    """One lever against the baseline, on the same images.

    at_half, cross_fitted: mean score; gain_…: paired difference to the baseline with its 95 % interval over images,
    None for the baseline itself. seeds: trainings behind it; several are averaged image by image.
    """

    lever: str
    seeds: int
    n: int
    at_half: float
    cross_fitted: float
    log_loss: float
    gain_at_half: tuple[float, float, float] | None
    gain_cross_fitted: tuple[float, float, float] | None
    seconds_per_epoch: float
    peak_memory_mb: int


def table(records: Sequence[Mapping[str, Any]]) -> list[Worth]:
    """The baseline first, then every lever by its cross-fitted gain, best first.

    Raises InputError when there is no baseline, or records are about different images.
    """
    if not any(entry["lever"] == BASE for entry in records):
        raise InputError(f"no record of the lever {BASE!r} to compare with; run scripts/levers.py --only {BASE}")
    if len({entry["images"] for entry in records}) > 1:
        raise InputError("records are about different images; keep one dataset, budget and fold table per folder")
    levers = sorted({entry["lever"] for entry in records})
    of_lever = {lever: [entry for entry in records if entry["lever"] == lever] for lever in levers}

    def scores(lever: str, key: str) -> np.ndarray:
        return np.mean([[int(digit, 16) for digit in entry[key]] for entry in of_lever[lever]], axis=0) / 10

    def gain(lever: str, key: str) -> tuple[float, float, float] | None:
        if lever == BASE:
            return None
        difference = scores(lever, key) - scores(BASE, key)
        return float(difference.mean()), *metric.bootstrap_interval(difference)

    found = [
        Worth(
            lever,
            len(of_lever[lever]),
            of_lever[lever][0]["n"],
            float(scores(lever, "tenths_at_half").mean()),
            float(scores(lever, "tenths_cross_fitted").mean()),
            float(np.mean([entry["log_loss"] for entry in of_lever[lever]])),
            gain(lever, "tenths_at_half"),
            gain(lever, "tenths_cross_fitted"),
            float(np.median([entry["seconds_per_epoch"] for entry in of_lever[lever]])),
            max(entry["peak_memory_mb"] for entry in of_lever[lever]),
        )
        for lever in levers
    ]
    return sorted(found, key=lambda worth: (worth.lever != BASE, -worth.cross_fitted, worth.lever))


def seed_noise(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Standard deviation (n - 1) of the cross-fitted score between trainings that differ in the seed only, pooled."""
    spread, freedom = 0.0, 0
    for lever in {entry["lever"] for entry in records}:
        values = np.array([entry["cross_fitted"] for entry in records if entry["lever"] == lever])
        spread += float(((values - values.mean()) ** 2).sum())
        freedom += len(values) - 1
    return float(np.sqrt(spread / freedom)) if freedom else None


def read(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder, in the order of their names."""
    return [runs.read_json(path) for path in sorted(folder.glob("*.json"))]


def markdown(found: Sequence[Worth]) -> str:
    """The table for RESULTS.md."""
    columns = ("lever", "cross-fitted", "gain [95 %]", "at 0.5", "gain [95 %]", "log-loss", "s/epoch", "MiB", "seeds")
    rows = [
        (
            f"`{worth.lever}`",
            f"{worth.cross_fitted:.4f}",
            _signed(worth.gain_cross_fitted),
            f"{worth.at_half:.4f}",
            _signed(worth.gain_at_half),
            f"{worth.log_loss:.4f}",
            f"{worth.seconds_per_epoch:.0f}",
            f"{worth.peak_memory_mb:,}",
            str(worth.seeds),
        )
        for worth in found
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ("---",) * len(columns), *rows))


def _signed(gain: tuple[float, float, float] | None) -> str:
    return "" if gain is None else f"{gain[0]:+.4f} [{gain[1]:+.4f}, {gain[2]:+.4f}]"
