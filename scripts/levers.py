"""What is each part of a recipe worth? Train an experiment with one lever changed at a time, compare image by image.

  python scripts/levers.py unet_efficientnet_lite0 --data tgs                       every lever on a small fixed budget
  python scripts/levers.py unet_efficientnet_lite0 --data tgs --only base,lovasz_elu --seeds 0,1
  python scripts/levers.py unet_efficientnet_lite0 --data tgs --budget gpu          full length, all folds
  python scripts/levers.py unet_efficientnet_lite0 --data tgs --table               only the table of what is finished

The length of every training is fixed beforehand and its last weights are judged, so no epoch is picked on the
validation images. Each finished training leaves a small record with the score of every image in
output/published/levers-BUDGET/; the table and the picture are made from those. Finished trainings are skipped.
"""

import subprocess
import sys
from pathlib import Path

from saltseg import cli


def main() -> int:
    from saltseg import experiments

    parser = cli.parser(__doc__)
    parser.add_argument("experiment", help="the baseline's name")
    parser.add_argument("--data", required=True, metavar="DATASET", help="folder under input/")
    parser.add_argument("--budget", choices=list(experiments.BUDGETS), default="cpu", help="how much to train")
    parser.add_argument("--only", default="all", metavar="A,B", help=f"levers: {', '.join(experiments.LEVERS)}")
    parser.add_argument("--seeds", default="0", metavar="0,1", help="a training per lever and seed (default: 0)")
    parser.add_argument("--table", action="store_true", help="train nothing")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import config, runs
    from saltseg.errors import InputError
    from saltseg.inference import levers, steps
    from saltseg.reporting import gains

    wanted = list(experiments.LEVERS) if arguments.only == "all" else arguments.only.split(",")
    for lever in wanted:
        if lever not in experiments.LEVERS:
            raise InputError(config.unknown("lever", lever, experiments.LEVERS))
    if not all(seed.isdigit() for seed in arguments.seeds.split(",")):
        raise InputError(f"--seeds {arguments.seeds!r}; write numbers such as 0,1")
    baseline = experiments.named(arguments.experiment)
    place = steps.Place(arguments.input, arguments.output)
    folder = arguments.output / "published" / f"levers-{arguments.budget}"
    for seed in [] if arguments.table else map(int, arguments.seeds.split(",")):
        for lever in wanted:
            name = f"levers-{arguments.budget}-{lever}-{seed}"
            train = [str(Path(__file__).with_name("train.py")), arguments.experiment, "--data", arguments.data]
            train += ["--name", name, "--input", str(arguments.input), "--output", str(arguments.output)]
            seeded = [f"train.seed={seed}"] if seed else []
            for setting in experiments.with_lever(baseline, arguments.budget, lever) + seeded:
                train += ["--set", setting]
            done = subprocess.run([sys.executable, *train], check=False)
            if done.returncode:
                return done.returncode
            run = runs.existing_run(arguments.output, name)
            runs.write_json(folder / f"{lever}-{seed}.json", levers.record(run, place, lever, seed, arguments.budget))

    records = levers.read(folder)
    found = levers.table(records)
    runs.write_atomic(folder / "table.md", levers.markdown(found) + "\n")
    noise = levers.seed_noise(records)
    runs.write_atomic(folder / "levers.png", gains.chart(found, noise))
    print(levers.markdown(found))
    print(f"{found[0].n} images; between seeds: " + ("not measured" if noise is None else f"{noise:.4f} (one sigma)"))
    print(f"records, table and picture: {folder}")
    return 0


if __name__ == "__main__":
    cli.run(main)
