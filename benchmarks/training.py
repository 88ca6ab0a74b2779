"""Training: an epoch against its bare steps, a step against the plain way and against the machine."""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness import Row, in_turn, rates
from saltseg import config, experiments
from saltseg.data.competition import Labeled
from saltseg.models import losses, zoo
from saltseg.models.precision import best_device
from saltseg.models.salt_network import outputs
from saltseg.runs import FoldDir
from saltseg.training import fold, optimizers, trainer
from saltseg.training.module import SaltModule

Batch = tuple[Tensor, Tensor]


def settings(experiment: str, batch_size: int, epochs: int, precision: str = "") -> config.Config:
    """An experiment for timing: random weights (nothing is downloaded), one loss throughout, a known precision.

    precision: of the training; "": bf16 on a GPU that has it, else 32.
    """
    gpu_has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    changes: dict[str, Any] = {
        "train.batch_size": batch_size,
        "train.epochs": epochs,
        "train.val_every_n_epochs": 1,
        "train.second_loss_start_epoch": 0,
        "train.precision": precision or ("bf16" if gpu_has_bf16 else "32"),
    }
    chosen = experiments.named(experiment)
    if isinstance(chosen.model, config.SmpConfig):
        changes["model.weights"] = "none"
    if isinstance(chosen.train.schedule, config.CosineSchedule):
        changes["train.schedule.warmup_epochs"] = 0
    return config.change(chosen, changes)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare_steps(
    module: SaltModule,
    batch: Batch,
    steps: int,
    change: Callable[[nn.Module], Any] = lambda network: None,
    bf16: bool | None = None,
    **options: Any,
) -> Callable[[], None]:
    """Forward, loss, backward, optimizer on a batch that is on the device already: the most that training can reach.

    Args:
        module: whose network, copied, takes the steps.
        batch: images (N, C, H, W) and masks (N, 1, H, W).
        steps: of a call.
        change: what to do with the network before.
        bf16: mixed precision; None: as the settings say.
        options: of the optimizer, for each group.
    """
    twin = copy.deepcopy(module.network).train()
    change(twin)
    train = module.settings.train
    optimizer = optimizers.optimizer(twin, train)
    for group in optimizer.param_groups:
        group.update(options)
    images, masks = batch
    criterion = losses.from_text(train.loss)
    mixed = train.precision == "bf16" if bf16 is None else bf16

    def call() -> None:
        for _ in range(steps):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
                loss = criterion(outputs(twin, images).logits, masks)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        synchronize()

    return call


class TimedBatches:
    """The batches of each epoch; between two epochs something else runs, and both are timed.

    pairs: seconds of an epoch, all included, and of the other thing; the first epoch is not counted.
    """

    def __init__(self, batches: Any, make_other: Callable[[Batch], Callable[[], None]]) -> None:
        self.batches, self.sampler = batches, batches.sampler
        self.make_other = make_other
        self.pairs: list[tuple[float, float]] = []
        self._other: Callable[[], None] | None = None
        self._started: list[float] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        synchronize()
        now = time.perf_counter()
        if self._other and len(self._started) >= 2:
            self._other()
            self.pairs.append((now - self._started[-1], time.perf_counter() - now))
        self._started.append(time.perf_counter())
        for batch in self.batches:
            if self._other is None:
                self._other = self.make_other(batch)
                self._other()
            yield batch


def epochs(experiment: str, count: int, batch_size: int, repeats: int) -> Row:
    """Images per second of epochs as users run them (loading, augmentation, logs, checkpoints), against bare steps.

    All but two images train; those two make the validation last next to nothing.
    """
    chosen = settings(experiment, batch_size, repeats + 2)
    images = np.random.default_rng(0).integers(0, 256, (count + 2, 101, 101)).astype(np.uint8)
    labeled = Labeled(tuple(map(str, range(count + 2))), images, (images > 128).astype(np.uint8))
    parts = labeled.subset(np.arange(count)), labeled.subset(np.arange(count, count + 2))
    modules: list[SaltModule] = []

    def make_module(fresh: bool) -> SaltModule:
        modules.append(SaltModule(chosen, 0, (101, 101)))
        return modules[0]

    def bare(batch: Batch) -> Callable[[], None]:
        device = next(modules[0].parameters()).device
        images, masks = (tensor.to(device) for tensor in batch)
        return bare_steps(modules[0], (images.to(memory_format=torch.channels_last), masks), count // batch_size)

    training, validating = (fold.batches(chosen, part, 0, learning=part is parts[0]) for part in parts)
    timed = TimedBatches(training, bare)
    with tempfile.TemporaryDirectory() as folder:
        directory = FoldDir(Path(folder) / "fold_0")
        trainer.fit(chosen, directory, f"{experiment}, epochs", make_module, timed, validating, count)
    name = f"epoch of `{experiment}`: loading, augmentation, logs, checkpoint; no validation"
    target = 0.9 if torch.cuda.is_available() else 0.95
    return rates(name, "bare steps on a batch in memory", "images/s", timed.pairs, count, target=target)


def made_up_batch(chosen: config.Config, device: torch.device) -> Batch:
    """A batch of noise in channels_last."""
    size, channels = chosen.data.size, chosen.model.in_channels
    images = torch.rand(chosen.train.batch_size, channels, size, size, device=device)
    return images.contiguous(memory_format=torch.channels_last), (images[:, :1] > 0.5).float()


def step(experiment: str, batch_size: int, repeats: int) -> list[Row]:
    """The bare step as we do it, against the plain way, and its share of what the machine can multiply."""
    chosen, device = settings(experiment, batch_size, 1), best_device()
    images, masks = made_up_batch(chosen, device)
    ours = bare_steps(SaltModule(chosen, 0, (101, 101)).to(device).train(), (images, masks), 1)

    images = images.contiguous()  # NCHW, fp32, defaults
    network = zoo.build(chosen.model).to(device, memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    criterion = losses.from_text(chosen.train.loss)

    def plain() -> None:
        criterion(outputs(network, images).logits, masks).backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize()

    what = f"step of `{experiment}`"
    rows = [rates(what, "plain NCHW, fp32", "images/s", in_turn(ours, plain, repeats), batch_size)]

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs(network, images)
    work = 3 * counter.get_total_flops() / 1e9  # backward is twice forward; torch miscounts it for depthwise layers
    side = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if chosen.train.precision == "bf16" else torch.float32
    left, right = (torch.rand(side, side, device=device, dtype=kind) for _ in range(2))

    def product() -> None:
        torch.matmul(left, right)
        synchronize()

    pairs = in_turn(ours, product, repeats)
    against = f"a product of {side}x{side} matrices"
    return [*rows, rates(what, against, "GFLOP/s", pairs, work, 2 * side**3 / 1e9)]
