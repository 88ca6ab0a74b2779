"""The charts of a run's page, drawn one way: numbers in, PNG bytes out (see saltseg.reporting.style)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from saltseg.core.areas import areas
from saltseg.core.postprocess import HALF
from saltseg.reporting.style import (
    BLUE,
    CHART,
    DASHED,
    GREEN,
    INK,
    MUTED,
    VERMILION,
    dress,
    legend,
    legend_outside,
    line_colour,
    new_figure,
    png,
)


def _plain(value: float, _position: int) -> str:
    return f"{value:g}"


def learning_curves(logs: Mapping[int, Sequence[Mapping[str, Any]]], kept: Mapping[int, int] | None = None) -> bytes:
    """Losses per epoch above, learning rate below, one colour per fold; PNG bytes.

    `logs`: fold -> rows of its log.csv (numbers or their text). `kept`: fold -> the epoch whose weights were
    kept, marked by a dot; for other folds that is the lowest validation loss so far. The axis of losses is
    logarithmic when they span more than a factor of six.
    """
    figure = new_figure((CHART[0], CHART[1] + 1.1))
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    extremes: list[float] = []
    for index, (fold, rows) in enumerate(sorted(logs.items())):
        colour = line_colour(index)
        epoch, train, valid, rate = (
            np.array([float(row[key]) for row in rows])
            for key in ("epoch", "train_loss", "valid_loss", "learning_rate")
        )
        dot = "o" if len(rows) == 1 else ""  # a line through one point is invisible
        losses.plot(epoch, train, color=colour, linewidth=1.2, linestyle=DASHED, marker=dot, markersize=3)
        seen = np.isfinite(valid)
        losses.plot(epoch[seen], valid[seen], color=colour, linewidth=1.8)
        best = int(np.argmin(np.where(seen, valid, np.inf)))
        if fold in (kept or {}):
            best = int(np.flatnonzero(epoch == (kept or {})[fold])[0])
        losses.plot(epoch[best], valid[best], "o", color=colour, markersize=7, markeredgecolor="white", zorder=5)
        rates.step(epoch, rate, where="mid", color=colour, linewidth=1.5, marker=dot, markersize=3)
        extremes += [*train[np.isfinite(train)], *valid[np.isfinite(valid)]]
    dress(losses, "", "loss (validation: log-loss)")
    if extremes and min(extremes) > 0 and max(extremes) > 6 * min(extremes):
        losses.set_yscale("log")
        losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        losses.yaxis.set_major_formatter(FuncFormatter(_plain))
        losses.yaxis.set_minor_locator(NullLocator())
    dress(rates, "epoch", "learning rate")
    rates.set_yscale("log")
    rates.yaxis.set_minor_locator(NullLocator())
    rates.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rates.set_xlim(0.5, max(len(rows) for rows in logs.values()) + 0.5)
    legend_outside(figure, 4, handles=[*_curve_styles(), *_fold_colours(sorted(logs))])
    return png(figure)


def _curve_styles() -> list[Line2D]:
    return [
        Line2D([], [], color=MUTED, linewidth=1.8, label="validation"),
        Line2D([], [], color=MUTED, linewidth=1.2, linestyle=DASHED, label="training"),
        Line2D([], [], color=MUTED, marker="o", linestyle="", markersize=6, label="epoch kept"),
    ]


def _fold_colours(folds: Sequence[int]) -> list[Line2D]:
    return [
        Line2D([], [], color=line_colour(index), linewidth=3, label=f"fold {fold}") for index, fold in enumerate(folds)
    ]


def rule_curve(postprocess: Mapping[str, Any]) -> bytes:
    """Score against threshold, with and without the minimum area, as postprocess.json has it; PNG bytes.

    Marks the threshold 0.5, the naive optimum and the recommended rule. The curves have all other steps of the rule,
    0.5 has none, so its mark can lie off them. Only the top 0.1 is shown, where the rules lie that one would choose
    between.
    """
    figure = new_figure((CHART[0], CHART[1] + 0.7))
    axes = figure.subplots()
    curve, recommended, naive = postprocess["curve"], postprocess["plateau"], postprocess["naive"]
    probability = np.asarray(curve["threshold"]) / 255
    area = recommended["rule"]["min_area"]
    name = f"images under {area} px emptied" if area else "no minimum area"
    axes.plot(probability, curve["score"], color=BLUE, linewidth=2, label=name)
    if area:
        without, style = curve["score_no_min_area"], (0, (4, 2))
        axes.plot(probability, without, color=MUTED, linewidth=1.5, linestyle=style, label="no minimum area")
    at_half = {"score": postprocess["score_at_half"], "rule": HALF.to_dict()}
    marks = (
        ("0.5", at_half, "o", INK),
        ("naive optimum", naive, "D", VERMILION),
        ("recommended", recommended, "s", GREEN),
    )
    for label, point, marker, colour in marks:
        threshold, min_area = point["rule"]["threshold"] / 255, point["rule"]["min_area"]
        rule = "" if label == "0.5" else f" {threshold:.2f}, {min_area} px"
        axes.plot(
            threshold,
            point["score"],
            marker=marker,
            color=colour,
            linestyle="",
            markersize=8,
            markeredgecolor="white",
            zorder=5,
            label=f"{label}{rule}: {point['score']:.4f}",
        )
    best = np.maximum(curve["score"], curve["score_no_min_area"])
    shown = best >= best.max() - 0.1
    low, top = min(best[shown].min(), at_half["score"]), max(best.max(), naive["score"])
    margin = max(0.06 * (top - low), 1e-4)
    axes.set_ylim(low - margin, top + margin)
    axes.set_xlim(min(probability[shown].min(), 0.48), max(probability[shown].max(), 0.52))
    dress(axes, "salt where the probability is at least", "score (mAP), out of fold")
    legend_outside(figure, 2, "lower center")
    return png(figure)


def pixel_curve(probabilities: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(precision, recall) over all pixels pooled, each float64 (256,), at "salt where q >= t" for t = 0..255.

    `probabilities` uint8 (N, H, W) in 255ths, `true` {0, 1} of the same shape. Exact: there are only 256
    different probabilities. Precision where nothing is predicted is 1; recall without any true salt is NaN.
    """
    counted = areas(probabilities, true)
    hits, predicted = (counts.sum(axis=0, dtype=np.int64) for counts in (counted.intersection, counted.predicted))
    precision = np.divide(hits, predicted, out=np.ones(256), where=predicted > 0)
    return precision, hits / hits[0] if hits[0] else np.full(256, np.nan)


