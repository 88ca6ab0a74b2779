"""Sample formats of SEG-Y: numbers as stored ↔ float32, both byte orders.

Codes and layouts are those of "SEG-Y revision 2.0 data exchange format", SEG (2017), bytes 3225-3226 and appendix E.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SampleFormat:
    """One sample format.

    Attributes:
        code: in bytes 3225-3226.
        name: for people.
        dtype: of the stored number, without byte order; IBM floats are read as words.
        probability_scale: what a probability of 1 is stored as.
    """

    code: int
    name: str
    dtype: str
    probability_scale: float = 1

    @property
    def bytes(self) -> int:
        return int(self.dtype[1])

    @property
    def unsigned(self) -> bool:
        """Whether the format has no negative numbers."""
        return self.dtype[0] == "u" and self.code != IBM


IBM, IEEE = 1, 5
FORMATS = {
    f.code: f
    for f in (
        SampleFormat(IBM, "IBM float", "u4"),
        SampleFormat(2, "int32", "i4", 1_000_000),
        SampleFormat(3, "int16", "i2", 10_000),
        SampleFormat(IEEE, "IEEE float", "f4"),
        SampleFormat(6, "IEEE double", "f8"),
        SampleFormat(8, "int8", "i1", 127),
        SampleFormat(10, "uint32", "u4", 1_000_000),
        SampleFormat(11, "uint16", "u2", 10_000),
        SampleFormat(16, "uint8", "u1", 255),
    )
}
UNSUPPORTED = {
    4: "fixed point with gain",
    7: "3-byte integer",
    9: "8-byte integer",
    12: "8-byte unsigned integer",
    15: "3-byte unsigned integer",
}
_CACHED = 2**15  # samples whose copies fit into a processor's cache
# Value of the last fraction bit for each exponent of an IBM float. Where it exceeds float32, the largest float32 stands
# in: times a fraction of 0 it is 0, times any larger one infinite.
_IBM_UNITS = np.clip(16.0 ** (np.arange(128) - 70), 0, np.finfo(np.float32).max).astype(np.float32)
_IBM_UNITS = np.concatenate([_IBM_UNITS, -_IBM_UNITS])


def decode(stored: np.ndarray, sample_format: SampleFormat) -> np.ndarray:
    """Stored numbers as float32 of the same shape; what float32 cannot hold becomes infinite.

    Args:
        stored: any shape, of the format's dtype in any byte order.
        sample_format: one of `FORMATS`.
    """
    with np.errstate(over="ignore"):
        if sample_format.code != IBM:
            return stored.astype(np.float32)
        result = np.empty(stored.shape, np.float32)
        flat, words = result.reshape(-1), stored.reshape(-1)
        for start in range(0, len(words), _CACHED):
            part = words[start : start + _CACHED].astype(np.uint32)
            units = _IBM_UNITS.take(part >> 24)
            flat[start : start + _CACHED] = units * (part & 0xFFFFFF).astype(np.float32)
        return result


def encode(values: np.ndarray, sample_format: SampleFormat, byte_order: str) -> np.ndarray:
    """The inverse of `decode`. Integers are rounded and clipped; IBM floats are rounded to 21 to 24 bits.

    Args:
        values: float (any shape), finite.
        sample_format: one of `FORMATS`.
        byte_order: "<" or ">".

    Returns:
        The same shape, the format's dtype in that byte order.
    """
    dtype = np.dtype(byte_order + sample_format.dtype)
    if sample_format.code == IBM:
        return _to_ibm(values).astype(dtype)
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(dtype)


def _to_ibm(values: np.ndarray) -> np.ndarray:
    """Words of IBM floats, uint32: sign, 7 bits of the power of 16 plus 64, 24 bits of a fraction in [1/16, 1).

    From the bits of float32, m 2**(e - 150) with 24 bits in m: the exponent is raised to a multiple of 4, m moves to
    the right by up to 3 bits.
    """
    result = np.empty(values.shape, np.uint32)
    flat, source = result.reshape(-1), values.reshape(-1)
    for start in range(0, len(flat), _CACHED):
        bits = source[start : start + _CACHED].astype(np.float32).view(np.uint32)
        exponent = (bits >> 23 & 0xFF).astype(np.int32) - 150
        power = -(-exponent >> 2)
        shift = 4 * power - exponent
        fraction = ((bits & 0x7FFFFF | 0x800000).astype(np.int32) + (1 << shift >> 1)) >> shift
        words = (bits & 0x80000000) | (power + 70 << 24 | fraction).astype(np.uint32)
        flat[start : start + _CACHED] = np.where(exponent == -150, 0, words)  # 0, and less than float32 holds in full
    return result
