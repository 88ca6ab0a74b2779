"""The charts of pages: numbers in, PNG bytes out (see saltseg.reporting.style)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from saltseg.postprocessing.areas import areas
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.reporting import page
from saltseg.reporting.style import (
    BLUE,
    CHART,
    DASHED,
    GREEN,
    INK,
    LONG_DASHED,
    MUTED,
    VERMILION,
    dress,
    legend,
    legend_outside,
    line_color,
    log_ticks,
    mark,
    new_figure,
    png,
)


def learning_curves(
    logs: Mapping[int, Sequence[Mapping[str, Any]]], best_epochs: Mapping[int, int] | None = None
) -> bytes:
    """Losses per epoch above, learning rate below, one color per fold.

    Args:
        logs: fold -> rows of its log.csv, as numbers or their text. A validation loss may be NaN.
        best_epochs: fold -> the epoch whose weights predict, marked by a dot; for other folds the dot is at the lowest
            validation loss so far.

    Returns:
        PNG bytes. The axis of losses is logarithmic when they span more than a factor of six.
    """
    figure = new_figure((CHART[0], CHART[1] + 1.1))
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    color_of_fold = {fold: line_color(index) for index, fold in enumerate(sorted(logs))}
    for fold, color in color_of_fold.items():
        _learning_curve(losses, rates, color, logs[fold], (best_epochs or {}).get(fold))
    dress(losses, "", "loss (validation: log-loss)")
    lowest, highest = losses.dataLim.intervaly  # of all lines, without NaN
    if highest > 6 * lowest > 0:
        losses.set_yscale("log")
        log_ticks(losses.yaxis, (1, 2, 5))
    dress(rates, "epoch", "learning rate")
    rates.set_yscale("log")
    rates.yaxis.set_minor_locator(NullLocator())
    rates.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rates.set_xlim(0.5, max(float(rows[-1]["epoch"]) for rows in logs.values()) + 0.5)
    handles = [
        Line2D([], [], color=MUTED, linewidth=1.8, label="validation"),
        Line2D([], [], color=MUTED, linewidth=1.2, linestyle=DASHED, label="training"),
        Line2D([], [], color=MUTED, marker="o", linestyle="", markersize=6, label="epoch used"),
        *(Line2D([], [], color=color, linewidth=3, label=f"fold {fold}") for fold, color in color_of_fold.items()),
    ]
    legend_outside(figure, 4, handles=handles)
    return png(figure)


def _learning_curve(
    losses: Axes, rates: Axes, color: str, rows: Sequence[Mapping[str, Any]], best_epoch: int | None
) -> None:
    epoch, train, valid, rate = (
        np.array([float(row[key]) for row in rows]) for key in ("epoch", "train_loss", "valid_loss", "learning_rate")
    )
    dot = "o" if len(rows) == 1 else ""  # a line through one point is invisible
    losses.plot(epoch, train, color=color, linewidth=1.2, linestyle=DASHED, marker=dot, markersize=3)
    validated = np.isfinite(valid)
    losses.plot(epoch[validated], valid[validated], color=color, linewidth=1.8)
    best = np.argmin(np.where(validated, valid, np.inf))
    if best_epoch in epoch:  # not where there is no best epoch yet, or the log is of another training
        best = np.argmax(epoch == best_epoch)
    mark(losses, epoch[best], valid[best], color, markersize=7, clip_on=False)
    rates.step(epoch, rate, where="mid", color=color, linewidth=1.5, marker=dot, markersize=3)


def threshold_curve(postprocess: Mapping[str, Any]) -> bytes:
    """Out-of-fold score against the threshold, with and without the minimum area.

    Both curves have all other steps of the tuned post-processing. Marks: threshold 0.5 alone (which can lie off the
    curves), the argmax and the smoothed argmax. Shows the top 0.1 of scores.

    Args:
        postprocess: what postprocess.json holds.

    Returns:
        PNG bytes.
    """
    figure = new_figure((CHART[0], CHART[1] + 0.7))
    axes = figure.subplots()
    curve, at_half = postprocess["curve"], postprocess["score_at_half"]
    argmax, smoothed = postprocess["argmax"], postprocess["smoothed_argmax"]
    probability = np.asarray(curve["threshold"]) / 255
    area = smoothed["postprocessing"]["min_area"]
    name = f"minimum area {area} px" if area else "no minimum area"
    axes.plot(probability, curve["score"], color=BLUE, linewidth=2, label=name)
    if area:
        without = curve["score_no_min_area"]
        axes.plot(probability, without, color=MUTED, linewidth=1.5, linestyle=LONG_DASHED, label="no minimum area")
    mark(axes, THRESHOLD_HALF.threshold / 255, at_half, INK, label=f"0.5: {at_half:.4f}")
    for name, point, marker, color in (("argmax", argmax, "D", VERMILION), ("smoothed argmax", smoothed, "s", GREEN)):
        threshold, min_area = point["postprocessing"]["threshold"] / 255, point["postprocessing"]["min_area"]
        label = f"{name} {threshold:.2f}, {min_area} px: {point['score']:.4f}"
        mark(axes, threshold, point["score"], color, marker, label=label)
    best = np.maximum(curve["score"], curve["score_no_min_area"])
    shown = best >= best.max() - 0.1
    low, high = min(best[shown].min(), at_half), max(best.max(), argmax["score"])
    margin = max(0.06 * (high - low), 1e-4)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(min(probability[shown].min(), 0.48), max(probability[shown].max(), 0.52))
    dress(axes, "threshold on the probability of salt", "score (mAP), out of fold")
    legend_outside(figure, 2, "lower center")
    return png(figure)


def pixel_curve(probabilities: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall over all pixels pooled, exactly, at every threshold.

    Args:
        probabilities: uint8 (N, H, W) in 255ths.
        true: {0, 1} (N, H, W).

    Returns:
        (precision, recall), each float64 (256,): entry t is for "salt where the probability is at least t". Precision
        where nothing is predicted is 1; recall without any true salt is NaN.
    """
    counted = areas(probabilities, true)
    hits, predicted = (counts.sum(axis=0, dtype=np.int64) for counts in (counted.intersection, counted.predicted))
    precision = np.divide(hits, predicted, out=np.ones(256), where=predicted > 0)
    return precision, hits / hits[0] if hits[0] else np.full(256, np.nan)


