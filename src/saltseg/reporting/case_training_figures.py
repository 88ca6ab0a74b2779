"""Figures of the trainings: losses, the gap to validation, the number of images, score against operations."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from saltseg import studies
from saltseg.reporting.case_axes import log_ticks
from saltseg.reporting.case_records import Record, Study, partner
from saltseg.reporting.case_tables import signed
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
    line_colour,
    new_figure,
)
from saltseg.studies import BASE


def training_curves(entry: Record) -> Figure:
    """Losses of a record per epoch above (training dashed), learning rate below, one colour per fold.

    A peak far above 95 of 100 losses is cut off, so that the others can be told apart.
    """
    figure = new_figure((CHART[0], CHART[1] + 0.4))
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    handles = [
        Line2D([], [], color=MUTED, linewidth=1.8, label="validation"),
        Line2D([], [], color=MUTED, linewidth=1.3, linestyle=DASHED, label="training"),
    ]
    for place, (fold, rows) in enumerate(zip(entry["folds"], entry["curves"], strict=True)):
        line = {"color": line_colour(place), "marker": "o" if len(rows) <= 15 else "", "markersize": 3}
        epoch, train, valid, rate = (
            [row[key] for row in rows] for key in ("epoch", "train_loss", "valid_loss", "learning_rate")
        )
        losses.plot(epoch, train, linestyle=DASHED, linewidth=1.3, **line)
        losses.plot(epoch, valid, linewidth=1.8, **line)
        rates.plot(epoch, rate, **line)
        handles.append(Line2D([], [], color=line_colour(place), linewidth=3, label=f"fold {fold}"))
    every = [row[key] for rows in entry["curves"] for row in rows for key in ("train_loss", "valid_loss")]
    usual = float(np.quantile(every, 0.95))
    if max(every) > 1.5 * usual:
        losses.set_ylim(0, 1.15 * usual)
    dress(losses, "", "log-loss")
    dress(rates, "epoch", "learning rate")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rates.set_ylim(bottom=0)
    legend_outside(figure, 4, handles=handles)
    return figure


def gap(study: Study, variants: Sequence[str]) -> Figure:
    """Score at 0.5 on training images (hollow) and on validation images (full), one line per variant."""
    figure = new_figure((CHART[0], 1.1 + 0.36 * len(variants)))
    axes = figure.subplots()
    for place, variant in enumerate(variants):
        train, valid = (study.side(variant, name)[1] for name in ("train", "valid"))
        axes.plot((valid, train), (place, place), color=GRID, linewidth=4, zorder=1)
        axes.plot(valid, place, "o", color=BLUE, markersize=8, label="validation images" if place == 0 else None)
        axes.plot(train, place, "o", color=BLUE, markerfacecolor="white", markeredgewidth=1.6, markersize=8,
                  label="training images" if place == 0 else None)  # fmt: skip
        axes.text((train + valid) / 2, place - 0.2, signed(train - valid), ha="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(variants)), variants)
    axes.set_ylim(len(variants) - 0.5, -0.6)
    axes.margins(x=0.15)
    dress(axes, "score at threshold 0.5 (mAP)", "")
    axes.grid(False, axis="y")
    legend_outside(figure, 2)
    return figure


def images(study: Study, variants: Sequence[str]) -> Figure:
    """Score against the number of training images: at 0.5 on them and on validation images, there tuned, too."""
    order = sorted(variants, key=lambda variant: study.records[variant][0]["n_train"])
    counts = [study.records[variant][0]["n_train"] for variant in order]
    figure = new_figure((CHART[0], 3.2))
    axes = figure.subplots()
    train, valid = ([study.side(variant, name)[1] for variant in order] for name in ("train", "valid"))
    axes.plot(counts, train, "o", linestyle=DASHED, color=MUTED, markerfacecolor="white", label="training, 0.5")
    axes.plot(counts, valid, "o-", color=BLUE, label="validation, 0.5")
    tuned = [study.worth[variant].cross_fitted for variant in order]
    axes.plot(counts, tuned, "s-", color=GREEN, markersize=5, label="validation, tuned rule")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    dress(axes, "training images", "score (mAP)")
    legend_outside(figure, 3)
    return figure


def score_by_operations(study: Study, variants: Sequence[str]) -> Figure:
    """Cross-fitted score against operations; the area of a mark grows with the parameters.

    Circles: base and what is compared with it; squares: narrow and what is compared with that.
    """
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    handles = []
    for variant in variants:
        entry, model = study.records[variant][0], studies.settings(variant, study.budget, 0).model
        colour = BLUE if model.architecture == "unet" else VERMILION if max(model.dilations) == 1 else GREEN
        marker = "s" if "narrow" in (variant, partner(variant)) else "o"
        area = 30 + 300 * (entry["parameters"] / study.records[BASE][0]["parameters"]) ** 0.5
        place = entry["operations"] / 1e9, study.worth[variant].cross_fitted
        axes.scatter(*place, s=area, marker=marker, color=colour, alpha=0.75, lw=0)
        handles.append(Line2D([], [], marker=marker, linestyle="", color=colour, label=variant))
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.15)
    log_ticks(axes.xaxis)
    dress(axes, "operations of one prediction, GFLOP", "score with the tuned rule (mAP)")
    legend_outside(figure, 2, handles=handles)
    return figure
