"""Look at a SEG-Y file before trusting it: headers, geometry, amplitudes, and why it cannot be predicted, if so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saltseg.seismic import index, traces
from saltseg.seismic.amplitudes import Amplitudes, sample_amplitudes
from saltseg.seismic.axes import Axis
from saltseg.seismic.headers import ORDER_NAMES, Layout, read_layout
from saltseg.seismic.index import Candidate, Geometry
from saltseg.seismic.volume import SLAB_BYTES

PERCENTILES = (0.5, 1, 50, 99, 99.5)
INDEX_BYTES = 300  # memory a trace during a prediction
_SPIKES = 1000  # times the 99.5th percentile
_HINTS = ("INLINE", "IN-LINE", "CROSSLINE", "CROSS-LINE", "XLINE", "X-LINE", "CDP", "BYTE")


@dataclass(frozen=True)
class Bins:
    """How the traces fill the grid.

    Attributes:
        grid: bins of the smallest grid that holds all traces.
        missing: bins of it without a trace.
        holes: of those, how many lie between traces of their inline; the others are the survey's irregular edge.
        duplicates: traces whose bin another trace already has.
    """

    grid: int
    missing: int
    holes: int
    duplicates: int


@dataclass(frozen=True, eq=False)
class ScanReport:
    """What a SEG-Y file holds; ``str(report)`` is a table for a terminal.

    Attributes:
        layout: byte order, format, samples, interval.
        geometry: with the evidence for the bytes of the line numbers.
        bins: None without line numbers.
        coordinate_bytes: None where all coordinates are constant.
        coordinate_ranges: smallest and largest x, smallest and largest y, the scalar applied.
        coordinate_scalar: of the first trace.
        delay_ms: time or depth of the first sample, smallest and largest.
        amplitudes: of a sample of traces.
        pixels: that a prediction of all directions computes.
        memory_bytes: for the index and the slabs of a prediction; that of the network comes on top.
        seconds: that a prediction takes; None without a measured speed.
        notes: what to know, one sentence each.
        problems: why the file cannot be predicted; empty if it can be.
    """

    layout: Layout
    geometry: Geometry
    bins: Bins | None
    coordinate_bytes: tuple[int, int] | None
    coordinate_ranges: tuple[float, float, float, float]
    coordinate_scalar: int
    delay_ms: tuple[float, float]
    amplitudes: Amplitudes
    pixels: int
    memory_bytes: int
    seconds: float | None
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(_render(self))


def scan(
    path: Path,
    *,
    inline_byte: int | None = None,
    crossline_byte: int | None = None,
    as_line: bool = False,
    pixels_per_second: float | None = None,
    progress: Callable[[int], object] | None = None,
) -> ScanReport:
    """Read all headers and the amplitudes of a sample of traces, in bounded memory.

    Args:
        path: SEG-Y file.
        inline_byte, crossline_byte, as_line: see `saltseg.seismic.index.find_geometry`.
        pixels_per_second: measured speed of a prediction.
        progress: called with the number of trace headers read since its last call.

    Raises:
        InputError: the file cannot be read as SEG-Y at all.
    """
    layout = read_layout(path)
    chosen = tuple(byte for byte in (inline_byte, crossline_byte) if byte is not None)
    fields = traces.read_index(layout, chosen, progress)
    geometry = index.find_geometry(fields, inline_byte, crossline_byte, as_line)
    amplitudes = sample_amplitudes(layout)
    coordinate_bytes, x, y = traces.coordinates(fields)
    pixels = layout.traces * layout.samples * (2 if geometry.kind == "volume" else 1)
    samples_bytes = 4 * layout.traces * layout.samples
    return ScanReport(
        layout=layout,
        geometry=geometry,
        bins=None if geometry.chosen is None else _bins(fields, geometry.chosen),
        coordinate_bytes=coordinate_bytes,
        coordinate_ranges=(float(x.min()), float(x.max()), float(y.min()), float(y.max())),
        coordinate_scalar=int(fields[traces.COORDINATE_SCALAR][0]),
        delay_ms=geometry.delays_ms,
        amplitudes=amplitudes,
        pixels=pixels,
        memory_bytes=INDEX_BYTES * layout.traces + 3 * min(SLAB_BYTES, samples_bytes),
        seconds=None if pixels_per_second is None else pixels / pixels_per_second,
        notes=tuple(_notes(layout, fields, geometry, amplitudes)),
        problems=tuple(problems(layout, geometry, amplitudes)),
    )


def _bins(fields: traces.Fields, chosen: Candidate) -> Bins:
    i, j = chosen.positions(fields)
    rows, columns = chosen.inline.length, chosen.crossline.length
    if rows * columns > len(j) / index.SPARSE:  # a wrong number; the grid may not fit into memory
        used = index.count_bins(i, j)
        return Bins(rows * columns, rows * columns - used, 0, len(j) - used)
    occupied = np.zeros(rows * columns, bool)
    occupied[i * columns + j] = True
    used, grid = int(occupied.sum()), occupied.reshape(rows, columns)
    first, last = grid.argmax(1), columns - 1 - grid[:, ::-1].argmax(1)
    spanned = int((last - first + 1)[grid.any(1)].sum())
    return Bins(grid.size, grid.size - used, spanned - used, len(j) - used)


def _notes(layout: Layout, fields: traces.Fields, geometry: Geometry, amplitudes: Amplitudes) -> Iterator[str]:
    yield from warnings(layout, geometry, amplitudes)
    if layout.interval_ms is None:
        yield "no sample interval; times are counted in samples"
    counts, intervals = fields[115], fields[117]
    if np.ptp(counts):
        yield f"trace headers state {counts.min()} to {counts.max()} samples; {layout.samples} are read from each"
    if np.ptp(intervals):
        yield f"trace headers state intervals of {intervals.min()} to {intervals.max()} µs"
    if layout.sample_format.unsigned:
        yield "samples are unsigned; their median is taken as zero amplitude"
    largest = max(-amplitudes.minimum, amplitudes.maximum)
    if len(amplitudes.values) and largest / _SPIKES > np.percentile(np.abs(amplitudes.values), 99.5):
        yield f"spikes: the largest sample is {largest:.3g}; values are clipped at percentiles of the survey"


def warnings(layout: Layout, geometry: Geometry, amplitudes: Amplitudes) -> Iterator[str]:
    """Why a prediction may be wrong, one sentence each: numbers that contradict each other or look wrong."""
    yield from layout.notes
    if geometry.chosen is not None:
        yield from _about_bytes(geometry, geometry.chosen)
        yield from _about_numbers(geometry.chosen)
    if geometry.offsets_vary and geometry.kind in ("line", "volume"):
        yield f"offsets (byte {traces.OFFSET}) vary, as in data that is not stacked"
    first, last = geometry.delays_ms
    if first < last:
        yield f"traces begin at {first:g} to {last:g} ms; rows of a section are not aligned in time; shift them first"
    if amplitudes.looks_like:
        yield f"samples look like {amplitudes.looks_like}, the header states {layout.sample_format.name}"


def _about_bytes(geometry: Geometry, chosen: Candidate) -> Iterator[str]:
    """What speaks against the bytes of the line numbers."""
    if geometry.others:
        options = [f"--inline-byte {c.inline_byte} --crossline-byte {c.crossline_byte}" for c in geometry.others]
        yield (
            f"the line numbers at bytes {chosen.bytes} are used; others number a volume, too, and place traces "
            f"elsewhere: {' or '.join(options)}"
        )
    if chosen.misfit is not None and not chosen.fits:
        misfit = f"{chosen.misfit:.1f}" if chosen.misfit < 1000 else "over 1000"
        yield (
            f"the coordinates are {misfit} bins off a regular grid of the line numbers at bytes "
            f"{chosen.bytes}; name other bytes, or write separate lines into files of their own"
        )
    if geometry.may_be_shots:
        yield (
            f"bytes {chosen.bytes} may number shots, neither offsets nor coordinates tell; if these are shots or "
            "gathers, stack first, else name the bytes"
        )


def _about_numbers(chosen: Candidate) -> Iterator[str]:
    """Line numbers that look wrong."""
    for name, axis in (("inline", chosen.inline), ("crossline", chosen.crossline)):
        grid = f"{axis.first} to {axis.last} in steps of {axis.step}"
        if axis.astray:
            yield (
                f"traces whose {name} number is off the grid of {grid}: {axis.astray:,}; "
                "they are taken as dead traces in the nearest bin; fix their headers"
            )
        elif axis.regular < 1:
            yield (
                f"{name} numbers are irregular: {axis.regular:.1%} of the steps are multiples of the most frequent one"
                f"; the grid is {grid}"
            )


def problems(layout: Layout, geometry: Geometry, amplitudes: Amplitudes) -> Iterator[str]:
    """Why a file cannot be predicted; one clause each, with the way out."""
    yield from index.obstacles(layout, geometry)
    if amplitudes.dead == amplitudes.traces:
        yield f"all {amplitudes.traces:,} traces examined hold a single value or no number; check the file"
    elif amplitudes.one_signed and not layout.sample_format.unsigned:
        sign = "negative" if amplitudes.negative > 0.5 else "positive"
        yield f"nearly all samples are {sign}: a velocity cube or an attribute, not amplitudes; give the seismic data"


# ---------------------------------------------------------------- text


def _render(report: ScanReport) -> Iterator[str]:
    """The lines of the table."""
    layout, geometry, amplitudes = report.layout, report.geometry, report.amplitudes
    for name, value in _facts(report):
        yield f"{name:<14}{value}"
    yield ""
    yield from _candidate_table(geometry)
    yield ""
    low, first, median, last, high = amplitudes.percentiles(PERCENTILES)
    of_all = "all" if amplitudes.traces == layout.traces else f"{amplitudes.traces:,} of {layout.traces:,}"
    holes = f"{amplitudes.nan:,} with NaN, {amplitudes.infinite:,} with infinity"
    yield f"{'amplitudes':<14}{of_all} traces examined: {amplitudes.dead:,} dead, {holes}"
    extremes = f"{amplitudes.minimum:.4g} to {amplitudes.maximum:.4g}"
    yield f"{'':<14}{extremes}, {amplitudes.zero:.1%} are 0, {amplitudes.negative:.1%} of the others negative"
    yield f"{'':<14}percentiles 0.5 {low:.4g}, 1 {first:.4g}, 50 {median:.4g}, 99 {last:.4g}, 99.5 {high:.4g}"
    duration = "" if report.seconds is None else f", {_duration(report.seconds)}"
    network = f"{_size(report.memory_bytes)} of memory without the network"
    yield f"{'prediction':<14}{report.pixels:,} pixels, {network}{duration}"
    for note in report.notes:
        yield f"{'note':<14}{note}"
    for problem in report.problems:
        yield f"{'problem':<14}{problem}"
    yield f"{'verdict':<14}{'it cannot be predicted' if report.problems else 'it can be predicted'}"


def _facts(report: ScanReport) -> Iterator[tuple[str, str]]:
    layout, bins = report.layout, report.bins
    order = f"{ORDER_NAMES[layout.byte_order]} (both tried)"
    number = layout.sample_format
    revision = "revision {}.{}".format(*layout.revision) if layout.revision[0] else "no revision stated"
    encoding = "EBCDIC" if layout.ebcdic else "ASCII"
    yield "file", f"{layout.path}, {_size(layout.file_bytes)}"
    yield "SEG-Y", f"{revision}, {order}, format {number.code} ({number.name}), text header in {encoding}"
    interval = "unknown interval" if layout.interval_ms is None else f"every {layout.interval_ms:g} ms (or m)"
    start = " to ".join(f"{value:g}" for value in dict.fromkeys(report.delay_ms))
    yield "traces", f"{layout.traces:,} of {layout.samples:,} samples, {interval}, the first at {start}"
    yield "geometry", f"{report.geometry.kind}: {report.geometry.reason}"
    if bins is not None:
        share = bins.missing / bins.grid
        edge = f"{bins.holes:,} of them inside"
        yield "bins", f"{bins.grid:,}; {bins.missing:,} missing ({share:.1%}, {edge}), {bins.duplicates:,} duplicates"
    if report.coordinate_bytes is None:
        yield "coordinates", "none"
    else:
        x0, x1, y0, y1 = report.coordinate_ranges
        source = "bytes {}/{}".format(*report.coordinate_bytes)
        ranges = f"x {x0:.1f}-{x1:.1f}, y {y0:.1f}-{y1:.1f}"
        yield "coordinates", f"{source}, scalar {report.coordinate_scalar}: {ranges}"
    for line in layout.text.splitlines():
        if any(hint in line.upper() for hint in _HINTS):
            yield "text header", line.strip()


def _candidate_table(geometry: Geometry) -> Iterator[str]:
    header = ("bytes", "inline", "crossline", "own bin", "grid filled", "off grid", "")
    rows = [header]
    for c in geometry.candidates:
        misfit = "" if c.misfit is None else f"{c.misfit:.2f} bins"
        inline = "" if c.inline_byte is None else _range(c.inline)
        used = "used" if c is geometry.chosen else ""
        rows.append((c.bytes, inline, _range(c.crossline), f"{c.unique:.1%}", f"{c.filled:.1%}", misfit, used))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _range(axis: Axis) -> str:
    if axis.count == 1:
        return f"{axis.first}"
    irregular = "" if axis.regular == 1 else f", {axis.regular:.0%} regular"
    if axis.astray:
        irregular = f", {axis.astray:,} off it"
    return f"{axis.first}-{axis.last} step {axis.step} ({axis.count:,}{irregular})"


def _size(count: float) -> str:
    power = max(0, min(4, (len(f"{count:.0f}") - 1) // 3))
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
