"""The report about a file: worked-out counts, reasons why it cannot be predicted."""

import os
from pathlib import Path

import numpy as np
import pytest
import segy_files

from saltseg.errors import InputError
from saltseg.seismic import amplitudes
from saltseg.seismic.amplitudes import sample_amplitudes
from saltseg.seismic.headers import read_layout
from saltseg.seismic.scan import Bins, scan, warnings
from saltseg.seismic.volume import Survey

RNG = np.random.default_rng(0)
BYTES = ("inline_byte", "crossline_byte")


def test_a_real_file() -> None:
    report = scan(segy_files.public("f3.sgy"), pixels_per_second=1000)
    assert report.problems == ()
    assert report.bins == Bins(grid=414, missing=0, holes=0, duplicates=0)
    assert (report.coordinate_bytes, report.coordinate_scalar, report.delay_ms) == ((181, 185), -10, (4, 4))
    assert report.coordinate_ranges == pytest.approx((620181.9, 620622.1, 6074232.9, 6074794.7), abs=0.3)
    assert (report.amplitudes.minimum, report.amplitudes.maximum) == (-10239, 10827)
    assert (report.amplitudes.traces, report.amplitudes.dead) == (414, 0)
    assert report.pixels == 2 * 23 * 18 * 75
    assert report.seconds == pytest.approx(62.1)
    text = str(report)
    for part in ("big-endian", "format 3 (int16)", "every 4 ms", "111-133 step 1 (23)", "62 seconds", "462 samples"):
        assert part in text
    assert text.splitlines()[-1].endswith("it can be predicted")


def test_the_report_of_one_picture_is_the_same_in_each_format() -> None:
    names = ("f3.sgy", "f3-lsb.sgy", "Format1msb.sgy", "Format3msb.sgy", "Format5msb.sgy", "Format5lsb.sgy")
    reports = [scan(segy_files.public(name)) for name in names]
    assert len({(r.bins, r.amplitudes.negative, *r.amplitudes.percentiles((1, 50, 99))) for r in reports}) == 1
    assert [r.layout.byte_order for r in reports] == [">", "<", ">", ">", ">", "<"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("small-ps.sgy", "prestack"),
        ("1xN.sgy", "prestack"),
        ("shot-gather.sgy", "shot gathers"),
        ("broken.sgy", "cut short"),
        ("delay-scalar.sgy", "a single trace"),
        ("small.sgy", "nearly all samples are positive"),
    ],
)
def test_public_files_that_cannot_be_predicted(name: str, problem: str) -> None:
    report = scan(segy_files.public(name))
    assert any(problem in text for text in report.problems)
    assert str(report).splitlines()[-1].endswith("it cannot be predicted")


def test_bins_dead_traces_and_nan_are_counted(tmp_path: Path) -> None:
    samples = RNG.normal(size=(18, 40))
    headers = segy_files.grid((1, 2, 3), range(10, 16))
    samples[3], samples[4], samples[5, 7], samples[6, 8], samples[6, 9] = 0, 3, np.nan, np.inf, np.nan
    # Bins (1, 12) inside and (3, 15) at the edge are left out; (2, 10) is there twice.
    keep = [n for n in range(18) if headers[n] not in ({189: 1, 193: 12}, {189: 3, 193: 15})]
    samples, headers = samples[[*keep, 6]], [headers[n] for n in (*keep, 6)]
    report = scan(segy_files.write(tmp_path / "a.sgy", samples, headers))
    assert report.bins == Bins(grid=18, missing=2, holes=1, duplicates=1)
    found = report.amplitudes
    assert (found.traces, found.dead, found.nan, found.infinite) == (17, 2, 3, 2)
    assert np.isfinite(found.values).all()
    finite = samples[np.isfinite(samples)].astype(np.float32)
    assert (found.minimum, found.maximum) == (finite.min(), finite.max())
    assert report.problems == ()


def test_one_signed_and_constant_data_are_refused(tmp_path: Path) -> None:
    headers = segy_files.grid(range(3), range(3))
    velocities = RNG.uniform(1500, 4500, (9, 50))
    for sign, word in ((1, "positive"), (-1, "negative")):
        report = scan(segy_files.write(tmp_path / "a.sgy", sign * velocities, headers))
        assert any(f"nearly all samples are {word}: a velocity cube" in text for text in report.problems)
    report = scan(segy_files.write(tmp_path / "a.sgy", velocities / 10, headers, code=11))
    assert report.problems == ()  # this format has no sign
    assert any("unsigned" in note for note in report.notes)
    report = scan(segy_files.write(tmp_path / "a.sgy", np.ones((9, 50)), headers))
    assert any("all 9 traces examined hold a single value" in text for text in report.problems)


