"""What is each part of a recipe worth? Train an experiment with one lever changed at a time, compare image by image.

  python scripts/levers.py unet_efficientnet_lite0 --data tgs                       every lever on a small fixed budget
  python scripts/levers.py unet_efficientnet_lite0 --data tgs --only base,lovasz_elu --seeds 0,1
  python scripts/levers.py unet_efficientnet_lite0 --data tgs --budget gpu          full length, all folds
  python scripts/levers.py unet_efficientnet_lite0 --data tgs --table               only the table of what is finished
  python scripts/levers.py unet_efficientnet_lite0 --data tgs --against lovasz_elu_throughout
                                                          the same with another lever in the place of the baseline

The length of every training is fixed beforehand and its last weights are judged, so no epoch is picked on the
validation images. Each finished training leaves a small record with the score of every image in
output/published/levers/; table and picture are made from those records, and what has one is not trained again, here
or on another machine. On two cores a lever of the cpu budget takes about six minutes with this baseline, more where
it makes the network heavier.
"""

import argparse
import os
import sys
from pathlib import Path

from saltseg import cli

MISFIT = 3  # exit code of a training whose lever this baseline cannot have


def main() -> int:
    from saltseg import experiments

    parser = cli.parser(__doc__)
    parser.add_argument("experiment", help="the baseline: an experiment of a fixed length, or a config.yaml")
    parser.add_argument("--data", required=True, metavar="DATASET", help="folder under input/")
    parser.add_argument("--budget", choices=list(experiments.BUDGETS), default="cpu", help="how much to train")
    parser.add_argument("--only", default="all", metavar="A,B", help=f"levers: {', '.join(experiments.LEVERS)}")
    parser.add_argument("--seeds", default="0", metavar="0,1", help="a training per lever and seed (default: 0)")
    cli.add_parallel(parser)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--against", metavar="LEVER", help="train nothing; print gains over this lever instead")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import config
    from saltseg.data import competition
    from saltseg.errors import InputError

    wanted = list(experiments.LEVERS) if arguments.only == "all" else arguments.only.split(",")
    for lever in wanted:
        if lever not in experiments.LEVERS:
            raise InputError(config.unknown("lever", lever, experiments.LEVERS))
    seeds = cli.numbers("--seeds", arguments.seeds)
    baseline = experiments.named(arguments.experiment)
    if baseline.train.keep == "best":
        raise InputError(
            f"{arguments.experiment} picks its best epoch on the images that would report the gain; "
            "use an experiment with train.keep=last"
        )
    records = arguments.output / "published" / "levers" / f"{arguments.data}-{baseline.name}-{arguments.budget}"
    trainings = [] if arguments.table or arguments.against else [(lever, seed) for seed in seeds for lever in wanted]
    if trainings:
        competition.dataset_root(arguments.input, arguments.data)
    missing = [pair for pair in trainings if not (records / f"{pair[0]}-{pair[1]}.json").is_file()]
    if len(missing) == 1:
        code = train(arguments, *missing[0])
        if code and cli.PART_OF_RUN in os.environ:
            return code
    else:  # each in a process of its own, so that none inherits another's memory
        failed = train_all(arguments, missing, records.name)
        if failed:
            print(f"not finished: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
            return 1
    if cli.PART_OF_RUN not in os.environ:
        tell(arguments, records)
    return 0


def tell(arguments: argparse.Namespace, records: Path) -> None:
    """Print the table, and with the plain baseline write it and its picture beside the records."""
    from saltseg import storage
    from saltseg.inference import levers
    from saltseg.reporting import gains

    everything = levers.read(records)
    noise = levers.seed_noise(everything)
    found = levers.table(everything, arguments.against or levers.BASE)
    costs = records / "cost.json"  # ratios to the baseline, so of no use against another lever
    known = storage.read_json(costs) if costs.is_file() and not arguments.against else None
    table = levers.markdown(found, noise, known)
    print(table)
    if arguments.against:
        return
    storage.write_atomic(records / "table.md", table + "\n")
    storage.write_atomic(records / "levers.png", gains.chart(found, noise))
    print(f"records, table and picture: {records}")
    cli.next_step(f"git add {records}")


def train_all(arguments: argparse.Namespace, missing: list[tuple[str, int]], series: str) -> list[str]:
    """Each training in a process of its own; returns those that failed, a lever that does not fit is none of them."""
    from saltseg import processes

    again = [__file__, arguments.experiment, "--data", arguments.data, "--budget", arguments.budget]
    again += ["--input", str(arguments.input), "--output", str(arguments.output)]
    commands = {f"{lever}-{seed}": [*again, "--only", lever, "--seeds", str(seed)] for lever, seed in missing}
    codes = processes.run(commands, arguments.parallel, arguments.output / "levers" / series)
    return [name for name, code in codes.items() if code not in (0, MISFIT)]


def train(arguments: argparse.Namespace, lever: str, seed: int) -> int:
    """Train the baseline with one lever and leave its record; `MISFIT` for a lever that this baseline cannot have."""
    from saltseg import config, experiments, runs, storage
    from saltseg.data import competition
    from saltseg.errors import InputError
    from saltseg.inference import levers, steps
    from saltseg.training import experiment, fold

    baseline = experiments.named(arguments.experiment)
    try:
        changes = experiments.with_lever(baseline, arguments.budget, lever)
        settings = config.override(baseline, [*changes, f"train.seed={seed}"])
        same = config.override(baseline, [*experiments.BUDGETS[arguments.budget], f"train.seed={seed}"])
        if lever != levers.BASE and settings == same:
            raise InputError("it changes nothing here")
        fold.check(settings, *competition.SHAPE)
    except InputError as error:
        print(f"{lever} is left out: {error}", file=sys.stderr)
        return MISFIT
    series = f"{arguments.data}-{baseline.name}-{arguments.budget}"
    run = runs.RunDir(arguments.output / "levers" / series / f"{lever}-{seed}")
    experiment.train(settings, arguments.data, run, arguments.input, arguments.output, predict_test=False)
    place = steps.Place(arguments.input, arguments.output)
    entry = levers.record(run, place, baseline, arguments.budget, lever, seed)
    storage.write_json(arguments.output / "published" / "levers" / series / f"{lever}-{seed}.json", entry)
    return 0


if __name__ == "__main__":
    cli.run(main)
