"""Which tiles to look at (best, median, worst) and how they are drawn: seismic, truth and prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke

from saltseg.core import metric
from saltseg.core.postprocess import Rule
from saltseg.data.competition import Labelled
from saltseg.errors import InputError
from saltseg.reporting.style import INK, MUTED, SALT, png
from saltseg.runs import Predictions

ROWS = 3  # tiles of each kind
COLUMNS = ("seismic", "true mask", "probability", "binary mask")
PIXEL_ZOOM = 3  # pixels of the picture per pixel of a tile; whole, or nearest-neighbour pixels come out uneven
PANEL_DPI = 240  # makes four zoomed tiles as wide as a chart


@dataclass(frozen=True)
class Scored:
    """Labelled tiles with predictions under one rule, all in one order.

    images, true, predicted: uint8 (N, H, W), the last two {0, 1}; probabilities: uint8 (N, H, W) in 255ths;
    average_precision: float64 (N,), the competition's metric per image.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    true: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    average_precision: np.ndarray


def score(predictions: Predictions, labelled: Labelled, rule: Rule) -> Scored:
    """Join predictions to tiles by id; raises InputError for a prediction without a labelled tile."""
    position = {id_: place for place, id_ in enumerate(labelled.ids)}
    ids = tuple(str(id_) for id_ in predictions.ids)
    unknown = [id_ for id_ in ids if id_ not in position]
    if unknown:
        raise InputError(
            f"{len(unknown)} predicted ids are not in train.csv, the first {unknown[0]!r}; "
            "give --input the data that the run was trained on"
        )
    places = [position[id_] for id_ in ids]
    true, predicted = labelled.masks[places], rule.apply(predictions.probabilities, predictions.presence)
    value = metric.average_precision(predicted, true)
    return Scored(ids, labelled.images[places], true, predictions.probabilities, predicted, value)


def choose(scored: Scored, rows: int = ROWS) -> dict[str, list[int]]:
    """Positions of the best, median and worst tiles: {"best": [...], "median": [...], "worst": [...]}.

    Tiles where truth and prediction are both empty score 1 and show nothing, so they are left out while three
    others exist. Equal scores are ordered by id; no tile appears twice; few tiles make shorter lists.
    """
    salt = scored.true.any(axis=(1, 2)) | scored.predicted.any(axis=(1, 2))
    pool = [int(k) for k in (np.flatnonzero(salt) if salt.sum() >= 3 else range(len(scored.ids)))]
    rows = min(rows, max(1, len(pool) // 3))
    best_first = sorted(pool, key=lambda k: (-scored.average_precision[k], scored.ids[k]))
    best, rest = best_first[:rows], best_first[rows:]
    worst = sorted(rest, key=lambda k: (scored.average_precision[k], scored.ids[k]))[:rows]
    middle = [k for k in rest if k not in worst]
    start = max(0, (len(middle) - rows) // 2)
    return {"best": best, "median": middle[start : start + rows], "worst": worst}


def spread(scored: Scored, shares: Sequence[float] = (0.9, 0.5, 0.1)) -> list[int]:
    """Positions of the tiles at these quantiles of AP among tiles with a boundary worth seeing (10 to 90 % salt).

    Falls back to all tiles where none has such a boundary. Equal scores are ordered by id.
    """
    salt = scored.true.mean(axis=(1, 2))
    pool = [int(k) for k in np.flatnonzero((salt >= 0.1) & (salt <= 0.9))] or list(range(len(scored.ids)))
    ordered = sorted(pool, key=lambda k: (scored.average_precision[k], scored.ids[k]))
    return [ordered[round(share * (len(ordered) - 1))] for share in shares]


def title(scored: Scored, place: int) -> str:
    """What stands above a tile, for example "1a2b3c4d5e · AP 0.70 · salt 34 %"."""
    share = 100 * float(scored.true[place].mean())
    shown = "no salt" if share == 0 else f"salt {share:.0f} %" if share >= 1 else "salt < 1 %"
    return f"{scored.ids[place]} · AP {scored.average_precision[place]:.2f} · {shown}"


def draw(scored: Scored, places: Sequence[int]) -> bytes:
    """Panels of the tiles at `places`, one row each; PNG bytes."""
    chosen = list(places)
    return panels(
        scored.images[chosen],
        scored.true[chosen],
        scored.probabilities[chosen],
        scored.predicted[chosen],
        [title(scored, place) for place in chosen],
    )


def panels(
    images: np.ndarray,
    true: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    titles: Sequence[str],
) -> bytes:
    """Seismic, true mask, probability and binary mask of each tile, the true boundary in black; PNG bytes.

    `images` uint8 (N, H, W), drawn from 0 to 255 without stretching, so that a dark tile looks dark; `true`
    and `predicted` {0, 1}; `probabilities` uint8 in 255ths, white 0 to blue 1. `titles`: N, one above each
    row.
    """
    count, height, width = images.shape
    edge, gap, title_height, header = 0.01, 0.09, 0.27, 0.2  # inches, as everything below
    cell = (width * PIXEL_ZOOM / PANEL_DPI, height * PIXEL_ZOOM / PANEL_DPI)
    step = cell[1] + title_height
    size = (4 * cell[0] + 3 * gap + 2 * edge, header + count * step + edge)
    figure = Figure(figsize=size, dpi=PANEL_DPI, facecolor="white")
    lefts = [edge + column * (cell[0] + gap) for column in range(4)]
    for left, name in zip(lefts, COLUMNS, strict=True):
        figure.text(left / size[0], 1 - 0.15 / size[1], name, fontsize=8, color=MUTED)
    for row in range(count):
        top = size[1] - header - row * step - title_height
        place = (edge / size[0], (top + 0.06) / size[1])
        figure.text(*place, titles[row], fontsize=9, color=INK, weight="bold", parse_math=False)
        layers = (images[row] / 255.0, true[row], probabilities[row] / 255.0, predicted[row])
        for name, left, layer in zip(COLUMNS, lefts, layers, strict=True):
            box = (left / size[0], (top - cell[1]) / size[1], cell[0] / size[0], cell[1] / size[1])
            _tile(figure, box, name, layer, true[row])
    return png(figure)


def _tile(
    figure: Figure, box: tuple[float, float, float, float], name: str, layer: np.ndarray, true: np.ndarray
) -> None:
    axes = figure.add_axes(box, xticks=[], yticks=[])
    seismic = name == "seismic"
    axes.imshow(layer, cmap="gray" if seismic else SALT, vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set(color="#b8c1ca", linewidth=0.7)
    if name != "true mask" and 0 < true.mean() < 1:
        halo: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground="white")]
        lines = axes.contour(true, levels=[0.5], colors="black", linewidths=1.3)
        lines.set_path_effects(halo if seismic else [])  # black alone is lost on dark seismic
