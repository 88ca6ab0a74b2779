"""SEG-Y files written with `struct`, apart from the code under test, and where the public ones lie."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

PUBLIC = Path(__file__).parents[2] / "shared" / "segy"
CODES = {2: "i", 3: "h", 5: "f", 6: "d", 8: "b", 10: "I", 11: "H", 16: "B"}
SHORT = {29, 71, 109, 115, 117, 215}


def public(name: str) -> Path:
    """One of the public files; skips the test where they are absent."""
    if not (PUBLIC / name).exists():
        pytest.skip(f"no {PUBLIC / name}")
    return PUBLIC / name


def ibm(value: float) -> int:
    """The word of an IBM float by repeated division, truncated."""
    if value == 0:
        return 0
    fraction, exponent = abs(value), 64
    while fraction >= 1:
        fraction, exponent = fraction / 16, exponent + 1
    while fraction < 1 / 16:
        fraction, exponent = fraction * 16, exponent - 1
    return (value < 0) << 31 | exponent << 24 | int(fraction * 2**24)


def write(
    path: Path,
    traces: Sequence[Sequence[float]] | np.ndarray,
    headers: Sequence[Mapping[int, int]],
    *,
    order: str = ">",
    code: int = 5,
    binary: Mapping[int, tuple[str, float]] | None = None,
    between: bytes = b"",
    after: bytes = b"",
) -> Path:
    """Write a SEG-Y file of revision 1 with 4 ms.

    Args:
        path: of the file.
        traces: samples (traces, samples).
        headers: of each trace by byte number from 1.
        order: "<" or ">".
        code: of the sample format.
        binary: changes of the binary header: byte of the file from 1 → (struct code, value).
        between: after the binary header.
        after: after the last trace.
    """
    fields = {3217: ("H", 4000), 3221: ("H", len(traces[0])), 3225: ("H", code), 3501: ("B", 1), 3503: ("H", 1)}
    head = bytearray(b" " * 3200 + bytes(400))
    for byte, (kind, value) in {**fields, **(binary or {})}.items():
        struct.pack_into(order + kind, head, byte - 1, value)
    out = bytes(head) + between
    for samples, numbers in zip(traces, headers, strict=True):
        header = bytearray(240)
        for byte, number in numbers.items():
            struct.pack_into(order + ("h" if byte in SHORT else "i"), header, byte - 1, number)
        kind, values = ("I", map(ibm, samples)) if code == 1 else (CODES[code], samples)
        stored = [float(v) if kind in "fd" else int(v) for v in values]
        out += bytes(header) + struct.pack(f"{order}{len(stored)}{kind}", *stored)
    path.write_bytes(out + after)
    return path


def grid(inlines: Sequence[int], crosslines: Sequence[int], **more: int) -> list[dict[int, int]]:
    """Headers of a full volume, inline by inline; ``more`` as ``b71=-10``."""
    extra = {int(name[1:]): value for name, value in more.items()}
    return [{189: i, 193: x, **extra} for i in inlines for x in crosslines]


def wave(traces: int, samples: int = 8) -> np.ndarray:
    """Whole numbers of both signs, different for every trace and sample, within int8 for up to 12 traces."""
    numbers = np.arange(traces * samples).reshape(traces, samples)
    return np.where(numbers % 2, numbers // 2 + 1, -(numbers // 2) - 1)
