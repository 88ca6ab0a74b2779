"""The case study's questions, measured: train its U-Net with one thing changed at a time, on the same folds and seeds.

  python scripts/study.py --data tgs                            every variant on the cpu budget, hours on two cores
  python scripts/study.py --data tgs --only base,no_skips       two of them
  python scripts/study.py --data tgs --budget gpu --parallel 4  full length, all folds, two seeds, four at a time
  python scripts/study.py --data synthetic --budget tiny        a look at what comes out, in minutes

Variants and budgets are in src/saltseg/studies.py. Each finished training leaves a small record in
output/published/study/ (with simulated data some predicted tiles beside it); what has one is not trained again, an
interrupted training goes on from its last epoch, and a training that fails does not stop the others.
scripts/case_study.py makes the document from the records.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from saltseg import cli

if TYPE_CHECKING:
    from saltseg.runs import RunDir


def main() -> int:
    from saltseg import config, studies
    from saltseg.errors import InputError

    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="DATASET", help="folder under input/")
    parser.add_argument("--budget", choices=list(studies.BUDGETS), default="cpu", help="how much to train")
    parser.add_argument("--only", default="all", metavar="A,B", help=f"variants: {', '.join(studies.VARIANTS)}")
    parser.add_argument("--seeds", metavar="0,1", help="a training per variant and seed (default: the budget's)")
    cli.add_parallel(parser)
    cli.add_directories(parser)
    arguments = parser.parse_args()

    budget = studies.BUDGETS[arguments.budget]
    possible = [variant for variant in studies.VARIANTS if variant not in budget.without]
    wanted = possible if arguments.only == "all" else arguments.only.split(",")
    for variant in wanted:
        if variant not in possible:
            raise InputError(config.unknown("variant", variant, possible))
    seeds = cli.numbers("--seeds", arguments.seeds) if arguments.seeds else budget.seeds
    trainings = [(variant, seed) for seed in seeds for variant in wanted]
    missing = [pair for pair in trainings if not record_path(arguments, *pair).is_file()]
    print(f"{len(missing)} of {len(trainings)} trainings to do", flush=True)
    if len(trainings) == 1:
        for pair in missing:
            train(arguments, *pair)
    elif missing:
        failed = train_all(arguments, missing)
        if failed:
            print(f"not finished: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
            return 1
    if cli.PART_OF_RUN not in os.environ:
        average_folds(arguments, seeds[0])
        show_tiles(arguments)
        cli.next_step(f"python scripts/case_study.py --data {arguments.data} --budget {arguments.budget}")
    return 0


def average_folds(arguments: argparse.Namespace, seed: int) -> None:
    """Leave what averaging the folds of the baseline gives, where its networks and images for that are at hand."""
    from saltseg import storage, studies
    from saltseg.inference import steps, study

    path = record_path(arguments, studies.BASE, seed).with_name("ensemble.json")
    run = run_of(arguments, studies.BASE, seed)
    if not path.is_file() and record_path(arguments, studies.BASE, seed).is_file() and run.finished_folds():
        found = study.ensemble(run, steps.Place(arguments.input, arguments.output))
        if found is not None:
            storage.write_json_lines(path, found)


def show_tiles(arguments: argparse.Namespace) -> None:
    """Leave predicted tiles beside the records of simulated data; the licence of the real ones forbids showing them."""
    from saltseg import storage
    from saltseg.data import competition
    from saltseg.inference import steps, study
    from saltseg.reporting import case_tiles

    place = steps.Place(arguments.input, arguments.output)
    for variant in case_tiles.SHOWN:
        path, run = record_path(arguments, variant, 0).with_suffix(".npz"), run_of(arguments, variant, 0)
        at_hand = path.with_suffix(".json").is_file() and run.finished_folds()
        if at_hand and not path.is_file() and competition.is_synthetic(place.root(run)):
            storage.write_arrays(path, study.tiles(run, place))


def record_path(arguments: argparse.Namespace, variant: str, seed: int) -> Path:
    """Where a training leaves its record."""
    series = f"{arguments.data}-{arguments.budget}"
    return arguments.output / "published" / "study" / series / f"{variant}-{seed}.json"


def run_of(arguments: argparse.Namespace, variant: str, seed: int) -> "RunDir":
    """Where a training is, or will be."""
    from saltseg import runs

    return runs.RunDir(arguments.output / "study" / f"{arguments.data}-{arguments.budget}" / f"{variant}-{seed}")


def train_all(arguments: argparse.Namespace, missing: list[tuple[str, int]]) -> list[str]:
    """Each training in a process of its own; returns those that failed."""
    from saltseg import processes

    places = ["--input", str(arguments.input), "--output", str(arguments.output)]
    again = [__file__, "--data", arguments.data, "--budget", arguments.budget, *places]
    commands = {f"{variant}-{seed}": [*again, "--only", variant, "--seeds", str(seed)] for variant, seed in missing}
    logs = arguments.output / "study" / f"{arguments.data}-{arguments.budget}"
    return [name for name, code in processes.run(commands, arguments.parallel, logs).items() if code]


def train(arguments: argparse.Namespace, variant: str, seed: int) -> None:
    """Train one variant with one seed and leave its record."""
    from saltseg import storage, studies
    from saltseg.inference import steps, study
    from saltseg.training import experiment

    budget = arguments.budget
    run = run_of(arguments, variant, seed)
    settings = studies.settings(variant, budget, seed)
    folds = studies.BUDGETS[budget].folds
    experiment.train(settings, arguments.data, run, arguments.input, arguments.output, folds, predict_test=False)
    entry = study.record(run, steps.Place(arguments.input, arguments.output), variant, budget, seed)
    storage.write_json_lines(record_path(arguments, variant, seed), entry)


if __name__ == "__main__":
    cli.run(main)
