"""The numbers of inlines, crosslines, CDPs or offsets as a grid: first, last and step, and which numbers are wrong."""

from dataclasses import dataclass

import numpy as np

WRONG = 0.01  # share of traces off the grid up to which their numbers are taken as wrong


@dataclass(frozen=True)
class Axis:
    """Numbers of one header field.

    A trace with a wrong number must not change the grid of all others, and no two lines may become one. So numbers off
    the grid of the most frequent step are wrong where few traces have them, and else make the grid finer.

    Attributes:
        first, last: smallest and largest on the grid.
        step: most frequent difference of neighboring numbers, or the largest one that divides all differences where
            that keeps too few numbers on the grid; 1 for a single number.
        count: of distinct numbers on the grid.
        regular: share of the differences that are a multiple of the most frequent one, in [0, 1].
        astray: traces with a number off the grid.
    """

    first: int
    last: int
    step: int
    count: int
    regular: float
    astray: int = 0

    @property
    def length(self) -> int:
        """Positions from the first to the last number."""
        return (self.last - self.first) // self.step + 1

    def positions(self, numbers: np.ndarray) -> np.ndarray:
        """Positions from 0 of numbers, int64; numbers off the grid go to the nearest."""
        nearest = np.rint((numbers.astype(np.int64) - self.first) / self.step).astype(np.int64)
        return nearest.clip(0, self.length - 1)

    def numbers(self, positions: np.ndarray) -> np.ndarray:
        """The inverse of `positions` on the grid, int64."""
        return self.first + self.step * positions.astype(np.int64)

    def strays(self, numbers: np.ndarray) -> np.ndarray:
        """Which numbers are off the grid, bool of the shape of ``numbers``."""
        if not self.astray:
            return np.zeros(numbers.shape, bool)
        return (numbers.astype(np.int64) - self.first) % self.step != 0


def axis(values: np.ndarray) -> Axis:
    """The `Axis` of a header field, int (traces,)."""
    numbers = distinct(values)
    if len(numbers) == 1:
        return Axis(int(numbers[0]), int(numbers[0]), 1, 1, 1.0)
    differences, counts = np.unique(np.diff(numbers), return_counts=True)
    step = int(differences[counts.argmax()])
    regular = float(counts[differences % step == 0].sum() / counts.sum())
    astray = 0
    if regular < 1:
        traces = np.bincount(np.searchsorted(numbers, values))  # of each number
        on_grid = _on_grid(numbers, traces, step)
        if _are_wrong(traces, on_grid):
            astray, numbers = int(traces[~on_grid].sum()), numbers[on_grid]
        else:
            step = int(np.gcd.reduce(differences))
    return Axis(int(numbers[0]), int(numbers[-1]), step, len(numbers), regular, astray)


def _on_grid(numbers: np.ndarray, traces: np.ndarray, step: int) -> np.ndarray:
    """Which numbers are a multiple of the step apart from those of most traces, bool."""
    remainders, which = np.unique((numbers - numbers[0]) % step, return_inverse=True)
    return which == np.bincount(which, traces, len(remainders)).argmax()


def _are_wrong(traces: np.ndarray, on_grid: np.ndarray) -> bool:
    """Whether numbers off the grid are those of few traces, and none has half of what a number on it usually has."""
    off = traces[~on_grid]
    most = max(2.0, float(np.median(traces[on_grid])) / 2)  # 2: in a line each trace has a number of its own
    return bool(off.sum() <= WRONG * traces.sum() and off.max() < most)


def distinct(values: np.ndarray) -> np.ndarray:
    """Sorted distinct values, int64; without sorting where they lie close together."""
    first, last = int(values.min()), int(values.max())
    if last - first > 8 * len(values) + 1000:
        ordered = np.sort(values).astype(np.int64)  # numpy's own `unique` hashes, which takes ten times as long
        return ordered[np.diff(ordered, prepend=ordered[0] - 1) != 0]
    present = np.zeros(last - first + 1, bool)
    present[values.astype(np.int64) - first] = True
    return np.flatnonzero(present) + first
