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
    """Compare two masks of a survey, not 0 is salt, in inlines that were not trained on.

    Args:
        predicted, true: the same traces in the same order.
        without: numbers of the inlines that are left out.

    Returns:
        The score of all other inlines; and those by distance, in lines, from the nearest one left out.

    Raises:
        InputError: the files have other traces or samples, or samples that are no numbers; no line is left.
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
    counts = np.array([_count(predicted, true, direction, line) for line in range(len(numbers))])
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


def _count(predicted: Survey, true: Survey, direction: str, line: int) -> tuple[int, int, int, int]:
    """Of one line: samples that are salt in both, in the prediction, in truth; all samples."""
    traces = np.sort(predicted.columns(direction, line)[1])
    traces = traces[traces >= 0]
    found, salt = (_salt(survey, traces) for survey in (predicted, true))
    return int((found & salt).sum()), int(found.sum()), int(salt.sum()), found.size


def _salt(survey: Survey, traces: np.ndarray) -> np.ndarray:
    values = read_traces(survey.layout, traces)
    if not np.isfinite(values).all():
        raise InputError(f"{survey.layout.path} has samples that are no numbers (NaN or infinity); a mask has 0 and 1")
    return values != 0


def _score(counts: np.ndarray) -> SurveyScore:
    both, found, salt, size = counts.sum(0).tolist()
    return SurveyScore(len(counts), pixel_scores_from_areas(both, found, salt, size))