@pytest.mark.parametrize("filler", [1e30, -999.25, 0, np.nan])
def test_what_fills_dead_traces_is_no_amplitude(filler: float, tmp_path: Path) -> None:
    samples, headers = RNG.normal(size=(20, 50)), segy_files.grid(range(4), range(5))
    samples[::3] = filler
    report = scan(segy_files.write(tmp_path / "a.sgy", samples, headers))
    live = samples[[n for n in range(20) if n % 3]].astype(np.float32)
    found = report.amplitudes
    assert found.dead == 7
    assert np.array_equal(np.sort(found.values), np.sort(live.ravel()))
    assert (found.minimum, found.maximum) == (live.min(), live.max())
    assert not any("spikes" in note for note in report.notes)


@pytest.mark.parametrize("filler", [np.nan, np.inf])
def test_a_file_without_numbers_is_refused(filler: float, tmp_path: Path) -> None:
    samples, headers = np.full((9, 50), filler), segy_files.grid(range(3), range(3))
    samples[:, 7] = 5  # one number is no picture
    report = scan(segy_files.write(tmp_path / "a.sgy", samples, headers))
    assert report.amplitudes.dead == 9
    assert any("all 9 traces examined hold a single value or no number" in text for text in report.problems)


def test_numbers_off_the_grid_are_noted(tmp_path: Path) -> None:
    headers = segy_files.grid(range(10), range(500, 540, 2))
    headers[30] = {189: 1, 193: 777}
    report = scan(segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(200, 4)), headers))
    assert report.bins == Bins(grid=200, missing=1, holes=1, duplicates=1)
    assert any("crossline number is off the grid of 500 to 538 in steps of 2: 1;" in note for note in report.notes)
    headers = segy_files.grid(range(10), [*range(500, 520, 2), *range(521, 541, 2)])
    report = scan(segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(200, 4)), headers))
    assert any("94.7% of the steps are multiples of the most frequent" in note for note in report.notes)  # 18 of 19
    assert any("500 to 539 in steps of 1" in note for note in report.notes)


def test_ibm_and_ieee_floats_that_are_mixed_up_are_noticed(tmp_path: Path) -> None:
    samples, headers = RNG.normal(0, 100, (25, 500)), segy_files.grid(range(5), range(5))
    for code, other, name in ((1, 5, "IBM float"), (5, 1, "IEEE float")):
        path = segy_files.write(tmp_path / "a.sgy", samples, headers, code=code)
        assert scan(path).amplitudes.looks_like == ""
        with path.open("r+b") as file:
            file.seek(3224)
            file.write(bytes([0, other]))
        assert any(f"samples look like {name}" in note for note in scan(path).notes)


def test_notes_name_what_varies(tmp_path: Path) -> None:
    headers = [
        {189: i, 193: x, 109: 4 * i, 115: 50 + x, 117: 2000 + x, 37: x} for i in range(4) for x in (0, 10, 20, 33)
    ]
    samples = RNG.normal(size=(16, 50))
    samples[0, 0] = 1e9
    notes = " / ".join(scan(segy_files.write(tmp_path / "a.sgy", samples, headers)).notes)
    for part in ("50 to 83 samples", "2000 to 2033 µs", "begin at 0 to 12 ms", "offsets (byte 37) vary", "spikes"):
        assert part in notes
    assert "crossline numbers are irregular" in notes


def warned(path: Path, *bytes_: int) -> list[str]:
    """What a prediction and its record warn of; the report has each sentence once."""
    survey, notes = Survey.open(path, *bytes_), scan(path, **dict(zip(BYTES, bytes_, strict=False))).notes
    found = list(warnings(survey.layout, survey.geometry, sample_amplitudes(survey.layout)))
    assert [notes.count(text) for text in found] == [1] * len(found)
    return found


def test_other_bytes_that_number_a_volume_are_warned_of(tmp_path: Path) -> None:
    headers = [{189: i, 193: i % 3 + x, 17: i, 13: x, 9: x, 21: i} for i in range(6) for x in range(8)]
    (found,) = warned(segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(48, 4)), headers))
    assert "bytes 189/193 are used" in found
    assert found.endswith("--inline-byte 9 --crossline-byte 21 or --inline-byte 17 --crossline-byte 13")
    assert warned(tmp_path / "a.sgy", 17, 13) == []


