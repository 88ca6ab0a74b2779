"""Lines of irregular volumes, of 2-D files, in bounded memory."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import segy_files

from saltseg.errors import InputError
from saltseg.seismic.volume import Slab, Survey

# Inline 10: crosslines 4 and 8 (6 is missing); inline 11: 2, 4, 6; inline 13 (12 is missing): 6 twice. Not sorted.
IRREGULAR = [(13, 6), (11, 4), (10, 8), (11, 2), (13, 6), (10, 4), (11, 6)]


def irregular(path: Path) -> Survey:
    """Trace n holds n + 1, -n - 1, n + 1, …; the crossline step is 2."""
    samples = [[(n + 1) * (-1) ** s for s in range(4)] for n in range(len(IRREGULAR))]
    headers = [{189: i, 193: x} for i, x in IRREGULAR]
    return Survey.open(segy_files.write(path / "a.sgy", samples, headers, code=3), 189, 193)


def test_an_irregular_volume_gives_lines_with_marked_gaps(tmp_path: Path) -> None:
    survey = irregular(tmp_path)
    assert survey.directions == ("inline", "crossline")
    assert survey.line_numbers("inline").tolist() == [10, 11, 13]
    assert survey.line_numbers("crossline").tolist() == [2, 4, 6, 8]
    first, second, third = survey.lines("inline")
    assert (first.number, first.numbers.tolist(), first.traces.tolist()) == (10, [4, 6, 8], [5, -1, 2])
    assert first.live.tolist() == [True, False, True]
    assert first.amplitudes.tolist() == [[6, 0, 3], [-6, 0, -3], [6, 0, 3], [-6, 0, -3]]
    assert second.traces.tolist() == [3, 1, 6]
    assert (third.number, third.traces.tolist()) == (13, [0])  # of two traces in a bin the first
    across = {line.number: (line.numbers.tolist(), line.traces.tolist()) for line in survey.lines("crossline")}
    assert across[4] == ([10, 11], [5, 1])
    assert across[6] == ([11, 12, 13], [6, -1, 0])
    assert survey.representatives.tolist() == [0, 1, 2, 3, 0, 5, 6]
    assert survey.grid().tolist() == [[-1, 5, -1, 2], [3, 1, 6, -1], [-1] * 4, [-1, -1, 0, -1]]


def test_sections_go_back_to_the_traces_duplicates_too(tmp_path: Path) -> None:
    survey = irregular(tmp_path)
    for direction in survey.directions:
        slab = Slab(direction, 0, survey.num_lines(direction))
        lines = survey.read(slab)
        rows = survey.rows(slab, lines, [line.amplitudes for line in lines])
        assert survey.traces(slab).tolist() == list(range(7))
        assert rows[:, 0].tolist() == [1, 2, 3, 4, 1, 6, 7]


def test_of_the_traces_in_a_bin_a_live_one_stands_for_it(tmp_path: Path) -> None:
    headers = segy_files.grid(range(4), range(4))
    headers += [headers[0], headers[0], headers[5]]
    samples = [[n + 1, -n - 1] for n in range(19)]
    samples[0] = samples[18] = [0, 0]
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", samples, headers), 189, 193)
    for direction in survey.directions:
        slab = Slab(direction, 0, 4)
        lines = survey.read(slab)
        assert (lines[0].traces[0], lines[1].traces[1]) == (16, 5)
        assert all(line.live.all() for line in lines)
        rows = survey.rows(slab, lines, [line.amplitudes for line in lines])
        assert rows[:, 0].tolist() == [17, *range(2, 17), 17, 17, 6]


def test_a_trace_with_a_number_off_the_grid_neither_widens_a_section_nor_stands_for_a_bin(tmp_path: Path) -> None:
    headers = segy_files.grid(range(10), range(500, 520, 2))
    headers[8], headers[9] = {189: 0, 193: 517}, {189: 0, 193: 516}  # 517 lies before the one that is right
    samples = [[n + 1, -n - 1] for n in range(100)]
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", samples, headers))
    assert survey.line_numbers("crossline").tolist() == list(range(500, 520, 2))
    assert survey.grid()[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, -1]
    slab = Slab("inline", 0, 10)
    lines = survey.read(slab)
    assert [line.amplitudes.shape[1] for line in lines] == [9] + [10] * 9
    assert lines[0].traces.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    rows = survey.rows(slab, lines, [line.amplitudes for line in lines])
    assert rows[7:11, 0].tolist() == [8, 10, 10, 11]


def test_slabs_hold_whole_lines_and_every_line_once(tmp_path: Path) -> None:
    survey = irregular(tmp_path)
    trace = 4 * survey.layout.samples
    assert survey.slabs("inline", 5 * trace) == [Slab("inline", 0, 2), Slab("inline", 2, 3)]
    assert survey.slabs("inline", 1) == [Slab("inline", n, n + 1) for n in range(3)]
    assert survey.slabs("crossline") == [Slab("crossline", 0, 4)]
    for bytes_ in (1, 3 * trace, 10**9):
        numbers = [line.number for line in survey.lines("crossline", bytes_)]
        assert numbers == [2, 4, 6, 8]


@pytest.mark.parametrize("name", ["f3.sgy", "f3-lsb.sgy", "Format1msb.sgy", "Format5msb.sgy", "Format5lsb.sgy"])
def test_inlines_and_crosslines_of_one_cube(name: str) -> None:
    survey = Survey.open(segy_files.public(name))
    inlines = np.stack([line.amplitudes for line in survey.lines("inline", 30_000)])
    crosslines = np.stack([line.amplitudes for line in survey.lines("crossline", 30_000)])
    assert inlines.shape == (23, 75, 18)
    assert np.array_equal(inlines, crosslines.transpose(2, 1, 0))
    segyio = pytest.importorskip("segyio")
    with segyio.open(segy_files.public("f3.sgy")) as file:
        assert np.array_equal(inlines.transpose(0, 2, 1), segyio.tools.cube(file))


def test_a_2d_line_is_sorted_by_cdp_and_its_gaps_are_marked(tmp_path: Path) -> None:
    samples = [[1, -1], [2, -2], [3, -3], [4, -4]]
    headers = [{21: cdp} for cdp in (104, 100, 102, 110)]
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", samples, headers))
    (line,) = survey.lines("line")
    assert survey.directions == ("line",)
    assert line.numbers.tolist() == [100, 102, 104, 106, 108, 110]
    assert line.amplitudes[0].tolist() == [2, 3, 1, 0, 0, 4]
    assert line.filled()[0].tolist() == [2, 3, 1, 1, 4, 4]


def test_one_crossline_is_a_line_along_the_inlines(tmp_path: Path) -> None:
    headers = [{189: n, 193: 7} for n in (3, 2, 1)]
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", [[1, 0], [2, 0], [3, 0]], headers))
    (line,) = survey.lines("line")
    assert (line.numbers.tolist(), line.amplitudes[0].tolist()) == ([1, 2, 3], [3, 2, 1])


def test_dead_traces_and_nan_are_no_amplitudes(tmp_path: Path) -> None:
    samples = [[1, -1, 2, 1], [0, 0, 0, 0], [5, 5, 5, 5], [np.nan, np.inf, 3, 3], [np.nan, 4, -np.inf, 2]]
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", samples, [{21: n} for n in range(5)]))
    (slab,) = survey.slabs("line")
    (line,) = survey.read(slab)
    assert line.live.tolist() == [True, False, False, False, True]
    assert line.amplitudes.T.tolist() == [[1, -1, 2, 1], [0] * 4, [5] * 4, [0, 0, 3, 3], [0, 4, 0, 2]]
    assert line.filled().T.tolist() == [[1, -1, 2, 1]] * 3 + [[0, 4, 0, 2]] * 2
    rows = survey.rows(slab, [line], [np.ones((4, 5), np.uint8)])
    assert rows[:, 0].tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small-ps.sgy", "prestack data .2 traces with different offsets in a bin.*; stack it first"),
        ("shot-gather.sgy", "shot gathers; name the bytes of the line numbers"),
        ("broken.sgy", "68 bytes after the last of 3 complete traces"),
    ],
)
def test_what_has_no_lines_gets_one_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Survey.open(segy_files.public(name))


def test_a_survey_can_be_sent_to_another_process(tmp_path: Path) -> None:
    survey = irregular(tmp_path)
    again = pickle.loads(pickle.dumps(survey))  # noqa: S301
    for one, other in zip(survey.lines("crossline"), again.lines("crossline"), strict=True):
        assert np.array_equal(one.amplitudes, other.amplitudes)


def test_memory_does_not_grow_with_the_survey(tmp_path: Path) -> None:
    peaks = []
    for inlines in (20, 40):
        traces = np.zeros((inlines * 10, 2000))
        traces[:, ::2] = 1
        path = segy_files.write(tmp_path / f"{inlines}.sgy", traces, segy_files.grid(range(inlines), range(10)), code=8)
        survey = Survey.open(path)
        tracemalloc.start()
        for direction in survey.directions:
            for line in survey.lines(direction, 2**19):
                assert line.amplitudes.shape[0] == 2000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
