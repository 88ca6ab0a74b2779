"""Verbs about results: score, report, leaderboard, compare, publish."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from saltseg.cli.command import INPUT, OUTPUT, InputDir, OutputDir, Result, Run, verb
from saltseg.errors import InputError

SHOWN = 20  # reasons for a refusal, printed without --all


@verb("score")
def score(
    submission: Annotated[Path, Argument(metavar="SUBMISSION", help="the CSV file to score: id,rle_mask")],
    solution: Annotated[Path, Argument(metavar="SOLUTION", help="the true masks: id,rle_mask and optionally usage")],
    every: Annotated[bool, Option("--all", help="list every reason for a refusal")] = False,
) -> Result:
    """Score a submission against known masks, as on Kaggle.

      saltseg score output/runs/synthetic-demo/submission.csv input/synthetic/solution.csv

    Prints the score of all images, of the public third and of the private rest, and a table by coverage: the share of
    salt in the true mask. A file that Kaggle would refuse is refused, with row and reason.
    """
    from saltseg.data import submission as submissions

    table = submissions.check(solution, allow_usage=True)
    refused = [("solution", problem) for problem in table.problems]
    if not refused:
        refused = [("submission", problem) for problem in submissions.check(submission, table.ids).problems]
    if refused:  # Kaggle shows the first alone
        first = refused if every else refused[:SHOWN]
        for kind, problem in first if len(refused) > 1 else ():
            print(f"{kind}: {problem}")
        file = solution if refused[0][0] == "solution" else submission
        if len(refused) == 1:
            raise InputError(f"{file} is refused: {refused[0][1]}; correct it")
        listed = "" if len(first) == len(refused) else f", the first {len(first)} are listed (--all lists every one)"
        raise InputError(f"{file} is refused for {len(refused):,} reason{'s' * (len(refused) > 1)}{listed}; correct it")

    result = submissions.score(submission, solution)
    for name, value, count in (
        ("all", result.all, result.n),
        ("public", result.public, result.n_public),
        ("private", result.private, result.n_private),
    ):
        shown = "     -" if value is None else f"{value:.4f}"
        print(f"{name:<8} {shown}  {count:>6} images")
    print("\ncoverage of the true mask  images   score")
    for row in result.per_coverage:
        number = int(row["coverage_class"])
        label = "no salt" if number == 0 else f"{10 * (number - 1)}-{10 * number} %"
        print(f"{label:<25} {row['n']:>7}  {row['score']:.4f}")
    return 0


@verb("report")
def report(
    run: Run,
    picture: Annotated[
        Path | None,
        Option(metavar="PNG", help="also draw a good, a middling and a poor tile alone", show_default=False),
    ] = None,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Write the page about a run: scores and their caveats, curves, tables, images.

      saltseg report synthetic-demo
      saltseg report tgs-unet --input /data/seismic

    report.html is one file that works offline: learning curves with the learning rate, the score by threshold,
    precision and recall, scores by coverage and by fold, and the best, median and worst training and validation images.
    The images come from input/DATASET, the dataset that the run was trained on. Where it is missing or has changed, the
    page has no images.
    """
    from saltseg import io, runs
    from saltseg.pipeline import workspace
    from saltseg.reporting import report

    source, place = runs.existing_run(output_dir, run), workspace.Workspace(input_dir, output_dir)
    try:
        place.root(source)
    except InputError as error:
        print(f"note: the page has no images: {error}; --input says where datasets are")
    print(report.write(source, place))
    if picture:
        io.write_atomic(picture, report.picture(source, place))
        print(picture)
    return ["saltseg", "leaderboard"]


@verb("leaderboard")
def leaderboard(output_dir: OutputDir = OUTPUT) -> Result:
    """Compare all runs and blends: scores out of fold and on the solution, gain of TTA, training time.

      saltseg leaderboard

    Prints a table, best cross-fitted score first within each dataset, and writes the same as output/leaderboard.html.
    A run that cannot be read is left out and named.
    """
    from saltseg.reporting import leaderboard

    board = leaderboard.read(output_dir)
    print(leaderboard.table(board))
    print(f"\npage: {leaderboard.write(output_dir, board)}")
    return ["saltseg", "report", board.rows[0].name]


