"""The drawn U-Net: a box for every block with the sizes traced through the network, an arrow for every connection."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle

from saltseg.reporting.case_networks import SIZE, shapes
from saltseg.reporting.style import CHART, DASHED, GREEN, INK, MUTED, VERMILION, new_figure

# In units of the drawing; y rises upwards, and a box is placed by its lower left corner.
WIDTH, HEIGHT = 2.0, 0.62  # of a box
DROP = 1.25  # from one level to the next
STEP = 0.55  # by which each level lies further inside
RIGHT = 9.0  # the expansion's highest box
LEVELS = 5
CONTRACT = [*(STEP * level for level in range(LEVELS - 1)), RIGHT / 2]  # x of the boxes, highest first
EXPAND = [*(RIGHT - STEP * level for level in range(LEVELS - 1)), RIGHT / 2]
CONTRACT_COLOUR, EXPAND_COLOUR = "#dcebf6", "#e3f1e6"


def diagram() -> Figure:
    """The U-Net as it is: channels x height x width behind every block."""
    figure = new_figure((CHART[0], 4.1))
    axes = figure.subplots()
    axes.set_axis_off()
    found = shapes()
    sizes = {block: " × ".join(map(str, shape)) for block, shape in found.items()}
    for level in range(LEVELS):
        _box(axes, CONTRACT[level], level, sizes[f"contract{level + 1}"], CONTRACT_COLOUR)
    for level in range(LEVELS - 1):
        block = 2 * LEVELS - 1 - level
        _box(axes, EXPAND[level], level, sizes[f"expand{block}"], EXPAND_COLOUR)
        _skip(axes, level, f"copy: {found[f'contract{level + 1}'][0]} + {found[f'up{block}'][0]} channels")
    for level in range(LEVELS - 1):
        _down_and_up(axes, level)
    top = HEIGHT + 0.38
    middle = WIDTH / 2
    axes.text(middle, top + 0.04, f"image 1 × {SIZE} × {SIZE}", ha="center", fontsize=7.6, color=INK)
    _arrow(axes, (middle, top), (middle, HEIGHT), INK)
    axes.text(RIGHT + middle, top + 0.04, f"logits {sizes['head']}", ha="center", fontsize=7.6, color=INK)
    _arrow(axes, (RIGHT + middle, HEIGHT), (RIGHT + middle, top), INK)
    axes.set_xlim(-0.1, RIGHT + WIDTH + 0.1)
    axes.set_ylim(-DROP * (LEVELS - 1) - 0.15, HEIGHT + 0.85)
    figure.legend(handles=_key(), loc="outside lower center", ncols=2, fontsize=7.6, frameon=False, labelcolor=INK)
    return figure


def _box(axes: Axes, x: float, level: int, label: str, colour: str) -> None:
    y = -DROP * level
    axes.add_patch(Rectangle((x, y), WIDTH, HEIGHT, facecolor=colour, edgecolor=INK, linewidth=0.8))
    axes.text(x + WIDTH / 2, y + HEIGHT / 2, label, ha="center", va="center", fontsize=7.6, color=INK)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, line: Any = "-") -> None:
    kind: Any = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 1, "shrinkB": 1}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, linewidth=1.4, linestyle=line, **kind))


def _skip(axes: Axes, level: int, label: str) -> None:
    y = -DROP * level + HEIGHT / 2
    _arrow(axes, (CONTRACT[level] + WIDTH, y), (EXPAND[level], y), MUTED, DASHED)
    axes.text((RIGHT + WIDTH) / 2, y + 0.09, label, ha="center", va="bottom", fontsize=7, color=MUTED)


def _down_and_up(axes: Axes, level: int) -> None:
    """Pooling from this level to the next, and the up-convolution back; at the lowest box the two ends lie apart."""
    y, below = -DROP * level, -DROP * (level + 1) + HEIGHT
    apart = 0.25 if level == LEVELS - 2 else 0
    left, right = WIDTH / 2 - 0.1, WIDTH / 2 + 0.1
    _arrow(axes, (CONTRACT[level] + right, y), (CONTRACT[level + 1] - apart + left, below), VERMILION)
    _arrow(axes, (EXPAND[level + 1] + apart + right, below), (EXPAND[level] + left, y), GREEN)


def _key() -> list[Rectangle | Line2D]:
    boxes = (
        (CONTRACT_COLOUR, "contract: 2 × (3×3 conv, norm, ReLU)"),
        (EXPAND_COLOUR, "expand: join, dropout, then the same"),
    )
    lines = (
        (VERMILION, "-", "2×2 max pooling, dropout"),
        (GREEN, "-", "3×3 transposed convolution, stride 2"),
        (MUTED, DASHED, "skip connection"),
    )
    return [
        *(Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=INK, lw=0.8, label=name) for colour, name in boxes),
        *(Line2D([], [], color=colour, linestyle=line, label=name) for colour, line, name in lines),
    ]
