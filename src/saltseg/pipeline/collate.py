"""Folds → the ``oof.npz`` and ``test.npz`` of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from saltseg import config, io, predictions, schemas
from saltseg.data import competition, folds
from saltseg.errors import InputError
from saltseg.pipeline.workspace import Workspace, drop_submission
from saltseg.runs import FoldDir, RunDir


def collate_run(
    run: RunDir, workspace: Workspace, tta: tuple[str, ...] | None = None, runtime: config.Runtime | None = None
) -> tuple[int, int]:
    """Collate the finished folds: every out-of-fold image once, the mean over folds of the test images.

    Fold predictions that are missing are made from the checkpoint. A run that was trained on pseudo-labels of all
    folds gets no ``oof.npz``. After a kill the next call goes on, with the views of the call that was killed.

    Args:
        run: with at least one finished fold.
        workspace: where its dataset and its fold table are.
        tta: names of views; all folds are predicted again with these instead of the configuration's.
        runtime: how this machine computes; None: the defaults.

    Returns:
        Number of finished folds, number of folds in the table.

    Raises:
        InputError: the data or the folds have changed since the training; folds were predicted with different views;
            an id is missing, foreign or twice.
    """
    settings, root = replace(run.read_config(), runtime=runtime or config.Runtime()), workspace.root(run)
    finished = run.trained_folds()
    table_path = folds.table_path(workspace.output_dir, root.name, settings.folds)
    table = folds.read_table(table_path, competition.train_ids(root))
    if table.digest != run.read_provenance()["folds_hash"]:
        raise InputError(f"the folds of {root.name} have changed since {run.name} was trained; restore the table")
    scored = not settings.pseudo_labels_from_all_folds
    metrics = {fold.number: schemas.read(fold.metrics) for fold in finished}
    # The first fold is marked first, so its mark is the latest.
    begun: list[str] = next((values["tta_begun"] for values in metrics.values() if "tta_begun" in values), [])
    if views := list(tta or begun):
        settings = config.change(settings, {"predict.tta": views})
    again = [
        fold for fold in finished if tta or _is_missing(fold, scored) or not _is_predicted(metrics[fold.number], views)
    ]
    if again:
        _predict_folds(run, again, metrics, settings, root, table)
    used = {tuple(schemas.read(fold.metrics)["tta"]) for fold in finished}
    if len(used) > 1:
        raise InputError(
            f"folds of {run.name} were predicted with different views; predict all again: "
            f"saltseg predict {run.name} --tta {','.join(settings.predict.tta)}"
        )
    test = predictions.mean_predictions([predictions.load_predictions(fold.test) for fold in finished])
    if run.test.is_file() and predictions.load_predictions(run.test).fingerprint() != test.fingerprint():
        drop_submission(run)
        run.test.unlink()  # after a kill there is none rather than one of other networks than oof.npz
    if scored:
        predictions.save_predictions(run.oof, _out_of_fold(finished, table))
    predictions.save_predictions(run.test, test)
    return len(finished), len(table.numbers)


def _is_missing(fold: FoldDir, scored: bool) -> bool:
    return not (fold.test.is_file() and (fold.oof.is_file() or not scored))


def _is_predicted(metrics: dict[str, Any], views: list[str]) -> bool:
    """Whether a fold was predicted to the end, and with these views if there are any."""
    finished = "tta_begun" not in metrics and metrics["tta"]
    return bool(finished) and (not views or metrics["tta"] == views)


def _out_of_fold(finished: Sequence[FoldDir], table: folds.Folds) -> predictions.Predictions:
    """The folds' predictions together; InputError unless they are of each fold's own images, each once."""
    oof = predictions.collate_folds(finished)
    assert oof.fold is not None
    numbers = {fold.number for fold in finished}
    expected = {pair for pair in zip(table.ids, table.fold.tolist(), strict=True) if pair[1] in numbers}
    odd = expected ^ set(zip(oof.ids.tolist(), oof.fold.tolist(), strict=True))
    if odd:
        raise InputError(
            f"out-of-fold predictions and the fold table differ in {len(odd)} ids, the first {min(odd)[0]!r}; "
            "delete the fold's oof.npz and predict again"
        )
    return oof


def _predict_folds(
    run: RunDir,
    again: Sequence[FoldDir],
    metrics: dict[int, dict[str, Any]],
    settings: config.Config,
    root: Path,
    table: folds.Folds,
) -> None:
    """Predict these folds, each of which has its metrics by its number; first all are marked as begun."""
    from saltseg.inference import engines, fold_predictions
    from saltseg.models import checkpoints, precision

    settings = precision.resolved(settings, run.read_provenance())
    engines.check(settings)
    for fold in again:  # before any is marked
        checkpoints.load_networks(settings, fold)
    labeled, test = competition.read_train(root), competition.read_test(root)
    for fold in again:
        io.write_json(fold.metrics, metrics[fold.number] | {"tta_begun": list(settings.predict.tta)})
    for fold in again:
        training, validation = (labeled.subset(part) for part in table.split(fold.number, settings.folds))
        new = fold_predictions.predict_fold(settings, fold, training, validation, test)
        before = {key: value for key, value in metrics[fold.number].items() if key != "tta_begun"}
        io.write_json(fold.metrics, before | new)
