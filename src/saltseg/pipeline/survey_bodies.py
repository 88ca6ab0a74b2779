"""Post-processing of a survey: bodies of salt are joined from line to line before any of them is removed.

Threshold and hole filling work on each section, as they were tuned. Hysteresis and the minimum area are about whole
bodies: a body that is thin or faint on one line may be large and clear on the next.
"""

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from saltseg.postprocessing.parameters import Postprocessing


class Bodies:
    """The bodies of salt of a survey and which of them stay.

    Salt is 8-connected within a section; bodies of neighboring lines are one where they have salt in the same pixel. A
    body stays if one of its sections has the minimum area and one of its pixels reaches ``hysteresis_high``. The
    presence threshold is not applied: it is about whole tiles.

    Args:
        postprocessing: of the run, tuned on tiles.
        sections: all lines in their order: numbers of the traces across the line, int64 (W,) rising, and salt
            probability, uint8 (H, W) in 255ths.
    """

    def __init__(self, postprocessing: Postprocessing, sections: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        self._postprocessing = postprocessing
        self._fill = replace(postprocessing, hysteresis_high=0, min_area=0, presence_threshold=0)
        areas, strong, first = [], [], [0]
        parents = _Parents()
        before: tuple[np.ndarray, np.ndarray] | None = None  # numbers, labels of the last line
        for numbers, probability in sections:
            labels, area, reached = self._label(probability)
            areas.append(area)
            strong.append(reached)
            if before is not None:
                for one, other in _touching(*before, numbers, labels):
                    parents.join(first[-2] + one, first[-1] + other)
            first.append(first[-1] + len(area))
            before = numbers, labels
        self._keep = self._select(parents, first, areas, strong)

    def mask(self, position: int, probability: np.ndarray) -> np.ndarray:
        """The salt of a line, uint8 {0, 1} (H, W), from the same probabilities as before."""
        labels, _, _ = self._label(probability)
        return self._keep[position][labels].astype(np.uint8)

    def _label(self, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels int32 (H, W), 0 for rock; by label the area, int64, and whether it reaches hysteresis_high, bool."""
        filled = self._fill.filter_probabilities(probability[None])[0]
        salt = (filled >= self._postprocessing.threshold).astype(np.uint8)
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(salt, connectivity=8)
        area = statistics[:, cv2.CC_STAT_AREA].astype(np.int64)
        high = max(self._postprocessing.hysteresis_high, self._postprocessing.threshold)
        reached = np.bincount(labels[filled >= high], minlength=len(area)) > 0
        return labels, area, reached

    def _select(
        self, parents: "_Parents", first: list[int], areas: list[np.ndarray], strong: list[np.ndarray]
    ) -> list[np.ndarray]:
        """For each line, by label, whether it stays."""
        if not areas:
            return []
        roots = np.array([parents.root(body) for body in range(first[-1])])
        largest, reached = np.zeros(first[-1], np.int64), np.zeros(first[-1], bool)
        np.maximum.at(largest, roots, np.concatenate(areas))
        np.logical_or.at(reached, roots, np.concatenate(strong))
        keep = (largest >= self._postprocessing.min_area)[roots] & reached[roots]
        keep[first[:-1]] = False  # label 0 of each line is rock
        return np.split(keep, first[1:-1])


class _Parents:
    """Union-find (Tarjan 1975): which labels are of one body."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def root(self, body: int) -> int:
        """The label that stands for the body."""
        while (above := self._parent.get(body, body)) != body:
            self._parent[body] = self._parent.get(above, above)
            body = above
        return body

    def join(self, one: int, other: int) -> None:
        """Make two bodies one."""
        first, last = sorted((self.root(one), self.root(other)))
        self._parent[last] = first


def _touching(
    numbers: np.ndarray, labels: np.ndarray, other_numbers: np.ndarray, other_labels: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs of labels of two lines that have salt in the same pixel."""
    _, here, there = np.intersect1d(numbers, other_numbers, assume_unique=True, return_indices=True)
    one, other = labels[:, here], other_labels[:, there]
    both = (one > 0) & (other > 0)
    count = int(other_labels.max(initial=0)) + 1
    pairs = np.unique(one[both].astype(np.int64) * count + other[both])
    return [(int(pair) // count, int(pair) % count) for pair in pairs]
