"""Figures of the data: simulated tiles of every kind, how much salt there is, how deep it lies.

Single tiles come from the built-in simulator: the licence of the real ones forbids showing them.
"""

import math
from functools import cache
from itertools import islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from saltseg.core import metric
from saltseg.data import synthetic
from saltseg.data.competition import SHAPE
from saltseg.reporting.case_axes import PERCENT
from saltseg.reporting.case_data import Dataset
from saltseg.reporting.style import BLUE, CHART, INK, MUTED, SALT, dress, legend_outside, new_figure

# A tile of each kind is shown: name, smallest and largest share of salt.
KINDS = (("no salt", 0.0, 0.0), ("sliver", 0.005, 0.04), ("flank", 0.2, 0.35), ("half", 0.45, 0.6), ("most", 0.9, 1.0))
SEED = 4  # of the simulated tiles
FRAME = "#b8c1ca"  # around a tile


@cache
def examples() -> list[synthetic.Tile]:
    """The first simulated tile of each of `KINDS` whose image is not constant."""
    drawn = [tile for tile in islice(synthetic.tiles(SEED), 120) if tile.image.any()]
    return [next(tile for tile in drawn if low <= tile.mask.mean() <= high) for _, low, high in KINDS]


def show(axes: Axes, image: np.ndarray, colours: str | Colormap = "gray") -> None:
    """An image (H, W) of values in [0, 1] in a frame, without ticks; colours: a colour map or its name."""
    axes.imshow(image, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=FRAME, linewidth=0.7)


def tiles() -> Figure:
    """Simulated tiles of every kind, the boundary of the salt in black, over their masks."""
    figure = new_figure((CHART[0], 2.55))
    rows = figure.subplots(2, len(KINDS))
    for column, (tile, (name, _, _)) in enumerate(zip(examples(), KINDS, strict=True)):
        show(rows[0, column], tile.image / 255)
        show(rows[1, column], tile.mask, SALT)
        for axes in rows[:, column]:
            outline(axes, tile.mask)
        rows[0, column].set_title(f"{name}\n{100 * tile.mask.mean():.0f} % of pixels", fontsize=8, color=INK)
    for axes, name in zip(rows[:, 0], ("image", "mask"), strict=True):
        axes.set_ylabel(name, fontsize=9, color=INK)
    return figure


def outline(axes: Axes, mask: np.ndarray) -> None:
    """The boundary of a mask {0, 1} (H, W) in black, with a white rim that keeps it visible on dark rock."""
    if 0 < mask.mean() < 1:
        lines = axes.contour(mask, levels=[0.5], colors="black", linewidths=1.2)
        lines.set_path_effects([withStroke(linewidth=2.2, foreground="white")])


def coverage(dataset: Dataset) -> Figure:
    """How many tiles have how much salt."""
    figure = new_figure((CHART[0], 2.7))
    axes = figure.subplots()
    pixels = math.prod(SHAPE)
    classes = metric.coverage_class_from_areas(np.rint(dataset.coverage * pixels), pixels)
    counts = np.bincount(classes, minlength=11)
    axes.bar(range(11), counts / len(classes), width=0.75, color=[MUTED, *[BLUE] * 10])
    for place, count in enumerate(counts):
        axes.text(place, count / len(classes), f"{count:,}", ha="center", va="bottom", fontsize=7.5, color=INK)
    axes.set_xticks(range(11), ["none", *(f"≤{10 * k}" for k in range(1, 11))])
    dress(axes, "salt in the true mask, percent of the tile", "share of the tiles\n(their number above)")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(False, axis="x")
    return figure


def depth(dataset: Dataset) -> Figure:
    """How deep the tiles lie, with and without salt."""
    assert dataset.depth is not None
    figure = new_figure((CHART[0], 2.7))
    axes = figure.subplots()
    edges = np.linspace(dataset.depth.min(), dataset.depth.max() + 1, 25).tolist()
    for name, chosen, colour in (("with salt", dataset.coverage > 0, BLUE), ("no salt", dataset.coverage == 0, MUTED)):
        axes.hist(dataset.depth[chosen], edges, histtype="step", color=colour, linewidth=1.8, label=name)
    dress(axes, "depth z as given in depths.csv (unit not stated)", "number of tiles")
    legend_outside(figure, 2)
    return figure
