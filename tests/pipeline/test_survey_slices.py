"""The slices of a page, compared with the values that they are made of."""

from pathlib import Path

import numpy as np
import pytest
import segy_files

from saltseg.pipeline.survey_slices import three_slices
from saltseg.reporting import survey_page
from saltseg.seismic.results import Results
from saltseg.seismic.scaling import Scaling
from saltseg.seismic.volume import Survey


def test_the_slices_show_the_values_of_their_bins(tmp_path: Path) -> None:
    headers = segy_files.grid(range(10, 13), range(500, 508, 2))
    del headers[6]  # inline 11, crossline 504
    dice = np.random.default_rng(0)
    amplitudes = dice.integers(-99, 100, (11, 6))
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", amplitudes, headers))
    values = dice.integers(0, 256, (11, 6)).astype(np.uint8)
    stored = []
    for name, rows in (("results", values), ("masks", (values > 100) * np.uint8(255))):
        results = Results(tmp_path / name, survey, "key", ["inline"])
        for slab in results.missing():
            lines = survey.read(slab)
            results.write(slab, lines, [rows[line.traces].T for line in lines])
        stored.append(results)
    salt_of_trace, salt_of_sample = np.zeros(11, np.int64), np.zeros(6, np.int64)
    salt_of_trace[7], salt_of_sample[4] = 1, 1  # inline 12, crossline 500
    inline, crossline, time = three_slices(stored[0], stored[1], Scaling(0, 100), salt_of_trace, salt_of_sample)
    assert (inline.title, crossline.title, time.title) == ("Inline 12", "Crossline 500", "Time slice at 16 ms")
    assert np.array_equal(inline.probability, values[7:].T)
    assert np.array_equal(crossline.probability, values[[0, 4, 7]].T)
    bins = np.array([[0, 1, 2, 3], [4, 5, -1, 6], [7, 8, 9, 10]])
    here = bins >= 0
    assert np.array_equal(time.present, here)
    assert np.array_equal(time.probability, np.where(here, values[bins, 4], 0))
    assert np.array_equal(time.salt, here & (values[bins, 4] > 100))
    assert np.array_equal(time.image, np.where(here, Scaling(0, 100).apply(amplitudes[bins, 4].astype(np.float32)), 0))
    assert (time.x_label, time.y_label, time.extent) == ("crossline", "inline", (499, 507, 9.5, 12.5))
    assert inline.extent == (499, 507, -2, 22)  # 6 samples of 4 ms from 0 ms
    assert crossline.extent == (9.5, 12.5, -2, 22)


def test_a_section_of_one_trace_or_one_sample_is_a_pixel_wide(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for traces, samples in ((1, 6), (5, 1), (1, 1)):
        amplitudes = np.arange(traces * samples).reshape(traces, samples) - 2
        path = segy_files.write(tmp_path / f"{traces}-{samples}.sgy", amplitudes, [{21: n} for n in range(traces)])
        survey = Survey.open(path, as_line=True)
        results = Results(tmp_path / f"{traces}-{samples}", survey, "key", ["line"])
        for slab in results.missing():
            results.write(slab, survey.read(slab), [np.full((samples, traces), 200, np.uint8)])
        counts = np.zeros(traces, np.int64), np.zeros(samples, np.int64)
        (line,) = three_slices(results, results, Scaling(0, 100), *counts)
        left, right, top, bottom = line.extent
        assert right - left == traces
        assert bottom - top == (4 * samples if samples > 1 else 1)
        assert survey_page.draw(line)
    assert not recwarn.list
