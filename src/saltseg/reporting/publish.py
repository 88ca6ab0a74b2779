"""The small files of a run that are worth keeping under version control."""

import shutil
from pathlib import Path

from saltseg import io, schemas
from saltseg.errors import InputError
from saltseg.pipeline import compare, tune
from saltseg.pipeline.workspace import Workspace
from saltseg.reporting import plots
from saltseg.runs import RunDir

FILES = (
    "config.yaml",
    "provenance.json",
    "postprocess.json",
    "submission.csv",
    "postprocessing_source.json",
    "solution_score.json",
    "threshold_curve.png",
)
FOLD_FILES = ("metrics.json", "log.csv")
PREDICTIONS = ("oof.npz", "test.npz")


def publish(run: RunDir, workspace: Workspace, predictions: bool = False) -> Path:
    """Copy them to ``output/published/RUN``, and score every out-of-fold image there; returns that folder.

    What an earlier publication left is replaced. ``predictions`` adds the probabilities of each fold, so that blends
    and comparisons outlive the machine.

    Raises:
        InputError: the run has no submission or its post-processing is of other predictions, a file is damaged, or the
            folder holds something else.
    """
    if not run.submission.is_file():
        raise InputError(f"run {run.name!r} has no submission yet; saltseg submit {run.name}")
    if not run.postprocessing_source.is_file():
        tune.own_postprocessing(run)  # raises InputError where it is of other predictions
    target = workspace.output_dir / "published" / run.name
    if target.exists() and not (target / "provenance.json").is_file():
        raise InputError(f"{target} holds something else than a published run; give the run another name")
    finished = run.finished_folds()
    sources = [run.path / name for name in FILES]
    names = FOLD_FILES + (PREDICTIONS if predictions else ())
    sources += [fold.path / name for fold in finished for name in names]
    sources += sorted(run.path.glob("on_*.json"))
    scored = not run.pseudo_labels_from_all_folds()
    with io.atomic_dir(target, replace=True) as beside:
        for source in filter(Path.is_file, sources):
            if source.suffix == ".json":
                schemas.read(source)  # raises InputError for a damaged one
            copy = beside / source.relative_to(run.path)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)
        if scored and finished:
            logs = {fold.number: schemas.read(fold.log) for fold in finished}
            best = {fold.number: schemas.read(fold.metrics)["best_epoch"] for fold in finished}
            io.write_atomic(beside / "learning_curves.png", plots.learning_curves(logs, best))
        if scored:
            io.write_csv(beside / "image_scores.csv", compare.image_scores(run, workspace))
    return target
