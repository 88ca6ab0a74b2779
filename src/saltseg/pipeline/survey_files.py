"""The files of a predicted survey: their names, room for them, and all of them whole or none of them there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from saltseg import io, schemas
from saltseg.errors import InputError
from saltseg.seismic import writer
from saltseg.seismic.volume import Survey

SUFFIXES = (".sgy", ".segy")
MAX_NAME_BYTES = 200  # file systems hold 255; names of other results and of temporary files are longer


@with_config(ConfigDict(extra="allow", strict=True, allow_inf_nan=False))
class Record(TypedDict):
    """What the JSON file beside a predicted probability says.

    Attributes:
        scale: what a value of 1 is stored as.
        histogram_reference: the tiles that gray levels were compared with; absent in older files.
        warnings: what in the survey's headers or amplitudes speaks against the prediction; absent in older files.
    """

    run: str
    scale: Annotated[float, Field(gt=0)]
    directions: list[str]
    clip_percentile: float
    polarity: Literal["as stored", "reversed"]
    amplitude_center: float
    amplitude_half_range: float
    histogram_distance: float
    histogram_reference: NotRequired[Literal["training", "simulated"]]
    warnings: NotRequired[list[str]]
    postprocessing: dict[str, Any]
    traces: int
    traces_with_salt: int
    salt_share: float


@dataclass(frozen=True)
class Outputs:
    """The files of a prediction: ``probability`` as the user named it, the others beside it."""

    probability: Path

    def __post_init__(self) -> None:
        if self.probability.suffix.lower() not in SUFFIXES:
            raise InputError(f"--to {self.probability}: name a file that ends in {' or '.join(SUFFIXES)}")
        if (size := len(os.fsencode(self.probability.name))) > MAX_NAME_BYTES:
            raise InputError(f"--to {self.probability}: its name has {size} bytes; take {MAX_NAME_BYTES} at most")

    @property
    def mask(self) -> Path:
        return self._beside(f"_mask{self.probability.suffix}")

    @property
    def top(self) -> Path:
        return self._beside("_top.csv")

    @property
    def page(self) -> Path:
        return self._beside(".html")

    @property
    def parts(self) -> Path:
        """Hidden folder of what is predicted so far."""
        return self.probability.with_name(f".{self.probability.name}.parts")

    @property
    def whole(self) -> Path:
        """Folder in it that exists when all files are written; from there they are moved to their places."""
        return self.parts / "whole"

    def _beside(self, ending: str) -> Path:
        return self.probability.with_name(self.probability.stem + ending)

    def all(self) -> list[Path]:
        """All files; the probability, which says that the others are there, is the last."""
        images = (self.mask, self.probability)
        return [self.top, self.page, *map(writer.sidecar_path, images), *images]

    def refuse_existing(self, survey: Survey) -> None:
        """Raise InputError for a file that is in the way. Those that a killed call has moved already are not."""
        for path in self.all():
            if not self.whole.is_dir() or (self.whole / path.name).exists():
                writer.refuse_input(survey.layout.path, path)

    @contextmanager
    def making(self, survey: Survey) -> Iterator[None]:
        """Hold the files for one process and, at the end, move them to their places from `whole`.

        Raises:
            InputError: a file is in the way, or another process is making them.
        """
        lock = self.probability.with_name(f".{self.probability.name}.lock")
        new = not lock.parent.exists()
        with io.locked(lock, self.probability):
            try:
                self.refuse_existing(survey)
                yield
                self.refuse_existing(survey)  # something else made one meanwhile
                for path in self.all():
                    if (self.whole / path.name).exists():
                        (self.whole / path.name).rename(path)
                io.remove(self.parts)
            finally:
                lock.unlink(missing_ok=True)
                if new and not any(lock.parent.iterdir()):
                    lock.parent.rmdir()

    def require_space(self, survey: Survey, directions: int) -> None:
        """Raise InputError where the disk has no room for the results and the slabs that they are made of."""
        layout, folder = survey.layout, self.probability.parent
        folder.mkdir(parents=True, exist_ok=True)
        there = sum(path.stat().st_size for path in self.parts.rglob("*") if path.is_file())
        needed = (directions + 1) * layout.traces * layout.samples + 2 * layout.file_bytes - there
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(
                f"{folder}: the results and what they are made of take {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are "
                "free; free space or choose another --to"
            )

    def read_record(self) -> Record:
        """The JSON file beside the probability; raises InputError where it holds something else."""
        path = writer.sidecar_path(self.probability)
        record: Record = schemas.check(path, io.read_json(path), Record, "predict the survey again")
        return record
