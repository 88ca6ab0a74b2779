"""Several runs as one: their average, which is then a run like any other."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from saltseg import config, runs, storage
from saltseg.core import metric, selection, thresholds
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import blend, lineage
from saltseg.inference.steps import Place
from saltseg.runs import Predictions, RunDir

Weights = Literal["equal", "fitted"]


def blend_runs(
    members: Sequence[RunDir],
    target: RunDir,
    place: Place,
    weights: Weights = "equal",
    progress: selection.Progress | None = None,
) -> dict[str, Any]:
    """Average runs of one dataset and one fold table into a blend, which is a run without folds.

    With "fitted", weights are fitted out of fold (`saltseg.core.selection`) and kept only if their cross-fitted score
    is above that of equal weights. If so, test images get the weights fitted on everything, but the out-of-fold
    predictions of each fold get those fitted on the *other* folds. scripts/optimise.py cross-fits the rule alone, so
    this is what keeps every later score honest: no image's label helps to choose the weights it is judged with. (The
    rule for a fold is then tuned on folds whose weights did see that fold; ``evidence`` is free of even that.)

    Returns, and records in the blend's ``provenance.json``, ``{"members", "weights", "evidence"}``: names; counts, as
    used for test images; what `_fit` measured, or None. ``progress`` is called with (steps done, steps in all).
    Raises InputError when datasets, images or folds differ, a member has no honest score, or ``target`` exists.
    """
    if weights not in get_args(Weights):
        raise InputError(config.unknown("weights", weights, get_args(Weights)))
    for run in members:
        run.demand_score("a blend of it would have none: blend {teacher} instead")
    facts = _common_facts(members)
    taken = target.path if target.path.exists() else target.path.parents[1] / "runs" / target.name
    if taken.exists():
        raise InputError(f"{taken} exists; choose another --name or remove it")
    parts, tests = ([runs.load_predictions(getattr(run, key)) for run in members] for key in ("oof", "test"))
    oof, test = blend.mean(parts), blend.mean(tests)
    found: dict[str, Any] = {"members": [run.name for run in members], "weights": [1] * len(members), "evidence": None}
    if weights == "fitted":
        found["evidence"], cross_fitted = _fit(parts, place.root(members[0]), progress)
        if found["evidence"]["adopted"]:
            found["weights"] = found["evidence"]["weights"]
            oof, test = cross_fitted, blend.mean(tests, found["weights"])
    # Weights were fitted for the best rule: a blend that has them asks for that rule.
    adopted = found["evidence"] is not None and found["evidence"]["adopted"]
    tuned = adopted or any(run.read_config().predict.decision == "tuned" for run in members)
    settings = config.override(members[0].read_config(), [f"predict.decision={'tuned' if tuned else 'half'}"])
    settings = replace(settings, name="blend of " + ", ".join(run.name for run in members))
    runs.save_predictions(target.oof, oof)
    runs.save_predictions(target.test, test)
    storage.write_atomic(target.config, config.dump(settings))
    storage.write_json(target.provenance, runs.provenance(**facts, **found))
    return found


def _common_facts(members: Sequence[RunDir]) -> dict[str, Any]:
    """What the members' provenance says of the data; InputError where that differs."""
    origins = [run.read_provenance() for run in members]
    for key in ("dataset", "dataset_hash"):
        if len({origin[key] for origin in origins}) > 1:
            raise InputError(f"runs to blend differ in {key}: {', '.join(str(o[key])[:12] for o in origins)}")
    facts: dict[str, Any] = {key: origins[0][key] for key in ("dataset", "dataset_hash", "folds_hash", "synthetic")}
    facts["transduction"] = any(lineage.transduction(run) for run in members)
    facts["epoch_chosen_in"] = sorted({name for origin in origins for name in origin.get("epoch_chosen_in", [])})
    return facts


def _fit(
    parts: Sequence[Predictions], root: Path, progress: selection.Progress | None
) -> tuple[dict[str, Any], Predictions]:
    """Fit weights on out-of-fold predictions of the same images; returns the evidence and the cross-fitted mean.

    The evidence, ready for JSON: ``groups`` ("folds", or "random parts" where there is one fold), ``equal`` and
    ``fitted`` (cross-fitted scores), ``difference`` with its 95 % ``interval`` (paired, fitted minus equal),
    ``adopted``, ``weights`` (fitted on everything), ``weights_of_group`` (fitted on the other groups).
    """
    ids, fold = parts[0].ids, parts[0].fold
    assert fold is not None
    group = thresholds.folds_or_parts(fold)  # the parts that optimise takes, too
    labelled = competition.read_train(root)
    true = labelled.masks_of(ids.tolist())
    stacks = [part.of(ids) for part in parts]
    found = selection.cross_fit(stacks, true, group, progress)
    gain = found.average_precision - found.equal
    evidence = {
        "groups": "random parts" if len(np.unique(fold)) == 1 else "folds",
        "equal": float(found.equal.mean()),
        "fitted": float(found.average_precision.mean()),
        "difference": float(gain.mean()),
        "interval": list(metric.bootstrap_interval(gain)),
        "adopted": int(np.rint(10 * gain).sum()) > 0,  # in whole tenths, so that rounding breaks no tie
        "weights": list(found.counts),
        "weights_of_group": [{"group": k, "weights": list(counts)} for k, counts in found.counts_of_group.items()],
    }
    mean = blend.mean(parts)
    for name, counts in found.counts_of_group.items():
        of_group = blend.mean(parts, counts)
        mean.probabilities[group == name] = of_group.probabilities[group == name]
        if mean.presence is not None and of_group.presence is not None:
            mean.presence[group == name] = of_group.presence[group == name]
    return evidence, mean
