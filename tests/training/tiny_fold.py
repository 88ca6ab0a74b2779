"""A fold that trains in about a second, and a record of what its training did."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from saltseg.config import Config, override
from saltseg.data.competition import Images, Labeled
from saltseg.runs import FoldDir
from saltseg.training import fold
from saltseg.training.module import SaltModule

STEPS = 3  # batches of an epoch: 8, 8 and 4 of the 20 images
SMALL = ["model.filters=2", "data.size=32", "train.batch_size=8", "train.precision=32", "runtime.workers=0"]
State = dict[str, Tensor]


class Interrupted(Exception):
    """What stops a training in the middle of an epoch."""


@dataclass
class Record:
    """What a training did.

    Attributes:
        rates: learning rate of each step.
        after: weights and statistics after each step.
        validated: those of each validation.
    """

    rates: list[float] = field(default_factory=list)
    after: list[State] = field(default_factory=list)
    validated: list[State] = field(default_factory=list)


def settings(*assignments: str) -> Config:
    """A configuration for tests, in float32, with these changes; networks of smp have no filters to change."""
    smp = any(assignment.startswith("model.architecture=smp") for assignment in assignments)
    return override(Config(), [*(SMALL[1:] if smp else SMALL), *assignments])


def data() -> fold.FoldData:
    """20 training tiles, 8 validation tiles, 2 test tiles; salt is brighter, every fourth tile has none."""
    rng = np.random.default_rng(0)

    def labeled(name: str, count: int) -> Labeled:
        top = rng.integers(20, 80, size=count)
        masks = (np.arange(101)[None, :, None] > top[:, None, None]) * np.ones((1, 1, 101))
        masks[::4] = 0
        images = np.clip(rng.normal(100 + 60 * masks, 30), 0, 255).astype(np.uint8)
        return Labeled(tuple(f"{name}{i}" for i in range(count)), images, masks.astype(np.uint8))

    test = labeled("t", 2)
    return fold.FoldData(0, labeled("a", 20), labeled("v", 8), Images(test.ids, test.images))


def train(directory: Path, *assignments: str, stop_at: int | None = None) -> tuple[FoldDir, Record]:
    """Train and finish a fold, or, with ``stop_at``, break off before that step (from 0) and leave it unfinished."""
    found, record = FoldDir(directory), Record()
    with recording(record), breaking_off(stop_at):
        try:
            fold.run(settings(*assignments), data(), found, "tiny")
        except Interrupted:
            assert not found.finished()
    return found, record


@contextmanager
def recording(record: Record) -> Iterator[None]:
    validate = SaltModule.validation_step

    def state(module: SaltModule) -> State:
        return {name: tensor.clone() for name, tensor in module.network.state_dict().items()}

    def before_step(optimizer: Optimizer, *_: Any) -> None:
        record.rates.append(float(optimizer.param_groups[0]["lr"]))

    def after_step(module: SaltModule, *_: Any) -> None:
        record.after.append(state(module))

    def validation_step(module: SaltModule, batch: Any, index: int) -> None:
        if index == 0:
            record.validated.append(state(module))
        validate(module, batch, index)

    handle = register_optimizer_step_pre_hook(before_step)
    with ExitStack() as stack:
        stack.callback(handle.remove)
        stack.enter_context(mock.patch.object(SaltModule, "on_train_batch_end", after_step))
        stack.enter_context(mock.patch.object(SaltModule, "validation_step", validation_step))
        yield


@contextmanager
def breaking_off(stop_at: int | None) -> Iterator[None]:
    """Raise `Interrupted` in place of that step, counted from 0; None: never."""
    original: Callable[..., Tensor] = SaltModule.training_step

    def training_step(module: SaltModule, batch: Any, index: int) -> Tensor:
        if module.global_step == stop_at:
            raise Interrupted
        return original(module, batch, index)

    with mock.patch.object(SaltModule, "training_step", training_step):
        yield


def weights(path: Path) -> State:
    """Of a checkpoint to predict with."""
    return torch.load(path, weights_only=True)["state_dict"]


def assert_equal(one: State, other: State) -> None:
    """To the bit."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
