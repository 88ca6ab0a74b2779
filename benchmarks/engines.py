"""What computes predictions fastest on one thread of this processor, and what that does to the score.

  python benchmarks/engines.py tgs-lite0_42            images per second of every engine that is installed
  python benchmarks/engines.py tgs-lite0_42 --scores   score on the out-of-fold tiles of the run's first fold, paired

Speeds are those of whole predictions without test-time augmentation, from uint8 tiles to probabilities. The variants
take turns, and the time is that of the process: other work on the machine changes it little. A ratio is the median
over rounds, with its range. The reference gives 64 images to torch at once, as saltseg did before it had engines.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from harness import one_line
from saltseg import config, predictions, runs
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import engines, predict
from saltseg.metrics import bootstrap
from saltseg.models import checkpoints, precision
from saltseg.pipeline.workspace import Workspace, with_truth
from saltseg.postprocessing import step_selection

IMAGES, ROUNDS, AT_ONCE_BEFORE = 64, 5, 64


class Variant(NamedTuple):
    """An engine in a precision, with so many images at once."""

    engine: str
    precision: str
    at_once: int = engines.IMAGES_PER_THREAD

    @property
    def name(self) -> str:
        """In the tables."""
        return f"{self.engine} {self.precision}, {self.at_once} at once"


VARIANTS = [
    Variant("torch", "32", AT_ONCE_BEFORE),
    Variant("torch", "32"),
    Variant("torch", "bf16", AT_ONCE_BEFORE),
    Variant("torch", "bf16"),
    Variant("onnxruntime", "32"),
    Variant("openvino", "32"),
    Variant("openvino", "bf16"),
]


def installed(settings: config.Config) -> dict[Variant, config.Config]:
    """The variants that this machine has, with their settings."""
    found = {}
    for variant in VARIANTS:
        changes = {"runtime.engine": variant.engine, "runtime.precision": variant.precision}
        changed = config.change(settings, changes)
        try:
            engines.check(changed)
        except InputError as error:
            print(f"left out: {variant.name}: {error}")
        else:
            found[variant] = changed
    return found


def predicted(variant: Variant, settings: config.Config, network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Probabilities in 255ths."""
    engines.IMAGES_PER_THREAD = variant.at_once
    return predict.probabilities([network], images, settings, out=np.uint8)


def speeds(settings: config.Config, network: torch.nn.Module, images: np.ndarray) -> None:
    """Print images per second, and ratios to torch as it was, in float32 and in bfloat16."""
    settings = config.change(settings, {"predict.tta": "identity", "runtime.predict_batch_size": len(images)})
    variants = installed(settings)
    seconds: dict[Variant, list[float]] = {variant: [] for variant in variants}
    for variant, changed in variants.items():  # converts the network, prepares memory
        predicted(variant, changed, network, images)
    for _ in range(ROUNDS):
        for variant, changed in variants.items():
            started = time.process_time()
            predicted(variant, changed, network, images)
            seconds[variant].append(time.process_time() - started)
    print("| engine | images/s | against torch 32 before | against torch bf16 before |\n|---|---|---|---|")
    for variant, own in seconds.items():
        ratios = []
        for used in ("32", "bf16"):
            before = seconds[Variant("torch", used, AT_ONCE_BEFORE)]
            pairs = [a / b for a, b in zip(before, own, strict=True)]
            ratios.append(f"{statistics.median(pairs):.2f} [{min(pairs):.2f}, {max(pairs):.2f}]")
        print(f"| {variant.name} | {len(images) / statistics.median(own):.0f} | {ratios[0]} | {ratios[1]} |")


def scores(settings: config.Config, network: torch.nn.Module, oof: predictions.Predictions, root: Path) -> None:
    """Print scores out of fold and their paired differences to the first variant in bfloat16."""
    labeled = competition.read_train(root)
    images = labeled.subset(np.array([labeled.ids.index(id_) for id_ in oof.ids.tolist()])).images
    found: dict[Variant, dict[str, np.ndarray]] = {}
    probabilities: dict[Variant, np.ndarray] = {}
    for variant, changed in installed(settings).items():
        probabilities[variant] = predicted(variant, changed, network, images)
        same = replace(oof, probabilities=probabilities[variant], fold=np.zeros(len(images), np.int16))
        found[variant] = step_selection.scores(with_truth(same, labeled))
    before = Variant("torch", "bf16", AT_ONCE_BEFORE)
    kinds = list(found[before])
    print(f"| engine | {' | '.join(kinds)} | pixels whose mask at 0.5 changes | largest change |")
    print("|---|" + "---|" * (len(kinds) + 2))
    for variant, columns in found.items():
        cells = [variant.name]
        for kind in kinds:
            gain = bootstrap.mean_interval(columns[kind] - found[before][kind])
            low, high = gain.interval
            cells.append(f"{columns[kind].mean():.4f}, {gain.mean:+.4f} [{low:+.4f}, {high:+.4f}]")
        own, other = probabilities[variant], probabilities[before]
        changed_pixels = ((own >= 128) != (other >= 128)).mean()
        cells += [f"{changed_pixels:.3%}", f"{np.abs(own.astype(int) - other).max() / 255:.2f}"]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--scores", action="store_true", help="scores instead of speeds")
    parser.add_argument("--input", type=Path, default=Path("input"), metavar="DIR", help="default: input")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR", help="default: output")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    run = runs.existing_run(arguments.output, arguments.run)
    settings, fold = precision.trained_config(run), run.trained_folds()[0]
    network = checkpoints.load_network(settings, fold.networks(settings.train)[0])
    root = Workspace(arguments.input, arguments.output).root(run)
    if arguments.scores:
        scores(settings, network, predictions.load_predictions(fold.oof), root)
    else:
        speeds(settings, network, competition.read_train(root).images[:IMAGES])


if __name__ == "__main__":
    with one_line():
        main()
