"""Predict a folder of images of any size that belong to no dataset: masks as PNG files and one CSV.

Every image is checked before the first is predicted. What is predicted stays: a call that was killed, or that found
images too large for the memory, is repeated with the same result and predicts only what is missing.
"""

import copy
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from saltseg import __version__, io, runs
from saltseg.config import Config, Runtime, change
from saltseg.data import competition, image_files
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError, reason
from saltseg.inference import predict
from saltseg.metrics import rle
from saltseg.models import checkpoints, precision
from saltseg.models.salt_network import outputs
from saltseg.pipeline import tune
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing

TILE_HEIGHT, TILE_WIDTH = competition.SHAPE
NAMED = 20  # images in a message


def predict_folder(
    run: runs.RunDir,
    images_dir: Path,
    target: Path,
    *,
    tta: tuple[str, ...] | None = None,
    runtime: Runtime | None = None,
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Predict every image of a folder with the mean of a run's folds, under the run's post-processing.

    Writes ``<id>_mask.png`` (uint8, 255 is salt), ``<id>_probability.png`` (uint8, 255ths) and ``masks.csv``. The
    minimum area was tuned on tiles; in a larger image it applies to each body, see `postprocess`. The presence
    threshold is not applied: it is about whole tiles.

    Args:
        run: with at least one finished fold.
        images_dir: PNG, JPG, TIF and BMP files, see `image_files.read_folder`.
        target: a new folder, made completely or not at all. Until then probabilities wait in the hidden folder
            ``.<target>.done``.
        tta: names of views; None: those of the run's configuration.
        runtime: how this machine computes; None: the defaults.

    Returns:
        The rows of ``masks.csv``: id, height, width, salt_share, emptied (1 where post-processing removed all salt
        that threshold 0.5 finds, else 0), rle_mask; and the names of files that are no images.

    Raises:
        InputError: ``target`` exists or another process is making it; the run has no finished fold; images that cannot
            be read or predicted, all of them named. Those that are too large for the memory are named when all others
            are predicted.
    """
    done = target.with_name(f".{target.name}.done")
    if target.exists():
        io.remove(done)  # of a process that was killed when it had finished
        raise InputError(f"{target} exists; choose another --to or remove it")
    finished, settings = run.trained_folds(), precision.trained_config(run, runtime)
    if tta:
        settings = change(settings, {"predict.tta": list(tta)})
    paths, left_out = image_files.list_folder(images_dir)
    postprocessing = tune.postprocessing_of(run)
    networks = [network for fold in finished for network in checkpoints.load_networks(settings, fold)]
    _check(paths, run, networks[0], settings)
    identity, rows, failed = _identity(networks, settings), [], []
    with io.atomic_dir(target) as new:
        for path in (bar := tqdm(paths, desc="predicting", unit="img", mininterval=1)):
            image, id_ = image_files.read_gray(path), path.stem
            height, width = image.shape
            # Shown before it is predicted where that may take long, or be the end: the system kills without a word.
            bar.set_postfix_str(f"{path.name}, {height}x{width}", refresh=image.size > TILE_HEIGHT * TILE_WIDTH)
            probability_path = done / f"{_key(identity, image)}.png"
            try:
                if not probability_path.is_file():
                    with io.atomic_path(probability_path) as beside:
                        image_files.write_png(beside, _predict(networks, image, settings))
            except (InputError, RuntimeError, MemoryError) as error:  # too large for the memory; NaN
                failed.append(f"{path.name} of {height}x{width} pixels ({reason(error, 160)})")
                continue
            probability = image_files.read_gray(probability_path)
            mask = postprocess(probability, postprocessing)
            image_files.write_png(new / f"{id_}_mask.png", mask * np.uint8(255))
            shutil.copyfile(probability_path, new / f"{id_}_probability.png")
            emptied = not mask.any() and probability.max() >= THRESHOLD_HALF.threshold
            size = {"id": id_, "height": height, "width": width}
            share = f"{mask.mean():.4f}"
            rows.append({**size, "salt_share": share, "emptied": int(emptied), "rle_mask": rle.encode(mask)})
        if failed:
            raise InputError(
                f"{_named(failed)} cannot be predicted; cut them into parts or take them out of {images_dir} and "
                f"rerun: the other {len(rows)} images are predicted and kept"
            )
        io.write_csv(new / "masks.csv", rows)
    io.remove(done)
    return rows, left_out


def _check(paths: Sequence[Path], run: runs.RunDir, network: nn.Module, settings: Config) -> None:
    """Read every image; raise InputError with those that cannot be used, and why."""
    problems: dict[str, list[str]] = {}
    path_of_id: dict[str, Path] = {}
    shapes_only = copy.deepcopy(network).to("meta")

    @cache
    def too_small(height: int, width: int) -> bool:
        return min(height, width) < TILE_HEIGHT and not _accepts(shapes_only, settings, height, width)

    for path in paths:
        other = path_of_id.setdefault(path.stem, path)
        if other != path:
            problems.setdefault("rename them", []).append(f"{path.name!a} has the name of {other.name!a}")
        try:
            height, width = image_files.read_gray(path).shape
        except InputError as error:
            problems.setdefault("", []).append(str(error))
            continue
        size = f"{path.name!a} of {height}x{width}"
        if height * width > predict.LARGEST:
            way_out = f"they are seen whole, up to {predict.LARGEST:,} pixels: cut them into parts of 2000x2000"
            problems.setdefault(way_out, []).append(size)
        elif settings.model.extra_channels and (height, width) != competition.SHAPE:
            way_out = (
                f"{run.name} has model.extra_channels, which number the rows of a tile: cut them into tiles of "
                f"{TILE_HEIGHT}x{TILE_WIDTH}, or use a run without extra channels"
            )
            problems.setdefault(way_out, []).append(size)
        elif too_small(height, width):
            way_out = f"they are too small for {settings.model.architecture}: enlarge them"
            problems.setdefault(way_out, []).append(size)
    if problems:
        raise InputError(" | ".join("; ".join(filter(None, (_named(p), way))) for way, p in problems.items()))


def _accepts(network: nn.Module, settings: Config, height: int, width: int) -> bool:
    """Whether a network accepts images of this size. network: on the device "meta", where nothing is computed."""
    transform = TileTransform.section(settings.data.resize_mode, settings.data.size, height, width)
    shape = (1, settings.model.in_channels, transform.height, transform.width)
    try:
        outputs(network, torch.empty(shape, device="meta"))
    except NotImplementedError:  # that device lacks an operation of this network, so nothing is known
        return True
    except (RuntimeError, ValueError):
        return False
    return True


def _named(problems: Sequence[str]) -> str:
    """Up to `NAMED` problems, and how many there are."""
    more = f" and {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
    return f"{len(problems):,} images: {', '.join(problems[:NAMED])}{more}"


def _identity(networks: Sequence[nn.Module], settings: Config) -> Callable[[], Any]:
    """A hash, to copy, of everything that predictions depend on but the image."""
    device = next(networks[0].parameters()).device.type
    digest = hashlib.sha256(f"{__version__} {device} {settings}".encode())
    for network in networks:
        for tensor in network.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.copy


def _key(identity: Callable[[], Any], image: np.ndarray) -> str:
    digest = identity()
    digest.update(str(image.shape).encode() + image.tobytes())
    return digest.hexdigest()


def postprocess(probability: np.ndarray, postprocessing: Postprocessing) -> np.ndarray:
    """Apply a post-processing that was tuned on tiles to an image of any size.

    The minimum area, in pixels of the image as it is, empties an image up to the size of a tile, as tuned. In a larger
    image it removes each 8-connected body of salt that is smaller.

    Args:
        probability: uint8 (H, W), 255ths.
        postprocessing: its presence threshold is not applied.

    Returns:
        uint8 (H, W), {0, 1}.
    """
    postprocessing = replace(postprocessing, presence_threshold=0)
    if probability.size <= TILE_HEIGHT * TILE_WIDTH:
        return postprocessing.apply(probability[None])[0]
    mask = replace(postprocessing, min_area=0).apply(probability[None])[0]
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = statistics[:, cv2.CC_STAT_AREA] >= postprocessing.min_area
    large[0] = False  # the background
    return large[labels].astype(np.uint8)


def _predict(networks: Sequence[nn.Module], image: np.ndarray, settings: Config) -> np.ndarray:
    """Salt probability, uint8 (H, W) in 255ths."""
    if settings.model.extra_channels:  # a tile, whose rows these channels number
        return predict.predictions(networks, ("",), image[None], settings).probabilities[0]
    return predict.predict_image(networks, image, settings)
