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
from saltseg.data.competition import Images, Labelled
from saltseg.runs import FoldDir
from saltseg.training import fold
from saltseg.training.task import SaltTask

STEPS = 3  # batches of an epoch: 8, 8 and 4 of the 20 images
SMALL = ["model.filters=2", "data.size=32", "train.batch_size=8", "train.workers=0"]
State = dict[str, Tensor]


class Interrupted(Exception):
    """What stops a training in the middle of an epoch."""


@dataclass
class Record:
    """What a training did, step by step or look by look at the validation images.

    rates: as each step uses it. after: weights and statistics after each step. judged: those that each look is at.
    """

    rates: list[float] = field(default_factory=list)
    after: list[State] = field(default_factory=list)
    judged: list[State] = field(default_factory=list)


def settings(*assignments: str) -> Config:
    """The defaults with an eighth of the filters, and these changes; networks of smp have none to change."""
    smp = any(assignment.startswith("model.architecture=smp") for assignment in assignments)
    return override(Config(), [*(SMALL[1:] if smp else SMALL), *assignments])


def data() -> fold.FoldData:
    """20 tiles to learn from, 8 to validate, 2 to predict; salt is brighter, every fourth tile has none."""
    rng = np.random.default_rng(0)

    def labelled(name: str, count: int) -> Labelled:
        top = rng.integers(20, 80, size=count)
        masks = (np.arange(101)[None, :, None] > top[:, None, None]) * np.ones((1, 1, 101))
        masks[::4] = 0
        images = np.clip(rng.normal(100 + 60 * masks, 30), 0, 255).astype(np.uint8)
        return Labelled(tuple(f"{name}{i}" for i in range(count)), images, masks.astype(np.uint8))

    test = labelled("t", 2)
    return fold.FoldData(0, labelled("a", 20), labelled("v", 8), Images(test.ids, test.images))


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
    validate = SaltTask.validation_step

    def state(task: SaltTask) -> State:
        return {name: tensor.clone() for name, tensor in task.network.state_dict().items()}

    def before_step(optimizer: Optimizer, *_: Any) -> None:
        record.rates.append(float(optimizer.param_groups[0]["lr"]))

    def after_step(task: SaltTask, *_: Any) -> None:
        record.after.append(state(task))

    def validation_step(task: SaltTask, batch: Any, index: int) -> None:
        if index == 0:
            record.judged.append(state(task))
        validate(task, batch, index)

    handle = register_optimizer_step_pre_hook(before_step)
    with ExitStack() as stack:
        stack.callback(handle.remove)
        stack.enter_context(mock.patch.object(SaltTask, "on_train_batch_end", after_step))
        stack.enter_context(mock.patch.object(SaltTask, "validation_step", validation_step))
        yield


@contextmanager
def breaking_off(stop_at: int | None) -> Iterator[None]:
    """Raise `Interrupted` in place of that step, counted from 0; None: never."""
    original: Callable[..., Tensor] = SaltTask.training_step

    def training_step(task: SaltTask, batch: Any, index: int) -> Tensor:
        if task.global_step == stop_at:
            raise Interrupted
        return original(task, batch, index)

    with mock.patch.object(SaltTask, "training_step", training_step):
        yield


def weights(path: Path) -> State:
    """Of a checkpoint to predict with."""
    return torch.load(path, weights_only=True)["state_dict"]


def assert_equal(one: State, other: State) -> None:
    """To the bit."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
