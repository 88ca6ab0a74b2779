"""Self-training, first half: have a run label images that have no labels, each fold for itself.

  python scripts/pseudo_label.py tgs-recipe_lite0 --images FOLDER
  python scripts/train.py recipe_lite0 --data tgs --set pseudo.teacher=tgs-recipe_lite0 --name tgs-student
  python scripts/run.py recipe_lite0 --data tgs --set pseudo.teacher=tgs-recipe_lite0 --set pseudo.all_folds=true \
      --name tgs-final

Fold k of the student learns from the labels of the teacher's fold k alone, whose network never saw the images that
validate in fold k: so the student's out-of-fold score is honest. Folds that have labelled the folder are skipped; more
rounds are more students, each the next one's teacher. Images of the test set are left out, unless the student has
pseudo.transduction=true: with Kaggle's own data, --images input/tgs/test/images and that setting. Writes
output/runs/RUN/fold_K/pseudo.npz.

With pseudo.all_folds=true every fold learns from the mean of what all folds of the teacher say. Such labels hold the
masks that validate, so that run has no out-of-fold score and teaches nobody: it is for a final submission only.
"""

from pathlib import Path

from saltseg import cli


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the teacher's name under output/runs")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="101x101 tiles without labels")
    parser.add_argument(
        "--limit", type=cli.at_least_one, metavar="N", help="only the first N images by file name (default: all)"
    )
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs
    from saltseg.inference import pseudo

    run = runs.existing_run(arguments.output, arguments.run)
    count = pseudo.label(run, arguments.images, arguments.limit)
    print(f"{count} images labelled by each of {len(run.finished_folds())} folds: {run.path}/fold_*/pseudo.npz")
    settings = run.read_config()
    cli.next_step(
        f"python scripts/train.py {settings.name} --data {run.read_provenance()['dataset']} "
        f"--set pseudo.teacher={run.name} --name {run.name}-student"
    )


if __name__ == "__main__":
    cli.run(main)
