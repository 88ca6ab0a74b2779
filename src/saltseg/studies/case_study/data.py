"""The data in the document: salt and depth of the dataset, predicted tiles, and their figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from saltseg import io
from saltseg.data import competition
from saltseg.data.competition import SHAPE
from saltseg.errors import InputError
from saltseg.metrics import pixels
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.reporting.style import BLUE, CHART, INK, MUTED, dress, legend_outside, new_figure
from saltseg.studies import records
from saltseg.studies.case_study.results import CaseStudy
from saltseg.studies.case_study.variants import BASE, SHOWN
from saltseg.studies.records import Record

PERCENT = PercentFormatter(1, decimals=0, symbol=" %")


@dataclass(frozen=True)
class Dataset:
    """Aggregates of the labeled tiles; single ones may not be shown, where they are real.

    Attributes:
        coverage: share of salt, float64 (N,) in [0, 1].
        constant: tiles of one gray value, bool (N,).
        depth: z, int64 (N,), or None where the dataset has none.
        simulated: whether the tiles are.
    """

    coverage: np.ndarray
    constant: np.ndarray
    depth: np.ndarray | None
    simulated: bool

    def thirds(self) -> list[tuple[int, int, float]]:
        """Shallowest, middle and deepest third of the tiles: smallest z, largest z, share of them that holds salt."""
        assert self.depth is not None
        parts = np.array_split(np.argsort(self.depth, kind="stable"), 3)
        found = [(self.depth[part], self.coverage[part]) for part in parts]
        return [(int(z.min()), int(z.max()), float(np.mean(coverage > 0))) for z, coverage in found]


def read_dataset(study: CaseStudy) -> Dataset | None:
    """The dataset of the records; None where it is not there or has changed."""
    root = study.sweep.input_dir / study.sweep.data
    if not (root / "train.csv").is_file() or competition.fingerprint(root) != study.records[BASE][0].dataset_hash:
        return None
    labeled = competition.read_train(root)
    depths = competition.read_depths(root) or {}
    known = all(id_ in depths for id_ in labeled.ids)
    return Dataset(
        pixels.coverage(labeled.masks),
        labeled.images.min(axis=(1, 2)) == labeled.images.max(axis=(1, 2)),
        np.array([depths[id_] for id_ in labeled.ids]) if known else None,
        competition.is_synthetic(root),
    )


@dataclass(frozen=True)
class PredictedTiles:
    """Simulated tiles and what one variant's network predicts.

    Attributes:
        record: of the same training.
        images: uint8 (2, T, H, W), [0] training and [1] validation images.
        masks: {0, 1} uint8, likewise.
        probabilities: uint8 in 255ths, likewise.
    """

    record: Record
    images: np.ndarray
    masks: np.ndarray
    probabilities: np.ndarray


def read_tiles(study: CaseStudy) -> list[PredictedTiles]:
    """The tiles of `SHOWN`: of the study's own dataset if it is simulated, else of the first simulated one.

    Empty where no simulated data was studied with this budget. A variant without a tile of either side is left out.

    Raises InputError for damaged files.
    """
    sweep = study.sweep
    folders = sweep.folder.parent.glob(f"{sweep.study.name}-*-{sweep.budget_name}")
    for folder in sorted(folders, key=lambda folder: (folder != sweep.folder, folder.name)):
        found = [_read_tiles(path) for name in SHOWN if (path := folder / f"{name}-0.npz").is_file()]
        if found := [tiles for tiles in found if tiles.images.shape[1]]:
            return found
    return []


def _read_tiles(path: Path) -> PredictedTiles:
    names = ("images", "masks", "probabilities")
    arrays = io.read_arrays(path, (*names, "ids", "git_commit"), "tiles of a study", "saltseg study case_study")
    shape = arrays["images"].shape
    alike = all(arrays[name].shape == shape and arrays[name].dtype == np.uint8 for name in names)
    if not alike or len(shape) != 4 or shape[0] != 2:
        raise io.unreadable(path, "tiles of a study", f"{arrays['images'].dtype} {shape}")
    record = records.read(path.with_suffix(".json"))
    if str(arrays["git_commit"]) != str(record.commit):
        raise InputError(f"{path} is of another training than the record beside it; remove both and rerun the study")
    return PredictedTiles(record, *(arrays[name] for name in names))


# ---------------------------------------------------------------- figures


def coverage_figure(dataset: Dataset) -> Figure:
    """How many tiles have how much salt."""
    figure = new_figure((CHART[0], 2.7))
    axes = figure.subplots()
    area = math.prod(SHAPE)
    classes = pixels.coverage_class_from_areas(np.rint(dataset.coverage * area), area)
    counts = np.bincount(classes, minlength=11)
    axes.bar(range(11), counts / len(classes), width=0.75, color=[MUTED, *[BLUE] * 10])
    for x, count in enumerate(counts):
        axes.text(x, count / len(classes), f"{count:,}", ha="center", va="bottom", fontsize=7.5, color=INK)
    axes.set_xticks(range(11), ["none", *(f"≤{10 * k}" for k in range(1, 11))])
    dress(axes, "salt in the true mask, percent of the tile", "share of the tiles\n(their number above)")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(False, axis="x")
    return figure


def depth_figure(dataset: Dataset) -> Figure:
    """How deep the tiles lie, with and without salt."""
    assert dataset.depth is not None
    figure = new_figure((CHART[0], 2.7))
    axes = figure.subplots()
    edges = np.linspace(dataset.depth.min(), dataset.depth.max() + 1, 25).tolist()
    for name, chosen, color in (("with salt", dataset.coverage > 0, BLUE), ("no salt", dataset.coverage == 0, MUTED)):
        axes.hist(dataset.depth[chosen], edges, histtype="step", color=color, linewidth=1.8, label=name)
    dress(axes, "depth z as given in depths.csv (unit not stated)", "number of tiles")
    legend_outside(figure, 2)
    return figure


def predicted_figure(found: Sequence[PredictedTiles]) -> Figure:
    """A row for each variant, as many tiles as all have: training left, validation right; IoU above each."""
    count = min(tiles.images.shape[1] for tiles in found)
    figure = new_figure((CHART[0], 0.55 + 0.8 * len(found)))
    for side, half in enumerate(figure.subfigures(1, 2, squeeze=False)[0]):
        half.suptitle(f"{('training', 'validation')[side]} images", fontsize=9, color=INK)
        grid = half.subplots(len(found), count, squeeze=False)
        for row, tiles in zip(grid, found, strict=True):
            marked = THRESHOLD_HALF.apply(tiles.probabilities[side])
            scores = pixels.per_image(marked, tiles.masks[side])["iou"]
            for index, axes in enumerate(row):
                _show(axes, tiles.images[side, index], marked[index], tiles.masks[side, index])
                axes.set_title(f"IoU {scores[index]:.2f}", fontsize=7, color=INK, pad=2)
            if side == 0:
                row[0].set_ylabel(tiles.record.variant, fontsize=8, color=INK)
    handles = [Patch(color=to_rgba(BLUE, 0.45), label="marked as salt")]
    legend_outside(figure, 2, "lower center", handles=handles)
    return figure


def _show(axes: Axes, image: np.ndarray, marked: np.ndarray, mask: np.ndarray) -> None:
    """A tile with what is marked in blue and the true boundary in black, its white rim visible on dark rock."""
    axes.imshow(image / 255, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.imshow(marked[..., None] * np.array(to_rgba(BLUE, 0.45)), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="#b8c1ca", linewidth=0.7)
    if 0 < mask.mean() < 1:
        lines = axes.contour(mask, levels=[0.5], colors="black", linewidths=1.2)
        lines.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
