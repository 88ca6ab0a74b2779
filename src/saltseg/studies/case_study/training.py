"""The trainings in the document: losses, early stops, the gap to validation, the number of images, operations."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from saltseg.config import Config, FCNConfig
from saltseg.reporting import plots
from saltseg.reporting.style import (
    BLUE,
    CHART,
    DASHED,
    GREEN,
    GRID,
    INK,
    MUTED,
    VERMILION,
    dress,
    legend_outside,
    log_ticks,
    new_figure,
)
from saltseg.studies.case_study.results import CaseStudy, signed
from saltseg.studies.case_study.variants import BASE, NARROW
from saltseg.studies.records import Record


def stops(
    record: Record, patience: int = Config().train.early_stopping_patience
) -> list[tuple[int, int, float, float, int, int, float]]:
    """What an early stop after ``patience`` epochs without a better validation loss would have done.

    Returns:
        For each fold: its number, the epoch of the lowest loss and that loss, the last loss; the epoch of the stop, the
        epoch whose weights it keeps and their loss.
    """
    found = []
    for fold, rows in zip(record.details["folds"], record.details["curves"], strict=True):
        lowest, best, end = min(rows, key=_loss), rows[0], rows[-1]
        for row in rows:
            if _loss(row) < _loss(best):
                best = row
            elif row["epoch"] - best["epoch"] >= patience:
                end = row
                break
        stopped = int(end["epoch"]), int(best["epoch"]), _loss(best)
        found.append((fold, int(lowest["epoch"]), _loss(lowest), _loss(rows[-1]), *stopped))
    return found


def descents(record: Record) -> list[tuple[int, list[tuple[int, float]], int, int]]:
    """How a plateau schedule with an early stop went.

    Returns:
        For each fold: its number, (epoch, learning rate from it on) of each drop, the epoch with the lowest loss, whose
        weights predict, and the last epoch.
    """
    found = []
    for fold, rows in zip(record.details["folds"], record.details["curves"], strict=True):
        lowered = (b for a, b in pairwise(rows) if b["learning_rate"] < 0.99 * a["learning_rate"])  # epoch means
        drops = [(int(row["epoch"]), row["learning_rate"]) for row in lowered]
        found.append((fold, drops, int(min(rows, key=_loss)["epoch"]), int(rows[-1]["epoch"])))
    return found


def _loss(row: Mapping[str, float]) -> float:
    return row["valid_loss"]


# ---------------------------------------------------------------- figures


def curves(record: Record) -> bytes:
    """The learning curves of a training's folds with the epoch whose weights predict; PNG bytes."""
    best = record.settings["train.checkpoint"] == "best"
    logs = dict(zip(record.details["folds"], record.details["curves"], strict=True))
    used = {fold: int((min(rows, key=_loss) if best else rows[-1])["epoch"]) for fold, rows in logs.items()}
    return plots.learning_curves(logs, used)


def gap_figure(study: CaseStudy, variants: Sequence[str]) -> Figure:
    """Score at 0.5 on training images (hollow) and on validation images (full), one line per variant."""
    figure = new_figure((CHART[0], 1.1 + 0.36 * len(variants)))
    axes = figure.subplots()
    for y, variant in enumerate(variants):
        train, valid = (study.mean(variant, name, "score_at_half") for name in ("train", "valid"))
        axes.plot((valid, train), (y, y), color=GRID, linewidth=4, zorder=1)
        axes.plot(valid, y, "o", color=BLUE, markersize=8, label="validation images" if y == 0 else None)
        axes.plot(train, y, "o", color=BLUE, markerfacecolor="white", markeredgewidth=1.6, markersize=8,
                  label="training images" if y == 0 else None)  # fmt: skip
        axes.text((train + valid) / 2, y - 0.2, signed(train - valid), ha="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(variants)), variants)
    axes.set_ylim(len(variants) - 0.5, -0.6)
    axes.margins(x=0.15)
    dress(axes, "score at threshold 0.5 (mAP)", "")
    axes.grid(False, axis="y")
    legend_outside(figure, 2)
    return figure


def images_figure(study: CaseStudy, variants: Sequence[str]) -> Figure:
    """Score against the number of training images: at 0.5 on them and on validation images, and tuned on these."""
    images = {variant: study.records[variant][0].n_train or 0 for variant in variants}
    order = sorted(variants, key=images.__getitem__)
    counts = [images[variant] for variant in order]
    figure = new_figure((CHART[0], 3.2))
    axes = figure.subplots()
    train, valid = ([study.mean(v, side, "score_at_half") for v in order] for side in ("train", "valid"))
    axes.plot(counts, train, "o", linestyle=DASHED, color=MUTED, markerfacecolor="white", label="training, 0.5")
    axes.plot(counts, valid, "o-", color=BLUE, label="validation, 0.5")
    tuned = [study.score(variant) for variant in order]
    axes.plot(counts, tuned, "s-", color=GREEN, markersize=5, label="validation, tuned")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    dress(axes, "training images", "score (mAP)")
    legend_outside(figure, 3)
    return figure


def operations_figure(study: CaseStudy, variants: Sequence[str]) -> Figure:
    """Tuned score against operations; the area of a mark grows with the parameters.

    Circles: base and what is compared with it; squares: narrow and what is compared with that.
    """
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    handles = []
    for variant in variants:
        details, model = study.records[variant][0].details, study.sweep.settings(variant, 0).model
        color = BLUE if not isinstance(model, FCNConfig) else VERMILION if max(model.dilations) == 1 else GREEN
        marker = "s" if NARROW in (variant, study.reference(variant)) else "o"
        area = 30 + 300 * (details["parameters"] / study.records[BASE][0].details["parameters"]) ** 0.5
        place = details["operations"] / 1e9, study.score(variant)
        axes.scatter(*place, s=area, marker=marker, color=color, alpha=0.75, lw=0)
        handles.append(Line2D([], [], marker=marker, linestyle="", color=color, label=variant))
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.15)
    log_ticks(axes.xaxis)
    dress(axes, "operations of one prediction, GFLOP", "score with tuned threshold (mAP)")
    legend_outside(figure, 2, handles=handles)
    return figure
