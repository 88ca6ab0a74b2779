"""The layout of a SEG-Y file from its text, binary and first trace header.

Byte numbers are those of the standard, counted from 1 in the file (binary header: 3201-3600) or in a trace header.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from saltseg.errors import InputError
from saltseg.io import irregular
from saltseg.seismic.formats import FORMATS, UNSUPPORTED, SampleFormat

TEXT_BYTES, BINARY_BYTES, TRACE_HEADER_BYTES = 3200, 400, 240
LINE_BYTES = 80  # of a text header
MAX_FILE_BYTES = 2**60
MAX_TEXTS = 100  # extended text headers among which the last one is sought
_ENCODINGS = ("cp037", "latin-1")  # EBCDIC, ASCII
_END_TEXT = re.compile(r"\s*\(\(\s*SEG:\s*EndText\s*\)\)", re.IGNORECASE)
ORDER_NAMES = {">": "big-endian", "<": "little-endian"}


@dataclass(frozen=True)
class Layout:
    """Where the samples of a SEG-Y file lie and what they mean.

    Attributes:
        path: of the file.
        file_bytes: its size.
        version: its modification time and number in the file system; another file of this name has others.
        byte_order: ">" or "<", the one in which the sample format is valid.
        revision: (major, minor) of the standard; (0, 0) for files of 1975 and those that do not state it.
        sample_format: of the samples.
        samples: of a trace.
        traces: complete ones.
        first_trace: byte at which the first one begins, from 0.
        trailing_bytes: after the last complete trace and before a trailer; 0 in a complete file.
        interval_ms: between samples (in a depth section meters or feet); None where no header states it.
        text: the first text header, 40 lines of 80 characters.
        ebcdic: whether the text header is EBCDIC, else ASCII.
        notes: what contradicts the standard or another header, one sentence each.
    """

    path: Path
    file_bytes: int
    version: tuple[int, int]
    byte_order: str
    revision: tuple[int, int]
    sample_format: SampleFormat
    samples: int
    traces: int
    first_trace: int
    trailing_bytes: int
    interval_ms: float | None
    text: str
    ebcdic: bool
    notes: tuple[str, ...]

    @property
    def trace_bytes(self) -> int:
        return TRACE_HEADER_BYTES + self.samples * self.sample_format.bytes

    @property
    def record(self) -> np.dtype:
        """A trace as stored: ``header`` (240 bytes) and ``samples``."""
        samples = np.dtype(self.byte_order + self.sample_format.dtype)
        return np.dtype([("header", f"V{TRACE_HEADER_BYTES}"), ("samples", samples, (self.samples,))])

    def opened(self) -> BinaryIO:
        """The file, open for reading; raises InputError, also where it is not the file any more that was looked at."""
        file = opened(self.path)
        found = os.fstat(file.fileno())
        if (found.st_size, _version(found)) != (self.file_bytes, self.version):
            file.close()
            raise InputError(f"{self.path} was changed while it was read; leave it alone and rerun")
        return file


def read_layout(path: Path) -> Layout:
    """Read the layout of a SEG-Y file from its text, binary and first trace header.

    Both byte orders are tried; the sample format, at most 16, is valid in one of them only. The sample count comes from
    the first of the extended binary, binary and first trace header with which the traces fill the file exactly.

    Raises:
        InputError: the file cannot be read, is no SEG-Y, or has a sample format that is not supported.
    """
    stat, head = _read_start(path)
    size = stat.st_size
    order = next((o for o in "><" if 1 <= _number(head, 3225, o, "u2") <= 16), None)
    if order is None:
        code = _number(head, 3225, ">", "u2")
        raise InputError(
            f"{path} is no SEG-Y file: sample format {code} at bytes 3225-3226 in either byte order; check the file"
        )
    code = _number(head, 3225, order, "u2")
    if code not in FORMATS:
        name = UNSUPPORTED.get(code, "unknown")
        raise InputError(f"{path} has sample format {code} ({name}); write it as IEEE float (format 5)")
    notes: list[str] = []
    revision = _revision(head)
    start, stop = _data_range(path, head, size, order, revision, notes)
    trace_header = _read_at(path, start, TRACE_HEADER_BYTES)
    samples = _samples(path, head, trace_header, order, revision, stop - start, FORMATS[code], notes)
    interval = _interval_ms(head, trace_header, order, revision, notes)
    traces, rest = divmod(stop - start, TRACE_HEADER_BYTES + samples * FORMATS[code].bytes)
    if not traces:
        raise InputError(f"{path} holds no complete trace of {samples:,} samples; fetch it again or fix its header")
    text, ebcdic = _text(head[:TEXT_BYTES])
    return Layout(
        path=path,
        file_bytes=size,
        version=_version(stat),
        byte_order=order,
        revision=revision,
        sample_format=FORMATS[code],
        samples=samples,
        traces=traces,
        first_trace=start,
        trailing_bytes=rest,
        interval_ms=interval,
        text=text,
        ebcdic=ebcdic,
        notes=tuple(notes),
    )


def _version(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_mtime_ns, stat.st_ino


def _read_start(path: Path) -> tuple[os.stat_result, bytes]:
    """Size, version and so on of the file, and its first 3,600 bytes."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path.parent}: a file is named {path.name!a}, which no record can hold; rename it") from None
    try:
        if wrong := irregular(path, MAX_FILE_BYTES):
            raise InputError(f"{path} cannot be read as SEG-Y ({wrong}); give a file")
        stat = path.stat()
    except FileNotFoundError:
        raise InputError(f"no SEG-Y file {path}; check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); check its rights and the disk") from None
    if (size := stat.st_size) < TEXT_BYTES + BINARY_BYTES + TRACE_HEADER_BYTES:
        raise InputError(f"{path} is no SEG-Y file: {size:,} bytes, fewer than its headers have; check the file")
    return stat, _read_at(path, 0, TEXT_BYTES + BINARY_BYTES)


