"""Probabilities that carry their ids: saved, collated over folds, averaged over networks and runs, joined by id."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saltseg import io
from saltseg.errors import InputError
from saltseg.runs import FoldDir

Counts = tuple[int, ...]
Stack = NDArray[np.uint8]
# of the arrays in a file: beginning of the type, without the byte order, and number of axes
KINDS = {"ids": ("U", 1), "probabilities": ("u1", 3), "fold": ("i", 1), "presence": ("u1", 1)}
_CHUNK = 64  # images averaged at once: the sum stays in the processor's cache


@dataclass(frozen=True)
class Predictions:
    """Probabilities that carry their ids.

    Attributes:
        ids: str (N,), each once.
        probabilities: uint8 (N, H, W), salt probability in 255ths.
        fold: int16 (N,), the fold that each image validated in; None unless the predictions are out of fold.
        presence_probability: uint8 (N,) in 255ths, probability that the image holds any salt; None for a network
            without a presence head.

    Raises:
        InputError: an id occurs twice.
    """

    ids: np.ndarray
    probabilities: np.ndarray
    fold: np.ndarray | None = None
    presence_probability: np.ndarray | None = None

    def __post_init__(self) -> None:
        assert self.probabilities.dtype == np.uint8, self.probabilities.dtype
        assert self.probabilities.ndim == 3, self.probabilities.shape
        assert len(self.ids) == len(self.probabilities)
        presence = self.presence_probability
        assert presence is None or (presence.dtype == np.uint8 and presence.shape == self.ids.shape)
        values, counts = np.unique(self.ids, return_counts=True)
        if (counts > 1).any():
            raise InputError(f"predictions hold id {str(values[counts > 1][0])!r} more than once; predict again")

    def fingerprint(self) -> str:
        """SHA-256 (hex) of ids and arrays; it depends on the order."""
        digest = hashlib.sha256("\n".join(self.ids.tolist()).encode())
        for array in (self.probabilities, self.fold, self.presence_probability):
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def select(self, ids: np.ndarray | tuple[str, ...]) -> np.ndarray:
        """Probabilities in the order of ``ids``; raises InputError when one is missing."""
        return self.probabilities[self.indices(ids)]

    def indices(self, ids: np.ndarray | tuple[str, ...]) -> list[int]:
        """Index of each of ``ids``; raises InputError when one is missing."""
        index_of_id = {id_: i for i, id_ in enumerate(self.ids.tolist())}
        missing = [str(id_) for id_ in ids if str(id_) not in index_of_id]
        if missing:
            raise InputError(f"no prediction for {len(missing)} ids, the first {missing[0]!r}; run saltseg predict")
        return [index_of_id[str(id_)] for id_ in ids]


def collate_folds(folds: Sequence[FoldDir]) -> Predictions:
    """Join the out-of-fold predictions of all ``folds``, in id order, each with the fold it validated in.

    Presence probabilities are kept when every fold has them.

    Raises:
        InputError: an id validates in two folds, or shapes differ.
    """
    parts = [load_predictions(fold.oof) for fold in folds]
    _require_one_size(parts)
    ids = np.concatenate([part.ids for part in parts])
    fold = np.concatenate([np.full(len(part.ids), f.number, np.int16) for f, part in zip(folds, parts, strict=True)])
    probabilities = np.concatenate([part.probabilities for part in parts])
    presences = [part.presence_probability for part in parts if part.presence_probability is not None]
    presence = np.concatenate(presences) if len(presences) == len(parts) else None
    return reorder(Predictions(ids, probabilities, fold, presence), np.sort(ids))


def mean_predictions(parts: Sequence[Predictions], weights: Sequence[int] | None = None) -> Predictions:
    """Average several predictions for the same images; see `weighted_mean`.

    Args:
        parts: one or more, in any order of ids.
        weights: counts, one per part, 0 or more, not all 0; None: equal ones.

    Returns:
        The mean, in the order of the first part and with its folds. Presence probabilities are averaged when every part
        has them.

    Raises:
        InputError: ids, sizes or folds differ, or weights that do not fit.
    """
    first = parts[0]
    _require_one_size(parts)
    for part in parts[1:]:
        odd = set(part.ids.tolist()) ^ set(first.ids.tolist())
        if odd:
            raise InputError(f"predictions to average differ in {len(odd)} ids, the first {min(odd)!r}; predict again")
    aligned = [reorder(part, first.ids) for part in parts]
    folds = [part.fold for part in aligned if part.fold is not None]
    if any(not np.array_equal(fold, folds[0]) for fold in folds):
        raise InputError(
            "runs to average were trained on different folds; their average would leak; "
            "train them with the same folds.* settings"
        )
    counts = [1] * len(parts) if weights is None else weights
    presences = [part.presence_probability for part in aligned if part.presence_probability is not None]
    return Predictions(
        first.ids,
        weighted_mean([part.probabilities for part in aligned], counts),
        first.fold,
        weighted_mean(presences, counts) if len(presences) == len(parts) else None,
    )


def reorder(part: Predictions, ids: np.ndarray) -> Predictions:
    """The predictions of ``ids`` in that order, without a copy if they are; raises InputError when one is missing."""
    if np.array_equal(part.ids, ids):
        return part
    index = part.indices(ids)
    fold, presence = (None if array is None else array[index] for array in (part.fold, part.presence_probability))
    return Predictions(part.ids[index], part.probabilities[index], fold, presence)


def _require_one_size(parts: Sequence[Predictions]) -> None:
    sizes = {part.probabilities.shape[1:] for part in parts}
    if len(sizes) > 1:
        raise InputError(f"predictions of different sizes cannot be joined: {sorted(sizes)}; predict again")


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write a compressed ``.npz`` atomically."""
    arrays: dict[str, Any] = {"ids": predictions.ids.astype(str), "probabilities": predictions.probabilities}
    if predictions.fold is not None:
        arrays["fold"] = predictions.fold.astype(np.int16)
    if predictions.presence_probability is not None:
        arrays["presence"] = predictions.presence_probability
    io.write_arrays(path, arrays)


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote; never unpickles. Raises InputError for a missing or unreadable file."""
    arrays = io.read_arrays(path, ("ids", "probabilities"), "predictions", "saltseg train or saltseg predict")
    ids = arrays["ids"]
    for name, (kind, dimensions) in KINDS.items():
        array = arrays.get(name)
        if array is None:
            continue
        if not array.dtype.str[1:].startswith(kind) or array.ndim != dimensions or len(array) != len(ids):
            raise io.unreadable(path, "predictions", f"{name} of type {array.dtype} and shape {array.shape}")
        if name == "fold" and (array < 0).any():
            raise io.unreadable(path, "predictions", f"fold {array.min()}")
    try:
        "".join(ids.tolist()).encode()
    except (ValueError, SystemError):
        raise io.unreadable(path, "predictions", "ids of other characters than Unicode has") from None
    return Predictions(ids, arrays["probabilities"], arrays.get("fold"), arrays.get("presence"))


def weighted_mean(stacks: Sequence[Stack], counts: Sequence[int]) -> Stack:
    """The weighted mean, exact in whole numbers, halves rounded up.

    Args:
        stacks: one or more uint8 arrays of one shape (N, ...).
        counts: a weight for each, 0 or more, not all 0; only their ratios matter.

    Returns:
        uint8 of the same shape.

    Raises:
        InputError: weights that do not fit, are negative, not whole, or all 0.
    """
    whole = all(isinstance(count, (int, np.integer)) and count >= 0 for count in counts)
    if len(counts) != len(stacks) or not whole or not any(counts):
        raise InputError(
            f"{len(stacks)} weights are needed, whole numbers from 0 up, not all 0: {list(counts)}; such as 2 1"
        )
    shares = reduced(counts)
    total = sum(shares)
    kind = np.min_scalar_type(511 * total)  # holds 2 * 255 * total + total; Python's integers beyond 64 bits
    mean = np.empty_like(stacks[0])
    for begin in range(0, len(mean), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        doubled = np.full(mean[part].shape, total, kind)
        for stack, count in zip(stacks, shares, strict=True):
            if count:
                doubled += stack[part].astype(kind) * kind.type(2 * count)
        mean[part] = doubled // kind.type(2 * total)
    return mean


def reduced(counts: Sequence[int]) -> Counts:
    """The same weights without a common divisor: the same mean."""
    divisor = math.gcd(*(int(count) for count in counts))
    return tuple(int(count) // divisor for count in counts)
