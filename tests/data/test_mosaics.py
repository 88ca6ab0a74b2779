"""Sections from tiles: neighbors found by their edges, places that do not contradict each other."""

import csv
from pathlib import Path

import numpy as np
import pytest

from saltseg.cli import app
from saltseg.data import competition, mosaics
from saltseg.data.mosaics import Matches, Place
from saltseg.synthetic import dataset
from saltseg.synthetic import tiles as simulated

TILE = 101


def cut(number: int) -> np.ndarray:
    """The tiles of a simulated section, each stretched by itself: uint8 (rows, columns, 101, 101)."""
    image = simulated.numbered_section(5, number).image
    rows, columns = (side // TILE for side in image.shape)
    blocks = image.reshape(rows, TILE, columns, TILE).swapaxes(1, 2)
    return np.stack([[simulated.stretch(block) for block in row] for row in blocks])


@pytest.fixture(scope="module")
def sections() -> list[np.ndarray]:
    return [cut(number) for number in range(30)]


def test_neighbors_are_found_and_nearly_all_matches_are_right(sections: list[np.ndarray]) -> None:
    precision, recall = mosaics.precision_on_simulated(sections)
    assert precision > 0.97
    assert recall > 0.75  # among fewer than a thousand tiles, where a match must also correlate well


def test_a_larger_margin_finds_fewer_and_surer_matches(sections: list[np.ndarray]) -> None:
    loose, strict = (mosaics.precision_on_simulated(sections, margin) for margin in (0.0, 0.2))
    assert strict[0] >= loose[0]
    assert strict[1] < loose[1]


def test_a_shuffled_section_is_put_together_again() -> None:
    whole = cut(2)
    rows, columns = whole.shape[:2]
    order = np.random.default_rng(0).permutation(rows * columns)
    stranger = np.random.default_rng(1).integers(0, 256, (1, TILE, TILE), dtype=np.uint8)
    stack = np.concatenate([whole.reshape(-1, TILE, TILE)[order], stranger, np.zeros((2, TILE, TILE), np.uint8)])
    places = mosaics.assemble(mosaics.match_edges(stack))
    assert [(place.row, place.column) for place in places[: len(order)]] == [divmod(k, columns) for k in order.tolist()]
    assert len({place.section for place in places[: len(order)]}) == 1
    # Noise and constant tiles have no neighbors.
    assert len({place.section for place in places}) == 4


def test_gray_values_may_be_stretched_in_each_tile() -> None:
    whole = cut(2).reshape(-1, TILE, TILE)
    darker = np.rint(whole * np.linspace(0.4, 1, len(whole))[:, None, None]).astype(np.uint8)
    one, other = mosaics.match_edges(whole), mosaics.match_edges(darker)
    assert (one.right == other.right).mean() > 0.8
    assert (one.below == other.below).mean() > 0.8


def test_two_tiles_never_share_a_place() -> None:
    # 0 1    Below 1 is 4, right of 2 is 3: both would lie where the question mark is.
    # 2 ?
    matches = Matches(np.array([1, -1, 3, -1, -1]), np.array([2, 4, -1, -1, -1]))
    first, corner = [Place(0, 0, 0), Place(0, 0, 1), Place(0, 1, 0)], Place(0, 1, 1)
    assert mosaics.assemble(matches) == [*first, Place(1, 0, 0), corner]


def test_loops_that_do_not_close_are_counted() -> None:
    closed = Matches(np.array([1, -1, 3, -1]), np.array([2, 3, -1, -1]))
    broken = Matches(np.array([1, -1, 4, -1, -1]), np.array([2, 3, -1, -1, -1]))
    assert mosaics.contradictions(closed) == (1, 0)
    assert mosaics.contradictions(broken) == (1, 1)


def test_two_tiles_are_too_few_to_be_ahead_of_a_second_best() -> None:
    matches = mosaics.match_edges(cut(0).reshape(-1, TILE, TILE)[:2])
    assert matches.right.tolist() == matches.below.tolist() == [-1, -1]


def test_the_table_says_where_each_tile_lies() -> None:
    assert mosaics.table(["b"], [Place(7, 2, 0)]) == [{"id": "b", "section": "m00007", "row": 2, "column": 0}]


def test_the_command_writes_the_table_beside_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset.write_dataset(tmp_path / "tiny", n_train=40, n_test=10, seed=3)
    truth = (tmp_path / "tiny" / "sections.csv").read_text()
    options = ["find-sections", "tiny", "--input", str(tmp_path)]
    assert app.call(options) == 2
    assert "it is used as it is, remove it to find sections anew" in capsys.readouterr().err
    (tmp_path / "tiny" / "sections.csv").unlink()
    assert app.call(options) == 0
    assert "labeled tiles share a section with another" in capsys.readouterr().out
    found = competition.read_sections(tmp_path / "tiny")
    assert found is not None
    true = {row["id"]: row["section"] for row in csv.DictReader(truth.splitlines())}
    assert found.keys() == true.keys()
    # Tiles that are put into one section were cut from one.
    pairs = [(a, b) for a in found for b in found if a < b and found[a] == found[b]]
    assert sum(true[a] == true[b] for a, b in pairs) >= 0.9 * len(pairs) > 0
