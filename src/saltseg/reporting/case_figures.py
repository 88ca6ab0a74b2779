"""Pictures of the case study's document: what is explained is drawn, what was measured is charted. PNG bytes.

Single tiles come from the built-in simulator: the licence of the real ones forbids showing them.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from torch.nn import functional

from saltseg.core.postprocess import HALF
from saltseg.data import synthetic
from saltseg.reporting import case_study, gains
from saltseg.reporting import style as look
from saltseg.reporting.case_study import Curve, Dataset, Study
from saltseg.reporting.style import (
    BLUE,
    CHART,
    FOLD_COLOURS,
    GREEN,
    INK,
    MUTED,
    VERMILION,
    dress,
    legend,
    new_figure,
    png,
)
from saltseg.studies import BASE, QUESTIONS, SHARES

POOLING, SKIPS, NECESSARY, GAP, IMAGES, IMPROVES = QUESTIONS.values()
# A tile of each kind is shown: name, smallest and largest share of salt.
KINDS = (("no salt", 0.0, 0.0), ("sliver", 0.005, 0.04), ("flank", 0.2, 0.35), ("half", 0.45, 0.6), ("most", 0.9, 1.0))
SEED = 4  # of the simulated tiles
DASHED = (0, (2, 1.5))
HALF_AT = HALF.threshold / 255
_percent = PercentFormatter(1, decimals=0, symbol=" %")


def draw(study: Study, dataset: Dataset | None) -> dict[str, bytes]:
    """Every picture that the records and the dataset allow: name in the document → PNG bytes."""
    curves = {variant: case_study.curve(study, variant) for variant in study.records}
    known = study.measured
    found: dict[str, bytes | None] = {
        "tiles": tiles(),
        "unet": diagram(),
        "transposed": transposed(*case_study.transposed()),
        "pooling": pooling(),
        "curves": training_curves(study.records[BASE][0]),
        "gap": gap(study, known(GAP)),
        "thresholds": threshold_curves(curves[BASE]),
        "costs": costs(curves[BASE]),
        "precision_recall": precision_recall({name: curves[name] for name in known(IMPROVES)}),
        "calibration": calibration({name: curves[name] for name in known(IMPROVES)}),
        "boundary": boundary(study, known(SKIPS)),
        "fields": fields(case_study.networks(study.budget)),
    }
    if dataset is not None:
        found["coverage"] = coverage(dataset)
        found["depth"] = None if dataset.depth is None else depth(dataset)
    for name, variants in (("pooling_gains", POOLING), ("skip_gains", SKIPS), ("improve_gains", IMPROVES)):
        chosen = [study.worth[variant] for variant in known(variants)]
        found[name] = gains.chart(chosen, study.noise) if len(chosen) > 1 else None
    if len(known(IMAGES)) > 1:
        found["images"] = images(study, known(IMAGES))
    if len(known(NECESSARY)) > 1:
        found["operations"] = score_by_operations(study, known(NECESSARY))
    return {name: picture for name, picture in found.items() if picture is not None}


# ---------------------------------------------------------------- drawn: the problem and the network


@cache
def examples() -> list[synthetic.Tile]:
    """The first simulated tile of each of `KINDS` whose image is not constant."""
    drawn = [tile for tile in islice(synthetic.tiles(SEED), 120) if tile.image.any()]
    return [next(tile for tile in drawn if low <= tile.mask.mean() <= high) for _, low, high in KINDS]


def outline(axes: Axes, mask: np.ndarray) -> None:
    """The boundary of a mask {0, 1} (H, W) in black, with a white rim that keeps it visible on dark rock."""
    if 0 < mask.mean() < 1:
        lines = axes.contour(mask, levels=[0.5], colors="black", linewidths=1.2)
        lines.set_path_effects([withStroke(linewidth=2.2, foreground="white")])


def log_ticks(axis: Axis, form: str, factor: float = 1) -> None:
    """Plain numbers at 1, 3, 10, 30 … of a logarithmic axis, so that a narrow one has some too and none crowd."""
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: form.format(factor * value)))


def tiles() -> bytes:
    """Simulated tiles of every kind, the boundary of the salt in black, over their masks."""
    shown = examples()
    figure = new_figure((CHART[0], 2.55))
    for column, (tile, (name, _, _)) in enumerate(zip(shown, KINDS, strict=True)):
        for row, layer in enumerate((tile.image / 255, tile.mask)):
            axes = figure.add_subplot(2, len(shown), 1 + column + row * len(shown), xticks=[], yticks=[])
            axes.imshow(layer, cmap="gray" if row == 0 else look.SALT, vmin=0, vmax=1, interpolation="nearest")
            outline(axes, tile.mask)
            axes.spines[:].set(color="#b8c1ca", linewidth=0.7)
            if row == 0:
                axes.set_title(f"{name}\n{100 * tile.mask.mean():.0f} % of pixels", fontsize=8, color=INK)
            if column == 0:
                axes.set_ylabel(("image", "mask")[row], fontsize=9, color=INK)
    return png(figure)


def coverage(dataset: Dataset) -> bytes:
    """How many tiles have how much salt."""
    figure = new_figure((CHART[0], 2.7))
    axes = figure.subplots()
    classes = np.ceil(10 * np.round(dataset.coverage, 6)).astype(int)
    counts = np.bincount(classes, minlength=11)
    axes.bar(range(11), counts / len(classes), width=0.75, color=[MUTED, *[BLUE] * 10])
    for place, count in enumerate(counts):
        axes.text(place, count / len(classes), f"{count:,}", ha="center", va="bottom", fontsize=7.5, color=INK)
    axes.set_xticks(range(11), ["none", *(f"≤{10 * k}" for k in range(1, 11))])
    dress(axes, "salt in the true mask, percent of the tile", "share of the tiles")
    axes.yaxis.set_major_formatter(_percent)
    axes.grid(False, axis="x")
    return png(figure)


def depth(dataset: Dataset) -> bytes:
    """How deep the tiles lie, with and without salt."""
    assert dataset.depth is not None
    figure = new_figure((CHART[0], 2.7))
    axes = figure.subplots()
    edges = np.linspace(dataset.depth.min(), dataset.depth.max() + 1, 25).tolist()
    for name, chosen, colour in (("with salt", dataset.coverage > 0, BLUE), ("no salt", dataset.coverage == 0, MUTED)):
        axes.hist(dataset.depth[chosen], edges, histtype="step", color=colour, linewidth=1.8, label=name)
    dress(axes, "depth z as given in depths.csv (unit not stated)", "tiles")
    legend(axes)
    return png(figure)


def diagram() -> bytes:
    """The U-Net as it is: channels x height x width behind every block, traced through the network."""
    found = case_study.shapes()
    figure = new_figure((CHART[0], 4.1))
    axes = figure.subplots()
    axes.set_axis_off()
    width, height, step, right = 2.0, 0.62, 0.55, 9.0

    def text(block: str) -> str:
        channels, rows, columns = found[block]
        return f"{channels} × {rows} × {columns}"

    def box(x: float, y: float, label: str, colour: str) -> None:
        axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=INK, linewidth=0.8))
        axes.text(x + width / 2, y + height / 2, label, ha="center", va="center", fontsize=7.6, color=INK)

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, style: Any = "-") -> None:
        kind: Any = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 1, "shrinkB": 1}
        axes.add_patch(FancyArrowPatch(start, end, color=colour, linewidth=1.4, linestyle=style, **kind))

    contract, expand = "#dcebf6", "#e3f1e6"
    for level in range(5):
        y, x, mirrored = -1.25 * level, step * level, right - step * level
        if level == 4:
            x = (right) / 2
        box(x, y, text(f"contract{level + 1}"), contract)
        if level < 4:
            box(mirrored, y, text(f"expand{9 - level}"), expand)
            arrow((x + width, y + height / 2), (mirrored, y + height / 2), MUTED, DASHED)
            channels = found[f"contract{level + 1}"][0]
            joined = f"copy: {channels} + {found[f'up{9 - level}'][0]} channels"
            axes.text(
                (right + width) / 2, y + height / 2 + 0.09, joined, ha="center", va="bottom", fontsize=7, color=MUTED
            )
    for level in range(4):
        y, x, mirrored = -1.25 * level, step * level, right - step * level
        below = -1.25 * (level + 1) + height
        target = x + step if level < 3 else right / 2 - 0.25
        arrow((x + width / 2 + 0.1, y), (target + width / 2 - 0.1, below), VERMILION)
        source = mirrored - step if level < 3 else right / 2 + 0.25
        arrow((source + width / 2 + 0.1, below), (mirrored + width / 2 - 0.1, y), GREEN)
    axes.text(width / 2, height + 0.42, "image 1 × 128 × 128", ha="center", fontsize=7.6, color=INK)
    arrow((width / 2, height + 0.38), (width / 2, height), INK)
    axes.text(right + width / 2, height + 0.42, f"logits {text('head')}", ha="center", fontsize=7.6, color=INK)
    arrow((right + width / 2, height), (right + width / 2, height + 0.38), INK)
    twice = "2 × (3×3 conv, norm, ReLU)"
    kinds = ((contract, f"contract: {twice}"), (expand, f"expand: join, {twice}"))
    lines = (
        (VERMILION, "-", "2×2 max pooling, dropout"),
        (GREEN, "-", "3×3 transposed convolution, stride 2"),
        (MUTED, DASHED, "skip connection"),
    )
    handles = [
        *(Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor=INK, lw=0.8, label=name) for colour, name in kinds),
        *(Line2D([], [], color=colour, linestyle=style, label=name) for colour, style, name in lines),
    ]
    axes.set_xlim(-0.1, right + width + 0.1)
    axes.set_ylim(-1.25 * 4 - 0.15, height + 0.85)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7.6, frameon=False, labelcolor=INK)
    return png(figure)


def transposed(image: np.ndarray, kernel: np.ndarray, output: np.ndarray) -> bytes:
    """A transposed convolution in four grids: what goes in, the kernel, one number's stamp, the sum of all stamps.

    image (2, 2), kernel (3, 3), output (4, 4): see `case_study.transposed`.
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
        axes.imshow(grid, cmap=look.SALT, vmin=0, vmax=image.max(), interpolation="nearest")
        axes.set_xticks(np.arange(size + 1) - 0.5, [])
        axes.set_yticks(np.arange(size + 1) - 0.5, [])
        axes.grid(True, color="white", linewidth=1.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row, column in np.ndindex(grid.shape):
            bold = "bold" if (row, column) == marked else "normal"
            axes.text(column, row, f"{grid[row, column]:g}", ha="center", va="center", fontsize=7.5, weight=bold)
        axes.set_title(title, fontsize=8.5, color=INK)
        axes.set_anchor("N")
    return png(figure)


def pooling() -> bytes:
    """A simulated tile, and what is left of it after three poolings of each kind."""
    tile = examples()[2]
    image = torch.from_numpy(tile.image[:96, :96].astype(np.float32) / 255)[None, None]
    shown = [("the tile", image)]
    for name, pool in (("max", functional.max_pool2d), ("average", functional.avg_pool2d)):
        shown += [(f"{name} pooling, {size}×{size}", pool(image, size)) for size in (2, 8)]
    figure = new_figure((CHART[0], 1.4))
    for axes, (name, layer) in zip(figure.subplots(1, len(shown)), shown, strict=True):
        axes.imshow(layer[0, 0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set(color="#b8c1ca", linewidth=0.7)
        axes.set_title(name.replace(", ", "\n"), fontsize=8, color=INK)
    return png(figure)


def fields(networks: case_study.Networks) -> bytes:
    """What one pixel in the middle of the network's input can depend on, against the tile."""
    figure = new_figure((CHART[0], 3.3))
    axes = figure.subplots()
    size, tile = networks.size, examples()[3]
    half = size / 2
    axes.imshow(tile.image, cmap="gray", extent=(-half, half, half, -half), alpha=0.75)
    outer = max(networks.field, size) / 2
    for name, field, colour in (
        ("U-Net", networks.field, BLUE),
        ("full resolution, dilated", networks.dilated, GREEN),
        ("full resolution, plain", networks.plain, VERMILION),
    ):
        square = Rectangle((-field / 2, -field / 2), field, field, fill=False, edgecolor=colour, linewidth=2)
        square.set_label(f"{name}: {field} × {field}")
        axes.add_patch(square)
    axes.plot(0, 0, "+", color=VERMILION, markersize=7)
    axes.set_xlim(-1.05 * outer, 1.05 * outer)
    axes.set_ylim(1.05 * outer, -1.05 * outer)
    axes.set_aspect("equal")
    axes.set_axis_off()
    title = f"in pixels of the network's\ninput, here {size} × {size}"
    options = {"loc": "outside right center", "fontsize": 9, "frameon": False, "labelcolor": INK, "alignment": "left"}
    figure.legend(title=title, title_fontsize=9, labelspacing=0.9, **options)
    return png(figure)


# ---------------------------------------------------------------- charted: training


def training_curves(entry: Mapping[str, Any]) -> bytes:
    """Losses of a record per epoch above (training dashed), learning rate below, one colour per fold."""
    figure = new_figure((CHART[0], CHART[1] + 0.4))
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    handles = [
        Line2D([], [], color=MUTED, linewidth=1.8, label="validation"),
        Line2D([], [], color=MUTED, linewidth=1.3, linestyle=DASHED, label="training"),
    ]
    for place, (fold, rows) in enumerate(zip(entry["folds"], entry["curves"], strict=True)):
        colour = FOLD_COLOURS[place % len(FOLD_COLOURS)]
        epoch, dot = [row["epoch"] for row in rows], "o" if len(rows) <= 15 else ""
        for key, style in (("train_loss", {"linestyle": DASHED, "linewidth": 1.3}), ("valid_loss", {"linewidth": 1.8})):
            losses.plot(epoch, [row[key] for row in rows], marker=dot, color=colour, markersize=3, **style)
        rates.plot(epoch, [row["learning_rate"] for row in rows], marker=dot, color=colour, markersize=3)
        handles.append(Line2D([], [], color=colour, linewidth=3, label=f"fold {fold}"))
    dress(losses, "", "log-loss")
    dress(rates, "epoch", "learning rate")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    rates.set_ylim(bottom=0)
    legend(losses, handles=handles, ncols=2)
    return png(figure)


def gap(study: Study, variants: Sequence[str]) -> bytes:
    """Score at 0.5 on training images (hollow) and on validation images (full), one line per variant."""
    figure = new_figure((CHART[0], 1.1 + 0.36 * len(variants)))
    axes = figure.subplots()
    for place, variant in enumerate(variants):
        train, valid = (case_study.sides(study, variant, side)[1] for side in ("train", "valid"))
        axes.plot((valid, train), (place, place), color=look.GRID, linewidth=4, zorder=1)
        axes.plot(valid, place, "o", color=BLUE, markersize=8, label="validation images" if place == 0 else None)
        axes.plot(train, place, "o", color=BLUE, markerfacecolor="white", markeredgewidth=1.6, markersize=8,
                  label="training images" if place == 0 else None)  # fmt: skip
        axes.text((train + valid) / 2, place - 0.2, f"{train - valid:+.3f}", ha="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(variants)), variants)
    axes.set_ylim(len(variants) - 0.5, -0.6)
    axes.margins(x=0.15)
    dress(axes, "score at threshold 0.5 (mAP)", "")
    axes.grid(False, axis="y")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, frameon=False, labelcolor=INK)
    return png(figure)


def images(study: Study, variants: Sequence[str]) -> bytes:
    """Score at 0.5 against the number of training images, on training and on validation images."""
    assert all(variant in SHARES or variant == BASE for variant in variants)
    order = sorted(variants, key=lambda variant: study.records[variant][0]["n_train"])
    counts = [study.records[variant][0]["n_train"] for variant in order]
    figure = new_figure((CHART[0], 3.2))
    axes = figure.subplots()
    train, valid = ([case_study.sides(study, name, side)[1] for name in order] for side in ("train", "valid"))
    axes.plot(counts, train, "o", linestyle=DASHED, color=MUTED, markerfacecolor="white", label="training, 0.5")
    axes.plot(counts, valid, "o-", color=BLUE, label="validation, 0.5")
    fitted = [study.worth[variant].cross_fitted for variant in order]
    axes.plot(counts, fitted, "s-", color=GREEN, markersize=5, label="validation, tuned rule")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    dress(axes, "training images", "score (mAP)")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8.5, frameon=False, labelcolor=INK)
    return png(figure)


# ---------------------------------------------------------------- charted: the questions


def boundary(study: Study, variants: Sequence[str]) -> bytes:
    """Share of wrong pixels at each distance to the true boundary, one line per variant."""
    figure = new_figure()
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    for place, variant in enumerate(variants):
        found = case_study.by_distance(study, variant)
        # The first pixels on either side are ±1; half a pixel in from there, the axis has no gap.
        middle = found.distance - 0.5 * np.sign(found.distance)
        style: dict[str, Any] = {"linewidth": 2.4, "zorder": 4} if variant == BASE else {"linewidth": 1.6}
        axes.plot(middle, found.rate, color=FOLD_COLOURS[place % len(FOLD_COLOURS)], label=variant, **style)
    reach = int(found.distance.max())
    axes.set_xticks(
        (-reach, -reach / 2, 0, reach / 2, reach), (f"≤−{reach}", f"−{reach / 2:g}", "0", f"{reach / 2:g}", f"≥{reach}")
    )
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_percent)
    dress(axes, "pixels from the true boundary: outside the salt < 0 < inside", "pixels that are wrong at 0.5")
    legend(axes)
    return png(figure)


def score_by_operations(study: Study, variants: Sequence[str]) -> bytes:
    """Cross-fitted score against operations; the area of a mark grows with the parameters."""
    figure = new_figure((CHART[0], 3.4))
    axes = figure.subplots()
    kinds = (("U-Net", BLUE), ("full resolution, plain", VERMILION), ("full resolution, dilated", GREEN))
    for variant in variants:
        entry, worth = study.records[variant][0], study.worth[variant]
        kind = 0 if not variant.startswith("fcn") else 2 if variant.endswith("dilated") else 1
        area = 30 + 300 * (entry["parameters"] / study.records[BASE][0]["parameters"]) ** 0.5
        axes.scatter(entry["operations"] / 1e9, worth.cross_fitted, s=area, color=kinds[kind][1], alpha=0.75, lw=0)
        left = variant in (BASE, "fcn_same_operations", "fcn_same_operations_dilated")
        away = 6 + area**0.5 / 2
        axes.annotate(
            variant.removeprefix("fcn_").removesuffix("_dilated").replace("_", " "),
            (entry["operations"] / 1e9, worth.cross_fitted), (-away if left else away, 0), va="center",
            textcoords="offset points", ha="right" if left else "left", fontsize=8, color=INK,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.3, y=0.15)
    log_ticks(axes.xaxis, "{:g}")
    dress(axes, "operations of one prediction, GFLOP", "score with the tuned rule (mAP)")
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in kinds]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8.5, frameon=False, labelcolor=INK)
    return png(figure)


