"""The whole ladder with one command: what each stage scores and what it gave over the one that it is measured over.

  python scripts/ladder.py --data tgs --images input/tgs/unlabelled/images                  a rehearsal on two cores
  python scripts/ladder.py --data tgs --images input/tgs/unlabelled/images --budget gpu --parallel 5
  python scripts/ladder.py --data tgs --images input/tgs/unlabelled/images --only baseline,recipe
  python scripts/ladder.py --data tgs --images input/tgs/unlabelled/images --ladder labels

score, from the handwritten U-Net to a blend:
  baseline    the handwritten U-Net
  recipe      ImageNet weights, symmetric Lovász loss
  pretrained  the recipe after masked-image pretraining on the images of the folder
  longer      the recipe for twice the epochs: what a student gains by its length alone
  student1    self-training: the recipe trained anew, half of its images labelled by `longer`, fold by fold
  student2    the same once more, labelled by student1
  blend       the mean of the three before

self_training, ways to learn from images without labels, each as long as `longer`: `student1` with sure labels only,
with soft ones, labelled images after the others instead of beside them, a network that is its own teacher.

labels, what a start is worth with 100, 300, 1,000 and all labels: random weights, pretraining on simulated tiles,
masked-image pretraining, ImageNet weights; 0.4 of the images validate. Draws a picture.

Each stage is made by the scripts that make a run, so all of it can be looked at, compared and continued as usual. What
is finished is skipped; stopped at any moment, the same command goes on. Scores are out of fold and cross-fitted, gains
are paired with their 95 % intervals. Stages and budgets are in src/saltseg/ladders.py: cpu takes an hour and a half on
two cores for either of the three (500 images to train on, 1,000 unlabelled ones, 10 epochs), gpu is the real thing
(five folds, full length, all images). Records, table and picture: output/published/ladder/DATASET-BUDGET-LADDER.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saltseg import cli

if TYPE_CHECKING:
    from saltseg.runs import RunDir

OF_THIS_CALL = ("name", "pseudo.images", "train.start_from")  # settings that say where things lie


def main() -> int:
    from saltseg import ladders

    arguments = parsed()
    check(arguments)
    stages = ladders.LADDERS[arguments.ladder]
    finished = [stage for stage in stages if is_finished(arguments, stage)]
    wanted = ladders.chosen(arguments.ladder, None if arguments.only == "all" else arguments.only.split(","), finished)
    found: list[dict[str, Any]] = []
    for number, stage in enumerate(stages, start=1):
        if stage in wanted:
            state = "finished already; skipped" if stage in finished else ladders.STAGES[stage].what
            print(f"\nstage {number} of {len(stages)}, {stage}: {state}", flush=True)
        elif stage not in finished:
            continue
        if stage not in finished and (code := climb(arguments, stage)):
            print(f"{stage} is not finished; the same command goes on with it", file=sys.stderr)
            return code
        found.append(record(arguments, stage))
        line = write(arguments, found)
        if stage in wanted:
            print(line, flush=True)
    if len(found) < len(stages):
        again = ["--data", arguments.data, "--images", str(arguments.images), "--budget", arguments.budget]
        cli.next_step(f"python scripts/ladder.py {shlex.join([*again, '--ladder', arguments.ladder])}")
    elif arguments.ladder == "score":
        best = max(found, key=lambda entry: entry["score"])
        cli.next_step(f"python scripts/publish.py {best['run']}")
    else:
        cli.next_step(f"git add {folder(arguments)}")
    return 0


def climb(arguments: argparse.Namespace, stage: str) -> int:
    """Make a stage, script by script; returns the exit code of the first that fails, or 0."""
    from saltseg import processes

    where = ["--input", str(arguments.input), "--output", str(arguments.output)]
    for script, *options in commands(arguments, stage):
        if script == "blend":
            blend = run_of(arguments, stage)
            if blend.provenance.is_file():  # made, and stopped afterwards
                continue
            shutil.rmtree(blend.path, ignore_errors=True)  # stopped half-way
        parallel = ["--parallel", str(arguments.parallel)] if script == "run" else []
        code = processes.call([str(Path(__file__).with_name(f"{script}.py")), *options, *parallel, *where])
        if code:
            return code
    return 0


def commands(arguments: argparse.Namespace, stage: str) -> list[list[str]]:
    """The scripts that make a stage and their options."""
    from saltseg import ladders

    pretrained = str(arguments.output / "pretrained")
    return ladders.commands(stage, arguments.budget, arguments.data, str(arguments.images), pretrained)


def record(arguments: argparse.Namespace, stage: str) -> dict[str, Any]:
    """What a finished stage scores, and gave over the one that it is measured over if that is finished."""
    from saltseg import ladders
    from saltseg.inference import ladder, steps

    over = ladders.STAGES[stage].over
    below = run_of(arguments, over) if over and is_finished(arguments, over) else None
    place = steps.Place(arguments.input, arguments.output)
    return ladder.record(stage, arguments.budget, run_of(arguments, stage), below, place)


def write(arguments: argparse.Namespace, found: list[dict[str, Any]]) -> str:
    """Write records, table and picture; returns the line about the last stage."""
    from saltseg import storage
    from saltseg.inference import ladder
    from saltseg.reporting import rungs

    place, draw = folder(arguments), rungs.curves if arguments.ladder == "labels" else rungs.chart
    known = {"dataset": arguments.data, "budget": arguments.budget, "ladder": arguments.ladder, "stages": found}
    storage.write_json(place / "ladder.json", known)
    storage.write_atomic(place / "table.md", ladder.markdown(found) + "\n")
    storage.write_atomic(place / "ladder.png", draw(found))
    return ladder.line(found[-1])


def folder(arguments: argparse.Namespace) -> Path:
    """Where records, table and picture are."""
    return arguments.output / "published" / "ladder" / f"{arguments.data}-{arguments.budget}-{arguments.ladder}"


def run_of(arguments: argparse.Namespace, stage: str) -> "RunDir":
    """The run or blend of a stage, whether it is there or not."""
    from saltseg import ladders, runs

    name = ladders.run_name(arguments.data, arguments.budget, stage)
    return runs.RunDir(arguments.output / ("blends" if ladders.STAGES[stage].members else "runs") / name)


def is_finished(arguments: argparse.Namespace, stage: str) -> bool:
    """Whether all folds are trained, and the last file is written.

    Raises InputError for a run that was trained with other settings than the stage has now.
    """
    from saltseg import config, ladders
    from saltseg.errors import InputError

    run = run_of(arguments, stage)
    if ladders.STAGES[stage].members:
        return run.report.is_file()
    if not (run.config.is_file() and run.report.is_file()):
        return False
    settings, now = run.read_config(), ladders.settings_of(commands(arguments, stage)[-1])
    changed = [line for line in config.differences(settings, now) if line.split(":")[0] not in OF_THIS_CALL]
    if changed:
        raise InputError(f"{run.name} is another training ({'; '.join(changed[:3])}); remove {run.path}")
    return len(run.finished_folds()) == (1 if settings.folds.scheme == "holdout" else settings.folds.count)


def check(arguments: argparse.Namespace) -> None:
    """Refuse a dataset or a folder that is not there, before hours of training."""
    from saltseg.data import competition

    competition.dataset_root(arguments.input, arguments.data)
    competition.read_folder(arguments.images, limit=1)


def parsed() -> argparse.Namespace:
    from saltseg import ladders

    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="DATASET", help="folder under input/")
    parser.add_argument("--images", required=True, type=Path, metavar="FOLDER", help="101x101 tiles without labels")
    parser.add_argument("--ladder", choices=list(ladders.LADDERS), default="score", help="which of the three")
    parser.add_argument("--budget", choices=list(ladders.BUDGETS), default="cpu", help="how much to train")
    parser.add_argument("--only", default="all", metavar="A,B", help="some stages of the ladder")
    cli.add_parallel(parser)
    cli.add_directories(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
