"""Unlabeled tiles from a folder of images, without the labeled and test images of a dataset."""

import hashlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from saltseg.config import MeanTeacher
from saltseg.data.competition import SHAPE, Images
from saltseg.data.duplicates import pixel_keys
from saltseg.data.image_files import read_folder
from saltseg.errors import InputError


def read(folder: Path, limit: int | None = None) -> Images:
    """Read the tiles of a folder's images.

    An image of 101x101 pixels is a tile; its id is the name of the file. A larger image, with a side of at least 202,
    is cut into tiles at its `corners`, whose ids add the row and column of their first pixel: `line7_0_101`.

    Args:
        folder: see `saltseg.data.image_files.read_folder`.
        limit: only the first so many tiles, by file name.

    Raises:
        InputError: an image is smaller than a tile or neither a tile nor a section, or two tiles have one id.
    """
    ids, tiles = list[str](), list[np.ndarray]()
    for id_, tile in itertools.islice(_tiles(folder), limit):
        ids.append(id_)
        tiles.append(tile)
    if len(set(ids)) < len(ids):
        repeated = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise InputError(f"{folder}: two tiles would have the id {repeated!r}; rename the image of that name")
    return Images(tuple(ids), np.stack(tiles))


def _tiles(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Id and pixels of each tile; one image at a time is in memory."""
    for id_, image in read_folder(folder):
        if image.shape == SHAPE:
            yield id_, image
            continue
        (height, width), (tile, _) = image.shape, SHAPE
        if min(height, width) < tile or max(height, width) < 2 * tile:
            raise InputError(
                f"{folder / id_}: {height}x{width} pixels; a tile has 101x101, an image to cut into tiles at least "
                "that and one side of 202; rescale it or leave it out"
            )
        for top, left in corners(height, width):
            yield f"{id_}_{top}_{left}", image[top : top + tile, left : left + tile].copy()


def corners(height: int, width: int) -> list[tuple[int, int]]:
    """Row and column of the first pixel of each tile that an image is cut into, row by row.

    As few tiles as cover the image, spread evenly; they overlap where 101 does not divide a side.
    """
    rows, columns = (
        np.linspace(0, side - tile, math.ceil(side / tile)).round().astype(int).tolist()
        for side, tile in zip((height, width), SHAPE, strict=True)
    )
    return [(top, left) for top in rows for left in columns]


def mean_teacher_images(config: MeanTeacher) -> Images:
    """The tiles that a mean teacher labels, see `read`."""
    return read(Path(config.images), config.limit or None)


def fingerprint(images: Images) -> str:
    """SHA-256 (hex) over ids and pixels."""
    digest = hashlib.sha256("\n".join(images.ids).encode())
    digest.update(images.images.tobytes())
    return digest.hexdigest()


def exclude_known(images: Images, labeled: np.ndarray, test: np.ndarray, transduction: bool) -> Images:
    """Drop images that are also labeled or test images, so that none of those is trained on under another name.

    Images are compared as a whole, pixel by pixel: a tile that only overlaps a known one stays. Constant tiles stay as
    well, because they are frequent and all alike.

    Args:
        images: unlabeled tiles.
        labeled: uint8 (N, 101, 101), labeled tiles.
        test: uint8 (N, 101, 101), test tiles.
        transduction: keep images of the test set.

    Raises:
        InputError: no image is left that is not constant.
    """
    known = {*pixel_keys(labeled), *(() if transduction else pixel_keys(test))}
    keys = pixel_keys(images.images)
    kept = [i for i, key in enumerate(keys) if not key or key not in known]
    if not any(keys[i] for i in kept):
        raise InputError(
            "all of the images are labeled or test images, or of one gray value throughout; give others, or allow the "
            "test set's (--set pseudo.transduction=true; saltseg pretrain and saltseg study: --transduction)"
        )
    return Images(tuple(images.ids[i] for i in kept), images.images[kept])
