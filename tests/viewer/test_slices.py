"""Slices read from SEG-Y, compared with the arrays that the files were made from."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from example import (
    CROSSLINE_STEP,
    CROSSLINES,
    FIRST_CROSSLINE,
    FIRST_INLINE,
    INLINES,
    SAMPLES,
    TUNED,
    SurveyFiles,
)

from saltseg import io
from saltseg.errors import InputError
from saltseg.pipeline.survey_files import Outputs
from saltseg.seismic import writer
from saltseg.seismic.volume import Survey
from saltseg.viewer.items import Axis
from saltseg.viewer.slices import Slices


def headers(inline: np.ndarray, crossline: np.ndarray) -> dict[int, np.ndarray | int]:
    """Line numbers of traces at these positions of the grid."""
    return {189: FIRST_INLINE + inline, 193: FIRST_CROSSLINE + CROSSLINE_STEP * crossline}


@pytest.fixture
def slices(files: SurveyFiles) -> Slices:
    return Slices(Survey.open(files.survey), files.salt, files.truth)


def test_each_direction_has_the_numbers_of_its_slices(slices: Slices) -> None:
    inline, crossline, time = slices.directions()
    assert inline["numbers"] == [20, 21, 22, 23, 24]
    assert crossline["numbers"] == [300, 302, 304, 306, 308, 310, 312]
    assert (time["title"], time["unit"]) == ("Time", "ms")
    assert time["numbers"] == [4.0 * k for k in range(SAMPLES)]


def test_lines_hold_what_the_files_hold(slices: Slices, files: SurveyFiles) -> None:
    for position in range(INLINES):
        item = slices.item("inline", position)
        np.testing.assert_array_equal(item.layers["probability"], files.probability[position].T)
        np.testing.assert_array_equal(item.layers["truth"], files.true[position].T)
        np.testing.assert_array_equal(item.layers["stored"], files.probability[position].T > 127)
    item = slices.item("crossline", 2)
    np.testing.assert_array_equal(item.layers["probability"], files.probability[:, 2].T)
    assert (item.title, item.name) == ("Crossline 304", "s-crossline-304")
    assert vars(item.x) == vars(Axis("inline", 20, 1))
    assert vars(item.y) == vars(Axis("time (ms)", 0, 4))


def test_where_no_trace_is_slices_are_black(slices: Slices) -> None:
    for direction, position, place in (("inline", 1, np.s_[:, 2]), ("crossline", 2, np.s_[:, 1]), ("time", 5, (1, 2))):
        image = slices.item(direction, position).layers["image"]
        assert not image[place].any()
        assert image.any()


def test_time_slices_have_inlines_downwards_and_nothing_in_the_missing_bin(slices: Slices, files: SurveyFiles) -> None:
    item = slices.item("time", 5)
    np.testing.assert_array_equal(item.layers["probability"], files.probability[:, :, 5])
    assert item.layers["image"].shape == (INLINES, CROSSLINES)
    assert item.layers["image"][1, 2] == 0
    assert (item.title, vars(item.x)) == ("Time 20 ms", vars(Axis("crossline", FIRST_CROSSLINE, 2)))


def test_amplitudes_become_gray_with_the_scale_of_the_prediction(slices: Slices) -> None:
    line = slices.item("inline", 0).layers["image"]
    time = slices.item("time", 3).layers["image"]
    np.testing.assert_array_equal(line[3], time[0])
    [traces] = slices.survey.read(slices.survey.slab("inline", 20))
    np.testing.assert_array_equal(line, np.rint(traces.amplitudes / 4 + 127.5))


def test_large_line_numbers_are_whole_in_titles_and_names(files: SurveyFiles, tmp_path: Path) -> None:
    there = np.ones((INLINES, CROSSLINES), bool)
    there[1, 2] = False
    i, j = np.nonzero(there)
    path = tmp_path / "large.sgy"
    with writer.create(path, samples=SAMPLES, interval_us=4000) as new:
        new.write({189: 1_234_567 + i, 193: 2_147_483_000 + j}, np.ones((len(i), SAMPLES)))
    shutil.copy(path, tmp_path / "salt.sgy")
    shutil.copy(writer.sidecar_path(files.salt), tmp_path)
    slices = Slices(Survey.open(path), tmp_path / "salt.sgy")
    item = slices.item("inline", 1)
    assert (item.title, item.name) == ("Inline 1234568", "large-inline-1234568")
    assert slices.item("crossline", 3).name == "large-crossline-2147483003"


def test_the_post_processing_is_that_of_the_prediction(slices: Slices) -> None:
    assert slices.postprocessing == TUNED


@pytest.mark.parametrize(("direction", "position"), [("inline", 5), ("inline", -1), ("line", 0), ("time", SAMPLES)])
def test_a_slice_that_does_not_exist_is_refused(slices: Slices, direction: str, position: int) -> None:
    with pytest.raises(InputError, match=f"no slice {direction} {position}"):
        slices.item(direction, position)


def test_a_survey_without_mask_and_truth_is_shown(files: SurveyFiles, tmp_path: Path) -> None:
    for path in (files.salt, writer.sidecar_path(files.salt)):
        shutil.copy(path, tmp_path)
    item = Slices(Survey.open(files.survey), tmp_path / "salt.sgy").item("inline", 0)
    assert list(item.layers) == ["image", "probability"]


def test_what_is_no_number_in_a_mask_is_rock(files: SurveyFiles, tmp_path: Path) -> None:
    true = files.true.astype(np.float32)
    true[0, 0, 3:6] = np.nan, np.inf, -1
    there = np.ones(true.shape[:2], bool)
    there[1, 2] = False
    rows = np.nonzero(there)
    with writer.create(tmp_path / "t.sgy", samples=SAMPLES, interval_us=4000) as new:
        new.write(headers(*rows), true[there])
    slices = Slices(Survey.open(files.survey), files.salt, tmp_path / "t.sgy")
    assert slices.item("inline", 0).layers["truth"][3:6, 0].tolist() == [0, 0, 1]
    assert [slices.item("time", k).layers["truth"][0, 0] for k in (3, 4, 5)] == [0, 0, 1]


def test_another_survey_is_refused(files: SurveyFiles, tmp_path: Path) -> None:
    other = tmp_path / "other.sgy"
    with writer.create(other, samples=SAMPLES, interval_us=4000) as new:
        new.write({189: np.arange(3), 193: np.arange(3)}, np.ones((3, SAMPLES)))
    with pytest.raises(InputError, match=r"other.sgy has 3 traces of 12 samples, .*s.sgy has 34 of 12"):
        Slices(Survey.open(files.survey), files.salt, other)


def test_traces_in_another_order_are_refused(files: SurveyFiles, tmp_path: Path) -> None:
    """Counted from the file, they would be drawn at other places."""
    there = np.ones((INLINES, CROSSLINES), bool)
    there[1, 2] = False
    crossline, inline = np.nonzero(there.T)
    truth, outputs = tmp_path / "t.sgy", Outputs(tmp_path / "salt.sgy")
    for path in (truth, outputs.probability):
        with writer.create(path, samples=SAMPLES, interval_us=4000) as new:
            new.write(headers(inline, crossline), files.true[inline, crossline])
    shutil.copy(writer.sidecar_path(files.salt), tmp_path)
    survey = Survey.open(files.survey)
    with pytest.raises(InputError, match=r"t.sgy has the traces of .*s.sgy in another order"):
        Slices(survey, files.salt, truth)
    with pytest.raises(InputError, match=r"salt.sgy has the traces of .*s.sgy in another order"):
        Slices(survey, outputs.probability)


def test_a_mask_of_other_lines_is_refused(files: SurveyFiles, tmp_path: Path) -> None:
    there = np.ones((INLINES, CROSSLINES), bool)
    there[1, 2] = False
    inline, crossline = np.nonzero(there)
    with writer.create(tmp_path / "t.sgy", samples=SAMPLES, interval_us=4000) as new:
        new.write(headers(inline + 1, crossline), files.true[there])
    with pytest.raises(InputError, match=r"trace 1 is inline 21, crossline 300 in .*t.sgy, inline 20, crossline 300"):
        Slices(Survey.open(files.survey), files.salt, tmp_path / "t.sgy")


@pytest.mark.parametrize(("key", "value"), [("scale", 0), ("scale", "1"), ("amplitude_half_range", None)])
def test_a_damaged_record_is_refused(files: SurveyFiles, tmp_path: Path, key: str, value: object) -> None:
    outputs = Outputs(tmp_path / "salt.sgy")
    shutil.copy(files.salt, outputs.probability)
    record = io.read_json(writer.sidecar_path(files.salt))
    io.write_json(writer.sidecar_path(outputs.probability), record | {key: value})
    with pytest.raises(InputError, match=f"{key}.*predict the survey again"):
        Slices(Survey.open(files.survey), outputs.probability)
