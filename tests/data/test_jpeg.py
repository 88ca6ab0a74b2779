"""Damage that decoders pass over is found; whatever Pillow writes is not taken for damage."""

import os
import re
import tempfile
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from odd_images import saved, smooth

from saltseg.data import jpeg

OPTIONS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive with restarts": {"progressive": True, "restart_marker_blocks": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (101, 101), (64, 333)])
@pytest.mark.parametrize("subsampling", [None, 0, 1, 2], ids=["gray", "4:4:4", "4:2:2", "4:2:0"])
def test_a_whole_file_is_complete(size, subsampling, name):
    pixels = smooth(*size, channels=1 if subsampling is None else 3)
    for quality in (5, 95, 100):
        more = {} if subsampling is None else {"subsampling": subsampling}
        jpeg.require_complete(saved(pixels, "JPEG", quality=quality, optimize=quality == 95, **more, **OPTIONS[name]))


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    """Copies with bytes overwritten, zeroed or left out somewhere in the codes."""
    rng = np.random.default_rng(0)
    start = data.index(b"\xff\xda") + 14
    for number in range(count):
        at = int(rng.integers(start, len(data) - 300))
        yield data[:at] + [rng.bytes(4), bytes(50), b""][number % 3] + data[at + [4, 50, 150][number % 3] :]


def libjpeg_warns(data: bytes) -> bool:
    """Whether OpenCV's libjpeg prints a warning, which it does on the file handle of standard error."""
    with tempfile.TemporaryFile() as file:
        handle = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        finally:
            os.dup2(handle, 2)
            os.close(handle)
        file.seek(0)
        return re.search(rb"[Cc]orrupt|[Pp]remature", file.read()) is not None


@pytest.mark.parametrize("name", OPTIONS)
def test_whatever_libjpeg_warns_of_is_refused(name):
    data = saved(smooth(101, 150), "JPEG", quality=90, **OPTIONS[name])
    warned = refused = 0
    for copy in damaged(data, 90):
        try:
            jpeg.require_complete(copy)
        except ValueError:
            refused += 1
            continue
        warned += libjpeg_warns(copy)
    assert warned == 0
    assert refused > 45


def test_a_lost_part_between_restarts_is_missed():
    data = saved(smooth(64, 64), "JPEG", restart_marker_rows=1)
    parts = re.split(rb"(?=\xff[\xd0-\xd7])", data)
    assert len(parts) == 8
    jpeg.require_complete(b"".join(parts))
    for lost in ([*parts[:3], *parts[4:]], [*parts[:2], parts[3], parts[2], *parts[4:]]):
        with pytest.raises(ValueError, match="a part of the picture is missing"):
            jpeg.require_complete(b"".join(lost))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xd8\xff\xd9", "it holds no picture"),
        (b"\xff\xd8", "damaged or cut off"),
        (b"\xff\xd8garbage", "damaged between its segments"),
        (b"\xff\xd8\xff\xc9\0\x03\x08", "neither a baseline nor a progressive"),
    ],
)
def test_what_is_no_picture_is_told(data, message):
    with pytest.raises(ValueError, match=message):
        jpeg.require_complete(data)
