"""The charts of a study: what each variant gains, or how scores grow with the number of labels."""

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator, NullLocator

from saltseg.metrics.bootstrap import mean_interval
from saltseg.reporting.style import CHART, GREEN, GRID, INK, MUTED, VERMILION, dress, line_color, new_figure, png
from saltseg.studies.records import POSTPROCESSED, TUNED
from saltseg.studies.results import VariantResult
from saltseg.studies.sweep import Study

LIMIT = 0.04  # of the axis of gains, where larger ones would leave no room to tell the others apart


def gains(results: Sequence[VariantResult], noise: float | None = None) -> bytes:
    """A line per variant in the order given: its paired gain over its reference with the 95 % interval; PNG bytes.

    Green and red: the interval over images excludes zero; gray: it does not. Ticks: single seeds, where there are
    several. Hollow: the gain with all post-processing steps. Where all have one reference, a gain beyond `LIMIT` is
    a number; where they have several, each line names its own.

    Args:
        results: the base first where all have one reference.
        noise: standard deviation between trainings that differ in the seed only. A gain is a difference of two
            trainings, so the band drawn is sqrt(2) times as wide.
    """
    compared = [(result, result.gain) for result in results if result.gain is not None]
    figure = new_figure((CHART[0], 1.0 + 0.27 * max(1, len(compared))))
    axes = figure.subplots()
    base, record = results[0], results[0].records[0]
    chain = len({result.reference for result, _ in compared}) > 1
    title = f"{record.n:,} images" if chain else f"base {base.score(base.main):.3f} · {record.n:,} images"
    if noise is not None:
        band = math.sqrt(2) * noise
        axes.axvspan(-band, band, color=GRID, zorder=0)
        title += f"\nband: ±{band:.3f}, one sigma of a difference between seeds"
    axes.axvline(0, color=INK, linewidth=1)
    limit = math.inf if chain else LIMIT
    for y, (result, gain) in enumerate(compared):
        color = GREEN if gain.low > 0 else VERMILION if gain.high < 0 else MUTED
        if abs(gain.mean) > limit:
            x, side = math.copysign(limit, gain.mean), "left" if gain.mean < 0 else "right"
            axes.text(x, y, f"{gain.mean:+.3f}", color=color, fontsize=9, va="center", ha=side)
            continue
        axes.plot((gain.low, gain.high), (y, y), color=color, linewidth=3, alpha=0.4, solid_capstyle="butt")
        if len(result.per_seed) > 1:
            axes.plot(result.per_seed, [y] * len(result.per_seed), "|", color=color, markersize=9)
        whole = result.gains[POSTPROCESSED]
        if whole is not None and result.main == TUNED:
            axes.plot(whole.mean, y, "D", color=color, markersize=4.5, markerfacecolor="none")
        axes.plot(gain.mean, y, "o", color=color, markersize=6, markeredgecolor="white")
    names = [f"{result.variant} over {result.reference}" if chain else result.variant for result, _ in compared]
    axes.set_yticks(range(len(compared)), names)
    if any(abs(gain.mean) > limit for _, gain in compared):
        axes.set_xlim(-limit, limit)
    axes.set_ylim(max(1, len(compared)) - 0.5, -0.5)
    hollow = "; hollow: post-processed" if any(result.main == TUNED for result, _ in compared) else ""
    dress(axes, f"paired gain in mAP, 95 % interval{hollow}", "")
    axes.xaxis.label.set_fontsize(9)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter("{x:+.3f}")
    axes.grid(False, axis="y")
    axes.set_title(title, fontsize=8.5, color=INK, loc="left")
    return png(figure)


def labels(study: Study, results: Sequence[VariantResult]) -> bytes:
    """Score over the number of labeled images, a line per kind of weights, dashed for longer training; PNG bytes."""
    kinds = dict.fromkeys(result.variant.rpartition("_")[0] for result in results)
    colors = dict.fromkeys(kind.removesuffix("_longer") for kind in kinds)
    colors = {kind: line_color(number) for number, kind in enumerate(colors)}
    figure = new_figure((CHART[0], CHART[1] + 0.26 * len(kinds)))
    axes = figure.subplots()
    ticks = set()
    for number, kind in enumerate(kinds):
        own = [result for result in results if result.variant.rpartition("_")[0] == kind]
        first = {result.records[0].n_train or 0: result for result in own}
        counts = sorted(first)
        found = [mean_interval(first[count].records[0].images(POSTPROCESSED)) for count in counts]
        shift = 1.02 ** (number - (len(kinds) - 1) / 2)  # bars side by side
        scores = [score.mean for score in found]
        spread = [[s.mean - s.low for s in found], [s.high - s.mean for s in found]]
        color, dashes = colors[kind.removesuffix("_longer")], "--" if kind.endswith("_longer") else "-"
        name = study.variants[own[0].variant].what.partition(", from ")[2]
        places = [count * shift for count in counts]
        axes.errorbar(places, scores, spread, c=color, ls=dashes, marker="o", markersize=5, linewidth=1.5, label=name)
        ticks |= set(counts)
    dress(axes, "labeled images", "mAP, post-processed, 95 % interval")
    axes.set_xscale("log")
    axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(f"{results[0].records[0].n:,} validation images", fontsize=8.5, color=INK, loc="left")
    figure.legend(loc="outside lower left", frameon=False, fontsize=8)
    return png(figure)
