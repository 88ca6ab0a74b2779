"""What the study's records say about pixels: errors at every threshold, what they cost, calibration, the boundary.

Records hold totals over images, and the seeds of a variant are pooled. Pixels of an image are not independent, so
nothing here has an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from saltseg.reporting.case_records import Record, Study

RATIOS = (1 / 10, 1 / 3, 1.0, 3.0, 10.0)  # cost of a salt pixel missed, in salt pixels invented
NEAR, FAR = 2, 10  # pixels from the true boundary


class Errors(NamedTuple):
    """Errors of one decision as shares in [0, 1]; NaN where there is nothing to take a share of.

    precision, recall: of pixels. missed: images with salt of which none is marked. invented: images without salt of
    which some is.
    """

    precision: float
    recall: float
    missed: float
    invented: float


@dataclass(frozen=True)
class ThresholdCurve:
    """Totals over images and seeds at "salt where the probability is at least t 255ths", t = 0 … 255.

    intersection, predicted: pixels, int64 (256,). missed, invented: images with salt of which none is predicted, and
    without salt of which some is, int64 (256,). pixels, true_pixels, with_salt, without_salt: how many there are.
    """

    intersection: np.ndarray
    predicted: np.ndarray
    missed: np.ndarray
    invented: np.ndarray
    pixels: int
    true_pixels: int
    with_salt: int
    without_salt: int

    @property
    def precision(self) -> np.ndarray:
        """Share of the marked pixels that is salt, float64 (256,); NaN where none is marked."""
        return _share(self.intersection, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """Share of the salt pixels that is marked, float64 (256,); NaN without any salt."""
        return _share(self.intersection, self.true_pixels)

    @property
    def missed_share(self) -> np.ndarray:
        """Share of the images with salt in which none is marked, float64 (256,)."""
        return _share(self.missed, self.with_salt)

    @property
    def invented_share(self) -> np.ndarray:
        """Share of the images without salt in which some is marked, float64 (256,)."""
        return _share(self.invented, self.without_salt)

    def errors(self, threshold: int) -> Errors:
        """The errors at a threshold in 255ths."""
        shares = (self.precision, self.recall, self.missed_share, self.invented_share)
        return Errors(*(float(share[threshold]) for share in shares))

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


def threshold_curve(study: Study, variant: str) -> ThresholdCurve:
    """The `ThresholdCurve` of a measured variant."""
    return pooled(study.records[variant])


def pooled(entries: Sequence[Record]) -> ThresholdCurve:
    """The `ThresholdCurve` of what `saltseg.inference.study.totals` counted, once or several times."""

    def counts(key: str) -> np.ndarray:
        return np.array([entry["thresholds"][key] for entry in entries], np.int64).sum(axis=0)

    def total(key: str) -> int:
        return sum(entry[key] for entry in entries)

    return ThresholdCurve(
        intersection=counts("intersection"),
        predicted=counts("predicted"),
        missed=counts("missed"),
        invented=counts("invented"),
        pixels=total("pixels"),
        true_pixels=total("true_pixels"),
        with_salt=total("images_with_salt"),
        without_salt=total("n") - total("images_with_salt"),
    )


def errors_when_tuned(study: Study, variant: str) -> Errors:
    """Those of a measured variant under the threshold and minimum area that are fitted on the other folds."""
    counted, found = threshold_curve(study, variant), [entry["tuned"] for entry in study.records[variant]]
    hits, marked, missed, invented = (
        np.array(sum(counts[key] for counts in found)) for key in ("intersection", "predicted", "missed", "invented")
    )
    return Errors(
        precision=float(_share(hits, marked)),
        recall=float(_share(hits, counted.true_pixels)),
        missed=float(_share(missed, counted.with_salt)),
        invented=float(_share(invented, counted.without_salt)),
    )


def calibrated(ratio: float) -> int:
    """The cheapest threshold in 255ths for calibrated probabilities, 1 / (1 + ratio); ratio: see `RATIOS`."""
    return round(255 / (1 + ratio))


@dataclass(frozen=True)
class Calibration:
    """Ten bins of predicted probability, [0, 0.1) … [0.9, 1], each array (10,).

    predicted, salt: mean prediction and share of salt, float64, NaN without pixels. pixels: how many, int64.
    error: expected calibration error, the mean over pixels of |share of salt - mean prediction| of their bin.
    """

    predicted: np.ndarray
    salt: np.ndarray
    pixels: np.ndarray
    error: float

    @property
    def predicted_mean(self) -> float:
        """The mean prediction over all pixels."""
        return float(np.nansum(self.predicted * self.pixels) / self.pixels.sum())


def calibration(curve: ThresholdCurve) -> Calibration:
    """How often pixels of each predicted probability are salt (Guo et al. 2017, arXiv 1706.04599)."""
    every, salt = (-np.diff(counts, append=0) for counts in (curve.predicted, curve.intersection))
    bins = np.minimum(np.arange(256) * 10 // 255, 9)
    pixels, hits = np.bincount(bins, every, 10), np.bincount(bins, salt, 10)
    expected = np.bincount(bins, every * np.arange(256) / 255, 10)  # sum of the predicted probabilities
    error = float(np.abs(hits - expected).sum() / pixels.sum())
    return Calibration(_share(expected, pixels), _share(hits, pixels), pixels.astype(np.int64), error)


@dataclass(frozen=True)
class BoundaryErrors:
    """Errors at 0.5 by distance to the true boundary, in images that have one.

    distance: pixels, int (D,), below 0 outside the salt; rate: share of wrong pixels at each, float64 (D,). near,
    between, far: that share within `NEAR` pixels of the boundary, from there to `FAR`, and beyond; between_outside: of
    ``between`` outside the salt; far_of_all: share of all errors that lie far.
    NaN without pixels or errors.
    """

    distance: np.ndarray
    rate: np.ndarray
    near: float
    between: float
    far: float
    between_outside: float
    far_of_all: float


def boundary_errors(study: Study, variant: str) -> BoundaryErrors:
    """The `BoundaryErrors` of a measured variant."""
    entries = [entry["boundary"] for entry in study.records[variant]]
    distance = np.array(entries[0]["distance"])
    pixels, errors = (np.sum([entry[key] for entry in entries], axis=0) for key in ("pixels", "errors"))

    near, far = np.abs(distance) <= NEAR, np.abs(distance) > FAR
    between = ~near & ~far
    outside = between & (distance < 0)
    return BoundaryErrors(
        distance,
        rate=_share(errors, pixels),
        near=float(_share(errors[near].sum(), pixels[near].sum())),
        between=float(_share(errors[between].sum(), pixels[between].sum())),
        far=float(_share(errors[far].sum(), pixels[far].sum())),
        between_outside=float(_share(errors[outside].sum(), pixels[outside].sum())),
        far_of_all=float(_share(errors[far].sum(), errors.sum())),
    )
