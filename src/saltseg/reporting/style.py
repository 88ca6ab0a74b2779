"""How every chart of the project looks: colours, size, type, and PNG bytes at the end.

Matplotlib's object interface only (no pyplot, hence no global state and no display). Colours are those of
Okabe and Ito (2008), which colour-blind readers can tell apart; blue always means salt. A chart is `CHART`
inches wide, so that it shows at its natural size on a page and stays legible when a phone shrinks it.
"""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
FOLD_COLOURS = (BLUE, VERMILION, GREEN, "#cc79a7", "#a67c00", "#56b4e9", INK)
SALT = LinearSegmentedColormap.from_list("salt", ["#ffffff", "#3b86c0"])  # light enough for a black line on it
DASHED = (0, (2, 1.5))
CHART = (5.4, 3.9)  # inches
DPI = 200  # twice a screen's, so that a chart is crisp on a good one


def new_figure(size: tuple[float, float] = CHART) -> Figure:
    """An empty figure of `size` (width, height) in inches."""
    return Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")


def png(figure: Figure) -> bytes:
    """The figure as PNG; same input, same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    return buffer.getvalue()


def dress(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, a faint grid behind the data, no frame on the far sides."""
    axes.set_xlabel(x_label, fontsize=10, color=INK)
    axes.set_ylabel(y_label, fontsize=10, color=INK)
    axes.tick_params(labelsize=9, colors=MUTED, labelcolor=INK, length=3)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)


def line_colour(place: int) -> str:
    """That of the line drawn at this place, from 0 up."""
    return FOLD_COLOURS[place % len(FOLD_COLOURS)]


def legend_outside(figure: Figure, columns: int, place: str = "upper center", **options: Any) -> None:
    """A legend above or below all axes, where it covers nothing."""
    figure.legend(loc=f"outside {place}", ncols=columns, fontsize=8.5, frameon=False, labelcolor=INK, **options)


def legend(axes: Axes, **options: Any) -> None:
    """A legend that lets the data shine through."""
    options = {"framealpha": 0.9, "edgecolor": "none"} | options
    axes.legend(fontsize=8.5, labelcolor=INK, **options)
