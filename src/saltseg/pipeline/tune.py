"""Out-of-fold predictions → the post-processing of a run, ``postprocess.json``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg import io, predictions, schemas
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.metrics import average_precision, pixels
from saltseg.pipeline.workspace import Workspace, drop_submission, out_of_fold, sections_of
from saltseg.postprocessing import step_selection, summary
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.runs import RunDir

# Of the gain that post-processing has on single networks, out of fold, the mean of five networks, which is submitted,
# had lost +0.0059 [-0.0013, +0.0136] on 600 tiles held back (benchmarks/postprocessing_of_means.py).
LOST_BY_AVERAGING = 0.006


def tune_run(run: RunDir, workspace: Workspace) -> dict[str, Any]:
    """Tune the post-processing on the out-of-fold predictions; write and return ``postprocess.json``.

    Where threshold 0.5 is used all the same (`_why_half`), the scores of a tuned post-processing are recorded, too. A
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
    with tqdm(desc="trying post-processing steps", total=len(step_selection.STEPS), unit="step") as bar:
        result = summary.summarize(
            oof.ids, oof.probabilities, true, fold, oof.presence_probability, bar.update, sections
        )
    if why := _why_half(run, result):
        at_half = average_precision.average_precision(THRESHOLD_HALF.apply(oof.probabilities), true)
        result |= {
            "selected": "half",
            "why": why,
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


def _why_half(run: RunDir, result: Mapping[str, Any]) -> str:
    """Why threshold 0.5 is used although a tuned post-processing may score more out of fold; "" where it is not."""
    if run.read_config().predict.postprocessing == "half":
        return "the experiment asks for 0.5 (predict.postprocessing=half)"
    gain = result["tuning_gain"]["mean"]
    if result["selected"] == "tuned" and len(result["folds"]) > 1 and gain <= LOST_BY_AVERAGING:
        return (
            f"tuning gains {gain:+.4f} out of fold, and averaging the networks of all folds, as the submission does, "
            f"has been seen to take {LOST_BY_AVERAGING} of that away"
        )
    return ""


def postprocessing_of(run: RunDir) -> Postprocessing:
    """The post-processing of a run's submission: another run's where one was given, else its own, else threshold 0.5.

    Raises InputError as `own_postprocessing` does.
    """
    if run.postprocessing_source.is_file():
        return Postprocessing.from_dict(schemas.read(run.postprocessing_source)["postprocessing"])
    return own_postprocessing(run) if run.postprocess.is_file() else THRESHOLD_HALF


def networks_averaged(run: RunDir) -> int:
    """Networks behind each out-of-fold prediction: 1, or the members of a blend. Test predictions average all folds."""
    entries = run.read_provenance()
    weights = entries.get("weights", [1] * len(entries.get("members", [run.name])))
    return sum(weight > 0 for weight in weights)


def own_postprocessing(run: RunDir) -> Postprocessing:
    """What `tune_run` selected; raises InputError where it did not run, or ran on other predictions."""
    tuned = schemas.read(run.postprocess)
    if not is_current(run, tuned):
        raise InputError(
            f"{run.postprocess} was tuned on other predictions than {run.name} has now; saltseg tune {run.name}"
        )
    return Postprocessing.from_dict(tuned["postprocessing"])


def is_current(run: RunDir, tuned: Mapping[str, Any]) -> bool:
    """Whether a ``postprocess.json`` was tuned on the out-of-fold predictions of now; True where that is unknown."""
    tuned_on = tuned.get("oof_hash")
    if tuned_on is None or not run.oof.is_file():
        return True
    return tuned_on == predictions.load_predictions(run.oof).fingerprint()
