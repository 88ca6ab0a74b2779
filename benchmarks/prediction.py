"""Prediction against bare forwards; reading a dataset; how long a user waits for help; memory of the largest job."""

import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import torch

from harness import Row, in_turn, rates
from saltseg import config
from saltseg.core import decision
from saltseg.core.rle import TILE_SHAPE
from saltseg.data import competition, synthetic
from saltseg.inference import predict
from saltseg.models import zoo
from saltseg.models.network import outputs
from training import settings, synchronise

SCRIPTS = Path(__file__).parents[1] / "scripts"


def two_views(experiment: str, count: int, repeats: int) -> Row:
    """Images per second with flip TTA, from uint8 tiles to stored probabilities, against two bare forwards."""
    chosen = config.override(settings(experiment, 16, 2), ["predict.views=[identity, hflip]"])
    device = predict.best_device()
    network = zoo.build(chosen.model).eval().to(device, memory_format=torch.channels_last)
    images = np.random.default_rng(0).integers(0, 256, (count, *TILE_SHAPE)).astype(np.uint8)
    size, batch = chosen.data.size, chosen.predict.batch_size
    tile = torch.rand(batch, chosen.model.in_channels, size, size, device=device)
    tile = tile.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def bare() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=predict.uses_bf16(chosen)):
            for _ in range(2 * (count // batch)):
                outputs(network, tile)
        synchronise()

    def ours() -> None:
        predict.probabilities([network], images[: count // batch * batch], chosen, out=np.uint8)

    pairs = in_turn(ours, bare, repeats)
    return rates(f"prediction of `{experiment}`, 2 views", "2 bare forwards", "images/s", pairs, count, target=0.95)


def reading(count: int, repeats: int) -> Row:
    """PNGs of a dataset into memory, at the rate of the competition's 22,000, against decoding them in a plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "made-up"
        synthetic.write_dataset(root, n_train=count, n_test=1, seed=0)
        ids = competition.train_ids(root)

        def loop() -> None:
            for id_ in ids:
                competition.read_image(root / "train" / "images" / f"{id_}.png")
                competition.read_mask(root / "train" / "masks" / f"{id_}.png")

        pairs = in_turn(lambda: competition.read_train(root), loop, repeats)
    row = rates("reading a dataset", "one PNG after the other", "files/s", pairs, 2 * count)
    return Row(**(row.to_dict() | {"note": f"22,000 files take {22_000 / row.ours:.1f} s"}))


def help_text(repeats: int) -> Row:
    """How long ``train.py --help`` takes, against Python importing numpy."""

    def start(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    pairs = in_turn(lambda: start(str(SCRIPTS / "train.py"), "--help"), lambda: start("-c", "import numpy"), repeats)
    row = rates("`train.py --help`", "python -c 'import numpy'", "starts/s", pairs)
    return Row(**(row.to_dict() | {"note": f"{1 / row.ours:.2f} s; the aim is under 1"}))


def memory(count: int) -> Row:
    """Memory of our arrays while a job predicts and optimises, against that of the probabilities.

    Beside its input (images and masks) and what the network needs for a batch, which torch holds.
    """
    done = subprocess.run(
        [sys.executable, __file__, "--memory", str(count)], check=True, capture_output=True, text=True
    )
    used, size, whole = (float(word) for word in done.stdout.split()[-3:])
    return Row(
        f"arrays of {count:,} images predicted and their rule tuned", "2 x the probabilities", "MiB", used, 2 * size,
        (2 * size / used,), 1, f"above 1: less than that; one measurement; the whole process {whole:,.0f} MiB",
    )  # fmt: skip


def measure_memory(count: int) -> tuple[float, float, float]:
    """MiB of numpy's arrays at their peak, of the probabilities, and of the process at its peak."""
    import resource  # not there on Windows

    chosen = config.override(settings("unet", 16, 2), ["model.filters=1"])  # fast: its memory is torch's
    network = zoo.build(chosen.model).eval().to(memory_format=torch.channels_last)
    images = np.random.default_rng(0).integers(0, 256, (count, *TILE_SHAPE), np.uint8)
    masks = images >> 7
    tracemalloc.start()
    found = predict.probabilities([network], images, chosen, out=np.uint8)
    decision.summarise(np.arange(count).astype(str), found, masks, np.arange(count) % 5)
    peak = tracemalloc.get_traced_memory()[1]
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return peak / 2**20, found.nbytes / 2**20, whole


if __name__ == "__main__":
    print(*measure_memory(int(sys.argv[2])))
