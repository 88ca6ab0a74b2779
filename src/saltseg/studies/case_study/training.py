"""The trainings in the document: losses, early stops, the gap to validation, the number of images, operations."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from saltseg.config import Config, FCNConfig
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
    line_color,
    log_ticks,
    new_figure,
)
from saltseg.studies.case_study.results import CaseStudy, signed
from saltseg.studies.case_study.variants import BASE, NARROW
from saltseg.studies.records import Record


class Stop(NamedTuple):
    """Where a fold's validation loss was lowest (epoch, value), its last value, and where patience would have ended."""

    fold: int
    lowest: int
    loss: float
    last: float
    stopped: int


def stops(record: Record, patience: int = Config().train.early_stopping_patience) -> list[Stop]:
    """What an early stop after ``patience`` epochs without a better loss would have done, fold by fold."""
    found = []
    for fold, rows in zip(record.details["folds"], record.details["curves"], strict=True):
        lowest = min(rows, key=lambda row: row["valid_loss"])
        best, since, end = float("inf"), 0.0, rows[-1]["epoch"]
        for row in rows:
            if row["valid_loss"] < best:
                best, since = row["valid_loss"], row["epoch"]
            elif row["epoch"] - since >= patience:
                end = row["epoch"]
                break
        found.append(Stop(fold, int(lowest["epoch"]), lowest["valid_loss"], rows[-1]["valid_loss"], int(end)))
    return found


class Descent(NamedTuple):
    """A fold with a plateau schedule.

    drops: (epoch, learning rate from it on). kept: the epoch with the lowest loss, whose weights predict. last: the
    last epoch trained.
    """

    fold: int
    drops: tuple[tuple[int, float], ...]
    kept: int
    last: int


def descents(record: Record) -> list[Descent]:
    """How the folds of a record with a plateau schedule and an early stop went."""
    found = []
    for fold, rows in zip(record.details["folds"], record.details["curves"], strict=True):
        lowered = (b for a, b in pairwise(rows) if b["learning_rate"] < 0.99 * a["learning_rate"])  # epoch means
        drops = tuple((int(row["epoch"]), row["learning_rate"]) for row in lowered)
        kept = min(rows, key=lambda row: row["valid_loss"])
        found.append(Descent(fold, drops, int(kept["epoch"]), int(rows[-1]["epoch"])))
    return found


# ---------------------------------------------------------------- figures


def curves_figure(record: Record) -> Figure:
    """Losses per epoch above (training dashed), learning rate below, one color per fold.

    A peak far above 95 of 100 losses is cut off, so that the others can be told apart.
    """
    figure = new_figure((CHART[0], CHART[1] + 0.4))
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    handles = [
        Line2D([], [], color=MUTED, linewidth=1.8, label="validation"),
        Line2D([], [], color=MUTED, linewidth=1.3, linestyle=DASHED, label="training"),
    ]
    for index, (fold, rows) in enumerate(zip(record.details["folds"], record.details["curves"], strict=True)):
        line = {"color": line_color(index), "marker": "o" if len(rows) <= 15 else "", "markersize": 3}
        epoch, train, valid, rate = (
            [row[key] for row in rows] for key in ("epoch", "train_loss", "valid_loss", "learning_rate")
        )
        losses.plot(epoch, train, linestyle=DASHED, linewidth=1.3, **line)
        losses.plot(epoch, valid, linewidth=1.8, **line)
        rates.plot(epoch, rate, **line)
        handles.append(Line2D([], [], color=line_color(index), linewidth=3, label=f"fold {fold}"))
    every = [row[key] for rows in record.details["curves"] for row in rows for key in ("train_loss", "valid_loss")]
    usual = float(np.quantile(every, 0.95))
    if max(every) > 1.5 * usual:
        losses.set_ylim(0, 1.15 * usual)
    dress(losses, "", "log-loss")
    dress(rates, "epoch", "learning rate")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rates.set_ylim(bottom=0)
    legend_outside(figure, 4, handles=handles)
    return figure


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
