"""Read image files as arrays: the organizers' (RGB tiles with equal channels, 16-bit masks) and users' own.

A file is looked at before it is decoded. What comes out is what a viewer shows; a file that a viewer shows in several
ways, or that is damaged, is refused. Images are never normalized by their own maximum: a dark tile stays dark.
"""

import io
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from saltseg.data import jpeg
from saltseg.data.files import FileProblem, list_files, read_bytes
from saltseg.errors import InputError, raise_if_of_machine, reason

MASK_WHITES = (1, 255, 65535)  # what "salt" is stored as: {0, 1}, 8-bit and 16-bit masks
FOLDER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 64_000_000
JPEG_CHROMA = 8  # gray levels by which lossy color coding moves the equal channels of a gray image apart
PNG_START = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 274  # the tag of EXIF
GRAY = "save it as 8- or 16-bit grayscale"

_PILLOW = threading.Lock()  # filters of warnings are those of the whole process


class _Refused(ValueError):
    """An image that is not damaged and cannot be used all the same: what is wrong, and the fix."""


def decode(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Pixels of a PNG, JPEG, TIFF or BMP file, upright as a viewer shows it.

    Args:
        path: image file; its content decides about the format, not its name.
        shape: required (H, W); None for any up to `MAX_PIXELS`.

    Returns:
        uint8 or uint16, (H, W) or, in the order BGR, (H, W, 3).

    Raises:
        FileProblem: the file is missing, damaged, too large, of another shape, partly transparent, of several pages,
            or of numbers that are neither 8- nor 16-bit.
    """
    return decode_bytes(path, read_bytes(path), shape)


def decode_bytes(path: Path, data: bytes, shape: tuple[int, int] | None = None) -> np.ndarray:
    """`decode` for the content of a file; ``path`` is for messages."""
    try:
        if data.startswith(PNG_START):
            pixels = _decode_png(data, shape)
        else:
            with _PILLOW, warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="PIL")
                warnings.filterwarnings("error", "(possibly )?corrupt|truncated", module="PIL")  # by any case
                pixels = _decode_other(data, shape)
        if shape is not None and pixels.shape[:2] != shape:
            raise _wrong_size(pixels.shape[0], pixels.shape[1], shape)
        return _opaque(pixels)
    except _Refused as error:
        raise FileProblem(path, *error.args) from None
    except Exception as error:  # Pillow and OpenCV raise many kinds for a damaged file
        raise_if_of_machine(error)
        problem = f"not a readable image ({len(data)} bytes): {reason(error)}"
        raise FileProblem(path, problem, "fetch the file again") from None


def _wrong_size(height: int, width: int, shape: tuple[int, int]) -> _Refused:
    return _Refused(f"size {height}x{width}, not {shape[0]}x{shape[1]}", "restore the original tile")


def _check_size(height: int, width: int, shape: tuple[int, int] | None) -> None:
    if shape is not None and sorted((height, width)) != sorted(shape):
        raise _wrong_size(height, width, shape)
    if height * width > MAX_PIXELS:
        raise _Refused(f"{height}x{width} pixels, more than {MAX_PIXELS / 1e6:.0f} million", "cut it into parts")


def _decode_png(data: bytes, shape: tuple[int, int] | None) -> np.ndarray:
    orientation = _inspect_png(data, shape)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("damaged")
    return _upright(np.asarray(pixels), orientation)


def _inspect_png(data: bytes, shape: tuple[int, int] | None) -> int:
    """Check a PNG from chunk to chunk, and its size, before it is decoded; return its EXIF orientation, 1 for none."""
    orientation, color = 1, None
    for kind, body in _png_chunks(data):
        if (color is None) != (kind == b"IHDR"):
            raise ValueError("no header at its beginning")
        if kind == b"IHDR":
            color = body[9]
            _check_size(int.from_bytes(body[4:8]), int.from_bytes(body[:4]), shape)
        elif kind == b"acTL":
            raise _Refused("an animation", "save one picture of it")
        elif kind == b"tRNS" and (color != 3 or body.strip(b"\xff")):  # OpenCV ignores a transparent gray value
            raise _Refused("transparent pixels", "save it without transparency")
        elif kind == b"eXIf":
            exif = Image.Exif()
            exif.load(b"Exif\0\0" + body)
            orientation = exif.get(ORIENTATION, 1)
    return orientation


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk of a PNG up to its end; ValueError for a damaged one."""
    kind, start = b"", len(PNG_START)
    while kind != b"IEND":
        kind, end = data[start + 4 : start + 8], start + 8 + int.from_bytes(data[start : start + 4])
        if len(data) < end + 4:
            raise ValueError("cut off, or a wrong length in it")
        if zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise ValueError("damaged: a checksum is wrong")
        yield kind, data[start + 8 : end]
        start = end + 4


def _decode_other(data: bytes, shape: tuple[int, int] | None) -> np.ndarray:
    image: Image.Image
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "TIFF", "BMP"))
    except Image.DecompressionBombError:
        raise _Refused(f"more than {MAX_PIXELS / 1e6:.0f} million pixels", "cut it into parts") from None
    except Image.UnidentifiedImageError:
        raise ValueError("none of PNG, JPEG, TIFF and BMP") from None
    _check_size(image.height, image.width, shape)
    try:
        image.seek(1)
    except EOFError:
        pass
    else:
        raise _Refused("several pages", "save each to a file of its own")
    if image.format == "JPEG":
        jpeg.require_complete(data)
    _check_numbers(image)
    orientation = 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION, 1)  # Pillow turns a TIFF itself
    image.load()
    if image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert(
            "RGBA" if "A" in image.mode or "a" in image.mode or "transparency" in image.info else "RGB"
        )
    pixels = np.asarray(image)
    if image.mode == "1":
        pixels = pixels * np.uint8(255)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return _upright(pixels.astype(pixels.dtype.newbyteorder("=")), orientation)