def precision_recall(probabilities: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> bytes:
    """Precision against recall over pooled pixels, with marks for threshold 0.5 and for the post-processing.

    Args:
        probabilities: uint8 (N, H, W) in 255ths.
        true: {0, 1} (N, H, W).
        predicted: {0, 1} (N, H, W), masks after post-processing. Their mark can lie off the curve, since
            post-processing may remove bodies and empty masks.

    Returns:
        PNG bytes.
    """
    figure = new_figure()
    axes = figure.subplots()
    precision, recall = pixel_curve(probabilities, true)
    area = -np.sum(np.diff(recall, append=0) * precision)
    axes.plot(recall, precision, color=BLUE, linewidth=2, label=f"all thresholds; area under the curve {area:.4f}")
    hits = int(np.sum(predicted & (true != 0)))
    processed = (hits / max(int(np.sum(true != 0)), 1), hits / max(int(predicted.sum()), 1))
    half = THRESHOLD_HALF.threshold
    for name, (x, y), marker, color in (
        ("threshold 0.5", (recall[half], precision[half]), "o", INK),
        ("post-processing", processed, "s", GREEN),
    ):
        mark(axes, x, y, color, marker, label=f"{name}: precision {y:.3f}, recall {x:.3f}")
    lowest = min(*processed, recall[half], precision[half])
    start = max(0, np.floor(10 * (lowest - 0.25)) / 10)  # good curves are close to the corner
    axes.set_xlim(start, 1.005)
    axes.set_ylim(start, 1.005)
    dress(axes, "recall: predicted share of the true salt", "precision: true share of\nthe predicted salt")
    legend(axes, loc="lower left")
    return png(figure)


def coverage_bars(per_coverage: Sequence[Mapping[str, Any]]) -> bytes:
    """Score per coverage class (0 = no salt, k = up to 10 k percent) with the number of images; PNG bytes."""
    figure = new_figure()
    axes = figure.subplots()
    count = {row["coverage_class"]: row["n"] for row in per_coverage}
    scores = [row["score"] for row in per_coverage]
    axes.bar(list(count), scores, width=0.72, color=[BLUE if k else MUTED for k in count], zorder=2)
    total = sum(count.values())
    if total:
        mean = np.average(scores, weights=list(count.values()))
        label = f"mean of all {total:,} images: {mean:.4f}"
        axes.axhline(mean, color=VERMILION, linewidth=1.4, linestyle=LONG_DASHED, label=label)
        legend(axes, loc="lower left", bbox_to_anchor=(0, 1))
    names = ["none", *(f"≤{10 * k}" for k in range(1, 11))]
    axes.set_xticks(range(11), [f"{name}\n{count.get(k, 0):,}" for k, name in enumerate(names)])
    axes.set_xlim(-0.6, 10.6)
    axes.set_ylim(0, 1)
    dress(axes, "salt in the true mask, percent of the tile; below it, number of images", "score (mAP)")
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(False, axis="x")
    return png(figure)


def score_intervals(rows: Sequence[tuple[str, float, tuple[float, float]]]) -> bytes:
    """One line per (name, score, (low, high)), first on top: a dot with its interval; PNG bytes."""
    figure = new_figure((CHART[0], 0.75 + 0.34 * len(rows)))
    axes = figure.subplots()
    for y, (_, score, interval) in enumerate(rows):
        axes.plot(interval, (y, y), color=BLUE, linewidth=3, alpha=0.35, solid_capstyle="butt")
        mark(axes, score, y, BLUE, markersize=7)
        axes.text(score, y - 0.22, f"{score:.4f}", ha="center", va="bottom", fontsize=8, color=INK)
    axes.set_yticks(range(len(rows)), [page.shortened(name) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.margins(x=0.06)
    dress(axes, "cross-fitted score (mAP) with its 95 % interval", "")
    axes.grid(False, axis="y")
    return png(figure)
