"""Self-training, first half: have a run label images that have no labels, each fold for itself.

  python scripts/pseudo_label.py tgs-recipe_lite0 --images FOLDER
  python scripts/train.py recipe_lite0 --data tgs --set pseudo.teacher=tgs-recipe_lite0 --name tgs-student
  python scripts/run.py recipe_lite0 --data tgs --set pseudo.teacher=tgs-recipe_lite0 --set pseudo.all_folds=true \
      --name tgs-final

Fold k of the student learns from the labels of the teacher's fold k alone, whose network never saw the images that
validate in fold k: so the student's out-of-fold score is honest. Of a blend the same fold of every member labels, and
the student learns from their mean. Sections (a side of 202 pixels or more) are cut into tiles of 101x101: give them at
the scale of the labelled ones. Folds that have labelled the folder are skipped; more rounds are more students, each the
next one's teacher. Images of the test set are left out, unless the student has pseudo.transduction=true: with
Kaggle's own data, --images input/tgs/test/images and that setting. Writes output/runs/RUN/fold_K/pseudo.npz.

With pseudo.all_folds=true every fold learns from the mean of what all folds of the teacher say. Such labels hold the
masks that validate, so that run has no out-of-fold score and teaches nobody: it is for a final submission only.
"""

from pathlib import Path

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the teacher's name: a run, or a blend of runs")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="images without labels")
    parser.add_argument(
        "--limit", type=cli.at_least_one, metavar="N", help="only the first N tiles by file name (default: all)"
    )
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg.inference import pseudo

    teachers = pseudo.members(arguments.output, arguments.run)
    for run in teachers:
        count = pseudo.label(run, arguments.images, arguments.limit)
        print(f"{count} tiles labelled by each of {len(run.finished_folds())} folds: {run.path}/fold_*/pseudo.npz")
        everything, half = pseudo.empty_shares(run)
        print(f"without salt: {everything:.0%} of the tiles, {half:.0%} of the surest half (pseudo.confidence=0.5)")
    experiment, dataset = teachers[0].read_config().name, teachers[0].read_provenance()["dataset"]
    cli.next_step(
        f"python scripts/train.py {experiment} --data {dataset} "
        f"--set pseudo.teacher={arguments.run} --name {arguments.run}-student"
    )


if __name__ == "__main__":
    cli.run(main)
