"""Out-of-fold predictions → the post-processing of a run, ``postprocess.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg import io, predictions, runs, schemas
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.metrics import average_precision, pixels
from saltseg.pipeline.workspace import Workspace, drop_submission, out_of_fold, sections_of
from saltseg.postprocessing import step_selection, summary, threshold_search
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.runs import RunDir


def tune_run(run: RunDir, workspace: Workspace) -> dict[str, Any]:
    """Tune the post-processing on the out-of-fold predictions; write and return ``postprocess.json``.

    With ``predict.postprocessing=half`` the scores of a tuned one are recorded, too, but threshold 0.5 is selected. A
    submission with another post-processing than the new one is removed.

    Returns:
        As `summary.summarize`, and ``oof_hash``, the fingerprint of the predictions it was tuned on, and ``networks``,
        how many were averaged in each of them.

    Raises:
        InputError: there are no out-of-fold predictions, or they hold ids that the dataset lacks.
    """
    run.require_oof_score("use another's: saltseg submit {run} --postprocessing-from {teacher}")
    oof = out_of_fold(run)
    root = workspace.root(run)
    labeled = competition.read_train(root)
    known, ids = set(labeled.ids), oof.ids.tolist()
    foreign = [id_ for id_ in ids if id_ not in known]
    if foreign:
        raise InputError(
            f"{run.oof} holds {len(foreign)} ids that the dataset lacks, the first {foreign[0]!r}; "
            f"make it again with: saltseg predict {run.name}"
        )
    true, fold, sections = labeled.masks_of(ids), np.asarray(oof.fold), sections_of(root, ids)
    groups = len(np.unique(threshold_search.folds_or_parts(fold)))
    with tqdm(desc="trying post-processing steps", total=len(step_selection.STEPS) * (1 + groups), unit="step") as bar:
        result = summary.summarize(
            oof.ids, oof.probabilities, true, fold, oof.presence_probability, bar.update, sections
        )
    if run.read_config().predict.postprocessing == "half":
        at_half = average_precision.average_precision(THRESHOLD_HALF.apply(oof.probabilities), true)
        result |= {
            "selected": "half",
            "why": "the experiment asks for 0.5 (predict.postprocessing=half)",
            "postprocessing": THRESHOLD_HALF.to_dict(),
            "per_coverage": pixels.per_coverage(at_half, pixels.coverage_class(true)),
        }
    result["oof_hash"] = oof.fingerprint()
    result["networks"] = networks_averaged(run)
    before = schemas.read(run.postprocess) if run.postprocess.is_file() else result
    if before["postprocessing"] != result["postprocessing"] and not run.postprocessing_source.is_file():
        drop_submission(run)
    io.write_json(run.postprocess, result)
    return result


def postprocessing_of(run: RunDir) -> Postprocessing:
    """The post-processing of a run's submission: another run's where one was given, else its own, else threshold 0.5.

    Raises InputError as `own_postprocessing` does.
    """
    if run.postprocessing_source.is_file():
        return Postprocessing.from_dict(schemas.read(run.postprocessing_source)["postprocessing"])
    return own_postprocessing(run) if run.postprocess.is_file() else THRESHOLD_HALF


def networks_averaged(run: RunDir) -> int:
    """Networks behind each out-of-fold prediction: one, the snapshots of a run, or those of a blend's members.

    A member without weight counts as none, and one that is gone as one. Test predictions average all folds.
    """
    entries = run.read_provenance()
    members = entries.get("members", [])
    if not members:
        return (len(run.read_config().train.snapshot_epochs) if run.config.is_file() else 0) or 1
    weights = entries.get("weights", [1] * len(members))
    used = [name for name, weight in zip(members, weights, strict=True) if weight]
    return sum(_networks_of_member(run.path.parents[1], name) for name in used)


def _networks_of_member(output_dir: Path, name: str) -> int:
    try:
        runs.leaf_runs(output_dir, name)  # all are here, and no blend contains itself
        return networks_averaged(runs.existing_run(output_dir, name))
    except InputError:
        return 1


def own_postprocessing(run: RunDir) -> Postprocessing:
    """What `tune_run` selected; raises InputError where it did not run, or ran on other predictions."""
    tuned = schemas.read(run.postprocess)
    if not is_current(run, tuned):
        raise InputError(
            f"{run.postprocess} was tuned on other predictions than {run.name} has now; saltseg tune {run.name}"
        )
    return Postprocessing.from_dict(tuned["postprocessing"])


def is_nested(run: RunDir) -> bool:
    """Whether the steps of a run's post-processing were selected anew without each fold when it was last tuned."""
    return run.postprocess.is_file() and bool(schemas.read(run.postprocess)["cross_fitted"].get("nested"))


def require_nested(run: RunDir) -> None:
    """Raise InputError where a run was tuned, but not so that `is_nested` is true."""
    if run.postprocess.is_file() and not is_nested(run):
        raise InputError(
            f"the steps of {run.name}'s post-processing were selected on all folds, as an older version did; "
            f"score it anew with: saltseg tune {run.name}"
        )


def is_current(run: RunDir, tuned: Mapping[str, Any]) -> bool:
    """Whether a ``postprocess.json`` was tuned on the out-of-fold predictions of now; True where that is unknown."""
    tuned_on = tuned.get("oof_hash")
    if tuned_on is None or not run.oof.is_file():
        return True
    return tuned_on == predictions.load_predictions(run.oof).fingerprint()