def precision_recall(curves: Mapping[str, Curve]) -> bytes:
    """Precision against recall over pooled pixels, one line per variant, threshold 0.5 marked."""
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    lowest = 1.0
    for place, (variant, found) in enumerate(curves.items()):
        colour = FOLD_COLOURS[place % len(FOLD_COLOURS)]
        axes.plot(found.recall, found.precision, color=colour, linewidth=1.8, label=f"{variant}: area {found.area:.4f}")
        point = found.recall[HALF.threshold], found.precision[HALF.threshold]
        axes.plot(*point, "o", color=colour, markersize=8, markeredgecolor="white", zorder=5)
        lowest = min(lowest, *point)
    start = max(0, np.floor(10 * (lowest - 0.2)) / 10)
    axes.set_xlim(start, 1.005)
    axes.set_ylim(start, 1.005)
    dress(axes, "recall: share of the true salt found", "precision: share of the\nmarked that is salt")
    legend(axes, loc="lower left", title="dots: threshold 0.5", title_fontsize=8.5, alignment="left")
    return png(figure)


def threshold_curves(found: Curve) -> bytes:
    """Per pixel precision and recall, per image salt missed and salt invented, against the threshold."""
    figure = new_figure((CHART[0], 4.3))
    threshold = np.arange(1, 256) / 255
    panels = (
        ("pixels", (("precision", found.precision, GREEN), ("recall", found.recall, BLUE))),
        (
            "images",
            (
                ("with salt: none marked", found.missed_share, BLUE),
                ("without salt: some marked", found.invented_share, VERMILION),
            ),
        ),
    )
    both = figure.subplots(2, 1, sharex=True)
    for axes, (name, lines) in zip(both, panels, strict=True):
        axes.axvline(HALF_AT, color=MUTED, linewidth=1, linestyle=DASHED)
        for label, values, colour in lines:
            axes.plot(threshold, values[1:], color=colour, linewidth=1.8, label=label)
        dress(axes, "", f"share of the {name}")
        axes.yaxis.set_major_formatter(_percent)
        legend(axes)
    both[1].set_ylim(bottom=0)
    both[1].set_xlabel("salt where the probability is at least", fontsize=10, color=INK)
    return png(figure)


