"""Fixtures of the reporting tests; what the fake run holds is in fake_run.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_run import Fake, make

from saltseg.reporting import gallery, plots


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """A finished run of two folds."""
    return make(tmp_path)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Fake]:
    """`make_run(name, ...)`: further runs under the same directory."""

    def another(name: str, **options: object) -> Fake:
        return make(tmp_path, name, **options)

    return another


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are made but not rendered, tiles not drawn, for tests of a page's text: that takes seconds."""
    monkeypatch.setattr(plots, "png", lambda figure: b"a picture")
    monkeypatch.setattr(gallery, "draw", lambda scored, indices: b"a picture")