def _read_at(path: Path, offset: int, count: int) -> bytes:
    with opened(path) as file:
        file.seek(offset)
        data = file.read(count)
    if len(data) < count:
        raise InputError(f"{path} is cut short: it ends within the headers; fetch the file again")
    return data


def opened(path: Path) -> BinaryIO:
    """The file, open for reading; raises InputError."""
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); check its rights and the disk") from None


def _number(data: bytes, byte: int, order: str, kind: str) -> int:
    """The number at a byte that is counted from 1."""
    return int(np.frombuffer(data, order + kind, 1, byte - 1)[0])


def _revision(head: bytes) -> tuple[int, int]:
    """Two single bytes; writers that store one 16-bit number leave the first 0."""
    major, minor = head[3500], head[3501]
    if major == 0 and minor in (1, 2):
        return minor, 0
    return (major, minor) if major in (1, 2) else (0, 0)


def _data_range(
    path: Path, head: bytes, size: int, order: str, revision: tuple[int, int], notes: list[str]
) -> tuple[int, int]:
    """First byte of the first trace, and the byte after the last; extended text headers and trailers are left out."""
    texts = _extended_texts(path, _number(head, 3505, order, "i2"), size, revision, notes)
    start, stop = TEXT_BYTES + BINARY_BYTES + TEXT_BYTES * texts, size
    if revision[0] >= 2:
        if more := _number(head, 3507, order, "i4"):
            raise InputError(f"{path} has {more} additional trace headers (revision 2); write it as revision 1")
        start = _number(head, 3521, order, "u8") or start
        stop -= TEXT_BYTES * max(0, _number(head, 3529, order, "i4"))
    if start + TRACE_HEADER_BYTES > stop:
        raise InputError(f"{path} is cut short: no trace after {start:,} bytes of headers; fetch the file again")
    return start, stop


