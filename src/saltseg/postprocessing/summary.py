"""The contents of ``postprocess.json``: tuned post-processing with its scores and its evidence."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError
from saltseg.metrics import bootstrap, pixels
from saltseg.postprocessing import threshold_search
from saltseg.postprocessing.areas import Areas, areas, log_loss
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing, as_quantized
from saltseg.postprocessing.step_selection import (
    MARGIN,
    CrossFitted,
    FittedPostprocessing,
    OutOfFold,
    cross_fit,
    fit_step,
    forward_selection,
)


def summarize(
    ids: Sequence[str] | NDArray[np.str_],
    probabilities: ArrayLike,
    true: ArrayLike,
    fold: ArrayLike,
    presence_probability: ArrayLike | None = None,
    progress: Callable[[], object] = lambda: None,
    sections: ArrayLike | None = None,
) -> dict[str, Any]:
    """Tune post-processing on out-of-fold predictions and score it.

    Args:
        ids: N ids, each once.
        probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
        true: (N, H, W), values 0 and 1.
        fold: (N,) whole numbers; with a single fold, random parts replace the folds.
        presence_probability: uint8 (N,) in 255ths, probability that the image holds any salt.
        progress: called after each of `step_selection.STEPS`, on all images and without each group.
        sections: (N,) labels; the intervals resample whole sections. None: images.

    Returns:
        Plain values, ready for JSON. "Tuned" has the steps that were selected; where none was, it is threshold and
        minimum area. "Cross-fitted" has, for each group, the steps and parameters that the other groups select.

        - postprocessing: the parameters in use; selected: "tuned" if any step was selected, else "half" (0.5).
        - n, by (what the intervals resample, "image" or "section"), folds, cross_fit_groups ("folds" or "random
          parts"), score_at_half.
        - argmax, smoothed_argmax: tuned on all images, with the (optimistic) score on the same images; cross_fitted:
          score, interval and parameters per group; nested: True, since the steps are cross-fitted, too; curve: score by
          threshold, minimum area as in smoothed_argmax.
        - tuning_gain: cross-fitted score minus score at one half, paired by image; steps: see `StepResult`; margin: see
          `forward_selection`.
        - log_loss; pixel: scores at one half, to compare with published ones; per_coverage: scores of the
          parameters in use, cross-fitted if they are tuned.

    Raises:
        InputError: an id twice, lengths that differ, fewer than two images, or as `areas` and `Postprocessing.apply`.
    """
    counted = areas(probabilities, true)
    n = len(counted.true)
    if len(ids) != n or len(set(map(str, ids))) != n or n < 2:
        raise InputError(f"each image needs its own id, two at least: {len(set(ids))} ids for {n} images")
    folds = np.unique(np.asarray(fold)).tolist()
    groups = threshold_search.as_groups(threshold_search.folds_or_parts(np.asarray(fold)), n)
    cache = {Postprocessing(): counted}
    images = OutOfFold(as_quantized(probabilities), true, groups, presence_probability, cache)
    results = forward_selection(images, progress, sections=sections)
    selected = [result.fit for result in results if result.selected]
    fit = selected[-1] if selected else fit_step(images, results[0].before.per_group, ({},), threshold_search.SEARCHED)
    at_half = counted.average_precision(THRESHOLD_HALF)
    classes = pixels.coverage_class_from_areas(counted.true, counted.pixels)
    fitted = cross_fit(images, progress, sections=sections)
    gain = bootstrap.paired_difference(at_half, fitted.average_precision, sections)
    return {
        "postprocessing": (fit.per_group[None] if selected else THRESHOLD_HALF).to_dict(),
        "selected": "tuned" if selected else "half",
        "n": n,
        "by": bootstrap.resampled(sections),
        "folds": folds,
        "cross_fit_groups": "folds" if len(folds) > 1 else "random parts",
        "score_at_half": float(at_half.mean()),
        **_tuned(fit, images),
        "cross_fitted": _cross_fitted(fitted, sections),
        "tuning_gain": {"mean": gain.mean, "interval": gain.interval},
        "margin": MARGIN,
        "steps": [result.to_dict(sections) for result in results],
        "log_loss": log_loss(counted),
        "pixel": _pixel_scores(counted),
        "per_coverage": pixels.per_coverage(fitted.average_precision if selected else at_half, classes),
    }


def _cross_fitted(fitted: CrossFitted, sections: ArrayLike | None) -> dict[str, Any]:
    """What `summarize` reports about the cross-fitted score."""
    return {
        "score": fitted.score,
        "interval": list(bootstrap.bootstrap_interval(fitted.average_precision, sections)),
        "nested": True,
        "per_group": [{"group": name, **chosen.to_dict()} for name, chosen in fitted.per_group.items()],
    }


def _tuned(fit: FittedPostprocessing, images: OutOfFold) -> dict[str, Any]:
    """What `summarize` reports about the tuned parameters."""
    tuned = fit.per_group[None]
    search = threshold_search.search_areas(images.areas(tuned), fit.searched)

    def complete(fitted: Postprocessing) -> dict[str, int]:
        return replace(tuned, threshold=fitted.threshold, min_area=fitted.min_area).to_dict()

    return {
        "argmax": {"score": search.argmax_score, "postprocessing": complete(search.argmax)},
        "smoothed_argmax": {
            "score": search.smoothed_argmax_score,
            "postprocessing": complete(search.smoothed_argmax),
        },
        "curve": {
            "threshold": list(range(1, 256)),
            "score": search.curve_threshold(search.smoothed_argmax.min_area).tolist(),
            "score_no_min_area": search.curve_threshold(0).tolist(),
        },
    }


def _pixel_scores(counted: Areas) -> dict[str, float]:
    """Pixel scores at one half over all images pooled."""
    intersection, predicted = counted.apply(THRESHOLD_HALF)
    common, marked, salt = (int(area.sum()) for area in (intersection, predicted, counted.true))
    return asdict(pixels.pixel_scores_from_areas(common, marked, salt, len(counted.true) * counted.pixels))
