"""What every stage of the ladder scores and what it gave: records of finished stages, and the table of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saltseg import config, experiments, ladders, storage
from saltseg.core import metric
from saltseg.errors import InputError
from saltseg.inference import compare, levers, lineage, pseudo, steps
from saltseg.inference.steps import Place
from saltseg.runs import RunDir

WHERE = ("name", "pseudo.images", "train.start_from")  # settings that say where things lie, and not what they are


def record(stage: str, budget: str, run: RunDir, below: RunDir | None, place: Place) -> dict[str, Any]:
    """Figures of a finished stage, ready for JSON.

    score, interval: cross-fitted, under the whole decision rule. gain: over ``below``, the run it is measured over,
    paired; None without such a run. tenths: ten times the score of each image in id order, a hexadecimal digit each.
    changes: what the run says that it changes in its experiment. seconds: training of the folds. n_train, n_pseudo:
    images of the first fold. A blend has members instead of these.
    """
    steps.own_rule(run)  # of these predictions, or it says so
    own, origin = compare.whole_rule(run, place), run.read_provenance()
    folds = [storage.read_json(fold.metrics) for fold in run.finished_folds()]
    trained = ladders.experiment(stage, budget)
    gain = None
    if below is not None:
        paired = own - compare.whole_rule(below, place)
        interval = list(metric.bootstrap_interval(paired))
        gain = {"over": ladders.STAGES[stage].over, "difference": float(paired.mean()), "interval": interval}
    return {
        "stage": stage,
        "what": ladders.STAGES[stage].what,
        "run": run.name,
        "score": float(own.mean()),
        "interval": list(metric.bootstrap_interval(own)),
        "score_at_half": storage.read_json(run.postprocess)["score_at_half"],
        "n": len(own),
        "gain": gain,
        **(
            {
                "experiment": trained,
                "changes": config.differences(experiments.named(trained), run.read_config()),
                "n_train": folds[0]["n_train"],
                "n_pseudo": folds[0]["n_pseudo"],
                "seconds": sum(fold["seconds"] for fold in folds),
            }
            if folds
            else {"members": origin["members"]}
        ),
        "transduction": lineage.transduction(run),
        **{key: origin[key] for key in ("dataset_hash", "folds_hash", "git_commit", "machine")},
        "tenths": levers.to_digits(own),
    }


def demand_current(
    run: RunDir,
    settings: config.Config,
    teachers: Sequence[RunDir],
    pretraining: tuple[Path, config.Config] | None = None,
) -> None:
    """Raise InputError for a run, finished or not, that is not what the stage would be if it were made now.

    settings: what the stage is trained with now. teachers: the runs that it learns or goes on from. pretraining: the
    folder of what it was pretrained by, and what that is trained with now.
    """
    _demand_same(run, settings)
    made = [(teacher.name, finished(teacher)) for teacher in teachers]
    if pretraining is not None and (before := RunDir(pretraining[0])).provenance.is_file():
        _demand_same(before, pretraining[1])
        made.append((f"pretraining {before.name}", before.read_provenance()["created"]))
    created = run.read_provenance()["created"]
    for name, when in made:
        if not when:
            raise InputError(f"{run.name} learnt from {name}, which is gone; restore that, or remove {run.path}")
        if when > created:
            raise InputError(f"{run.name} learnt from an earlier {name} than there is now; remove {run.path}")
    for teacher in teachers:
        if teacher.name == settings.pseudo.teacher and teacher.pseudo.is_file():
            pseudo.demand_same_labels(run, [teacher])


def _demand_same(made: RunDir, settings: config.Config) -> None:
    changed = config.differences(made.read_config(), settings)
    changed = [line for line in changed if line.split(":")[0] not in WHERE]
    if changed:
        raise InputError(f"{made.name} is another training ({'; '.join(changed[:3])}); remove {made.path}")


def blend_is_current(blend: RunDir, members: Sequence[RunDir]) -> bool:
    """Whether a blend is the mean of these runs as they are now."""
    if not (blend.provenance.is_file() and blend.report.is_file()):
        return False
    origin = blend.read_provenance()
    same = origin["members"] == [member.name for member in members]
    return same and all("" < finished(member) <= origin["created"] for member in members)


def finished(run: RunDir) -> str:
    """When the last fold of a run was finished, ISO 8601 in UTC; "" where none is."""
    return max((storage.read_json(fold.metrics)["finished"] for fold in run.finished_folds()), default="")


def line(entry: Mapping[str, Any]) -> str:
    """One stage in one line: its score with the interval, and what it gave."""
    low, high = entry["interval"]
    text = f"{entry['stage']}: {entry['score']:.4f} ({low:.4f} to {high:.4f}) out of fold, cross-fitted"
    if entry["gain"] is None:
        return text
    low, high = entry["gain"]["interval"]
    return (
        f"{text}; {entry['gain']['difference']:+.4f} ({low:+.4f} to {high:+.4f}) over {entry['gain']['over']}, paired"
    )


def markdown(entries: Sequence[Mapping[str, Any]], budget: str) -> str:
    """The table of finished stages of a budget, with what has to be said about it."""
    columns = ("stage", "what", "mAP cross-fitted [95 %]", "gain [95 %]", "over", "minutes")
    rows = []
    for entry in entries:
        (low, high), gain = entry["interval"], entry["gain"]
        rows.append(
            (
                f"`{entry['stage']}`",
                entry["what"] + (f" (`{entry['experiment']}`)" if "experiment" in entry else ""),
                f"{entry['score']:.4f} [{low:.4f}, {high:.4f}]",
                levers.signed((gain["difference"], *gain["interval"]) if gain else None),
                f"`{gain['over']}`" if gain else "",
                f"{entry['seconds'] / 60:.0f}" if "seconds" in entry else "",
            )
        )
    said = [
        f"{entries[0]['n']:,} images, each scored by a network that never saw it, under its stage's whole decision "
        "rule, the values of which were fitted on other images. Gains are paired, image by image. Intervals are over "
        f"images alone, and there is one training each; {ladders.BUDGETS[budget].noise}. Minutes: training of "
        "the folds, without pretraining and predictions. No epoch was chosen."
    ]
    if entries[0]["stage"] in ladders.EFFICIENCY:
        said.append(
            "Fewer labels are a part of more, the same for all starts. Compare starts at one number of labels: the "
            "curve over labels is not as fair, since the one epoch in which the rate rises is a larger share of fewer."
        )
    if any(entry.get("transduction") for entry in entries):
        names = ", ".join(f"`{entry['stage']}`" for entry in entries if entry.get("transduction"))
        said.append(f"Test images, without their labels, helped to train {names} (transduction).")
    return f"{levers.markdown_table(columns, rows)}\n\n{' '.join(said)}"
