"""Results beside the input: every byte of its headers, whole or not there, resumed with the same bytes."""

import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import segy_files

from saltseg import io
from saltseg.errors import InputError
from saltseg.seismic import traces, writer
from saltseg.seismic.formats import FORMATS
from saltseg.seismic.headers import read_layout
from saltseg.seismic.results import Results
from saltseg.seismic.traces import read_fields, read_traces
from saltseg.seismic.volume import Survey
from saltseg.seismic.writer import create, sidecar_path, write_segy, write_top_of_salt

PUBLIC = ("f3.sgy", "f3-lsb.sgy", "Format1msb.sgy", "Format5msb.sgy", "Format5lsb.sgy", "small.sgy", "small-lsb.sgy")
GRID = segy_files.grid((1, 2), (1, 2, 3))
PROBABILITIES = np.array([0, 1, 0.5, 0.25, 0.125, 0.75])[:, None] * np.ones(8)


def header_bytes(path: Path) -> bytes:
    """Everything but the samples."""
    layout = read_layout(path)
    data = path.read_bytes()
    starts = [layout.first_trace + n * layout.trace_bytes for n in range(layout.traces)]
    end = layout.first_trace + layout.traces * layout.trace_bytes
    return b"".join([data[: layout.first_trace], *(data[start : start + 240] for start in starts), data[end:]])


@pytest.mark.parametrize("name", PUBLIC)
def test_every_header_byte_of_a_public_file_stays(name: str, tmp_path: Path) -> None:
    source = segy_files.public(name)
    layout, target = read_layout(source), tmp_path / "salt.sgy"
    mask = np.random.default_rng(0).integers(0, 2, (layout.traces, layout.samples))
    write_segy(layout, target, lambda start, stop: mask[start:stop], scale=1)
    assert target.stat().st_size == source.stat().st_size
    assert header_bytes(target) == header_bytes(source)
    assert np.array_equal(read_traces(read_layout(target), np.arange(layout.traces)), mask)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("code", "half"),
    [(1, 0.5), (5, 0.5), (6, 0.5), (2, 500_000), (10, 500_000), (3, 5000), (11, 5000), (8, 64), (16, 128)],
)
def test_probabilities_are_scaled_to_the_format_and_the_sidecar_says_so(
    code: int, half: float, order: str, tmp_path: Path
) -> None:
    source = segy_files.write(
        tmp_path / "a.sgy", np.abs(segy_files.wave(6)), GRID, code=code, order=order, between=b"", after=b"tail" * 40
    )
    layout, target = read_layout(source), tmp_path / "salt.sgy"
    values = PROBABILITIES.copy()
    values[5] = np.nan
    write_segy(layout, target, lambda start, stop: values[start:stop], about={"run": "demo"})
    stored = read_traces(read_layout(target), np.arange(6))[:, 0]
    scale = FORMATS[code].probability_scale
    assert stored[:3].tolist() == [0, scale, half]
    assert stored[5] == 0  # NaN is never written
    np.testing.assert_allclose(stored[3:5], [scale / 4, scale / 8], atol=0.5 if FORMATS[code].dtype[0] != "f" else 0)
    assert target.read_bytes()[-160:] == b"tail" * 40 or layout.trailing_bytes == 0
    about = json.loads(sidecar_path(target).read_text())
    assert (about["scale"], about["sample_format"], about["run"]) == (scale, code, "demo")


def test_values_out_of_range_are_clipped(tmp_path: Path) -> None:
    source = segy_files.write(tmp_path / "a.sgy", segy_files.wave(6), GRID, code=8)
    rows = np.full((6, 8), np.inf)
    rows[0] = -3
    write_segy(read_layout(source), tmp_path / "b.sgy", lambda start, stop: rows[start:stop])
    assert read_traces(read_layout(tmp_path / "b.sgy"), np.arange(6))[:2, 0].tolist() == [0, 127]


def test_the_input_and_other_files_are_never_written_over(tmp_path: Path) -> None:
    source = segy_files.write(tmp_path / "a.sgy", segy_files.wave(6), GRID)
    layout, before = read_layout(source), source.read_bytes()
    link, other = tmp_path / "link.sgy", tmp_path / "other.sgy"
    link.symlink_to(source)
    other.write_text("mine")
    for target, message in ((source, "is the input itself"), (link, "is the input itself"), (other, "exists; choose")):
        with pytest.raises(InputError, match=message):
            write_segy(layout, target, lambda start, stop: np.zeros((stop - start, 8)))
    assert source.read_bytes() == before
    assert other.read_text() == "mine"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    source = segy_files.write(tmp_path / "a.sgy", segy_files.wave(6), GRID)

    def fail(start: int, stop: int) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_segy(read_layout(source), tmp_path / "out" / "b.sgy", fail)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("size", [1, 700, 2**26])
