"""Probabilities of a survey in a folder, one file a slab: what a killed prediction goes on with.

A file is whole or not there, its name says which slab it holds, and slabs are independent. So several processes can
fill one folder, and what is missing is what has no file.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saltseg import io
from saltseg.errors import InputError
from saltseg.seismic.volume import SLAB_BYTES, Line, Slab, Survey

_PROGRESS = "progress.json"
ROWS = 2  # counts the rules by which traces become rows (`Survey.rows`): rows of other rules must not be mixed in


class Results:
    """Values of all samples of a survey for some directions, as uint8 in 255ths.

    Args:
        folder: made if it is missing.
        survey: that is predicted.
        key: what the values depend on besides the survey, such as the run and its settings; JSON.
        directions: of the survey; values of several are averaged.
        slab_bytes: see `Survey.slabs`.

    Attributes:
        digest: of everything that the values depend on.

    Raises:
        InputError: the folder holds results of another survey, key or size of slabs, or of an older version.
    """

    def __init__(
        self,
        folder: Path,
        survey: Survey,
        key: object,
        directions: Sequence[str] | None = None,
        slab_bytes: int = SLAB_BYTES,
    ) -> None:
        self.folder, self.survey, self.key = folder, survey, key
        self.directions = tuple(directions or survey.directions)
        self.slabs = [slab for name in self.directions for slab in survey.slabs(name, slab_bytes)]
        layout = survey.layout
        progress: object = {
            "file": layout.path.name,
            "bytes": layout.file_bytes,
            "modified": layout.path.stat().st_mtime_ns,
            "line_numbers": survey.geometry.chosen.bytes if survey.geometry.chosen else "order of the file",
            "slabs": [slab.name for slab in self.slabs],
            "rows": ROWS,
            "key": key,
        }
        progress = json.loads(json.dumps(progress))  # as it will be read: lists for tuples
        path = folder / _PROGRESS
        if not path.exists():
            io.write_json(path, progress)
        elif io.read_json(path) != progress:
            raise InputError(f"{folder} holds results of another survey or other settings; remove it and rerun")
        self.digest = hashlib.sha256(json.dumps(progress).encode()).hexdigest()[:16]
        # For each direction: slab and row of every trace.
        self._at = {name: self._positions(name) for name in self.directions}

    def _positions(self, direction: str) -> tuple[np.ndarray, np.ndarray]:
        slab_of, row_of = (np.empty(self.survey.layout.traces, np.int32) for _ in range(2))
        for number, slab in enumerate(self.slabs):
            if slab.direction == direction:
                traces = self.survey.traces(slab)
                slab_of[traces], row_of[traces] = number, np.arange(len(traces), dtype=np.int32)
        return slab_of, row_of

    def missing(self) -> list[Slab]:
        """Slabs without a file."""
        return [slab for slab in self.slabs if not self._path(slab).exists()]

    def write(self, slab: Slab, lines: Sequence[Line], sections: Sequence[np.ndarray]) -> None:
        """Save the values of a slab.

        Args:
            slab: one of `slabs`.
            lines: of the slab, from `Survey.read`.
            sections: for each line uint8 (samples, W), 255ths.
        """
        rows = self.survey.rows(slab, lines, sections)
        assert rows.dtype == np.uint8, f"{rows.dtype}, not 255ths"
        io.require_folder(self.folder)  # removed: by the end of the prediction, or by its user
        with io.atomic_path(self._path(slab)) as temporary, temporary.open("wb") as file:
            np.save(file, rows)

    def read(self, traces: np.ndarray, sample: int | None = None) -> np.ndarray:
        """Values of traces, averaged over the directions.

        Args:
            traces: positions in the file, int64 (n,).
            sample: of each trace; None: all.

        Returns:
            float32 (n, samples), or (n,) for one sample, in [0, 1].

        Raises:
            InputError: a slab is missing or damaged.
        """
        wanted = slice(None) if sample is None else sample
        shape = (len(traces), self.survey.layout.samples) if sample is None else len(traces)
        total = np.zeros(shape, np.float32)
        for slab_of, row_of in self._at.values():
            numbers = slab_of[traces]
            for number in np.unique(numbers):
                here = np.flatnonzero(numbers == number)
                total[here] += self._open(self.slabs[number])[row_of[traces[here]], wanted]
        return total / np.float32(255 * len(self._at))

    def section(self, direction: str, line: int) -> np.ndarray:
        """Values of the line at a position, averaged over the directions, float32 (samples, W); 0 in gaps."""
        _, traces = self.survey.columns(direction, line)
        values = np.zeros((self.survey.layout.samples, len(traces)), np.float32)
        values[:, traces >= 0] = self.read(traces[traces >= 0]).T
        return values

    def _path(self, slab: Slab) -> Path:
        """Named by what its values depend on: what comes late, for an earlier prediction, is never taken for these."""
        return self.folder / f"{slab.name}-{self.digest}.npy"

    def _open(self, slab: Slab) -> np.ndarray:
        """The values of a slab, uint8 (traces, samples), read from the disk where they are used."""
        path = self._path(slab)
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"no results in {path}; run the prediction again, it goes on there") from None
        except (OSError, ValueError, EOFError) as error:
            raise io.unreadable(path, "results of a slab", error) from None
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != self.survey.layout.samples:
            raise io.unreadable(path, "results of a slab", f"{rows.dtype} {rows.shape}")
        return rows