def costs(found: Curve) -> bytes:
    """What errors cost against the threshold, one line per price of missed salt, its cheapest threshold marked."""
    figure = new_figure((CHART[0], 3.6))
    axes = figure.subplots()
    for place, ratio in enumerate(case_study.RATIOS):
        colour, cost = FOLD_COLOURS[place], found.cost(ratio)
        best = case_study.cheapest(found, ratio)
        name = f"{ratio:g}" if ratio >= 1 else f"1/{1 / ratio:g}"
        axes.plot(np.arange(1, 256) / 255, cost[1:], color=colour, linewidth=1.8, label=f"missed salt costs {name}")
        axes.plot(best / 255, cost[best], "o", color=colour, markersize=8, markeredgecolor="white", zorder=5)
        theory = round(255 / (1 + ratio))
        axes.plot(theory / 255, cost[theory], "x", color=colour, markersize=7, markeredgewidth=2, zorder=6)
    axes.set_yscale("log")
    log_ticks(axes.yaxis, "{:,g}")
    dress(axes, "salt where the probability is at least", "cost of 1,000 pixels\n(an invented one costs 1)")
    handles, _ = axes.get_legend_handles_labels()
    handles += [
        Line2D([], [], color=MUTED, marker="o", linestyle="", label="cheapest here"),
        Line2D([], [], color=MUTED, marker="x", markeredgewidth=2, linestyle="", label="if calibrated: 1 / (1 + cost)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False, labelcolor=INK)
    return png(figure)


def calibration(curves: Mapping[str, Curve]) -> bytes:
    """How often pixels of each predicted probability are salt; below, how many pixels there are of each."""
    figure = new_figure((CHART[0], 4.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=DASHED, label="calibrated")
    for place, (variant, curve) in enumerate(curves.items()):
        colour, found = FOLD_COLOURS[place % len(FOLD_COLOURS)], case_study.calibration(curve)
        label = f"{variant}: expected error {found.error:.4f}"
        upper.plot(found.predicted, found.salt, "o-", color=colour, markersize=5, linewidth=1.6, label=label)
        lower.plot(found.predicted, found.pixels / curve.pixels, "o-", color=colour, markersize=3, linewidth=1.2)
    dress(upper, "", "share that is salt")
    dress(lower, "predicted probability of salt", "share of pixels")
    lower.set_yscale("log")
    log_ticks(lower.yaxis, "{:.3g} %", 100)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, frameon=False, labelcolor=INK)
    return png(figure)
