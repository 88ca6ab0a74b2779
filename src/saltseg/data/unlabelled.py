"""Images that have no labels: tiles out of a folder, without those that a dataset is judged by."""

import hashlib
import math
from pathlib import Path

import numpy as np

from saltseg.config import PseudoConfig
from saltseg.data.competition import SHAPE, Images
from saltseg.data.image_files import read_folder
from saltseg.errors import InputError


def read(folder: Path, limit: int | None = None) -> Images:
    """The tiles of a folder's images, uint8 (N, 101, 101).

    Ids are the names of the files. An image with a side twice as long as a tile's is cut into tiles at its `corners`,
    whose ids end in the row and column of their first pixel: ``line7_0_101``. limit: only the first so many tiles, by
    file name, or all where there are fewer. Raises InputError for an image that is smaller, or a tile at another scale.
    """
    ids, tiles = list[str](), list[np.ndarray]()
    for id_, image in read_folder(folder, limit):
        if image.shape == SHAPE:
            ids.append(id_)
            tiles.append(image)
            continue
        (height, width), (least, _) = image.shape, SHAPE
        if min(height, width) < least or max(height, width) < 2 * least:
            raise InputError(
                f"{folder / id_}: {height}x{width} pixels; tiles have 101x101, and what is cut into tiles at least "
                "that and one side of 202; bring it to the scale of tiles, or leave it out"
            )
        for top, left in corners(height, width):
            ids.append(f"{id_}_{top}_{left}")
            tiles.append(image[top : top + least, left : left + least])
    ids, tiles = ids[:limit], tiles[:limit]
    if len(set(ids)) < len(ids):
        twice = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise InputError(f"{folder}: a tile cut of an image would be called {twice!r}, as another is; rename that")
    return Images(tuple(ids), np.stack(tiles))


def corners(height: int, width: int) -> list[tuple[int, int]]:
    """Row and column of the first pixel of each tile that an image is cut into, row by row.

    As few tiles as cover the image, spread evenly; they overlap where 101 does not divide a side.
    """
    rows, columns = (
        np.linspace(0, side - tile, math.ceil(side / tile)).round().astype(int).tolist()
        for side, tile in zip((height, width), SHAPE, strict=True)
    )
    return [(top, left) for top in rows for left in columns]


def own_images(config: PseudoConfig) -> Images:
    """The tiles that a network which is its own teacher learns from, see `read`."""
    return read(Path(config.images), config.limit or None)


def fingerprint(images: Images) -> str:
    """SHA-256 (hex) over ids and pixels."""
    digest = hashlib.sha256("\n".join(images.ids).encode())
    digest.update(images.images.tobytes())
    return digest.hexdigest()


def without_known(images: Images, config: PseudoConfig, labelled: np.ndarray, test: np.ndarray) -> Images:
    """``images`` but those whose pixels are one of ``labelled`` or ``test``, both uint8 (N, 101, 101).

    So no validation or test image comes in by another name (``config.transduction`` lets the test set in); a tile that
    merely overlaps one is not found. Constant tiles stay: they are many, and alike. Raises InputError when no other
    image is left.
    """
    known = {_key(image) for image in (*labelled, *(test[:0] if config.transduction else test))}
    kept = [i for i, image in enumerate(images.images) if np.ptp(image) == 0 or _key(image) not in known]
    if all(np.ptp(images.images[i]) == 0 for i in kept):
        raise InputError(
            "all of the images are labelled or test images, or of one grey value throughout; give others, or --set "
            "pseudo.transduction=true for the test set's"
        )
    return Images(tuple(images.ids[i] for i in kept), images.images[kept])


def _key(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
