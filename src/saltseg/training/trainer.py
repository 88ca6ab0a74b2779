"""The training loop, Lightning's: goes on from the last finished epoch, on one device or several."""

import logging
import math
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.connectors import checkpoint_connector
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from saltseg import schemas
from saltseg.config import Config
from saltseg.errors import InputError, raise_if_of_machine, reason
from saltseg.models import checkpoints, tensor_files, zoo
from saltseg.models.precision import require_gpu
from saltseg.runs import FoldDir
from saltseg.training.callbacks import Averaging, EpochLog, KeepWeights, Progress, Row
from saltseg.training.module import SaltModule

LIGHTNING_PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def is_first() -> bool:
    """Whether this process trains alone, or is the one of several (DDP) that writes files."""
    return getattr(rank_zero_only, "rank", 0) == 0


def fit(
    settings: Config,
    directory: FoldDir,
    title: str,
    make_module: Callable[[bool], SaltModule],
    training: Any,
    validating: Any,
    images: int,
    devices: int = 1,
    pseudo_labels_hash: str = "",
) -> list[Row]:
    """Train to the end, or go on from ``last.ckpt``.

    Args:
        settings: with the precision resolved (`saltseg.models.precision.resolved`).
        directory: where checkpoints, weights and logs are written.
        title: of the progress bar and the messages.
        make_module: makes what is trained; its argument is whether training begins, which is when weights are loaded.
        training: iterable of batches of known length; ``training.sampler`` gets the epoch.
        validating: likewise, without a sampler.
        images: of an epoch.
        devices: with several each batch is shared (Lightning's DDP). Batch norm then sees the part of a process, and
            the running statistics of the first process are used.
        pseudo_labels_hash: of the pseudo-labels; "" without.

    Returns:
        The rows of the log.

    Raises:
        InputError: ``last.ckpt`` cannot be read or belongs to other pseudo-labels, fp16 without a GPU, or the
            validation loss is not finite.
    """
    silence()
    require_gpu(settings.train.precision)
    train = settings.train
    log = EpochLog(directory.log, images, pseudo_labels_hash)
    # A training of fixed length stops early only where its loss is not finite.
    patience = train.early_stopping_patience if train.checkpoint == "best" else train.epochs
    state = _read_last(directory) if directory.last.is_file() else None
    begun = {"rows": []} if state is None else state["callbacks"]["EpochLog"]
    rows = begun["rows"]
    if begun.get("pseudo_labels_hash", pseudo_labels_hash) != pseudo_labels_hash:
        way_out = f"remove {directory.path.parent} and train again"  # all folds: one teacher for one score
        raise InputError(f"{title} was begun with other labels than its teacher gives now; {way_out}")
    if state is not None and _trained(state, rows, settings, patience):
        return _require_finite(rows, settings, title)
    module = make_module(state is None)
    if devices > 1:
        zoo.freeze_params_without_grad(module.network, settings.model.in_channels)
    if module.weights_source != "random" and is_first():
        tqdm.write(f"pretrained weights: {module.weights_source}", file=sys.stderr)
    training.sampler.set_epoch(len(rows))  # workers load their first batches before Lightning sets the epoch
    progress = Progress(title, images, train.epochs)
    try:
        make_trainer(settings, directory, [log, progress], patience, devices).fit(
            module,
            training,
            validating,
            ckpt_path=None if state is None else directory.last,
            weights_only=True,
        )
    except SystemExit:  # Lightning exits so after Ctrl-C and SIGTERM, after the latter with code 0
        raise KeyboardInterrupt from None
    except InputError:
        raise
    except Exception as error:
        raise_if_of_machine(error)
        if state is None or progress.stepped or not _while_restoring(error):
            raise
        raise _unusable(directory, f"does not fit this training ({reason(error)})") from None
    return _require_finite(log.rows, settings, title)


