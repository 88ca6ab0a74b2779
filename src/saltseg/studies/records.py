"""Records of trainings: one JSON file per variant and seed.

A record holds the score of every validation image, so tables can be made again, and continued on another machine,
without the runs.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from saltseg import io, schemas
from saltseg.errors import InputError
from saltseg.postprocessing import step_selection

KINDS = AT_HALF, TUNED, POSTPROCESSED = step_selection.SCORE_KINDS
Digits = Annotated[str, Field(pattern="^[0-9a]+$")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Record:
    """A finished training. None: not recorded when it was trained, or does not apply (a blend has no training).

    Attributes:
        run: the name of its run or blend.
        unlabeled_hash: of the images without labels that it learns from.
        transduction: whether images of the test set helped to train it.
        n, n_train, n_pseudo: images that are scored; of the first fold, that it trains on with and without labels.
        scores: mean over images, by `KINDS`, see `saltseg.postprocessing.step_selection.scores`.
        passed: the same per image, in id order: how many of the ten IoU thresholds it passes, a hexadecimal digit each.
        log_loss: mean cross-entropy of a pixel, nats.
        seconds: of the training of all folds.
        peak_memory_mb: largest of all folds; of the GPU where device is "gpu", else of the process.
        created: when its last fold was finished, ISO 8601 in UTC.
        changes: what it changes in the base on the budget.
        settings: its configuration, as `saltseg.config.flat`; {} for a blend.
        details: what only one study records.
        nested: whether the steps of its post-processing were selected anew without each fold. Records without it have
            them selected on all folds.
        precision: that it is trained in. Records without it are older than training in bf16 on a CPU.
    """

    study: str
    budget: str
    variant: str
    seed: int
    run: str
    dataset: str
    dataset_hash: str
    folds_hash: str
    unlabeled_hash: str | None
    transduction: bool
    n: int
    n_train: int | None
    n_pseudo: int | None
    scores: dict[str, float | None]
    passed: dict[str, Digits | None]
    log_loss: float | None
    seconds: float | None
    seconds_per_epoch: float | None
    peak_memory_mb: int | None
    device: str | None
    created: str | None
    command: str | None
    commit: str | None
    machine: str
    changes: list[str]
    settings: dict[str, Any]
    details: dict[str, Any]
    precision: Literal["32", "bf16", "fp16"] | None = "32"
    nested: bool = False

    def images(self, kind: str) -> NDArray[np.float64]:
        """The score of each image, float64 (n,) in [0, 1], in id order."""
        digits = self.passed[kind]
        assert digits is not None
        return np.array([int(digit, 16) for digit in digits]) / 10


def to_digits(scores: NDArray[np.float64]) -> str:
    """Scores of images, each 0.0, 0.1 … 1.0, as tenths: a hexadecimal digit each."""
    return "".join(f"{tenths:x}" for tenths in np.rint(10 * scores).astype(int))


def write(path: Path, record: Record) -> None:
    """Write a record, a line for each entry."""
    io.write_json_lines(path, asdict(record))


def read(path: Path) -> Record:
    """Read a record; raises InputError for a damaged one."""
    record = schemas.check(path, io.read_json(path), Record, "remove it and rerun the study")
    lengths = {len(digits) for digits in record.passed.values() if digits is not None}
    if lacking := [kind for kind in KINDS if kind not in record.passed or kind not in record.scores]:
        raise InputError(f"{path} has no {lacking[0]}; remove it and rerun the study")
    if lengths != {record.n}:
        raise InputError(f"{path} holds scores of {sorted(lengths)} images, not {record.n}; remove it and rerun")
    return record
