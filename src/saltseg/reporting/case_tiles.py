"""Tiles that networks trained on beside tiles that they never saw, with what they mark; simulated, as all tiles here.

scripts/study.py leaves them beside the records of a simulated dataset; `saltseg.inference.study.tiles` chooses them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from saltseg import storage
from saltseg.core import metric
from saltseg.core.postprocess import HALF
from saltseg.errors import InputError
from saltseg.reporting.case_data_figures import outline, show
from saltseg.reporting.case_records import NEEDED, Record
from saltseg.reporting.style import BLUE, CHART, INK, legend_outside, new_figure
from saltseg.studies import BASE

SHOWN = (BASE, "images_eighth")
SIDES = ("training", "validation")


@dataclass(frozen=True)
class Predicted:
    """What one variant's network says of some tiles.

    data: the simulated dataset. record: the variant's, of the same training. images uint8, masks {0, 1} uint8 and
    probabilities uint8 in 255ths: (2, T, H, W), [0] training and [1] validation images.
    """

    data: str
    record: Record
    images: np.ndarray
    masks: np.ndarray
    probabilities: np.ndarray


def read(published: Path, data: str, budget: str) -> list[Predicted]:
    """The tiles of `SHOWN`: of ``data`` if it is simulated, else of the first simulated dataset of this budget.

    published: the folder of all studies. Empty where no simulated data was studied with this budget. A variant without
    a tile of either side is left out.

    Raises InputError for damaged files.
    """
    own = f"{data}-{budget}"
    for folder in sorted(published.glob(f"*-{budget}"), key=lambda folder: (folder.name != own, folder.name)):
        paths = [path for variant in SHOWN if (path := folder / f"{variant}-0.npz").is_file()]
        found = [_read(path, folder.name.removesuffix(f"-{budget}")) for path in paths]
        if found := [predicted for predicted in found if predicted.images.shape[1]]:
            return found
    return []


def _read(path: Path, data: str) -> Predicted:
    names = ("images", "masks", "probabilities")
    arrays = storage.read_arrays(path, (*names, "ids", "git_commit"), "tiles of a study", "scripts/study.py")
    shape = arrays["images"].shape
    alike = all(arrays[name].shape == shape and arrays[name].dtype == np.uint8 for name in names)
    if not alike or len(shape) != 4 or shape[0] != 2:
        raise storage.unreadable(path, "tiles of a study", f"{arrays['images'].dtype} {shape}")
    record = storage.read_json(path.with_suffix(".json"))
    if not isinstance(record, dict) or not all(key in record for key in NEEDED):
        raise InputError(f"{path.with_suffix('.json')} is no record of a study; delete it and run scripts/study.py")
    if str(arrays["git_commit"]) != str(record["git_commit"]):
        raise InputError(f"{path} is of another training than the record beside it; delete it and run scripts/study.py")
    return Predicted(data, record, *(arrays[name] for name in names))


def figure(found: Sequence[Predicted]) -> Figure:
    """A row for each variant, as many tiles as all have: training left, validation right; IoU above each."""
    count = min(predicted.images.shape[1] for predicted in found)
    drawn = new_figure((CHART[0], 0.55 + 0.8 * len(found)))
    for side, half in enumerate(drawn.subfigures(1, 2, squeeze=False)[0]):
        half.suptitle(f"{SIDES[side]} images", fontsize=9, color=INK)
        grid = half.subplots(len(found), count, squeeze=False)
        for row, predicted in zip(grid, found, strict=True):
            marked = HALF.apply(predicted.probabilities[side])
            scores = metric.per_image(marked, predicted.masks[side])["iou"]
            for place, axes in enumerate(row):
                show(axes, predicted.images[side, place] / 255)
                axes.imshow(marked[place][..., None] * np.array(to_rgba(BLUE, 0.45)), interpolation="nearest")
                outline(axes, predicted.masks[side, place])
                axes.set_title(f"IoU {scores[place]:.2f}", fontsize=7, color=INK, pad=2)
            if side == 0:
                row[0].set_ylabel(predicted.record["variant"], fontsize=8, color=INK)
    handles = [Patch(color=to_rgba(BLUE, 0.45), label="marked as salt")]
    legend_outside(drawn, 2, "lower center", handles=handles)
    return drawn
