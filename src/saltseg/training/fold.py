"""Train one fold to the end, predict what it is for, write its figures last. Safe to kill and to start again."""

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
from torch import distributed

from saltseg.config import Config, DataConfig, FoldsConfig, file_behind
from saltseg.core.geometry import Fit
from saltseg.data.competition import Images, Labelled
from saltseg.data.dataset import TileDataset, loader
from saltseg.data.folds import Folds
from saltseg.errors import InputError, reason
from saltseg.inference import judge, predict
from saltseg.inference.pseudo import Pseudo
from saltseg.models import losses, zoo
from saltseg.runs import FoldDir, provenance
from saltseg.storage import write_json
from saltseg.training import loop
from saltseg.training.callbacks import Row
from saltseg.training.task import SaltTask, take_over

CHOSEN_BY = {
    "best": "lowest loss on this fold's validation images",
    "last": "fixed length: the last epoch, no choice",
    "snapshots": "fixed length: the last epoch of every cycle, averaged, no choice",
}


@dataclass(frozen=True)
class FoldData:
    """What one fold learns from, is judged by and predicts."""

    number: int
    train: Labelled
    valid: Labelled
    test: Images
    pseudo: Pseudo | None = None  # further images to train on
    start: FoldDir | Path | None = None  # whose weights training starts from: a fold's, or a file's


def fold_data(number: int, labelled: Labelled, test: Images, folds: Folds, settings: FoldsConfig) -> FoldData:
    """Cut ``labelled`` by the table; no image is on both sides."""
    assert folds.ids == labelled.ids
    training, validating = folds.split(number, settings)
    return FoldData(number, labelled.at(training), labelled.at(validating), test)


def run(settings: Config, data: FoldData, directory: FoldDir, title: str, devices: int = 1) -> None:
    """Train, predict and finish one fold, going on from wherever an earlier call stopped.

    The caller holds ``directory.locked()``. With ``train.keep=best`` the weights are those of the epoch with the lowest
    loss on this fold's own validation images, so the fold's score is a little flattering (field: 0.003 to 0.006). With
    ``pseudo.all_folds`` it has no score and predicts test images only: the valid_loss in its log.csv is contaminated.
    devices: with several, the process that writes returns and the others leave (SystemExit).
    """
    commit = provenance()["git_commit"]  # of the code that runs; the checkout may have moved on when it is done
    rows = _train(settings, data, directory, title, devices)
    if not loop.is_first():
        raise SystemExit(0)
    _finish(settings, data, directory, rows, commit)


def check(settings: Config, height: int, width: int) -> None:
    """Send one empty tile through the network, so that settings that cannot work are refused before anything else.

    It is sent in every size that training shows.
    """
    tile = np.zeros((1, height, width), np.uint8)
    network = zoo.build(settings.model, pretrained=not settings.train.start_from)
    if (path := file_behind(settings.train.start_from)) is not None:
        take_over(network, path)
    for text in (settings.train.loss, settings.train.late_loss):
        losses.from_text(text)
    sizes = {f"data.size {settings.data.size}": settings.data}
    if settings.train.half_size_until:
        half = DataConfig(fit="resize", size=settings.data.size // 2)
        sizes[f"half of data.size {settings.data.size} (train.half_size_until)"] = half
    whole = replace(settings, train=replace(settings.train, half_size_until=0))
    for name, data in sizes.items():
        try:
            predict.probabilities([network], tile, replace(whole, data=data))
        except RuntimeError as error:  # some architectures take no small images
            raise InputError(f"{name} with {settings.model.architecture}: {reason(error, 100)}; raise it") from None


def _train(settings: Config, data: FoldData, directory: FoldDir, title: str, devices: int) -> list[Row]:
    """Train a fold's network on its images, see `loop.fit`."""
    seed, tile = settings.train.seed * 1000 + data.number, data.train.images.shape[1:]
    training = batches(settings, data.train, seed, learning=True, pseudo=data.pseudo, ranks=devices)
    validating = batches(settings, data.valid, seed, learning=False)
    images = len(training.sampler) * devices

    def make_task(fresh: bool) -> SaltTask:
        return SaltTask(settings, seed, tile, pretrained=fresh, start=data.start)

    learns_from = "" if data.pseudo is None else data.pseudo.fingerprint()
    return loop.fit(settings, directory, title, make_task, training, validating, images, devices, learns_from)


def batches(
    settings: Config, labelled: Labelled, seed: int, learning: bool, pseudo: Pseudo | None = None, ranks: int = 1
) -> Any:
    """Batches of tiles; shuffled and augmented for learning, and mixed with tiles that a teacher has labelled.

    ranks: processes that share them.
    """
    images, masks = labelled.images, labelled.masks
    taught = pseudo is not None and settings.pseudo.teacher != "self"
    drawn, soft = 0, taught and settings.pseudo.labels == "soft"
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
        workers=loop.workers(settings),
        pool=0 if pseudo is None else len(pseudo.ids),
        drawn=drawn,
        soft=soft,
        ranks=ranks,
    )


def _finish(settings: Config, data: FoldData, directory: FoldDir, rows: list[Row], commit: str | None) -> None:
    """Predict with the weights kept, score where that is honest, and write ``metrics.json`` last."""
    started = time.perf_counter()
    judged = judge.predict_fold(settings, directory, data.train, data.valid, data.test)
    kept = rows[-1]
    if settings.train.keep == "best":
        kept = min((row for row in rows if math.isfinite(row["valid_loss"])), key=lambda row: row["valid_loss"])
    write_json(
        directory.metrics,
        {
            "fold": data.number,
            "n_train": len(data.train.ids),
            "n_valid": len(data.valid.ids),
            "n_pseudo": 0 if data.pseudo is None else len(data.pseudo.ids),
            "pseudo_hash": None if data.pseudo is None else data.pseudo.fingerprint(),
            "pseudo_checksums": [] if data.pseudo is None else list(data.pseudo.checksums),
            "epochs": len(rows),
            "devices": distributed.get_world_size() if distributed.is_initialized() else 1,
            "best_epoch": int(kept["epoch"]),
            "best_epoch_chosen_by": CHOSEN_BY[settings.train.keep],
            # With swa_from it would be that of the average before its batch norm was measured anew.
            "valid_loss": None if settings.pseudo.all_folds or settings.train.swa_from else kept["valid_loss"],
            "encoder_weights": predict.origin(directory.networks(settings.train)[0]),
            "train_loss": kept["train_loss"],
            **judged,
            "seconds": round(sum(row["seconds"] for row in rows), 1),
            "predict_seconds": round(time.perf_counter() - started, 1),
            "images_per_second": round(_speed([row["images_per_second"] for row in rows], settings), 2),
            "peak_memory_mb": _peak_memory_mb(),
            "peak_gpu_memory_mb": torch.cuda.max_memory_allocated() // 2**20 if torch.cuda.is_available() else None,
            "git_commit": commit,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    # The state to go on from is three times the weights and of no use any more.
    directory.last.unlink(missing_ok=True)


def _speed(rates: list[float], settings: Config) -> float:
    """Images per second of a typical epoch; where epochs differ in size, of all together."""
    return statistics.harmonic_mean(rates) if settings.train.half_size_until else statistics.median(rates)


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
