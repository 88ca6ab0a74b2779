"""Train an experiment on a dataset, fold by fold.

  python scripts/train.py unet --data tgs                       all folds
  python scripts/train.py unet --data tgs --folds 0,1           two of them
  python scripts/train.py unet --data tgs --parallel 5          all at a time, on as many GPUs as there are
  python scripts/train.py unet_spec --data tgs --holdout 0.1    the case study's random 10 % instead of folds
  python scripts/train.py unet --data tgs --set train.epochs=3 --set data.size=128 --name quick
  python scripts/train.py output/runs/quick/config.yaml --data tgs --name again

--parallel is what small trainings want: folds do not wait for each other. --devices is for a network too large for one
GPU's patience: each batch is shared (Lightning's DDP; train.batch_size is that of all together).

Finished folds are skipped; an interrupted fold goes on from its last finished epoch, with the same result as if
it had never stopped. Results: output/runs/RUN/fold_K/.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from saltseg import cli

if TYPE_CHECKING:
    from saltseg.runs import RunDir


def main() -> int:
    from saltseg import config, experiments, processes, runs
    from saltseg.errors import InputError

    parser = cli.parser(__doc__)
    cli.add_training(parser, experiments.EXPERIMENTS)
    parser.add_argument("--overwrite", action="store_true", help="train finished folds again, dropping their results")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    settings = config.override(experiments.named(arguments.experiment), arguments.set)
    if arguments.holdout is not None:
        settings = config.override(settings, ["folds.scheme=holdout", f"folds.holdout={arguments.holdout}"])
    wanted = None
    if arguments.folds != "all":
        wanted = cli.numbers("--folds", arguments.folds, also="all")
    name = arguments.name or runs.default_name(arguments.data, settings.name, arguments.holdout)
    run = runs.run_dir(arguments.output, name)

    from saltseg.inference import predict
    from saltseg.training import experiment

    devices = arguments.devices
    processes.check_devices(devices, settings.train.batch_size)
    if devices > 1 and arguments.parallel > 1:
        raise InputError("--parallel and --devices: the folds would fight for the devices; give one of the two")

    job = (settings, arguments.data, run, arguments.input, arguments.output, wanted, arguments.overwrite, devices)
    failed = []
    if arguments.parallel > 1 or (devices > 1 and (wanted is None or len(wanted) > 1)):
        todo, skipped = experiment.begin(*job)
        failed = train_apart(arguments, run, todo)
    else:
        skipped = experiment.train(*job)
    for number in skipped:
        print(f"fold {number} of {name} is finished already; skipped")
    print_folds(run)
    if predict.bf16_would_pay(settings) and arguments.folds == "all" and not skipped:
        print(
            "this CPU multiplies in bfloat16: a new run with --set train.precision=bf16 may be up to 1.8 times as fast"
        )
    if failed:
        print(f"not finished: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
        return 1
    cli.next_step(f"python scripts/predict.py {name}")
    return 0


def train_apart(arguments: argparse.Namespace, run: "RunDir", folds: Sequence[int]) -> list[str]:
    """Train each fold of a run in a process of its own; returns those that failed."""
    from saltseg import processes

    again = [__file__, str(run.config), "--data", arguments.data, "--name", run.name]
    again += ["--input", str(arguments.input), "--output", str(arguments.output)]
    again += ["--devices", str(arguments.devices)] + (["--overwrite"] if arguments.overwrite else [])
    commands = {f"fold_{number}": [*again, "--folds", str(number)] for number in folds}
    return [fold for fold, code in processes.run(commands, arguments.parallel, run.path / "logs").items() if code]


def print_folds(run: "RunDir") -> None:
    """A line for every finished fold."""
    from saltseg import storage

    teacher = run.taught_by_all_folds()
    for fold in run.finished_folds():
        if teacher:
            print(f"fold {fold.number}: no score: its labels come from all folds of {teacher}")
            continue
        figures = storage.read_json(fold.metrics)
        print(
            f"fold {fold.number}: score {figures['score_at_half']:.4f} at threshold 0.5, "
            f"log-loss {figures['log_loss']:.4f}, pixel accuracy {figures['valid_pixel_accuracy']:.4f}, "
            f"{figures['seconds'] / 60:.1f} min; epoch {figures['best_epoch']} of {figures['epochs']} "
            f"({figures['best_epoch_chosen_by']})"
        )


if __name__ == "__main__":
    cli.run(main)
