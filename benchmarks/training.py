"""Training: the loop against the bare step, the step against the plain way and the machine, an epoch as tutorials
write it."""

import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from harness import Row, in_turn, rates
from saltseg import config, experiments
from saltseg.data import synthetic
from saltseg.data.augment import Augment
from saltseg.data.competition import Labelled, read_train
from saltseg.data.image_files import read_image, read_mask
from saltseg.inference.predict import best_device, uses_bf16
from saltseg.models import losses, zoo
from saltseg.models.network import outputs
from saltseg.runs import FoldDir
from saltseg.training import fold, loop, optimisation
from saltseg.training.callbacks import EpochLog, Progress
from saltseg.training.task import SaltTask


def settings(experiment: str, batch_size: int, epochs: int) -> config.Config:
    """An experiment for timing: random weights, so that nothing is downloaded, and a validation of next to nothing."""
    chosen = experiments.named(experiment)
    changes = [f"train.batch_size={batch_size}", f"train.epochs={epochs}", "train.warmup=0", "train.late_from=0"]
    return config.override(chosen, [*changes, "model.weights=none"])


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare_steps(
    task: SaltTask,
    batch: tuple[Tensor, Tensor],
    steps: int,
    change: Callable[[nn.Module], Any] = lambda network: None,
    bf16: bool | None = None,
    **options: Any,
) -> Callable[[], None]:
    """Forward, loss, backward, optimiser on a batch that lies on the device already: nothing of ours can be faster.

    change: what else to do with the network. bf16: default as in training. options: of the optimiser, for each group.
    """
    twin = copy.deepcopy(task.network).train()
    change(twin)
    optimizer = optimisation.optimizer(twin, task.settings.train)
    for group in optimizer.param_groups:
        group.update(options)
    images, masks = batch
    criterion = losses.from_text(task.settings.train.loss)
    bf16 = uses_bf16(task.settings) if bf16 is None else bf16

    def call() -> None:
        for _ in range(steps):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                loss = criterion(outputs(twin, images).logits, masks)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        synchronise()

    return call


