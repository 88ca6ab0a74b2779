"""Predict a folder of images of any size that belong to no dataset: masks as PNG files and one CSV.

Every image is checked before the first is predicted. What is predicted stays: a call that was interrupted is repeated
and predicts only what is missing. Other batches than before may change a probability by 1/255 then.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
from tqdm import tqdm

from saltseg import io
from saltseg.config import Runtime
from saltseg.data import competition, image_files
from saltseg.errors import InputError
from saltseg.inference import windows
from saltseg.metrics import rle
from saltseg.pipeline import trained
from saltseg.pipeline.trained import Reference, Trained
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.releases import ModelDir
from saltseg.runs import RunDir
from saltseg.workers import Workers

TILE_HEIGHT, TILE_WIDTH = competition.SHAPE
NAMED = 20  # images in a message
SHARD = 256  # windows of a unit of work
TOGETHER = 2_000_000  # pixels that are post-processed at once


@dataclass(frozen=True)
class _Image:
    """An image of the folder.

    Attributes:
        height, width: pixels.
        stored: where its probabilities wait until all are predicted, named by what they depend on.
    """

    path: Path
    height: int
    width: int
    stored: Path

    @property
    def windows(self) -> int:
        return windows.count_windows(self.height, self.width)


def predict_folder(
    source: RunDir | ModelDir,
    images_dir: Path,
    target: Path,
    *,
    tta: tuple[str, ...] | None = None,
    runtime: Runtime | None = None,
    where: Workers | None = None,
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Predict every image of a folder with the mean of a run's folds, or a released model, and its post-processing.

    Writes ``<id>_mask.png`` (uint8, 255 is salt), ``<id>_probability.png`` (uint8, 255ths) and ``masks.csv``. The
    minimum area was tuned on tiles; in a larger image it applies to each body, see `postprocess`. The presence
    threshold is not applied: it is about whole tiles.

    Args:
        source: a run with at least one finished fold, or a model.
        images_dir: PNG, JPG, TIF and BMP files, see `image_files.read_folder`.
        target: a new folder, made completely or not at all. Until then probabilities wait in the hidden folder
            ``.<target>.done``.
        tta: names of views; None: those of the run or the model.
        runtime: how a machine computes; None: the defaults.
        where: images are predicted, in shards; the rest is done here. None: here, too.

    Returns:
        The rows of ``masks.csv``: id, height, width, salt_share, emptied (1 where post-processing removed all salt
        that threshold 0.5 finds, else 0), rle_mask; and the names of files that are no images.

    Raises:
        InputError: ``target`` exists or another process is making it; the run has no finished fold; images that cannot
            be read, all of them named; an image that the networks answer with NaN.
    """
    done = target.parent / f".{target.name}.done"  # not `with_name`, which refuses "." and "/"
    if target.exists():
        io.remove(done)  # of a process that was killed when it had finished
        raise InputError(f"{target} exists; choose another --to or remove it")
    paths, left_out = image_files.list_folder(images_dir)
    predictor = trained.load(source, tta, runtime)
    images = _check(paths, trained.fingerprint(predictor), done)
    with io.atomic_dir(target) as new:
        missing = list({image.stored: image for image in images if _stored(image) is None}.values())
        total = sum(image.windows for image in missing)
        done.mkdir(exist_ok=True)
        with tqdm(desc="predicting", total=total, unit="window", mininterval=1, disable=not missing) as bar:
            if where is None or where.here:
                _predict(missing, predictor, bar.update)
            elif missing:
                reference = trained.refer(predictor, source, tta, runtime)
                units = [(reference, shard) for shard in _shards(missing)]
                for predicted in where.map(_predict_there, units, done):
                    bar.update(predicted)
        rows = [row for part in _parts(images) for row in _write(part, new, predictor.postprocessing)]
        io.write_csv(new / "masks.csv", rows)
    io.remove(done)
    return rows, left_out


def _check(paths: Sequence[Path], fingerprint: str, done: Path) -> list[_Image]:
    """Read every image; raise InputError with those that cannot be used, and why."""
    images: list[_Image] = []
    unreadable: list[str] = []
    same_name: list[str] = []
    path_of_id: dict[str, Path] = {}
    for path in tqdm(paths, desc="reading", unit="img", mininterval=1, leave=False):
        other = path_of_id.setdefault(path.stem, path)
        if other != path:
            same_name.append(f"{path.name!a} has the name of {other.name!a}")
        try:
            pixels = image_files.read_gray(path)
        except InputError as error:
            unreadable.append(str(error))
            continue
        digest = hashlib.sha256(f"{fingerprint} {pixels.shape}".encode() + pixels.tobytes())
        height, width = pixels.shape
        images.append(_Image(path, height, width, done / f"{digest.hexdigest()}.png"))
    problems = [_named(unreadable)] if unreadable else []
    problems += [f"{_named(same_name)}; rename them"] if same_name else []
    if problems:
        raise InputError(" | ".join(problems))
    return images


