"""Score a predicted mask of a survey against the true one, line by line in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saltseg.errors import InputError
from saltseg.metrics.pixels import PixelScores, pixel_scores_from_areas
from saltseg.seismic.traces import read_traces
from saltseg.seismic.volume import Survey

NEAR = (5, 10, 20, 40)  # lines; upper ends of the ranges of distance


@dataclass(frozen=True)
class SurveyScore:
    """Scores over all samples of the traces of some inlines together.

    Attributes:
        lines: how many inlines were scored.
        scores: over their samples.
    """

    lines: int
    scores: PixelScores


def score_survey(predicted: Survey, true: Survey, without: Sequence[int]) -> tuple[SurveyScore, dict[str, SurveyScore]]:
    """Compare two masks of a survey, 0 is rock and one other value is salt, in inlines that were not trained on.

    Args:
        predicted, true: the same traces in the same order.
        without: numbers of the inlines that are left out.

    Returns:
        The score of all other inlines; and those by distance, in lines, from the nearest one left out.

    Raises:
        InputError: see `require_same_traces`; a file is no mask; no line is left.
    """
    require_same_traces(predicted, true)
    direction = predicted.directions[0]
    numbers = predicted.line_numbers(direction)
    if unknown := sorted(set(without) - set(numbers.tolist())):
        path = predicted.layout.path
        raise InputError(f"--without {unknown[0]}: {path} has lines {numbers[0]} to {numbers[-1]}; correct it")
    if len(set(without)) == len(numbers):
        raise InputError(f"--without names all {len(numbers)} lines; leave some to score")
    masks = _Mask(predicted), _Mask(true)
    counts = np.array([_count(*masks, predicted.columns(direction, line)[1]) for line in range(len(numbers))])
    if not without:
        return _score(counts), {}
    step = int(np.diff(numbers).min())
    away = np.abs(numbers[:, None] - np.array(without)).min(1) // step
    by_distance, start = {}, 1
    for end in (*NEAR, int(away.max())):
        here = (away >= start) & (away <= end)
        if here.any():
            by_distance[f"{start} to {end}"] = _score(counts[here])
        start = end + 1
    return _score(counts[away > 0]), by_distance


class _Mask:
    """The samples of a SEG-Y file that are salt; the file has one value besides 0."""

    def __init__(self, survey: Survey) -> None:
        self._layout = survey.layout
        self._white: float | None = None

    def salt(self, traces: np.ndarray) -> np.ndarray:
        """Bool (n, samples) of traces, int64 (n,) in rising order; raises InputError where the file is no mask."""
        values, path = read_traces(self._layout, traces), self._layout.path
        if not np.isfinite(values).all():
            raise InputError(f"{path} has samples that are no numbers (NaN or infinity); a mask has 0 and 1")
        salt = values != 0
        for value in (values[salt].min(), values[salt].max()) if salt.any() else ():
            if self._white is None:
                self._white = float(value)
            if value != self._white:
                raise InputError(
                    f"{path} is no mask: besides 0 it has {self._white:g}, {value:g}, …; "
                    "give one such as salt_mask.sgy, which lies beside a predicted probability salt.sgy"
                )
        return salt


def _count(predicted: _Mask, true: _Mask, traces: np.ndarray) -> tuple[int, int, int, int]:
    """Of the columns of a line, -1 in gaps: samples that are salt in both, in the prediction, in truth; all samples."""
    traces = np.sort(traces[traces >= 0])
    found, salt = predicted.salt(traces), true.salt(traces)
    return int((found & salt).sum()), int(found.sum()), int(salt.sum()), found.size


def _score(counts: np.ndarray) -> SurveyScore:
    both, found, salt, size = counts.sum(0).tolist()
    return SurveyScore(len(counts), pixel_scores_from_areas(both, found, salt, size))


# ---------------------------------------------------------------- whether two files are of one survey


def require_same_traces(first: Survey, second: Survey) -> None:
    """Raise InputError where two files do not hold the same samples of the same traces in the same order."""
    one, other = first.layout, second.layout
    if (one.traces, one.samples) != (other.traces, other.samples):
        raise InputError(
            f"{one.path} has {one.traces:,} traces of {one.samples:,} samples, {other.path} has {other.traces:,} of "
            f"{other.samples:,}; give files of one survey"
        )
    bins = _bins(first), _bins(second)
    if len(different := np.flatnonzero(bins[0] != bins[1])):
        if np.array_equal(np.sort(bins[0]), np.sort(bins[1])):
            raise InputError(
                f"{one.path} has the traces of {other.path} in another order; write one with the order of the other"
            )
        trace = int(different[0])
        raise InputError(
            f"trace {trace + 1} is {_place(first, trace)} in {one.path}, {_place(second, trace)} in {other.path}; "
            "give files of one survey, or name the bytes with --inline-byte and --crossline-byte"
        )
    require_same_interval(first, second)
    every = np.arange(one.traces)
    require_same_start(first, every, second, every)


def require_same_interval(first: Survey, second: Survey) -> None:
    """Raise InputError where two files state different sample intervals."""
    one, other = first.layout, second.layout
    if one.interval_ms is None or other.interval_ms is None or np.isclose(one.interval_ms, other.interval_ms):
        return
    raise InputError(
        f"{one.path} has a sample interval of {one.interval_ms:g} ms, {other.path} of {other.interval_ms:g} ms; "
        "give files with the same samples, or correct the header"
    )


def require_same_start(first: Survey, traces: np.ndarray, second: Survey, others: np.ndarray) -> None:
    """Raise InputError where traces state another delay than their counterparts. A delay of 0 states nothing.

    Args:
        first, second: files with the same lines.
        traces: of the first file, int64 (n,).
        others: their counterparts in the second file, int64 (n,).
    """
    here, there = first.delays_ms[traces], second.delays_ms[others]
    different = np.flatnonzero((here != 0) & (there != 0) & ~np.isclose(here, there))
    if len(different):
        at = different[0]
        raise InputError(
            f"trace {traces[at] + 1} of {first.layout.path} begins at {here[at]:g} ms, its counterpart in "
            f"{second.layout.path} at {there[at]:g} ms; give files with the same samples, or correct the delays"
        )


def _bins(survey: Survey) -> np.ndarray:
    """One number for the inline and the crossline number of each trace, int64 (traces,)."""
    return survey.inlines.astype(np.int64) * 2**32 + survey.crosslines


def _place(survey: Survey, trace: int) -> str:
    return f"inline {survey.inlines[trace]}, crossline {survey.crosslines[trace]}"
