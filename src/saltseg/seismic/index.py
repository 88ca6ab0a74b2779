"""Which trace lies where: line numbers from the trace headers, with the evidence for each choice.

Nothing assumes a full grid or an order of the traces. A bin is an inline and a crossline number. Where several traces
lie in one bin, the first live one stands for it in a section. In a time slice, for which whole traces are not read, the
first one with numbers on the grid does, even if it is dead.
"""

from dataclasses import dataclass, replace

import numpy as np

from saltseg.errors import InputError
from saltseg.seismic.axes import Axis, axis, distinct
from saltseg.seismic.headers import Layout
from saltseg.seismic.traces import CHANNEL, OFFSET, RECORD, Fields, coordinates, delays_ms

# Inline and crossline bytes in use: revision 1, then what older files and programs have.
PAIRS = ((189, 193), (5, 21), (9, 21), (9, 17), (17, 13))
CDP = 21
SHOTS = (5, RECORD, 17)  # inline bytes that number shots in data that is not stacked
UNIQUE = 0.8  # share of traces with a bin of their own in a stacked file; the rest are duplicates
DENSE = 1.5  # traces per line in both directions: fewer are a line through a survey, not a volume
SPARSE = 0.02  # share of the grid that has traces: with less, a trace has a wrong number
FITS = 0.5  # bins: with a smaller misfit, coordinates and line numbers agree
EMPTY = 0.1  # share of the grid filled, of that of another choice: with less, an earlier one is not believed
_FIT_TRACES = 100_000  # for the fit of coordinates
_LEFT_OUT = 20  # one of so many traces may have wrong coordinates


@dataclass(frozen=True)
class Candidate:
    """A choice of bytes for inline and crossline numbers, and what speaks for it.

    Attributes:
        inline_byte: None where one byte numbers the traces of a line.
        crossline_byte: or CDP.
        inline, crossline: their numbers.
        unique: share of traces with a bin of their own, in [0, 1].
        filled: share of the grid's bins that have a trace, in [0, 1].
        misfit: root mean square distance of the coordinates from a regular grid, in bins, without coordinates of 0,0
            and the farthest twentieth; None where there are none.
        kind: "volume", "line", or "" where the bytes number nothing.
    """

    inline_byte: int | None
    crossline_byte: int
    inline: Axis
    crossline: Axis
    unique: float
    filled: float
    misfit: float | None
    kind: str

    @property
    def fits(self) -> bool:
        """Whether there are coordinates, and they agree with the numbers."""
        return self.misfit is not None and self.misfit < FITS

    @property
    def bytes(self) -> str:
        return f"{self.inline_byte}/{self.crossline_byte}" if self.inline_byte else f"CDP {self.crossline_byte}"

    def positions(self, fields: Fields) -> tuple[np.ndarray, np.ndarray]:
        """Positions of all traces along the inline and the crossline axis, int64 (traces,) each."""
        inlines = _positions(fields, self.inline_byte, self.inline)
        return inlines, _positions(fields, self.crossline_byte, self.crossline)


@dataclass(frozen=True)
class Geometry:
    """What the traces are.

    Attributes:
        kind: "line", "volume", "prestack" or "unknown".
        reason: for it, one sentence.
        candidates: all that were tried.
        chosen: one of them; None for traces in the order of the file.
        others: volumes that speak for themselves as well as the chosen one and place traces elsewhere.
        offsets_vary: whether traces have different offsets, as in data that is not stacked.
        delays_ms: time or depth of the first sample, smallest and largest.
    """

    kind: str
    reason: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    others: tuple[Candidate, ...] = ()
    offsets_vary: bool = False
    delays_ms: tuple[float, float] = (0.0, 0.0)

    @property
    def may_be_shots(self) -> bool:
        """Whether neither offsets nor coordinates tell if the inlines are shots; False where the user named them."""
        best, named = self.chosen, len(self.candidates) == 1
        if self.kind != "volume" or best is None or named or self.offsets_vary:
            return False
        return best.inline_byte in SHOTS and not best.fits


def find_geometry(
    fields: Fields, inline_byte: int | None = None, crossline_byte: int | None = None, as_line: bool = False
) -> Geometry:
    """Choose the bytes of the line numbers and tell line, volume and prestack apart.

    Args:
        fields: of `saltseg.seismic.traces.read_index`.
        inline_byte: use this byte; needs ``crossline_byte``.
        crossline_byte: use this byte; alone it numbers the traces of a line.
        as_line: take the traces as one line in the order of the file.

    Raises:
        InputError: ``inline_byte`` without ``crossline_byte``.
    """
    if inline_byte is not None and crossline_byte is None:
        raise InputError(f"inline byte {inline_byte} without a crossline byte; give both")
    found = _find(fields, inline_byte, crossline_byte, as_line)
    delays = delays_ms(fields)
    return replace(
        found, offsets_vary=bool(np.ptp(fields[OFFSET])), delays_ms=(float(delays.min()), float(delays.max()))
    )


