"""What every stage of the ladder scores and what it gave: records of finished stages, and the table of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from saltseg import config, experiments, ladders, storage
from saltseg.inference import compare
from saltseg.inference.steps import Place
from saltseg.runs import RunDir


def record(stage: str, budget: str, run: RunDir, below: RunDir | None, place: Place) -> dict[str, Any]:
    """Figures of a finished stage, ready for JSON.

    score, interval: cross-fitted, under the whole decision rule, from ``postprocess.json``. gain: over ``below``, the
    run that it is measured over, likewise (see `saltseg.inference.compare.compare`); None without such a run. changes:
    what the run says that it changes in its experiment. seconds: training of the folds. n_train, n_pseudo: images of
    the first fold. A blend has members instead of these.
    """
    scores, origin = storage.read_json(run.postprocess), run.read_provenance()
    folds = [storage.read_json(fold.metrics) for fold in run.finished_folds()]
    trained = ladders.experiment(stage, budget)
    gain = None
    if below is not None:
        paired = compare.compare(below, run, place)["whole_rule"]
        gain = {"over": ladders.STAGES[stage].over} | {key: paired[key] for key in ("difference", "interval")}
    return {
        "stage": stage,
        "what": ladders.STAGES[stage].what,
        "run": run.name,
        "score": scores["cross_fitted"]["score"],
        "interval": scores["cross_fitted"]["interval"],
        "score_at_half": scores["score_at_half"],
        "n": scores["n"],
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
        **{key: origin[key] for key in ("dataset_hash", "folds_hash", "git_commit", "machine")},
    }


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


def markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    """The table of finished stages, with what has to be said about it."""
    columns = ("stage", "what", "mAP cross-fitted [95 %]", "gain [95 %]", "over", "minutes")
    rows = []
    for entry in entries:
        (low, high), gain = entry["interval"], entry["gain"]
        rows.append(
            (
                f"`{entry['stage']}`",
                entry["what"] + (f" (`{entry['experiment']}`)" if "experiment" in entry else ""),
                f"{entry['score']:.4f} [{low:.4f}, {high:.4f}]",
                f"{gain['difference']:+.4f} [{gain['interval'][0]:+.4f}, {gain['interval'][1]:+.4f}]" if gain else "",
                f"`{gain['over']}`" if gain else "",
                f"{entry['seconds'] / 60:.0f}" if "seconds" in entry else "",
            )
        )
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, ("---",) * len(columns), *rows)]
    said = (
        f"{entries[0]['n']:,} images, each scored by a network that never saw it, under its stage's whole decision "
        "rule, the values of which were fitted on other images. Gains are paired, image by image. Intervals are over "
        "images alone, one seed each: two seeds of one recipe differ by up to 0.007 after short trainings. Minutes: "
        "training of the folds, without pretraining and predictions. No epoch was chosen."
    )
    return "\n".join([*lines, "", said])
