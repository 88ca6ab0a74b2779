"""What the page shows at a time: an image with its probability and masks, as one message of bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saltseg.data import image_files
from saltseg.errors import InputError

MAX_PIXELS = 16_000_000
JPEG_START = b"\xff\xd8"


@dataclass(frozen=True, eq=False)
class Axis:
    """What the columns or the rows of an image are.

    Attributes:
        name: such as "crossline", with the unit if it has one.
        first: number of the first column or row.
        step: to the next one.
    """

    name: str
    first: float = 0
    step: float = 1


@dataclass(frozen=True, eq=False)
class Item:
    """An image and what is known about its pixels.

    Attributes:
        title: a line.
        name: of the files that the page saves.
        layers: uint8 (H, W) each, by name: "image" in gray levels, "probability" in 255ths, and the masks {0, 1}
            "truth" and "stored", one that post-processing wrote.
        x, y: its columns and its rows.
    """

    title: str
    name: str
    layers: Mapping[str, np.ndarray]
    x: Axis = field(default_factory=lambda: Axis("column"))
    y: Axis = field(default_factory=lambda: Axis("row"))

    def encode(self) -> bytes:
        """Four bytes, little-endian: the length of the JSON text that follows; then the pixels, layer by layer.

        Not PNG: a browser that guards against fingerprinting changes the pixels that a page reads from a picture.
        """
        height, width = next(iter(self.layers.values())).shape
        head: dict[str, Any] = {
            "title": self.title,
            "name": self.name,
            "height": height,
            "width": width,
            "layers": list(self.layers),
            "x": vars(self.x),
            "y": vars(self.y),
        }
        text = json.dumps(head).encode()
        pixels = (np.ascontiguousarray(layer, np.uint8).tobytes() for layer in self.layers.values())
        return b"".join([len(text).to_bytes(4, "little"), text, *pixels])


def read_upload(data: bytes) -> np.ndarray:
    """Gray values of an image that was dropped, uint8 (H, W); raises InputError for one that cannot be used."""
    path = Path("the image")
    return image_files.to_gray(path, _decode(path, data), data.startswith(JPEG_START))


def read_uploaded_mask(data: bytes) -> np.ndarray:
    """A true mask that was dropped, uint8 {0, 1} (H, W); raises InputError for one that cannot be used."""
    path = Path("the mask")
    return image_files.to_mask(path, _decode(path, data))


def _decode(path: Path, data: bytes) -> np.ndarray:
    pixels = image_files.decode_bytes(path, data)  # looks at the size first, too: it may be four times as large
    height, width = pixels.shape[:2]
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{path} has {height}x{width} pixels, the page takes {MAX_PIXELS / 1e6:.0f} million; cut it into parts, or "
            "use saltseg predict"
        )
    return pixels
