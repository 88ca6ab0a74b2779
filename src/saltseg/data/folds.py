"""Cross-validation splits: stratified by coverage, optionally by whole sections; created once and saved.

A fold table is a CSV file `id,fold,coverage_class,group`. One column holds the fold, so folds cannot overlap. Fold -1
(scheme `holdout` only) always trains.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from saltseg.config import FoldsConfig
from saltseg.data.duplicates import first_identical
from saltseg.errors import InputError
from saltseg.io import write_atomic
from saltseg.metrics.pixels import coverage_class


@dataclass(frozen=True)
class Folds:
    """The fold of each image.

    Attributes:
        ids: N names.
        fold: int (N,), -1 for images that always train.
        digest: SHA-256 (hex) of the saved table.
    """

    ids: tuple[str, ...]
    fold: np.ndarray
    digest: str

    @property
    def numbers(self) -> list[int]:
        """The folds to train, ascending."""
        return sorted({int(k) for k in self.fold if k >= 0})

    def split(self, number: int, config: FoldsConfig) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training and of the validation images of a fold, both ascending.

        With `config.train_images`, a random subset of the training images; a smaller subset is contained in a larger
        one, so that learning curves compare.

        Raises:
            InputError: no such fold, fewer than `config.train_images` training images, or fewer than two.
        """
        if number not in self.numbers:
            raise InputError(f"no fold {number}; this table has folds {', '.join(map(str, self.numbers))}")
        training, validation = np.flatnonzero(self.fold != number), np.flatnonzero(self.fold == number)
        if config.train_images > len(training):
            raise InputError(
                f"folds.train_images is {config.train_images}; fold {number} has {len(training)}, lower it or use 0"
            )
        if config.train_images:
            rng = np.random.default_rng((config.seed, number))
            training = np.sort(rng.permutation(training)[: config.train_images])
        if len(training) < 2:
            raise InputError(f"fold {number} has {len(training)} training images; batch norm needs at least two")
        return training, validation


# ---------------------------------------------------------------- schemes


def stratified(classes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Round-robin assignment within each class.

    The order within a class is random, and each class continues where the one before ended. So folds differ by at most
    one image in every class and in size.

    Args:
        classes: int (N,), class of each image.
        count: number of folds.
        seed: of the order.

    Returns:
        Fold of each image, int64 (N,).
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(classes)), classes))  # by class, random within one
    fold = np.empty(len(classes), np.int64)
    fold[order] = np.arange(len(classes)) % count
    return fold