def _find(fields: Fields, inline_byte: int | None, crossline_byte: int | None, as_line: bool) -> Geometry:
    """The geometry but for its offsets and delays."""
    pairs: list[tuple[int | None, int]] = [*PAIRS, (None, CDP)]
    if crossline_byte is not None:
        pairs = [(inline_byte, crossline_byte)]
    axes: dict[int, Axis] = {}
    candidates = tuple(_candidate(fields, axes, *pair) for pair in pairs)
    traces = len(fields[CDP])
    if as_line:
        return Geometry("line", "taken as one line in the order of the file, as asked", candidates, None)
    if traces < 2:
        return Geometry("unknown", "a single trace is no picture", candidates, None)
    if found := _stacked(fields, candidates, crossline_byte is not None):
        return found
    if found := _prestack(fields, candidates):
        return found
    return _unnumbered(fields, candidates, traces)


def _candidate(fields: Fields, axes: dict[int, Axis], inline_byte: int | None, crossline_byte: int) -> Candidate:
    """Evidence for one choice of bytes. axes: of fields seen before."""
    for byte in (inline_byte, crossline_byte):
        if byte is not None and byte not in axes:
            axes[byte] = axis(fields[byte])
    crossline = axes[crossline_byte]
    inline = Axis(0, 0, 1, 1, 1.0) if inline_byte is None else axes[inline_byte]
    i, j = _positions(fields, inline_byte, inline), _positions(fields, crossline_byte, crossline)
    traces, bins = len(j), count_bins(i, j)
    unique, filled = bins / traces, bins / (inline.length * crossline.length)
    kind = ""
    if unique >= UNIQUE and traces >= 2:
        if min(inline.count, crossline.count) == 1:
            kind = "line"
        elif traces >= DENSE * max(inline.count, crossline.count):
            kind = "volume"
    misfit = None
    if kind == "volume":
        astray = crossline.strays(fields[crossline_byte])
        if inline_byte is not None:
            astray = astray | inline.strays(fields[inline_byte])
        misfit = _misfit(fields, i, j, ~astray)
    return Candidate(inline_byte, crossline_byte, inline, crossline, unique, filled, misfit, kind)


def _positions(fields: Fields, byte: int | None, along: Axis) -> np.ndarray:
    """Position of each trace along an axis, int64 (traces,); 0 without a byte."""
    return np.zeros(len(fields[CDP]), np.int64) if byte is None else along.positions(fields[byte])


def count_bins(*positions: np.ndarray) -> int:
    """Distinct tuples of positions, each int64 (traces,) from 0."""
    key, size = np.zeros(len(positions[0]), np.int64), 1
    for part in positions:
        length = int(part.max()) + 1
        if size * length > 2**62:
            key = np.unique(key, return_inverse=True)[1]
            size = int(key.max()) + 1
        key, size = key * length + part, size * length
    return len(distinct(key))


