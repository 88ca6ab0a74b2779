"""What a training leaves behind: the weights to predict with, a log that survives a kill, one bar for the fold."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from saltseg.config import TrainConfig
from saltseg.runs import FoldDir
from saltseg.storage import atomic_path, write_csv

Row = dict[str, float]  # one epoch


class EpochLog(Callback):
    """``log.csv``, a row per epoch (nan where not validated). Rows travel in the checkpoint: no gap after a kill.

    images: how many an epoch has, for the rate. learns_from: fingerprint of labels that a teacher made, see `loop.fit`.
    """

    def __init__(self, path: Path, images: int = 0, learns_from: str = "") -> None:
        self.path, self.images, self.learns_from = path, images, learns_from
        self.rows: list[Row] = []
        self._started = 0.0
        self._trained = 0.0

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._trained = 0.0

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Training's part of the epoch is over."""
        self._trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the row."""
        now = time.perf_counter()
        metrics = trainer.callback_metrics
        figures = {"train_loss": float(metrics["train_loss"])}
        for name in ("valid_loss", "valid_pixel_accuracy"):  # older epochs' figures stay in callback_metrics
            figures[name] = float(metrics[name]) if self._trained else math.nan
        figures["learning_rate"] = float(metrics["learning_rate"])
        rate = self.images / ((self._trained or now) - self._started)
        self.rows.append(
            {"epoch": trainer.current_epoch + 1}
            | figures
            | {"seconds": round(now - self._started, 2), "images_per_second": round(rate, 2)}
        )
        if trainer.is_global_zero:  # rows are exact, since the best epoch is chosen by them; the file is to be read
            rounded = [{name: float(f"{value:.6g}") for name, value in row.items()} for row in self.rows]
            write_csv(self.path, [row | {"epoch": int(row["epoch"])} for row in rounded])

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows, "learns_from": self.learns_from}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = state["rows"]


class KeepWeights(Callback):
    """Saves the weights to predict with: the best epoch's, the last epoch's, or one set per cycle.

    They are saved when validation ends and, given before `Averaging` in the list of callbacks, while averaged weights
    are in place. (With ``swa_from`` the last validation loss in the log is from before batch norm was measured anew.)
    """

    def __init__(self, directory: FoldDir, train: TrainConfig) -> None:
        self.directory, self.train = directory, train
        self.lowest = math.inf

    def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Save, if this is an epoch to keep."""
        epoch = trainer.current_epoch + 1
        if self.train.keep == "snapshots":
            cycle, odd = divmod(epoch - self.train.warmup, (self.train.epochs - self.train.warmup) // self.train.cycles)
            if cycle > 0 and odd == 0:
                self._save(module, self.directory.snapshot(cycle))
        elif self.train.keep == "best":
            loss = float(trainer.callback_metrics["valid_loss"])
            if loss < self.lowest:
                self.lowest = loss
                self._save(module, self.directory.network)
        elif epoch == self.train.epochs:
            if self.train.swa_from:  # averaged weights have batch norm statistics of their own
                update_bn(_images(trainer, module), module.network)
            self._save(module, self.directory.network)

    def _save(self, module: Any, path: Path) -> None:
        if module.global_rank:  # of several processes that train together the first one writes
            return
        with atomic_path(path) as beside:
            torch.save({"state_dict": module.network.state_dict(), "origin": module.origin}, beside)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"lowest": self.lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.lowest = state["lowest"]


def _images(trainer: Trainer, module: Any) -> Iterator[Tensor]:
    """The training images once, with dropout seeded per batch: how much a data loader draws depends on its workers."""
    assert trainer.train_dataloader is not None
    for index, (images, _) in enumerate(trainer.train_dataloader):
        torch.manual_seed(module.seed * 1_000_003 + index)
        yield images.to(module.device, memory_format=torch.channels_last)


class Progress(Callback):
    """One bar for the whole fold, counted in images, so that the time left is the fold's."""

    def __init__(self, title: str, images: int, epochs: int) -> None:
        self.title, self.images, self.epochs = title, images, epochs
        self._bar: Any = None
        self._figures: dict[str, str] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Open the bar where the last finished epoch left it."""
        done = trainer.current_epoch * self.images
        self._bar = tqdm(
            disable=not trainer.is_global_zero,
            desc=self.title,
            total=self.epochs * self.images,
            initial=done,
            unit="img",
            smoothing=0.1,
            mininterval=1,
        )

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Say which epoch runs."""
        self._figures = {"epoch": f"{trainer.current_epoch + 1}/{self.epochs}"} | {
            name: value for name, value in self._figures.items() if name != "epoch"
        }
        self._bar.set_postfix(self._figures)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count the images of the batch."""
        self._bar.update(len(batch[0]) * trainer.world_size)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Show the epoch's figures."""
        metrics = trainer.callback_metrics
        self._figures["loss"] = f"{float(metrics['train_loss']):.3f}"
        if "valid_loss" in metrics:
            self._figures["valid"] = f"{float(metrics['valid_loss']):.3f}"
        self._figures["lr"] = f"{float(metrics['learning_rate']):.0e}"

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is printed."""
        self.teardown(trainer, module, "fit")

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
