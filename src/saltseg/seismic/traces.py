"""Header fields of all traces, and the samples of chosen ones.

Files are read in pieces, never mapped: a file that shrinks meanwhile gives an error instead of a crash, and memory
stays bounded. Reading whole traces for a few header bytes is what a disk does anyway, because traces are short.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import numpy as np

from saltseg.errors import InputError
from saltseg.seismic.formats import decode
from saltseg.seismic.headers import Layout

CHUNK_BYTES = 16 * 2**20  # read at once
# Fields of 2 bytes that are read here; all others have 4.
SHORT_FIELDS = frozenset({29, 71, 109, 115, 117, 215})
OFFSET, RECORD, CHANNEL = 37, 9, 13
COORDINATES = ((181, 185), (73, 77))
COORDINATE_SCALAR, DELAY, DELAY_SCALAR = 71, 109, 215
FIELDS = (5, 9, 13, 17, 21, 29, 37, 71, 73, 77, 109, 115, 117, 181, 185, 189, 193, 215)

Fields = Mapping[int, np.ndarray]


def read_fields(
    layout: Layout, fields: tuple[int, ...], progress: Callable[[int], object] | None = None
) -> dict[int, np.ndarray]:
    """Header fields of all traces.

    Args:
        layout: of the file.
        fields: byte numbers from 1; integers of 2 bytes for `SHORT_FIELDS`, else of 4.
        progress: called with the number of traces read since its last call.

    Returns:
        For each field int32 or int16 (traces,).

    Raises:
        InputError: a field is outside of the header, or the file cannot be read.
    """
    for byte in fields:
        if not 1 <= byte <= 237:
            raise InputError(f"header byte {byte}: a trace header has 240 bytes; use 1 to 237")
    kinds = ["i2" if byte in SHORT_FIELDS else "i4" for byte in fields]
    record = np.dtype(
        {
            "names": [str(byte) for byte in fields],
            "formats": [layout.byte_order + kind for kind in kinds],
            "offsets": [byte - 1 for byte in fields],
            "itemsize": layout.trace_bytes,
        }
    )
    columns = {byte: np.empty(layout.traces, kind) for byte, kind in zip(fields, kinds, strict=True)}
    for start, part in chunks(layout, record):
        for byte, column in columns.items():
            column[start : start + len(part)] = part[str(byte)]
        if progress is not None:
            progress(len(part))
    return columns


def _chunk_traces(layout: Layout) -> int:
    """Traces that are read at once."""
    return max(1, CHUNK_BYTES // layout.trace_bytes)


def chunks(layout: Layout, record: np.dtype, size: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """All traces in pieces of bounded size: number of the first, records (n,). ``record`` has the size of a trace."""
    with layout.opened() as file:
        file.seek(layout.first_trace)
        count = size or _chunk_traces(layout)
        for start in range(0, layout.traces, count):
            yield start, read_records(file, layout, record, min(count, layout.traces - start))


def read_records(file: BinaryIO, layout: Layout, record: np.dtype, count: int) -> np.ndarray:
    """The next ``count`` traces of an open file; raises InputError where it ends early."""
    data = np.empty(count * record.itemsize, np.uint8)
    try:
        size = file.readinto(data)  # type: ignore[attr-defined]
    except OSError as error:
        raise InputError(f"{layout.path} cannot be read ({error.strerror}); check the disk") from None
    if size < len(data):
        raise InputError(f"{layout.path} became shorter while it was read; leave it alone and rerun")
    return data.view(record)


def read_traces(layout: Layout, traces: np.ndarray) -> np.ndarray:
    """Samples of chosen traces.

    Args:
        layout: of the file.
        traces: int (n,), numbers from 0 in rising order; neighbors are read together.

    Returns:
        float32 (n, samples).

    Raises:
        InputError: the file cannot be read.
    """
    rows = np.empty((len(traces), layout.samples), np.float32)
    if not len(traces):
        return rows
    most = _chunk_traces(layout)
    breaks = np.flatnonzero(np.diff(traces) != 1) + 1
    with layout.opened() as file:
        for start, stop in zip([0, *breaks], [*breaks, len(traces)], strict=True):
            file.seek(layout.first_trace + int(traces[start]) * layout.trace_bytes, os.SEEK_SET)
            for at in range(start, stop, most):
                end = min(stop, at + most)
                stored = read_records(file, layout, layout.record, end - at)["samples"]
                rows[at:end] = decode(stored, layout.sample_format)
    return rows


def live(rows: np.ndarray) -> np.ndarray:
    """Which traces hold at least two different finite values, bool (n,); rows: samples, float32 (n, samples)."""
    low, high = rows.min(1), rows.max(1)
    found = low != high
    bad = ~(np.isfinite(low) & np.isfinite(high))
    if bad.any():
        finite = np.isfinite(rows[bad])
        low, high = (np.where(finite, rows[bad], np.float32(edge)) for edge in (np.inf, -np.inf))
        found[bad] = low.min(1) < high.max(1)
    return found


def read_sample(layout: Layout, sample: int) -> np.ndarray:
    """One sample of every trace, float32 (traces,), in one pass over the file; raises InputError as `read_traces`."""
    values = np.empty(layout.traces, np.float32)
    for start, records in chunks(layout, layout.record):
        stored = np.ascontiguousarray(records["samples"][:, sample])
        values[start : start + len(records)] = decode(stored, layout.sample_format)
    return values


# ---------------------------------------------------------------- what fields mean


def coordinates(fields: Fields) -> tuple[tuple[int, int] | None, np.ndarray, np.ndarray]:
    """Bytes of the coordinates (None where all are constant), x and y as float64 (traces,), the scalar applied.

    CDP coordinates, or source coordinates where those are constant.
    """
    factor = _factor(fields[COORDINATE_SCALAR])
    for pair in COORDINATES:
        if any(np.ptp(fields[byte]) for byte in pair):
            return pair, fields[pair[0]] * factor, fields[pair[1]] * factor
    x, y = COORDINATES[0]
    return None, fields[x] * factor, fields[y] * factor


def delays_ms(fields: Fields) -> np.ndarray:
    """Time or depth of the first sample of each trace, float64 (traces,): the delay with the scalar for times."""
    return fields[DELAY] * _factor(fields[DELAY_SCALAR])


def _factor(scalar: np.ndarray) -> np.ndarray:
    """What a scalar stands for: a positive one multiplies, a negative one divides, 0 changes nothing."""
    scalar = scalar.astype(np.float64)
    return np.where(scalar > 0, scalar, 1 / np.where(scalar < 0, -scalar, 1))


def read_index(
    layout: Layout, extra: tuple[int, ...] = (), progress: Callable[[int], object] | None = None
) -> dict[int, np.ndarray]:
    """`FIELDS` and further header fields of all traces; about 60 bytes of memory a trace."""
    return read_fields(layout, tuple(dict.fromkeys((*FIELDS, *extra))), progress)
