"""From fold predictions to one prediction per image, joined by id; averages over folds and over runs."""

from collections.abc import Sequence

import numpy as np

from saltseg.core.selection import weighted_mean
from saltseg.errors import InputError
from saltseg.runs import FoldDir, Predictions, load_predictions


def collate(folds: Sequence[FoldDir]) -> Predictions:
    """Out-of-fold predictions of all ``folds``, in id order, each with the fold it validated in.

    Presence is kept when every fold has it. Raises InputError when an id validates in two folds (``Predictions``
    refuses it) or shapes differ.
    """
    parts = [load_predictions(fold.oof) for fold in folds]
    _same_size(parts)
    ids = np.concatenate([part.ids for part in parts])
    fold = np.concatenate([np.full(len(part.ids), f.number, np.int16) for f, part in zip(folds, parts, strict=True)])
    probabilities = np.concatenate([part.probabilities for part in parts])
    presences = [part.presence for part in parts if part.presence is not None]
    presence = np.concatenate(presences) if len(presences) == len(parts) else None
    return in_order(Predictions(ids, probabilities, fold, presence), np.sort(ids))


def mean(parts: Sequence[Predictions], weights: Sequence[int] | None = None) -> Predictions:
    """The mean of several predictions for the same images, in the order (and with the folds) of the first.

    ``weights`` are counts, one per part, 0 or more, not all 0; None: equal ones. The mean is exact, halves go up.
    Presence is averaged when every part has it, else left out. Raises InputError for weights that do not fit, and
    when the sets of ids differ: an average over some of the members would be no average.
    """
    first = parts[0]
    _same_size(parts)
    for part in parts[1:]:
        odd = set(part.ids.tolist()) ^ set(first.ids.tolist())
        if odd:
            raise InputError(f"predictions to average differ in {len(odd)} ids, the first {min(odd)!r}; predict again")
    aligned = [in_order(part, first.ids) for part in parts]
    folds = [part.fold for part in aligned if part.fold is not None]
    if any(not np.array_equal(fold, folds[0]) for fold in folds):
        raise InputError(
            "runs to average were trained on different folds; their average would leak; "
            "train them with the same folds.* settings"
        )
    counts = [1] * len(parts) if weights is None else weights
    presences = [part.presence for part in aligned if part.presence is not None]
    return Predictions(
        first.ids,
        weighted_mean([part.probabilities for part in aligned], counts),
        first.fold,
        weighted_mean(presences, counts) if len(presences) == len(parts) else None,
    )


def in_order(part: Predictions, ids: np.ndarray) -> Predictions:
    """The predictions of ``ids``, in that order, without a copy where it is theirs; InputError when one is missing."""
    if np.array_equal(part.ids, ids):
        return part
    rows = part.rows(ids)
    fold, presence = (None if values is None else values[rows] for values in (part.fold, part.presence))
    return Predictions(part.ids[rows], part.probabilities[rows], fold, presence)


def _same_size(parts: Sequence[Predictions]) -> None:
    sizes = {part.probabilities.shape[1:] for part in parts}
    if len(sizes) > 1:
        raise InputError(f"predictions of different sizes cannot be joined: {sorted(sizes)}; predict again")
