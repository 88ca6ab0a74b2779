"""The numbers of inlines, crosslines, CDPs or offsets as a grid: first, last and step, and which numbers are wrong."""

from dataclasses import dataclass

import numpy as np

WRONG = 0.01  # share of traces off the grid up to which their numbers are taken as wrong
FEW = 2  # traces up to which a number off the grid is taken as wrong; more of them are a line


@dataclass(frozen=True)
class Axis:
    """Numbers of one header field.

    Numbers off the grid of the most frequent step are taken as wrong where at most `FEW` traces have each of them, and
    at most a share of `WRONG` has any. Else they are lines, and the grid becomes finer. A wrong number on the grid is
    not noticed and stretches the axis; where the step is 1 each one is on the grid, such as 777 among 500 to 599.

    Attributes:
        first, last: smallest and largest on the grid.
        step: most frequent difference of neighboring numbers, or the largest one that divides all differences where
            numbers off the grid are lines; 1 for a single number.
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
        off = traces[~on_grid]
        if off.max() <= FEW and off.sum() <= WRONG * len(values):
            astray, numbers = int(off.sum()), numbers[on_grid]
        else:
            step = int(np.gcd.reduce(differences))
    return Axis(int(numbers[0]), int(numbers[-1]), step, len(numbers), regular, astray)


def _on_grid(numbers: np.ndarray, traces: np.ndarray, step: int) -> np.ndarray:
    """Which numbers are a multiple of the step apart from those of most traces, bool."""
    remainders, which = np.unique((numbers - numbers[0]) % step, return_inverse=True)
    return which == np.bincount(which, traces, len(remainders)).argmax()


def distinct(values: np.ndarray) -> np.ndarray:
    """Sorted distinct values, int64; without sorting where they lie close together."""
    first, last = int(values.min()), int(values.max())
    if last - first > 8 * len(values) + 1000:
        ordered = np.sort(values).astype(np.int64)  # numpy's own `unique` hashes, which takes ten times as long
        return ordered[np.diff(ordered, prepend=ordered[0] - 1) != 0]
    present = np.zeros(last - first + 1, bool)
    present[values.astype(np.int64) - first] = True
    return np.flatnonzero(present) + first
