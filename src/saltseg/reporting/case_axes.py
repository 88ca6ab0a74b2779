"""What several charts of the case study do with their axes, beside saltseg.reporting.style."""

from typing import Any

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from saltseg.core.postprocess import HALF
from saltseg.reporting.style import FOLD_COLOURS, INK

DASHED = (0, (2, 1.5))
HALF_AT = HALF.threshold / 255
PERCENT = PercentFormatter(1, decimals=0, symbol=" %")


def line_colour(place: int) -> str:
    """That of the line drawn at this place, from 0 up."""
    return FOLD_COLOURS[place % len(FOLD_COLOURS)]


def log_ticks(axis: Axis) -> None:
    """Plain numbers at 1, 3, 10, 30 … of a logarithmic axis, so that a narrow one has some too and none crowd."""
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def legend_outside(figure: Figure, columns: int, place: str = "upper center", **options: Any) -> None:
    """A legend above or below all axes, where it covers nothing."""
    figure.legend(loc=f"outside {place}", ncols=columns, fontsize=8.5, frameon=False, labelcolor=INK, **options)