def _extended_texts(path: Path, stated: int, size: int, revision: tuple[int, int], notes: list[str]) -> int:
    """How many extended text headers follow the binary header; ``stated``: at bytes 3505-3506."""
    if not revision[0]:  # these bytes are not assigned; some files use them all the same
        fits = TEXT_BYTES + BINARY_BYTES + TEXT_BYTES * stated + TRACE_HEADER_BYTES <= size
        if stated > 0 and fits and all(_is_text(data) for data in _texts(path, stated)):
            return stated
        if stated:
            notes.append(f"bytes 3505-3506 hold {stated}, which says nothing in a file of revision 0; ignored")
        return 0
    if stated >= 0:
        return stated
    for count, data in enumerate(_texts(path, MAX_TEXTS), 1):  # as many as there are, up to one that says so
        if _END_TEXT.match(_text(data)[0]):
            return count
    raise InputError(
        f"{path}: {stated} at bytes 3505-3506 announces text headers up to one that begins with ((SEG: EndText)), "
        f"which none of the first {MAX_TEXTS} does; write their number there"
    )


def _texts(path: Path, count: int) -> Iterator[bytes]:
    """Up to ``count`` pieces of the size of a text header after the binary header."""
    with opened(path) as file:
        file.seek(TEXT_BYTES + BINARY_BYTES)
        for _ in range(count):
            data = file.read(TEXT_BYTES)
            if len(data) < TEXT_BYTES:
                return
            yield data


def _samples(
    path: Path,
    head: bytes,
    trace_header: bytes,
    order: str,
    revision: tuple[int, int],
    data_bytes: int,
    sample_format: SampleFormat,
    notes: list[str],
) -> int:
    binary, trace = _number(head, 3221, order, "u2"), _number(trace_header, 115, order, "u2")
    extended = _number(head, 3269, order, "u4") if revision[0] >= 2 else 0
    counts = [count for count in (extended, binary, trace) if count]
    if not counts:
        raise InputError(f"{path} states no number of samples (bytes 3221-3222, trace bytes 115-116); fix its header")
    fitting = [n for n in counts if data_bytes % (TRACE_HEADER_BYTES + n * sample_format.bytes) == 0]
    samples = (fitting or counts)[0]
    for where, count in (("binary header", extended or binary), ("first trace header", trace)):
        if count and count != samples:
            notes.append(f"the {where} states {count} samples; the file's size fits {samples}")
    return samples


def _interval_ms(
    head: bytes, trace_header: bytes, order: str, revision: tuple[int, int], notes: list[str]
) -> float | None:
    """From the extended binary, the binary or the first trace header, whichever is positive first."""
    binary, trace = _number(head, 3217, order, "i2"), _number(trace_header, 117, order, "i2")
    if revision[0] >= 2:
        extended = float(np.frombuffer(head, order + "f8", 1, 3273 - 1)[0])
        if np.isfinite(extended) and extended > 0:
            return extended / 1000
    if binary > 0 and trace > 0 and binary != trace:
        notes.append(f"the binary header states an interval of {binary} µs (used), the first trace header {trace} µs")
    elif binary <= 0:
        instead = f"{trace} µs of the first trace header used" if trace > 0 else f"{trace} in the first trace header"
        notes.append(f"the binary header states an interval of {binary}; {instead}")
    interval = next((value for value in (binary, trace) if value > 0), None)
    return None if interval is None else interval / 1000


def _text(data: bytes) -> tuple[str, bool]:
    """A text header in lines of 80 characters, and whether it is EBCDIC; the encoding with more plain text counts."""
    texts = {code: data.decode(code, errors="replace") for code in _ENCODINGS}
    code = max(texts, key=lambda c: _plain(texts[c]))
    characters = "".join(c if c.isprintable() else " " for c in texts[code])
    return "\n".join(re.findall(".{1,80}", characters)), code == "cp037"


def _plain(text: str) -> int:
    """Letters, digits and spaces in a text."""
    return sum(c.isascii() and (c.isalnum() or c == " ") for c in text)


def _is_text(data: bytes) -> bool:
    """Whether there is a line, and three of four bytes are plain text in one of the encodings.

    Of random bytes one of four is. NUL bytes are padding.
    """
    data = data.replace(b"\0", b"")
    plain = max(_plain(data.decode(code, errors="replace")) for code in _ENCODINGS)
    return len(data) >= LINE_BYTES and 4 * plain > 3 * len(data)