def _misfit(fields: Fields, i: np.ndarray, j: np.ndarray, used: np.ndarray) -> float | None:
    """Distance of the coordinates from the best regular grid over positions, in bins.

    A few wrong coordinates must not spoil it: the farthest traces are left out, and those at 0,0.

    Args:
        fields: with the coordinates.
        i, j: positions, int64 (traces,).
        used: bool (traces,), the traces that count.

    Returns:
        None without coordinates, or where those that count are constant or on one line.
    """
    found, x, y = coordinates(fields)
    if found is None:
        return None
    some = np.flatnonzero(used & ((x != 0) | (y != 0)))[:: -(-len(i) // _FIT_TRACES)]
    design = np.column_stack([np.ones(len(some)), i[some], j[some]]).astype(np.float64)
    target = np.column_stack([x[some], y[some]])
    fit, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    if rank < 3 or not np.ptp(target, axis=0).any():
        return None
    near = _nearest(target - design @ fit)
    fit = np.linalg.lstsq(design[near], target[near], rcond=None)[0]
    distances = target - design @ fit
    residual = float(np.sqrt((distances[_nearest(distances)] ** 2).sum(1).mean()))
    spacing = float(np.hypot(fit[1:, 0], fit[1:, 1]).min())
    return residual / spacing if spacing > 0 else float("inf")


def _nearest(distances: np.ndarray) -> np.ndarray:
    """Which traces are not among the farthest, int64; distances: float64 (traces, 2)."""
    return np.argsort((distances**2).sum(1))[: len(distances) - len(distances) // _LEFT_OUT]


def _stacked(fields: Fields, candidates: tuple[Candidate, ...], named: bool) -> Geometry | None:
    """A volume or a line whose bins hold one trace each; named: the user named the bytes."""
    volumes = [c for c in candidates if c.kind == "volume" and (named or not _by_record(fields, c))]
    if volumes:
        fitting = [c for c in volumes if c.fits] or volumes
        best = _first_believed(fitting)
        others = _elsewhere(fields, best, fitting)
        return Geometry("volume", f"bytes {best.bytes} give each trace its own bin", candidates, best, others)
    if any(c.kind == "volume" for c in candidates):
        reason = "offsets vary between the traces of a record; if they are stacked, name the bytes of the line numbers"
        return Geometry("prestack", reason, candidates, None)
    if lines := [c for c in candidates if c.kind == "line"]:
        # Of pairs with an inline byte that is 0 everywhere, the CDP alone says the same.
        best = max(lines, key=lambda c: (round(c.unique * c.filled, 2), c.inline_byte is None or c.inline.last != 0))
        return Geometry("line", f"bytes {best.bytes} number the traces of one line", candidates, best)
    return None


def _first_believed(volumes: list[Candidate]) -> Candidate:
    """The earliest one, unless it leaves nearly all of its grid empty and another one does not.

    The fullest is no better: traces that are counted anew on each inline fill their grid, the true numbers of an
    irregular survey do not.
    """
    fullest = max(c.filled for c in volumes)
    return next(c for c in volumes if c.filled >= EMPTY * fullest)


def _elsewhere(fields: Fields, best: Candidate, volumes: list[Candidate]) -> tuple[Candidate, ...]:
    """Those of the volumes that place traces elsewhere than the best one; each arrangement once."""
    kept = [best]
    for c in volumes:
        places = c.positions(fields)
        if not any(np.array_equal(places, other.positions(fields)) for other in kept):
            kept.append(c)
    return tuple(kept[1:])


def _by_record(fields: Fields, candidate: Candidate) -> bool:
    """Whether the inline byte numbers field records of traces with different offsets: shots, not inlines."""
    return candidate.inline_byte in SHOTS and bool(np.ptp(fields[OFFSET]))


def _prestack(fields: Fields, candidates: tuple[Candidate, ...]) -> Geometry | None:
    """Bins that hold several traces with different offsets."""
    offset = axis(fields[OFFSET])
    for c in candidates:
        if offset.count == 1 or c.crossline.count == 1 or c.unique >= UNIQUE:
            continue
        i, j = c.positions(fields)
        traces, k = len(j), offset.positions(fields[OFFSET])
        if count_bins(i, j, k) >= UNIQUE * traces:
            each = traces / count_bins(i, j)
            reason = f"{each:.3g} traces with different offsets in a bin (bytes {c.bytes}, offset {OFFSET})"
            return Geometry("prestack", reason, candidates, None)
    return None


def _unnumbered(fields: Fields, candidates: tuple[Candidate, ...], traces: int) -> Geometry:
    """A line through a survey, traces without any numbers, or gathers."""
    first = candidates[0]
    if first.unique >= UNIQUE and min(first.inline.count, first.crossline.count) > 1:
        reason = f"bytes {first.bytes} number a line through a survey; its traces are taken in the order of the file"
        return Geometry("line", reason, candidates, None)
    shot, channel = axis(fields[RECORD]), axis(fields[CHANNEL])
    if channel.count > 1 and shot.count * channel.count >= traces:
        reason = f"no line numbers; {shot.count} field records of up to {channel.count} channels look like shot gathers"
        return Geometry("unknown", reason, candidates, None)
    unique = max(c.unique for c in candidates)
    reason = f"no header bytes number the traces; at best {unique:.0%} of them have a bin of their own"
    return Geometry("unknown", reason, candidates, None)


def obstacles(layout: Layout, geometry: Geometry) -> list[str]:
    """Why the lines of a file cannot be read; one clause each, with the way out."""
    found = []
    if layout.trailing_bytes:
        found.append(
            f"{layout.trailing_bytes:,} bytes after the last of {layout.traces:,} complete traces of {layout.samples} "
            "samples: the file is cut short, or its sample count is wrong; fetch it again or fix the header"
        )
    if geometry.kind == "prestack":
        found.append(f"prestack data ({geometry.reason}); stack it first")
    elif geometry.kind == "unknown":
        found.append(f"{geometry.reason}; name the bytes of the line numbers, or take the file as one line")
    best = geometry.chosen
    if best is not None and best.filled < SPARSE:
        found.append(
            f"the numbers at bytes {best.bytes} leave {1 - best.filled:.1%} of the grid empty (inlines "
            f"{best.inline.first}-{best.inline.last}, crosslines {best.crossline.first}-{best.crossline.last}); "
            "name other bytes or fix the headers"
        )
    return found
