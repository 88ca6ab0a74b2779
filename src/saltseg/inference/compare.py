"""How good is a run elsewhere, and is it better than another: scores on other data, paired differences."""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg import runs, storage
from saltseg.core import decision, metric
from saltseg.core.postprocess import HALF
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import blend
from saltseg.inference.steps import Place, out_of_fold, rule_of, with_truth
from saltseg.runs import RunDir


def evaluate(run: RunDir, place: Place, dataset: str) -> dict[str, Any]:
    """Score a run on the labelled images of a dataset it was not trained on (mean of its folds).

    Returns ``{"run", "dataset", "n", "always_empty", "score_at_half", "score_with_rule", "interval", "pixel"}``; the
    interval is the 95 % bootstrap of the score with the run's own rule, which was tuned elsewhere. Raises
    InputError for the dataset of the training, or one that shares an id with it.
    """
    from saltseg.inference import predict as networks

    if dataset == run.read_provenance()["dataset"]:
        raise InputError(f"{run.name} was trained on {dataset}; its honest score there is out of fold (leaderboard.py)")
    settings, finished = run.read_config(), run.trained_folds()
    labelled = competition.read_train(competition.dataset_root(place.input_dir, dataset))
    shared = set(labelled.ids) & set(competition.train_ids(place.root(run)))
    if shared:
        raise InputError(
            f"{dataset} shares {len(shared)} images with the training, such as {min(shared)!r}; use others"
        )
    rule, parts = rule_of(run), []
    with tqdm(desc="predicting", total=len(finished) * len(labelled.ids), unit="img", mininterval=1) as bar:
        for fold in finished:
            members = networks.load_networks(settings, fold)
            parts.append(networks.predictions(members, labelled.ids, labelled.images, settings, progress=bar.update))
    found = blend.mean(parts)
    at_half, ruled = HALF.apply(found.probabilities), rule.apply(found.probabilities, found.presence)
    values = metric.average_precision(ruled, labelled.masks)
    return {
        "run": run.name,
        "dataset": dataset,
        "n": len(labelled.ids),
        "always_empty": float((~labelled.masks.any(axis=(1, 2))).mean()),
        "score_at_half": metric.score(at_half, labelled.masks),
        "score_with_rule": float(values.mean()),
        "interval": list(metric.bootstrap_interval(values)),
        "pixel": vars(metric.pixel_scores(at_half, labelled.masks)),
    }


def image_scores(run: RunDir, place: Place) -> list[dict[str, Any]]:
    """What every out-of-fold image scored, in id order: rows of id, fold, at_half, cross_fitted and whole_rule.

    cross_fitted: under a threshold and a minimum area fitted on the other folds (random parts where there is one fold);
    whole_rule: under all steps of the decision rule, likewise. Enough to `compare` runs image by image when their
    predictions are gone.
    """
    oof = _sorted(run)
    columns = decision.scores(with_truth(oof, competition.read_train(place.root(run))))
    return [
        {"id": id_, "fold": int(fold), **{name: f"{values[i]:.1f}" for name, values in columns.items()}}
        for i, (id_, fold) in enumerate(zip(oof.ids.tolist(), np.asarray(oof.fold), strict=True))
    ]


def whole_rule(run: RunDir, place: Place) -> np.ndarray:
    """What every out-of-fold image scores under the run's whole decision rule, cross-fitted: float64 (N,), in id order.

    Raises InputError for a run without an honest score.
    """
    run.demand_score("nothing to score: python scripts/ladder.py takes {teacher}")
    return decision.cross_fit(with_truth(_sorted(run), competition.read_train(place.root(run))))


def _sorted(run: RunDir) -> runs.Predictions:
    """Out-of-fold predictions in id order."""
    oof = out_of_fold(run)
    return blend.in_order(oof, np.sort(oof.ids))


