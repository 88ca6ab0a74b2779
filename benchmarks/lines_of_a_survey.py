"""How many lines of a survey must be labeled, and from which weights should a training start?

  python benchmarks/lines_of_a_survey.py FOLDER

simulates a survey and trains `recipe_lite0_resized` on 1, 3, 5 and 10 of its inlines, for as many steps each, from

  imagenet    ImageNet weights, as the recipe does
  simulated   weights of a training on simulated tiles, which begins with ImageNet weights
  tgs         the released model salt-tgs, which was trained on tiles of TGS

and scores all on the same lines, on which none was trained. The same command goes on after an interruption.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from harness import one_line
from saltseg.pipeline.survey_score import score_survey
from saltseg.seismic.volume import Survey

EXPERIMENT = "recipe_lite0_resized"
LABELED = {
    1: (160,),
    3: (120, 160, 200),
    5: (110, 135, 160, 185, 210),
    10: (105, 115, 125, 135, 145, 155, 165, 175, 195, 205),
}
IMAGES = 2400  # that a training sees, repeats counted
PRETRAINED = "simulated"
STARTS = {
    "imagenet": "",
    "simulated": "file:{output}/pretrained/" + PRETRAINED + "/weights.safetensors",
    "tgs": "file:{models}/salt-tgs/weights.safetensors",
}
SHORT = ("--set", "train.schedule.warmup_epochs=1")


def saltseg(*words: object) -> None:
    """Run a command; ends this program where it fails."""
    print("saltseg", *words, flush=True)
    subprocess.run([sys.executable, "-m", "saltseg", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def measure(folder: Path) -> None:
    """Train, predict and score everything that is missing; print the table."""
    folder = folder.resolve()
    survey, truth, output = folder / "survey.sgy", folder / "survey_mask.sgy", folder / "output"
    places = ("--input", folder / "input", "--output", output)
    if not survey.exists():
        saltseg("simulate-survey", survey)
    again = ("--tiles", 2000, "--epochs", 4, "--set", "train.val_every_n_epochs=4", *SHORT)
    saltseg("pretrain", EXPERIMENT, "--method", "synthetic", "--name", PRETRAINED, *again, *places)
    unseen = sorted({line for lines in LABELED.values() for line in lines})
    true = Survey.open(truth)
    print("| labeled inlines | start | IoU | precision | recall |\n|---|---|---|---|---|")
    for count, lines in LABELED.items():
        numbers, data = ",".join(map(str, lines)), f"lines-{count}"
        cut = ("--labels", truth, "--inlines", numbers, "--step", 25, "--name", data, "--input", folder / "input")
        saltseg("lines", survey, *cut)
        tiles = len(list((folder / "input" / data / "train" / "images").iterdir()))
        epochs = round(IMAGES / (0.9 * tiles))
        for start, source in STARTS.items():
            name, target = f"{data}-{start}", folder / f"{data}-{start}.sgy"
            weights = source.format(output=output, models=Path(__file__).resolve().parents[1] / "models")
            changes = {"train.epochs": epochs, "train.val_every_n_epochs": epochs, "train.init_from": weights}
            settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
            if not target.exists():
                how = ("--data", data, "--holdout", 0.1, "--name", name, *settings, *SHORT)
                saltseg("train", EXPERIMENT, *how, *places)
                saltseg("predict", name, survey, "--to", target, "--along", "inline", "--tta", "identity", *places)
            mask = target.with_name(f"{target.stem}_mask.sgy")
            total, _ = score_survey(Survey.open(mask), true, unseen)
            scores = total.scores
            print(
                f"| {count} | {start} | {scores.iou:.3f} | {scores.precision:.3f} | {scores.recall:.3f} |", flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    with one_line():
        measure(parser.parse_args().folder)
