"""Three slices of a predicted survey for a page: an inline, a crossline and a time slice, where the salt is."""

from dataclasses import dataclass

import numpy as np

from saltseg.postprocessing.parameters import quantize
from saltseg.seismic.results import Results
from saltseg.seismic.scaling import Scaling
from saltseg.seismic.traces import read_sample
from saltseg.seismic.volume import ACROSS, Slab

MAX_SIDE = 1000  # pixels of a slice; larger ones are thinned


@dataclass(frozen=True, eq=False)
class Slice:
    """A picture of a survey.

    Attributes:
        title: what it shows.
        x_label, y_label: of its axes, the vertical one downwards.
        extent: left, right, upper and lower edge of the picture, half a step beyond the first and the last numbers.
        image: uint8 (H, W), gray as the network sees it.
        probability: uint8 (H, W), 255ths.
        salt: uint8 (H, W), {0, 1}.
        present: bool (H, W), False where there is no trace.
    """

    title: str
    x_label: str
    y_label: str
    extent: tuple[float, float, float, float]
    image: np.ndarray
    probability: np.ndarray
    salt: np.ndarray
    present: np.ndarray

    def thinned(self) -> "Slice":
        """The slice with at most `MAX_SIDE` pixels in each direction."""
        rows, columns = (-(-side // MAX_SIDE) for side in self.image.shape)
        images = (self.image, self.probability, self.salt, self.present)
        return Slice(self.title, self.x_label, self.y_label, self.extent, *(a[::rows, ::columns] for a in images))


def three_slices(
    results: Results,
    masks: Results,
    scaling: Scaling,
    salt_of_trace: np.ndarray,
    salt_of_sample: np.ndarray,
    depth: bool = False,
) -> list[Slice]:
    """The line of each direction and the time with the most salt; those in the middle where there is none.

    Args:
        results, masks: predicted, complete.
        scaling: of the survey.
        salt_of_trace: salt samples of each trace, int64 (traces,).
        salt_of_sample: traces with salt at each sample, int64 (samples,).
        depth: whether samples are meters, not milliseconds.

    Returns:
        Three slices of a volume, one of a line.
    """
    survey = results.survey
    slices = []
    for direction in survey.directions:
        lines = range(survey.num_lines(direction))
        columns = (survey.columns(direction, line)[1] for line in lines)
        salt = np.array([salt_of_trace[traces[traces >= 0]].sum() for traces in columns])
        slices.append(_section(results, masks, scaling, direction, _most(salt), depth))
    if len(survey.directions) > 1:
        slices.append(_time_slice(results, masks, scaling, _most(salt_of_sample), depth))
    return [found.thinned() for found in slices]


def _most(counts: np.ndarray) -> int:
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def _edges(first: float, last: float, pixels: int) -> tuple[float, float]:
    """Outer edges of pixels whose middles run from the first to the last number; the step of a single one is 1."""
    half = (last - first) / (pixels - 1) / 2 if pixels > 1 else 0.5
    return first - half, last + half


def _section(results: Results, masks: Results, scaling: Scaling, direction: str, position: int, depth: bool) -> Slice:
    survey = results.survey
    (line,) = survey.read(Slab(direction, position, position + 1))
    label, first, interval = survey.vertical_axis(depth)
    present = np.broadcast_to(line.traces >= 0, line.amplitudes.shape)
    return Slice(
        title="Line" if direction == "line" else f"{direction.capitalize()} {line.number}",
        x_label=ACROSS[direction],
        y_label=label,
        extent=(
            *_edges(float(line.numbers[0]), float(line.numbers[-1]), len(line.numbers)),
            *_edges(first, first + interval * (survey.layout.samples - 1), survey.layout.samples),
        ),
        image=scaling.apply(line.amplitudes),
        probability=quantize(results.section(direction, position)),
        salt=(masks.section(direction, position) > 0).astype(np.uint8),
        present=present,
    )  # fmt: skip


def _time_slice(results: Results, masks: Results, scaling: Scaling, sample: int, depth: bool) -> Slice:
    """One sample of all traces: inlines downwards, crosslines to the right."""
    survey, layout = results.survey, results.survey.layout
    chosen = survey.geometry.chosen
    assert chosen is not None
    every, grid = np.arange(layout.traces), survey.grid()
    probability = quantize(results.read(every, sample))
    salt = (masks.read(every, sample) > 0).astype(np.uint8)
    image = scaling.apply(np.nan_to_num(read_sample(layout, sample), posinf=0, neginf=0))
    label, first, interval = survey.vertical_axis(depth)
    name, _, unit = label.partition(" ")
    here = f"{first + sample * interval:g}{' ' + unit.strip('()') if unit else ''}"
    return Slice(
        title=f"{name.capitalize()} slice at {here}",
        x_label="crossline",
        y_label="inline",
        extent=(
            *_edges(chosen.crossline.first, chosen.crossline.last, chosen.crossline.length),
            *_edges(chosen.inline.first, chosen.inline.last, chosen.inline.length),
        ),
        image=np.where(grid >= 0, image[grid], 0),
        probability=np.where(grid >= 0, probability[grid], 0),
        salt=np.where(grid >= 0, salt[grid], 0),
        present=grid >= 0,
    )
