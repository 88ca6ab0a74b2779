"""Rewrite the records of studies made before the redesign (commit 8d7f4ed and older) once: one format for all.

  python scripts/migrate_studies.py output/published

Reads levers/, ladder/ and study/ of that folder, writes studies/ and removes what it has read. Each record must be of
the settings that its study has today, or nothing is written.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from migrate import migrate_assignments, migrate_settings
from saltseg import config, experiments, io
from saltseg.config import Config
from saltseg.errors import InputError
from saltseg.metrics.bootstrap import mean_interval
from saltseg.studies import ablations, benchmark, engine, label_efficiency, records, results, self_training
from saltseg.studies.case_study.variants import STUDY as CASE_STUDY
from saltseg.studies.records import AT_HALF, KINDS, POSTPROCESSED, TUNED, Record
from saltseg.studies.sweep import Study, Sweep

VARIANTS = {
    "empty_head": "presence_head", "upsampled": "upsample_input", "taught_only": "pseudo_labels_only",
    "own_teacher": "mean_teacher", "own_teacher_late": "mean_teacher_late",
}  # fmt: skip
SCORES = {"at_half": AT_HALF, "cross_fitted": TUNED, "whole_rule": POSTPROCESSED}
LADDERS = {"score": benchmark.STUDY, "self_training": self_training.STUDY, "labels": label_efficiency.STUDY}


def main() -> int:
    """Migrate the folder given."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print(__doc__)
        return 2
    published = Path(sys.argv[1])
    sweeps = dict[Path, Sweep]()
    for sweep, record in [*_levers(published), *_ladders(published), *_case_studies(published)]:
        records.write(sweep.record_path(record.variant, record.seed), record)
        sweeps[sweep.folder] = sweep
    for path in published.glob("levers/*/cost.json"):
        costs = {VARIANTS.get(name, name): value for name, value in io.read_json(path).items()}
        io.write_json(_sweep(published, ablations.STUDY, path.parent.name).folder / path.name, costs)
    for path in published.glob("study/*/*.npz"):
        shutil.copy(path, _sweep(published, CASE_STUDY, path.parent.name).folder / path.name)
    for sweep in sweeps.values():
        results.read(sweep)
        engine.write_table(sweep)
        print(sweep.folder)
    for name in ("levers", "ladder", "study"):
        shutil.rmtree(published / name, ignore_errors=True)
    return 0


def _sweep(published: Path, study: Study, folder: str) -> Sweep:
    data, budget = folder.rsplit("-", 1)
    data = data.removesuffix(f"-{study.base}")
    return Sweep(study, data, budget, Path("input"), published.parent)


def _levers(published: Path) -> Iterator[tuple[Sweep, Record]]:
    for path in sorted(published.glob("levers/*/*-*.json")):
        sweep, old = _sweep(published, ablations.STUDY, path.parent.name), io.read_json(path)
        old["variant"] = VARIANTS.get(old["lever"], old["lever"])
        base = config.change(Config(), migrate_settings(old["settings"]))
        _require_same(path, config.override(base, migrate_assignments(old["changes"])), sweep, old["variant"])
        yield sweep, _record(sweep, old, n_pseudo=0, details={})


def _case_studies(published: Path) -> Iterator[tuple[Sweep, Record]]:
    totals = ("thresholds", "n", "images_with_salt", "pixels", "true_pixels")
    own = ("folds", "image_folds", "pixel_accuracy", "tuned", "boundary", "curves", "train", "valid", "parameters",
           "operations", "milliseconds")  # fmt: skip
    for path in sorted(published.glob("study/*/*-*.json")):
        sweep, old = _sweep(published, CASE_STUDY, path.parent.name), io.read_json(path)
        _require_same(path, _changed(sweep.base("base"), old["changes"]), sweep, old["variant"])
        details = {"totals": {key: old[key] for key in totals}} | {key: old[key] for key in own}
        ensemble = path.with_name("ensemble.json")
        if old["variant"] == "base" and ensemble.is_file():
            mean = io.read_json(ensemble)
            for key in ("seed", "dataset_hash", "folds_hash", "git_commit"):
                assert mean.pop(key) == old[key], ensemble
            details["ensemble"] = {SCORES.get(key, key): value for key, value in mean.items()}
        yield sweep, _record(sweep, old, n_pseudo=0, details=details)


