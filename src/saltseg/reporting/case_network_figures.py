"""Figures that explain what the networks do: the up-convolution, pooling, receptive fields."""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import functional

from saltseg.reporting.case_data_figures import FRAME, examples, show
from saltseg.reporting.case_networks import Networks
from saltseg.reporting.style import BLUE, CHART, GREEN, INK, SALT, VERMILION, new_figure


def transposed(image: np.ndarray, kernel: np.ndarray, output: np.ndarray) -> Figure:
    """A transposed convolution in four grids: what goes in, the kernel, one number's stamp, the sum of all stamps.

    image (2, 2), kernel (3, 3), output (4, 4): see `case_networks.transposed_example`.
    """
    stamp = np.zeros((5, 5))
    stamp[2:5, 2:5] = image[1, 1] * kernel  # the last number's; stride 2, and the first row and column are cut off
    figure = new_figure((CHART[0], 1.75))
    grids = (
        (image, "input 2×2", (1, 1)),
        (kernel, "kernel 3×3", None),
        (stamp[1:, 1:], f"stamp of the {image[1, 1]:g}", None),
        (output, "sum: output 4×4", None),
    )
    for axes, (grid, title, marked) in zip(figure.subplots(1, 4, width_ratios=(2.4, 3.1, 4, 4)), grids, strict=True):
        size = len(grid)
        highest = kernel.max() if grid is kernel else image.max()
        axes.imshow(grid, cmap=SALT, vmin=0, vmax=highest, interpolation="nearest")
        axes.set_xticks(np.arange(size + 1) - 0.5, [])
        axes.set_yticks(np.arange(size + 1) - 0.5, [])
        axes.grid(True, color=FRAME, linewidth=0.7)
        axes.tick_params(length=0)
        axes.spines[:].set(color=FRAME, linewidth=0.7)
        for row, column in np.ndindex(grid.shape):
            bold = "bold" if (row, column) == marked else "normal"
            axes.text(column, row, f"{grid[row, column]:g}", ha="center", va="center", fontsize=7.5, weight=bold)
        axes.set_title(title, fontsize=8.5, color=INK)
        axes.set_anchor("N")
    return figure


def pooling() -> Figure:
    """A simulated tile, and what is left of it after one and after three poolings of each kind."""
    tile = examples()[2]
    image = torch.from_numpy(tile.image[:96, :96].astype(np.float32) / 255)[None, None]
    shown = [("the tile", image)]
    for name, pool in (("max", functional.max_pool2d), ("average", functional.avg_pool2d)):
        shown += [(f"{name} pooling\n{size}×{size}", pool(image, size)) for size in (2, 8)]
    figure = new_figure((CHART[0], 1.4))
    for axes, (name, layer) in zip(figure.subplots(1, len(shown)), shown, strict=True):
        show(axes, layer[0, 0].numpy())
        axes.set_title(name, fontsize=8, color=INK)
    return figure


def fields(networks: Networks) -> Figure:
    """What one pixel in the middle of the network's input can depend on, against the tile."""
    figure = new_figure((CHART[0], 3.3))
    axes = figure.subplots()
    half = networks.size / 2
    axes.imshow(examples()[3].image, cmap="gray", extent=(-half, half, half, -half), alpha=0.75)
    for name, field, colour in (
        ("U-Net", networks.field, BLUE),
        ("full resolution, dilated", networks.dilated, GREEN),
        ("full resolution, plain", networks.plain, VERMILION),
    ):
        square = Rectangle((-field / 2, -field / 2), field, field, fill=False, edgecolor=colour, linewidth=2)
        square.set_label(f"{name}: {field} × {field}")
        axes.add_patch(square)
    axes.plot(0, 0, "+", color=VERMILION, markersize=7)
    edge = 1.05 * max(networks.field, networks.size) / 2
    axes.set_xlim(-edge, edge)
    axes.set_ylim(edge, -edge)
    axes.set_aspect("equal")
    axes.set_axis_off()
    title = f"in pixels of the network's\ninput, here {networks.size} × {networks.size}"
    options = {"loc": "outside right center", "fontsize": 9, "frameon": False, "labelcolor": INK, "alignment": "left"}
    figure.legend(title=title, title_fontsize=9, labelspacing=0.9, **options)
    return figure
