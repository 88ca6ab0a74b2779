"""Slices of a predicted survey for the page: inlines, crosslines and times, read from SEG-Y one by one."""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg.errors import InputError
from saltseg.pipeline.survey_files import Outputs, Record
from saltseg.pipeline.survey_score import require_same_traces
from saltseg.postprocessing.parameters import Postprocessing, quantize
from saltseg.seismic.headers import Layout
from saltseg.seismic.scaling import Scaling
from saltseg.seismic.traces import read_sample, read_traces
from saltseg.seismic.volume import ACROSS, Slab, Survey
from saltseg.viewer.items import MAX_PIXELS, Axis, Item

TIME = "time"


class Slices:
    """A survey, its salt probability, the mask beside that, and a true mask if there is one.

    Args:
        survey: that was predicted.
        probability: what `saltseg predict RUN SURVEY` wrote.
        truth: SEG-Y file of the true mask; numbers that are not 0 are salt.
        depth: whether samples are meters, not milliseconds.

    Raises:
        InputError: a file is missing, or holds another survey or its traces in another order.
    """

    def __init__(self, survey: Survey, probability: Path, truth: Path | None = None, depth: bool = False) -> None:
        self.survey, self.depth = survey, depth
        outputs = Outputs(probability)
        self._probability = self._layout(probability)
        record: Record = outputs.read_record()
        self._scale = record["scale"]
        self.postprocessing = Postprocessing.from_dict(record["postprocessing"])
        reverse = record["polarity"] == "reversed"
        self._scaling = Scaling(record["amplitude_center"], record["amplitude_half_range"], reverse)
        self._masks = {"stored": self._layout(outputs.mask)} if outputs.mask.is_file() else {}
        if truth is not None:
            self._masks["truth"] = self._layout(truth)

    def _layout(self, path: Path) -> Layout:
        """The layout of a file with the traces of the survey, in the same order."""
        _, inline_byte, crossline_byte, as_line = self.survey.arguments
        with tqdm(desc="reading headers", unit="trace", unit_scale=True, delay=2, leave=False) as bar:
            other = Survey.open(path, inline_byte, crossline_byte, as_line, bar.update)
        require_same_traces(other, self.survey)
        return other.layout

    def directions(self) -> list[dict[str, Any]]:
        """What can be sliced: key and title of each direction, the numbers of its slices and their unit."""
        lines: list[dict[str, Any]] = [
            {"key": key, "title": key.capitalize(), "numbers": self.survey.line_numbers(key).tolist(), "unit": ""}
            for key in self.survey.directions
        ]
        if len(lines) == 1:
            return lines
        times = Axis(*self.survey.vertical_axis(self.depth))
        numbers = (times.first + times.step * np.arange(self.survey.layout.samples)).tolist()
        name, _, unit = times.name.partition(" ")
        return [*lines, {"key": TIME, "title": name.capitalize(), "numbers": numbers, "unit": unit.strip("()")}]

    def item(self, direction: str, position: int) -> Item:
        """One slice, black where there is no trace; raises InputError where there is none, or a file cannot be read."""
        found = next((one for one in self.directions() if one["key"] == direction), None)
        if found is None or not 0 <= position < len(found["numbers"]):
            raise InputError(f"no slice {direction} {position}; reload the page")
        number = f"{found['numbers'][position]:.10g}"
        name = f"{self.survey.layout.path.stem}-{direction}-{number}"
        title = f"{found['title']} {number} {found['unit']}".rstrip()
        if direction == TIME:
            return self._time_slice(title, name, position)
        return self._line(title, name, direction, position)

    def _line(self, title: str, name: str, direction: str, position: int) -> Item:
        [line] = self.survey.read(Slab(direction, position, position + 1))
        _require_size(line.amplitudes.shape)
        here = line.traces >= 0
        traces, place = np.unique(line.traces[here], return_inverse=True)

        def section(layout: Layout) -> np.ndarray:
            values = np.zeros((len(line.traces), layout.samples), np.float32)
            values[here] = read_traces(layout, traces)[place]
            return values.T

        step = float(line.numbers[1] - line.numbers[0]) if len(line.numbers) > 1 else 1.0
        layers = self._layers(np.where(here, self._scaling.apply(line.amplitudes), np.uint8(0)), section)
        x, y = Axis(ACROSS[direction], float(line.numbers[0]), step), Axis(*self.survey.vertical_axis(self.depth))
        return Item(title, name, layers, x, y)

    def _time_slice(self, title: str, name: str, sample: int) -> Item:
        """One sample of all traces: inlines downwards, crosslines to the right."""
        survey, chosen = self.survey, self.survey.geometry.chosen
        assert chosen is not None
        inline, crossline = chosen.inline, chosen.crossline
        _require_size((inline.length, crossline.length))
        grid = survey.grid()

        def section(layout: Layout) -> np.ndarray:
            return np.where(grid >= 0, read_sample(layout, sample)[grid], np.float32(0))

        amplitudes = np.nan_to_num(section(survey.layout), posinf=0, neginf=0)
        layers = self._layers(np.where(grid >= 0, self._scaling.apply(amplitudes), np.uint8(0)), section)
        x, y = (Axis(key, axis.first, axis.step) for key, axis in (("crossline", crossline), ("inline", inline)))
        return Item(title, name, layers, x, y)

    def _layers(self, image: np.ndarray, section: Any) -> dict[str, np.ndarray]:
        """Layers of a slice; section: gives what a file holds there, float32 (H, W)."""
        probability = np.clip(np.nan_to_num(section(self._probability) / np.float32(self._scale)), 0, 1)
        masks = {name: _salt(section(layout)) for name, layout in self._masks.items()}
        return {"image": image, "probability": quantize(probability), **masks}


def _salt(mask: np.ndarray) -> np.ndarray:
    """Of a mask as stored, float32: uint8 {0, 1}; what is no number is rock, as in labels."""
    return (np.isfinite(mask) & (mask != 0)).astype(np.uint8)


def _require_size(shape: tuple[int, ...]) -> None:
    if shape[0] * shape[1] > MAX_PIXELS:
        raise InputError(
            f"a slice of {shape[0]:,}x{shape[1]:,} pixels; the page shows {MAX_PIXELS / 1e6:.0f} million at most"
        )
