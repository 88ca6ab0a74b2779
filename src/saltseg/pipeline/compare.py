"""Whether a run is better than another: scores of single images, and paired differences."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saltseg import predictions, schemas
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.metrics import bootstrap
from saltseg.pipeline import tune
from saltseg.pipeline.workspace import Workspace, out_of_fold, sections_of, with_truth
from saltseg.postprocessing import step_selection
from saltseg.runs import RunDir

Scores = dict[str, np.ndarray]  # as `step_selection.scores`
# Of both runs; the section of each image, or None; the number of images that each run's post-processing was fitted on.
Compared = tuple[list[Scores], NDArray | None, list[int]]


def image_scores(run: RunDir, workspace: Workspace) -> list[dict[str, Any]]:
    """The scores of every out-of-fold image, in id order: rows of id, fold and `step_selection.SCORE_KINDS`.

    They are enough to `compare` runs image by image when their predictions are gone. Where the dataset names sections
    that images share, there is a column ``section``, too.
    """
    oof, root = _sorted(run), workspace.root(run)
    ids, sections = oof.ids.tolist(), sections_of(root, oof.ids.tolist())
    columns = step_selection.scores(with_truth(oof, competition.read_train(root)), sections)
    return [
        {
            "id": id_,
            "fold": int(fold),
            **({} if sections is None else {"section": str(sections[i])}),
            **{name: f"{values[i]:.1f}" for name, values in columns.items()},
        }
        for i, (id_, fold) in enumerate(zip(ids, np.asarray(oof.fold), strict=True))
    ]


def compare(one: RunDir, other: RunDir, workspace: Workspace) -> dict[str, Any]:
    """Paired difference of two runs (``other`` minus ``one``) on the images that both predicted out of fold.

    Each run has its own post-processing, fitted on the other folds of the shared images. Of a published run only scores
    are left; then both runs keep the post-processing fitted on all their own images, and more images fit better.

    Returns:
        ``n``: number of shared images. ``by``: what the intervals resample, image or section. ``fitted_on``: run →
        number of images that its post-processing was fitted on. ``nested``: run → whether the steps of its
        post-processing were selected anew without each fold; those of published scores may not be. Each of
        `step_selection.SCORE_KINDS`: both scores by run, their ``difference`` and its 95 % bootstrap ``interval``.

    Raises:
        InputError: datasets or folds differ, fewer than two images are shared, or a run has no out-of-fold score.
    """
    for run in (one, other):
        run.require_oof_score("nothing to compare: use {teacher}")
    for key in ("dataset", "dataset_hash", "folds_hash"):
        if one.read_provenance()[key] != other.read_provenance()[key]:
            raise InputError(f"{one.name} and {other.name} differ in {key}; only runs on the same folds are compared")
    compared = _recorded if any(_only_scores(run) for run in (one, other)) else _shared
    (first, second), sections, fitted_on = compared(one, other, workspace)
    result: dict[str, Any] = {"n": len(first["score_at_half"]), "by": bootstrap.resampled(sections)}
    result["fitted_on"] = dict(zip((one.name, other.name), fitted_on, strict=True))
    result["nested"] = {run.name: not _only_scores(run) or tune.is_nested(run) for run in (one, other)}
    for kind in step_selection.SCORE_KINDS:
        difference = bootstrap.paired_difference(first[kind], second[kind], sections)
        result[kind] = {
            one.name: float(first[kind].mean()),
            other.name: float(second[kind].mean()),
            "difference": difference.mean,
            "interval": difference.interval,
        }
    return result


def _only_scores(run: RunDir) -> bool:
    """Whether scores are all that is left of a run. A published run that was trained on has newer predictions, too."""
    return run.image_scores.is_file() and not run.oof.is_file()


def _sorted(run: RunDir) -> predictions.Predictions:
    oof = out_of_fold(run)
    return predictions.reorder(oof, np.sort(oof.ids))


def _shared(one: RunDir, other: RunDir, workspace: Workspace) -> Compared:
    """Scores of both runs on the shared images, in id order, see `Compared`."""
    parts = [out_of_fold(one), out_of_fold(other)]
    ids = np.intersect1d(parts[0].ids, parts[1].ids)
    _require_two(one, other, len(ids))
    root = workspace.root(one)
    labeled, sections = competition.read_train(root), sections_of(root, ids.tolist())
    scores = [step_selection.scores(with_truth(predictions.reorder(part, ids), labeled), sections) for part in parts]
    return scores, sections, [len(ids)] * 2


def _recorded(one: RunDir, other: RunDir, workspace: Workspace) -> Compared:
    """The same from `image_scores`, published or computed now, which are fitted on all images of each run."""
    tables = [
        schemas.read(run.image_scores) if _only_scores(run) else image_scores(run, workspace) for run in (one, other)
    ]
    first, second = ({row["id"]: row for row in table} for table in tables)
    ids = sorted(first.keys() & second.keys())
    moved = [id_ for id_ in ids if int(first[id_]["fold"]) != int(second[id_]["fold"])]
    if moved:
        raise InputError(
            f"{one.name} and {other.name} have {len(moved)} images in other folds, such as {moved[0]!r}; "
            "only runs on the same folds are compared"
        )
    _require_two(one, other, len(ids))
    scores = [
        {kind: np.array([float(rows[id_][kind]) for id_ in ids]) for kind in step_selection.SCORE_KINDS}
        for rows in (first, second)
    ]
    named = next((rows for rows in (first, second) if all("section" in rows[id_] for id_ in ids)), None)
    sections = None if named is None else bootstrap.clusters([named[id_]["section"] for id_ in ids])
    return scores, sections, [len(table) for table in tables]


def _require_two(one: RunDir, other: RunDir, shared: int) -> None:
    if shared < 2:
        raise InputError(f"{one.name} and {other.name} share {shared} out-of-fold images; train a fold of both")
