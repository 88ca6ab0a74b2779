"""From fold predictions to one prediction per image, joined by id; averages over folds and over runs."""

from collections.abc import Sequence

import numpy as np

from saltseg.errors import InputError
from saltseg.runs import FoldDir, Predictions, load_predictions


def collate(folds: Sequence[FoldDir]) -> Predictions:
    """Out-of-fold predictions of all ``folds``, in id order, each with the fold it validated in.

    Raises InputError when an id validates in two folds (``Predictions`` refuses it) or shapes differ.
    """
    parts = [load_predictions(fold.oof) for fold in folds]
    _same_size(parts)
    ids = np.concatenate([part.ids for part in parts])
    fold = np.concatenate([np.full(len(part.ids), f.number, np.int16) for f, part in zip(folds, parts, strict=True)])
    probabilities = np.concatenate([part.probabilities for part in parts])
    order = np.argsort(ids, kind="stable")
    return Predictions(ids[order], probabilities[order], fold[order])


def mean(parts: Sequence[Predictions]) -> Predictions:
    """The mean of several predictions for the same images, in the order (and with the folds) of the first.

    Raises InputError when the sets of ids differ: an average over some of the members would be no average.
    """
    first = parts[0]
    _same_size(parts)
    for part in parts[1:]:
        odd = set(part.ids.tolist()) ^ set(first.ids.tolist())
        if odd:
            raise InputError(f"predictions to average differ in {len(odd)} ids, the first {min(odd)!r}; predict again")
        if first.fold is not None and part.fold is not None:
            fold_of_id = dict(zip(part.ids.tolist(), part.fold.tolist(), strict=True))
            if any(fold_of_id[i] != k for i, k in zip(first.ids.tolist(), first.fold.tolist(), strict=True)):
                raise InputError("runs to average were trained on different folds; their average would leak")
    total = np.zeros(first.probabilities.shape, np.uint16 if len(parts) <= 257 else np.uint32)
    for part in parts:
        total += part.of(first.ids)
    rounded = (2 * total.astype(np.uint32) + len(parts)) // (2 * len(parts))
    return Predictions(first.ids, rounded.astype(np.uint8), first.fold)


def _same_size(parts: Sequence[Predictions]) -> None:
    sizes = {part.probabilities.shape[1:] for part in parts}
    if len(sizes) > 1:
        raise InputError(f"predictions of different sizes cannot be joined: {sorted(sizes)}; predict again")
