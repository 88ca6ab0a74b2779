"""Image files as arrays: the organisers' (RGB tiles with equal channels, 16-bit masks) and users' own.

Nothing is ever scaled by the largest value of a picture: a dark tile stays dark.
"""

from pathlib import Path

import cv2
import numpy as np

from saltseg.errors import InputError

MASK_WHITES = (1, 255, 65535)  # what "salt" is stored as: {0, 1}, 8-bit and 16-bit masks
FOLDER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
JPEG_CHROMA = 8  # lossy colour coding moves equal channels of a grey picture apart by a few grey levels


class FileProblem(InputError):
    """One file that cannot be used: `where` (path), `what` is wrong, how to `fix` it."""

    def __init__(self, where: Path, what: str, fix: str) -> None:
        super().__init__(f"{where}: {what}; {fix}")
        self.where, self.what, self.fix = where, what, fix


def decode(path: Path) -> np.ndarray:
    """Pixels of an image file as stored, (H, W) or (H, W, 3 | 4), any dtype. FileProblem if unreadable."""
    try:
        # Not cv2.imread: it prints instead of raising and cannot open non-ASCII paths on Windows.
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except FileNotFoundError:
        raise FileProblem(path, "file is missing", "restore it or remove its row") from None
    except OSError as error:
        raise FileProblem(path, f"cannot be opened ({error.strerror})", "check its permissions") from None
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise FileProblem(path, f"not a readable image ({data.size} bytes)", "fetch the file again")
    return np.asarray(pixels)


def single_channel(path: Path, pixels: np.ndarray, tolerance: int = 0) -> np.ndarray:
    """(H, W) from (H, W) or from equal channels (H, W, 3 | 4), alpha ignored; FileProblem if they differ."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] not in (3, 4):
        raise FileProblem(path, f"{pixels.shape[2]} channels", "save it as greyscale")
    blue, green, red = (pixels[..., channel] for channel in range(3))
    if not (np.array_equal(blue, green) and np.array_equal(green, red)):
        difference = int(np.ptp(pixels[..., :3].astype(np.int64), axis=-1).max())
        if difference > tolerance:
            raise FileProblem(path, f"colour channels differ by up to {difference}", "save it as greyscale")
    return np.ascontiguousarray(green)


def _check_shape(path: Path, pixels: np.ndarray, shape: tuple[int, int] | None) -> None:
    if shape is not None and pixels.shape[:2] != shape:
        size = "x".join(map(str, pixels.shape[:2]))
        raise FileProblem(path, f"size {size}, not {shape[0]}x{shape[1]}", "restore the original tile")


def read_image(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read one tile: uint8 (H, W), 0..255, from an 8-bit grey or an RGB(A) file with equal channels.

    Raises FileProblem (an InputError) if missing, unreadable, not 8-bit, coloured, or not of `shape` (H, W).
    """
    pixels = decode(path)
    _check_shape(path, pixels, shape)
    if pixels.dtype != np.uint8:
        raise FileProblem(path, f"{pixels.dtype} pixels, not 8-bit", "save it as 8-bit greyscale")
    return single_channel(path, pixels)


def read_mask(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read one mask: uint8 (H, W) {0, 1}, from an 8- or 16-bit file of 0 and one of 1, 255, 65535.

    Raises FileProblem (an InputError) if missing, unreadable, not binary, or not of `shape` (H, W).
    """
    pixels = decode(path)
    _check_shape(path, pixels, shape)
    pixels = single_channel(path, pixels)
    salt = pixels != 0
    white = pixels.max()
    if (white and white not in MASK_WHITES) or not np.array_equal(pixels == white, salt | (white == 0)):
        values = ", ".join(map(str, np.unique(pixels)[:5]))
        raise FileProblem(path, f"not binary (values {values}, …)", "use 0 for no salt and 65535 for salt")
    return salt.astype(np.uint8)


def read_folder(folder: Path, limit: int | None = None) -> list[tuple[str, np.ndarray]]:
    """Every PNG, JPG, TIF and BMP in `folder`, sorted: (name without suffix, uint8 (H, W)), any size.

    limit: only the first so many.
    16-bit images are scaled by their bit depth (65535), never by their own largest value. InputError: no such
    folder, no image in it, one that is unreadable, coloured or neither 8- nor 16-bit, two of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"folder of images: {folder} is no folder; check the path")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in FOLDER_SUFFIXES)
    if not paths:
        raise InputError(f"folder of images: no {' '.join(FOLDER_SUFFIXES)} in {folder}; check the path")
    images: dict[str, np.ndarray] = {}
    for path in paths[:limit]:
        if path.stem in images:
            raise InputError(f"{path}: a second image named {path.stem!r} in the folder; rename one of them")
        lossy = path.suffix.lower() in (".jpg", ".jpeg")
        pixels = single_channel(path, decode(path), JPEG_CHROMA if lossy else 0)
        if pixels.dtype == np.uint16:
            pixels = (pixels.astype(np.uint32) * 255 + 32767) // 65535
        elif pixels.dtype != np.uint8:
            raise FileProblem(path, f"{pixels.dtype} pixels", "save it as 8- or 16-bit greyscale")
        images[path.stem] = pixels.astype(np.uint8)
    return list(images.items())


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG, or raise OSError: cv2.imwrite itself only returns False."""
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise OSError(f"PNG could not be encoded: {path}")
    path.write_bytes(data.tobytes())
