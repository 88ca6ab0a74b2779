"""The training loop, Lightning's: goes on from the last finished epoch, on one device or several."""

import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from saltseg.config import Config
from saltseg.errors import InputError, reason
from saltseg.inference import predict
from saltseg.models import zoo
from saltseg.runs import FoldDir
from saltseg.storage import atomic_path
from saltseg.training.callbacks import EpochLog, KeepWeights, Progress, Row
from saltseg.training.optimisation import Averaging
from saltseg.training.task import SaltTask


def is_first() -> bool:
    """Whether this process is the only one that trains this network, or the one of them that writes files."""
    return getattr(rank_zero_only, "rank", 0) == 0


def fit(
    settings: Config,
    directory: FoldDir,
    title: str,
    make_task: Callable[[bool], SaltTask],
    training: Any,
    validating: Any,
    images: int,
    devices: int = 1,
    learns_from: str = "",
) -> list[Row]:
    """Train to the end, or go on from ``last.ckpt``; returns the rows of the log.

    devices: with several each batch is shared (Lightning's DDP). Batch norm then sees a process's part of it, and the
    first process's running statistics are everybody's.

    make_task: makes what is trained; it is told whether training starts afresh, which is when it needs weights.
    training, validating: iterables of batches, whose length is known; ``training.sampler`` is told the epoch. images:
    how many an epoch has. learns_from: fingerprint of what a teacher has labelled. Raises InputError when that is
    another than the training began with, and when the validation loss is not finite.
    """
    silence()
    train = settings.train
    log = EpochLog(directory.log, images, learns_from)
    # A training of fixed length stops early only where its loss is no number any more.
    patience = train.stop_patience if train.keep == "best" else train.epochs
    state = _read_last(directory) if directory.last.is_file() else None
    begun = {"rows": []} if state is None else state["callbacks"][log.state_key]
    rows = begun["rows"]
    if begun.get("learns_from", learns_from) != learns_from:
        way_out = f"remove {directory.path.parent} and train again"  # all folds: one teacher for one score
        raise InputError(f"{title} was begun with other labels than its teacher gives now; {way_out}")
    if state is not None and _over(state, len(rows), train.epochs, patience):
        return _finite(rows, settings, title)
    task = make_task(state is None)
    if devices > 1:
        zoo.freeze_unused(task.network, settings.model.in_channels)
    if task.origin != "random" and is_first():
        tqdm.write(f"pretrained weights: {task.origin}", file=sys.stderr)
    training.sampler.set_epoch(len(rows))  # workers fetch their first batches before Lightning tells the sampler
    try:
        trainer(settings, directory, [log, Progress(title, images, train.epochs)], patience, devices).fit(
            task,
            training,
            validating,
            ckpt_path=None if state is None else directory.last,
            weights_only=True,
        )
    except SystemExit:  # Lightning's way out after Ctrl-C and SIGTERM, the latter with the exit code of success
        raise KeyboardInterrupt from None
    return _finite(log.rows, settings, title)


def _finite(rows: list[Row], settings: Config, title: str) -> list[Row]:
    """``rows``; InputError when the epoch that predicts has no finite validation loss."""
    judged = rows if settings.train.keep == "best" else rows[-1:]
    if not any(math.isfinite(row["valid_loss"]) for row in judged):
        raise InputError(f"{title}: the validation loss is not finite; lower train.learning_rate, use another --name")
    return rows


def workers(settings: Config) -> int:
    """How many processes load data."""
    asked = settings.train.workers
    return asked if asked >= 0 else (min(8, torch.get_num_threads()) if torch.cuda.is_available() else 0)


def trainer(
    settings: Config, directory: FoldDir, callbacks: list[Callback], patience: int, devices: int = 1
) -> Trainer:
    """Lightning's trainer as the configuration asks for it; the order of callbacks matters (see `KeepWeights`)."""
    train = settings.train
    return Trainer(
        max_epochs=train.epochs,
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if predict.uses_bf16(settings) else "32-true",
        plugins=[AtomicCheckpoints()],
        logger=TensorBoardLogger(directory.path, name="", version="tensorboard"),
        callbacks=[
            EarlyStopping("valid_loss", patience=patience, min_delta=0.0, check_finite=True),
            *callbacks,
            *([Stoppable()] if devices > 1 else []),
            KeepWeights(directory, train),
            *([Averaging(train)] if train.ema or train.swa_from else []),
            ModelCheckpoint(
                directory.path, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
            ),
        ],
        gradient_clip_val=train.clip or None,
        check_val_every_n_epoch=train.validate_every,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,  # figures per epoch are enough
        use_distributed_sampler=False,
    )


class Stoppable(Callback):
    """SIGTERM is Ctrl-C. Lightning's own handler talks to the other processes, which wait elsewhere: a deadlock."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Replace the handler that Lightning has just installed."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written beside their target and renamed; Lightning's own may copy, and a kill would leave half."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save ``checkpoint`` at ``path``."""
        with atomic_path(Path(path)) as beside:
            torch.save(checkpoint, beside)


def _read_last(directory: FoldDir) -> dict:
    try:
        return torch.load(directory.last, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{directory.last} cannot be read ({reason(error)}); delete {directory.path} and train again"
        ) from None


def _over(state: dict, epochs_done: int, epochs: int, patience: int) -> bool:
    """Whether the saved state is that of a finished training, killed between training and prediction."""
    waited = next(s["wait_count"] for key, s in state["callbacks"].items() if key.startswith("EarlyStopping"))
    return epochs_done >= epochs or waited >= patience


def silence() -> None:
    """Lightning's banners and hints say nothing that a user of this program can act on."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