def grouped(classes: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Greedy assignment of whole groups, as in scikit-learn's StratifiedGroupKFold.

    Groups go, largest first, to the fold that keeps the class counts most even: least sum of squared counts, each class
    weighted by its rarity; ties go to the smaller fold.

    Args:
        classes: int (N,), class of each image, from 0.
        groups: (N,), name of each image's group.
        count: number of folds.
        seed: of the order of groups of equal size.

    Returns:
        Fold of each image, int64 (N,).

    Raises:
        InputError: fewer groups than folds.
    """
    names, group_index = np.unique(groups, return_inverse=True)
    if len(names) < count:
        raise InputError(
            f"{len(names)} groups cannot fill {count} folds; lower folds.count or use folds.scheme=stratified"
        )
    group_counts = np.zeros((len(names), int(classes.max()) + 1))  # images by group and class
    np.add.at(group_counts, (group_index, classes), 1)
    weight = 1 / np.maximum(group_counts.sum(axis=0), 1)
    rng = np.random.default_rng(seed)
    fold_counts = np.zeros((count, group_counts.shape[1]))
    fold_of_group = np.empty(len(names), np.int64)
    for group in np.lexsort((rng.random(len(names)), -group_counts.sum(axis=1))):
        added = group_counts[group]
        cost = ((2 * fold_counts + added) * added * weight).sum(axis=1)  # increase of the weighted sum of squares
        best = np.lexsort((fold_counts.sum(axis=1), np.round(cost, 9)))[0]
        fold_of_group[group] = best
        fold_counts[best] += added
    return fold_of_group[group_index]


def holdout(count: int, share: float, seed: int) -> np.ndarray:
    """One random validation set.

    Args:
        count: number of images, N.
        share: of them that validates, at least one image.
        seed: of the choice.

    Returns:
        int64 (N,), 0 for validation images and -1 for the rest.

    Raises:
        InputError: no image is left to train on.
    """
    validation = max(1, round(count * share))
    if validation >= count:
        raise InputError(f"folds.holdout={share} leaves nothing to train on of {count} images; lower it")
    fold = np.full(count, -1)
    fold[np.random.default_rng(seed).permutation(count)[:validation]] = 0
    return fold


# ---------------------------------------------------------------- the saved table


def table_path(output_dir: Path, dataset: str, config: FoldsConfig) -> Path:
    """Path of the fold table: one for each dataset and scheme, so that runs share it."""
    amount = f"{config.holdout:g}" if config.scheme == "holdout" else str(config.count)
    seed = f"-seed{config.seed}" if config.seed else ""
    return output_dir / "folds" / f"{dataset}-{config.scheme}{amount}{seed}.csv"


def load_or_create(
    path: Path,
    config: FoldsConfig,
    ids: tuple[str, ...],
    images: np.ndarray,
    masks: np.ndarray,
    sections: Mapping[str, str] | None,
) -> Folds:
    """Read the fold table at `path`; create and save it first if there is none.

    Tiles with the same pixels share a fold of a new table, see `saltseg.data.duplicates`.

    Args:
        path: see `table_path`.
        config: scheme of a new table.
        ids: N names.
        images: uint8 (N, H, W), in the order of `ids`.
        masks: uint8 {0, 1} (N, H, W), in the order of `ids`.
        sections: section of each id, see `saltseg.data.competition.read_sections`.

    Raises:
        InputError: the saved table holds other images, or a grouped table is to be created and sections are unknown.
    """
    if not path.is_file():
        classes = coverage_class(masks).astype(np.int64)
        fold = _assign(config, ids, classes, sections, first_identical(images))
        # In other schemes sections decide nothing, and the same folds must be the same file when sections become known.
        group = [sections[id_] if sections and config.scheme == "grouped" else "" for id_ in ids]
        table = pd.DataFrame({"id": ids, "fold": fold, "coverage_class": classes, "group": group})
        write_atomic(path, table.to_csv(index=False, lineterminator="\n"))
    return read_table(path, ids)


def _assign(
    config: FoldsConfig,
    ids: tuple[str, ...],
    classes: np.ndarray,
    sections: Mapping[str, str] | None,
    first: np.ndarray,
) -> np.ndarray:
    """Fold of each image, int64 (N,). first: see `first_identical`; only these are assigned, others follow them."""
    leaders, index = np.unique(first, return_inverse=True)
    if config.scheme == "holdout":
        return holdout(len(leaders), config.holdout, config.seed)[index]
    if config.scheme == "stratified":
        return stratified(classes[leaders], config.count, config.seed)[index]
    if sections is None:
        raise InputError(
            "folds.scheme=grouped needs sections.csv (id,section) in the dataset; add it or use stratified"
        )
    if missing := [id_ for id_ in ids if id_ not in sections]:
        raise InputError(f"sections.csv lacks {len(missing)} ids, the first {missing[0]!r}; add them")
    return grouped(classes, _merge([sections[id_] for id_ in ids], first), config.count, config.seed)


def _merge(sections: list[str], first: np.ndarray) -> np.ndarray:
    """Give sections that hold the same tile, directly or through others, the name of one of them."""
    parent = {section: section for section in sections}  # a forest: the root of a tree names all of its sections

    def root(section: str) -> str:
        while parent[section] != section:
            section = parent[section]
        return section

    for i in np.flatnonzero(first != np.arange(len(first))):
        parent[root(sections[i])] = root(sections[first[i]])
    return np.array([root(section) for section in sections])


def read_table(path: Path, ids: tuple[str, ...]) -> Folds:
    """Read a saved table in the order of `ids`.

    Raises:
        InputError: the file is missing or not a fold table, or its ids and `ids` do not match one to one.
    """
    advice = f"delete {path} to make new folds, and train under a new --name"
    try:
        table = pd.read_csv(path, dtype={"id": str, "fold": np.int64}, usecols=["id", "fold"], keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"no fold table {path}; saltseg train creates it") from None
    except ValueError:  # pandas' own errors are kinds of it
        raise InputError(f"{path} is not a table id,fold,coverage_class,group; {advice}") from None
    if table["id"].duplicated().any():
        raise InputError(f"{path} lists an id twice; {advice}")
    if unmatched := sorted(set(table["id"]) ^ set(ids)):
        raise InputError(f"{path} and the dataset differ in {len(unmatched)} ids, the first {unmatched[0]!r}; {advice}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Folds(ids, table.set_index("id")["fold"].loc[list(ids)].to_numpy(), digest)
