"""Do the demo and one real training give the numbers that they gave before the redesign? To the digit.

They did at fee576b. The commit after it resamples tiles with torch, 2e-7 apart at the input. From there on the script
shows what rounding makes of a short training.

  python benchmarks/same_numbers.py                     trains both and compares with benchmarks/same_numbers.json
  python benchmarks/same_numbers.py --record FOLDER     writes the numbers of an output folder as the reference

The demo is simulated. The real training is fold 0 of ``recipe_lite0_resized`` on the 3,000 labeled TGS tiles for one
epoch in float32; it is left out where input/tgs is not there. The cross-fitted score is not compared: its definition
has changed since. Sums depend on the processor and on the number of threads, so the reference holds for the machine
that it names, with one thread.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = Path(__file__).with_suffix(".json")
RUNS = {
    "synthetic-demo": [
        ["prepare", "--source", "synthetic", "--name", "synthetic", "--train", "300", "--test", "100"],
        ["run", "demo", "--data", "synthetic", "--set", "train.precision=32"],
    ],
    "tgs-one": [
        ["run", "recipe_lite0_resized", "--data", "tgs", "--folds", "0", "--name", "tgs-one"]
        + [part for setting in ("train.epochs=1", "train.schedule.warmup_epochs=0", "train.val_every_n_epochs=1",
                                "train.precision=32") for part in ("--set", setting)],
    ],
}  # fmt: skip
FIGURES = ("log_loss", "valid_pixel_accuracy", "score_at_half", "score_at_half_no_tta", "train_pixel_accuracy",
           "train_score_at_half", "train_loss", "valid_loss", "best_epoch")  # fmt: skip


def digest(path: Path) -> str:
    """SHA-256 over ids and probabilities of a file of predictions."""
    with np.load(path, allow_pickle=False) as file:
        return hashlib.sha256("\n".join(file["ids"].tolist()).encode() + file["probabilities"].tobytes()).hexdigest()


def numbers(run: Path) -> dict[str, Any]:
    """What a run scored, fold by fold and as a whole, with digests of its predictions and of its submission."""
    summary = json.loads((run / "postprocess.json").read_text())
    found: dict[str, Any] = {"score_at_half": summary["score_at_half"], "log_loss": summary["log_loss"]}
    found |= {"curve": hashlib.sha256(json.dumps(summary["curve"]).encode()).hexdigest()}
    chosen = summary.get("postprocessing") or summary["rule"]
    found["threshold_and_area"] = [chosen["threshold"], chosen["min_area"]]
    for fold in sorted(run.glob("fold_*")):
        metrics = json.loads((fold / "metrics.json").read_text())
        found[fold.name] = {name: metrics[name] for name in FIGURES}
    found |= {name: digest(run / f"{name}.npz") for name in ("oof", "test")}
    found["submission"] = hashlib.sha256((run / "submission.csv").read_bytes()).hexdigest()
    return found


def machine() -> str:
    """Processor as the operating system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = [line.partition(":")[2].strip() for line in lines if line.startswith(("cpu family", "model\t", "stepping"))]
    return f"{platform.machine()} {'-'.join(model[:3])}"


def main() -> int:
    """Train, compare, print every difference; exit code 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="an output folder to take the reference from")
    parser.add_argument("--input", type=Path, default=Path("input"), help="where tgs is (default: input)")
    arguments = parser.parse_args()
    if arguments.record:
        found = {name: numbers(arguments.record / "runs" / name) for name in RUNS}
        REFERENCE.write_text(json.dumps({"machine": machine(), "runs": found}, indent=1) + "\n")
        return 0
    reference, different = json.loads(REFERENCE.read_text()), 0
    print(f"reference: {reference['machine']}; here: {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        places = ["--input", f"{folder}/input", "--output", f"{folder}/output"]
        (Path(folder) / "input").mkdir()
        if (arguments.input / "tgs").exists():
            (Path(folder) / "input" / "tgs").symlink_to((arguments.input / "tgs").resolve())
        for name, commands in RUNS.items():
            if name.startswith("tgs") and not (Path(folder) / "input" / "tgs").exists():
                print(f"{name}: left out, there is no {arguments.input / 'tgs'}")
                continue
            for command in commands:
                chosen = places if command[0] != "prepare" else places[:2]
                subprocess.run(
                    [sys.executable, "-m", "saltseg", *command, *chosen],
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    check=True,
                )
            found = numbers(Path(folder) / "output" / "runs" / name)
            wrong = {
                key: (value, found.get(key))
                for key, value in reference["runs"][name].items()
                if found.get(key) != value
            }
            different += len(wrong)
            print(f"{name}: {wrong or 'the same'}")
    return int(different > 0)


if __name__ == "__main__":
    raise SystemExit(main())