def _named(problems: Sequence[str]) -> str:
    """Up to `NAMED` problems, and how many there are."""
    more = f" and {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
    return f"{len(problems):,} images: {', '.join(problems[:NAMED])}{more}"


def _predict(images: Sequence[_Image], predictor: Trained, progress: Callable[[int], object] | None = None) -> None:
    """Store the probabilities of images."""
    pixels = (image_files.read_gray(image.path) for image in images)
    predicted = windows.predict_images(predictor.networks, pixels, predictor.settings, progress=progress)
    for image in images:
        try:
            probability = next(predicted)
        except InputError as error:
            raise InputError(
                f"{image.path}: {error}; take it out of the folder and rerun: the images before it are kept"
            ) from None
        # Not synced to the disk, which would take longer than predicting a tile: `_stored` finds half a file.
        beside = image.stored.with_suffix(f".{uuid4().hex}.part")
        image_files.write_png(beside, probability)
        beside.replace(image.stored)


def _shards(images: Sequence[_Image]) -> Iterator[list[_Image]]:
    """Images in parts of about `SHARD` windows."""
    shard, size = list[_Image](), 0
    for image in images:
        shard.append(replace(image, path=image.path.resolve(), stored=image.stored.resolve()))
        size += image.windows
        if size >= SHARD:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _predict_there(reference: Reference, images: Sequence[_Image]) -> int:
    """A unit of work: predict images in another process; returns how many windows they have."""
    _predict([image for image in images if _stored(image) is None], trained.follow(reference))
    return sum(image.windows for image in images)


def _stored(image: _Image) -> np.ndarray | None:
    """The stored probabilities of an image, uint8 (H, W) in 255ths; None where there are none, or half of them."""
    with suppress(InputError):
        return image_files.read_gray(image.stored)
    return None


def _parts(images: Sequence[_Image]) -> Iterator[list[_Image]]:
    """The images in order, neighbors of one size together: many tiles, or one larger image."""
    for (height, width), same in groupby(images, key=lambda image: (image.height, image.width)):
        most, rest = max(1, TOGETHER // (height * width)), list(same)
        yield from (rest[start : start + most] for start in range(0, len(rest), most))


def _write(images: Sequence[_Image], folder: Path, postprocessing: Postprocessing) -> Iterator[dict[str, Any]]:
    """Write masks and probabilities of predicted images of one size; yields their rows of ``masks.csv``."""
    probabilities = np.stack([image_files.read_gray(image.stored) for image in images])
    masks = postprocess(probabilities, postprocessing)
    for image, probability, mask in zip(images, probabilities, masks, strict=True):
        id_ = image.path.stem
        image_files.write_png(folder / f"{id_}_mask.png", mask * np.uint8(255))
        shutil.copyfile(image.stored, folder / f"{id_}_probability.png")
        emptied = not mask.any() and probability.max() >= THRESHOLD_HALF.threshold
        share = f"{mask.mean():.4f}"
        size = {"id": id_, "height": image.height, "width": image.width}
        yield {**size, "salt_share": share, "emptied": int(emptied), "rle_mask": rle.encode(mask)}


def postprocess(probabilities: np.ndarray, postprocessing: Postprocessing) -> np.ndarray:
    """Apply a post-processing that was tuned on tiles to images of any size.

    The minimum area, in pixels of the image as it is, empties an image up to the size of a tile, as tuned. In a larger
    image it removes each 8-connected body of salt that is smaller.

    Args:
        probabilities: uint8 (N, H, W), 255ths.
        postprocessing: its presence threshold is not applied.

    Returns:
        uint8 (N, H, W), {0, 1}.
    """
    postprocessing = replace(postprocessing, presence_threshold=0)
    _, height, width = probabilities.shape
    if height * width <= TILE_HEIGHT * TILE_WIDTH:
        return postprocessing.apply(probabilities)
    masks = replace(postprocessing, min_area=0).apply(probabilities)
    for mask in masks:
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        large = statistics[:, cv2.CC_STAT_AREA] >= postprocessing.min_area
        large[0] = False  # the background
        mask[:] = large[labels]
    return masks
