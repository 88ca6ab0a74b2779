"""The log of a training, the weights that it saves, its progress bar and averages of weights.

Their order matters; it is explained in `saltseg.training.trainer.make_trainer`.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn
from tqdm import tqdm

from saltseg.config import TrainConfig
from saltseg.io import require_folder, write_csv
from saltseg.models import checkpoints
from saltseg.runs import FoldDir

Row = dict[str, float]  # of one epoch


class EpochLog(Callback):
    """Writes ``log.csv``, a row per epoch (nan where not validated). Its rows are in the checkpoint, too: no gap after
    a kill.

    Args:
        path: of ``log.csv``.
        images: of an epoch, for the images per second.
        pseudo_labels_hash: of the pseudo-labels trained on, see `saltseg.training.trainer.fit`.
    """

    def __init__(self, path: Path, images: int = 0, pseudo_labels_hash: str = "") -> None:
        self.path, self.images, self.pseudo_labels_hash = path, images, pseudo_labels_hash
        self.rows: list[Row] = []
        self._started = self._trained = 0.0

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._started, self._trained = time.perf_counter(), 0.0

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the row."""
        now = time.perf_counter()
        require_folder(self.path.parent)
        metrics = trainer.callback_metrics
        row: Row = {"epoch": trainer.current_epoch + 1, "train_loss": float(metrics["train_loss"])}
        for name in ("valid_loss", "valid_frame_accuracy"):  # callback_metrics still holds an older epoch's values
            row[name] = float(metrics[name]) if self._trained else math.nan
        row["learning_rate"] = float(metrics["learning_rate"])
        row["seconds"] = round(now - self._started, 2)
        row["images_per_second"] = round(self.images / ((self._trained or now) - self._started), 2)
        self.rows.append(row)
        if trainer.is_global_zero:  # self.rows stay exact, because they choose the best epoch
            rounded = [{name: float(f"{value:.6g}") for name, value in row.items()} for row in self.rows]
            write_csv(self.path, [row | {"epoch": int(row["epoch"])} for row in rounded])

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "pseudo_labels_hash": self.pseudo_labels_hash}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]


class KeepWeights(Callback):
    """Saves the weights to predict with when a validation ends: the best or the last epoch's, or one set per cycle."""

    def __init__(self, directory: FoldDir, train: TrainConfig) -> None:
        self.directory, self.train = directory, train
        self.lowest = math.inf

    def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Save, if ``train.checkpoint`` asks for this epoch."""
        epoch, train = trainer.current_epoch + 1, self.train
        if train.checkpoint == "snapshots":
            if epoch in train.snapshot_epochs:
                self._save(module, self.directory.snapshot(train.snapshot_epochs.index(epoch) + 1))
        elif train.checkpoint == "best":
            loss = float(trainer.callback_metrics["valid_loss"])
            if loss < self.lowest:
                self.lowest = loss
                self._save(module, self.directory.network)
        elif epoch == train.epochs:
            if train.swa_start_epoch:  # averaged weights need batch statistics of their own
                update_bn(_training_images(trainer, module), module.network)
            self._save(module, self.directory.network)

    def _save(self, module: Any, path: Path) -> None:
        if module.global_rank == 0:
            require_folder(path.parent)
            state = {"state_dict": module.network.state_dict(), "weights_source": module.weights_source}
            checkpoints.save(path, state)

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lowest = state["lowest"]


def _training_images(trainer: Trainer, module: Any) -> Iterator[Tensor]:
    """The training images once, with dropout seeded per batch: a loader's draws depend on its number of workers."""
    assert trainer.train_dataloader is not None
    for index, (images, _) in enumerate(trainer.train_dataloader):
        torch.manual_seed(module.seed * 1_000_003 + index)
        yield images.to(module.device, memory_format=torch.channels_last)


class Averaging(WeightAveraging):
    """An average of the weights that validates, predicts and is saved, while training goes on with the weights.

    ``train.ema_decay``: exponential, updated after every step. ``train.swa_start_epoch``: with equal weights, updated
    after each epoch from that one on (Izmailov et al. 2018); `KeepWeights` computes its batch statistics at the end.
    """

    def __init__(self, train: TrainConfig) -> None:
        super().__init__(**({"multi_avg_fn": get_ema_multi_avg_fn(train.ema_decay)} if train.ema_decay else {}))
        self.train = train
        self._swapped = False

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights, in evaluation mode."""
        average: Any = self._average_model
        return average.module.network.eval()

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every step for the exponential average; the other one is updated before it validates."""
        return bool(self.train.ema_decay) and step_idx is not None

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Follow the network to its device: Lightning makes the average before it moves the network there."""
        assert self._average_model is not None
        self._average_model.to(module.device)

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Swap the average in, if there is one yet."""
        assert self._average_model is not None
        if 0 < self.train.swa_start_epoch <= trainer.current_epoch + 1:
            self._average_model.update_parameters(module)
        self._swapped = int(self._average_model.n_averaged) > 0
        if self._swapped:
            super().on_validation_epoch_start(trainer, module)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Swap the weights in training back."""
        if self._swapped:
            super().on_validation_epoch_end(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Nothing: Lightning would replace the weights, but those to predict with are in a file."""


class Progress(Callback):
    """One bar for the whole fold, counted in images, so that the time left is the fold's."""

    def __init__(self, title: str, images: int, epochs: int) -> None:
        self.title, self.images, self.epochs = title, images, epochs
        self.stepped = False  # whether a batch has been trained on
        self._bar: Any = None
        self._shown: dict[str, str] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Open the bar where the last finished epoch left it."""
        self._bar = tqdm(
            disable=not trainer.is_global_zero,
            desc=self.title,
            total=self.epochs * self.images,
            initial=trainer.current_epoch * self.images,
            unit="img",
            smoothing=0.1,
            mininterval=1,
        )

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._bar.set_postfix({"epoch": f"{trainer.current_epoch + 1}/{self.epochs}"} | self._shown)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        self.stepped = True
        self._bar.update(len(batch[0]) * trainer.world_size)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        self._shown["loss"] = f"{float(metrics['train_loss']):.3f}"
        if "valid_loss" in metrics:
            self._shown["valid"] = f"{float(metrics['valid_loss']):.3f}"
        self._shown["lr"] = f"{float(metrics['learning_rate']):.0e}"

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, module, "fit")  # before the error is printed

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
