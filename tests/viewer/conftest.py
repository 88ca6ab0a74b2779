"""Fixtures of the viewer's tests; what is shown is in example.py."""

from collections.abc import Iterator

import pytest
from example import SurveyFiles, content, serving, survey_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    """A survey on the disk."""
    return survey_files(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def port(files: SurveyFiles) -> Iterator[int]:
    """Where tiles, a network and a survey are shown."""
    with serving(content(files)) as found:
        yield found
