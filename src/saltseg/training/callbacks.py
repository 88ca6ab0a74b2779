"""What a person watching wants: one bar for the fold with rate and time left, and a log that survives a kill."""

import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

from saltseg.runs import write_csv

Row = dict[str, float]  # one epoch


class EpochLog(Callback):
    """``log.csv`` with one row per epoch. The rows travel in the checkpoint, so a resumed fold has no gap."""

    def __init__(self, path: Path, images: int) -> None:
        self.path, self.images = path, images
        self.rows: list[Row] = []
        self._started = 0.0
        self._trained = 0.0

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Training's part of the epoch is over."""
        self._trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the row."""
        names = ("train_loss", "valid_loss", "valid_pixel_accuracy", "learning_rate")
        figures = {name: float(trainer.callback_metrics[name]) for name in names}
        seconds = time.perf_counter() - self._started
        rate = self.images / (self._trained - self._started)
        self.rows.append(
            {"epoch": trainer.current_epoch + 1}
            | {name: float(f"{value:.6g}") for name, value in figures.items()}
            | {"seconds": round(seconds, 2), "images_per_second": round(rate, 2)}
        )
        write_csv(self.path, self.rows)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = state["rows"]


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
        self._bar.update(len(batch[0]))

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Show the epoch's figures."""
        metrics = trainer.callback_metrics
        self._figures["loss"] = f"{float(metrics['train_loss']):.3f}"
        self._figures["valid"] = f"{float(metrics['valid_loss']):.3f}"
        self._figures["lr"] = f"{float(metrics['learning_rate']):.0e}"

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Close the bar, also after an error or an early stop."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
