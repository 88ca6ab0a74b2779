"""A dataset from labeled lines of a survey: tiles of 101x101 pixels with masks, and the line that each is from.

The layout is that of every dataset (input/README.md), so all other steps follow. `sections.csv` names the line of a
tile: with grouped folds a network is scored on lines that it did not see.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from saltseg import io
from saltseg.data import image_files, install
from saltseg.data.transforms import TILE
from saltseg.errors import InputError
from saltseg.inference import windows
from saltseg.metrics import rle
from saltseg.pipeline.survey import fit_scaling
from saltseg.pipeline.survey_score import require_same_interval, require_same_start
from saltseg.seismic import scan
from saltseg.seismic.amplitudes import sample_amplitudes
from saltseg.seismic.scaling import CLIP_PERCENTILE, Scaling
from saltseg.seismic.volume import Line, Slab, Survey

NAMED = 9  # lines in a message


@dataclass(frozen=True)
class Options:
    """How lines become tiles.

    Attributes:
        clip: percentile of the survey's |amplitude| that becomes black or white.
        reverse: whether to reverse the polarity.
        step: pixels between tiles; the last ones end with the line.
    """

    clip: float = CLIP_PERCENTILE
    reverse: bool = False
    step: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.step <= TILE:
            raise InputError(f"--step {self.step}; use 1 to {TILE} pixels")


@dataclass(frozen=True)
class Made:
    """What `make_dataset` made.

    Attributes:
        root: path of the dataset.
        state: "written" or, for the same lines, labels and options as before, "already there".
        tiles: labeled ones.
        warnings: what in the survey's headers or amplitudes speaks against its use, one sentence each.
    """

    root: Path
    state: str
    tiles: int
    warnings: tuple[str, ...]


class Labels(Protocol):
    """Masks of lines."""

    def mask(self, line: Line) -> np.ndarray:
        """uint8 {0, 1} (samples, W) of a line; raises InputError where there is none that fits."""


def make_dataset(
    survey: Survey,
    labels: Labels,
    inlines: Sequence[int],
    input_dir: Path,
    name: str,
    options: Options,
    overwrite: bool,
) -> Made:
    """Write the tiles of labeled inlines as a dataset, complete or not at all.

    The tiles to predict, which every dataset has, are those of the inline farthest from the labeled ones.

    Args:
        survey: a volume.
        labels: of its lines.
        inlines: numbers of the labeled lines.
        input_dir: parent of all datasets.
        name: of the dataset.
        options: how lines become tiles.
        overwrite: replace a dataset of that name.

    Raises:
        InputError: no such inline, a mask that is missing or does not fit (all of them named), or something else has
            that name.
    """
    if "inline" not in survey.directions:
        raise InputError(f"{survey.layout.path} is a line; labeled lines are taken from volumes")
    chosen = _read(survey, sorted(set(inlines)))
    masks = _masks(labels, chosen)
    amplitudes = sample_amplitudes(survey.layout)
    scaling = fit_scaling(survey, amplitudes, options.clip, options.reverse)
    warnings = tuple(scan.warnings(survey.layout, survey.geometry, amplitudes))
    source: dict[str, Any] = {
        "source": "lines",
        "survey": str(survey.layout.path.resolve()),
        "inlines": [line.number for line in chosen],
        "scaling": asdict(scaling),
        "masks": [hashlib.sha256(mask.tobytes()).hexdigest() for mask in masks],
        **asdict(options),
    }
    with install.preparing(input_dir, name) as target:
        count = sum(len(_corners(line.amplitudes.shape, options.step)) for line in chosen)
        if install.exists_from(target, source, overwrite):
            return Made(target, "already there", count, warnings)
        staged = install.staging_path(target, "written")
        io.remove(staged)
        with io.atomic_dir(staged) as root:
            _write(root, survey, chosen, masks, scaling, options.step)
        install.move_into_place(staged, target, source)
    return Made(target, "written", count, warnings)


def _read(survey: Survey, inlines: Sequence[int]) -> list[Line]:
    if not inlines:
        raise InputError("no inline is labeled; give --inlines 120,160,200")
    return [survey.read(survey.slab("inline", number))[0] for number in inlines]


def _masks(labels: Labels, lines: Sequence[Line]) -> list[np.ndarray]:
    """Masks of lines, with gaps and dead traces as the nearest live trace; InputError names all that do not fit."""
    masks, problems = [], []
    for line in lines:
        try:
            masks.append(labels.mask(line)[:, line.nearest_live()])
        except InputError as error:
            problems.append(str(error))
    if problems:
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise InputError(" | ".join(problems[:NAMED]) + more)
    return masks


def _corners(shape: tuple[int, int], step: int) -> list[tuple[int, int]]:
    """Upper left corner (row, column) of each tile of a section."""
    rows, columns = (windows.starts(length, step) for length in shape)
    return [(row, column) for row in rows for column in columns]


def _tiles(image: np.ndarray, step: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Row, column and pixels of each tile; a section smaller than a tile is mirrored at its border."""
    missing = [max(0, TILE - side) for side in image.shape]
    padded = np.pad(image, [(0, extra) for extra in missing], mode="symmetric")
    for row, column in _corners(padded.shape, step):
        yield row, column, padded[row : row + TILE, column : column + TILE]


