"""What each lever of a recipe gained, as a picture."""

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from saltseg.inference.levers import Worth
from saltseg.reporting.style import CHART, GREEN, GRID, INK, MUTED, VERMILION, dress, new_figure, png

FARTHEST = 0.04  # a gain beyond would leave no room to tell the others apart


def chart(found: Sequence[Worth], noise: float | None = None) -> bytes:
    """One line per lever in the order given: its paired gain over the baseline with the 95 % interval; PNG bytes.

    found: what `levers.table` gives, the baseline first.

    Green and red: the interval over images leaves zero out; grey: it does not. Ticks are single seeds where there are
    several. Hollow: the gain under the whole decision rule. A gain beyond `FARTHEST` is told in words.

    noise: one standard deviation between trainings that differ in the seed alone. A gain is a difference of two
    trainings, so the band drawn is sqrt(2) times as wide.
    """
    levers = [(worth, worth.gain_cross_fitted) for worth in found if worth.gain_cross_fitted is not None]
    figure = new_figure((CHART[0], 1.0 + 0.27 * max(1, len(levers))))
    axes = figure.subplots()
    base = found[0]
    title = f"baseline {base.cross_fitted:.3f} · {base.n:,} images"
    if noise is not None:
        band = math.sqrt(2) * noise
        axes.axvspan(-band, band, color=GRID, zorder=0)
        title += f"\nband: ±{band:.3f}, one sigma of a difference between seeds"
    axes.axvline(0, color=INK, linewidth=1)
    for place, (worth, (gain, low, high)) in enumerate(levers):
        colour = GREEN if low > 0 else VERMILION if high < 0 else MUTED
        if abs(gain) > FARTHEST:
            side = math.copysign(FARTHEST, gain)
            axes.text(
                side, place, f"{gain:+.3f}", color=colour, fontsize=9, va="center", ha="left" if gain < 0 else "right"
            )
            continue
        axes.plot((low, high), (place, place), color=colour, linewidth=3, alpha=0.4, solid_capstyle="butt")
        if len(worth.by_seed) > 1:
            axes.plot(worth.by_seed, [place] * len(worth.by_seed), "|", color=colour, markersize=9)
        if worth.gain_whole_rule is not None:
            axes.plot(worth.gain_whole_rule[0], place, "D", color=colour, markersize=4.5, markerfacecolor="none")
        axes.plot(gain, place, "o", color=colour, markersize=6, markeredgecolor="white")
    axes.set_yticks(range(len(levers)), [worth.lever for worth, _ in levers])
    if any(abs(gain) > FARTHEST for _, (gain, _, _) in levers):
        axes.set_xlim(-FARTHEST, FARTHEST)
    axes.set_ylim(max(1, len(levers)) - 0.5, -0.5)
    whole = "; hollow: whole rule" if any(worth.gain_whole_rule for worth, _ in levers) else ""
    dress(axes, f"paired gain in mAP, 95 % interval{whole}", "")
    axes.xaxis.label.set_fontsize(9)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter("{x:+.3f}")
    axes.grid(False, axis="y")
    axes.set_title(title, fontsize=8.5, color=INK, loc="left")
    return png(figure)
