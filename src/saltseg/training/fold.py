"""Train one fold, predict with it and write its metrics last. Safe to kill and to start again."""

import math
import shutil
import statistics
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from saltseg import provenance
from saltseg.config import Config, DataConfig, FoldsConfig, Runtime, weights_file
from saltseg.data.competition import Images, Labeled
from saltseg.data.dataset import TileDataset, loader
from saltseg.data.folds import Folds
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError, raise_if_of_machine, reason
from saltseg.inference import fold_predictions, predict
from saltseg.io import require_folder, write_json
from saltseg.models import checkpoints, losses, zoo
from saltseg.runs import FoldDir
from saltseg.training import trainer
from saltseg.training.callbacks import Row
from saltseg.training.module import SaltModule
from saltseg.training.pseudo_labels import PseudoLabeledImages

CHOSEN_BY = {
    "best": "lowest loss on this fold's validation images",
    "last": "fixed length: the last epoch, no choice",
    "snapshots": "fixed length: the last epoch of every cycle, averaged, no choice",
}


@dataclass(frozen=True)
class FoldData:
    """The images of one fold, and the weights that it starts from.

    Attributes:
        number: of the fold.
        train: labeled images to train on.
        valid: labeled images to validate on.
        test: images to predict.
        pseudo: further images to train on.
        start: whose weights training starts from: another run's fold's, or a file's.
    """

    number: int
    train: Labeled
    valid: Labeled
    test: Images
    pseudo: PseudoLabeledImages | None = None
    start: FoldDir | Path | None = None


def fold_data(number: int, labeled: Labeled, test: Images, folds: Folds, settings: FoldsConfig) -> FoldData:
    """Split ``labeled`` by the table; no image is on both sides. Raises InputError if it is another dataset's table."""
    if folds.ids != labeled.ids:
        raise InputError("the fold table lists other images than train.csv; remove the table and train a new run")
    training, validating = folds.split(number, settings)
    return FoldData(number, labeled.subset(training), labeled.subset(validating), test)


def run(settings: Config, data: FoldData, directory: FoldDir, title: str, devices: int = 1) -> None:
    """Train, predict and finish one fold, going on from wherever an earlier call stopped.

    With ``train.checkpoint=best`` the weights are those of the epoch with the lowest loss on this fold's own validation
    images, so the fold's score is too high by 0.003 to 0.006 (as reported for TGS). With ``pseudo.all_folds`` there is
    no score, and the valid_loss in log.csv is contaminated.

    Args:
        settings: with the precision resolved (`saltseg.models.precision.resolved`).
        data: of the fold.
        directory: where its files are written; the caller holds ``directory.locked()``.
        title: of the progress bar and the messages.
        devices: with several, the process that writes returns and the others exit (SystemExit).

    Raises:
        InputError: see `saltseg.training.trainer.fit`.
    """
    commit = provenance.git_commit()  # now: the checkout may have moved on when the training ends
    seed = _seed(settings, data)
    training = batches(settings, data.train, seed, learning=True, pseudo=data.pseudo, ranks=devices)
    validating = batches(settings, data.valid, seed, learning=False)
    images = len(training.sampler) * devices
    labels = data.pseudo.fingerprint() if data.pseudo else ""

    def make(fresh: bool) -> SaltModule:
        return make_module(settings, data, fresh)

    rows = trainer.fit(settings, directory, title, make, training, validating, images, devices, labels)
    if not trainer.is_first():
        raise SystemExit(0)
    _finish(settings, data, directory, rows, commit)


def make_module(settings: Config, data: FoldData, fresh: bool = True) -> SaltModule:
    """What is trained; ``fresh``: with the weights that it starts from, InputError if they are gone or do not fit."""
    return SaltModule(settings, _seed(settings, data), data.train.images.shape[1:], pretrained=fresh, start=data.start)


def _seed(settings: Config, data: FoldData) -> int:
    return settings.train.seed * 1000 + data.number


