"""Copy the small, telling files of a run to output/published/RUN, the only results under version control.

  python scripts/publish.py tgs-unet

Configuration, provenance, fold table's hash, scores per fold and per image (image_scores.csv: at threshold 0.5,
with a threshold and a minimum area and with the whole decision rule, both fitted on the other folds), logs, decision
rule, curves and the submission; no weights, no predictions, no pictures of tiles (the competition's licence does not
allow shipping those). What lay in that folder before is replaced. A run that labels of all folds taught
(pseudo.all_folds) has no scores to copy, and a validation loss not worth drawing.
"""

import shutil

from saltseg import cli

FILES = (
    "config.yaml",
    "provenance.json",
    "postprocess.json",
    "submission.csv",
    "borrowed_rule.json",
    "solution_score.json",
    "rule_curve.png",
)
FOLD_FILES = ("metrics.json", "log.csv")


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("run", help="the run's name under output/runs or output/blends")
    cli.add_directories(parser)
    arguments = parser.parse_args()

    from saltseg import runs, storage
    from saltseg.errors import InputError
    from saltseg.inference import compare, steps
    from saltseg.reporting import figures

    run = runs.existing_run(arguments.output, arguments.run)
    if not run.submission.is_file():
        raise InputError(f"run {run.name!r} has no submission yet; python scripts/submit.py {run.name}")
    if not run.borrowed.is_file():
        steps.own_rule(run)  # of these predictions, or it says so
    target = arguments.output / "published" / run.name
    if target.exists() and not (target / "provenance.json").is_file():
        raise InputError(f"{target} holds something else than a published run; give the run another name")
    sources = [run.path / name for name in FILES]
    sources += [fold.path / name for fold in run.finished_folds() for name in FOLD_FILES]
    sources += sorted(run.path.glob("on_*.json"))
    finished = run.finished_folds()
    judged = not run.taught_by_all_folds()
    logs = {fold.number: storage.read_csv(fold.log) for fold in finished} if judged else {}
    kept = {fold.number: storage.read_json(fold.metrics)["best_epoch"] for fold in finished}
    with storage.atomic_dir(target, replace=True) as beside:  # whole, so that nothing of an earlier publication stays
        for source in filter(lambda path: path.is_file(), sources):
            copy = beside / source.relative_to(run.path)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)
        if logs:
            storage.write_atomic(beside / "learning_curves.png", figures.learning_curves(logs, kept))
        if judged:
            scores = compare.image_scores(run, steps.Place(arguments.input, arguments.output))
            storage.write_csv(beside / "image_scores.csv", scores)
    print(f"{sum(path.is_file() for path in target.rglob('*'))} files in {target}")
    cli.next_step(f"git add {target}")


if __name__ == "__main__":
    cli.run(main)
