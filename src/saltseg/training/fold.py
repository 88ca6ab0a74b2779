"""Train one fold to the end, predict what it is for, write its figures last. Safe to kill and to start again."""

import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from tqdm import tqdm

from saltseg.config import Config, FoldsConfig
from saltseg.core import metric
from saltseg.core.areas import areas, log_loss
from saltseg.core.geometry import Fit
from saltseg.core.postprocess import HALF
from saltseg.data.augment import Augment
from saltseg.data.competition import Images, Labelled
from saltseg.data.dataset import TileDataset, loader
from saltseg.data.folds import Folds
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.inference.pseudo import Pseudo
from saltseg.models import losses, zoo
from saltseg.runs import FoldDir, Predictions, atomic_path, provenance, save_predictions, write_json
from saltseg.training.callbacks import EpochLog, KeepWeights, Progress, Row
from saltseg.training.optimisation import Averaging
from saltseg.training.task import SaltTask

CHOSEN_BY = {
    "best": "lowest loss on this fold's validation images",
    "last": "fixed length: the last epoch, no choice",
    "snapshots": "fixed length: the last epoch of every cycle, averaged, no choice",
}
TRAIN_SAMPLE = 200  # training images predicted as well, to show the gap between training and validation


@dataclass(frozen=True)
class FoldData:
    """What one fold learns from, is judged by and predicts."""

    number: int
    train: Labelled
    valid: Labelled
    test: Images
    pseudo: Pseudo | None = None  # further images to train on
    start: FoldDir | None = None  # whose weights training starts from


def fold_data(number: int, labelled: Labelled, test: Images, folds: Folds, settings: FoldsConfig) -> FoldData:
    """Cut ``labelled`` by the table; no image is on both sides."""
    assert folds.ids == labelled.ids
    training, validating = folds.split(number, settings)
    return FoldData(number, _subset(labelled, training), _subset(labelled, validating), test)


def _subset(labelled: Labelled, positions: np.ndarray) -> Labelled:
    ids = tuple(labelled.ids[i] for i in positions)
    return Labelled(ids, labelled.images[positions], labelled.masks[positions])


def run(settings: Config, data: FoldData, directory: FoldDir, title: str) -> None:
    """Train, predict and finish one fold, going on from wherever an earlier call stopped.

    The caller holds ``directory.locked()``. With ``train.keep=best`` the weights are those of the epoch with the lowest
    loss on this fold's own validation images, so the fold's score is a little flattering (field: 0.003 to 0.006).
    """
    commit = provenance()["git_commit"]  # of the code that runs; the checkout may have moved on when it is done
    rows = _train(settings, data, directory, title)
    _finish(settings, data, directory, predict.load_networks(settings, directory), rows, commit)


def check(settings: Config, height: int, width: int) -> None:
    """Send one empty tile through the network, so that settings that cannot work are refused before anything else."""
    tile = np.zeros((1, height, width), np.uint8)
    network = zoo.build(settings.model)
    for text in (settings.train.loss, settings.train.late_loss):
        losses.from_text(text)
    Augment(settings.data.augment)
    try:
        predict.probabilities([network], tile, settings)
    except RuntimeError as error:  # some architectures take no small images
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"data.size {settings.data.size} with {settings.model.architecture}: {reason}; raise it"
        ) from None


def _train(settings: Config, data: FoldData, directory: FoldDir, title: str) -> list[Row]:
    """Train to the end, or go on from ``last.ckpt``; returns the rows of the log."""
    silence()
    train = settings.train
    seed = train.seed * 1000 + data.number
    log = EpochLog(directory.log)
    # A training of fixed length stops early only where its loss is no number any more.
    patience = train.stop_patience if train.keep == "best" else train.epochs
    state = _read_last(directory) if directory.last.is_file() else None
    rows = [] if state is None else state["callbacks"][log.state_key]["rows"]
    if state is not None and _over(state, len(rows), train.epochs, patience):
        return rows
    task = SaltTask(settings, seed, data.train.images.shape[1:], pretrained=state is None)
    if task.origin != "random":
        tqdm.write(f"encoder weights: {task.origin}", file=sys.stderr)
    if data.start is not None and state is None:
        task.start_from(data.start, settings)
    training = batches(settings, data.train, seed, learning=True, pseudo=data.pseudo)
    training.sampler.set_epoch(len(rows))  # workers fetch their first batches before Lightning tells the sampler
    log.images = len(training.sampler)
    try:
        trainer(settings, directory, [log, Progress(title, log.images, train.epochs)], patience).fit(
            task,
            training,
            batches(settings, data.valid, seed, learning=False),
            ckpt_path=None if state is None else directory.last,
            weights_only=True,
        )
    except SystemExit:  # Lightning's way out after Ctrl-C and SIGTERM, the latter with the exit code of success
        raise KeyboardInterrupt from None
    judged = log.rows if train.keep == "best" else log.rows[-1:]
    if not any(math.isfinite(row["valid_loss"]) for row in judged):
        raise InputError(f"{title}: the validation loss is not finite; lower train.learning_rate, use another --name")
    return log.rows