def test_the_result_does_not_depend_on_the_pieces(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = segy_files.write(tmp_path / "a.sgy", segy_files.wave(6), GRID, code=1, between=bytes(0))
    monkeypatch.setattr(writer, "WRITE_BYTES", size)
    write_segy(read_layout(source), tmp_path / "b.sgy", lambda start, stop: PROBABILITIES[start:stop])
    assert read_traces(read_layout(tmp_path / "b.sgy"), np.arange(6)).tolist() == PROBABILITIES.tolist()


# ---------------------------------------------------------------- resuming


def predict(results: Results, stop_after: int | None = None) -> None:
    """A stand-in for a network: |amplitude|, by the direction."""
    for slab in results.missing()[:stop_after]:
        lines = results.survey.read(slab)
        factor = {"inline": 1, "crossline": 3, "line": 1}[slab.direction]
        results.write(slab, lines, [(factor * np.abs(line.amplitudes)).astype(np.uint8) for line in lines])


def numbered(path: Path) -> Survey:
    """A volume of 6 traces with |amplitudes| 1 to 24."""
    return Survey.open(segy_files.write(path, segy_files.wave(6), GRID))


def test_directions_are_averaged(tmp_path: Path) -> None:
    survey = numbered(tmp_path / "a.sgy")
    results = Results(tmp_path / "parts", survey, "run", slab_bytes=100)
    assert len(results.slabs) == 2 + 3
    predict(results)
    expected = np.abs(segy_files.wave(6)) * 2 / 255
    np.testing.assert_allclose(results.read(np.arange(6)), expected, rtol=1e-6)
    np.testing.assert_allclose(results.read(np.array([5, 0, 0])), expected[[5, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(results.section("crossline", 1), expected[[1, 4]].T, rtol=1e-6)


def test_a_prediction_that_is_stopped_goes_on_with_the_same_result(tmp_path: Path) -> None:
    survey, target = numbered(tmp_path / "a.sgy"), tmp_path / "salt.sgy"
    whole = Results(tmp_path / "whole", survey, {"run": "demo"}, slab_bytes=100)
    predict(whole)
    predict(Results(tmp_path / "parts", survey, {"run": "demo"}, slab_bytes=100), stop_after=2)
    again = Results(tmp_path / "parts", Survey.open(survey.layout.path), {"run": "demo"}, slab_bytes=100)
    assert len(again.missing()) == 3
    with pytest.raises(InputError, match=r"no results in .*crossline-000000-\w+\.npy; run the prediction again"):
        again.read(np.arange(6))
    predict(again)
    assert again.missing() == []
    for results, name in ((whole, "whole.sgy"), (again, "salt.sgy")):
        write_segy(survey.layout, tmp_path / name, lambda a, b, r=results: r.read(np.arange(a, b)))
    assert target.read_bytes() == (tmp_path / "whole.sgy").read_bytes()


def test_results_of_another_survey_or_run_are_refused(tmp_path: Path) -> None:
    survey = numbered(tmp_path / "a.sgy")
    for _ in range(2):
        Results(tmp_path / "parts", survey, ("run", 1))
    with pytest.raises(InputError, match="holds results of another survey or other settings; remove it"):
        Results(tmp_path / "parts", survey, "other run")
    with pytest.raises(InputError, match="another survey"):
        Results(tmp_path / "parts", numbered(tmp_path / "b.sgy"), "run")


def test_a_slab_that_comes_late_harms_no_later_prediction(tmp_path: Path) -> None:
    """One was stopped and removed, while a worker still computed a slab of it."""
    survey, folder = numbered(tmp_path / "a.sgy"), tmp_path / "parts"
    late = Results(folder, survey, {"run": "first"}, slab_bytes=100)
    slab, lines = late.slabs[0], survey.read(late.slabs[0])
    sections = [np.full(line.amplitudes.shape, 9, np.uint8) for line in lines]
    io.remove(folder)
    with pytest.raises(InputError, match="was removed or moved while it was being written"):
        late.write(slab, lines, sections)
    assert not folder.exists()
    now = Results(folder, survey, {"run": "second"}, slab_bytes=100)
    late.write(slab, lines, sections)
    assert now.missing() == now.slabs


def test_a_damaged_slab_gets_one_line(tmp_path: Path) -> None:
    results = Results(tmp_path / "parts", numbered(tmp_path / "a.sgy"), "run")
    predict(results)
    (path,) = (tmp_path / "parts").glob("inline-000000-*.npy")
    for damage in (b"", path.read_bytes()[:40], path.read_bytes()[:-1]):
        path.write_bytes(damage)
        with pytest.raises(InputError, match="cannot be read as results of a slab"):
            results.read(np.arange(6))
    np.save(path, np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=r"uint8 .2, 2."):
        results.read(np.arange(6))


def test_dead_traces_and_duplicates(tmp_path: Path) -> None:
    samples = segy_files.wave(7)
    samples[1] = 0
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", samples, [*GRID, {189: 1, 193: 3}]))
    results = Results(tmp_path / "parts", survey, "run", slab_bytes=100)
    for slab in results.missing():
        lines = survey.read(slab)
        results.write(slab, lines, [np.full(line.amplitudes.shape, 255, np.uint8) for line in lines])
    assert results.read(np.arange(7))[:, 0].tolist() == [1, 0, 1, 1, 1, 1, 1]


# ---------------------------------------------------------------- top of salt, new files


def test_top_of_salt(tmp_path: Path) -> None:
    numbers = [{**header, 71: -10, 181: 123456, 185: 10 * n, 109: 100} for n, header in enumerate(GRID)]
    survey = Survey.open(segy_files.write(tmp_path / "a.sgy", segy_files.wave(6), numbers))
    mask = np.zeros((6, 8), np.uint8)
    mask[1, 3:6], mask[4, 0], mask[5, 7] = 1, 255, 1
    count = write_top_of_salt(tmp_path / "top.csv", survey, lambda start, stop: mask[start:stop])
    rows = list(csv.DictReader((tmp_path / "top.csv").open()))
    assert count == len(rows) == 3
    assert rows[0] == {"x": "12345.6", "y": "1", "inline": "1", "crossline": "2", "time_ms": "112"}  # 100 + 3 * 4
    assert [row["time_ms"] for row in rows] == ["112", "100", "128"]
    write_top_of_salt(tmp_path / "deep.csv", survey, lambda start, stop: mask[start:stop], depth=True)
    assert "depth_m" in (tmp_path / "deep.csv").read_text()
    with pytest.raises(InputError, match="exists"):
        write_top_of_salt(tmp_path / "top.csv", survey, lambda start, stop: mask[start:stop])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", FORMATS)
def test_a_new_file_equals_one_written_with_struct(code: int, order: str, tmp_path: Path) -> None:
    picture = np.abs(segy_files.wave(6))
    with create(tmp_path / "a.sgy", samples=8, interval_us=4000, sample_format=code, byte_order=order) as out:
        out.write({189: np.array([1, 1, 1, 2]), 193: np.array([1, 2, 3, 1]), 71: -10}, picture[:4])
        out.write({189: 2, 193: np.array([2, 3]), 71: -10}, picture[4:])
    expected = segy_files.write(
        tmp_path / "b.sgy", picture, [{**h, 71: -10} for h in GRID], order=order, code=code, binary={3255: ("H", 1)}
    )
    assert (tmp_path / "a.sgy").read_bytes()[3200:] == expected.read_bytes()[3200:]


def test_segyio_opens_what_is_written(tmp_path: Path) -> None:
    segyio = pytest.importorskip("segyio")
    picture = segy_files.wave(6)
    with create(tmp_path / "a.sgy", samples=8, interval_us=4000, sample_format=1, text=["HELLO"]) as out:
        out.write({189: np.array([1, 1, 1, 2, 2, 2]), 193: np.array([1, 2, 3] * 2)}, picture)
    with segyio.open(tmp_path / "a.sgy") as file:
        assert file.ilines.tolist() == [1, 2]
        assert np.array_equal(segyio.tools.cube(file).reshape(6, 8), picture)
        assert bytes(file.text[0])[:9] == b"C 1 HELLO"
        assert segyio.tools.dt(file) == 4000


def test_memory_does_not_grow_with_the_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WRITE_BYTES", 2**17)
    monkeypatch.setattr(traces, "CHUNK_BYTES", 2**17)
    peaks = []
    for inlines in (20, 40):
        numbers = segy_files.grid(range(inlines), range(10))
        path = segy_files.write(tmp_path / f"{inlines}.sgy", np.ones((len(numbers), 2000)), numbers, code=3)
        layout = read_layout(path)
        tracemalloc.start()
        read_fields(layout, (189, 193))
        write_segy(layout, tmp_path / f"{inlines}-out.sgy", lambda start, stop: np.ones((stop - start, 2000)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]
