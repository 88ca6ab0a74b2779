"""Predict the slabs of a survey that are missing, here or by workers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from saltseg.inference import windows
from saltseg.pipeline import trained
from saltseg.pipeline.trained import Reference, Trained
from saltseg.seismic.results import Results
from saltseg.seismic.scaling import Scaling
from saltseg.seismic.volume import SLAB_BYTES, Slab, Survey
from saltseg.workers import Workers

SLABS = 16  # of a small survey, in each direction


def slab_bytes(survey: Survey) -> int:
    """Size of the slabs of a survey: small enough for memory, and for several workers to share a small survey."""
    return min(SLAB_BYTES, 4 * survey.layout.traces * survey.layout.samples // SLABS)


def predict(results: Results, predictor: Trained, scaling: Scaling, reference: Reference, where: Workers) -> None:
    """Predict the slabs that ``results`` lacks, with a progress bar.

    Args:
        results: of `slab_bytes`.
        predictor: the networks.
        scaling: from amplitudes to gray values.
        reference: to the networks, for other processes.
        where: slabs are predicted.

    Raises:
        InputError: as `Workers.map`, or networks that answer with NaN.
    """
    missing = results.missing()
    total, left = (sum(slab.stop - slab.start for slab in slabs) for slabs in (results.slabs, missing))
    with tqdm(desc="predicting", total=total, initial=total - left, unit="line", mininterval=1) as bar:
        if where.here:
            for slab in missing:
                _predict(results, slab, predictor, scaling, bar.update)
        elif missing:
            opening = _Opening(
                results.survey.arguments, results.folder.resolve(), json.dumps(results.key), results.directions,
                results.digest,
            )  # fmt: skip
            units = [(opening, reference, scaling, slab) for slab in missing]
            for lines in where.map(_predict_there, units, opening.folder):
                bar.update(lines)


def _predict(
    results: Results, slab: Slab, predictor: Trained, scaling: Scaling, progress: Callable[[int], object]
) -> None:
    """Predict a slab; progress: called with the number of lines done since its last call."""
    lines = results.survey.read(slab)
    images = (scaling.apply(line.filled()) for line in lines)
    sections = []
    for section in windows.predict_images(predictor.networks, images, predictor.settings):
        sections.append(section)
        progress(1)
    results.write(slab, lines, sections)


@dataclass(frozen=True)
class _Opening:
    """What another process opens the same `Results` by.

    Attributes:
        survey: arguments of `Survey.open`.
        folder, key, directions: arguments of `Results`; the folder is absolute, the key JSON.
        digest: of the results; another one, of a survey that has changed say, is another opening.
    """

    survey: tuple[Path, int | None, int | None, bool]
    folder: Path
    key: str
    directions: tuple[str, ...]
    digest: str


def _predict_there(opening: _Opening, reference: Reference, scaling: Scaling, slab: Slab) -> int:
    """A unit of work: predict a slab in another process; returns how many lines it has."""
    results = _open_there(opening)
    if slab in results.missing():  # else another worker that was believed dead has done it
        _predict(results, slab, trained.follow(reference), scaling, lambda lines: None)
    return slab.stop - slab.start


@lru_cache(maxsize=1)
def _open_there(opening: _Opening) -> Results:
    survey = Survey.open(*opening.survey)
    return Results(opening.folder, survey, json.loads(opening.key), opening.directions, slab_bytes(survey))
