"""The gray values around the top of salt in a dataset: whether it is bright or dark, its polarity.

  python benchmarks/polarity.py tgs

In each column the first pixel of salt is taken, unless it lies within 10 pixels of the border. Printed is the mean gray
value of the pixels above and below it, less the mean of the tile.
"""

import argparse
from pathlib import Path

import numpy as np

from harness import one_line
from saltseg.data import competition

BORDER, SHOWN = 10, 8  # pixels


def profile(labeled: competition.Labeled) -> tuple[int, np.ndarray]:
    """Number of columns, and the mean gray value at -SHOWN … SHOWN pixels from the top of salt, float64."""
    images = labeled.images - labeled.images.mean((1, 2), keepdims=True)
    top, has_salt = labeled.masks.argmax(1), labeled.masks.any(1)
    tile, column = np.nonzero(has_salt & (top > BORDER) & (top < labeled.images.shape[1] - BORDER))
    rows = top[tile, column][:, None] + np.arange(-SHOWN, SHOWN + 1)
    return len(tile), images[tile[:, None], rows, column[:, None]].mean(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--input", type=Path, default=Path("input"))
    arguments = parser.parse_args()
    with one_line():
        columns, gray = profile(competition.read_train(competition.dataset_root(arguments.input, arguments.dataset)))
    print(f"{columns:,} columns; gray values from {SHOWN} pixels above the top of salt to {SHOWN} below:")
    print(*(f"{value:+.0f}" for value in gray))
