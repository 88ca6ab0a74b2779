"""The page about one run: scores with their caveats, curves, tables and images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from saltseg import config, io, predictions, runs
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.pipeline.workspace import Workspace
from saltseg.reporting import caveats, gallery, page, plots, run_summary
from saltseg.reporting.run_summary import RunSummary

VERSIONS = ("saltseg", "python", "torch", "lightning", "segmentation-models-pytorch", "timm", "numpy")


class Side(NamedTuple):
    """Training or validation tiles, and what the page says where there are none."""

    title: str
    tiles: gallery.ScoredTiles | None
    missing: str


def build(run: runs.RunDir, workspace: Workspace) -> str:
    """HTML of the page about a run: one file with its pictures, without scripts or network access.

    Args:
        run: a run or blend. What it does not have yet (a fold, tuning, a solution) is named on the page.
        workspace: with its dataset, which may be missing. Another dataset of that name counts as missing.

    Raises:
        InputError: damaged files, or a run without an out-of-fold score.
    """
    run.require_oof_score("nothing to report: saltseg report {teacher}")
    summary = run_summary.read(run)
    training, validation = _sides(summary, workspace)
    return page.render(
        "report.html.j2",
        summary=summary,
        network=_network(summary),
        versions=[f"{name} {summary.provenance[name]}" for name in VERSIONS if summary.provenance.get(name)],
        settings=_settings(summary),
        caveats=caveats.caveats(summary),
        gap=_gap(summary),
        charts=_charts(summary, validation),
        learning_curve_hint=caveats.learning_curve_hint(summary),
        training=training,
        validation=validation,
        pictures={side.title: _pictures(side) for side in (training, validation)},
        fold_rows=_fold_rows(summary),
        postprocessing=caveats.describe_postprocessing(summary.postprocessing),
    )


def write(run: runs.RunDir, workspace: Workspace) -> Path:
    """Build the page and write it to ``report.html`` of the run; returns its path."""
    io.write_atomic(run.report, build(run, workspace))
    return run.report


def picture(run: runs.RunDir, workspace: Workspace) -> bytes:
    """Out-of-fold tiles at three quantiles of their score; PNG bytes. InputError when there are none."""
    _, validation = _sides(run_summary.read(run), workspace)
    if validation.tiles is None:
        raise InputError(f"no picture of {run.name!r}: {validation.missing}")
    return gallery.draw(validation.tiles, gallery.at_quantiles(validation.tiles))


def _sides(summary: RunSummary, workspace: Workspace) -> tuple[Side, Side]:
    """Training tiles of one fold, since folds share training images, and out-of-fold tiles."""
    try:
        labeled = competition.read_train(workspace.root(summary.run))
    except InputError as error:
        missing = f"The images of the dataset cannot be read: {error}."
        return Side("training images", None, missing), Side("validation images", None, missing)

    def score(path: Path) -> gallery.ScoredTiles:
        return gallery.score(predictions.load_predictions(path), labeled, summary.postprocessing)

    training = Side("training images", None, "There are no predictions for training images.")
    fold = next((fold for fold in summary.run.finished_folds() if fold.train.is_file()), None)
    if fold is not None:
        training = Side(f"training images of fold {fold.number}", score(fold.train), "")
    missing = f"There are no out-of-fold predictions yet: saltseg predict {summary.run.name}."
    validation = Side("validation images", None, missing)
    if summary.run.oof.is_file():
        validation = Side("validation images", score(summary.run.oof), "")
    return training, validation


def _network(summary: RunSummary) -> str:
    """Architecture, encoder and source of the encoder's weights, as the folds recorded it."""
    if summary.settings is None:
        return ""
    model = summary.settings.model
    if not isinstance(model, config.SmpConfig):
        return model.architecture
    recorded = sorted({str(fold["weights_source"]) for fold in summary.metrics if fold.get("weights_source")})
    return f"{model.architecture}, encoder {model.encoder}, its weights: {' or '.join(recorded) or model.weights}"


