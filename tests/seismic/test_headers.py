"""Layout and header fields; files that lie about themselves."""

import os
from pathlib import Path

import numpy as np
import pytest
import segy_files

from saltseg.errors import InputError
from saltseg.seismic import traces
from saltseg.seismic.headers import read_layout
from saltseg.seismic.traces import read_fields, read_records, read_traces

GRID = segy_files.grid((1, 2), (1, 2, 3))
WAVE = segy_files.wave(6)


def test_the_binary_header_counts_where_trace_headers_are_wrong(tmp_path: Path) -> None:
    path = segy_files.write(tmp_path / "a.sgy", WAVE, [{**header, 115: 462, 117: 2000} for header in GRID])
    layout = read_layout(path)
    assert (layout.samples, layout.traces, layout.interval_ms) == (8, 6, 4)
    assert any("462 samples" in note for note in layout.notes)
    assert any("2000 µs" in note for note in layout.notes)


def test_trace_headers_count_where_the_binary_header_is_wrong(tmp_path: Path) -> None:
    numbers = [{**header, 115: 8} for header in GRID]
    for wrong in (0, 9):
        path = segy_files.write(tmp_path / "a.sgy", WAVE, numbers, binary={3221: ("H", wrong)})
        layout = read_layout(path)
        assert (layout.samples, layout.traces, layout.trailing_bytes) == (8, 6, 0)


@pytest.mark.parametrize(
    ("binary", "trace", "expected"), [(0, 2000, 2), (-4000, 2000, 2), (0, 0, None), (-1, -1, None)]
)
def test_zero_and_negative_intervals(binary: int, trace: int, expected: float | None, tmp_path: Path) -> None:
    numbers = [{**header, 117: trace} for header in GRID]
    layout = read_layout(segy_files.write(tmp_path / "a.sgy", WAVE, numbers, binary={3217: ("h", binary)}))
    assert layout.interval_ms == expected
    assert any(f"interval of {binary}" in note for note in layout.notes)


def test_extended_text_headers_are_skipped_counted_or_up_to_the_end_stanza(tmp_path: Path) -> None:
    extra = b" " * 3200 + "((SEG: EndText))".ljust(3200).encode("cp037")
    for count in (2, -1):
        path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID, binary={3505: ("h", count)}, between=extra)
        layout = read_layout(path)
        assert (layout.first_trace, layout.traces, layout.trailing_bytes) == (10_000, 6, 0)
        assert np.array_equal(read_traces(layout, np.array([5]))[0], WAVE[5])


def test_a_file_of_revision_0_has_extended_text_headers_only_where_there_is_text(tmp_path: Path) -> None:
    old: dict[int, tuple[str, float]] = {3501: ("B", 0), 3503: ("H", 0)}
    for count in (3, -1, 30000):
        layout = read_layout(segy_files.write(tmp_path / "a.sgy", WAVE, GRID, binary={**old, 3505: ("h", count)}))
        assert (layout.revision, layout.first_trace, layout.traces) == ((0, 0), 3600, 6)
        assert any(f"bytes 3505-3506 hold {count}" in note for note in layout.notes)
    # One that fits: 3,200 bytes of traces.
    wave = segy_files.wave(6, 1000)
    layout = read_layout(segy_files.write(tmp_path / "a.sgy", wave, GRID, binary={**old, 3505: ("h", 1)}))
    assert (layout.first_trace, layout.traces) == (3600, 6)
    text = "A LINE OF TEXT".ljust(3200).encode("cp037")
    path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID, binary={**old, 3505: ("h", 2)}, between=2 * text)
    assert (read_layout(path).first_trace, read_layout(path).traces) == (10_000, 6)


@pytest.mark.parametrize("encoding", ["ascii", "cp037"])
@pytest.mark.parametrize(("characters", "texts"), [(1000, 1), (80, 1), (79, 0), (0, 0)])
def test_nul_bytes_pad_a_text_header_and_are_none_alone(
    characters: int, texts: int, encoding: str, tmp_path: Path
) -> None:
    old: dict[int, tuple[str, float]] = {3501: ("B", 0), 3503: ("H", 0), 3505: ("h", 1)}
    text = ("A line of text " * 100)[:characters].encode(encoding).ljust(3200, b"\0")
    layout = read_layout(segy_files.write(tmp_path / "a.sgy", WAVE, GRID, binary=old, between=text))
    assert layout.first_trace == 3600 + 3200 * texts
    assert any("bytes 3505-3506 hold 1" in note for note in layout.notes) == (not texts)


def test_the_last_text_header_is_sought_among_a_hundred(tmp_path: Path) -> None:
    path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID, binary={3505: ("h", -1)}, between=b" " * 3200 * 101)
    with pytest.raises(InputError, match="none of the first 100 does; write their number there"):
        read_layout(path)


def test_revision_2_extended_counts_interval_offset_and_trailer(tmp_path: Path) -> None:
    binary: dict[int, tuple[str, float]] = {3501: ("B", 2), 3221: ("H", 0), 3269: ("I", 8), 3273: ("d", 1500.5)}
    binary |= {3521: ("Q", 3700), 3529: ("i", 1)}
    path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID, binary=binary, between=bytes(100), after=bytes(3200))
    layout = read_layout(path)
    assert (layout.revision, layout.samples, layout.traces, layout.interval_ms) == ((2, 0), 8, 6, 1.5005)
    assert (layout.first_trace, layout.trailing_bytes) == (3700, 0)


