"""Tiles for a page: which are shown (best, median, worst) and how they are drawn (seismic, truth, prediction)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from saltseg.data.competition import Labeled
from saltseg.errors import InputError
from saltseg.metrics import average_precision
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.predictions import Predictions
from saltseg.reporting.style import INK, MUTED, SALT, png

ROWS = 3  # tiles of each kind
COLUMNS = ("seismic", "true mask", "probability", "binary mask")
PIXEL_ZOOM = 3  # pixels of the picture per pixel of a tile; whole, or nearest-neighbor pixels come out uneven
PANEL_DPI = 240  # makes four zoomed tiles as wide as a chart


@dataclass(frozen=True)
class ScoredTiles:
    """Labeled tiles with masks after post-processing, all in one order.

    Attributes:
        images, true, predicted: uint8 (N, H, W), the last two {0, 1}.
        probabilities: uint8 (N, H, W) in 255ths.
        average_precision: float64 (N,), the competition's metric per image.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    true: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    average_precision: np.ndarray


def score(predictions: Predictions, labeled: Labeled, postprocessing: Postprocessing) -> ScoredTiles:
    """Join predictions to tiles by id and score them; InputError for a prediction without a labeled tile."""
    index_of_id = {id_: index for index, id_ in enumerate(labeled.ids)}
    ids = tuple(str(id_) for id_ in predictions.ids)
    unknown = [id_ for id_ in ids if id_ not in index_of_id]
    if unknown:
        raise InputError(
            f"{len(unknown)} predicted ids are not in train.csv, the first {unknown[0]!r}; "
            "give --input the data that the run was trained on"
        )
    tiles = labeled.subset(np.array([index_of_id[id_] for id_ in ids], int))
    predicted = postprocessing.apply(predictions.probabilities, predictions.presence_probability)
    value = average_precision.average_precision(predicted, tiles.masks)
    return ScoredTiles(ids, tiles.images, tiles.masks, predictions.probabilities, predicted, value)


def choose(scored: ScoredTiles, rows: int = ROWS) -> dict[str, list[int]]:
    """Indices of the best, median and worst tiles: {"best": [...], "median": [...], "worst": [...]}.

    Tiles that are empty in truth and prediction score 1 and show nothing: they are left out while three others exist.
    Equal scores are ordered by id; no tile appears twice; few tiles make shorter lists.
    """
    salt = scored.true.any(axis=(1, 2)) | scored.predicted.any(axis=(1, 2))
    candidates = [int(k) for k in (np.flatnonzero(salt) if salt.sum() >= 3 else range(len(scored.ids)))]
    rows = min(rows, max(1, len(candidates) // 3))
    best_first = sorted(candidates, key=lambda k: (-scored.average_precision[k], scored.ids[k]))
    best, rest = best_first[:rows], best_first[rows:]
    worst = sorted(rest, key=lambda k: (scored.average_precision[k], scored.ids[k]))[:rows]
    middle = [k for k in rest if k not in worst]
    start = max(0, (len(middle) - rows) // 2)
    return {"best": best, "median": middle[start : start + rows], "worst": worst}


def at_quantiles(scored: ScoredTiles, quantiles: Sequence[float] = (0.9, 0.5, 0.1)) -> list[int]:
    """Indices of the tiles at these quantiles of AP among tiles with 10 to 90 % salt, or among all if there are none.

    Equal scores are ordered by id.
    """
    salt = scored.true.mean(axis=(1, 2))
    candidates = [int(k) for k in np.flatnonzero((salt >= 0.1) & (salt <= 0.9))] or list(range(len(scored.ids)))
    ordered = sorted(candidates, key=lambda k: (scored.average_precision[k], scored.ids[k]))
    return [ordered[round(quantile * (len(ordered) - 1))] for quantile in quantiles]


def title(scored: ScoredTiles, index: int) -> str:
    """The title of a tile, for example "1a2b3c4d5e · AP 0.70 · salt 34 %"."""
    share = 100 * float(scored.true[index].mean())
    salt = "no salt" if share == 0 else f"salt {share:.0f} %" if share >= 1 else "salt < 1 %"
    return f"{scored.ids[index]} · AP {scored.average_precision[index]:.2f} · {salt}"


def draw(scored: ScoredTiles, indices: Sequence[int]) -> bytes:
    """Seismic, true mask, probability and binary mask of these tiles, one row each, with the true boundary in black.

    Seismic is drawn from 0 to 255 without stretching: a dark tile looks dark. Probabilities are drawn from white (0) to
    blue (1).

    Returns:
        PNG bytes.
    """
    height, width = (PIXEL_ZOOM * pixels / PANEL_DPI for pixels in scored.images.shape[1:])  # inches, as all below
    edge, gap, title_height, header = 0.01, 0.09, 0.27, 0.2
    figure_width = 4 * width + 3 * gap + 2 * edge
    figure_height = header + len(indices) * (title_height + height) + edge
    figure = Figure(figsize=(figure_width, figure_height), dpi=PANEL_DPI, facecolor="white")
    figure.subplots_adjust(
        left=edge / figure_width,
        right=1 - edge / figure_width,
        bottom=edge / figure_height,
        top=1 - (header + title_height) / figure_height,
        wspace=gap / width,
        hspace=title_height / height,
    )
    rows = figure.subplots(len(indices), 4, squeeze=False, subplot_kw={"xticks": [], "yticks": []})
    for axes, name in zip(rows[0], COLUMNS, strict=True):
        figure.text(axes.get_position().x0, 1 - 0.15 / figure_height, name, fontsize=8, color=MUTED)
    for row, index in zip(rows, indices, strict=True):
        style = {"fontsize": 9, "color": INK, "weight": "bold", "parse_math": False}
        row[0].set_title(title(scored, index), loc="left", pad=0.06 * 72, **style)
        true = scored.true[index]
        layers = (scored.images[index] / 255, true, scored.probabilities[index] / 255, scored.predicted[index])
        for axes, layer, name in zip(row, layers, COLUMNS, strict=True):
            seismic = name == "seismic"
            axes.imshow(layer, cmap="gray" if seismic else SALT, vmin=0, vmax=1, interpolation="nearest")
            axes.spines[:].set(color="#b8c1ca", linewidth=0.7)
            if name != "true mask" and 0 < true.mean() < 1:
                boundary = axes.contour(true, levels=[0.5], colors="black", linewidths=1.3)
                if seismic:  # black alone is lost on dark seismic
                    boundary.set_path_effects([withStroke(linewidth=2.4, foreground="white")])
    return png(figure)
