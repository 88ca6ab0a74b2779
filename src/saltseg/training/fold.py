"""Train one fold to the end, predict what it is for, write its figures last. Safe to kill and to start again."""

import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
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
from saltseg.inference.pseudo import LEAKS, Pseudo
from saltseg.models import losses, zoo
from saltseg.runs import FoldDir, Predictions, RunDir, provenance, save_predictions
from saltseg.storage import write_json
from saltseg.training import loop
from saltseg.training.callbacks import Row
from saltseg.training.task import SaltTask, start_file, take_over

CHOSEN_BY = {
    "best": "lowest loss on this fold's validation images",
    "last": "fixed length: the last epoch, no choice",
    "snapshots": "fixed length: the last epoch of every cycle, averaged, no choice",
}
TRAIN_SAMPLE = 200  # training images predicted as well, to show the gap between training and validation
SCORES = (
    "log_loss", "valid_pixel_accuracy", "score_at_half", "score_at_half_no_tta", "train_pixel_accuracy",
    "train_score_at_half",
)  # fmt: skip


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
    return FoldData(number, _subset(labelled, training), _subset(labelled, validating), test)


def _subset(labelled: Labelled, positions: np.ndarray) -> Labelled:
    ids = tuple(labelled.ids[i] for i in positions)
    return Labelled(ids, labelled.images[positions], labelled.masks[positions])


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
    _finish(settings, data, directory, predict.load_networks(settings, directory), rows, commit)


def check(settings: Config, height: int, width: int) -> None:
    """Send one empty tile through the network, so that settings that cannot work are refused before anything else."""
    for source in (settings.train.start_from, settings.model.weights):
        if source.startswith("file:"):  # perhaps output/runs/RUN/fold_K/network.ckpt
            RunDir(Path(source.removeprefix("file:")).expanduser().parent.parent).demand_score(LEAKS)
    tile = np.zeros((1, height, width), np.uint8)
    network = zoo.build(settings.model, pretrained=not settings.train.start_from)
    if (path := start_file(settings.train)) is not None:
        take_over(network, path)
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


def _finish(
    settings: Config,
    data: FoldData,
    directory: FoldDir,
    networks: Sequence[torch.nn.Module],
    rows: list[Row],
    commit: str | None,
) -> None:
    """Predict with the weights kept, score where that is honest, and write ``metrics.json`` last."""
    judged, single = not settings.pseudo.all_folds, settings.predict.views == ("identity",)
    size = min(TRAIN_SAMPLE, len(data.train.ids))
    images = ((1 if single else 2) * len(data.valid.ids) + size) * judged + len(data.test.ids)
    started = time.perf_counter()
    with tqdm(desc=f"fold {data.number}: predicting", total=images, unit="img", mininterval=1) as bar:

        def predicted(part: Images | Labelled, views: tuple[str, ...] = settings.predict.views) -> Predictions:
            return predict.predictions(networks, part.ids, part.images, settings, views=views, progress=bar.update)

        scores = _judge(settings, data, directory, predicted) if judged else dict.fromkeys(SCORES)
        save_predictions(directory.test, predicted(data.test))
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
            "views": list(settings.predict.views),
            "valid_loss": kept["valid_loss"] if judged else None,
            "encoder_weights": predict.origin(directory.networks(settings.train)[0]),
            "train_loss": kept["train_loss"],
            **scores,
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


def _judge(
    settings: Config, data: FoldData, directory: FoldDir, predicted: Callable[..., Predictions]
) -> dict[str, float | None]:
    """Predict the validation images and a sample of the training images, and save both; returns `SCORES`."""
    rng = np.random.default_rng(data.number)
    chosen = rng.permutation(len(data.train.ids))[:TRAIN_SAMPLE]
    sample = _subset(data.train, np.sort(chosen))
    plain = predicted(data.valid, ("identity",))
    valid = plain if settings.predict.views == ("identity",) else predicted(data.valid)
    train = predicted(sample)
    save_predictions(directory.oof, valid)
    save_predictions(directory.train, train)
    half_valid, half_train = HALF.apply(valid.probabilities), HALF.apply(train.probabilities)
    figures = (
        log_loss(areas(plain.probabilities, data.valid.masks)),
        metric.pixel_scores(half_valid, data.valid.masks).accuracy,
        metric.score(half_valid, data.valid.masks),
        metric.score(HALF.apply(plain.probabilities), data.valid.masks),
        metric.pixel_scores(half_train, sample.masks).accuracy,
        metric.score(half_train, sample.masks),
    )
    return dict(zip(SCORES, figures, strict=True))


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
