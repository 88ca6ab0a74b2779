"""Pixel errors in the document: at every threshold, their price, calibration, distance to the boundary; their figures.

Records hold totals over images, and the seeds of a variant are pooled. Pixels of an image are not independent, so
nothing here has an interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.reporting import style
from saltseg.reporting.style import BLUE, CHART, DASHED, GREEN, INK, MUTED, VERMILION, dress, line_color, new_figure
from saltseg.studies.case_study.data import PERCENT
from saltseg.studies.case_study.variants import BASE
from saltseg.studies.records import Record

RATIOS = (1 / 10, 1 / 3, 1.0, 3.0, 10.0)  # cost of a salt pixel missed, in salt pixels invented
NEAR, FAR = 2, 10  # pixels from the true boundary
THRESHOLDS = np.arange(1, 256) / 255  # at 0 all is salt
COUNTS = ("intersection", "predicted", "missed", "invented")


@dataclass(frozen=True)
class ThresholdCurve:
    """Totals over images and seeds at "salt where the probability is at least t 255ths", t = 0 … 255.

    Attributes:
        intersection, predicted: pixels, int64 (256,).
        pixels, true_pixels: how many there are.
        precision, recall: of pixels, float64 (256,) in [0, 1]; NaN where none is marked, or without any salt.
        missed_share, invented_share: of the images with salt those in which none is marked, of those without salt
            those in which some is, float64 (256,).
    """

    intersection: np.ndarray
    predicted: np.ndarray
    pixels: int
    true_pixels: int
    precision: np.ndarray
    recall: np.ndarray
    missed_share: np.ndarray
    invented_share: np.ndarray

    def errors(self, threshold: int = THRESHOLD_HALF.threshold) -> list[float]:
        """Precision, recall, missed and invented share at a threshold in 255ths."""
        shares = (self.precision, self.recall, self.missed_share, self.invented_share)
        return [float(share[threshold]) for share in shares]

    @property
    def area(self) -> float:
        """Area under precision against recall in steps from threshold to threshold, in [0, 1]; NaN without any salt."""
        steps = self.recall - np.append(self.recall[1:], 0)
        return float(np.sum(steps * np.nan_to_num(self.precision)))  # where none is marked the step is 0

    def precision_at(self, recall: float) -> float:
        """Precision where so much of the salt is found; between two thresholds, pixels are taken at random.

        recall: in [0, 1]; NaN for 0. (Davis and Goadrich 2006: counts are interpolated, not precisions.)
        """
        if not recall > 0:
            return float("nan")
        wanted = recall * self.true_pixels
        above = int(np.flatnonzero(self.intersection >= wanted - 1e-9)[-1])
        hits, marked = (np.append(counts, 0) for counts in (self.intersection, self.predicted))
        share = (hits[above] - wanted) / max(hits[above] - hits[above + 1], 1)
        return float(wanted / (marked[above] - share * (marked[above] - marked[above + 1])))

    def cost(self, ratio: float) -> np.ndarray:
        """Mean cost of 1,000 pixels, float64 (256,): a pixel invented costs 1, one of salt missed ``ratio``."""
        wrong = ratio * (self.true_pixels - self.intersection) + self.predicted - self.intersection
        return 1000 * wrong / self.pixels

    def cheapest(self, ratio: float) -> int:
        """The threshold in 255ths that costs least on these very pixels; of equals the one nearest to `calibrated`."""
        cost = self.cost(ratio)
        equal = np.flatnonzero(cost == cost.min())
        return int(equal[np.abs(equal - 255 / (1 + ratio)).argmin()])


def _share(part: np.ndarray, whole: np.ndarray | int) -> np.ndarray:
    """part / whole, float64 of part's shape; NaN where there is nothing to take a share of."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.greater(whole, 0))


def pooled(every: Sequence[Mapping[str, Any]], key: str = "thresholds") -> ThresholdCurve:
    """The `ThresholdCurve` of what `measure.totals` counted, once or several times."""
    counts = (np.array([totals[key][name] for totals in every], np.int64).sum(axis=0) for name in COUNTS)
    hits, marked, missed, invented = counts
    n, pixels, salt, with_salt = (
        sum(totals[name] for totals in every) for name in ("n", "pixels", "true_pixels", "images_with_salt")
    )
    shares = _share(hits, marked), _share(hits, salt), _share(missed, with_salt), _share(invented, n - with_salt)
    return ThresholdCurve(hits, marked, pixels, salt, *shares)


def curve_of(records: Sequence[Record]) -> ThresholdCurve:
    """The `ThresholdCurve` of a variant, its seeds pooled."""
    return pooled([record.details["totals"] for record in records])


