"""The look of every chart: colors, sizes, marks, and PNG bytes at the end.

Matplotlib's object interface only (no pyplot, hence no global state and no display). Colors are those of Okabe and Ito
(2008), which color-blind readers can tell apart; blue always means salt. A chart is `CHART` inches wide: its natural
size on a page, and legible on a phone.
"""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
FOLD_COLORS = (BLUE, VERMILION, GREEN, "#cc79a7", "#a67c00", "#56b4e9", INK)
SALT = LinearSegmentedColormap.from_list("salt", ["#ffffff", "#3b86c0"])  # light enough for a black line on it
DASHED, LONG_DASHED = (0, (2, 1.5)), (0, (4, 2))
CHART = (5.4, 3.9)  # inches
DPI = 200  # twice a screen's, so that a chart is sharp on a good one


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


def line_color(index: int) -> str:
    """The color of the line with this index, from 0 up."""
    return FOLD_COLORS[index % len(FOLD_COLORS)]


def mark(axes: Axes, x: float, y: float, color: str, marker: str = "o", **options: Any) -> None:
    """One large mark with a white edge, above the lines."""
    options = {"markersize": 8, "zorder": 5} | options
    axes.plot(x, y, marker, color=color, markeredgecolor="white", **options)


def log_ticks(axis: Axis, subs: tuple[int, ...] = (1, 3)) -> None:
    """Plain numbers at `subs` times the powers of ten of a logarithmic axis: some on a narrow one, not too many."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def legend_outside(figure: Figure, columns: int, location: str = "upper center", **options: Any) -> None:
    """A legend above or below all axes, where it covers nothing."""
    figure.legend(loc=f"outside {location}", ncols=columns, fontsize=8.5, frameon=False, labelcolor=INK, **options)


def legend(axes: Axes, **options: Any) -> None:
    """A legend that lets the data shine through."""
    options = {"framealpha": 0.9, "edgecolor": "none"} | options
    axes.legend(fontsize=8.5, labelcolor=INK, **options)