def check(settings: Config, height: int, width: int) -> nn.Module:
    """Predict one empty tile in every size that training uses, so that settings that cannot work fail at once.

    Args:
        settings: of a new run.
        height: of the tiles, pixels.
        width: of the tiles, pixels.

    Returns:
        The network with the weights that training would start from, other runs' apart.

    Raises:
        InputError: settings that cannot work.
    """
    tile = np.zeros((1, height, width), np.uint8)
    network = zoo.build(settings.model, pretrained=not settings.train.init_from)
    if (path := weights_file(settings.train.init_from)) is not None:
        checkpoints.load_weights(network, path)
    for text in (settings.train.loss, settings.train.second_loss):
        losses.from_text(text)
    sizes = {f"data.size {settings.data.size}": settings.data}
    if settings.train.low_resolution_epochs:
        half = DataConfig(resize_mode="resize", size=settings.data.size // 2)
        sizes[f"half of data.size {settings.data.size} (train.low_resolution_epochs)"] = half
    train = replace(settings.train, low_resolution_epochs=0, precision="32")
    plain = replace(settings, train=train, runtime=Runtime())
    for name, data in sizes.items():
        try:
            predict.probabilities([network], tile, replace(plain, data=data))
        except RuntimeError as error:  # some architectures do not accept small images
            raise_if_of_machine(error)
            raise InputError(f"{name} with {settings.model.architecture}: {reason(error, 100)}; raise it") from None
    return network


def batches(
    settings: Config,
    labeled: Labeled,
    seed: int,
    learning: bool,
    pseudo: PseudoLabeledImages | None = None,
    ranks: int = 1,
) -> Any:
    """Batches of tiles.

    Args:
        settings: of the run.
        labeled: tiles with masks.
        seed: of order and augmentation.
        learning: shuffle and augment.
        pseudo: further tiles; ``pseudo.share`` of an epoch's tiles are of them.
        ranks: processes that share each batch.

    Returns:
        A loader of images float32 (B, C, S, S) and masks float32 (B, 1, S, S), see `saltseg.data.dataset.loader`.
    """
    images, masks = labeled.images, labeled.masks
    num_sampled, soft = 0, pseudo is not None and bool(settings.teacher) and settings.soft_labels
    if pseudo is not None and settings.pseudo is not None:
        share, count = settings.pseudo.share, len(labeled.ids)
        num_sampled = min(len(pseudo.ids), count if share == 1 else round(count * share / (1 - share)))
        own = slice(0, 0 if share == 1 else count)
        images = np.concatenate([images[own], pseudo.images])
        masks = np.concatenate([masks[own] * np.uint8(255 if soft else 1), pseudo.masks])
    return loader(
        TileDataset(images, masks, settings.data.augment if learning else "none"),
        TileTransform.square(settings.data.resize_mode, settings.data.size),
        settings.model.in_channels,
        batch_size=settings.train.batch_size,
        seed=seed,
        shuffle=learning,
        workers=trainer.workers(settings),
        num_unlabeled=len(pseudo.ids) if pseudo else 0,
        num_sampled=num_sampled,
        soft=soft,
        ranks=ranks,
    )


def _finish(settings: Config, data: FoldData, directory: FoldDir, rows: list[Row], commit: str | None) -> None:
    """Predict with the saved weights, compute the metrics and write ``metrics.json`` last."""
    started = time.perf_counter()
    scores = fold_predictions.predict_fold(settings, directory, data.train, data.valid, data.test)
    train, pseudo, saved = settings.train, data.pseudo, rows[-1]
    if train.checkpoint == "best":
        saved = min((row for row in rows if math.isfinite(row["valid_loss"])), key=lambda row: row["valid_loss"])
    # With swa_start_epoch the loss was computed before the average got its own batch statistics.
    no_loss = settings.pseudo_labels_from_all_folds or train.swa_start_epoch
    require_folder(directory.path)
    write_json(
        directory.metrics,
        {
            "fold": data.number,
            "n_train": len(data.train.ids),
            "n_valid": len(data.valid.ids),
            "n_pseudo": len(pseudo.ids) if pseudo else 0,
            "pseudo_hash": pseudo.fingerprint() if pseudo else None,
            "pseudo_checksums": list(pseudo.checksums) if pseudo else [],
            "epochs": len(rows),
            "devices": distributed.get_world_size() if distributed.is_initialized() else 1,
            "threads": torch.get_num_threads(),  # the same weights to the bit come from the same number
            "best_epoch": int(saved["epoch"]),
            "best_epoch_chosen_by": CHOSEN_BY[train.checkpoint],
            "diverged_at_epoch": None if math.isfinite(rows[-1]["valid_loss"]) else int(rows[-1]["epoch"]),
            "valid_loss": None if no_loss else saved["valid_loss"],
            "weights_source": checkpoints.weights_source(directory.networks(train)[0]),
            # In fp16 a batch that overflows has no finite loss, and its step is left out.
            "train_loss": saved["train_loss"] if math.isfinite(saved["train_loss"]) else None,
            **scores,
            "seconds": round(sum(row["seconds"] for row in rows), 1),
            "predict_seconds": round(time.perf_counter() - started, 1),
            "images_per_second": round(_speed([row["images_per_second"] for row in rows], settings), 2),
            "peak_memory_mb": _peak_memory_mb(),
            "peak_gpu_memory_mb": torch.cuda.max_memory_allocated() // 2**20 if torch.cuda.is_available() else None,
            "git_commit": commit,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    # The state to resume from is three times as large as the weights, and no longer needed.
    directory.last.unlink(missing_ok=True)


def _speed(rates: list[float], settings: Config) -> float:
    """Images per second of a typical epoch; of all epochs together if they differ in size."""
    return statistics.harmonic_mean(rates) if settings.train.low_resolution_epochs else statistics.median(rates)


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