def _settings(summary: RunSummary) -> list[str]:
    """Settings that differ from the defaults of this kind of model and schedule, "train.ema_decay: 0.0 → 0.99"."""
    if summary.settings is None:
        return []
    default, train = config.Config(), summary.settings.train
    schedule = replace(default.train, schedule=type(train.schedule)())
    own_kind = replace(default, model=type(summary.settings.model)(), train=schedule)
    defaults = config.flat(own_kind) | config.flat(default)
    return [
        f"{key}: {defaults.get(key, page.MISSING)} → {value}"
        for key, value in config.flat(summary.settings).items()
        if key != "name" and (key not in defaults or value != defaults[key])
    ]


def _gap(summary: RunSummary) -> list[tuple[str, str, str, str]]:
    """Training beside validation, means over scored folds: name, training, validation, gap."""
    if not summary.metrics:
        return []
    metrics = [
        ("loss (binary cross-entropy)", "train_loss", "valid_loss", page.score, page.gain),
        ("score at 0.5 (mAP)", "train_score_at_half", "score_at_half", page.score, page.gain),
        ("pixel accuracy", "train_pixel_accuracy", "valid_pixel_accuracy", page.share, page.points),
    ]
    rows = []
    for name, train_key, valid_key, show, show_gap in metrics if summary.same_loss else metrics[1:]:
        train, valid = summary.mean(train_key), summary.mean(valid_key)
        gap = None if train is None or valid is None else valid - train
        rows.append((name, show(train), show(valid), show_gap(gap)))
    return rows


def _fold_rows(summary: RunSummary) -> list[tuple[str, list[str]]]:
    """One row per metric that any finished fold has, one value per fold."""
    snapshots = summary.checkpoint == "snapshots"
    rows: list[tuple[str, str, Callable[[Any], str]]] = [
        ("training images", "n_train", page.count),
        ("validation images", "n_valid", page.count),
        ("epochs", "epochs", page.count),
        ("last epoch used" if snapshots else "epoch used", "best_epoch", page.count),
        ("diverged at epoch", "diverged_at_epoch", page.count),
        ("training loss of that epoch", "train_loss", page.score),
        ("validation loss of that epoch", "valid_loss", page.score),
        ("log-loss, one view", "log_loss", page.score),
        ("score at 0.5", "score_at_half", page.score),
        ("… without TTA", "score_at_half_no_tta", page.score),
        ("… training sample", "train_score_at_half", page.score),
        ("pixel accuracy", "valid_pixel_accuracy", page.share),
        ("training time", "seconds", page.duration),
        ("images per second", "images_per_second", page.count),
        ("peak memory, MiB", "peak_memory_mb", page.count),
        ("peak GPU memory, MiB", "peak_gpu_memory_mb", page.count),
    ]
    recorded = {key for fold in summary.metrics for key, value in fold.items() if value is not None}
    return [(name, [show(fold.get(key)) for fold in summary.metrics]) for name, key, show in rows if key in recorded]


def _charts(summary: RunSummary, validation: Side) -> dict[str, bytes | None]:
    """Pictures by title; None where there is nothing to draw."""
    logs, content, tiles = summary.logs(), summary.postprocess, validation.tiles
    precision_recall = None
    if tiles is not None and tiles.true.any():
        precision_recall = plots.precision_recall(tiles.probabilities, tiles.true, tiles.predicted)
    return {
        "Learning curves": plots.learning_curves(logs, summary.best_epochs) if logs else None,
        "Threshold": plots.threshold_curve(content) if content else None,
        "Precision and recall": precision_recall,
        "Score by coverage": plots.coverage_bars(content["per_coverage"]) if content else None,
    }


def _pictures(side: Side) -> dict[str, bytes]:
    """The best, median and worst tiles by kind, without a kind for which there are too few tiles."""
    if side.tiles is None:
        return {}
    return {kind: gallery.draw(side.tiles, indices) for kind, indices in gallery.choose(side.tiles).items() if indices}
