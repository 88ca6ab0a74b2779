"""The average of several runs: a blend, which is a run without folds."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from saltseg import config, io, predictions, provenance
from saltseg.data import competition
from saltseg.errors import InputError, unknown_name
from saltseg.metrics import bootstrap
from saltseg.pipeline.workspace import Workspace, out_of_fold, sections_of
from saltseg.postprocessing import blend_weights, threshold_search
from saltseg.predictions import Predictions
from saltseg.runs import RunDir

Weights = Literal["equal", "fitted"]


def blend_runs(
    members: Sequence[RunDir],
    target: RunDir,
    workspace: Workspace,
    weights: Weights = "equal",
    progress: blend_weights.Progress | None = None,
) -> dict[str, Any]:
    """Average runs of one dataset and one fold table into the new run ``target``.

    Fitted weights (`blend_weights`) are selected only if their cross-fitted score is above that of equal weights. Then
    test images get the weights fitted on all images, and the out-of-fold predictions of each fold get those fitted on
    the *other* folds: no label of an image helps to choose the weights that the image is scored with. `tune.tune_run`
    cross-fits the post-processing alone, so its score needs this. (It tunes the post-processing of a fold on folds
    whose weights did see that fold; ``evidence`` is free of that, too.)

    Args:
        members: with out-of-fold and test predictions.
        target: ``output/blends/NAME``, made completely or not at all.
        workspace: where the dataset is.
        weights: "equal" or "fitted".
        progress: called with (steps done, steps in all) while weights are fitted.

    Returns:
        What the blend's ``provenance.json`` records: ``members`` (names), ``weights`` (counts, as used for test
        images), ``evidence`` (what `_fit_weights` measured, or None).

    Raises:
        InputError: datasets, images or folds differ, a member has no out-of-fold score, ``target`` exists, or another
            process is making it.
    """
    if weights not in get_args(Weights):
        raise InputError(unknown_name("weights", weights, get_args(Weights)))
    for run in members:
        run.require_oof_score("a blend of it would have none: blend {teacher} instead")
    entries = _common_entries(members)
    namesake = target.path.parents[1] / "runs" / target.name
    if namesake.exists():
        raise InputError(f"{namesake} exists; choose another name or remove it")
    with io.atomic_dir(target.path) as temporary:
        parts = [out_of_fold(run) for run in members]
        tests = [predictions.load_predictions(run.test) for run in members]
        oof, test = predictions.mean_predictions(parts), predictions.mean_predictions(tests)
        result: dict[str, Any] = {"members": [run.name for run in members], "weights": [1] * len(members)}
        result["evidence"], selected = None, False
        if weights == "fitted":
            evidence, cross_fitted = _fit_weights(parts, workspace.root(members[0]), progress)
            result["evidence"], selected = evidence, evidence["selected"]
        if selected:
            result["weights"] = evidence["weights"]
            oof, test = cross_fitted, predictions.mean_predictions(tests, evidence["weights"])
        new = RunDir(temporary)
        if members[0].dataset.is_file():
            shutil.copyfile(members[0].dataset, new.dataset)
        predictions.save_predictions(new.oof, oof)
        predictions.save_predictions(new.test, test)
        io.write_atomic(new.config, config.dump(_settings(members, selected)))
        io.write_json(new.provenance, provenance.record(**entries, **result))
    return result


def _settings(members: Sequence[RunDir], fitted: bool) -> config.Config:
    """Those of the first member; tuned post-processing if a member has it, or fitted weights, which assume it."""
    tuned = fitted or any(run.read_config().predict.postprocessing == "tuned" for run in members)
    changes = {"predict.postprocessing": "tuned" if tuned else "half"}
    settings = config.change(members[0].read_config(), changes)
    return replace(settings, name="blend of " + ", ".join(run.name for run in members))


def _common_entries(members: Sequence[RunDir]) -> dict[str, Any]:
    """What the members' provenance records of the data; raises InputError where that differs."""
    records = [run.read_provenance() for run in members]
    for key in ("dataset", "dataset_hash"):
        if len({record[key] for record in records}) > 1:
            values = ", ".join(str(record[key])[:12] for record in records)
            raise InputError(f"runs to blend differ in {key}: {values}; blend runs of one dataset")
    entries: dict[str, Any] = {key: records[0][key] for key in ("dataset", "dataset_hash", "folds_hash", "synthetic")}
    entries["transduction"] = any(provenance.transduction(run) for run in members)
    entries["epoch_chosen_in"] = sorted({name for record in records for name in record.get("epoch_chosen_in", [])})
    return entries


def _fit_weights(
    parts: Sequence[Predictions], root: Path, progress: blend_weights.Progress | None
) -> tuple[dict[str, Any], Predictions]:
    """Fit weights on out-of-fold predictions of the same images; returns the evidence and the cross-fitted mean.

    The evidence, ready for JSON: ``groups`` ("folds", or "random parts" where there is one fold), ``equal`` and
    ``fitted`` (cross-fitted scores), ``difference`` with its 95 % ``interval`` (paired, fitted minus equal), ``by``
    (image or section, which the interval resamples), ``selected``, ``weights`` (fitted on everything),
    ``weights_of_group`` (fitted on the other groups).
    """
    ids, fold = parts[0].ids, np.asarray(parts[0].fold)
    groups = threshold_search.folds_or_parts(fold)  # the same parts as in `tune.tune_run`
    true = competition.read_train(root).masks_of(ids.tolist())
    fitted = blend_weights.cross_fit([part.select(ids) for part in parts], true, groups, progress)
    sections = sections_of(root, ids.tolist())
    gain = bootstrap.paired_difference(fitted.equal, fitted.average_precision, sections)
    evidence = {
        "groups": "random parts" if len(np.unique(fold)) == 1 else "folds",
        "equal": float(fitted.equal.mean()),
        "fitted": float(fitted.average_precision.mean()),
        "difference": gain.mean,
        "interval": gain.interval,
        "by": bootstrap.resampled(sections),
        # in whole tenths, so that rounding breaks no tie
        "selected": int(np.rint(10 * (fitted.average_precision - fitted.equal)).sum()) > 0,
        "weights": list(fitted.counts),
        "weights_of_group": [{"group": k, "weights": list(counts)} for k, counts in fitted.counts_of_group.items()],
    }
    mean = predictions.mean_predictions(parts)
    for name, counts in fitted.counts_of_group.items():
        own, weighted = groups == name, predictions.mean_predictions(parts, counts)
        mean.probabilities[own] = weighted.probabilities[own]
        if mean.presence_probability is not None and weighted.presence_probability is not None:
            mean.presence_probability[own] = weighted.presence_probability[own]
    return evidence, mean