def compare(one: RunDir, other: RunDir, place: Place) -> dict[str, Any]:
    """Paired difference of two runs (``other`` minus ``one``) on the images that both predicted out of fold.

    Returns ``{"n", "fitted_on", "at_half": {...}, "cross_fitted": {...}, "whole_rule": {...}}`` with the two scores,
    their mean difference per image and its 95 % bootstrap interval. cross_fitted: each with a threshold and a minimum
    area of its own, fitted on the other folds (random parts where there is one fold). whole_rule: likewise with all
    steps of the decision rule that raise its score. fitted_on: how many images each run's rules come from; ``n``, but
    where a run is published: of that one there are scores and no predictions, so both keep the rules fitted on all
    their own images, and the run with more of them has the better rules. Raises InputError when datasets or folds
    differ, when fewer than two images are shared, or a run has no honest score.
    """
    for run in (one, other):
        run.demand_score("nothing to compare: python scripts/compare.py takes {teacher}")
    for key in ("dataset", "dataset_hash", "folds_hash"):
        if one.read_provenance()[key] != other.read_provenance()[key]:
            raise InputError(f"{one.name} and {other.name} differ in {key}; only runs on the same folds are compared")
    published = one.image_scores.is_file() or other.image_scores.is_file()
    (ours, theirs), fitted_on = _recorded(one, other, place) if published else _shared(one, other, place)

    def paired(rule: str) -> dict[str, Any]:
        """Scores of one run and of the other."""
        difference = theirs[rule] - ours[rule]
        return {
            one.name: float(ours[rule].mean()),
            other.name: float(theirs[rule].mean()),
            "difference": float(difference.mean()),
            "interval": list(metric.bootstrap_interval(difference)),
        }

    counts = dict(zip((one.name, other.name), fitted_on, strict=True))
    return {"n": len(ours["at_half"]), "fitted_on": counts} | {rule: paired(rule) for rule in ours}


Both = tuple[list[dict[str, np.ndarray]], list[int]]  # `decision.scores` of two runs, and what their rules come from


def _shared(one: RunDir, other: RunDir, place: Place) -> Both:
    """Scores on the images that both predicted, in id order, under rules fitted on these."""
    first, second = out_of_fold(one), out_of_fold(other)
    ids = np.array(sorted(set(first.ids.tolist()) & set(second.ids.tolist())))
    _demand_two(one, other, len(ids))
    labelled = competition.read_train(place.root(one))
    scores = [decision.scores(with_truth(blend.in_order(part, ids), labelled)) for part in (first, second)]
    return scores, [len(ids)] * 2


def _recorded(one: RunDir, other: RunDir, place: Place) -> Both:
    """The same from `image_scores`, as published or made now, under rules fitted on all images of each run."""
    tables = [
        _read_image_scores(run.image_scores) if run.image_scores.is_file() else image_scores(run, place)
        for run in (one, other)
    ]
    of_id = [{row["id"]: row for row in table} for table in tables]
    ids = sorted(of_id[0].keys() & of_id[1].keys())
    moved = [id_ for id_ in ids if int(of_id[0][id_]["fold"]) != int(of_id[1][id_]["fold"])]
    if moved:
        raise InputError(f"{one.name} and {other.name} have {len(moved)} images in other folds, such as {moved[0]!r}")
    _demand_two(one, other, len(ids))
    scores = [{rule: np.array([float(rows[id_][rule]) for id_ in ids]) for rule in decision.RULES} for rows in of_id]
    return scores, [len(table) for table in tables]


def _demand_two(one: RunDir, other: RunDir, shared: int) -> None:
    if shared < 2:
        raise InputError(f"{one.name} and {other.name} share {shared} out-of-fold images; train a fold of both")


def _read_image_scores(path: Path) -> list[dict[str, str]]:
    """Rows of a published run, as `image_scores` made them; raises InputError for other files."""
    rows = storage.read_csv(path)
    try:
        scores = [float(row[rule]) for row in rows for rule in decision.RULES if row["id"] and int(row["fold"]) >= 0]
        if not scores or not all(0 <= score <= 1 for score in scores):
            raise ValueError("scores from 0 to 1 are wanted")
    except (KeyError, TypeError, ValueError) as error:
        raise storage.unreadable(path, "scores of images", error) from None
    return rows
