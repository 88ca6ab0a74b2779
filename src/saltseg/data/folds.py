"""Who validates whom: folds stratified by coverage, optionally whole sections at a time; made once and saved.

A fold table is a CSV ``id,fold,coverage_class,group``. One column holds the fold, so two folds cannot overlap.
Fold -1 (scheme ``holdout`` only) always trains.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from saltseg.config import FoldsConfig
from saltseg.core.metric import coverage_class
from saltseg.errors import InputError
from saltseg.storage import write_atomic


@dataclass(frozen=True)
class Folds:
    """ids: str (N,); fold: int (N,), -1 for images that always train; digest: SHA-256 of the saved table."""

    ids: tuple[str, ...]
    fold: np.ndarray
    digest: str

    @property
    def numbers(self) -> list[int]:
        """The folds that can be trained, in order."""
        return sorted({int(k) for k in self.fold if k >= 0})

    def split(self, number: int, config: FoldsConfig) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the training and of the validation images of fold ``number``, ascending.

        With ``config.train_images`` that many of the training images, at random; fewer are a part of more, so that
        learning curves compare. Raises InputError for a fold there is not, or more images than it has.
        """
        if number not in self.numbers:
            raise InputError(f"no fold {number}; this table has folds {', '.join(map(str, self.numbers))}")
        training, validating = np.flatnonzero(self.fold != number), np.flatnonzero(self.fold == number)
        if config.train_images > len(training):
            raise InputError(
                f"folds.train_images is {config.train_images}; fold {number} has {len(training)}, lower it or use 0"
            )
        if config.train_images:
            rng = np.random.default_rng((config.seed, number))
            training = np.sort(rng.permutation(training)[: config.train_images])
        if len(training) < 2:
            raise InputError(f"fold {number} has {len(training)} images to train on; two are the least, for batch norm")
        return training, validating


def stratified(classes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Fold of each image, int (N,): every class is dealt out like cards, so its folds differ by one image at most.

    classes: int (N,). The dealing goes on from class to class, so that fold sizes differ by one at most too.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(classes)), classes))  # by class, at random within one
    fold = np.empty(len(classes), np.int64)
    fold[order] = np.arange(len(classes)) % count
    return fold


def grouped(classes: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Fold of each image, int (N,), with every group inside one fold and classes as even as that allows.

    Groups go, largest first, to the fold where the class counts stay closest to even (sum of squares of the
    counts, each class weighted by its rarity): the greedy rule of scikit-learn's StratifiedGroupKFold.
    """
    names, of_group = np.unique(groups, return_inverse=True)
    if len(names) < count:
        raise InputError(
            f"{len(names)} groups cannot fill {count} folds; lower folds.count or use folds.scheme=stratified"
        )
    table = np.zeros((len(names), int(classes.max()) + 1))
    np.add.at(table, (of_group, classes), 1)
    weight = 1 / np.maximum(table.sum(axis=0), 1)
    rng = np.random.default_rng(seed)
    filled = np.zeros((count, table.shape[1]))
    fold_of_group = np.empty(len(names), np.int64)
    for group in np.lexsort((rng.random(len(names)), -table.sum(axis=1))):
        cost = ((2 * filled + table[group]) * table[group] * weight).sum(axis=1)
        size = filled.sum(axis=1)
        best = np.lexsort((size, np.round(cost, 9)))[0]
        fold_of_group[group] = best
        filled[best] += table[group]
    return fold_of_group[of_group]


def holdout(count: int, share: float, seed: int) -> np.ndarray:
    """Fold of each image, int (N,): 0 for a random ``share`` that validates, -1 for the rest."""
    validating = max(1, round(count * share))
    if validating >= count:
        raise InputError(f"folds.holdout={share} leaves nothing to train on of {count} images; lower it")
    fold = np.full(count, -1)
    fold[np.random.default_rng(seed).permutation(count)[:validating]] = 0
    return fold


def table_path(output_dir: Path, dataset: str, config: FoldsConfig) -> Path:
    """Where the table lives: one file per dataset and scheme, so that no run changes another's folds."""
    amount = f"{config.holdout:g}" if config.scheme == "holdout" else str(config.count)
    seed = f"-seed{config.seed}" if config.seed else ""
    return output_dir / "folds" / f"{dataset}-{config.scheme}{amount}{seed}.csv"


def load_or_make(
    path: Path,
    config: FoldsConfig,
    ids: tuple[str, ...],
    masks: np.ndarray,
    sections: Mapping[str, str] | None,
) -> Folds:
    """The saved table at ``path``, or a new one, saved. ids: (N,); masks: uint8 {0, 1} (N, H, W).

    Raises InputError when the saved table is about other images, or groups are asked for and unknown.
    """
    if not path.is_file():
        classes = coverage_class(masks).astype(np.int64)
        if config.scheme == "grouped":
            if sections is None:
                raise InputError(
                    "folds.scheme=grouped needs sections.csv (id,section) in the dataset; add it or use stratified"
                )
            absent = [id_ for id_ in ids if id_ not in sections]
            if absent:
                raise InputError(f"sections.csv lacks {len(absent)} ids, the first {absent[0]!r}; add them")
            fold = grouped(classes, np.array([sections[id_] for id_ in ids]), config.count, config.seed)
        elif config.scheme == "holdout":
            fold = holdout(len(ids), config.holdout, config.seed)
        else:
            fold = stratified(classes, config.count, config.seed)
        group = [(sections or {}).get(id_, "") for id_ in ids]
        table = pd.DataFrame({"id": ids, "fold": fold, "coverage_class": classes, "group": group})
        write_atomic(path, table.to_csv(index=False, lineterminator="\n"))
    return read_table(path, ids)


def read_table(path: Path, ids: tuple[str, ...]) -> Folds:
    """Read a saved table and put it in the order of ``ids``; InputError unless they match one to one."""
    advice = f"delete {path} to make new folds, and train under a new --name"
    try:
        table = pd.read_csv(path, dtype={"id": str, "fold": np.int64}, usecols=["id", "fold"], keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"no fold table {path}; scripts/train.py makes it") from None
    except ValueError:  # pandas' own errors are kinds of it
        raise InputError(f"{path} is not a table id,fold,coverage_class,group; {advice}") from None
    if table["id"].duplicated().any():
        raise InputError(f"{path} lists an id twice; {advice}")
    odd = sorted(set(table["id"]) ^ set(ids))
    if odd:
        raise InputError(f"{path} and the dataset differ in {len(odd)} ids, the first {odd[0]!r}; {advice}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Folds(ids, table.set_index("id")["fold"].loc[list(ids)].to_numpy(), digest)
