"""Predicted tiles in the case study: which are read, how they are drawn."""

import shutil

import numpy as np
import pytest
from fake_records import predicted_tiles

from saltseg import storage
from saltseg.errors import InputError
from saltseg.reporting import case_tiles


def test_those_of_the_dataset_itself_come_first_and_none_of_another_budget(tmp_path) -> None:
    assert case_tiles.read(tmp_path, "rock", "cpu") == []
    predicted_tiles(tmp_path / "a-cpu")
    shutil.copytree(tmp_path / "a-cpu", tmp_path / "rock-cpu")
    shutil.copy(tmp_path / "a-cpu" / "base-0.npz", tmp_path / "rock-cpu" / "images_eighth-0.npz")
    shutil.copy(tmp_path / "a-cpu" / "base-0.json", tmp_path / "rock-cpu" / "images_eighth-0.json")
    assert [found.data for found in case_tiles.read(tmp_path, "rock", "cpu")] == ["rock", "rock"]
    assert [found.data for found in case_tiles.read(tmp_path, "tgs", "cpu")] == ["a"]
    assert case_tiles.read(tmp_path, "rock", "gpu") == []


def test_training_is_left_and_validation_right(tmp_path) -> None:
    found = predicted_tiles(tmp_path / "rock-cpu")
    figure = case_tiles.figure(found)
    halves = figure.subfigs
    assert [half.get_suptitle() for half in halves] == ["training images", "validation images"]
    titles = [[axes.get_title() for axes in half.axes] for half in halves]
    assert titles == [["IoU 0.50", "IoU 0.50"]] * 2  # all is marked, half is salt
    assert halves[0].axes[0].get_ylabel() == "base"


def test_a_variant_with_fewer_tiles_sets_the_number_and_one_with_none_is_left_out(tmp_path) -> None:
    folder = tmp_path / "rock-cpu"
    whole = predicted_tiles(folder)[0]
    shutil.copy(folder / "base-0.json", folder / "images_eighth-0.json")
    names = ("images", "masks", "probabilities")
    for count in (1, 0):
        arrays = {name: getattr(whole, name)[:, :count] for name in names}
        storage.write_arrays(folder / "images_eighth-0.npz", arrays)
        found = case_tiles.read(tmp_path, "rock", "cpu")
        assert len(found) == 1 + count
        assert len(case_tiles.figure(found).subfigs[0].axes) == 2
    storage.write_arrays(folder / "base-0.npz", arrays)
    assert case_tiles.read(tmp_path, "rock", "cpu") == []


@pytest.mark.parametrize("arrays", [{}, {"images": np.zeros((2, 1, 8, 8))}, dict.fromkeys(
    ("images", "masks", "probabilities"), np.zeros((3, 1, 8, 8)))])  # fmt: skip
def test_other_arrays_are_refused_in_one_line(tmp_path, arrays) -> None:
    predicted_tiles(tmp_path / "rock-cpu")
    storage.write_arrays(tmp_path / "rock-cpu" / "base-0.npz", arrays)
    with pytest.raises(
        InputError, match=r"base-0.npz cannot be read as tiles of a study \(.+\); delete it and run"
    ) as refused:
        case_tiles.read(tmp_path, "rock", "cpu")
    assert "\n" not in str(refused.value)
    (tmp_path / "rock-cpu" / "base-0.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read as tiles of a study"):
        case_tiles.read(tmp_path, "rock", "cpu")
