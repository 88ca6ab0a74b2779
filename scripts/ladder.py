"""The whole ladder with one command: what each stage scores and what it gave over the one that it builds on.

  python scripts/ladder.py --data tgs --images input/tgs/unlabelled/images                  a rehearsal on two cores
  python scripts/ladder.py --data tgs --images input/tgs/unlabelled/images --budget gpu --parallel 5
  python scripts/ladder.py --data tgs --images input/tgs/unlabelled/images --only baseline,recipe

  baseline    the handwritten U-Net
  recipe      ImageNet weights, symmetric Lovász loss
  pretrained  the recipe after masked-image pretraining on the images of the folder
  student1    self-training: the recipe, trained anew with the images of the folder labelled by the recipe, fold by fold
  student2    the same once more, labelled by student1
  blend       the mean of the four before

Each stage is made by the scripts that make a run, so all of it can be looked at, compared and continued as usual. What
is finished is skipped; stopped at any moment, the same command goes on. Scores are out of fold and cross-fitted, gains
are paired with their 95 % intervals. Stages and budgets are in src/saltseg/ladders.py: cpu takes an hour and a half on
two cores (500 images to train on, 1,000 unlabelled ones, 10 epochs), gpu is the real thing (five folds, full length,
all images). Writes output/published/ladder/DATASET-BUDGET/ladder.json and table.md.
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


def main() -> int:
    from saltseg import ladders

    arguments = parsed()
    check(arguments)
    finished = [stage for stage in ladders.STAGES if is_finished(run_of(arguments, stage))]
    wanted = ladders.chosen(list(ladders.STAGES) if arguments.only == "all" else arguments.only.split(","), finished)
    found: list[dict[str, Any]] = []
    for number, stage in enumerate(ladders.STAGES, start=1):
        if stage in wanted:
            state = "finished already; skipped" if stage in finished else ladders.STAGES[stage].what
            print(f"\nstage {number} of {len(ladders.STAGES)}, {stage}: {state}", flush=True)
        elif stage not in finished:
            continue
        if stage not in finished and (code := climb(arguments, stage)):
            print(f"{stage} is not finished; the same command goes on with it", file=sys.stderr)
            return code
        found.append(record(arguments, stage))
        line = write(arguments, found)
        if stage in wanted:
            print(line, flush=True)
    if len(found) < len(ladders.STAGES):
        again = ["--data", arguments.data, "--images", str(arguments.images), "--budget", arguments.budget]
        cli.next_step(f"python scripts/ladder.py {shlex.join(again)}")
    else:
        best = max(found, key=lambda entry: entry["score"])
        cli.next_step(f"python scripts/publish.py {best['run']}")
    return 0


def climb(arguments: argparse.Namespace, stage: str) -> int:
    """Make a stage, script by script; returns the exit code of the first that fails, or 0."""
    from saltseg import ladders, processes

    name = ladders.run_name(arguments.data, arguments.budget, stage)
    weights = arguments.output / "pretrained" / name / "weights.safetensors"
    commands = ladders.commands(stage, arguments.budget, arguments.data, str(arguments.images), str(weights))
    where = ["--input", str(arguments.input), "--output", str(arguments.output)]
    for script, *options in commands:
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


def record(arguments: argparse.Namespace, stage: str) -> dict[str, Any]:
    """What a finished stage scores, and gave over the one below if that is finished."""
    from saltseg import ladders
    from saltseg.inference import ladder, steps

    builds_on = ladders.STAGES[stage].builds_on
    below = run_of(arguments, builds_on) if builds_on else None
    if below is not None and not is_finished(below):
        below = None
    place = steps.Place(arguments.input, arguments.output)
    return ladder.record(stage, arguments.budget, run_of(arguments, stage), below, place)


def write(arguments: argparse.Namespace, found: list[dict[str, Any]]) -> str:
    """Write both files; returns the line about the last stage."""
    from saltseg import runs
    from saltseg.inference import ladder

    folder = arguments.output / "published" / "ladder" / f"{arguments.data}-{arguments.budget}"
    runs.write_json(folder / "ladder.json", {"dataset": arguments.data, "budget": arguments.budget, "stages": found})
    runs.write_atomic(folder / "table.md", ladder.markdown(found) + "\n")
    return ladder.line(found[-1])


def run_of(arguments: argparse.Namespace, stage: str) -> "RunDir":
    """The run or blend of a stage, whether it is there or not."""
    from saltseg import ladders, runs

    name = ladders.run_name(arguments.data, arguments.budget, stage)
    return runs.RunDir(arguments.output / ("blends" if ladders.STAGES[stage].members else "runs") / name)


def is_finished(run: "RunDir") -> bool:
    """Whether all folds are trained, and the last file is written."""
    trained = run.path.parent.name == "blends" or (
        run.config.is_file() and len(run.finished_folds()) == run.read_config().folds.count
    )
    return trained and run.report.is_file()


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
    parser.add_argument("--budget", choices=list(ladders.BUDGETS), default="cpu", help="how much to train")
    parser.add_argument("--only", default="all", metavar="A,B", help=f"stages: {', '.join(ladders.STAGES)}")
    cli.add_parallel(parser)
    cli.add_directories(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