@pytest.mark.parametrize(
    ("name", "revision", "order"),
    [("f3.sgy", (1, 0), ">"), ("f3-lsb.sgy", (1, 0), "<"), ("Format1msb.sgy", (1, 0), ">"), ("small.sgy", (0, 0), ">")],
)
def test_public_files(name: str, revision: tuple[int, int], order: str) -> None:
    layout = read_layout(segy_files.public(name))
    assert (layout.revision, layout.byte_order, layout.ebcdic) == (revision, order, True)


def test_text_headers_in_ascii_and_ebcdic() -> None:
    ascii_layout = read_layout(segy_files.public("delay-scalar.sgy"))
    assert not ascii_layout.ebcdic
    assert "ILINE 189" in ascii_layout.text
    assert "crosslines: 875 .. 892" in read_layout(segy_files.public("f3.sgy")).text


def test_a_file_that_is_cut_short_is_read_up_to_its_last_whole_trace(tmp_path: Path) -> None:
    path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID)
    os.truncate(path, path.stat().st_size - 10)
    layout = read_layout(path)
    assert (layout.traces, layout.trailing_bytes) == (5, 240 + 4 * 8 - 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "no SEG-Y file .*; check the path"),
        (lambda path: os.truncate(path, 3600), "3,600 bytes, fewer than its headers"),
        (lambda path: os.truncate(path, 3860), "no complete trace of 8 samples"),
        (lambda path: path.write_bytes(b"P" * 9999), "no SEG-Y file: sample format 20560"),
        (lambda path: (path.unlink(), path.mkdir()), "a folder"),
    ],
)
def test_what_is_no_segy_gets_one_line(change: object, message: str, tmp_path: Path) -> None:
    path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID)
    change(path)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        read_layout(path)


@pytest.mark.parametrize(
    ("binary", "message"),
    [
        ({3225: ("H", 4)}, "format 4 .fixed point with gain.; write it as IEEE float"),
        ({3225: ("H", 14)}, "format 14 .unknown."),
        ({3221: ("H", 0)}, "states no number of samples"),
        ({3505: ("h", 3)}, "cut short: no trace after 13,200 bytes"),
        ({3501: ("B", 2), 3507: ("i", 1)}, "1 additional trace headers"),
    ],
)
def test_headers_that_cannot_be_followed(binary: dict[int, tuple[str, float]], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_layout(segy_files.write(tmp_path / "a.sgy", WAVE, GRID, binary=binary))


@pytest.mark.parametrize("chunk", [1, 600, 10**6])
@pytest.mark.parametrize("order", "<>")
def test_fields_and_samples_do_not_depend_on_the_chunks(
    order: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [{**header, 71: -100, 5: 10**9 + n} for n, header in enumerate(GRID)]
    layout = read_layout(segy_files.write(tmp_path / "a.sgy", WAVE, numbers, order=order))
    monkeypatch.setattr(traces, "CHUNK_BYTES", chunk)
    done: list[int] = []
    fields = read_fields(layout, (5, 71, 193), done.append)
    assert fields[5].tolist() == [10**9 + n for n in range(6)]
    assert fields[71].tolist() == [-100] * 6
    assert fields[193].tolist() == [1, 2, 3, 1, 2, 3]
    assert sum(done) == 6
    some = np.array([0, 1, 2, 4, 5])
    assert np.array_equal(read_traces(layout, some), WAVE[some])
    assert read_traces(layout, some[:0]).shape == (0, 8)


def test_a_field_outside_of_the_header(tmp_path: Path) -> None:
    layout = read_layout(segy_files.write(tmp_path / "a.sgy", WAVE, GRID))
    for byte in (0, 238):
        with pytest.raises(InputError, match=f"header byte {byte}: .* use 1 to 237"):
            read_fields(layout, (byte,))


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID)
    layout = read_layout(path)
    with layout.opened() as file:
        os.truncate(path, 4000)
        file.seek(layout.first_trace)
        with pytest.raises(InputError, match="became shorter"):
            read_records(file, layout, layout.record, 6)
    for read in (lambda: read_fields(layout, (189,)), lambda: read_traces(layout, np.arange(6))):
        with pytest.raises(InputError, match=r"a\.sgy was changed while it was read; leave it alone and rerun"):
            read()


def test_another_file_of_the_same_name_and_size_is_not_read(tmp_path: Path) -> None:
    path, other = (segy_files.write(tmp_path / name, WAVE * sign, GRID) for name, sign in (("a.sgy", 1), ("b.sgy", -1)))
    layout = read_layout(path)
    os.utime(other, ns=(0, layout.version[0]))
    other.replace(path)
    assert path.stat().st_size == layout.file_bytes
    with pytest.raises(InputError, match="was changed while it was read"):
        read_traces(layout, np.arange(6))


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = segy_files.write(tmp_path / "a.sgy", WAVE, GRID)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xff3.sgy"))
    path.rename(odd)
    with pytest.raises(InputError, match=r"a file is named 'f\\udcff3.sgy', which no record can hold; rename it"):
        read_layout(odd)