def make_trainer(
    settings: Config, directory: FoldDir, callbacks: Sequence[Callback], patience: int, devices: int = 1
) -> Trainer:
    """Lightning's trainer.

    Each hook calls the callbacks in the order of the list, which decides what a checkpoint holds:

    - `EarlyStopping` and ``callbacks`` (`EpochLog`) come before `ModelCheckpoint`, which Lightning calls last in any
      case, so that ``last.ckpt`` holds the epoch's count of patience and its row of the log.
    - `KeepWeights` comes before `Averaging`: when a validation ends, it saves the averaged weights that have just been
      validated; `Averaging` then swaps the weights in training back.

    Args:
        settings: of the run, with the precision resolved.
        directory: see `fit`.
        callbacks: further ones.
        patience: epochs without a better validation loss before the training stops.
        devices: see `fit`.
    """
    train = settings.train
    return Trainer(
        max_epochs=train.epochs,
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=LIGHTNING_PRECISION[train.precision],
        plugins=[AtomicCheckpoints()],
        logger=TensorBoardLogger(directory.path, name="", version="tensorboard"),
        callbacks=[
            EarlyStopping("valid_loss", patience=patience, min_delta=0.0, check_finite=True),
            *callbacks,
            *([InterruptOnSIGTERM()] if devices > 1 else []),
            KeepWeights(directory, train),
            *([Averaging(train)] if train.ema_decay or train.swa_start_epoch else []),
            ModelCheckpoint(
                directory.path, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
            ),
        ],
        gradient_clip_val=train.grad_clip_norm or None,
        check_val_every_n_epoch=train.val_every_n_epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,  # metrics are logged per epoch
        use_distributed_sampler=False,
    )


class InterruptOnSIGTERM(Callback):
    """SIGTERM acts as Ctrl-C. Lightning's own handler waits for other processes, which wait elsewhere: a deadlock."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Replace the handler that Lightning has just installed."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their target and renames them: a kill meanwhile would else leave half a file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save ``checkpoint`` at ``path``."""
        checkpoints.save(Path(path), checkpoint)


def workers(settings: Config) -> int:
    """Number of processes that load data."""
    asked = settings.runtime.workers
    return asked if asked >= 0 else (min(8, torch.get_num_threads()) if torch.cuda.is_available() else 0)


def _require_finite(rows: list[Row], settings: Config, title: str) -> list[Row]:
    """``rows``; InputError if the epoch that predicts has no finite validation loss."""
    candidates = rows if settings.train.checkpoint == "best" else rows[-1:]
    if not any(math.isfinite(row["valid_loss"]) for row in candidates):
        raise InputError(f"{title}: the validation loss is not finite; lower train.learning_rate, use another --name")
    return rows


def _read_last(directory: FoldDir) -> dict:
    """The checkpoint to go on from, with the state of each callback by the name of its class."""
    try:
        state = tensor_files.load(directory.last)
    except Exception as error:
        raise_if_of_machine(error)
        raise _unusable(directory, f"cannot be read ({reason(error)})") from None
    if isinstance(state, dict) and isinstance(callbacks := state.get("callbacks"), dict):
        state = state | {"callbacks": {str(key).partition("{")[0]: value for key, value in callbacks.items()}}
    return schemas.check(directory.last, state, schemas.LAST_CHECKPOINT, _way_out(directory))


def _while_restoring(error: Exception) -> bool:
    """Whether Lightning raised an error while it restored a checkpoint, so that the checkpoint's content is at fault.

    Any other error, as of a GPU's driver, says nothing about a checkpoint that may hold days of training.
    """
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == checkpoint_connector.__name__ for frame, _ in frames)


def _unusable(directory: FoldDir, problem: str) -> InputError:
    return InputError(f"{directory.last} {problem}; {_way_out(directory)}")


def _way_out(directory: FoldDir) -> str:
    older = f"if an older version trained this run: python scripts/migrate.py {directory.path.parent}"
    return f"delete {directory.path} and train again; {older}"


def _trained(state: dict, rows: Sequence[Row], settings: Config, patience: int) -> bool:
    """Whether the checkpoint is of a finished training, which was killed before or during prediction, or diverged."""
    train = settings.train
    validated = bool(rows) and len(rows) % train.val_every_n_epochs == 0
    diverged = validated and not math.isfinite(rows[-1]["valid_loss"])
    return len(rows) >= train.epochs or state["callbacks"]["EarlyStopping"]["wait_count"] >= patience or diverged


def silence() -> None:
    """Turn off Lightning's banners and hints: users of this program cannot act on them."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
