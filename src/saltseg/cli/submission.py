"""Verbs that go from predictions to a submission and its score: tune, submit, blend, evaluate."""

import json
from typing import Annotated, Any, Literal

from typer import Argument, Option

from saltseg.cli.command import (
    INPUT,
    OUTPUT,
    Dataset,
    InputDir,
    OutputDir,
    Result,
    Run,
    RunOrModel,
    RuntimeChanges,
    progress_bar,
    runtime,
    verb,
)
from saltseg.errors import InputError


@verb("tune")
def tune(run: Run, input_dir: InputDir = INPUT, output_dir: OutputDir = OUTPUT) -> Result:
    """Tune the post-processing of a run on its out-of-fold predictions.

      saltseg tune tgs-unet

    Searches every threshold in steps of 1/255 and every minimum area, exactly. Three scores are printed:

      at 0.5        no tuning
      argmax        the best post-processing, scored on the images it was chosen on: biased upwards
      cross-fitted  each fold scored with the steps and parameters that the other folds suggest, with its interval

    Threshold, minimum area, hole filling, hysteresis and, for networks with a presence head, a threshold on the
    presence probability are tried in this order. A step is selected only if it raises the score of the steps selected
    before it by more than a standard error. The submission gets the steps selected on all folds. Their scores in the
    table of steps are slightly optimistic; the cross-fitted score is not, as it selects anew without each fold.
    Writes postprocess.json and threshold_curve.png.
    """
    from saltseg import io, runs
    from saltseg.pipeline import tune, workspace
    from saltseg.postprocessing.parameters import Postprocessing
    from saltseg.reporting import caveats, plots

    source = runs.existing_run(output_dir, run)
    found = tune.tune_run(source, workspace.Workspace(input_dir, output_dir))
    _print_tuning(found)
    described = caveats.describe_postprocessing(Postprocessing.from_dict(found["postprocessing"]))
    print(f"selected: {found['selected']}, {described}")
    if "why" in found:
        print(f"because {found['why']}")
    curve = source.path / "threshold_curve.png"
    io.write_atomic(curve, plots.threshold_curve(found))
    print(f"curve: {curve}")
    return ["saltseg", "submit", source.name]


def _print_tuning(found: dict[str, Any]) -> None:
    """Scores and steps of postprocess.json."""
    fitted, gain, argmax = found["cross_fitted"], found["tuning_gain"], found["argmax"]
    best, (low, high) = argmax["postprocessing"], fitted["interval"]
    print(f"out of fold, {found['n']} images, groups: {found['cross_fit_groups']}")
    print(f"  at 0.5        {found['score_at_half']:.4f}")
    print(f"  argmax        {argmax['score']:.4f}  threshold {best['threshold']}/255, area {best['min_area']}")
    print(f"  cross-fitted  {fitted['score']:.4f}  95 % interval {low:.4f} to {high:.4f}, by {found['by']}")
    low, high = gain["interval"]
    print(f"  tuning gain  {gain['mean']:+.4f}  {low:+.4f} to {high:+.4f} (paired)")
    print("steps, each added to those selected before it: score, gain, 95 % interval (paired)")
    for step in found["steps"]:
        mean, (low, high) = step["gain"]["mean"], step["gain"]["interval"]
        selected = "selected" if step["selected"] else "not selected"
        print(f"  {step['step']:<18}  {step['score']:.4f}  {mean:+.4f}  {low:+.4f} to {high:+.4f}  {selected}")


