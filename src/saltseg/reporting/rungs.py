"""The stages of a ladder as a picture: what each scores, or how scores grow with the number of labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator, NullLocator

from saltseg.reporting.style import BLUE, CHART, GREEN, INK, MUTED, VERMILION, dress, line_colour, new_figure, png

Entries = Sequence[Mapping[str, Any]]  # records of saltseg.inference.ladder.record


def chart(entries: Entries) -> bytes:
    """One line per stage, in order from the top: its score with the 95 % interval, and its gain in words; PNG bytes.

    Green and red: the paired interval of the gain leaves zero out; grey: it does not; blue: there is no gain.
    """
    figure = new_figure((CHART[0], 1.0 + 0.34 * len(entries)))
    axes = figure.subplots()
    for place, entry in enumerate(entries):
        (low, high), gain = entry["interval"], entry["gain"]
        colour = BLUE if gain is None else _colour(*gain["interval"])
        axes.plot((low, high), (place, place), color=colour, linewidth=3, alpha=0.4, solid_capstyle="butt")
        axes.plot(entry["score"], place, "o", color=colour, markersize=6, markeredgecolor="white")
        if gain is not None:
            text = f"{gain['difference']:+.3f} over {gain['over']}"
            axes.text(1.02, place, text, color=colour, fontsize=8.5, va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(entries)), [entry["stage"] for entry in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    dress(axes, "mAP out of fold, cross-fitted, 95 % interval", "")
    axes.xaxis.label.set_fontsize(9)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    said = (
        f"{entries[0]['n']:,} images, one training each",
        "green, red: the paired interval over images leaves zero out",
    )
    axes.set_title("\n".join(said), fontsize=7.5, color=INK, loc="left")
    return png(figure)


def _colour(low: float, high: float) -> str:
    return GREEN if low > 0 else VERMILION if high < 0 else MUTED


def curves(entries: Entries) -> bytes:
    """Score over the number of labelled images, a line per start, dashed for what only trains longer; PNG bytes."""
    starts = dict.fromkeys(entry["stage"].rpartition("_")[0] for entry in entries)
    colours = dict.fromkeys(start.removesuffix("_longer") for start in starts)
    colours = {start: line_colour(number) for number, start in enumerate(colours)}
    figure = new_figure((CHART[0], CHART[1] + 0.26 * len(starts)))
    axes = figure.subplots()
    for number, start in enumerate(starts):
        own = sorted((e for e in entries if e["stage"].rpartition("_")[0] == start), key=lambda e: e["n_train"])
        images, scores = [e["n_train"] for e in own], [e["score"] for e in own]
        shift = 1.02 ** (number - (len(starts) - 1) / 2)  # bars side by side
        placed = [count * shift for count in images]
        spread = [[e["score"] - e["interval"][0] for e in own], [e["interval"][1] - e["score"] for e in own]]
        colour, dashes = colours[start.removesuffix("_longer")], "--" if start.endswith("_longer") else "-"
        name = own[0]["what"].partition(", from ")[2]
        axes.errorbar(placed, scores, spread, c=colour, ls=dashes, marker="o", markersize=5, linewidth=1.5, label=name)
    dress(axes, "labelled images", "mAP, cross-fitted, 95 % interval")
    axes.set_xscale("log")
    ticks = sorted({entry["n_train"] for entry in entries})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(f"{entries[0]['n']:,} validation images", fontsize=8.5, color=INK, loc="left")
    figure.legend(loc="outside lower left", frameon=False, fontsize=8)
    return png(figure)
