"""Time and memory of one training step with each variant of the ablations, as ratios to the base of the same run.

  python benchmarks/ablation_costs.py                        those that change a step: 20 seconds each on two cores
  python benchmarks/ablation_costs.py --only base,stride1
  python benchmarks/ablation_costs.py --to output/published/studies/ablations-tgs-cpu

With --to it writes cost.json there, from which `saltseg study ablations` fills two columns of its table; variants that
it does not measure keep what they have. Of a variant whose first epochs are at half the size the time is the mean over
its epochs.

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

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness import one_line, seconds
from saltseg import config, io
from saltseg.config import Config
from saltseg.models.salt_network import outputs
from saltseg.studies.ablations import STUDY
from saltseg.studies.sweep import Sweep
from saltseg.training import optimizers
from saltseg.training.module import SaltModule, half_resolution

BATCH, STEPS = 16, 7
# What changes the cost of a step.
STEP = re.compile(
    r"model\.(?!weights)|data\.size|train\.(loss|second_loss|optimizer|grad_clip_norm|ema_decay|low_resolution_epochs)"
)


def settings_of(experiment: str, variant: str) -> Config:
    """A variant on the budget of two cores, with its second loss from the first epoch on and random weights.

    The speed is the same, and no download can fail.
    """
    study = STUDY.with_base(experiment) if experiment else STUDY
    settings = Sweep(study, "tgs", "cpu", Path("input"), Path("output")).settings(variant, 0)
    changes = {"train.second_loss_start_epoch": 1} if settings.train.second_loss_start_epoch else {}
    return config.change(settings, {"model.weights": "none", **changes})


def stepper(settings: Config) -> Callable[[bool], None]:
    """Something that makes one training step on made-up tiles, at half the size if told so."""
    module = SaltModule(settings, 0, (101, 101)).train()
    optimizer = optimizers.optimizer(module.network, settings.train)
    average = AveragedModel(module.network, multi_avg_fn=get_ema_multi_avg_fn(settings.train.ema_decay or 0.99))
    size = settings.data.size
    images = torch.rand(BATCH, settings.model.in_channels, size, size).contiguous(memory_format=torch.channels_last)
    masks = (images.mean(dim=1, keepdim=True) > 0.5).float()

    def step(half: bool) -> None:
        """Forward, backward and update."""
        shown, wanted = half_resolution(images, masks) if half else (images, masks)
        module.loss(outputs(module.network, shown), wanted).backward()
        if settings.train.grad_clip_norm:
            torch.nn.utils.clip_grad_norm_(module.network.parameters(), settings.train.grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if settings.train.ema_decay:
            average.update_parameters(module.network)

    return step


def measure(experiment: str, variant: str) -> str:
    """Images per second, time as a ratio to the base's, peak MiB; as text.

    Steps of the variant and of the base alternate, so that other work on the machine touches both; the ratio is the
    median.
    """
    settings = settings_of(experiment, variant)
    changed, half = stepper(settings), settings.train.low_resolution_epochs / settings.train.epochs

    def mean_step() -> float:
        """Seconds of a step, over all epochs."""
        small = seconds(partial(changed, True)) if half else 0.0
        return half * small + (1 - half) * seconds(partial(changed, False))

    mean_step(), mean_step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # before the base needs any
    base = partial(stepper(settings_of(experiment, "base")), False)
    base(), base()
    pairs = [(mean_step(), seconds(base)) for _ in range(STEPS)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    return f"{BATCH / min(ours for ours, _ in pairs):.2f} {ratio:.3f} {peak}"


def heavier() -> list[str]:
    """The variants that may change what a training step costs."""
    of = Sweep(STUDY, "tgs", "cpu", Path("input"), Path("output"))
    return [name for name in STUDY.variants if any(map(STEP.match, of.changes(name)))]


def main() -> None:
    """Measure the variants asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="", help="another base than the study's")
    parser.add_argument("--only", default=",".join(heavier()), help="default: those that change a training step")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write cost.json into this folder")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure(arguments.experiment, arguments.measure))
        return
    names = Sweep(STUDY, "tgs", "cpu", Path("input"), Path("output")).select(arguments.only)
    settings_of(arguments.experiment, "base")
    costs = {}
    print("| variant | images/s | time, base = 1 | peak MiB |\n|---|---|---|---|")
    for name in ["base", *(name for name in names if name != "base")]:
        command = [sys.executable, __file__, "--experiment", arguments.experiment, "--measure", name]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"| `{name}` | does not fit | | |", flush=True)
            continue
        rate, ratio, peak = map(float, done.stdout.split()[-3:])
        costs[name] = {"time": ratio, "mb": int(peak), "images_per_second": rate}
        print(f"| `{name}` | {rate:.1f} | {ratio:.2f} | {int(peak):,} |", flush=True)
    if arguments.to:
        path = arguments.to / "cost.json"
        io.write_json(path, (io.read_json(path) if path.is_file() else {}) | costs)


if __name__ == "__main__":
    with one_line():
        main()
