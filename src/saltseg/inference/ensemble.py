"""Several runs as one: their average, which is then a run like any other."""

from collections.abc import Sequence
from dataclasses import replace

from saltseg import config, runs
from saltseg.errors import InputError
from saltseg.inference import blend
from saltseg.runs import RunDir


def blend_runs(members: Sequence[RunDir], target: RunDir) -> int:
    """Average runs of one dataset and one fold table with equal weights into a blend, which is a run without folds.

    Returns the number of out-of-fold images. Raises InputError when datasets, images or folds differ.
    """
    origins = [run.read_provenance() for run in members]
    for key in ("dataset", "dataset_hash"):
        if len({origin[key] for origin in origins}) > 1:
            raise InputError(f"runs to blend differ in {key}: {', '.join(str(o[key])[:12] for o in origins)}")
    taken = target.path if target.path.exists() else target.path.parents[1] / "runs" / target.name
    if taken.exists():
        raise InputError(f"{taken} exists; choose another --name or remove it")
    oof = blend.mean([runs.load_predictions(run.oof) for run in members])
    test = blend.mean([runs.load_predictions(run.test) for run in members])
    decision = "tuned" if any(run.read_config().predict.decision == "tuned" for run in members) else "half"
    settings = config.override(members[0].read_config(), [f"predict.decision={decision}"])
    settings = replace(settings, name="blend of " + ", ".join(run.name for run in members))
    runs.save_predictions(target.oof, oof)
    runs.save_predictions(target.test, test)
    runs.write_atomic(target.config, config.dump(settings))
    facts = {key: origins[0][key] for key in ("dataset", "dataset_hash", "folds_hash", "synthetic")}
    runs.write_json(target.provenance, runs.provenance(**facts, members=[run.name for run in members]))
    return len(oof.ids)