@verb("submit")
def submit(
    run: Run,
    postprocessing_from: Annotated[
        str | None,
        Option(metavar="RUN", help="the run or blend whose post-processing applies (default: RUN)", show_default=False),
    ] = None,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Write the submission of a run: post-processed masks of the test images, run-length encoded.

      saltseg submit tgs-unet
      saltseg submit tgs-final --postprocessing-from tgs-student    for a run that cannot tune its own

    submission.csv has exactly the ids and the order of sample_submission.csv; it is read back and compared. Where the
    dataset has a solution (the synthetic one has), it is scored as on Kaggle.
    """
    from saltseg import runs, schemas
    from saltseg.pipeline import submit, tune, workspace
    from saltseg.reporting import caveats

    source = runs.existing_run(output_dir, run)
    other = runs.existing_run(output_dir, postprocessing_from) if postprocessing_from else None
    score = submit.write_submission(source, workspace.Workspace(input_dir, output_dir), other)
    print(f"submission: {source.submission}")
    tuned = schemas.read((other or source).postprocess)
    if tuned["selected"] == "tuned":
        own = schemas.read(source.postprocess)["folds"] if source.postprocess.is_file() else source.finished_folds()
        fitted, submitted = (tune.networks_averaged(run) for run in (other or source, source))
        for sentence in caveats.averaging(fitted, submitted * len(own or tuned["folds"])):
            print(sentence)
    if other is not None:
        print(f"post-processing of {other.name}: {caveats.describe_postprocessing(tune.postprocessing_of(source))}")
    if score:
        print(f"score: {score['all']:.4f} on all {score['n']} test images")
        for part in ("public", "private"):
            if score[part] is not None:
                print(f"  {part} {score[part]:.4f} on {score['n_' + part]}")
    return ["saltseg", "publish" if source.pseudo_labels_from_all_folds() else "report", source.name]


@verb("blend")
def blend(
    members: Annotated[list[str], Argument(metavar="RUN RUN …", help="two or more runs that have predictions")],
    name: Annotated[str, Option(help="the blend's name, a folder under output/blends")],
    weights: Annotated[Literal["equal", "fitted"], Option(help="how runs are weighted")] = "equal",
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Average several runs. The blend can be tuned, submitted and reported like a run.

      saltseg blend tgs-unet tgs-unet_resnet34 --name both
      saltseg blend tgs-unet tgs-unet_resnet34 tgs-fpn --name best --weights fitted

    The runs must share dataset and folds: otherwise an image would be scored by a network that was trained on it.
    Probabilities are averaged image by image, joined by id.

      equal   every run counts once: nothing is tuned, hard to beat among runs of similar score
      fitted  greedy ensemble selection (Caruana et al. 2004): starts from the best run and adds,
              again and again, the run that raises the out-of-fold score most; how often a run was
              added is its weight, which may be 0

    Fitted weights are scored fold by fold, with weights and post-processing fitted on the other folds, and kept only if
    that score is above the one of equal weights. Test images then get the weights fitted on everything; out-of-fold
    predictions of a fold get those fitted on the other folds, so that later scores stay cross-fitted. 4 runs of 4,000
    images take one to two minutes.
    """
    from saltseg import runs
    from saltseg.pipeline import blend, workspace

    if len(set(members)) < max(2, len(members)):
        raise InputError(f"a blend needs two different runs or more, each once; got {', '.join(members)}")
    sources = [runs.existing_run(output_dir, member) for member in members]
    target = runs.RunDir(output_dir / "blends" / runs.run_dir(output_dir, name).name)
    place = workspace.Workspace(input_dir, output_dir)
    with progress_bar(desc="fitting weights", unit="step", disable=weights == "equal") as progress:
        found = blend.blend_runs(sources, target, place, weights, progress)
    print(f"{target.path}: {len(sources)} runs")
    _print_weights(found)
    return ["saltseg", "tune", target.name]


def _print_weights(found: dict[str, Any]) -> None:
    """The weight of each member and, where weights were fitted, the evidence for them."""
    evidence, total = found["evidence"], sum(found["weights"])
    width = max(map(len, found["members"]))
    for name, count in zip(found["members"], found["weights"], strict=True):
        print(f"  {name:<{width}}  {count:>2} of {total}  {count / total:5.1%}")
    if evidence is None:
        return
    low, high = evidence["interval"]
    print(f"out of fold, weights and post-processing cross-fitted over {evidence['groups']}:")
    print(f"  equal weights   {evidence['equal']:.4f}")
    print(f"  fitted weights  {evidence['fitted']:.4f}  {' : '.join(map(str, evidence['weights']))}")
    print(f"  difference     {evidence['difference']:+.4f}  {low:+.4f} to {high:+.4f} (paired, 95 % interval)")
    print(f"  selected        {'fitted' if evidence['selected'] else 'equal: the fitted ones do not beat them'}")
    if evidence["selected"] and low <= 0:
        print("  the interval includes 0: on other images equal weights may do as well")


@verb("evaluate")
def evaluate(
    run: RunOrModel,
    data: Dataset,
    changes: RuntimeChanges = None,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Score a run or a released model on the labeled images of another dataset.

      saltseg evaluate synthetic-unet --data tgs      trained on simulated tiles, evaluated on real ones
      saltseg evaluate salt-simulated --data mine     a model, on your own labels

    Writes output/runs/RUN/on_DATASET.json; of a model output/predictions/MODEL/on_DATASET.json.
    """
    from saltseg import io, releases
    from saltseg.pipeline import evaluate, workspace

    source = releases.find(run, output_dir)
    found = evaluate.evaluate(source, workspace.Workspace(input_dir, output_dir), data, runtime(changes))
    is_model = isinstance(source, releases.ModelDir)
    target = (output_dir / "predictions" / source.name if is_model else source.path) / f"on_{data}.json"
    io.write_json(target, found)
    print(json.dumps(found, indent=2))
    if not found["compared_with_training"]:
        print("note: not all data that it learned from are here, so the images were not compared with all of them")
    print(f"written: {target}")
    return 0 if is_model else ["saltseg", "leaderboard"]