def _ladders(published: Path) -> Iterator[tuple[Sweep, Record]]:
    for path in sorted(published.glob("ladder/*/ladder.json")):
        whole = io.read_json(path)
        study = LADDERS[whole["ladder"]]
        sweep = _sweep(published, study, f"{whole['data']}-{whole['budget']}")
        for stage in whole["stages"]:
            name = VARIANTS.get(stage["stage"], stage["stage"])
            if name in study.shared:
                continue  # recorded with the other ladder
            settings = {}
            if "changes" in stage:
                changed = _changed(experiments.named(stage["experiment"]), stage["changes"])
                _require_same(path, changed, sweep, name)
                flat = config.flat(changed)
                settings = {key: flat[key] for key in results.NOT_COMPARED if key in flat}
            old = stage | {
                "variant": name, "seed": 0, AT_HALF: stage["score_at_half"], "whole_rule": stage["score"],
                "tenths_whole_rule": stage["tenths"], "dataset": whole["data"], "settings": settings,
                "unlabeled_hash": whole["images_hash"],
            }  # fmt: skip
            record = _record(sweep, old, n_pseudo=stage.get("n_pseudo"), details={})
            found = mean_interval(record.images(POSTPROCESSED))
            assert [stage["score"], stage["interval"]] == [found.mean, found.interval], name
            yield sweep, record


def _record(sweep: Sweep, old: Mapping[str, Any], n_pseudo: int | None, details: dict[str, Any]) -> Record:
    name, seed = old["variant"], old["seed"]
    blend = bool(sweep.study.variants[name].members)
    return Record(
        study=sweep.study.name, budget=sweep.budget_name, variant=name, seed=seed,
        run=old.get("run", f"{name}-{seed}"), dataset=old["dataset"], dataset_hash=old["dataset_hash"],
        folds_hash=old["folds_hash"], unlabeled_hash=old.get("unlabeled_hash"),
        transduction=old.get("transduction", False), n=old["n"], n_train=old.get("n_train"), n_pseudo=n_pseudo,
        scores=dict.fromkeys(KINDS) | {new: old.get(new, old.get(key)) for key, new in SCORES.items()},
        passed={new: old.get(f"tenths_{key}") for key, new in SCORES.items()},
        log_loss=old.get("log_loss"), seconds=old.get("seconds"), seconds_per_epoch=old.get("seconds_per_epoch"),
        peak_memory_mb=old.get("peak_memory_mb"), device=old.get("device"), created=None,
        command=old.get("command"), commit=old["git_commit"], machine=old["machine"],
        changes=[] if blend else sweep.changes(name),
        settings={} if blend else config.flat(sweep.settings(name, seed)) | old.get("settings", {})
        if sweep.study.complete else config.flat(sweep.settings(name, seed)),
        details=details,
    )  # fmt: skip


def _changed(base: Config, lines: list[str]) -> Config:
    """A configuration with old changes, ``key: before → after``."""
    pairs = [(line.partition(": ")[0], line.partition(" → ")[2]) for line in lines]
    return config.override(base, migrate_assignments(f"{key}={after}" for key, after in pairs))


def _require_same(path: Path, changed: Config, sweep: Sweep, variant: str) -> None:
    """Whether an old record, its seed aside, is of the settings that the study has today."""
    lines = config.differences(changed, sweep.settings(variant, 0))
    if lines := [line for line in lines if line.split(":")[0] not in results.NOT_COMPARED]:
        raise InputError(f"{path}, {variant}: {json.dumps(lines, ensure_ascii=False)}; nothing is migrated")


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
