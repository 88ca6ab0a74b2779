"""Would test-time augmentation over scales help? Predicts with tiles resized to other sizes than in the training.

  python benchmarks/postprocessing_of_means.py prepare      # and the training that it names
  python benchmarks/scales.py held600-0

Sets of sizes are compared out of fold, on 2,400 tiles, where the best may be selected. The set --confirm is then scored
on the 600 tiles held back, for single networks and for the mean of five, which is submitted.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saltseg import config, predictions, runs
from saltseg.config import Config
from saltseg.data import competition
from saltseg.inference import predict
from saltseg.metrics import average_precision, bootstrap
from saltseg.models import checkpoints, precision
from saltseg.postprocessing.parameters import THRESHOLD_HALF

SETS = ((112,), (144,), (160,), (128, 144), (128, 160), (112, 128, 144), (128, 144, 160), (112, 128, 144, 160))


def measure(input_dir: Path, output_dir: Path, name: str, confirm: tuple[int, ...]) -> None:
    """Print both tables."""
    run = runs.RunDir(output_dir / "runs" / name)
    settings, base = precision.trained_config(run), (run.read_config().data.size,)
    every = competition.read_train(input_dir / "tgs")
    place = {id_: number for number, id_ in enumerate(every.ids)}
    held = predictions.load_predictions(run.test).ids.tolist()
    sizes = sorted({size for sizes in (base, *SETS, confirm) for size in sizes})
    oof: dict[int, list[np.ndarray]] = {size: [] for size in sizes}
    of_held: dict[int, list[np.ndarray]] = {size: [] for size in (*base, *confirm)}
    ids: list[str] = []
    for fold in run.finished_folds():
        networks = checkpoints.load_networks(settings, fold)
        own = predictions.load_predictions(fold.oof).ids.tolist()
        ids += own
        for size in sizes:
            oof[size].append(_predict(networks, every.images[[place[id_] for id_ in own]], settings, size))
        for size in of_held:
            of_held[size].append(_predict(networks, every.images[[place[id_] for id_ in held]], settings, size))
        print(f"fold {fold.number}: predicted", flush=True)
    joined, true = {size: np.concatenate(parts) for size, parts in oof.items()}, every.masks_of(ids)
    before = _scores([joined[base[0]]], true)
    print(f"\n| sizes | {len(ids)} tiles out of fold, at 0.5 | over {base[0]} alone [95 %] |\n|---|---|---|")
    print(f"| {base[0]} | {before.mean():.4f} | |")
    for chosen in SETS:
        after = _scores([joined[size] for size in chosen], true)
        print(f"| {' + '.join(map(str, chosen))} | {after.mean():.4f} | {_gain(before, after)} |")

    truth, count = every.masks_of(held), len(of_held[base[0]])
    print(
        f"\n| {len(held)} tiles held back | {base[0]} | {' + '.join(map(str, confirm))} | gain [95 %] |\n|---|---|---|---|"
    )
    one, many = (
        np.mean([_scores([of_held[size][fold] for size in chosen], truth) for fold in range(count)], axis=0)
        for chosen in (base, confirm)
    )
    print(f"| single networks | {one.mean():.4f} | {many.mean():.4f} | {_gain(one, many)} |")
    one, many = (_scores([part for size in chosen for part in of_held[size]], truth) for chosen in (base, confirm))
    print(f"| mean of {count} | {one.mean():.4f} | {many.mean():.4f} | {_gain(one, many)} |")


def _predict(networks: list, images: np.ndarray, settings: Config, size: int) -> np.ndarray:
    return predict.probabilities(networks, images, config.change(settings, {"data.size": size}), out=np.uint8)


def _scores(parts: Sequence[np.ndarray], true: np.ndarray) -> np.ndarray:
    """Score of each tile at 0.5, of the mean of some predictions."""
    mean = np.rint(np.mean([part.astype(np.float32) for part in parts], axis=0)).astype(np.uint8)
    return average_precision.average_precision(THRESHOLD_HALF.apply(mean), true)


def _gain(before: np.ndarray, after: np.ndarray) -> str:
    gain = bootstrap.paired_difference(before, after)
    return f"{gain.mean:+.4f} [{gain.interval[0]:+.4f}, {gain.interval[1]:+.4f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--confirm", type=int, nargs="+", default=[112, 128, 144], metavar="SIZE")
    parser.add_argument("--input", type=Path, default=Path("input"))
    parser.add_argument("--output", type=Path, default=Path("output"))
    arguments = parser.parse_args()
    measure(arguments.input, arguments.output, arguments.run, tuple(arguments.confirm))
