"""The page about one run: scores with their caveats, curves, tables and images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from saltseg import config, io, predictions, runs
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.reporting import caveats, gallery, page, plots, run_summary
from saltseg.reporting.run_summary import RunSummary

CASE_STUDY = {
    "log_loss": "case study's notebook: 0.187",
    "accuracy": "case study's notebook: 91.9\N{NO-BREAK SPACE}%",
}
HINTS = {
    "Threshold": "Where the curve is flat the exact threshold matters little, and part of the argmax is luck. The "
    "curves have all other post-processing steps, the mark at 0.5 has none.",
    "Precision and recall": "Over all pixels pooled. A mark to the left of the corner misses salt, one below it "
    "predicts salt where there is none.",
    "Score by coverage": "Where there is little salt, a few wrong pixels cost much. Gray: tiles without salt, which "
    "score 0 or 1.",
    "best": "The highest scores. Small errors at the boundary decide between 0.9 and 1.",
    "median": "About half of the tiles with true or predicted salt score higher than these.",
    "worst": "The lowest scores: thin bodies, noise, doubtful masks, salt invented or missed.",
}
VERSIONS = ("saltseg", "python", "torch", "lightning", "segmentation-models-pytorch", "timm", "numpy")


def build(run: runs.RunDir, root: Path) -> str:
    """HTML of the page about a run: one file with its pictures, without scripts or network access.

    Args:
        run: a run or blend. What it does not have yet (a fold, tuning, a solution) is named on the page.
        root: its dataset in Kaggle's layout; may be missing.

    Raises:
        InputError: damaged files, or a run without an out-of-fold score.
    """
    run.require_oof_score("nothing to report: saltseg report {teacher}")
    summary = run_summary.read(run)
    validation, training, problem = _tiles(summary, root)
    return page.render(
        "report.html.j2",
        summary=summary,
        header=_header(summary),
        settings=_settings(summary),
        cards=_cards(summary),
        caveats=caveats.caveats(summary),
        gap=_gap(summary),
        charts=_charts(summary, validation, problem),
        galleries=_galleries(validation, training, problem),
        fold_rows=_fold_rows(summary),
        postprocessing=caveats.describe_postprocessing(summary.postprocessing),
        steps=(summary.postprocess or {}).get("steps", []),
    )


def write(run: runs.RunDir, root: Path) -> Path:
    """Build the page and write it to ``report.html`` of the run; returns its path."""
    io.write_atomic(run.report, build(run, root))
    return run.report


def picture(run: runs.RunDir, root: Path) -> bytes:
    """Out-of-fold tiles at three quantiles of their score; PNG bytes. InputError when there are none."""
    validation, _, problem = _tiles(run_summary.read(run), root)
    if validation is None:
        raise InputError(f"no picture of {run.name!r}: {problem}")
    return gallery.draw(validation, gallery.at_quantiles(validation))


def _tiles(
    summary: RunSummary, root: Path
) -> tuple[gallery.ScoredTiles | None, tuple[int, gallery.ScoredTiles] | None, str]:
    """Out-of-fold tiles, (fold, its training tiles), and why there are none of the former."""
    try:
        labeled = competition.read_train(root)
    except InputError as error:
        return None, None, f"The images of the dataset cannot be read: {error}."

    def score(path: Path) -> gallery.ScoredTiles:
        return gallery.score(predictions.load_predictions(path), labeled, summary.postprocessing)

    folds = [fold for fold in summary.run.finished_folds() if fold.train.is_file()]
    training = (folds[0].number, score(folds[0].train)) if folds else None  # folds share training images: one is enough
    if not summary.run.oof.is_file():
        return None, training, f"There are no out-of-fold predictions yet: saltseg predict {summary.run.name}."
    return score(summary.run.oof), training, ""


def _header(summary: RunSummary) -> list[tuple[str, str]]:
    origin = summary.provenance
    commit = origin.get("git_commit") or "not recorded"
    rows = [("dataset", summary.dataset + (" (simulated)" if summary.synthetic else ""))]
    if summary.settings is not None:
        data = summary.settings.data
        rows += [
            ("experiment", summary.settings.name),
            ("network", f"{_network(summary)}; tiles {data.resize_mode} to {data.size}, augmentation {data.augment}"),
            ("TTA views", ", ".join(summary.tta or summary.settings.predict.tta)),
            ("folds finished", f"{summary.finished} of {summary.planned} ({summary.settings.folds.scheme})"),
        ]
    if summary.recipe:
        rows.append(("mean of", summary.recipe))
    versions = [f"{name} {origin[name]}" for name in VERSIONS if origin.get(name)]
    return [
        *rows,
        ("commit", commit + (" with uncommitted changes" if origin.get("git_dirty") else "")),
        ("versions", ", ".join(versions) or "not recorded"),
        *((key, str(origin.get(key) or "not recorded")) for key in ("machine", "command", "created")),
        ("data, sha256", str(origin.get("dataset_hash") or "not recorded")[:16]),
    ]


def _network(summary: RunSummary) -> str:
    """Architecture, encoder and source of the encoder's weights, as the folds recorded it."""
    assert summary.settings is not None
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