def test_coordinates_that_contradict_the_line_numbers_are_warned_of(tmp_path: Path) -> None:
    first = [{189: 1, 193: k, 181: 1000 + 25 * k} for k in range(1, 31)]
    second = [{189: 2, 193: k, 181: 90_000, 185: 7000 + 31 * k} for k in range(1, 36)]  # at a right angle, far away
    path = segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(65, 4)), first + second)
    for bytes_ in ((), (189, 193)):
        (found,) = warned(path, *bytes_)
        assert "bins off a regular grid of the line numbers at bytes 189/193; name other bytes" in found


@pytest.mark.parametrize(("shift", "count"), [(40, 0), (120, 1)])
def test_coordinates_may_be_half_a_bin_off(shift: int, count: int, tmp_path: Path) -> None:
    # Every other crossline lies aside, in bins of 100: 0.2 or 0.6 bins from the grid in the middle.
    headers = [{189: i, 193: x, 181: 100 * x, 185: 100 * i + shift * (x % 2)} for i in range(6) for x in range(8)]
    assert len(warned(segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(48, 4)), headers))) == count


def test_what_may_be_shots_is_warned_of(tmp_path: Path) -> None:
    headers = [{17: shot, 13: channel} for shot in range(8) for channel in range(12)]
    path = segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(96, 4)), headers)
    (found,) = warned(path)
    assert "bytes 17/13 may number shots" in found
    assert "if these are shots or gathers, stack first" in found
    assert warned(path, 17, 13) == []


def test_delays_that_vary_are_warned_of(tmp_path: Path) -> None:
    headers = [{189: 1, 193: k, 109: 0 if k < 30 else 2000, 215: -10} for k in range(60)]
    (found,) = warned(segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(60, 4)), headers))
    assert "traces begin at 0 to 200 ms" in found
    assert warned(segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(30, 4)), headers[30:])) == []


@pytest.mark.parametrize(("offset", "bytes_"), [(7, (None, None)), (7, (9, 21)), (0, (9, 21))])
def test_offsets_that_vary_are_warned_of(offset: int, bytes_: tuple[int | None, int | None], tmp_path: Path) -> None:
    inline, crossline = (9, 21) if bytes_[0] else (189, 193)
    headers = [{inline: i, crossline: x, 37: 100 + offset * x} for i in range(4) for x in range(5)]
    path = segy_files.write(tmp_path / "a.sgy", RNG.normal(size=(20, 4)), headers)
    report = scan(path, inline_byte=bytes_[0], crossline_byte=bytes_[1])
    assert report.problems == ()
    survey = Survey.open(path, *bytes_)
    found = list(warnings(survey.layout, survey.geometry, report.amplitudes))
    assert sum("offsets (byte 37) vary" in text for text in found) == (offset > 0)
    assert sum("offsets (byte 37) vary" in text for text in report.notes) == (offset > 0)


def test_the_sample_of_traces_is_bounded_spread_and_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.arange(1, 1001)[:, None] * np.array([1, -1, 1, -1])
    path = segy_files.write(tmp_path / "a.sgy", samples, segy_files.grid(range(10), range(100)), code=2)
    assert sample_amplitudes(read_layout(path)).traces == 1000
    monkeypatch.setattr(amplitudes, "MAX_VALUES", 300)
    monkeypatch.setattr(amplitudes, "MAX_TRACES", 256)
    found = sample_amplitudes(read_layout(path))
    assert (found.traces, found.minimum, found.maximum) == (256, -1000, 1000)  # four blocks of 64, both ends among them
    assert len(found.values) == 300
    assert np.array_equal(found.values, sample_amplitudes(read_layout(path)).values)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_headers_never_raise_anything_but_one_line(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    headers = [{**header, 71: -10, 181: n, 185: 2 * n} for n, header in enumerate(segy_files.grid((1, 2), (1, 2, 3)))]
    path = segy_files.write(tmp_path / "a.sgy", segy_files.wave(6), headers, order="<>"[seed % 2])
    whole = path.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        for at in (int(rng.integers(3200, 3600)), int(rng.integers(3600, 3840)), int(rng.integers(len(whole)))):
            damaged[at] = int(rng.choice([0, 1, 128, 255]))
        path.write_bytes(damaged)
        if rng.random() < 0.2:
            os.truncate(path, int(rng.integers(len(whole))))
        report, refusal = None, ""
        try:
            report = scan(path)
            Survey.open(path)
        except InputError as error:
            refusal = str(error)
        assert "\n" not in refusal
        assert report is None or str(report)
        assert report is None or not refusal or any(problem in refusal for problem in report.problems)
