"""Fixtures for tests of any layer."""

from pathlib import Path

import pytest
import tiny_run


@pytest.fixture
def trained(tmp_path: Path) -> tiny_run.Trained:
    """A tiny dataset and a run of three finished folds on it, see tiny_run.py."""
    return tiny_run.make(tmp_path)
