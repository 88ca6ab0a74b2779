"""The numpy core against the code that kernels of the competition share: metric, threshold search, run lengths; and the
loss that sorts."""

import time
from unittest import mock

import numpy as np
import torch
from pycocotools import mask as coco
from scipy.ndimage import gaussian_filter

from harness import Row, in_turn, rates
from saltseg.metrics import average_precision, rle
from saltseg.models import losses
from saltseg.postprocessing import threshold_search

AREAS = 30  # minimum areas that the loop would try at each of 256 thresholds


def made_up(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random masks, 39 % of them empty, and stored probabilities around them, both uint8 (N, 101, 101)."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(count, 101, 101)).astype(np.float32), (0, 20, 20))
    field /= field.std(axis=(1, 2), keepdims=True)
    field[rng.random(count) < 0.39] -= 9
    noise = gaussian_filter(rng.normal(size=field.shape).astype(np.float32), (0, 3, 3)) * 4
    return (field > 0.6).astype(np.uint8), (255 / (1 + np.exp(-(4 * field - 2.4 + noise)))).astype(np.uint8)


def kernel_precision(predicted: np.ndarray, true: np.ndarray) -> float:
    """One image's score as kernels compute it: masks, union, ten thresholds."""
    if true.sum() == 0:
        return float(predicted.sum() == 0)
    intersection = np.logical_and(predicted, true).sum()
    union = np.logical_or(predicted, true).sum()
    return float(np.mean([intersection / union > threshold for threshold in np.arange(0.5, 1.0, 0.05)]))


def histogram_precision(predicted: np.ndarray, true: np.ndarray) -> float:
    """One image's score as the most copied kernel computes it, its two-bin histogram's bug repaired."""
    bins = ([-0.5, 0.5, 1.5], [-0.5, 0.5, 1.5])
    intersection = np.histogram2d(true.flatten(), predicted.flatten(), bins=bins)[0]
    areas = np.histogram(true, bins=bins[0])[0], np.histogram(predicted, bins=bins[0])[0]
    union = areas[0][1] + areas[1][1] - intersection[1, 1]
    if union == 0 or areas[0][1] == 0:
        return float(union == 0)
    return float(np.mean([intersection[1, 1] / union > threshold for threshold in np.arange(0.5, 1.0, 0.05)]))


def score(count: int, repeats: int) -> list[Row]:
    """The metric of many images."""
    true, stored = made_up(count)
    predicted = (stored >= 128).astype(np.uint8)
    what, few = f"metric, {count:,} images", max(1, count // 40)

    def ours() -> None:
        average_precision.score(predicted, true)

    def loop() -> None:
        np.mean([kernel_precision(one, other) for one, other in zip(predicted, true, strict=True)])

    def copied() -> None:
        np.mean([histogram_precision(one, other) for one, other in zip(predicted[:few], true[:few], strict=True)])

    lean, slow = in_turn(ours, loop, repeats), in_turn(ours, copied, repeats)
    return [
        rates(what, "a lean loop over images", "images/s", lean, count, target=50),
        rates(what, f"np.histogram2d per image (of {few})", "images/s", slow, count, few, target=50),
    ]


def search(count: int, repeats: int) -> Row:
    """Every threshold and minimum area: ours in full, the loop on a part of it and extrapolated."""
    true, stored = made_up(count)
    part, tried = max(1, count // 40), (64, 128, 192)

    def loop() -> None:
        for threshold in tried:
            predicted = stored[:part] >= threshold
            np.mean([kernel_precision(one, other) for one, other in zip(predicted, true[:part], strict=True)])

    pairs = in_turn(lambda: threshold_search.search(stored, true), loop, repeats)
    done = part * len(tried) / (count * 256 * AREAS)  # the loop tries 30 areas, ours all 10,202
    started = time.process_time()
    threshold_search.search(stored, true)
    spent = time.process_time() - started
    against = f"a loop over 256 thresholds x {AREAS} areas x images"
    note = f"the loop extrapolated from {part} images, {len(tried)} thresholds; ours: {spent:.2f} s of a core"
    return rates(f"threshold search, {count:,} images", against, "searches/s", pairs, 1, done, 500, note)


def run_lengths(count: int, repeats: int) -> list[Row]:
    """Encoding and decoding of as many masks as the competition's test set has, against pycocotools' C."""
    few, _ = made_up(2000)
    masks = np.tile(few, (-(-count // 2000), 1, 1))[:count]
    texts = rle.encode_batch(masks)
    fortran = np.asfortranarray(masks.transpose(1, 2, 0))
    packed = coco.encode(fortran)
    calls = {
        "RLE encode": (lambda: rle.encode_batch(masks), lambda: coco.encode(fortran)),
        "RLE decode": (lambda: rle.decode_batch(texts), lambda: coco.decode(packed)),
    }
    return [
        rates(f"{name}, {count:,} masks", "pycocotools' C", "masks/s", in_turn(*pair, repeats), count, target=0.5)
        for name, pair in calls.items()
    ]


def sorting(batch: int, repeats: int) -> Row:
    """The symmetric Lovász loss of a batch, forward and backward, on a CPU, against one sorted by torch."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, 1, 128, 128, generator=generator, requires_grad=True)
    masks = (torch.rand(batch, 1, 128, 128, generator=generator) > 0.5).float()

    def loss() -> None:
        losses.symmetric_lovasz(logits, masks).backward()

    def sorted_by_torch() -> None:
        with mock.patch.object(losses, "_descending", lambda values: values.argsort(dim=1, descending=True)):
            loss()

    pairs = in_turn(loss, sorted_by_torch, repeats)
    return rates(f"symmetric Lovász loss, batch of {batch}", "sorted by torch", "images/s", pairs, batch)
