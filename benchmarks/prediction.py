"""Prediction against bare forward passes; reading a dataset; memory of the largest job."""

import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from harness import Row, in_turn, rates
from saltseg import config
from saltseg.data import competition, image_files
from saltseg.inference import predict, windows
from saltseg.metrics.rle import TILE_SHAPE
from saltseg.models import precision, zoo
from saltseg.models.salt_network import outputs
from saltseg.postprocessing.summary import summarize
from saltseg.synthetic.dataset import write_dataset
from training import settings, synchronize


def two_views(experiment: str, count: int, repeats: int) -> Row:
    """Images per second with flip TTA, from uint8 tiles to stored probabilities, against two bare forward passes."""
    images = np.random.default_rng(0).integers(0, 256, (count, *TILE_SHAPE)).astype(np.uint8)

    def ours(network: nn.Module, chosen: config.Config) -> None:
        predict.probabilities([network], images, chosen, out=np.uint8)

    return _against_bare(f"prediction of `{experiment}`, 2 views", "images/s", experiment, count, repeats, ours, 0.95)


def in_windows(experiment: str, count: int, repeats: int) -> Row:
    """Windows per second of images of four windows each, with flip TTA, against two bare forward passes."""
    images = np.random.default_rng(0).integers(0, 256, (count // 4, 151, 140)).astype(np.uint8)

    def ours(network: nn.Module, chosen: config.Config) -> None:
        for _ in windows.predict_images([network], images, chosen):
            pass

    return _against_bare(f"windows of `{experiment}`, 2 views", "windows/s", experiment, count, repeats, ours, 0.9)


def _against_bare(
    name: str,
    unit: str,
    experiment: str,
    count: int,
    repeats: int,
    ours: Callable[[nn.Module, config.Config], None],
    target: float,
) -> Row:
    """A prediction of ``count`` tiles or windows with two views against as many bare forward passes."""
    chosen = config.change(settings(experiment, 16, 2), {"predict.tta": ["identity", "hflip"]})
    device = precision.best_device()
    network = zoo.build(chosen.model).eval().to(device, memory_format=torch.channels_last)
    size, batch = chosen.data.size, min(count, chosen.runtime.predict_batch_size)
    tile = torch.rand(batch, chosen.model.in_channels, size, size, device=device)
    tile = tile.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def bare() -> None:
        with precision.autocast(chosen, device):
            for start in range(0, count, batch):
                for _ in range(2):
                    outputs(network, tile[: count - start])
        synchronize()

    pairs = in_turn(lambda: ours(network, chosen), bare, repeats)
    return rates(name, "2 bare forward passes", unit, pairs, count, target=target)


def reading(count: int, repeats: int) -> Row:
    """PNGs of a dataset into memory, at the rate of the competition's 22,000, against decoding them in a plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "made-up"
        write_dataset(root, n_train=count, n_test=1, seed=0)
        ids = competition.train_ids(root)

        def loop() -> None:
            for id_ in ids:
                image_files.read_image(root / "train" / "images" / f"{id_}.png")
                image_files.read_mask(root / "train" / "masks" / f"{id_}.png")

        pairs = in_turn(lambda: competition.read_train(root), loop, repeats)
    row = rates("reading a dataset", "one PNG after the other", "files/s", pairs, 2 * count)
    return replace(row, note=f"22,000 files take {22_000 / row.ours:.1f} s")


def memory(count: int) -> Row:
    """Memory of our arrays while a job predicts and tunes, against that of the probabilities.

    Beside its input (images and masks) and what the network needs for a batch, which torch holds.
    """
    done = subprocess.run([sys.executable, __file__, str(count)], check=True, capture_output=True, text=True)
    used, size, whole = (float(word) for word in done.stdout.split()[-3:])
    note = f"above 1: less than that; one measurement; the whole process {whole:,.0f} MiB"
    name = f"arrays of {count:,} images predicted and tuned on"
    return Row(name, "2 x the probabilities", "MiB", used, 2 * size, (2 * size / used,), 1, note)


def measure_memory(count: int) -> tuple[float, float, float]:
    """MiB of numpy's arrays at their peak, of the probabilities, and of the process at its peak."""
    import resource  # not there on Windows

    chosen = config.change(settings("unet", 16, 2), {"model.filters": 1})  # fast: its memory is torch's
    network = zoo.build(chosen.model).eval().to(memory_format=torch.channels_last)
    images = np.random.default_rng(0).integers(0, 256, (count, *TILE_SHAPE), np.uint8)
    masks = images >> 7
    tracemalloc.start()
    found = predict.probabilities([network], images, chosen, out=np.uint8)
    summarize(np.arange(count).astype(str), found, masks, np.arange(count) % 5)
    peak = tracemalloc.get_traced_memory()[1]
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return peak / 2**20, found.nbytes / 2**20, whole


if __name__ == "__main__":
    print(*measure_memory(int(sys.argv[1])))
