"""Which post-processing suits the mean of k networks, which is submitted? Measured on labeled tiles held back.

Post-processing is tuned on out-of-fold predictions, each of one network, and applied to the mean of all folds. Here
fold 0 of the usual table plays the test set, and five folds are trained on the other 2,400 tiles, with two seeds:

  python benchmarks/postprocessing_of_means.py prepare
  saltseg train recipe_lite0_resized --data tgs-held600 --name held600-0
  saltseg train recipe_lite0_resized --data tgs-held600 --name held600-1 --set train.seed=1
  saltseg predict held600-0
  saltseg predict held600-1
  python benchmarks/postprocessing_of_means.py compare held600-0 held600-1

``compare`` scores the mean of five on the tiles held back under threshold 0.5, the post-processing fitted on single
out-of-fold networks, the one fitted on out-of-fold means of both seeds, and the best that these tiles allow, fitted on
the other half of them. Each with several margins for the selection of steps.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from saltseg import io, predictions, runs
from saltseg.data import competition
from saltseg.metrics import average_precision, bootstrap
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


def compare(input_dir: Path, output_dir: Path, names: list[str]) -> None:
    """Print the table."""
    every = competition.read_train(input_dir / "tgs")
    labeled = [runs.RunDir(output_dir / "runs" / name) for name in names]
    oof = [predictions.load_predictions(run.oof) for run in labeled]
    test = [predictions.load_predictions(run.test) for run in labeled]
    ids = oof[0].ids
    true, held = every.masks_of(ids.tolist()), every.masks_of(test[0].ids.tolist())
    singles = [step_selection.OutOfFold(part.probabilities, true, np.asarray(part.fold), None) for part in oof]
    mean = predictions.mean_predictions(oof)
    means = step_selection.OutOfFold(mean.probabilities, true, np.asarray(mean.fold), None)
    halves = threshold_search.random_parts(len(held), 2)
    for name, part, fitted_on in zip(names, test, singles, strict=True):
        at_half = average_precision.average_precision(THRESHOLD_HALF.apply(part.probabilities), held)
        own = step_selection.OutOfFold(part.probabilities, held, halves, None)
        print(f"\n{name}: mean of five on {len(held)} tiles held back; gain over 0.5, paired 95% interval")
        print("| post-processing | score | gain | interval | parameters |\n|---|---|---|---|---|")
        print(f"| threshold 0.5 | {at_half.mean():.4f} | | | |")
        for title, images in (("fitted on single networks", fitted_on), ("fitted on means of two", means)):
            for margin in MARGINS:
                chosen = _postprocessing(images, margin)
                scores = average_precision.average_precision(chosen.apply(part.probabilities), held)
                _row(f"{title}, gain above {margin:g} standard errors", at_half, scores, str(chosen.to_dict()))
        best = step_selection.cross_fit(own, margin=0)
        _row("cross-fitted on these tiles", at_half, best, "")


def _postprocessing(images: step_selection.OutOfFold, margin: float) -> Postprocessing:
    selected = [result.fit for result in step_selection.forward_selection(images, margin=margin) if result.selected]
    return selected[-1].per_group[None] if selected else THRESHOLD_HALF


def _row(title: str, before: np.ndarray, after: np.ndarray, parameters: str) -> None:
    gain = bootstrap.paired_difference(before, after)
    low, high = gain.interval
    print(f"| {title} | {after.mean():.4f} | {gain.mean:+.4f} | {low:+.4f} ... {high:+.4f} | {parameters} |")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["prepare", "compare"])
    parser.add_argument("runs", nargs="*", help="for compare")
    parser.add_argument("--input", type=Path, default=Path("input"))
    parser.add_argument("--output", type=Path, default=Path("output"))
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        prepare(arguments.input, arguments.output)
    else:
        compare(arguments.input, arguments.output, arguments.runs)


if __name__ == "__main__":
    main()
