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
        arrays |= {"ids": np.array([["a"], ["b"]])[:, :count], "git_commit": np.array(whole.record["git_commit"])}
        storage.write_arrays(folder / "images_eighth-0.npz", arrays)
        found = case_tiles.read(tmp_path, "rock", "cpu")
        assert len(found) == 1 + count
        assert len(case_tiles.figure(found).subfigs[0].axes) == 2
    storage.write_arrays(folder / "base-0.npz", arrays)
    assert case_tiles.read(tmp_path, "rock", "cpu") == []


def test_damaged_tiles_and_records_are_refused_in_one_line(tmp_path) -> None:
    path = tmp_path / "rock-cpu" / "base-0.npz"
    predicted_tiles(path.parent)
    good = storage.read_arrays(path, (), "", "")
    names = ("images", "masks", "probabilities")
    wrong = [
        ({}, r"cannot be read as tiles of a study \(no array 'images' in it\)"),
        (good | {"images": good["images"][:, :1]}, r"cannot be read as tiles of a study \(uint8 \(2, 1, 8, 8\)\)"),
        (good | {name: good[name][[0, 1, 1]] for name in names}, r"\(uint8 \(3, 2, 8, 8\)\)"),
        (good | {name: good[name] / 255 for name in names}, r"\(float64 \(2, 2, 8, 8\)\)"),
        (good | {"git_commit": np.array("other")}, "is of another training than the record beside it; delete it"),
    ]
    for arrays, message in wrong:
        storage.write_arrays(path, arrays)
        with pytest.raises(InputError, match=message) as refused:
            case_tiles.read(tmp_path, "rock", "cpu")
        assert "\n" not in str(refused.value)
    storage.write_arrays(path, good)
    for record in ({}, [], 3):
        storage.write_json(path.with_suffix(".json"), record)
        with pytest.raises(InputError, match=r"base-0.json is no record of a study; delete it and run"):
            case_tiles.read(tmp_path, "tgs", "cpu")
