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
from saltseg.data.competition import Images, Labelled, read_train
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
    """Times whole epochs of a trainer, checkpoint and logging included, and the bare steps between them."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.pairs: list[tuple[float, float]] = []
        self._bare: Any = None
        self._started = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Take a batch for the bare steps."""
        if self._bare is None:
            images = batch[0].to(memory_format=torch.channels_last)
            self._bare = bare_steps(module, (images, batch[1]), self.steps)
            self._bare()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """What lies between two starts is an epoch; the first is not counted."""
        synchronise()
        now = time.perf_counter()
        if self._started and trainer.current_epoch >= 2:
            self._bare()
            self.pairs.append((now - self._started, time.perf_counter() - now))
        self._started = time.perf_counter()


def epochs(experiment: str, count: int, batch_size: int, repeats: int) -> Row:
    """Images per second of real epochs against the bare step: Lightning, augmentation, logs, checkpoints included."""
    chosen = settings(experiment, batch_size, repeats + 2)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count + 2, 101, 101)).astype(np.uint8)
    masks = (images > 128).astype(np.uint8)
    ids = tuple(map(str, range(count + 2)))
    data = fold.FoldData(
        0,
        Labelled(ids[:count], images[:count], masks[:count]),
        Labelled(ids[count:], images[count:], masks[count:]),
        Images((), images[:0]),
    )
    clock = Clock(count // batch_size)
    with tempfile.TemporaryDirectory() as folder:
        loop.silence()
        directory = FoldDir(Path(folder) / "fold_0")
        callbacks = [EpochLog(directory.log, count), Progress(f"{experiment}, epochs", count, repeats + 2), clock]
        task = SaltTask(chosen, 0, (101, 101))
        training = fold.batches(chosen, data.train, 0, learning=True)
        validating = fold.batches(chosen, data.valid, 0, learning=False)
        loop.trainer(chosen, directory, callbacks, 99).fit(task, training, validating)
    name = f"epoch of `{experiment}`: loading, augmentation, logs, checkpoint"
    target = 0.9 if torch.cuda.is_available() else 0.95
    return rates(name, "bare steps on a batch in memory", "images/s", clock.pairs, count, target=target)


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
    """A whole epoch of our `unet`, loading included, against the loop that tutorials write for the same network."""
    chosen = settings("unet", batch_size, 1)
    device = best_device()
    with tempfile.TemporaryDirectory() as folder:
        synthetic.write_dataset(Path(folder) / "made-up", n_train=count, n_test=1, seed=0)
        labelled = read_train(Path(folder) / "made-up")
        network: nn.Module = zoo.build(chosen.model).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        batches = DataLoader(Files(Path(folder) / "made-up", labelled.ids), batch_size, shuffle=True)

        def plain() -> None:
            total = 0.0
            for images, masks in batches:
                loss = losses.binary_cross_entropy(network(images.to(device)), masks.to(device))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                total += loss.item()

        task = SaltTask(chosen, 0, (101, 101)).to(device).train()
        rule = optimisation.optimizer(task.network, chosen.train)
        loader = fold.batches(chosen, labelled, 0, learning=True)

        def ours() -> None:
            for images, masks in loader:
                placed = images.to(device, memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(chosen)):
                    loss = task.loss(outputs(task.network, placed), masks.to(device))
                loss.backward()
                rule.step()
                rule.zero_grad()
            synchronise()

        pairs = in_turn(ours, plain, repeats)
    against = "PNGs decoded per item, default DataLoader, NCHW, .item() each step"
    return rates("whole epoch of `unet`", against, "images/s", pairs, count)