def _check_numbers(image: Image.Image) -> None:
    """Refuse what Pillow would read as other gray values than those in the file, and what is no gray value."""
    tags = getattr(image, "tag_v2", {})
    bits, formats = max(tags.get(258, (1,))), set(tags.get(339, (1,)))  # of a TIFF: bits, and 1 for unsigned numbers
    inverted = tags.get(262) == 0  # 0 is white
    if image.mode in ("F", "I") or formats != {1}:
        raise _Refused({"F": "float32 pixels"}.get(image.mode, "signed or 32-bit pixels"), GRAY)
    if image.mode not in ("1", "L", "P", "RGB", "LA", "PA", "La", "RGBA", "RGBa", "I;16", "I;16L", "I;16B"):
        raise _Refused(f"{image.mode} pixels", GRAY)
    if bits not in (1, 2, 4, 8, 16) or (bits == 16 and (inverted or not image.mode.startswith("I"))):
        raise _Refused(f"{bits}-bit {image.mode} pixels{', 0 for white' * inverted}", GRAY)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and flip pixels as EXIF says: 1 to 8, for the sides where the first row and the first column belong."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _opaque(pixels: np.ndarray) -> np.ndarray:
    """The pixels without their alpha channel, if that hides nothing."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    if pixels[..., 3].min() < np.iinfo(pixels.dtype).max:
        raise _Refused("transparent pixels (an alpha channel)", "save it without transparency")
    return pixels[..., :3]


def single_channel(path: Path, pixels: np.ndarray, tolerance: int = 0) -> np.ndarray:
    """Reduce equal channels to one.

    Args:
        path: for messages.
        pixels: (H, W) or (H, W, 3).
        tolerance: largest difference between channels, gray levels.

    Returns:
        (H, W), the same dtype.

    Raises:
        FileProblem: the channels differ by more.
    """
    if pixels.ndim == 2:
        return pixels
    blue, green, red = (pixels[..., channel] for channel in range(3))
    if not (np.array_equal(blue, green) and np.array_equal(green, red)):
        difference = int(np.ptp(pixels.astype(np.int64), axis=-1).max())
        if difference > tolerance:
            raise FileProblem(path, f"color channels differ by up to {difference}", "save it as grayscale")
    return np.ascontiguousarray(green)


def read_image(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read one tile from an 8-bit gray file, or an RGB(A) file with equal channels.

    Args:
        path: image file.
        shape: required (H, W); None for any.

    Returns:
        uint8 (H, W), 0..255.

    Raises:
        FileProblem: as `decode`, or the file is not 8-bit, or colored.
    """
    pixels = decode(path, shape)
    if pixels.dtype != np.uint8:
        raise FileProblem(path, f"{pixels.dtype} pixels, not 8-bit", "save it as 8-bit grayscale")
    return single_channel(path, pixels)


