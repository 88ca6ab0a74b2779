"""A survey as lines: sections (samples, traces) with trace numbers and marked gaps, read slab by slab."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saltseg.errors import InputError
from saltseg.seismic import index
from saltseg.seismic.axes import Axis
from saltseg.seismic.headers import Layout, read_layout
from saltseg.seismic.index import Candidate, Geometry
from saltseg.seismic.traces import Fields, coordinates, delays_ms, read_index, read_traces
from saltseg.seismic.traces import live as live_traces

_ONE = Axis(0, 0, 1, 1, 1.0)  # of lines that have no number
ACROSS = {"inline": "crossline", "crossline": "inline", "line": "trace"}  # what numbers the traces of a line
SLAB_BYTES = 64 * 2**20  # of float32 samples; reading a slab takes three times as much


@dataclass(frozen=True)
class Slab:
    """Neighboring lines that are read together.

    Attributes:
        direction: "inline", "crossline" or "line".
        start, stop: positions of the lines in that direction, ``stop`` excluded.
    """

    direction: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.direction}-{self.start:06d}"


@dataclass(frozen=True, eq=False)
class Line:
    """One section of a survey. W is the number of grid positions from its first to its last trace.

    Attributes:
        direction: "inline", "crossline" or "line".
        number: of the inline or crossline; 0 for the one line of a file.
        numbers: of the traces across the section (crossline, inline or CDP numbers), int64 (W,), gaps included.
        traces: position of each trace in the file, int64 (W,); -1 in a gap.
        amplitudes: float32 (samples, W), a view of (W, samples); 0 in gaps, and where the file has NaN or infinity.
        live: bool (W,); False for gaps, for dead traces, which hold fewer than two different finite values, and for
            traces with a number off the grid.
    """

    direction: str
    number: int
    numbers: np.ndarray
    traces: np.ndarray
    amplitudes: np.ndarray
    live: np.ndarray

    def filled(self) -> np.ndarray:
        """The amplitudes with gaps and dead traces replaced by the nearest live trace, float32 (samples, W).

        An edge of zeros would look like a steep boundary to a network.
        """
        return self.amplitudes if self.live.all() else self.amplitudes[:, self.nearest_live()]

    def nearest_live(self) -> np.ndarray:
        """For each column the nearest one with a live trace, int64 (W,); itself where no trace is live."""
        columns, live = np.arange(len(self.live)), np.flatnonzero(self.live)
        if not len(live):
            return columns
        right = np.searchsorted(live, columns).clip(max=len(live) - 1)
        left = (right - 1).clip(min=0)
        nearer_left = np.abs(columns - live[left]) <= np.abs(live[right] - columns)
        return np.where(nearer_left, live[left], live[right])


class Survey:
    """The lines of a SEG-Y file. It holds about 100 bytes a trace and no open file, and can be pickled.

    Attributes:
        layout: of the file.
        geometry: with the bytes in use.
        directions: ("inline", "crossline"), or ("line",).
        inlines, crosslines: number of each trace as stored, int32 (traces,); 0 and the position for a line in the order
            of the file.
        x, y: coordinates of each trace, the scalar applied, float64 (traces,).
        delays_ms: time or depth of the first sample of each trace, float64 (traces,).
        representatives: for each trace the first one in its bin, int64 (traces,); it names the bin and may be dead.
        arguments: of `open`, for another process to read it again.
    """

    arguments: tuple[Path, int | None, int | None, bool]

    def __init__(self, layout: Layout, fields: Fields, geometry: Geometry) -> None:
        if found := index.obstacles(layout, geometry):
            raise InputError(f"{layout.path} cannot be read line by line: {found[0]}")
        self.layout, self.geometry = layout, geometry
        _, self.x, self.y = coordinates(fields)
        self.delays_ms = delays_ms(fields)
        self.inlines, self.crosslines, inline, crossline = _line_numbers(layout.traces, fields, geometry.chosen)
        i, j = inline.positions(self.inlines), crossline.positions(self.crosslines)
        self._astray = inline.strays(self.inlines) | crossline.strays(self.crosslines)
        if geometry.kind == "volume":
            self._orders = {"inline": _Order(i, j, inline, crossline), "crossline": _Order(j, i, crossline, inline)}
        else:
            across, axis = (i, inline) if inline.count > crossline.count else (j, crossline)
            self._orders = {"line": _Order(np.zeros_like(across), across, _ONE, axis)}
        self.directions = tuple(self._orders)
        self.representatives = self._orders[self.directions[0]].representatives()

    @classmethod
    def open(
        cls,
        path: Path,
        inline_byte: int | None = None,
        crossline_byte: int | None = None,
        as_line: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> "Survey":
        """Read the headers of a SEG-Y file; for the arguments see `saltseg.seismic.index.find_geometry`.

        Raises:
            InputError: no SEG-Y, cut short, prestack, or without line numbers.
        """
        layout = read_layout(path)
        chosen = tuple(byte for byte in (inline_byte, crossline_byte) if byte is not None)
        fields = read_index(layout, chosen, progress)
        survey = cls(layout, fields, index.find_geometry(fields, inline_byte, crossline_byte, as_line))
        survey.arguments = path.absolute(), inline_byte, crossline_byte, as_line
        return survey

    def num_lines(self, direction: str) -> int:
        """Lines that have traces."""
        return len(self._orders[direction].lines)

    def line_numbers(self, direction: str) -> np.ndarray:
        """Numbers of the lines that have traces, int64, rising."""
        order = self._orders[direction]
        return order.along.numbers(order.lines)

    def slab(self, direction: str, number: int) -> Slab:
        """The line with this number alone; raises InputError where there is none."""
        numbers = self.line_numbers(direction)
        position = int(np.searchsorted(numbers, number))
        if position == len(numbers) or numbers[position] != number:
            raise InputError(
                f"{self.layout.path} has no {direction} {number}: it has {len(numbers):,}, "
                f"{numbers[0]} to {numbers[-1]}; choose one of them"
            )
        return Slab(direction, position, position + 1)

    def slabs(self, direction: str, max_bytes: int = SLAB_BYTES) -> list[Slab]:
        """All lines of a direction in slabs of at most ``max_bytes`` of float32 samples, or of one line."""
        ends = self._orders[direction].starts
        most = max(1, max_bytes // (4 * self.layout.samples))
        slabs, start = [], 0
        while start < len(ends) - 1:
            stop = max(start + 1, int(np.searchsorted(ends, ends[start] + most, "right")) - 1)
            slabs.append(Slab(direction, start, stop))
            start = stop
        return slabs

    def columns(self, direction: str, line: int, dead: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`Line.numbers` and `Line.traces` of the line at a position, without reading samples.

        Of several traces in a bin the first stands there, or the first that is not among ``dead``, int (n,).
        """
        order = self._orders[direction]
        positions, traces = order.line(line)
        grid = np.arange(positions[0], positions[-1] + 1)
        avoided = np.zeros(len(traces), bool) if dead is None else np.isin(traces, dead)
        return order.across.numbers(grid), _placed(len(grid), positions - positions[0], traces, avoided)

    def grid(self) -> np.ndarray:
        """Trace in each bin of a volume, int64 (inlines, crosslines); -1 in empty bins.

        Of several traces the first with numbers on the grid stands there. It may be dead: no samples are read for this.
        """
        chosen = self.geometry.chosen
        assert chosen is not None
        shape = chosen.inline.length, chosen.crossline.length
        i, j = chosen.inline.positions(self.inlines), chosen.crossline.positions(self.crosslines)
        return _placed(shape[0] * shape[1], i * shape[1] + j, np.arange(len(i)), self._astray).reshape(shape)

    def vertical_axis(self, depth: bool = False) -> tuple[str, float, float]:
        """Label of the samples, the number of the first and the step between them; depth: in meters, not time."""
        interval = self.layout.interval_ms
        if interval is None:
            return "sample", 0.0, 1.0
        return "depth (m)" if depth else "time (ms)", float(self.delays_ms[0]), interval

    def traces(self, slab: Slab) -> np.ndarray:
        """All traces in a slab, duplicates too, int64 in rising order."""
        order = self._orders[slab.direction]
        return np.sort(order.traces[order.starts[slab.start] : order.starts[slab.stop]])

    def read(self, slab: Slab) -> list[Line]:
        """Read the lines of a slab; raises InputError where the file cannot be read."""
        wanted = self.traces(slab)
        rows = read_traces(self.layout, wanted)
        live = live_traces(rows) & ~self._astray[wanted]
        bad = ~np.isfinite(rows).all(1)
        rows[bad] = np.nan_to_num(rows[bad], nan=0, posinf=0, neginf=0)
        columns = [self.columns(slab.direction, line, wanted[~live]) for line in range(slab.start, slab.stop)]
        numbers = self.line_numbers(slab.direction)[slab.start : slab.stop]
        return [
            _line(slab.direction, int(number), *pair, wanted, rows, live)
            for number, pair in zip(numbers, columns, strict=True)
        ]

    def lines(self, direction: str, max_bytes: int = SLAB_BYTES) -> Iterator[Line]:
        """All lines of a direction, in memory of one slab."""
        for slab in self.slabs(direction, max_bytes):
            yield from self.read(slab)

    def rows(self, slab: Slab, lines: Sequence[Line], sections: Sequence[np.ndarray]) -> np.ndarray:
        """From sections back to traces: the values of `traces(slab)`.

        Args:
            slab: of the lines.
            lines: of `read`.
            sections: for each line (samples, W), all of one dtype.

        Returns:
            (n, samples) of that dtype; 0 in bins without a live trace. Duplicates get the values of their bin.
        """
        traces = self.traces(slab)
        rows = np.zeros((len(traces), self.layout.samples), sections[0].dtype)
        for line, section in zip(lines, sections, strict=True):
            assert section.shape == line.amplitudes.shape, f"{section.shape} for a line {line.amplitudes.shape}"
            rows[np.searchsorted(traces, self.representatives[line.traces[line.live]])] = section[:, line.live].T
        return rows[np.searchsorted(traces, self.representatives[traces])]


