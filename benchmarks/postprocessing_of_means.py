"""Which post-processing suits the mean of five networks, which is submitted, and how much better than one is it?

Post-processing is tuned on out-of-fold predictions, each of one network, and applied to the mean of all folds. Here
fold 0 of the usual table plays the test set, and five folds are trained on the other 2,400 tiles:

  python benchmarks/postprocessing_of_means.py prepare
  saltseg train recipe_lite0_resized --data tgs-held600 --name held600-0
  saltseg predict held600-0
  python benchmarks/postprocessing_of_means.py compare held600-0 --with tgs-lite0_resized,tgs-combined

``compare`` scores the mean of five on the tiles held back under threshold 0.5, under the post-processing fitted on
single out-of-fold networks, under the one fitted on out-of-fold means, and under the best that these tiles allow,
fitted on the other half of them. Each with several margins for the selection of steps. For an out-of-fold mean, the
published runs of --with add their networks, which have not seen the tile either.

A second table has the score of one to five networks, the mean over all choices of that many.

Runs of one fold table need no tiles held back: each tile has one network of each run that has not seen it. Which
post-processing suits their mean, the one fitted on single networks or the one fitted on means, both on other folds?

  python benchmarks/postprocessing_of_means.py folds tgs-lite0_42_student tgs-lite0_42

`input/tgs` is the cut of 3,000 tiles (benchmarks/tgs_split.py) under that name.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from harness import one_line
from saltseg import io, predictions, runs
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.metrics import average_precision, bootstrap
from saltseg.pipeline.workspace import sections_of
from saltseg.postprocessing import step_selection, threshold_search
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing

NAME = "tgs-held600"
HELD_FOLD = "0"
MARGINS = (0, 1, 1.96)


def prepare(input_dir: Path, output_dir: Path) -> None:
    """Write the dataset: links to the tiles, tables with the held-back fold as the test set."""
    source, target = (input_dir / "tgs").resolve(), input_dir / NAME
    with (output_dir / "folds" / "tgs-stratified5.csv").open() as file:
        held = {row["id"] for row in csv.DictReader(file) if row["fold"] == HELD_FOLD}
    with (source / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    with io.atomic_dir(target) as new:
        for folder in ("train/images", "train/masks", "test/images"):
            (new / folder).mkdir(parents=True)
        for row in rows:
            name = f"{row['id']}.png"
            kinds = ["test/images"] if row["id"] in held else ["train/images", "train/masks"]
            for kind in kinds:
                (new / kind / name).symlink_to(source / "train" / Path(kind).name / name)
        _write(new / "train.csv", [row for row in rows if row["id"] not in held])
        _write(new / "solution.csv", [row for row in rows if row["id"] in held])
        _write(new / "sample_submission.csv", [row | {"rle_mask": ""} for row in rows if row["id"] in held])
    print(f"{target}: {len(rows) - len(held)} labeled tiles, {len(held)} held back")


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "rle_mask"])
        writer.writeheader()
        writer.writerows(rows)


def compare(input_dir: Path, output_dir: Path, name: str, others: Sequence[str]) -> None:
    """Print both tables."""
    every = competition.read_train(input_dir / "tgs")
    run = runs.RunDir(output_dir / "runs" / name)
    oof, test = predictions.load_predictions(run.oof), predictions.load_predictions(run.test)
    networks = [predictions.load_predictions(fold.test) for fold in run.finished_folds()]
    true, held = every.masks_of(oof.ids.tolist()), every.masks_of(test.ids.tolist())
    fitted_on = {"single networks": oof}
    members = [oof]
    for other in others:
        published = runs.RunDir(output_dir / "published" / other)
        unseen = predictions.reorder(predictions.collate_folds(published.finished_folds()), oof.ids)
        members.append(replace(unseen, fold=oof.fold))  # by other folds, but no network has seen the tile
        fitted_on[f"means of {len(members)}"] = predictions.mean_predictions(members)
    at_half = _scores(test, THRESHOLD_HALF, held)
    print(f"{name}: mean of {len(networks)} on {len(held)} tiles held back; gains are paired, with 95 % intervals\n")
    print("| post-processing | score | gain over 0.5 | parameters |\n|---|---|---|---|")
    print(f"| threshold 0.5 | {at_half.mean():.4f} | | |")
    tuned = dict[str, Postprocessing]()
    for title, predicted in fitted_on.items():
        images = step_selection.OutOfFold(predicted.probabilities, true, np.asarray(oof.fold), None)
        for margin in MARGINS:
            selected = _postprocessing(images, margin)
            tuned[f"fitted on {title}, gain above {margin:g} standard errors"] = selected
    for title, selected in tuned.items():
        _row(title, at_half, _scores(test, selected, held), str(selected.to_dict()))
    halves = threshold_search.random_parts(len(held), 2)
    own = step_selection.OutOfFold(test.probabilities, held, halves, None)
    _row("cross-fitted on these tiles", at_half, step_selection.cross_fit(own, margin=0).average_precision, "")

    single = tuned[f"fitted on single networks, gain above {MARGINS[1]:g} standard errors"]
    print("\n| networks | at 0.5 | over one | post-processed | over one | gain of post-processing |")
    print("|---|---|---|---|---|---|")
    one = [_mean_of(networks, 1, chosen, held) for chosen in (THRESHOLD_HALF, single)]
    for count in range(1, len(networks) + 1):
        half, processed = [_mean_of(networks, count, chosen, held) for chosen in (THRESHOLD_HALF, single)]
        cells = [f"{half.mean():.4f}", _gain(one[0], half), f"{processed.mean():.4f}", _gain(one[1], processed)]
        print(f"| {count} | {' | '.join(cells)} | {_gain(half, processed)} |")
    print(f"\nlost by averaging: {_gain(processed - half, one[1] - one[0])} of the gain of post-processing")


def folds(input_dir: Path, output_dir: Path, names: Sequence[str]) -> None:
    """Print a table: the first run alone, the mean of the first two, of the first three, and so on.

    On the tiles that all of them predicted.

    For each fold, which steps stay and what their parameters are is decided on the other folds alone.
    """
    found = [runs.existing_run(output_dir, name, published=True) for name in names]
    parts = [predictions.collate_folds(run.finished_folds()) for run in found]
    shared = np.all([np.isin(parts[0].ids, part.ids) for part in parts], axis=0)
    if shared.sum() < 2:
        raise InputError(f"{', '.join(names)} share {shared.sum()} out-of-fold tiles; train a fold of all of them")
    members = [predictions.reorder(part, parts[0].ids[shared]) for part in parts]
    ids, fold = members[0].ids.tolist(), np.asarray(members[0].fold)
    root = input_dir / "tgs"
    true, sections = competition.read_train(root).masks_of(ids), sections_of(root, ids)
    print(f"{len(ids)} tiles out of fold; gains are paired, with 95 % intervals\n")
    print("| mean of | at 0.5 | fitted on single networks | over 0.5 | fitted on means | over fitted on single |")
    print("|---|---|---|---|---|---|")
    for count in range(1, len(members) + 1):
        mean = predictions.mean_predictions(members[:count])
        singles = np.stack([one.probabilities for one in members[:count]])
        half = _scores(mean, THRESHOLD_HALF, true)
        of_singles, of_means = half.copy(), half.copy()
        for number in tqdm(np.unique(fold).tolist(), desc=f"mean of {count}", unit="fold", leave=False):
            own, rest = fold == number, np.flatnonzero(fold != number)
            again = np.tile(rest, count)  # each tile once for each of its networks; they resample together
            labels = again if sections is None else sections[again]
            scored = predictions.reorder(mean, mean.ids[own])
            for scores, values, index, of in (
                (of_singles, singles[:, rest].reshape(-1, *true.shape[1:]), again, labels),
                (of_means, mean.probabilities[rest], rest, labels[: len(rest)]),
            ):
                groups = threshold_search.folds_or_parts(fold[rest])[np.searchsorted(rest, index)]
                images = step_selection.OutOfFold(values, true[index], groups, None)
                scores[own] = _scores(scored, _postprocessing(images, step_selection.MARGIN, of), true[own])
        first, second = _gain(half, of_singles, sections), _gain(of_singles, of_means, sections)
        cells = [f"{half.mean():.4f}", f"{of_singles.mean():.4f}", first, f"{of_means.mean():.4f}", second]
        print(f"| {', '.join(names[:count])} | {' | '.join(cells)} |")


def _gain(before: np.ndarray, after: np.ndarray, sections: np.ndarray | None = None) -> str:
    gain = bootstrap.paired_difference(before, after, sections)
    low, high = gain.interval
    return f"{gain.mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def _scores(predicted: predictions.Predictions, chosen: Postprocessing, true: np.ndarray) -> np.ndarray:
    return average_precision.average_precision(chosen.apply(predicted.probabilities), true)


def _mean_of(
    networks: Sequence[predictions.Predictions], count: int, chosen: Postprocessing, true: np.ndarray
) -> np.ndarray:
    """Score of each tile, averaged over all choices of ``count`` networks."""
    means = [predictions.mean_predictions(some) for some in combinations(networks, count)]
    return np.mean([_scores(mean, chosen, true) for mean in means], axis=0)


def _postprocessing(
    images: step_selection.OutOfFold, margin: float, sections: np.ndarray | None = None
) -> Postprocessing:
    tried = step_selection.forward_selection(images, margin=margin, sections=sections)
    return step_selection.selected_postprocessing(tried)


def _row(title: str, before: np.ndarray, after: np.ndarray, parameters: str) -> None:
    print(f"| {title} | {after.mean():.4f} | {_gain(before, after)} | {parameters} |")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["prepare", "compare", "folds"])
    parser.add_argument(
        "runs", nargs="*", default=["held600-0"], metavar="run", help="for compare one, for folds several"
    )
    parser.add_argument("--with", dest="others", default="", help="published runs for out-of-fold means: A,B")
    parser.add_argument("--input", type=Path, default=Path("input"))
    parser.add_argument("--output", type=Path, default=Path("output"))
    arguments = parser.parse_args()
    if arguments.step == "folds" and len(arguments.runs) < 2:
        parser.error("folds needs two runs or more")
    if arguments.step == "compare" and len(arguments.runs) > 1:
        parser.error("compare takes one run; give others by --with")
    if arguments.step == "prepare":
        prepare(arguments.input, arguments.output)
    elif arguments.step == "folds":
        folds(arguments.input, arguments.output, arguments.runs)
    else:
        others = [name for name in arguments.others.split(",") if name]
        compare(arguments.input, arguments.output, arguments.runs[0], others)


if __name__ == "__main__":
    with one_line():
        main()