def read_mask(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read one mask from an 8- or 16-bit file with 0 for no salt and one of 1, 255, 65535 for salt.

    Args:
        path: image file.
        shape: required (H, W); None for any.

    Returns:
        uint8 {0, 1} (H, W).

    Raises:
        FileProblem: as `decode`, or the file is not binary.
    """
    return to_mask(path, decode(path, shape))


def to_mask(path: Path, pixels: np.ndarray) -> np.ndarray:
    """What `decode` gave as a mask: uint8 {0, 1} (H, W); raises FileProblem as `read_mask` does."""
    pixels = single_channel(path, pixels)
    white = pixels.max()
    if white not in (0, *MASK_WHITES) or not ((pixels == 0) | (pixels == white)).all():
        values = ", ".join(map(str, np.unique(pixels)[:5]))
        raise FileProblem(path, f"not binary (values {values}, …)", "use 0 for no salt and 65535 for salt")
    return (pixels != 0).astype(np.uint8)


def read_folder(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Read the PNG, JPG, TIF and BMP files of a folder one by one, of any size up to `MAX_PIXELS`.

    16-bit values are divided by 257 (65535 / 255) and rounded, never by their own maximum.

    Args:
        folder: only files directly in it, without hidden ones.

    Yields:
        Pairs of name without suffix and uint8 (H, W), sorted by path.

    Raises:
        InputError: no such folder, no image in it, an image that `decode` refuses or that is colored, or two of one
            name.
    """
    paths, _ = list_folder(folder)
    names: set[str] = set()
    for path in paths:
        if path.stem in names:
            raise InputError(f"{path}: a second image named {path.stem!r} in the folder; rename one of them")
        names.add(path.stem)
        yield path.stem, read_gray(path)


def list_folder(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Paths of the images that `read_folder` reads, and names of other files and folders; hidden ones are left out.

    Raises InputError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"folder of images: {folder} is no folder; check the path")
    paths = [folder / name for name in list_files(folder)]
    images = [path for path in paths if path.suffix.lower() in FOLDER_SUFFIXES]
    if not images:
        raise InputError(f"folder of images: no {' '.join(FOLDER_SUFFIXES)} in {folder}; check the path")
    return images, tuple(path.name for path in paths if path.suffix.lower() not in FOLDER_SUFFIXES)


def read_gray(path: Path) -> np.ndarray:
    """Read one image of a folder: uint8 (H, W), see `read_folder`; raises InputError for one that cannot be used."""
    if not path.name.isprintable():  # no UTF-8, or a line break
        raise InputError(f"{path.parent}: an image is named {path.name!a}, which no table can hold; rename it")
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    return to_gray(path, decode(path), lossy)


def to_gray(path: Path, pixels: np.ndarray, lossy: bool) -> np.ndarray:
    """What `decode` gave as gray values: uint8 (H, W). Raises FileProblem for colors; lossy: see `JPEG_CHROMA`."""
    pixels = single_channel(path, pixels, JPEG_CHROMA if lossy else 0)
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.uint32) * 255 + 32767) // 65535
    return pixels.astype(np.uint8)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG, or raise OSError: cv2.imwrite itself only returns False."""
    encoded, data = cv2.imencode(".png", pixels)
    if not encoded:
        raise OSError(f"PNG could not be encoded: {path}")
    path.write_bytes(data.tobytes())