@verb("compare")
def compare(
    one: Annotated[str, Argument(metavar="RUN", help="a run or blend, or one of output/published")],
    other: Annotated[str, Argument(metavar="OTHER", help="the run or blend to compare it with")],
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Compare two runs image by image, on the images that both predicted out of fold.

      saltseg compare tgs-unet_spec tgs-unet
      saltseg compare tgs-combined mine        either may be one that is published only

    At threshold 0.5; with a threshold and a minimum area of each run's own; with all steps of tuned post-processing,
    whether the run submits it or not. The last two are cross-fitted. If the interval of a difference includes zero, no
    difference is detected. The interval is over images, or over sections where they are known. It does not include the
    noise between trainings: two seeds of one recipe differ by 0.007 to 0.009 (one sigma) after this project's short
    trainings, and by 0.001 to 0.002 after the long ones of 2018's teams.
    """
    from saltseg import runs
    from saltseg.pipeline import compare, workspace

    first, second = (runs.existing_run(output_dir, name, published=True) for name in (one, other))
    found = compare.compare(first, second, workspace.Workspace(input_dir, output_dir))
    print(f"{found['n']} images, mAP out of fold; difference: {second.name} minus {first.name}")
    print(f"  95 % intervals resample by {found['by']}")
    for name, count in found["fitted_on"].items():
        if count != found["n"]:
            print(f"  the post-processing of {name} was fitted on all its {count} images, which favors it")
    if older := [name for name, nested in found["nested"].items() if not nested]:
        names = " and ".join(older)
        print(f"  post-processed, the steps of {names} were selected on all folds, which raises that score a little")
    titles = {
        "score_at_half": "at 0.5",
        "score_tuned_cv": "threshold and area",
        "score_postprocessed_cv": "post-processed",
    }
    for kind, title in titles.items():
        part = found[kind]
        low, high = part["interval"]
        verdict = "better" if low > 0 else "worse" if high < 0 else "no detectable difference"
        print(
            f"  {title:<18} {part[first.name]:.4f} → {part[second.name]:.4f}  "
            f"{part['difference']:+.4f} ({low:+.4f} to {high:+.4f})  {verdict}"
        )
    return ["saltseg", "leaderboard"] if runs.all_runs(output_dir) else 0  # both may be published only


@verb("publish")
def publish(
    run: Run,
    predictions: Annotated[
        bool, Option("--predictions", help="also the probabilities of each fold, some MB, to blend with later")
    ] = False,
    weights: Annotated[
        bool, Option("--weights", help="also the networks of each fold in half precision, to go on with later")
    ] = False,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Copy the small files of a run to output/published/RUN, the only results under version control.

      saltseg publish tgs-unet
      saltseg publish tgs-unet --predictions
      saltseg publish tgs-unet --predictions --weights

    Configuration, provenance, the fold table's hash, scores per fold and per image (image_scores.csv), logs,
    post-processing, curves and the submission. No pictures of tiles: the competition's license does not allow sharing
    those. An earlier publication of the run is replaced. A run with pseudo.all_folds has no scores to copy.

    With --predictions and --weights a run outlives the machine: copied to output/runs it goes on. Weights come with
    their license (weights_license.txt); those that learned from the competition's tiles are for research and education.
    """
    from saltseg import runs
    from saltseg.pipeline import workspace
    from saltseg.reporting import publish

    target = publish.publish(
        runs.existing_run(output_dir, run), workspace.Workspace(input_dir, output_dir), predictions, weights
    )
    print(f"{sum(path.is_file() for path in target.rglob('*'))} files in {target}")
    if weights and (
        lacking := [fold.name for fold in sorted(target.glob("fold_*")) if not any(fold.glob("*.safetensors"))]
    ):
        print(f"warning: of {', '.join(lacking)} there are no weights to publish")
    return ["git", "add", str(target)]