def batches(settings: Config, labelled: Labelled, seed: int, learning: bool, pseudo: Pseudo | None = None) -> Any:
    """Batches of tiles; shuffled and augmented for learning, and mixed with tiles that a teacher has labelled."""
    gpu, asked = torch.cuda.is_available(), settings.train.workers
    images, masks = labelled.images, labelled.masks
    drawn, soft = 0, pseudo is not None and settings.pseudo.labels == "soft"
    if pseudo is not None:
        share, count = settings.pseudo.share, len(labelled.ids)
        drawn = min(len(pseudo.ids), count if share == 1 else round(count * share / (1 - share)))
        own = slice(0, 0 if share == 1 else count)
        images = np.concatenate([images[own], pseudo.images])
        masks = np.concatenate([masks[own] * np.uint8(255 if soft else 1), pseudo.masks])
    return loader(
        TileDataset(images, masks, settings.data.augment if learning else "none"),
        Fit.square(settings.data.fit, settings.data.size),
        settings.model.in_channels,
        batch_size=settings.train.batch_size,
        seed=seed,
        shuffle=learning,
        workers=asked if asked >= 0 else (min(8, torch.get_num_threads()) if gpu else 0),
        pool=0 if pseudo is None else len(pseudo.ids),
        drawn=drawn,
        soft=soft,
    )


def trainer(settings: Config, directory: FoldDir, callbacks: list[Callback], patience: int) -> Trainer:
    """Lightning's trainer as the configuration asks for it; the order of callbacks matters (see `KeepWeights`)."""
    train = settings.train
    return Trainer(
        max_epochs=train.epochs,
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        precision="bf16-mixed" if predict.uses_bf16(settings) else "32-true",
        plugins=[AtomicCheckpoints()],
        logger=TensorBoardLogger(directory.path, name="", version="tensorboard"),
        callbacks=[
            EarlyStopping("valid_loss", patience=patience, min_delta=0.0, check_finite=True),
            *callbacks,
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
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise InputError(
            f"{directory.last} cannot be read ({reason}); delete {directory.path} and train again"
        ) from None


def _over(state: dict, epochs_done: int, epochs: int, patience: int) -> bool:
    """Whether the saved state is that of a finished training, killed between training and prediction."""
    waited = next(s["wait_count"] for key, s in state["callbacks"].items() if key.startswith("EarlyStopping"))
    return epochs_done >= epochs or waited >= patience


def _finish(
    settings: Config,
    data: FoldData,
    directory: FoldDir,
    networks: Sequence[torch.nn.Module],
    rows: list[Row],
    commit: str | None,
) -> None:
    """Predict with the weights kept, score, and write ``metrics.json`` last."""
    rng = np.random.default_rng(data.number)
    size = min(TRAIN_SAMPLE, len(data.train.ids))
    sample = _subset(data.train, np.sort(rng.permutation(len(data.train.ids))[:size]))
    single = settings.predict.views == ("identity",)
    images = (1 if single else 2) * len(data.valid.ids) + size + len(data.test.ids)
    started = time.perf_counter()
    with tqdm(desc=f"fold {data.number}: predicting", total=images, unit="img", mininterval=1) as bar:

        def predicted(part: Images | Labelled, views: tuple[str, ...] | None = None) -> Predictions:
            return predict.predictions(networks, part.ids, part.images, settings, views=views, progress=bar.update)

        plain = predicted(data.valid, ("identity",))
        valid = plain if single else predicted(data.valid)
        train = predicted(sample)
        save_predictions(directory.oof, valid)
        save_predictions(directory.train, train)
        save_predictions(directory.test, predicted(data.test))
    kept = rows[-1]
    if settings.train.keep == "best":
        kept = min((row for row in rows if math.isfinite(row["valid_loss"])), key=lambda row: row["valid_loss"])
    half_valid, half_train = HALF.apply(valid.probabilities), HALF.apply(train.probabilities)
    write_json(
        directory.metrics,
        {
            "fold": data.number,
            "n_train": len(data.train.ids),
            "n_valid": len(data.valid.ids),
            "n_pseudo": 0 if data.pseudo is None else len(data.pseudo.ids),
            "epochs": len(rows),
            "best_epoch": int(kept["epoch"]),
            "best_epoch_chosen_by": CHOSEN_BY[settings.train.keep],
            "views": list(settings.predict.views),
            "valid_loss": kept["valid_loss"],
            "log_loss": log_loss(areas(plain.probabilities, data.valid.masks)),
            "encoder_weights": predict.origin(directory.networks(settings.train)[0]),
            "valid_pixel_accuracy": metric.pixel_scores(half_valid, data.valid.masks).accuracy,
            "score_at_half": metric.score(half_valid, data.valid.masks),
            "score_at_half_no_tta": metric.score(HALF.apply(plain.probabilities), data.valid.masks),
            "train_loss": kept["train_loss"],
            "train_pixel_accuracy": metric.pixel_scores(half_train, sample.masks).accuracy,
            "train_score_at_half": metric.score(half_train, sample.masks),
            "seconds": round(sum(row["seconds"] for row in rows), 1),
            "predict_seconds": round(time.perf_counter() - started, 1),
            "images_per_second": round(float(np.median([row["images_per_second"] for row in rows])), 2),
            "peak_memory_mb": _peak_memory_mb(),
            "peak_gpu_memory_mb": torch.cuda.max_memory_allocated() // 2**20 if torch.cuda.is_available() else None,
            "git_commit": commit,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    # The state to go on from is three times the weights and of no use any more.
    directory.last.unlink(missing_ok=True)


def clear(directory: FoldDir) -> None:
    """Remove everything of a fold but its lock (for ``--overwrite``); the caller holds the lock."""
    directory.metrics.unlink(missing_ok=True)  # first, so that a fold without weights never counts as finished
    for path in directory.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _peak_memory_mb() -> int | None:
    """Peak resident memory of this process so far, MiB (Linux counts KiB, macOS bytes); None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def silence() -> None:
    """Lightning's banners and hints say nothing that a user of this program can act on."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
