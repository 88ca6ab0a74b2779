"""`benchmarks/neighbors.py`: which tiles touch, and which lines of pixels lie on both sides of their common edge."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tiny_run import write_table

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def neighbors(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("neighbors")


def test_tiles_touch_within_a_section_only(neighbors: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "sections.csv"
    places = [["a", "m0", 0, 0], ["b", "m0", 0, 1], ["c", "m0", 2, 0], ["d", "m1", 1, 0], ["test", "m0", 1, 0]]
    write_table(table, [["id", "section", "row", "column"], *places])
    found = neighbors.edges_of(["a", "b", "c", "d"], table)
    assert set(found) == {(0, 1, (0, 1)), (1, 0, (0, -1))}  # c is two rows below a; the tile between has no label


@pytest.mark.parametrize("side", [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_the_lines_of_an_edge_continue_each_other(neighbors: ModuleType, side: tuple[int, int]) -> None:
    whole = np.arange(36).reshape(6, 6)
    tiles = {
        (row, column): whole[3 * row : 3 * row + 3, 3 * column : 3 * column + 3] for row, column in np.ndindex(2, 2)
    }
    first = (int(side[0] < 0), int(side[1] < 0))
    second = (first[0] + side[0], first[1] + side[1])
    own = neighbors.border(tiles[first], side)
    across = neighbors.beyond(np.array([tiles[first], tiles[second]]), neighbors.Edge(0, 1, side))
    assert (across - own).tolist() == [6 * side[0] + side[1]] * 3


def test_a_push_towards_the_neighbors_label_is_strongest_at_the_edge(
    neighbors: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    size = 101
    masks = np.zeros((2, size, size), bool)
    masks[:, :50] = True  # salt in the upper half of both
    probabilities = np.where(masks, 0.9, 0.1)
    probabilities[0, :50, :8] = 0.4  # missed beside the edge
    neighbors.push(masks, probabilities, [neighbors.Edge(0, 1, (0, -1))])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| 1 "))
    assert row == "| 1 | 0.9000 | 1.0000 | +0.1000 | +0.0500 |"