def _placed(length: int, at: np.ndarray, traces: np.ndarray, avoided: np.ndarray) -> np.ndarray:
    """Traces at their positions ``at``, int64 (length,), -1 elsewhere; the first, or first not avoided, of several."""
    placed = np.full(length, -1, np.int64)
    for part in (avoided, ~avoided):
        placed[at[part][::-1]] = traces[part][::-1]  # what is written last stays
    return placed


def _line_numbers(traces: int, fields: Fields, chosen: Candidate | None) -> tuple[np.ndarray, np.ndarray, Axis, Axis]:
    """Inline and crossline number of each trace, and their axes."""
    nothing = np.zeros(traces, np.int32)
    if chosen is None:
        return nothing, np.arange(traces, dtype=np.int32), _ONE, Axis(0, traces - 1, 1, traces, 1.0)
    inlines = nothing if chosen.inline_byte is None else fields[chosen.inline_byte]
    return inlines, fields[chosen.crossline_byte], chosen.inline, chosen.crossline


def _line(
    direction: str,
    number: int,
    numbers: np.ndarray,
    traces: np.ndarray,
    wanted: np.ndarray,
    rows: np.ndarray,
    row_live: np.ndarray,
) -> Line:
    """A line from the samples (n, samples) of the traces ``wanted``."""
    source = np.searchsorted(wanted, traces)
    source[traces < 0] = 0
    amplitudes, live = rows[source], row_live[source] & (traces >= 0)
    amplitudes[traces < 0] = 0
    return Line(direction, number, numbers, traces, amplitudes.T, live)


class _Order:
    """Traces sorted by line, then across it, then by their place in the file.

    Args:
        i: position of each trace's line, int64 (traces,) from 0.
        j: its position in that line, int64 (traces,) from 0.
        along: the numbers of the lines.
        across: the numbers of the traces in a line.
    """

    def __init__(self, i: np.ndarray, j: np.ndarray, along: Axis, across: Axis) -> None:
        self.along, self.across = along, across
        width = int(j.max()) + 1
        key = i * width + j
        self.traces = np.argsort(key, kind="stable")
        self._key, self._width = key[self.traces], width
        sorted_lines = self._key // width
        self.starts = np.append(np.flatnonzero(np.diff(sorted_lines, prepend=-1)), len(key))
        self.lines = sorted_lines[self.starts[:-1]]

    def line(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions across the line at a position, rising, and the traces there."""
        part = slice(self.starts[number], self.starts[number + 1])
        return self._key[part] % self._width, self.traces[part]

    def representatives(self) -> np.ndarray:
        """For each trace the first in the file that shares its bin."""
        first = np.flatnonzero(np.diff(self._key, prepend=-1))
        result = np.empty_like(self.traces)
        result[self.traces] = np.repeat(self.traces[first], np.diff(np.append(first, len(self._key))))
        return result
