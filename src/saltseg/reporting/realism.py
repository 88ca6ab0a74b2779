"""How close simulated tiles are to real ones, in aggregates: no real tile is drawn."""

from typing import Any

import numpy as np

from saltseg.metrics import pixels
from saltseg.reporting.style import INK, VERMILION, dress, legend, new_figure, png

COLORS = {"real": INK, "synthetic": VERMILION}
PLOTS = (  # title, x label
    ("gray values", "gray value"),
    ("power down the section", "cycles per 101 pixels"),
    ("power along the section", "cycles per 101 pixels"),
    ("standard deviation in a tile", "gray values"),
    ("coverage class", "0 = empty, k = up to k tenths"),
)


def statistics(images: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    """Aggregates of a set of tiles; constant tiles count in coverage and in their own share only.

    Args:
        images: uint8 (N, 101, 101).
        masks: uint8 {0, 1} (N, 101, 101).

    Returns:
        table: name -> number. histogram: (256,), shares of gray values. power_down, power_along: (51,), shares of the
        power at 0..50 cycles per 101 pixels along one axis, under a Hann window, mean over tiles scaled to standard
        deviation 1. deviation: (M,), per tile. classes: (11,), shares of coverage classes.
    """
    coverage = pixels.coverage(masks)
    constant = images.min((1, 2)) == images.max((1, 2))
    gray = images[~constant].astype(np.float32)
    deviation = gray.std((1, 2))
    scaled = (gray - gray.mean((1, 2), keepdims=True)) / deviation[:, None, None]
    window = np.hanning(gray.shape[1]).astype(np.float32)
    power_down = (np.abs(np.fft.rfft(scaled * window[:, None], axis=1)) ** 2).mean((0, 2))
    power_along = (np.abs(np.fft.rfft(scaled * window, axis=2)) ** 2).mean((0, 1))
    histogram = np.bincount(gray.astype(np.uint8).ravel(), minlength=256) / gray.size
    table = {
        "tiles": len(images),
        "constant tiles": constant.mean(),
        "empty masks": np.mean(coverage == 0),
        "mean coverage": coverage.mean(),
        "coverage above 0.9": np.mean(coverage > 0.9),
        "mean gray, without constant tiles": gray.mean(),
        "deviation in a tile, median": np.median(deviation),
        "kurtosis in a tile, median": np.median((scaled**4).mean((1, 2))),
        "correlation 4 pixels down": np.mean(scaled[:, 4:] * scaled[:, :-4]),
        "correlation 4 pixels along": np.mean(scaled[:, :, 4:] * scaled[:, :, :-4]),
    }
    return {
        "table": table,
        "histogram": histogram,
        "power_down": power_down / power_down.sum(),
        "power_along": power_along / power_along.sum(),
        "deviation": deviation,
        "classes": np.bincount(pixels.coverage_class(masks), minlength=11) / len(masks),
    }


def draw(sides: dict[str, dict[str, Any]], images: np.ndarray, masks: np.ndarray) -> bytes:
    """Five aggregate plots over three rows of 16 synthetic tiles.

    Args:
        sides: "real" (may be missing) and "synthetic" -> its `statistics`.
        images: the synthetic tiles, uint8 (N, 101, 101), N at least 48.
        masks: uint8 {0, 1} (N, 101, 101), drawn as a black boundary.

    Returns:
        PNG bytes.
    """
    figure = new_figure((15, 6.75))
    figure.set_dpi(110)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    axes = halves[0].subplots(1, 5)
    for axis, (title, label) in zip(axes, PLOTS, strict=True):
        dress(axis, label, "")
        axis.set_title(title, fontsize=10, color=INK)
    for index, (name, side) in enumerate(sides.items()):
        style = {"color": COLORS[name], "label": name}
        axes[0].plot(side["histogram"], **style)
        axes[1].semilogy(side["power_down"], **style)
        axes[2].semilogy(side["power_along"], **style)
        axes[3].hist(side["deviation"], bins=np.arange(0, 80, 2), density=True, histtype="step", **style)
        axes[4].bar(np.arange(11) + 0.4 * index - 0.2, side["classes"], width=0.4, **style)
    legend(axes[0])
    order = np.random.default_rng(0).permutation(len(images))[:48]
    for axis, tile in zip(halves[1].subplots(3, 16).flat, order, strict=True):
        axis.imshow(images[tile], cmap="gray", vmin=0, vmax=255)
        if 0 < masks[tile].sum() < masks[tile].size:
            axis.contour(masks[tile], levels=[0.5], colors="black", linewidths=1.2)
        axis.set_axis_off()
    halves[1].suptitle("synthetic tiles with the salt boundary", fontsize=10, color=INK)
    return png(figure)
