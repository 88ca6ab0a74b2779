"""Speed on this machine, as ratios of two things measured in turn: make bench

  python benchmarks/bench.py                        all but tried: a quarter of an hour on two cores
  python benchmarks/bench.py --only training        training, prediction or numeric
  python benchmarks/bench.py --only tried           what else a training step could do
  python benchmarks/bench.py --quick                small amounts; the numbers mean little

Prints a table and writes output/bench.json, row by row. A ratio is our speed over the other's: the median of pairs
measured one after the other, with their range. Nothing else should run meanwhile: a wide range shows that it did.
"""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import harness
from saltseg import io

Plan = list[tuple[str, Callable[[], harness.Row | list[harness.Row]]]]


def plan(quick: bool) -> dict[str, Plan]:
    """What each part measures; sizes small enough for minutes, large enough for a percent or two."""
    import numeric
    import prediction
    import training
    import tried

    gpu = torch.cuda.is_available()
    count, batch, repeats = (8, 8, 1) if quick else (4096, 64, 5) if gpu else (160, 32, 4)
    tiles, masks = (30, 60) if quick else (4000, 18_000)
    return {
        "training": [
            ("epochs against bare steps", lambda: training.epochs("unet", count, batch, repeats)),
            ("epochs of a recipe", lambda: training.epochs("recipe_lite0", count, batch, repeats)),
            ("the step", lambda: training.step("unet", batch, 2 * repeats)),
            ("the step of a recipe", lambda: training.step("recipe_lite0", batch, 2 * repeats)),
        ],
        "prediction": [
            ("two views", lambda: prediction.two_views("unet", count, repeats)),
            ("two views of a recipe", lambda: prediction.two_views("recipe_lite0", count, repeats)),
            ("windows of a recipe", lambda: prediction.in_windows("recipe_lite0", count, repeats)),
            ("reading", lambda: prediction.reading(tiles, repeats)),
            ("memory", lambda: prediction.memory(masks)),
        ],
        "numeric": [
            ("metric", lambda: numeric.score(tiles, repeats)),
            ("threshold search", lambda: numeric.search(tiles, repeats)),
            ("run lengths", lambda: numeric.run_lengths(masks, repeats)),
            ("sorting loss", lambda: numeric.sorting(16, 10 * repeats)),
        ],
        "tried": [
            (f"{name} {change}", partial(tried.variant, name, change, batch, repeats))
            for name in ("unet", "recipe_lite0")
            for change in tried.CHANGES
        ]
        + [
            (f"{name} side by side", partial(tried.side_by_side, name, batch, 1 if quick else 3))
            for name in ("unet", "recipe_lite0", "demo")
        ]
        + [("a recipe side by side", partial(tried.side_by_side, "recipe_lite0_resized", 16, repeats, "bf16"))],
    }


def measured(parts: Plan) -> Iterator[harness.Row]:
    """Rows as they come, with a bar."""
    with tqdm(parts, unit="part") as bar:
        for name, call in bar:
            bar.set_description(name)
            found = call()
            yield from found if isinstance(found, list) else [found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["training", "prediction", "numeric", "tried"], help="one part of it")
    parser.add_argument("--quick", action="store_true", help="small amounts")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR", help="default: output")
    arguments = parser.parse_args()

    parts = plan(arguments.quick)
    wanted = [arguments.only] if arguments.only else [name for name in parts if name != "tried"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    machine = {
        "device": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{package: version(package) for package in ("torch", "numpy", "opencv-python-headless")},
    }
    path = arguments.output / "bench.json"
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(harness.HEADER, flush=True)
    rows: list[dict[str, Any]] = []
    for row in measured([one for name in wanted for one in parts[name]]):
        tqdm.write(harness.line(row))
        rows.append(row.to_dict())
        io.write_json(path, {"machine": machine, "quick": arguments.quick, "rows": rows})
    print(f"figures: {path}")


if __name__ == "__main__":
    main()
