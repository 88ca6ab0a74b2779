"""What else a training step could do, each change against the step as it is."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from harness import Row, in_turn, rates
from saltseg.models.precision import best_device
from saltseg.models.salt_network import SaltNetwork
from saltseg.training.module import SaltModule
from training import bare_steps, made_up_batch, settings

CHANGES = ("one thread", "NCHW", "fused optimizer", "bf16", "torch.compile", "CUDA graphs")
SECONDS = 10  # of each training side by side


def compiled(mode: str) -> Callable[[nn.Module], None]:
    """Compile in place what `SaltNetwork` wraps, or the network itself."""

    def change(network: nn.Module) -> None:
        (network.network if isinstance(network, SaltNetwork) else network).compile(mode=mode)

    return change


def variant(experiment: str, change: str, batch_size: int, repeats: int) -> list[Row]:
    """The step of an experiment with one of `CHANGES`, against the step as it is; [] where it cannot be tried."""
    chosen, device = settings(experiment, batch_size, 1), best_device()
    if (change == "bf16" and chosen.train.precision == "bf16") or (change == "CUDA graphs" and device.type != "cuda"):
        return []
    module = SaltModule(chosen, 0, (101, 101)).to(device).train()
    images, masks = made_up_batch(chosen, device)
    options: dict[str, Any] = {
        "NCHW": {"change": lambda network: network.to(memory_format=torch.contiguous_format)},
        "fused optimizer": {"fused": True, "foreach": False},
        "bf16": {"bf16": True},
        "torch.compile": {"change": compiled("default")},
        "CUDA graphs": {"change": compiled("reduce-overhead")},
    }.get(change, {})
    changed = bare_steps(module, (images.contiguous() if change == "NCHW" else images, masks), 1, **options)
    ours = bare_steps(module, (images, masks), 1)
    threads = torch.get_num_threads()

    def trial() -> None:
        torch.set_num_threads(1 if change == "one thread" else threads)
        changed()
        torch.set_num_threads(threads)

    pairs = in_turn(trial, ours, repeats)
    return [rates(f"step of `{experiment}`, {change}", "the step as it is", "images/s", pairs, batch_size)]


def side_by_side(experiment: str, batch_size: int, repeats: int, precision: str = "32") -> Row:
    """A training on every core, each with one thread, against one training with all of them (`processes.run`)."""
    cores = torch.get_num_threads()

    def images_per_second(count: int) -> float:
        environment = os.environ | {"OMP_NUM_THREADS": str(cores // count)}
        command = [sys.executable, __file__, experiment, str(batch_size), precision]
        started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        return sum(float(process.communicate()[0]) for process in started)

    pairs = [(1 / images_per_second(cores), 1 / images_per_second(1)) for _ in range(repeats)]
    against = f"one training with {cores} threads"
    what = f"{cores} trainings of `{experiment}` in {precision} side by side, a thread each"
    return rates(what, against, "images/s", pairs)


if __name__ == "__main__":  # one of the trainings side by side: prints images per second
    chosen = settings(sys.argv[1], int(sys.argv[2]), 1, sys.argv[3])
    call = bare_steps(SaltModule(chosen, 0, (101, 101)), made_up_batch(chosen, torch.device("cpu")), 1)
    call(), call()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        call()
        done += chosen.train.batch_size
    print(done / (time.perf_counter() - started))
