"""Do the labels of touching tiles agree, and would a neighbor's label improve a prediction?

  saltseg find-sections tgs --images FOLDER        # of the images without labels
  python benchmarks/neighbors.py tgs-lite0_42_student tgs-lite2_42_strong

The first table compares the masks of touching tiles along their common edge, pixel by pixel. The second adds to the
logits of the runs' mean, out of fold, a push towards the neighbor's label: strongest at the edge, weaker by distance.
Only edges with salt and rock push, since the others may contradict each other. Strength and reach with the highest
score are chosen on the scored tiles, so the gain is the most that can be had.

`input/tgs` is the cut of 3,000 tiles (benchmarks/tgs_split.py) under that name.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness import one_line
from saltseg import io, predictions
from saltseg.data import competition
from saltseg.metrics.average_precision import average_precision
from saltseg.runs import RunDir

PUBLISHED = Path(__file__).resolve().parents[1] / "output" / "published"
STRENGTHS, REACHES = (1, 2, 4, 8), (3, 6, 12, 25)  # logits; pixels
SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows down, columns across


class Edge(NamedTuple):
    """Two touching tiles, by position, and the side of the first on which the second lies."""

    tile: int
    other: int
    side: tuple[int, int]


def edges_of(ids: Sequence[str], sections_csv: Path) -> list[Edge]:
    """Every common edge, seen from both tiles."""
    known = {row["id"]: row for row in io.read_csv(sections_csv)}
    at = {(known[id_]["section"], int(known[id_]["row"]), int(known[id_]["column"])): n for n, id_ in enumerate(ids)}
    return [
        Edge(tile, at[other], (down, across))
        for (section, row, column), tile in at.items()
        for down, across in SIDES
        if (other := (section, row + down, column + across)) in at
    ]


def border(mask: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """The outermost line (N,) of pixels (N, N) on that side."""
    down, across = side
    line = -1 if down + across > 0 else 0
    return mask[line] if down else mask[:, line]


def beyond(masks: np.ndarray, edge: Edge) -> np.ndarray:
    """The neighbor's line of pixels along the edge."""
    return border(masks[edge.other], (-edge.side[0], -edge.side[1]))


def agreement(masks: np.ndarray, predicted: np.ndarray, edges: Sequence[Edge]) -> None:
    """Print how far the masks on both sides of an edge agree."""
    own = np.array([border(masks[edge.tile], edge.side) for edge in edges])
    across = np.array([beyond(masks, edge) for edge in edges])
    guess = np.array([border(predicted[edge.tile], edge.side) for edge in edges])
    same = (own == across).mean(1)
    print("| edges between two labeled tiles | count |\n|---|---|")
    print(f"| all | {len(edges) // 2} |")
    print(f"| at least 95 % of the pixels agree | {(same >= 0.95).sum() // 2} |")
    full, empty = across.all(1), ~own.any(1)
    print(f"| salt throughout on one side or both | {(full & own.all(1)).sum() // 2 + (full & ~own.all(1)).sum()} |")
    print(f"| salt throughout on one side, none on the other | {(full & empty).sum()} |")
    masked = masks[[edge.tile for edge in edges]].any((1, 2))
    print(f"| … and the other tile has an empty mask | {(full & empty & ~masked).sum()} |")
    hit = own == guess
    print(
        f"\nPixels that agree with the neighbor's label: {same.mean():.1%}; with the own prediction: {hit.mean():.1%},"
    )
    print(f"at the empty masks of the last row {hit[full & empty & ~masked].mean():.1%}\n")


def push(masks: np.ndarray, probabilities: np.ndarray, edges: Sequence[Edge]) -> None:
    """Print the score of the tiles with a mixed edge, before and after."""
    mixed = [edge for edge in edges if 0.02 < beyond(masks, edge).mean() < 0.98]
    tiles = sorted({edge.tile for edge in mixed})
    clipped = np.clip(probabilities, 1e-3, 1 - 1e-3)
    before = average_precision(probabilities[tiles] > 0.5, masks[tiles]).mean()
    size = masks.shape[-1]
    found = {}
    for strength in STRENGTHS:
        for reach in REACHES:
            logits = np.log(clipped / (1 - clipped))
            for edge in mixed:
                down, across = edge.side
                distance = np.arange(size) if down + across < 0 else np.arange(size)[::-1]
                weight = strength * np.exp(-distance / reach)
                label = beyond(masks, edge) * 2.0 - 1
                logits[edge.tile] += np.outer(weight, label) if down else np.outer(label, weight)
            found[strength, reach] = average_precision(logits[tiles] > 0, masks[tiles]).mean()
    (strength, reach), after = max(found.items(), key=lambda item: item[1])
    gain = after - before
    print("| tiles with a mixed edge | at 0.5 | with the best push | gain | gain on all tiles |\n|---|---|---|---|---|")
    print(f"| {len(tiles)} | {before:.4f} | {after:.4f} | {gain:+.4f} | {gain * len(tiles) / len(masks):+.4f} |")
    print(f"\nThe best of {len(found)}: strength {strength} logits, reach {reach} pixels.")


def main(names: Sequence[str], input_dir: Path) -> None:
    """Print both tables."""
    labeled = competition.read_train(competition.dataset_root(input_dir, "tgs"))
    order = np.argsort(labeled.ids)
    ids, masks = np.array(labeled.ids)[order], labeled.masks[order] > 0
    parts = [predictions.collate_folds(RunDir(PUBLISHED / name).finished_folds()) for name in names]
    mean = predictions.mean_predictions([predictions.reorder(part, ids) for part in parts])
    edges = edges_of(ids.tolist(), input_dir / "tgs.sections.csv")
    probabilities = mean.probabilities / 255.0
    agreement(masks, probabilities > 0.5, edges)
    push(masks, probabilities, edges)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="published with their predictions")
    parser.add_argument("--input", type=Path, default=Path("input"))
    arguments = parser.parse_args()
    with one_line():
        main(arguments.runs, arguments.input)
