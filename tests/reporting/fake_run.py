"""A small finished run on eight made-up tiles, in the real layout, whose scores can be worked out by hand."""

import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from saltseg import config, experiments, io, predictions, provenance, runs
from saltseg.data import competition, submission
from saltseg.data.competition import Labeled
from saltseg.pipeline.workspace import Workspace
from saltseg.postprocessing.summary import summarize

# id: (rows of true salt, rows of predicted salt), all full width from the top, so IoU = smaller / larger and
# AP = (ceil(20 IoU) - 10) / 10 by hand.
ROWS = {
    "a": (40, 40),  # IoU 1     AP 1
    "b": (40, 38),  # IoU 0.95  AP 0.9
    "c": (0, 0),  # both empty: AP 1, nothing to see
    "d": (40, 34),  # IoU 0.85  AP 0.7
    "e": (40, 30),  # IoU 0.75  AP 0.5
    "f": (40, 24),  # IoU 0.6   AP 0.2
    "g": (40, 20),  # IoU 0.5   AP 0
    "h": (0, 5),  # salt invented: AP 0
}
IDS = tuple(ROWS)
FOLD = np.repeat([0, 1], 4)
AVERAGE_PRECISION = np.array([1, 0.9, 1, 0.7, 0.5, 0.2, 0, 0])


def tiles() -> tuple[Labeled, np.ndarray]:
    """The eight tiles (layers with a little noise) and their probabilities in 255ths (200 salt, 20 not)."""
    rng = np.random.default_rng(0)
    depth = np.arange(101)[:, None]
    layers = [128 + 60 * np.sin(depth / (3 + k)) + rng.normal(0, 12, (101, 101)) for k in range(len(IDS))]
    below = np.broadcast_to(depth, (101, 101))
    masks = np.stack([below < true for true, _ in ROWS.values()]).astype(np.uint8)
    predicted = np.stack([below < rows for _, rows in ROWS.values()])
    images = np.clip(np.stack(layers), 0, 255).astype(np.uint8)
    return Labeled(IDS, images, masks), np.where(predicted, 200, 20).astype(np.uint8)


@cache
def scores() -> dict[str, Any]:
    """Content of postprocess.json; it takes seconds."""
    labeled, probabilities = tiles()
    return summarize(IDS, probabilities, labeled.masks, FOLD)


def write_dataset(root: Path, labeled: Labeled) -> None:
    """Kaggle's layout: RGB images with equal channels, 16-bit masks, train.csv; no tiles to predict."""
    for name in ("images", "masks"):
        (root / "train" / name).mkdir(parents=True)
    for id_, image, mask in zip(labeled.ids, labeled.images, labeled.masks, strict=True):
        cv2.imwrite(str(root / "train" / "images" / f"{id_}.png"), np.repeat(image[..., None], 3, axis=2))
        cv2.imwrite(str(root / "train" / "masks" / f"{id_}.png"), mask.astype(np.uint16) * 65535)
    submission.write(root / "train.csv", labeled.ids, labeled.masks, labeled.ids)
    (root / "sample_submission.csv").write_text("id,rle_mask\n")


def log_rows(shift: float = 0.0) -> list[dict[str, float]]:
    """Four epochs: best at epoch 3, the learning rate cut before epoch 4."""
    train, valid, rate = (0.6, 0.4, 0.3, 0.2), (0.5, 0.45, 0.4, 0.42), (1e-3, 1e-3, 1e-3, 1e-4)
    rows = zip(range(1, 5), train, valid, rate, strict=True)
    return [
        {
            "epoch": epoch,
            "train_loss": a,
            "valid_loss": b + shift,
            "valid_frame_accuracy": 0.9,
            "learning_rate": lr,
            "seconds": 10,
            "images_per_second": 12.5,
        }
        for epoch, a, b, lr in rows
    ]


def write_fold(fold: runs.FoldDir, labeled: Labeled, probabilities: np.ndarray) -> None:
    """Log, predictions for four training tiles, metrics. TTA gain 0.02 in fold 0 and 0.04 in fold 1."""
    number = fold.number
    io.write_csv(fold.log, log_rows(0.01 * number))
    other = slice(4, 8) if number == 0 else slice(0, 4)
    predictions.save_predictions(fold.train, predictions.Predictions(np.array(IDS[other]), probabilities[other]))
    score = (0.9, 0.175)[number]
    metrics = {
        "fold": number,
        "n_train": 4,
        "n_valid": 4,
        "epochs": 4,
        "best_epoch": 3,
        "best_epoch_chosen_by": "lowest loss",
        "tta": ["identity", "hflip"],
        "valid_loss": 0.4 + 0.01 * number,
        "valid_pixel_accuracy": 0.9,
        "score_at_half": score,
        "score_at_half_no_tta": score - 0.02 * (number + 1),
        "train_loss": 0.3,
        "train_score_at_half": 0.75,
        "train_pixel_accuracy": 0.95,
        "seconds": 3600.0,
        "images_per_second": 12.5,
        "peak_memory_mb": 1234,
        "finished": "2026-01-01T00:00:00+00:00",
    }
    io.write_json(fold.metrics, metrics)


@dataclass(frozen=True)
class Fake:
    """Where the fake run lies and what is in it."""

    output: Path
    input: Path
    run: runs.RunDir
    labeled: Labeled
    probabilities: np.ndarray

    @property
    def root(self) -> Path:
        """The dataset."""
        return self.input / "tgs-tiny"

    @property
    def workspace(self) -> Workspace:
        """Where its files are."""
        return Workspace(self.input, self.output)


def reset(run: runs.RunDir, *assignments: str) -> None:
    """Change settings in the run's config.yaml: "train.checkpoint=last"."""
    io.write_atomic(run.config, config.dump(config.override(run.read_config(), assignments)))


def make_blend(fake: Fake, name: str, members: list[str], **values: object) -> runs.RunDir:
    """A blend with the predictions and scores of the run, equal weights, and more in its provenance."""
    blend = runs.RunDir(fake.output / "blends" / name)
    blend.path.mkdir(parents=True)
    for source in (fake.run.config, fake.run.oof, fake.run.postprocess):
        shutil.copy(source, blend.path)
    blended = {"members": members, "weights": [1] * len(members)}
    io.write_json(blend.provenance, fake.run.read_provenance() | blended | values)
    return blend


def make(base: Path, name: str = "small", dataset: str = "tgs-tiny", synthetic: bool = False) -> Fake:
    """Write the run and, if it is not there yet, its dataset under `base`."""
    labeled, probabilities = tiles()
    run = runs.run_dir(base / "output", name)
    root = base / "input" / dataset
    if not root.exists():
        write_dataset(root, labeled)
    settings = replace(experiments.named("unet"), name="a <b>bold</b> one", folds=config.FoldsConfig(count=2))
    io.write_atomic(run.config, config.dump(settings))
    nasty = "python scripts/train.py --name '<script>alert(\"x\")</script>'"
    recorded = {"dataset": dataset, "dataset_hash": competition.fingerprint(root), "folds_hash": "cd" * 32}
    recorded |= {"synthetic": synthetic, "command": nasty}
    io.write_json(run.provenance, provenance.record() | recorded)
    for number in (0, 1):
        write_fold(run.fold(number), labeled, probabilities)
    predictions.save_predictions(run.oof, predictions.Predictions(np.array(IDS), probabilities, FOLD))
    io.write_json(run.postprocess, scores())
    return Fake(base / "output", base / "input", run, labeled, probabilities)
