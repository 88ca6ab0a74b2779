"""Rewrite the files of runs made before the redesign (commit 8d7f4ed) once, in place: new names of settings and keys.

  python scripts/migrate.py output/published          every published run
  python scripts/migrate.py output/runs/RUN           a run, finished or in training; the same command goes on with it

Files in the new form are left as they are. Each file is replaced as a whole or not at all. The fingerprint of a
dataset has changed, too: hashes of the datasets under input/ (--input DIR) are replaced where the old formula
gives what the run recorded.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from saltseg import config, io, yaml12
from saltseg.data import competition
from saltseg.errors import InputError

SETTINGS = {
    "model.empty_head": "model.presence_head",
    "data.fit": "data.resize_mode",
    "train.late_loss": "train.second_loss",
    "train.late_from": "train.second_loss_start_epoch",
    "train.side_weight": "train.aux_loss_weight",
    "train.empty_weight": "train.presence_loss_weight",
    "train.schedule": "train.schedule.kind",
    "train.warmup": "train.schedule.warmup_epochs",
    "train.cycles": "train.schedule.num_cycles",
    "train.plateau_factor": "train.schedule.factor",
    "train.plateau_patience": "train.schedule.patience",
    "train.minimum_learning_rate": "train.schedule.minimum_learning_rate",
    "train.clip": "train.grad_clip_norm",
    "train.ema": "train.ema_decay",
    "train.swa_from": "train.swa_start_epoch",
    "train.keep": "train.checkpoint",
    "train.half_size_until": "train.low_resolution_epochs",
    "train.validate_every": "train.val_every_n_epochs",
    "train.stop_patience": "train.early_stopping_patience",
    "train.start_from": "train.init_from",
    "pseudo.label_after": "pseudo.ramp_up_fraction",
    "pseudo.confidence": "pseudo.drop_fraction",
    "predict.views": "predict.tta",
    "predict.decision": "predict.postprocessing",
}
RUNTIME = ("train.workers", "predict.batch_size")  # not part of a run any more
STEMS = {"unpooled": "no_maxpool", "upsampled": "upsample_input"}

POSTPROCESSING = {"high": "hysteresis_high", "gate": "presence_threshold"}
STEPS = {"empty-image gate": "presence threshold"}
SCORES = {"at_half": "score_at_half", "cross_fitted": "score_tuned_cv", "whole_rule": "score_postprocessed_cv"}
LOG = {"valid_pixel_accuracy": "valid_frame_accuracy"}
RENAMED = {"borrowed_rule.json": "postprocessing_source.json", "rule_curve.png": "threshold_curve.png"}


def migrate_settings(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Old settings by name, ``{"train.keep": "last"}`` → new ones, as `saltseg.config.flat` has them.

    Settings that the chosen model, schedule or pseudo-labels do not have are left out, as are those of the machine.
    """
    found = {SETTINGS.get(key, key): value for key, value in flat.items() if key not in RUNTIME}
    if "model.stem" in found:
        found["model.stem"] = STEMS.get(found["model.stem"], found["model.stem"])
    if "pseudo.teacher" in found:
        own = {key: found.pop(key) for key in list(found) if key.startswith("pseudo.")}
        if own["pseudo.teacher"] == "self":
            found |= {
                key: own[key]
                for key in own
                if key not in ("pseudo.teacher", "pseudo.drop_fraction", "pseudo.all_folds")
            }
        elif own["pseudo.teacher"]:
            other = ("pseudo.images", "pseudo.limit", "pseudo.ramp_up_fraction")
            found |= {key: own[key] for key in own if key not in other}
        else:
            found["pseudo"] = None
    base = config.change(
        config.Config(), {k: found[k] for k in ("model.architecture", "train.schedule.kind") if k in found}
    )
    known = set(config.flat(base)) | {"pseudo"}
    return {key: value for key, value in found.items() if key in known or key.startswith("pseudo.")}


