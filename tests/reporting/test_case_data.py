"""Aggregates of the dataset that the records are about, and of no other."""

import numpy as np
import pytest
from fake_records import entry, read

from saltseg.data import competition, synthetic
from saltseg.reporting.case_data import Dataset, read_dataset


def test_aggregates_of_the_dataset_of_the_records_only(tmp_path) -> None:
    root = tmp_path / "fake"
    synthetic.write_dataset(root, n_train=30, n_test=1, seed=2)
    study = read(tmp_path / "a", entry(dataset_hash=competition.fingerprint(root)))
    found = read_dataset(root, study)
    masks, depths = competition.read_train(root).masks, competition.read_depths(root)
    assert found.coverage == pytest.approx(masks.mean(axis=(1, 2)))
    assert found.depth.tolist() == [depths[id_] for id_ in competition.train_ids(root)]
    assert (found.simulated, len(found.constant)) == (False, 30)
    (root / "source.json").write_text('{"source": "synthetic"}')  # as prepare_data.py leaves it
    assert read_dataset(root, study).simulated
    assert read_dataset(root, read(tmp_path / "b", entry())) is None  # other data
    assert read_dataset(tmp_path / "gone", study) is None
    (root / "depths.csv").unlink()
    assert read_dataset(root, study).depth is None


def test_salt_by_thirds_of_depth() -> None:
    depth = np.array([30, 10, 20, 60, 50, 40])
    coverage = np.array([0.5, 0.0, 0.1, 0.0, 0.0, 0.0])
    found = Dataset(coverage, np.zeros(6, bool), depth, False).thirds()
    assert found == [(10, 20, 0.5), (30, 40, 0.5), (50, 60, 0.0)]
