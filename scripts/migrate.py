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
from collections.abc import Mapping
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

# By file: old key → new key.
POSTPROCESSING = {"rule": "postprocessing", "high": "hysteresis_high", "gate": "presence_threshold"}
KEYS = {
    "metrics.json": {"views": "tta", "encoder_weights": "weights_source"},
    "provenance.json": {"unlabelled_hash": "unlabeled_hash", "adopted": "selected"},
    "borrowed_rule.json": {"rule_of": "postprocessing_from", **POSTPROCESSING},
    "postprocess.json": {
        **POSTPROCESSING, "adopted": "selected", "naive": "argmax", "plateau": "smoothed_argmax", "rules": "per_group",
    },
    "image_scores.csv": {
        "at_half": "score_at_half", "cross_fitted": "score_tuned_cv", "whole_rule": "score_postprocessed_cv",
    },
    "log.csv": {"valid_pixel_accuracy": "valid_frame_accuracy"},
}  # fmt: skip
STEPS = {"empty-image gate": "presence threshold"}
FILES = {"borrowed_rule.json": "postprocessing_source.json", "rule_curve.png": "threshold_curve.png"}


def migrate_config(mapping: Mapping[str, Any]) -> config.Config:
    """What an old config.yaml holds → the configuration.

    Settings that the chosen model, schedule or pseudo-labels do not have are left out, as are those of the machine.
    """
    flat = {
        SETTINGS.get(f"{section}.{key}", f"{section}.{key}"): value
        for section, values in mapping.items() if isinstance(values, Mapping)
        for key, value in values.items() if f"{section}.{key}" not in RUNTIME
    }  # fmt: skip
    if "model.stem" in flat:
        flat["model.stem"] = STEMS.get(flat["model.stem"], flat["model.stem"])
    pseudo = {key: flat.pop(key) for key in list(flat) if key.startswith("pseudo.")}
    teacher = pseudo.get("pseudo.teacher")
    others = ("pseudo.images", "pseudo.limit", "pseudo.ramp_up_fraction")
    if teacher == "self":
        others = ("pseudo.teacher", "pseudo.drop_fraction", "pseudo.all_folds")
    kinds: dict[str, Any] = {key: flat[key] for key in ("model.architecture", "train.schedule.kind") if key in flat}
    known = config.flat(config.change(config.Config(), kinds))
    changes = {key: value for key, value in flat.items() if key in known}
    if teacher:
        changes |= {key: value for key, value in pseudo.items() if key not in others}
    return config.change(config.Config(), {"name": mapping["name"], **changes})


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same value with other keys, in everything that it holds."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    return [renamed(inner, names) for inner in value] if isinstance(value, list) else value


def migrate_json(path: Path, old: dict[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
    """The contents of a JSON file in the new form."""
    names = {"score_with_rule": "score_postprocessed"} if path.name.startswith("on_") else KEYS.get(path.name, {})
    new = renamed(old, names)
    if new.get("method") == "masked":  # was pseudo.transduction, which now comes with pseudo-labels alone
        settings = yaml12.read(path.with_name("config.yaml"))
        new.setdefault("transduction", bool((settings.get("pseudo") or {}).get("transduction")))
    for step in new.get("steps", []):
        step["step"] = STEPS.get(step["step"], step["step"])
    if new.get("dataset_hash") in hashes:
        new["dataset_hash"] = hashes[new["dataset_hash"]]
    return new


def migrate_checkpoint(path: Path) -> bool:
    """A weight file or the state of a training; whether it was in the old form."""
    import torch

    old = torch.load(path, map_location="cpu", weights_only=True)
    new = {"weights_source" if key == "origin" else key: value for key, value in old.items()}
    if "callbacks" in new:
        names = {"learns_from": "pseudo_labels_hash", "valid_pixel_accuracy": "valid_frame_accuracy"}
        new["callbacks"] = renamed(new["callbacks"], names)
    changed = list(new) != list(old) or new.get("callbacks") != old.get("callbacks")
    if changed:
        with io.atomic_path(path) as beside:
            torch.save(new, beside)
    return changed


def migrate(path: Path, hashes: Mapping[str, str]) -> bool:
    """A file of a run, blend, pretraining or published run; whether it was in the old form."""
    if path.suffix == ".ckpt":
        return migrate_checkpoint(path)
    if path.suffix == ".json":
        old = io.read_json(path)
        new = migrate_json(path, old, hashes) if isinstance(old, dict) else old
        if new != old:
            io.write_json(path, new)
    elif path.suffix == ".csv" and path.name in KEYS:
        old = path.read_text()
        header, _, rows = old.partition("\n")
        new = ",".join(KEYS[path.name].get(key, key) for key in header.split(",")) + f"\n{rows}"
        if new != old:
            io.write_atomic(path, new)
    elif path.name == "config.yaml":
        old = yaml12.read(path)
        new = old if isinstance(old["train"].get("schedule"), Mapping) else migrate_config(old)  # a mapping is new
        if new is not old:
            io.write_atomic(path, config.dump(new))
    else:
        old = new = None
    if path.name in FILES:
        path.rename(path.with_name(FILES[path.name]))
    return new != old or path.name in FILES


def old_fingerprint(root: Path) -> str:
    """What `competition.fingerprint` was at 8d7f4ed: train.csv, names and sizes of all files in the image folders."""
    digest = hashlib.sha256((root / "train.csv").read_bytes())
    for part in ("train/images", "test/images"):
        for path in sorted((root / part).iterdir(), key=lambda path: path.name):
            digest.update(f"\n{part}/{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def main() -> int:
    """Migrate every run at or below the paths given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="a run, or a folder of runs")
    parser.add_argument("--input", type=Path, default=Path("input"), metavar="DIR", help="datasets (default: input)")
    arguments = parser.parse_args()
    roots = [path.parent for path in sorted(arguments.input.glob("*/train.csv"))]
    hashes = {old_fingerprint(root): competition.fingerprint(root) for root in roots}
    for path in arguments.paths:
        folders = sorted({found.parent for found in path.rglob("provenance.json")})
        if not folders:
            raise InputError(f"{path} holds no run; give output/published, output/runs or a run's folder")
        for folder in folders:
            every = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != "config.yaml"]
            done = [str(file.relative_to(folder)) for file in every if migrate(file, hashes)]
            if (settings := folder / "config.yaml").is_file() and migrate(settings, hashes):  # last: others read it
                done.append(settings.name)
            print(f"{folder}: {', '.join(done) if done else 'in the new form already'}")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
