"""What is read for the page, and what becomes a note."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from example import TUNED, SurveyFiles
from tiny_run import Trained, checkpoint, salt, write_faint_oof

from saltseg import io, releases
from saltseg.errors import InputError
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.seismic.volume import Survey
from saltseg.viewer import content
from saltseg.viewer.slices import Slices


def read(trained: Trained, name: str = "tiny-run") -> content.Content:
    return content.read(name, None, trained.input, trained.output)


@pytest.fixture
def whole(trained: Trained) -> Trained:
    """With networks, and out-of-fold predictions of 100/255 where there is salt."""
    for number in range(3):
        checkpoint(trained, number, 0.25)
    write_faint_oof(trained)
    return trained


def tune(trained: Trained, threshold: int) -> None:
    chosen = {"postprocessing_from": "other", "postprocessing": {"threshold": threshold, "min_area": 0}}
    io.write_json(trained.run.postprocessing_source, chosen)


def test_a_run_has_networks_and_tiles(whole: Trained) -> None:
    found = read(whole)
    assert (found.name, found.postprocessing, found.notes, found.slices) == ("tiny-run", THRESHOLD_HALF, (), None)
    assert found.networks
    probability = found.networks.predict(np.zeros((40, 130), np.uint8), threading.Event())
    np.testing.assert_array_equal(probability, np.full((40, 130), 64))
    assert found.tiles
    index = found.tiles.scored.ids.index("b1")
    np.testing.assert_array_equal(found.tiles.item(index).layers["truth"], salt(20))
    np.testing.assert_array_equal(found.tiles.item(index).layers["probability"], 100 * salt(20))


def test_tiles_are_scored_with_the_post_processing_of_the_run(whole: Trained) -> None:
    tiles = read(whole).tiles
    assert tiles
    assert tiles.item(tiles.scored.ids.index("b1")).title == "b1 · AP 0.00 · salt 20 %"  # nothing reaches one half
    tune(whole, 60)
    found = read(whole)
    assert found.postprocessing == Postprocessing(60)
    assert found.tiles
    assert found.tiles.item(found.tiles.scored.ids.index("b1")).title == "b1 · AP 1.00 · salt 20 %"


def test_what_is_missing_becomes_a_note(whole: Trained) -> None:
    whole.run.oof.unlink()
    found = read(whole)
    assert found.tiles is None
    assert found.notes == ("there are no tiles: tiny-run has no out-of-fold predictions yet; saltseg predict tiny-run",)
    write_faint_oof(whole)
    shutil.rmtree(whole.input)
    assert "there are no tiles: no dataset 'tiny'" in read(whole).notes[0]


def test_a_run_without_weights_shows_its_tiles(trained: Trained) -> None:
    write_faint_oof(trained)
    found = read(trained)
    assert found.networks is None
    assert found.tiles
    assert "images cannot be predicted: no checkpoint at" in found.notes[0]


def test_tiles_of_another_dataset_of_the_same_name_are_not_shown(whole: Trained) -> None:
    table = whole.root / "train.csv"
    first, *rows = table.read_text().splitlines(keepends=True)
    table.write_text(first + "".join(rows[1:] + rows[:1]))  # the order of the ids
    found = read(whole)
    assert found.tiles is None
    assert found.networks
    assert "has changed since tiny-run was trained on it" in found.notes[0]


def test_a_presence_threshold_is_said_to_be_left_out(whole: Trained) -> None:
    chosen = {
        "postprocessing_from": "other",
        "postprocessing": {"threshold": 60, "min_area": 0, "presence_threshold": 40},
    }
    io.write_json(whole.run.postprocessing_source, chosen)
    found = read(whole)
    assert found.postprocessing.presence_threshold == 40
    assert found.tiles
    assert ["presence threshold" in note for note in found.notes] == [True]


def test_a_damaged_model_does_not_hide_the_survey(files: SurveyFiles, tmp_path: Path) -> None:
    slices = Slices(Survey.open(files.survey), files.salt)
    folder = releases.models_dir()
    assert folder
    model = releases.ModelDir(tmp_path / "salt-tgs")  # a model whose license must be known
    shutil.copytree(folder / "salt-tgs", model.path)
    found = content.read(str(model.path), slices, tmp_path, tmp_path)
    assert found.networks
    assert found.notes == (releases.notice(model.read_manifest()),)
    weights = model.path / model.read_manifest()["weights"][0]
    weights.write_bytes(weights.read_bytes()[:-1])
    found = content.read(str(model.path), slices, tmp_path, tmp_path)
    assert (found.networks, found.slices, found.postprocessing) == (None, slices, TUNED)
    assert found.notes[0].startswith("images cannot be predicted: ")
    assert "fetch the model again" in found.notes[0]
    with pytest.raises(InputError, match="fetch the model again"):
        content.read(str(model.path), None, tmp_path, tmp_path)


def test_a_damaged_post_processing_does_not_hide_the_survey(whole: Trained, files: SurveyFiles) -> None:
    whole.run.postprocess.write_text("{")
    slices = Slices(Survey.open(files.survey), files.salt)
    found = content.read("tiny-run", slices, whole.input, whole.output)
    assert (found.networks, found.tiles, found.slices, found.postprocessing) == (None, None, slices, TUNED)
    assert found.notes[0].startswith(f"of tiny-run: {whole.run.postprocess}")
    with pytest.raises(InputError, match="postprocess"):
        read(whole)


def test_nothing_to_show_is_an_error_with_every_reason(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .* \| there are no tiles: "):
        read(trained)
    with pytest.raises(InputError, match="unknown run or model 'tiny-rum'; did you mean tiny-run"):
        read(trained, "tiny-rum")


def test_a_survey_alone(files: SurveyFiles, tmp_path: Path) -> None:
    slices = Slices(Survey.open(files.survey), files.salt)
    found = content.read(None, slices, tmp_path, tmp_path)
    assert (found.postprocessing, found.networks, found.tiles, found.slices) == (TUNED, None, None, slices)