def _write(
    root: Path, survey: Survey, lines: Sequence[Line], masks: Sequence[np.ndarray], scaling: Scaling, step: int
) -> None:
    for folder in ("train/images", "train/masks", "test/images"):
        (root / folder).mkdir(parents=True)
    train, sections, test = [], [], []
    for line, mask in zip(tqdm(lines, desc="cutting", unit="line", delay=2), masks, strict=True):
        pixels, name = _tiles(scaling.apply(line.filled()), step), _name(line)
        for (row, column, tile), (_, _, salt) in zip(pixels, _tiles(mask, step), strict=True):
            id_ = f"{name}_{row}_{column}"
            image_files.write_png(root / "train" / "images" / f"{id_}.png", tile)
            image_files.write_png(root / "train" / "masks" / f"{id_}.png", salt * np.uint8(255))
            train.append({"id": id_, "rle_mask": rle.encode(salt)})
            sections.append({"id": id_, "section": f"inline{line.number}", "row": row, "column": column})
    other = _farthest(survey, [line.number for line in lines])
    for row, column, tile in _tiles(scaling.apply(other.filled()), TILE):
        id_ = f"{_name(other)}_{row}_{column}_test"
        image_files.write_png(root / "test" / "images" / f"{id_}.png", tile)
        test.append({"id": id_, "rle_mask": "1 1"})
    io.write_csv(root / "train.csv", train)
    io.write_csv(root / "sections.csv", sections)
    io.write_csv(root / "sample_submission.csv", test)


def _name(line: Line) -> str:
    """Of a line in the ids of its tiles, with a hash of its amplitudes: surveys number their inlines alike."""
    return f"inline{line.number}-{hashlib.sha256(line.amplitudes.tobytes()).hexdigest()[:6]}"


def _farthest(survey: Survey, labeled: Sequence[int]) -> Line:
    """The inline farthest from all labeled ones; a labeled one where there is no other."""
    numbers = survey.line_numbers("inline")
    distance = np.abs(numbers[:, None] - np.array(labeled)[None]).min(1)
    return survey.read(survey.slab("inline", int(numbers[distance.argmax()])))[0]


# ---------------------------------------------------------------- labels


class SegyLabels:
    """Masks in a SEG-Y file with the line numbers of the survey: 0 is rock, one other value is salt.

    Args:
        labels: a volume, or a line that has the number of an inline.
        survey: that is labeled.

    Raises:
        InputError: the files state different sample intervals.
    """

    def __init__(self, labels: Survey, survey: Survey) -> None:
        require_same_interval(labels, survey)
        self._labels, self._survey = labels, survey
        self._white: float | None = None

    def mask(self, line: Line) -> np.ndarray:
        """See `Labels`."""
        path = self._labels.layout.path
        (found,) = self._labels.read(self._slab(line.number))
        if found.amplitudes.shape != line.amplitudes.shape or not np.array_equal(found.numbers, line.numbers):
            raise InputError(
                f"{path}, inline {line.number}: {_size(found)}, in the survey {_size(line)}; give labels of this survey"
            )
        both = (found.traces >= 0) & (line.traces >= 0)
        require_same_start(self._labels, found.traces[both], self._survey, line.traces[both])
        values = np.unique(found.amplitudes[found.amplitudes != 0])
        if self._white is None and len(values):
            self._white = float(values[0])
        if len(values) and (len(values) > 1 or values[0] != self._white):
            raise InputError(
                f"{path}, inline {line.number}: values {', '.join(f'{v:g}' for v in values[:3])}, …; "
                "use 0 for no salt and 1 for salt"
            )
        return (found.amplitudes != 0).astype(np.uint8)

    def _slab(self, number: int) -> Slab:
        """An inline of the file, which may hold that one alone."""
        labels = self._labels
        if "inline" in labels.directions:
            return labels.slab("inline", number)
        chosen = labels.geometry.chosen
        if chosen is None or chosen.inline_byte is None:
            raise InputError(
                f"{labels.layout.path} is a line whose traces state no inline, so it has no inline {number}; "
                f"write it to their headers, or draw {number}.png in a folder"
            )
        if (labels.inlines != number).any():
            raise InputError(
                f"{labels.layout.path} has no inline {number}: it is a line at inline {_span(labels.inlines)}; "
                "leave the inline out, or give a file that holds it"
            )
        return Slab("line", 0, 1)


class PngLabels:
    """Masks in a folder, ``<inline>.png`` of (samples, traces) pixels each: 0 is rock, 255 (or 1, 65535) is salt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mask(self, line: Line) -> np.ndarray:
        """See `Labels`."""
        path, shape = self._folder / f"{line.number}.png", line.amplitudes.shape
        if not path.is_file():
            raise InputError(f"no mask {path} of inline {line.number}; draw it, {_size(line)}, or leave the line out")
        mask = image_files.read_mask(path)
        if mask.shape != shape:
            raise InputError(
                f"{path} has {mask.shape[0]}x{mask.shape[1]} pixels; inline {line.number} has {_size(line)}: "
                "rows are samples, columns are traces"
            )
        return mask


def _span(numbers: np.ndarray) -> str:
    first, last = numbers.min(), numbers.max()
    return f"{first}" if first == last else f"{first} to {last}"


def _size(line: Line) -> str:
    samples, traces = line.amplitudes.shape
    return f"{samples}x{traces} pixels (crosslines {line.numbers[0]}-{line.numbers[-1]})"