def errors_when_tuned(records: Sequence[Record]) -> list[float]:
    """As `ThresholdCurve.errors`, with threshold and minimum area fitted on the other folds."""
    every = [r.details["totals"] | {"tuned": {k: [v] for k, v in r.details["tuned"].items()}} for r in records]
    return pooled(every, "tuned").errors(0)


def price(ratio: float) -> str:
    """``3`` or ``1/3``."""
    return f"{ratio:g}" if ratio >= 1 else f"1/{1 / ratio:g}"


def calibrated(ratio: float) -> int:
    """The cheapest threshold in 255ths for calibrated probabilities, 1 / (1 + ratio); ratio: see `RATIOS`."""
    return round(255 / (1 + ratio))


class Calibration(NamedTuple):
    """Ten bins of predicted probability, [0, 0.1) … [0.9, 1], each array (10,).

    predicted, salt: mean prediction and share of salt, float64, NaN without pixels. pixels: how many, int64. error:
    expected calibration error, the mean over pixels of |share of salt - mean prediction| of their bin. mean: of all
    predictions.
    """

    predicted: np.ndarray
    salt: np.ndarray
    pixels: np.ndarray
    error: float
    mean: float


def calibration(curve: ThresholdCurve) -> Calibration:
    """How often pixels of each predicted probability are salt (Guo et al. 2017, arXiv 1706.04599)."""
    every, salt = (-np.diff(counts, append=0) for counts in (curve.predicted, curve.intersection))
    bins = np.minimum(np.arange(256) * 10 // 255, 9)
    pixels, hits = np.bincount(bins, every, 10), np.bincount(bins, salt, 10)
    expected = np.bincount(bins, every * np.arange(256) / 255, 10)  # sum of the predicted probabilities
    error = float(np.abs(hits - expected).sum() / pixels.sum())
    mean = float(expected.sum() / pixels.sum())
    return Calibration(_share(expected, pixels), _share(hits, pixels), pixels.astype(np.int64), error, mean)


class BoundaryErrors(NamedTuple):
    """Errors at 0.5 by distance to the true boundary, in images that have one.

    distance: pixels, int (D,), below 0 outside the salt; rate: share of wrong pixels at each, float64 (D,). near,
    between, far: that share within `NEAR` pixels of the boundary, from there to `FAR`, and beyond; between_outside: of
    ``between`` outside the salt; far_of_all: share of all errors that lie far. NaN without pixels or errors.
    """

    distance: np.ndarray
    rate: np.ndarray
    near: float
    between: float
    far: float
    between_outside: float
    far_of_all: float


def boundary_errors(records: Sequence[Record]) -> BoundaryErrors:
    """The `BoundaryErrors` of a variant."""
    counts = [record.details["boundary"] for record in records]
    distance = np.array(counts[0]["distance"])
    pixels, errors = (np.sum([entry[key] for entry in counts], axis=0) for key in ("pixels", "errors"))
    near, far = np.abs(distance) <= NEAR, np.abs(distance) > FAR
    between = ~near & ~far
    parts = (near, between, far, between & (distance < 0))
    pairs = [(errors[part].sum(), pixels[part].sum()) for part in parts] + [(errors[far].sum(), errors.sum())]
    return BoundaryErrors(distance, _share(errors, pixels), *(float(_share(*pair)) for pair in pairs))


# ---------------------------------------------------------------- figures


def thresholds_figure(curve: ThresholdCurve) -> Figure:
    """Per pixel precision and recall, per image salt missed and salt invented, against the threshold."""
    figure = new_figure((CHART[0], 4.3))
    per_pixel, per_image = figure.subplots(2, 1, sharex=True)
    pixels = (("precision: of the marked", curve.precision, GREEN), ("recall: of the salt", curve.recall, BLUE))
    images = (
        ("with salt: none marked", curve.missed_share, BLUE),
        ("without salt: some marked", curve.invented_share, VERMILION),
    )
    for axes, name, lines in ((per_pixel, "pixels", pixels), (per_image, "images", images)):
        axes.axvline(THRESHOLD_HALF.threshold / 255, color=MUTED, linewidth=1, linestyle=DASHED)
        for label, values, color in lines:
            axes.plot(THRESHOLDS, values[1:], color=color, linewidth=1.8, label=label)
        dress(axes, "", f"share of {name}")
        axes.yaxis.set_major_formatter(PERCENT)
        style.legend(axes)
    per_image.set_ylim(bottom=0)
    per_image.set_xlabel("salt where the probability is at least", fontsize=10, color=INK)
    return figure


def costs_figure(curve: ThresholdCurve) -> Figure:
    """What errors cost against the threshold, one line per price of missed salt, its cheapest threshold marked."""
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    for index, ratio in enumerate(RATIOS):
        color, cost = line_color(index), curve.cost(ratio)
        axes.plot(THRESHOLDS, cost[1:], color=color, linewidth=1.8, label=f"missed salt costs {price(ratio)}")
        best, theory = curve.cheapest(ratio), calibrated(ratio)
        style.mark(axes, best / 255, cost[best], color)
        axes.plot(theory / 255, cost[theory], "x", color=color, markersize=7, markeredgewidth=2, zorder=6)
    axes.set_yscale("log")
    style.log_ticks(axes.yaxis)
    dress(axes, "salt where the probability is at least", "cost of 1,000 pixels\n(an invented one costs 1)")
    handles, _ = axes.get_legend_handles_labels()
    handles += [
        Line2D([], [], color=MUTED, marker="o", linestyle="", label="cheapest here"),
        Line2D([], [], color=MUTED, marker="x", markeredgewidth=2, linestyle="", label="if calibrated: 1 / (1 + cost)"),
    ]
    style.legend_outside(figure, 2, "lower center", handles=handles)
    return figure


def precision_recall_figure(curves: Mapping[str, ThresholdCurve]) -> Figure:
    """Precision against recall over pooled pixels in steps, one line per variant, threshold 0.5 marked."""
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    points, handles = [], []
    for index, (variant, curve) in enumerate(curves.items()):
        color, label = line_color(index), f"{variant}: area {curve.area:.4f}"
        handles += axes.step(curve.recall, curve.precision, where="post", color=color, linewidth=1.8, label=label)
        points.append((curve.recall[THRESHOLD_HALF.threshold], curve.precision[THRESHOLD_HALF.threshold]))
        style.mark(axes, *points[-1], color, clip_on=False)
    start = max(0, np.floor(10 * (np.nanmin(points) - 0.2)) / 10)  # a good curve is near the corner: start near it
    axes.set_xlim(start, 1.005)
    axes.set_ylim(start, 1.005)
    dress(axes, "recall: share of the true salt found", "precision: share of the\nmarked that is salt")
    handles.append(Line2D([], [], color=MUTED, marker="o", linestyle="", label="threshold 0.5"))
    style.legend_outside(figure, 2, handles=handles)
    return figure


def calibration_figure(curves: Mapping[str, ThresholdCurve]) -> Figure:
    """How often pixels of each predicted probability are salt; below, how many pixels there are of each."""
    figure = new_figure((CHART[0], 4.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=DASHED, label="calibrated")
    for index, (variant, curve) in enumerate(curves.items()):
        color, found = line_color(index), calibration(curve)
        label = f"{variant}: expected error {found.error:.4f}"
        upper.plot(found.predicted, found.salt, "o-", color=color, markersize=5, linewidth=1.6, label=label)
        lower.plot(found.predicted, found.pixels / curve.pixels, "o-", color=color, markersize=3, linewidth=1.2)
    dress(upper, "", "share that is salt")
    dress(lower, "predicted probability of salt", "pixels")
    lower.set_yscale("log")
    lower.set_ylim(min(0.005, lower.get_ylim()[0]), 1.5)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    lower.yaxis.set_minor_locator(NullLocator())
    upper.set_xlim(-0.02, 1.02)
    upper.set_ylim(-0.03, 1.03)
    style.legend_outside(figure, 2)
    return figure


def boundary_figure(errors: Mapping[str, BoundaryErrors]) -> Figure:
    """Share of wrong pixels at each distance to the true boundary, one line per variant."""
    figure = new_figure()
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    for index, (variant, found) in enumerate(errors.items()):
        # The first pixels on either side are ±1; half a pixel in from there, the axis has no gap.
        middle = found.distance - 0.5 * np.sign(found.distance)
        width = 3.2 if variant == BASE else 1.4  # so that a line on top of the base's leaves it in sight
        axes.plot(middle, found.rate, color=line_color(index), linewidth=width, label=variant)
    reach = int(next(iter(errors.values())).distance.max())  # the same in all records
    names = (f"≤−{reach}", f"−{reach / 2:g}", "0", f"{reach / 2:g}", f"≥{reach}")
    axes.set_xticks((-reach, -reach / 2, 0, reach / 2, reach), names)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PERCENT)
    dress(axes, "pixels from the true boundary: outside the salt < 0 < inside", "share of pixels wrong at 0.5")
    style.legend_outside(figure, len(errors))
    return figure
