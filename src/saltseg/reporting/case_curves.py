"""What the logs of a record's folds say: where an early stop would have come, when a plateau lowered the rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from saltseg import config
from saltseg.reporting.case_records import Record


@dataclass(frozen=True)
class Stop:
    """Where a fold's validation loss was lowest (epoch, value), its last value, and where patience would have ended."""

    fold: int
    lowest: int
    loss: float
    last: float
    stopped: int


def stops(entry: Record, patience: int = config.Config().train.stop_patience) -> list[Stop]:
    """What an early stop after ``patience`` epochs without a better loss would have done, fold by fold."""
    found = []
    for fold, rows in zip(entry["folds"], entry["curves"], strict=True):
        lowest = min(rows, key=lambda row: row["valid_loss"])
        best, since, end = float("inf"), 0.0, rows[-1]["epoch"]
        for row in rows:
            if row["valid_loss"] < best:
                best, since = row["valid_loss"], row["epoch"]
            elif row["epoch"] - since >= patience:
                end = row["epoch"]
                break
        found.append(Stop(fold, int(lowest["epoch"]), lowest["valid_loss"], rows[-1]["valid_loss"], int(end)))
    return found


@dataclass(frozen=True)
class Descent:
    """A fold that was trained while its validation loss fell: drops: (epoch, learning rate from it on); kept: the
    epoch with the lowest loss, whose weights predict; last: the last epoch trained."""

    fold: int
    drops: tuple[tuple[int, float], ...]
    kept: int
    last: int


def descents(entry: Record) -> list[Descent]:
    """How the folds of a record with a plateau schedule and an early stop went."""
    found = []
    for fold, rows in zip(entry["folds"], entry["curves"], strict=True):
        lowered = (after for before, after in pairwise(rows) if _falls(before, after))
        drops = ((int(row["epoch"]), row["learning_rate"]) for row in lowered)
        kept = min(rows, key=lambda row: row["valid_loss"])
        found.append(Descent(fold, tuple(drops), int(kept["epoch"]), int(rows[-1]["epoch"])))
    return found


def _falls(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    return after["learning_rate"] < 0.99 * before["learning_rate"]  # rates are logged as means over an epoch
