"""Datasets for the tests of the data layer."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from small_dataset import build

REAL = Path(os.environ.get("SALTSEG_TGS", Path(__file__).resolve().parents[3] / "shared" / "tgs"))


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Make `tmp_path/input/<name>`; keywords as `build`."""
    return lambda name="small", **counts: build(tmp_path / "input" / name, **counts)


@pytest.fixture
def original(make_dataset: Callable[..., Path], tmp_path: Path) -> Path:
    """A valid dataset outside of input/."""
    return make_dataset("original", n_train=6, n_test=3).rename(tmp_path / "original")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real competition data, read only."""
    if not (REAL / "train.csv").is_file():
        pytest.skip("the real TGS data are missing: set SALTSEG_TGS to their folder")
    return REAL
