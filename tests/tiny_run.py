"""A tiny dataset and a run of three finished folds on it, in the real layout (fixture `trained`)."""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from saltseg import config, io, predictions, runs
from saltseg.data import competition
from saltseg.metrics import rle
from saltseg.models import zoo
from saltseg.pipeline.workspace import Workspace

FOLDS = 3
TRAIN = tuple(f"{name}{k}" for name in "abcd" for k in range(FOLDS))  # a0 validates in fold 0, a1 in fold 1, …
TEST = ("t0", "t1", "t2", "t3")
SAMPLE = ("t2", "t0", "t3", "t1")  # the order that the submission must have: neither sorted nor that of test.npz
ROWS = dict(zip(TRAIN, (0, 0, 0, 20, 20, 20, 40, 40, 40, 101, 101, 101), strict=True))  # rows of salt from the top


def salt(rows: int) -> np.ndarray:
    """uint8 (101, 101), salt in the uppermost rows."""
    return np.repeat(np.arange(101) < rows, 101).reshape(101, 101).astype(np.uint8)


def write_table(path: Path, rows: list[list[object]]) -> None:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def metrics(number: int, **values: Any) -> dict[str, Any]:
    """What metrics.json of a fold must hold, with other values."""
    scores = ("valid_pixel_accuracy", "score_at_half", "score_at_half_no_tta", "train_pixel_accuracy")
    numbers = {"n_train": 8, "n_valid": 4, "epochs": 2, "best_epoch": 1, "peak_memory_mb": 100}
    measured = {"train_loss": 0.5, "valid_loss": 0.4, "log_loss": 0.4, "seconds": 1.0, "images_per_second": 8.0}
    texts = {"best_epoch_chosen_by": "the test", "finished": "2026-01-01T00:00:00+00:00"}
    perfect = dict.fromkeys((*scores, "train_score_at_half"), 1.0)
    return {"fold": number, "tta": ["identity"], **numbers, **measured, **texts, **perfect, **values}


def postprocess(**parameters: Any) -> dict[str, Any]:
    """What postprocess.json must hold, with these parameters of post-processing."""
    chosen = {"threshold": 128, "min_area": 0, **parameters}
    tuned = {"score": 0.5, "postprocessing": chosen}
    curve = {"threshold": list(range(1, 256)), "score": [0.5] * 255, "score_no_min_area": [0.5] * 255}
    return {
        "postprocessing": chosen, "selected": "tuned", "n": 12, "folds": [0, 1, 2], "cross_fit_groups": "folds",
        "score_at_half": 0.5, "argmax": tuned, "smoothed_argmax": tuned, "curve": curve, "log_loss": 0.4,
        "cross_fitted": {"score": 0.5, "interval": [0.4, 0.6], "nested": True}, "pixel": {"accuracy": 0.9},
        "per_coverage": [], "tuning_gain": {"mean": 0.0, "interval": [-0.1, 0.1]}, "steps": [],
        "by": "image",
    }  # fmt: skip


class Bright(torch.nn.Module):
    """Salt where the image is bright: sigmoid(4) = 250/255 at 255, sigmoid(-4) = 5/255 at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.slope * image[:, :1] - 4


@dataclass(frozen=True)
class Trained:
    """Where the run is. ``probabilities``: of one fold's file, by id, as written (200 for salt, 20 elsewhere)."""

    input: Path
    output: Path
    run: runs.RunDir
    settings: config.Config

    @property
    def root(self) -> Path:
        """The dataset."""
        return self.input / "tiny"

    @property
    def workspace(self) -> Workspace:
        """Where its files are."""
        return Workspace(self.input, self.output)

    @property
    def table(self) -> Path:
        """The fold table."""
        return self.output / "folds" / "tiny-stratified3.csv"

    def write_settings(self, settings: config.Config) -> None:
        """Replace the run's configuration."""
        io.write_atomic(self.run.config, config.dump(settings))

    def write_provenance(self) -> None:
        """Record the dataset and the folds as they are now."""
        io.write_json(
            self.run.provenance,
            {
                "dataset": "tiny",
                "dataset_hash": competition.fingerprint(self.root),
                "folds_hash": hashlib.sha256(self.table.read_bytes()).hexdigest(),
                "synthetic": False,
            },
        )


def make_predictions(ids: tuple[str, ...], values: Callable[[str], np.ndarray]) -> predictions.Predictions:
    """Predictions of these ids."""
    return predictions.Predictions(np.array(ids), np.stack([values(id_) for id_ in ids]))


def write_dataset(root: Path) -> None:
    """Gray tiles whose value is their number, masks as RLE only, no solution."""
    for part, ids in (("train", TRAIN), ("test", TEST)):
        (root / part / "images").mkdir(parents=True)
        for number, id_ in enumerate(ids):
            tile = np.full((101, 101), 10 * number, np.uint8)
            (root / part / "images" / f"{id_}.png").write_bytes(cv2.imencode(".png", tile)[1].tobytes())
    write_table(root / "train.csv", [["id", "rle_mask"], *([id_, rle.encode(salt(ROWS[id_]))] for id_ in TRAIN)])
    write_table(root / "sample_submission.csv", [["id", "rle_mask"], *([id_, "1 1"] for id_ in SAMPLE)])


def make(base: Path) -> Trained:
    """Three folds of four tiles, predicted without a fault; test tile k: k + 1 rows at 100 + 50 * fold, 0 below."""
    settings = replace(
        config.Config(name="tiny"),
        model=config.UNetConfig(filters=1),
        data=config.DataConfig(resize_mode="pad", size=112),
        folds=config.FoldsConfig(count=FOLDS),
        predict=config.PredictConfig(postprocessing="tuned"),
    )
    made = Trained(base / "input", base / "output", runs.run_dir(base / "output", "tiny-run"), settings)
    write_dataset(made.root)
    rows = [[id_, int(id_[1]), int(np.ceil(ROWS[id_] * 10 / 101)), ""] for id_ in TRAIN]
    write_table(made.table, [["id", "fold", "coverage_class", "group"], *rows])
    made.write_settings(settings)
    made.write_provenance()
    for number in range(FOLDS):
        fold = made.run.fold(number)
        ids = tuple(id_ for id_ in TRAIN if id_.endswith(str(number)))
        predictions.save_predictions(
            fold.oof, make_predictions(ids, lambda id_: (20 + 180 * salt(ROWS[id_])).astype(np.uint8))
        )
        of_test = make_predictions(TEST, lambda id_: ((100 + 50 * number) * salt(int(id_[1]) + 1)).astype(np.uint8))  # noqa: B023
        predictions.save_predictions(fold.test, of_test)
        io.write_json(fold.metrics, metrics(number))
    return made


def write_faint_oof(trained: Trained, order: tuple[str, ...] = TRAIN) -> None:
    """Out-of-fold predictions that are right at 60/255 and have no salt at one half."""
    predicted = make_predictions(order, lambda id_: 100 * salt(ROWS[id_]))
    predictions.save_predictions(trained.run.oof, replace(predicted, fold=np.array([int(id_[1]) for id_ in order])))


def checkpoint(trained: Trained, number: int, probability: float) -> None:
    """Weights of a network that predicts the same probability for every pixel."""
    network = zoo.build(trained.settings.model)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(float(np.log(probability / (1 - probability))))
    trained.run.fold(number).path.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": network.state_dict()}, trained.run.fold(number).network)
