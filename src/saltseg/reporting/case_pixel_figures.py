"""Figures of pixel errors: against the threshold, its price, precision and recall, calibration, the boundary."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from saltseg.core.postprocess import HALF
from saltseg.reporting import case_pixels
from saltseg.reporting.case_axes import HALF_AT, PERCENT, log_ticks
from saltseg.reporting.case_pixels import RATIOS, BoundaryErrors, ThresholdCurve
from saltseg.reporting.case_tables import price
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
)
from saltseg.studies import BASE

THRESHOLDS = np.arange(1, 256) / 255  # at 0 all is salt


def threshold_curves(curve: ThresholdCurve) -> Figure:
    """Per pixel precision and recall, per image salt missed and salt invented, against the threshold."""
    figure = new_figure((CHART[0], 4.3))
    per_pixel, per_image = figure.subplots(2, 1, sharex=True)
    pixels = (("precision: of the marked", curve.precision, GREEN), ("recall: of the salt", curve.recall, BLUE))
    images = (
        ("with salt: none marked", curve.missed_share, BLUE),
        ("without salt: some marked", curve.invented_share, VERMILION),
    )
    for axes, name, lines in ((per_pixel, "pixels", pixels), (per_image, "images", images)):
        axes.axvline(HALF_AT, color=MUTED, linewidth=1, linestyle=DASHED)
        for label, values, colour in lines:
            axes.plot(THRESHOLDS, values[1:], color=colour, linewidth=1.8, label=label)
        dress(axes, "", f"share of {name}")
        axes.yaxis.set_major_formatter(PERCENT)
        legend(axes)
    per_image.set_ylim(bottom=0)
    per_image.set_xlabel("salt where the probability is at least", fontsize=10, color=INK)
    return figure


def costs(curve: ThresholdCurve) -> Figure:
    """What errors cost against the threshold, one line per price of missed salt, its cheapest threshold marked."""
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    for place, ratio in enumerate(RATIOS):
        colour, cost = line_colour(place), curve.cost(ratio)
        axes.plot(THRESHOLDS, cost[1:], color=colour, linewidth=1.8, label=f"missed salt costs {price(ratio)}")
        best, theory = curve.cheapest(ratio), case_pixels.calibrated(ratio)
        axes.plot(best / 255, cost[best], "o", color=colour, markersize=8, markeredgecolor="white", zorder=5)
        axes.plot(theory / 255, cost[theory], "x", color=colour, markersize=7, markeredgewidth=2, zorder=6)
    axes.set_yscale("log")
    log_ticks(axes.yaxis)
    dress(axes, "salt where the probability is at least", "cost of 1,000 pixels\n(an invented one costs 1)")
    handles, _ = axes.get_legend_handles_labels()
    handles += [
        Line2D([], [], color=MUTED, marker="o", linestyle="", label="cheapest here"),
        Line2D([], [], color=MUTED, marker="x", markeredgewidth=2, linestyle="", label="if calibrated: 1 / (1 + cost)"),
    ]
    legend_outside(figure, 2, "lower center", handles=handles)
    return figure


def precision_recall(curves: Mapping[str, ThresholdCurve]) -> Figure:
    """Precision against recall over pooled pixels in steps, one line per variant, threshold 0.5 marked."""
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    points, handles = [], []
    for place, (variant, curve) in enumerate(curves.items()):
        colour, label = line_colour(place), f"{variant}: area {curve.area:.4f}"
        handles += axes.step(curve.recall, curve.precision, where="post", color=colour, linewidth=1.8, label=label)
        points.append((curve.recall[HALF.threshold], curve.precision[HALF.threshold]))
        axes.plot(*points[-1], "o", color=colour, markersize=8, markeredgecolor="white", zorder=5, clip_on=False)
    start = max(0, np.floor(10 * (np.nanmin(points) - 0.2)) / 10)  # a good curve hugs the corner: start near it
    axes.set_xlim(start, 1.005)
    axes.set_ylim(start, 1.005)
    dress(axes, "recall: share of the true salt found", "precision: share of the\nmarked that is salt")
    handles.append(Line2D([], [], color=MUTED, marker="o", linestyle="", label="threshold 0.5"))
    legend_outside(figure, 2, handles=handles)
    return figure


def calibration(curves: Mapping[str, ThresholdCurve]) -> Figure:
    """How often pixels of each predicted probability are salt; below, how many pixels there are of each."""
    figure = new_figure((CHART[0], 4.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=DASHED, label="calibrated")
    for place, (variant, curve) in enumerate(curves.items()):
        colour, found = line_colour(place), case_pixels.calibration(curve)
        label = f"{variant}: expected error {found.error:.4f}"
        upper.plot(found.predicted, found.salt, "o-", color=colour, markersize=5, linewidth=1.6, label=label)
        lower.plot(found.predicted, found.pixels / curve.pixels, "o-", color=colour, markersize=3, linewidth=1.2)
    dress(upper, "", "share that is salt")
    dress(lower, "predicted probability of salt", "pixels")
    lower.set_yscale("log")
    lower.set_ylim(min(0.005, lower.get_ylim()[0]), 1.5)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    lower.yaxis.set_minor_locator(NullLocator())
    upper.set_xlim(-0.02, 1.02)
    upper.set_ylim(-0.03, 1.03)
    legend_outside(figure, 2)
    return figure


def boundary(errors: Mapping[str, BoundaryErrors]) -> Figure:
    """Share of wrong pixels at each distance to the true boundary, one line per variant."""
    figure = new_figure()
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    reach = 0
    for place, (variant, found) in enumerate(errors.items()):
        # The first pixels on either side are ±1; half a pixel in from there, the axis has no gap.
        middle = found.distance - 0.5 * np.sign(found.distance)
        width = 3.2 if variant == BASE else 1.4  # so that a line on top of the base's leaves it in sight
        axes.plot(middle, found.rate, color=line_colour(place), linewidth=width, label=variant)
        reach = int(found.distance.max())  # the same in all records
    axes.set_xticks(
        (-reach, -reach / 2, 0, reach / 2, reach), (f"≤−{reach}", f"−{reach / 2:g}", "0", f"{reach / 2:g}", f"≥{reach}")
    )
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PERCENT)
    dress(axes, "pixels from the true boundary: outside the salt < 0 < inside", "share of pixels wrong at 0.5")
    legend_outside(figure, len(errors))
    return figure
