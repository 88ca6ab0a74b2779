"""Aggregates of the dataset behind the study's records. No tile itself: the real ones may not be shown."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saltseg.core import metric
from saltseg.data import competition
from saltseg.reporting.case_records import Study
from saltseg.studies import BASE


@dataclass(frozen=True)
class Dataset:
    """The labelled tiles, in one order.

    coverage: share of salt, float64 (N,) in [0, 1]. constant: tiles of one grey value, bool (N,). depth: z, int64
    (N,), or None where the dataset has none. simulated: whether prepare_data.py made it.
    """

    coverage: np.ndarray
    constant: np.ndarray
    depth: np.ndarray | None
    simulated: bool

    def thirds(self) -> list[tuple[int, int, float]]:
        """Shallowest, middle and deepest third of the tiles: smallest z, largest z, share of them that holds salt."""
        assert self.depth is not None
        parts = np.array_split(np.argsort(self.depth, kind="stable"), 3)
        found = [(self.depth[part], self.coverage[part]) for part in parts]
        return [(int(z.min()), int(z.max()), float(np.mean(coverage > 0))) for z, coverage in found]


def read_dataset(root: Path, study: Study) -> Dataset | None:
    """The aggregates of a dataset in Kaggle's layout; None where it is not there or not what the records are about."""
    if not (root / "train.csv").is_file() or competition.fingerprint(root) != study.records[BASE][0]["dataset_hash"]:
        return None
    labelled = competition.read_train(root)
    depths = competition.read_depths(root) or {}
    known = all(id_ in depths for id_ in labelled.ids)
    return Dataset(
        metric.coverage(labelled.masks),
        labelled.images.min(axis=(1, 2)) == labelled.images.max(axis=(1, 2)),
        np.array([depths[id_] for id_ in labelled.ids]) if known else None,
        competition.is_synthetic(root),
    )
