"""How close simulated tiles are to real ones, in aggregates: no real tile is ever drawn."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saltseg.core import metric
from saltseg.reporting.style import png


def statistics(images: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    """Aggregates of images uint8 (N, 101, 101) and masks uint8 {0, 1} of the same shape.

    Spectra: mean power over tiles of deviation 1, one axis at a time under a Hann window, in shares of the
    total, at 0..50 cycles per 101 pixels. Constant tiles count in coverage and in their own share only.
    """
    coverage = metric.coverage(masks)
    constant = images.min((1, 2)) == images.max((1, 2))
    grey = images[~constant].astype(np.float32)
    deviation = grey.std((1, 2))
    scaled = (grey - grey.mean((1, 2), keepdims=True)) / deviation[:, None, None]
    window = np.hanning(grey.shape[1]).astype(np.float32)
    power_down = (np.abs(np.fft.rfft(scaled * window[:, None], axis=1)) ** 2).mean((0, 2))
    power_along = (np.abs(np.fft.rfft(scaled * window, axis=2)) ** 2).mean((0, 1))
    histogram = np.bincount(grey.astype(np.uint8).ravel(), minlength=256) / grey.size
    table = {
        "tiles": len(images),
        "constant tiles": constant.mean(),
        "empty masks": np.mean(coverage == 0),
        "mean coverage": coverage.mean(),
        "coverage above 0.9": np.mean(coverage > 0.9),
        "mean grey, without constant tiles": grey.mean(),
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
        "classes": np.bincount(metric.coverage_class(masks), minlength=11) / len(masks),
    }


def draw(sides: dict[str, dict[str, Any]], images: np.ndarray, masks: np.ndarray) -> bytes:
    """Five aggregate plots, real beside synthetic, over three rows of 16 synthetic tiles; PNG bytes."""
    figure = Figure(figsize=(20, 9), dpi=80, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.05))
    upper, lower = halves
    axes = upper.subplots(1, 5)
    titles = (
        "grey values",
        "power down the section",
        "power along the section",
        "deviation in a tile",
        "coverage class",
    )
    labels = (
        "grey value",
        "cycles per 101 pixels",
        "cycles per 101 pixels",
        "grey values",
        "0 = empty, k = up to k tenths",
    )
    for axis, title, label in zip(axes, titles, labels, strict=True):
        axis.set(title=title, xlabel=label)
    colours = {"real": "black", "synthetic": "tab:orange"}
    for place, (name, side) in enumerate(sides.items()):
        style = {"color": colours[name], "label": name}
        axes[0].plot(side["histogram"], **style)
        axes[1].semilogy(side["power_down"], **style)
        axes[2].semilogy(side["power_along"], **style)
        axes[3].hist(side["deviation"], bins=np.arange(0, 80, 2), density=True, histtype="step", **style)
        axes[4].bar(np.arange(11) + 0.4 * place - 0.2, side["classes"], width=0.4, **style)
    axes[0].legend()
    order = np.random.default_rng(0).permutation(len(images))[:48]
    for axis, index in zip(lower.subplots(3, 16).flat, order, strict=True):
        axis.imshow(images[index], cmap="gray", vmin=0, vmax=255)
        if 0 < masks[index].sum() < masks[index].size:
            axis.contour(masks[index], levels=[0.5], colors="black", linewidths=1.2)
        axis.set_axis_off()
    lower.suptitle("synthetic tiles with the salt boundary")
    return png(figure)
