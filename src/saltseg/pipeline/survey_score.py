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
        InputError: the files have other traces or samples, or are no masks; no line is left.
    """
    first, second = predicted.layout, true.layout
    same = np.array_equal(predicted.inlines, true.inlines) and np.array_equal(predicted.crosslines, true.crosslines)
    if first.samples != second.samples or not same:
        raise InputError(f"{first.path} and {second.path} have other traces or samples; give two masks of one survey")
    direction = predicted.directions[0]
    numbers = predicted.line_numbers(direction)
    if unknown := sorted(set(without) - set(numbers.tolist())):
        raise InputError(f"--without {unknown[0]}: {first.path} has lines {numbers[0]} to {numbers[-1]}; correct it")
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
