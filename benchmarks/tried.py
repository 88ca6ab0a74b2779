"""What else a training step could do, each against the step as it is: adopted is what pays."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from harness import Row, in_turn, rates
from saltseg.inference.predict import best_device, uses_bf16
from saltseg.models.network import SaltNetwork
from saltseg.training.task import SaltTask
from training import bare_steps, settings

CHANGES = ("one thread", "NCHW", "fused optimiser", "bf16", "torch.compile", "CUDA graphs")


def compiled(mode: str) -> Callable[[nn.Module], None]:
    """Compile in place what `SaltNetwork` wraps, or the network itself."""

    def change(network: nn.Module) -> None:
        (network.network if isinstance(network, SaltNetwork) else network).compile(mode=mode)

    return change


def variant(experiment: str, change: str, batch_size: int, repeats: int) -> list[Row]:
    """The step of an experiment with one of `CHANGES`, against the step as it is; none where it cannot be tried."""
    chosen = settings(experiment, batch_size, 1)
    device = best_device()
    if (change == "bf16" and uses_bf16(chosen)) or (change == "CUDA graphs" and device.type != "cuda"):
        return []
    task = SaltTask(chosen, 0, (101, 101)).to(device).train()
    images = torch.rand(batch_size, chosen.model.in_channels, chosen.data.size, chosen.data.size, device=device)
    masks = (images[:, :1] > 0.5).float()
    as_it_is = images.contiguous(memory_format=torch.channels_last)
    batch: tuple[Any, Any] = (images if change == "NCHW" else as_it_is, masks)
    options: dict[str, Any] = {
        "NCHW": {"change": lambda network: network.to(memory_format=torch.contiguous_format)},
        "fused optimiser": {"fused": True, "foreach": False},
        "bf16": {"bf16": True},
        "torch.compile": {"change": compiled("default")},
        "CUDA graphs": {"change": compiled("reduce-overhead")},
    }.get(change, {})
    changed, ours = bare_steps(task, batch, 1, **options), bare_steps(task, (as_it_is, masks), 1)
    threads = torch.get_num_threads()

    def trial() -> None:
        torch.set_num_threads(1 if change == "one thread" else threads)
        changed()
        torch.set_num_threads(threads)

    pairs = in_turn(trial, ours, repeats)
    return [rates(f"step of `{experiment}`, {change}", "the step as it is", "images/s", pairs, batch_size)]


def side_by_side(experiment: str, batch_size: int, repeats: int) -> Row:
    """A training on every core, each with one thread, against one training with all of them (`processes.run`)."""
    cores = torch.get_num_threads()

    def images_per_second(count: int) -> float:
        environment = os.environ | {"OMP_NUM_THREADS": str(cores // count)}
        command = [sys.executable, __file__, experiment, str(batch_size)]
        started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        return sum(float(process.communicate()[0]) for process in started)

    pairs = [(1 / images_per_second(cores), 1 / images_per_second(1)) for _ in range(repeats)]
    against = f"one training with {cores} threads"
    return rates(f"{cores} trainings of `{experiment}` side by side, a thread each", against, "images/s", pairs)


def main() -> None:
    """Steps for ten seconds; prints images per second."""
    experiment, batch_size = sys.argv[1], int(sys.argv[2])
    chosen = settings(experiment, batch_size, 1)
    size = chosen.data.size
    images = torch.rand(batch_size, chosen.model.in_channels, size, size).contiguous(memory_format=torch.channels_last)
    call = bare_steps(SaltTask(chosen, 0, (101, 101)), (images, (images[:, :1] > 0.5).float()), 1)
    call(), call()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < 10:
        call()
        done += batch_size
    print(done / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
