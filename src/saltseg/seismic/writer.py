"""Results as SEG-Y with every header byte of the input, new SEG-Y files, and the top of salt as CSV."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from saltseg import io
from saltseg.errors import InputError
from saltseg.seismic.formats import FORMATS, SampleFormat, encode
from saltseg.seismic.headers import BINARY_BYTES, TRACE_HEADER_BYTES, Layout
from saltseg.seismic.traces import SHORT_FIELDS, chunks
from saltseg.seismic.volume import Survey

# Values of the traces from one position in the file to another, float or uint8 (n, samples).
Rows = Callable[[int, int], np.ndarray]
WRITE_BYTES = 32 * 2**20  # written at once


def sidecar_path(target: Path) -> Path:
    """The JSON file that says what the numbers in a SEG-Y file mean."""
    return target.with_name(f"{target.name}.json")


def write_segy(
    layout: Layout,
    target: Path,
    rows: Rows,
    *,
    scale: float | None = None,
    about: Mapping[str, object] | None = None,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write values into a copy of a SEG-Y file: text, binary and trace headers and a trailer stay byte for byte.

    The file is written in one pass over the input, beside its name, and renamed when it is whole. A JSON file beside it
    (`sidecar_path`) states the scale.

    Args:
        layout: of the input.
        target: new file.
        rows: values in [0, 1], float (n, samples), of the traces start..stop; NaN is written as 0.
        scale: what a value of 1 is stored as; None: `SampleFormat.probability_scale` of the input's format.
        about: more for the JSON file.
        progress: called with the number of traces written since its last call.

    Raises:
        InputError: ``target`` exists or is the input, or the input cannot be read.
    """
    refuse_input(layout.path, target)
    number = layout.sample_format
    scale = number.probability_scale if scale is None else scale
    size = max(1, WRITE_BYTES // max(layout.trace_bytes, 4 * layout.samples))
    end = layout.first_trace + layout.traces * layout.trace_bytes
    with io.atomic_path(target) as temporary, temporary.open("wb") as out:
        _copy(layout, out, 0, layout.first_trace)
        for start, records in chunks(layout, layout.record, size):
            values = np.asarray(rows(start, start + len(records)), np.float32)
            assert values.shape == records["samples"].shape, f"{values.shape} for {records['samples'].shape}"
            values = np.clip(np.nan_to_num(values), 0, 1) * np.float32(scale)
            records["samples"] = encode(values, number, layout.byte_order)
            out.write(records.view(np.uint8).data)
            if progress is not None:
                progress(len(records))
        _copy(layout, out, end, layout.file_bytes)
        out.flush()
        io.write_json(sidecar_path(target), _meaning(layout, scale, about or {}))


def refuse_input(source: Path, target: Path) -> None:
    """Raise InputError where a result would be written over the input or over anything else."""
    if target.exists() and target.samefile(source):
        raise InputError(f"{target} is the input itself; choose another name for the result")
    if os.path.lexists(target):  # a link to nothing, too
        raise InputError(f"{target} exists; choose another name or remove it")


def _copy(layout: Layout, out: BinaryIO, start: int, stop: int) -> None:
    """Copy bytes of the input."""
    with layout.opened() as file:
        file.seek(start)
        while start < stop:
            data = file.read(min(WRITE_BYTES, stop - start))
            if not data:
                raise InputError(f"{layout.path} became shorter while it was read; leave it alone and rerun")
            out.write(data)
            start += len(data)


def _meaning(layout: Layout, scale: float, about: Mapping[str, object]) -> dict[str, object]:
    number = layout.sample_format
    return {
        "input": layout.path.name,
        "input_bytes": layout.file_bytes,
        "sample_format": number.code,
        "sample_format_name": number.name,
        "scale": scale,
        "meaning": f"value = stored / {scale:g}; 0 where there is no trace or no live one",
        **about,
    }


# ---------------------------------------------------------------- new files


@dataclass(frozen=True)
class NewFile:
    """A SEG-Y file of revision 1 that is being written; see `create`."""

    out: BinaryIO
    sample_format: SampleFormat
    byte_order: str
    samples: int

    def write(self, headers: Mapping[int, np.ndarray | int], values: np.ndarray) -> None:
        """Append traces.

        Args:
            headers: for byte numbers from 1, one integer or int (n,); all other bytes are 0.
            values: float (n, samples).
        """
        size = self.samples * self.sample_format.bytes
        records = np.zeros((len(values), TRACE_HEADER_BYTES + size), np.uint8)
        for byte, numbers in headers.items():
            kind = np.dtype(self.byte_order + ("i2" if byte in SHORT_FIELDS else "i4"))
            stored = np.broadcast_to(numbers, len(values)).astype(kind)
            records[:, byte - 1 : byte - 1 + kind.itemsize] = stored.view(np.uint8).reshape(len(values), -1)
        stored = np.ascontiguousarray(encode(values, self.sample_format, self.byte_order))
        records[:, TRACE_HEADER_BYTES:] = stored.view(np.uint8).reshape(len(values), -1)
        self.out.write(records.tobytes())


@contextmanager
def create(
    path: Path,
    *,
    samples: int,
    interval_us: int,
    text: Sequence[str] = (),
    sample_format: int = 5,
    byte_order: str = ">",
) -> Iterator[NewFile]:
    """A new SEG-Y file of revision 1, whole or not there; its traces are appended with `NewFile.write`.

    Args:
        path: of the file; replaced if it exists.
        samples: of a trace, up to 65,535.
        interval_us: between samples, microseconds.
        text: up to 40 lines of 76 characters for the text header.
        sample_format: a code of `FORMATS`.
        byte_order: "<" or ">".
    """
    lines = [f"C{i + 1:2d} {text[i] if i < len(text) else '':<76.76}" for i in range(40)]
    binary = np.zeros(BINARY_BYTES, np.uint8)
    for byte, number in ((3217, interval_us), (3221, samples), (3225, sample_format), (3255, 1), (3503, 1)):
        binary[byte - 3201 : byte - 3199] = np.array([number], byte_order + "u2").view(np.uint8)
    binary[3501 - 3201] = 1
    with io.atomic_path(path) as temporary, temporary.open("wb") as out:
        out.write("".join(lines).encode("cp037", errors="replace"))
        out.write(binary.tobytes())
        yield NewFile(out, FORMATS[sample_format], byte_order, samples)


# ---------------------------------------------------------------- top of salt


def write_top_of_salt(target: Path, survey: Survey, masks: Rows, depth: bool = False) -> int:
    """Write the first salt sample of every trace that has one as CSV, in the order of the file.

    Columns: x, y, inline, crossline, and time_ms (depth_m with ``depth``, sample without an interval).

    Args:
        target: new file.
        survey: of the masks.
        masks: of the traces start..stop, (n, samples), not 0 is salt.
        depth: whether samples are meters instead of milliseconds.

    Returns:
        Number of traces with salt.

    Raises:
        InputError: ``target`` exists.
    """
    refuse_input(survey.layout.path, target)
    layout, step = survey.layout, survey.layout.interval_ms
    name = "sample" if step is None else "depth_m" if depth else "time_ms"
    size, count = max(1, WRITE_BYTES // (4 * layout.samples)), 0
    with io.atomic_path(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x", "y", "inline", "crossline", name])
        for start in range(0, layout.traces, size):
            salt = masks(start, min(start + size, layout.traces)) != 0
            here = np.flatnonzero(salt.any(1))
            first, traces = salt[here].argmax(1), start + here
            tops = first if step is None else survey.delays_ms[traces] + first * step
            columns = (survey.x[traces], survey.y[traces], survey.inlines[traces], survey.crosslines[traces], tops)
            writer.writerows([f"{value:.10g}" for value in row] for row in zip(*columns, strict=True))
            count += len(here)
    return count