class Clock(Callback):
    """Times whole epochs of a trainer, checkpoint and logging included, and something else between them.

    make: gives that, from the module in training and its first batch.
    """

    def __init__(self, make: Callable[[Any, tuple[Tensor, Tensor]], Callable[[], None]]) -> None:
        self.make = make
        self.pairs: list[tuple[float, float]] = []
        self._other: Any = None
        self._started = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Prepare the other thing, and do it once."""
        if self._other is None:
            self._other = self.make(module, batch)
            self._other()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """What lies between two starts is an epoch; the first is not counted."""
        synchronise()
        now = time.perf_counter()
        if self._started and trainer.current_epoch >= 2:
            self._other()
            self.pairs.append((now - self._started, time.perf_counter() - now))
        self._started = time.perf_counter()


def real_epochs(chosen: config.Config, labelled: Labelled, repeats: int, make: Any) -> list[tuple[float, float]]:
    """Seconds of epochs as users run them (Lightning, augmentation, logs, checkpoints) in turn with something else.

    All but two images train; those two make the validation last next to nothing.
    """
    count = len(labelled.ids) - 2
    train, valid = (
        Labelled(labelled.ids[part], labelled.images[part], labelled.masks[part])
        for part in (slice(0, count), slice(count, None))
    )
    clock = Clock(make)
    with tempfile.TemporaryDirectory() as folder:
        loop.silence()
        directory = FoldDir(Path(folder) / "fold_0")
        log, bar = EpochLog(directory.log, count), Progress(f"{chosen.name}, epochs", count, repeats + 2)
        batches = [fold.batches(chosen, part, 0, learning=part is train) for part in (train, valid)]
        loop.trainer(chosen, directory, [log, bar, clock], 99).fit(SaltTask(chosen, 0, (101, 101)), *batches)
    return clock.pairs


def epochs(experiment: str, count: int, batch_size: int, repeats: int) -> Row:
    """Images per second of real epochs against the bare step."""
    chosen = settings(experiment, batch_size, repeats + 2)
    images = np.random.default_rng(0).integers(0, 256, (count + 2, 101, 101)).astype(np.uint8)
    labelled = Labelled(tuple(map(str, range(count + 2))), images, (images > 128).astype(np.uint8))

    def bare(module: SaltTask, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
        return bare_steps(module, (batch[0].to(memory_format=torch.channels_last), batch[1]), count // batch_size)

    name = f"epoch of `{experiment}`: loading, augmentation, logs, checkpoint; no validation"
    target = 0.9 if torch.cuda.is_available() else 0.95
    pairs = real_epochs(chosen, labelled, repeats, bare)
    return rates(name, "bare steps on a batch in memory", "images/s", pairs, count, target=target)


def step(experiment: str, batch_size: int, repeats: int) -> list[Row]:
    """The bare step as we do it, against the plain way, and its share of what the machine can multiply."""
    chosen = settings(experiment, batch_size, 1)
    device = best_device()
    task = SaltTask(chosen, 0, (101, 101)).to(device).train()
    size = chosen.data.size
    images = torch.rand(batch_size, chosen.model.in_channels, size, size, device=device)
    masks = (images[:, :1] > 0.5).float()
    ours = bare_steps(task, (images.contiguous(memory_format=torch.channels_last), masks), 1)

    network = zoo.build(chosen.model).to(device).train()  # NCHW, fp32, defaults
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    criterion = losses.from_text(chosen.train.loss)

    def plain() -> None:
        criterion(outputs(network, images).logits, masks).backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronise()

    rows = [rates(f"step of `{experiment}`", "plain NCHW, fp32", "images/s", in_turn(ours, plain, repeats), batch_size)]

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs(network, images)
    work = 3 * counter.get_total_flops() / 1e9  # backward is twice forward; torch miscounts it for depthwise layers
    side = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if uses_bf16(chosen) else torch.float32
    left, right = (torch.rand(side, side, device=device, dtype=kind) for _ in range(2))

    def product() -> None:
        torch.matmul(left, right)
        synchronise()

    against = f"a product of {side}x{side} matrices"
    pairs = in_turn(ours, product, repeats)
    return [*rows, rates(f"step of `{experiment}`", against, "GFLOP/s", pairs, work, 2 * side**3 / 1e9)]


class Files(Dataset[Any]):
    """As tutorials write it: two PNGs decoded and augmented whenever an item is asked for."""

    def __init__(self, root: Path, ids: tuple[str, ...]) -> None:
        self.root, self.ids, self.augment = root, ids, Augment("light")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = read_image(self.root / "train" / "images" / f"{self.ids[index]}.png")
        mask = read_mask(self.root / "train" / "masks" / f"{self.ids[index]}.png")
        image, mask = self.augment(image, mask, index)
        padded = [np.pad(array, ((5, 6), (5, 6)), mode="reflect") for array in (image, mask)]
        return torch.from_numpy(padded[0])[None].float() / 255, torch.from_numpy(padded[1])[None].float()


def tutorial(count: int, batch_size: int, repeats: int) -> Row:
    """A real epoch of our `unet` against the loop that tutorials write for the same network and files."""
    chosen = settings("unet", batch_size, repeats + 2)
    device = best_device()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "made-up"
        synthetic.write_dataset(root, n_train=count + 2, n_test=1, seed=0)
        labelled = read_train(root)
        network: nn.Module = zoo.build(chosen.model).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        batches = DataLoader(Files(root, labelled.ids[:count]), batch_size, shuffle=True)

        def plain() -> None:
            total = 0.0
            for images, masks in batches:
                loss = losses.binary_cross_entropy(network(images.to(device)), masks.to(device))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                total += loss.item()

        pairs = real_epochs(chosen, labelled, repeats, lambda module, batch: plain)
    against = "PNGs decoded per item, default DataLoader, NCHW, .item() each step"
    return rates("epoch of `unet`, all included but validation", against, "images/s", pairs, count)
