"""Image files written byte by byte, as no library of ours would write them."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    size: tuple[int, int],
    rows: bytes,
    bits: int = 8,
    color: int = 0,
    before: list[tuple[bytes, bytes]] | None = None,
    stream: bytes | None = None,
) -> bytes:
    """A PNG of (height, width); rows: each begins with its filter, 0 for none. before: chunks before the pixels."""
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, color, 0, 0, 0)
    chunks = [(b"IHDR", header), *(before or []), (b"IDAT", stream or zlib.compress(rows)), (b"IEND", b"")]
    return PNG_START + b"".join(chunk(*parts) for parts in chunks)


def palette_png(grays: list[int], bits: int, rows: bytes, width: int, alpha: bytes = b"") -> bytes:
    """A PNG of one row whose colors are these gray values."""
    before = [(b"PLTE", bytes(value for gray in grays for value in [gray] * 3))]
    return png((1, width), rows, bits, 3, before + ([(b"tRNS", alpha)] if alpha else []))


def tiff(
    size: tuple[int, int],
    data: bytes,
    bits: int = 8,
    photometric: int = 1,
    samples: int = 1,
    number: int = 1,
    order: str = "<",
    more: dict[int, int] | None = None,
) -> bytes:
    """An uncompressed TIFF of (height, width); number: 1 unsigned, 2 signed, 3 floating point. more: further tags."""
    height, width = size
    tags: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [bits] * samples, 259: [1], 262: [photometric], 273: [8], 277: [samples],
        278: [height], 279: [len(data)], 339: [number] * samples,
    }  # fmt: skip
    tags |= {tag: [value] for tag, value in (more or {}).items()}
    data += bytes(len(data) % 2)
    directory, values = b"", b""
    beyond = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack(f"{order}I", beyond + len(values)), values + packed
        directory += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + packed.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + directory + bytes(4) + values


def saved(pixels: np.ndarray, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """What Pillow writes."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height: int, width: int, channels: int = 1) -> np.ndarray:
    """A gray picture without an axis of symmetry, uint8 (H, W) or (H, W, channels)."""
    noise = np.random.default_rng(3).integers(0, 256, (height, width), dtype=np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return picture if channels == 1 else np.repeat(picture[:, :, None], channels, axis=2)


def oriented(number: int) -> bytes:
    """EXIF with this orientation."""
    exif = Image.Exif()
    exif[274] = number
    return exif.tobytes()
