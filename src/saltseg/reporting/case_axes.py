"""What several charts of the case study do with their axes, beside saltseg.reporting.style."""

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from saltseg.core.postprocess import HALF

HALF_AT = HALF.threshold / 255
PERCENT = PercentFormatter(1, decimals=0, symbol=" %")


def log_ticks(axis: Axis) -> None:
    """Plain numbers at 1, 3, 10, 30 … of a logarithmic axis, so that a narrow one has some too and none crowd."""
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
