"""Label images that have no labels with the networks of a run, fold by fold, for other runs to train on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg import io, predictions, schemas
from saltseg.config import Runtime
from saltseg.data import unlabeled
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.models import checkpoints
from saltseg.pipeline import trained
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.provenance import LEAKAGE
from saltseg.runs import FoldDir, RunDir
from saltseg.training.pseudo_labels import checksum, intact, most_confident


def label(
    run: RunDir,
    folder: Path,
    limit: int | None = None,
    runtime: Runtime | None = None,
    folds: Sequence[int] | None = None,
) -> int:
    """Predict the images of ``folder`` with each of the finished folds, into its own ``pseudo.npz``.

    ``pseudo.json`` records which images these are and a checksum of each fold's labels, so that no others are used by
    mistake. Folds that have labeled these images already are skipped.

    Args:
        run: with at least one finished fold.
        folder: of tiles, or of sections to cut into tiles, see `unlabeled.read`.
        limit: use only the first tiles by file name.
        runtime: how this machine computes; None: the defaults.
        folds: which; None: all that are finished.

    Returns:
        Number of tiles.

    Raises:
        InputError: the images are no tiles; the run has labeled others; it was trained on labels of all folds; a fold
            is not finished or has no weights.
    """
    finished = run.trained_folds()
    if missing := sorted(set(folds or ()) - {fold.number for fold in finished}):
        raise InputError(f"fold {missing[0]} of {run.name} is not finished; continue it with saltseg train")
    run.require_oof_score(LEAKAGE)
    images = unlabeled.read(folder, limit)
    settings = trained.settings_of(run, runtime)
    record: dict[str, Any] = {"folder": str(folder), "limit": limit, "n": len(images.ids)}
    record |= {"hash": unlabeled.fingerprint(images), "checksums": {}}
    with run.locked():
        if run.pseudo.is_file():
            before = schemas.read(run.pseudo)
            if before["hash"] != record["hash"]:
                raise InputError(
                    f"{run.name} has labeled other images; remove {run.pseudo} and its fold_*/pseudo.npz first"
                )
            record["checksums"] = before.get("checksums", {})
        io.write_json(run.pseudo, record)  # the folder may have moved
        for fold in finished:
            if (folds is not None and fold.number not in folds) or intact(fold, record) is not None:
                continue
            networks = checkpoints.load_networks(settings, fold)
            with tqdm(desc=f"fold {fold.number}: labeling", total=len(images.ids), unit="img", mininterval=1) as bar:
                labels = predict.predictions(networks, images.ids, images.images, settings, progress=bar.update)
            predictions.save_predictions(fold.pseudo, labels)
            record["checksums"][str(fold.number)] = checksum(fold.number, record["hash"], labels)
            io.write_json(run.pseudo, record)
    return len(images.ids)


def labeled_folds(run: RunDir) -> list[FoldDir]:
    """The folds that have labeled images, in order."""
    return [fold for fold in run.finished_folds() if fold.pseudo.is_file()]


def empty_shares(run: RunDir) -> tuple[float, float]:
    """Share of the labeled tiles without salt, of all and of the most confident half, each the mean over folds."""
    shares = []
    for fold in labeled_folds(run):
        labels = predictions.load_predictions(fold.pseudo).probabilities
        empty = THRESHOLD_HALF.apply(labels).max(axis=(1, 2)) == 0
        shares.append((empty.mean(), empty[most_confident(labels, 0.5)].mean()))
    everything, half = np.mean(shares, axis=0)
    return float(everything), float(half)