def _cards(summary: RunSummary) -> list[dict[str, Any]]:
    """The main metrics: name, value, remark; ``main`` for the score of the post-processing in use."""
    content = summary.postprocess
    cards: list[tuple[str, str, str]] = []
    if content is not None:
        case_study = CASE_STUDY if summary.competition else {}
        bounds = page.interval(summary.interval).replace(" ", "\N{NO-BREAK SPACE}")
        accuracy = page.share(content["pixel"]["accuracy"])
        cards += [
            ("cross-fitted score", page.score(summary.cross_fitted), f"95 % interval {bounds}, by {summary.by}"),
            ("score at 0.5", page.score(summary.at_half), "nothing tuned"),
            ("argmax", page.score(summary.argmax), "tuned on the images that it is scored on: too high"),
            ("log-loss", page.score(content["log_loss"]), case_study.get("log_loss", "per pixel, out of fold")),
            ("pixel accuracy", accuracy, case_study.get("accuracy", "at threshold 0.5")),
        ]
    if summary.solution:
        public, private = (page.score(summary.solution.get(part)) for part in ("public", "private"))
        remark = f"public {public}; solution of {page.count(summary.solution.get('n'))} test images"
        cards.append(("private score", private, remark))
    main = "cross-fitted score" if summary.tuned else "score at 0.5"
    return [{"name": name, "value": value, "remark": remark, "main": name == main} for name, value, remark in cards]


def _gap(summary: RunSummary) -> list[dict[str, Any]]:
    """Training beside validation, means over finished folds."""
    metrics = [
        ("score at 0.5 (mAP)", "train_score_at_half", "score_at_half", "score"),
        ("pixel accuracy", "train_pixel_accuracy", "valid_pixel_accuracy", "share"),
    ]
    if summary.same_loss:
        metrics.insert(0, ("loss (binary cross-entropy)", "train_loss", "valid_loss", "score"))
    rows = []
    for name, train_key, valid_key, style in metrics if summary.metrics else []:
        train, valid = summary.mean(train_key), summary.mean(valid_key)
        gap = None if train is None or valid is None else valid - train
        rows.append({"name": name, "train": train, "valid": valid, "gap": gap, "style": style})
    return rows


def _fold_rows(summary: RunSummary) -> list[tuple[str, list[str]]]:
    """One row per metric that any finished fold has, one value per fold."""
    snapshots = summary.checkpoints.get(summary.run.name) == "snapshots"
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


def _charts(summary: RunSummary, validation: gallery.ScoredTiles | None, problem: str) -> list[dict[str, Any]]:
    """Title, hint, picture or the reason why there is none."""
    logs, content = summary.logs(), summary.postprocess
    finished = {fold["fold"] for fold in summary.metrics}
    unfinished = "".join(f" Fold {fold} is unfinished." for fold in logs if fold not in finished)
    untuned = f"No post-processing has been tuned yet: saltseg tune {summary.run.name}."
    no_log = "A blend is not trained." if summary.kind == "blend" else "No epoch is finished yet."
    curve = None
    if validation is not None and validation.true.any():
        curve = plots.precision_recall(validation.probabilities, validation.true, validation.predicted)
    charts: list[tuple[str, bytes | None, str]] = [
        ("Learning curves", plots.learning_curves(logs, summary.best_epochs) if logs else None, no_log),
        ("Threshold", plots.threshold_curve(content) if content else None, untuned),
        ("Precision and recall", curve, problem or "These tiles hold no salt, so recall is not defined."),
        ("Score by coverage", plots.coverage_bars(content["per_coverage"]) if content else None, untuned),
    ]
    hints = HINTS | {"Learning curves": caveats.learning_curve_hint(summary) + unfinished}
    return [{"title": title, "hint": hints[title], "png": png, "missing": missing} for title, png, missing in charts]


def _galleries(
    validation: gallery.ScoredTiles | None, training: tuple[int, gallery.ScoredTiles] | None, problem: str
) -> list[dict[str, Any]]:
    """Best, median and worst, each for training and validation tiles."""

    def side(name: str, scored: gallery.ScoredTiles | None, kind: str, missing: str) -> dict[str, Any]:
        indices = gallery.choose(scored)[kind] if scored else []
        png = gallery.draw(scored, indices) if scored and indices else None
        return {"title": name, "png": png, "missing": "Too few tiles for a row." if scored else missing}

    fold, train_tiles = training or (None, None)
    name = "training images" if fold is None else f"training images of fold {fold}"
    no_training = problem or "There are no predictions for training images."
    return [
        {
            "kind": kind,
            "hint": HINTS[kind],
            "sides": (
                side(name, train_tiles, kind, no_training),
                side("validation images", validation, kind, problem),
            ),
        }
        for kind in ("best", "median", "worst")
    ]
