"""Values of a survey in files of slabs."""

from pathlib import Path

import numpy as np
import pytest
import segy_files

from saltseg import io
from saltseg.errors import InputError
from saltseg.seismic.results import Results
from saltseg.seismic.volume import Survey


def test_one_sample_of_the_traces_is_that_of_all_samples(tmp_path: Path) -> None:
    headers = segy_files.grid(range(4), range(5))
    dice = np.random.default_rng(0)
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", dice.integers(-99, 100, (20, 6)), headers))
    results = Results(tmp_path / "parts", survey, "key", slab_bytes=200)
    stored = {}
    for slab in results.missing():
        lines = survey.read(slab)
        sections = [dice.integers(0, 256, line.amplitudes.shape, np.uint8) for line in lines]
        results.write(slab, lines, sections)
        stored |= {(slab.direction, line.number): section for line, section in zip(lines, sections, strict=True)}
    whole = results.read(np.arange(20))
    for inline, crossline in ((0, 0), (2, 3), (3, 4)):
        both = stored["inline", inline][:, crossline].astype(int) + stored["crossline", crossline][:, inline]
        np.testing.assert_allclose(whole[5 * inline + crossline], both / 510, rtol=1e-6)
    some = np.array([1, 4, 5, 17])
    for sample in range(6):
        assert np.array_equal(results.read(some, sample), whole[some, sample])


def test_results_of_a_version_with_other_rules_for_rows_are_refused(tmp_path: Path) -> None:
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", segy_files.wave(6), segy_files.grid((1, 2), (1, 2, 3))))
    Results(tmp_path / "parts", survey, "key")
    Results(tmp_path / "parts", survey, "key")  # goes on
    progress = io.read_json(tmp_path / "parts" / "progress.json")
    io.write_json(tmp_path / "parts" / "progress.json", {k: v for k, v in progress.items() if k != "rows"})
    with pytest.raises(InputError, match="remove it and rerun"):
        Results(tmp_path / "parts", survey, "key")