def migrate_assignments(assignments: Iterable[str]) -> list[str]:
    """Old assignments as ``--set`` took them → new ones; those without a place any more are left out."""
    pairs = [assignment.partition("=")[::2] for assignment in assignments]
    chosen = dict(pairs)
    found = []
    for key, value in pairs:
        new, value = SETTINGS.get(key, key), STEMS.get(value, value)
        warm = new in ("train.schedule.warmup_epochs", "train.schedule.num_cycles")
        if key in RUNTIME or (warm and chosen.get("train.schedule", "cosine") != "cosine"):
            continue
        if (key, value) == ("pseudo.teacher", "self"):
            continue  # pseudo.images says so
        found.append(f"{'train.schedule' if key == 'train.schedule' else new}={value}")
    return found


def migrate_config(mapping: Mapping[str, Any]) -> config.Config:
    """What an old config.yaml holds → the configuration."""
    flat = {f"{section}.{key}": value for section, values in mapping.items() if isinstance(values, Mapping)
            for key, value in values.items()}  # fmt: skip
    return config.change(config.Config(), {"name": mapping["name"], **migrate_settings(flat)})


def migrate_postprocessing(values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a decision rule under their new names; ``group`` of a cross-fitted one stays."""
    return {POSTPROCESSING.get(key, key): value for key, value in values.items()}


def migrate_summary(old: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of postprocess.json."""
    new = dict(old)
    new["postprocessing"] = migrate_postprocessing(new.pop("rule"))
    new["selected"] = new.pop("adopted")
    for before, after in (("naive", "argmax"), ("plateau", "smoothed_argmax")):
        part = new.pop(before)
        new[after] = {"score": part["score"], "postprocessing": migrate_postprocessing(part["rule"])}
    fitted = dict(new["cross_fitted"])
    fitted["per_group"] = [migrate_postprocessing(rule) for rule in fitted.pop("rules")]
    new["cross_fitted"] = fitted
    if "steps" in new:
        new["steps"] = [
            {"step": STEPS.get(step["step"], step["step"]), "selected": step["adopted"],
             **{key: value for key, value in step.items() if key not in ("step", "adopted")}}
            for step in new["steps"]
        ]  # fmt: skip
    order = (
        "postprocessing",
        "selected",
        "why",
        "n",
        "folds",
        "cross_fit_groups",
        "score_at_half",
        "argmax",
        "smoothed_argmax",
    )
    return {key: new[key] for key in (*order, *new) if key in new}


def _renamed(mapping: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in mapping.items()}


def old_fingerprint(root: Path) -> str:
    """What `competition.fingerprint` was at 8d7f4ed: train.csv, names and sizes of all files in the image folders."""
    digest = hashlib.sha256((root / "train.csv").read_bytes())
    for part in ("train/images", "test/images"):
        for path in sorted((root / part).iterdir(), key=lambda path: path.name):
            digest.update(f"\n{part}/{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def dataset_hashes(input_dir: Path) -> dict[str, str]:
    """Old fingerprint → new one of every dataset that is there."""
    roots = [path.parent for path in sorted(input_dir.glob("*/train.csv"))]
    return {old_fingerprint(root): competition.fingerprint(root) for root in roots}


def _migrate_json(path: Path, hashes: Mapping[str, str]) -> bool:
    """One JSON file of a run or a study; whether it was in the old form."""
    old = io.read_json(path)
    if not isinstance(old, dict):
        return False
    if old.get("dataset_hash") in hashes:
        write = io.write_json_lines if path.parents[1].name == "studies" else io.write_json
        write(path, old | {"dataset_hash": hashes[old["dataset_hash"]]})
        _migrate_json(path, {})
        return True
    if path.name == "postprocess.json" and "rule" in old:
        new = migrate_summary(old)
    elif path.name == "borrowed_rule.json":
        new = {"postprocessing_from": old["rule_of"], "postprocessing": migrate_postprocessing(old["rule"])}
    elif path.name == "metrics.json":
        new = _renamed(old, {"views": "tta", "encoder_weights": "weights_source"})
    elif path.name == "provenance.json":
        new = _renamed(old, {"unlabelled_hash": "unlabeled_hash"})
        if new.get("method") == "masked":  # was pseudo.transduction, which now comes with pseudo-labels alone
            settings = yaml12.read(path.with_name("config.yaml"))
            new.setdefault("transduction", bool((settings.get("pseudo") or {}).get("transduction")))
        if isinstance(new.get("evidence"), dict):
            new["evidence"] = _renamed(new["evidence"], {"adopted": "selected"})
    elif path.name.startswith("on_"):
        new = _renamed(old, {"score_with_rule": "score_postprocessed"})
    else:
        return False
    if new == old and path.name not in RENAMED:
        return False
    io.write_json(path, new)
    return True


def _migrate_checkpoint(path: Path) -> bool:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    changed = "origin" in state
    if changed:
        state["weights_source"] = state.pop("origin")
    for callback in state.get("callbacks", {}).values():
        if isinstance(callback, dict) and "learns_from" in callback:
            callback["pseudo_labels_hash"] = callback.pop("learns_from")
            changed = True
        if isinstance(callback, dict) and LOG.keys() & {key for row in callback.get("rows", []) for key in row}:
            callback["rows"] = [_renamed(row, LOG) for row in callback["rows"]]
            changed = True
    if changed:
        with io.atomic_path(path) as beside:
            torch.save(state, beside)
    return changed


def migrate_run(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    """Every file of a run, blend, pretraining or published run; returns the names of those that were rewritten."""
    done = []
    for path in folder.rglob("provenance.json"):
        if _migrate_json(path, hashes):
            done.append(path.name)
    settings = folder / "config.yaml"
    if settings.is_file():
        mapping = yaml12.read(settings)
        if not isinstance(mapping["train"].get("schedule"), Mapping):  # in the new form it is one
            io.write_atomic(settings, config.dump(migrate_config(mapping)))
            done.append(settings.name)
    for path in sorted(folder.rglob("*")):
        if (path.suffix == ".json" and _migrate_json(path, hashes)) or (
            path.suffix == ".ckpt" and _migrate_checkpoint(path)
        ):
            done.append(str(path.relative_to(folder)))
        elif path.name == "image_scores.csv" and "at_half" in (rows := io.read_csv(path))[0]:
            io.write_csv(path, [_renamed(row, SCORES) for row in rows])
            done.append(path.name)
        elif path.name == "log.csv" and (text := path.read_text()).partition("\n")[0].count("valid_pixel_accuracy"):
            io.write_atomic(path, text.replace("valid_pixel_accuracy", LOG["valid_pixel_accuracy"], 1))
            done.append(str(path.relative_to(folder)))
    for old, new in RENAMED.items():
        if (folder / old).is_file():
            (folder / old).rename(folder / new)
            done.append(f"{old} → {new}")
    return done


def main() -> int:
    """Migrate every run and every record of a study at or below the paths given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="a run, or a folder of runs")
    parser.add_argument("--input", type=Path, default=Path("input"), metavar="DIR", help="datasets (default: input)")
    arguments = parser.parse_args()
    hashes = dataset_hashes(arguments.input)
    for path in arguments.paths:
        folders = sorted({found.parent for found in path.rglob("provenance.json")})
        studies = sorted({found.parent for found in path.rglob("studies/*/*.json")})
        if not folders and not studies:
            raise InputError(f"{path} holds no run; give output/published, output/runs or a run's folder")
        for folder in folders:
            done = migrate_run(folder, hashes)
            print(f"{folder}: {', '.join(done) if done else 'in the new form already'}")
        for folder in studies:
            count = sum(_migrate_json(record, hashes) for record in sorted(folder.glob("*.json")))
            print(f"{folder}: {count} records")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
