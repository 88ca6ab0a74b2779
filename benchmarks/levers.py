"""Time and memory of one training step with each lever of a recipe, as ratios to the baseline of the same run.

Of a lever whose first epochs are at half the size the time is the mean over its epochs.

  python benchmarks/levers.py unet_efficientnet_lite0            all levers, about 20 seconds each on two cores
  python benchmarks/levers.py unet_efficientnet_lite0 --only base,stride1
  python benchmarks/levers.py unet_efficientnet_lite0 --to output/published/levers/tgs-unet_efficientnet_lite0-cpu

With --to it leaves cost.json there, from which scripts/levers.py fills two columns of its table; levers that it does
not measure keep the figures they have.

Every measurement is a process of its own, so that its peak memory is its own. Nothing else should run beside it.
"""

import argparse
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness import seconds
from saltseg import cli
from saltseg.errors import unknown_name

if TYPE_CHECKING:
    from saltseg.config import Config

BATCH, STEPS = 16, 7
# What changes the cost of a step.
STEP = re.compile(
    r"model\.(?!weights)|data\.size|train\.(loss|loss_region|late_loss|optimizer|clip|ema|half_size_until)"
)


def settings_with(experiment: str, lever: str) -> "Config":
    """The baseline on the budget of two cores, with a lever, late losses from the first epoch and random weights.

    The speed is the same, and no download can fail.
    """
    from saltseg import config, experiments
    from saltseg.studies import levers

    baseline = experiments.named(experiment)
    settings = config.override(baseline, [*levers.with_lever(baseline, "cpu", lever), "model.weights=none"])
    return (
        config.override(settings, ["train.second_loss_start_epoch=1"])
        if settings.train.second_loss_start_epoch
        else settings
    )


def stepper(settings: "Config") -> Callable[[bool], None]:
    """Something that makes one training step on made-up tiles, at half the size if told so."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from saltseg.models.salt_network import outputs
    from saltseg.training import optimizers
    from saltseg.training.module import SaltModule, half_resolution

    task = SaltModule(settings, 0, (101, 101)).train()
    optimizer = optimizers.optimizer(task.network, settings.train)
    average = AveragedModel(task.network, multi_avg_fn=get_ema_multi_avg_fn(settings.train.ema_decay or 0.99))
    size = settings.data.size
    images = torch.rand(BATCH, settings.model.in_channels, size, size).contiguous(memory_format=torch.channels_last)
    masks = (images.mean(dim=1, keepdim=True) > 0.5).float()

    def step(half: bool) -> None:
        """Forward, backward and update."""
        shown, wanted = half_resolution(images, masks) if half else (images, masks)
        task.loss(outputs(task.network, shown), wanted).backward()
        if settings.train.grad_clip_norm:
            torch.nn.utils.clip_grad_norm_(task.network.parameters(), settings.train.grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if settings.train.ema_decay:
            average.update_parameters(task.network)

    return step


def measure(experiment: str, lever: str) -> str:
    """Images per second, time as a ratio to the baseline's, peak MiB; as text.

    Steps with and without the lever alternate, so that other work on the machine touches both; the ratio is the median.
    """
    settings = settings_with(experiment, lever)
    changed, half = stepper(settings), settings.train.low_resolution_epochs / settings.train.epochs

    def mean_step() -> float:
        """Seconds of a step, over all epochs."""
        small = seconds(partial(changed, True)) if half else 0.0
        return half * small + (1 - half) * seconds(partial(changed, False))

    mean_step(), mean_step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # before the baseline needs any
    base = partial(stepper(settings_with(experiment, "base")), False)
    base(), base()
    pairs = [(mean_step(), seconds(base)) for _ in range(STEPS)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    return f"{BATCH / min(ours for ours, _ in pairs):.2f} {ratio:.3f} {peak}"


def heavier() -> list[str]:
    """The levers that may change what a training step costs."""
    from saltseg.studies import levers

    return [name for name, changes in levers.LEVERS.items() if any(map(STEP.match, changes))]


def main() -> None:
    from saltseg import experiments, io
    from saltseg.errors import InputError
    from saltseg.studies import levers

    parser = cli.parser(__doc__)
    parser.add_argument("experiment")
    parser.add_argument("--only", default=",".join(heavier()), help="default: those that change a training step")
    parser.add_argument("--to", type=Path, metavar="DIR", help="leave cost.json in this folder")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure(arguments.experiment, arguments.measure))
        return
    experiments.named(arguments.experiment)
    wanted = arguments.only.split(",")
    for lever in wanted:
        if lever not in levers.LEVERS:
            raise InputError(unknown_name("lever", lever, levers.LEVERS))
    costs = {}
    print("| lever | images/s | time, base = 1 | peak MiB |\n|---|---|---|---|")
    for lever in ["base", *(name for name in wanted if name != "base")]:
        command = [sys.executable, __file__, arguments.experiment, "--measure", lever]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"| `{lever}` | does not fit | | |", flush=True)
            continue
        rate, ratio, peak = map(float, done.stdout.split()[-3:])
        costs[lever] = {"time": ratio, "mb": int(peak), "images_per_second": rate}
        print(f"| `{lever}` | {rate:.1f} | {ratio:.2f} | {int(peak):,} |", flush=True)
    if arguments.to:
        path = arguments.to / "cost.json"
        io.write_json(path, (io.read_json(path) if path.is_file() else {}) | costs)


if __name__ == "__main__":
    cli.run(main)