def precision_recall(probabilities: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> bytes:
    """Precision against recall over pooled pixels, with 0.5 and the point of the adopted rule; PNG bytes.

    Arrays as in :func:`pixel_curve`; `predicted` {0, 1} (N, H, W): masks under the rule. Its point can lie off the
    curve, since it may take whole bodies and images away.
    """
    figure = new_figure()
    axes = figure.subplots()
    precision, recall = pixel_curve(probabilities, true)
    below = np.append(recall[1:], 0)  # recall one threshold further up
    area = float(np.sum((recall - below) * precision))
    axes.plot(recall, precision, color=BLUE, linewidth=2, label=f"all thresholds; area under the curve {area:.4f}")
    hits = int(np.sum(predicted & (true != 0)))
    at_rule = (hits / max(int(np.sum(true != 0)), 1), hits / max(int(predicted.sum()), 1))
    half = HALF.threshold
    for label, (x, y), marker, colour in (
        ("threshold 0.5", (recall[half], precision[half]), "o", INK),
        ("adopted rule", at_rule, "s", GREEN),
    ):
        text = f"{label}: precision {y:.3f}, recall {x:.3f}"
        axes.plot(x, y, marker, color=colour, markersize=8, markeredgecolor="white", zorder=5, label=text)
    lowest = min(*at_rule, recall[half], precision[half])
    start = max(0, np.floor(10 * (lowest - 0.25)) / 10)  # a good curve hugs the corner: start near it
    axes.set_xlim(start, 1.005)
    axes.set_ylim(start, 1.005)
    dress(axes, "recall: share of the true salt found", "precision: share of the marked\nthat is salt")
    legend(axes, loc="lower left")
    return png(figure)


def coverage_bars(per_coverage: Sequence[Mapping[str, Any]]) -> bytes:
    """Score per coverage class (0 = no salt, k = up to 10 k percent) with the number of images; PNG bytes."""
    figure = new_figure()
    axes = figure.subplots()
    count = {row["coverage_class"]: row["n"] for row in per_coverage}
    for row in per_coverage:
        colour = BLUE if row["coverage_class"] else MUTED
        axes.bar(row["coverage_class"], row["score"], width=0.72, color=colour, zorder=2)
    total = sum(count.values())
    if total:
        mean = sum(row["n"] * row["score"] for row in per_coverage) / total
        label = f"mean of all {total:,} images: {mean:.4f}"
        axes.axhline(mean, color=VERMILION, linewidth=1.4, linestyle=(0, (4, 2)), label=label)
        legend(axes, loc="lower left", bbox_to_anchor=(0, 1))
    names = ["none", *(f"≤{10 * k}" for k in range(1, 11))]
    axes.set_xticks(range(11), [f"{name}\n{count.get(k, 0):,}" for k, name in enumerate(names)])
    axes.set_xlim(-0.6, 10.6)
    axes.set_ylim(0, 1)
    dress(axes, "salt in the true mask, percent of the tile; below it, images", "score (mAP)")
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(False, axis="x")
    return png(figure)


def score_intervals(rows: Sequence[tuple[str, float, tuple[float, float]]]) -> bytes:
    """One line per (name, score, (low, high)), first on top: a dot with its interval; PNG bytes."""
    figure = new_figure((CHART[0], 0.75 + 0.34 * len(rows)))
    axes = figure.subplots()
    for place, (_, score, (low, high)) in enumerate(rows):
        axes.plot((low, high), (place, place), color=BLUE, linewidth=3, alpha=0.35, solid_capstyle="butt")
        axes.plot(score, place, "o", color=BLUE, markersize=7, markeredgecolor="white")
        axes.text(score, place - 0.22, f"{score:.4f}", ha="center", va="bottom", fontsize=8, color=INK)
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name, _, _ in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.margins(x=0.06)
    dress(axes, "cross-fitted score (mAP) with its 95 % interval", "")
    axes.grid(False, axis="y")
    return png(figure)
