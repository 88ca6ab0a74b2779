"""Labeled lines of a survey as a dataset, and the score of a predicted survey."""

import csv
from dataclasses import replace
from pathlib import Path

import in_process
import numpy as np
import pytest
import segy_files
from PIL import Image

from saltseg.data import check, competition
from saltseg.pipeline import survey_lines
from saltseg.seismic.volume import Line, Survey
from saltseg.synthetic.survey import SurveySize, simulate_survey

SIZE = SurveySize(inlines=32, crosslines=130, samples=120, dead_share=0.02)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survey") / "s.sgy"
    simulate_survey(path, SIZE, 3)
    return path


def mask_path(survey: Path) -> Path:
    return survey.with_name("s_mask.sgy")


def lines(survey: Path, labels: Path, inlines: str, input_dir: Path, *words: str) -> int:
    return in_process.call(
        "lines", str(survey), "--labels", str(labels), "--inlines", inlines, "--input", str(input_dir), *words
    )


def write_masks(survey: Path, folder: Path, numbers: tuple[int, ...]) -> None:
    """PNG masks of the true labels, with other values in the gaps."""
    folder.mkdir()
    labels = Survey.open(mask_path(survey))
    for number in numbers:
        (line,) = labels.read(labels.slab("inline", number))
        Image.fromarray((line.amplitudes > 0).astype(np.uint8) * 255).save(folder / f"{number}.png")


def test_both_kinds_of_labels_give_a_valid_dataset_with_the_lines_as_sections(
    survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(survey, mask_path(survey), "105,110,120", tmp_path, "--name", "a") == 0
    assert "folds.scheme=grouped --set folds.count=3" in capsys.readouterr().out
    write_masks(survey, tmp_path / "masks", (105, 110, 120))
    assert lines(survey, tmp_path / "masks", "105,110,120", tmp_path, "--name", "b") == 0
    one, other = (competition.read_train(tmp_path / name) for name in "ab")
    assert one.ids == other.ids
    assert np.array_equal(one.masks, other.masks)
    assert 0 < one.masks.mean() < 1
    assert check.check_dataset(tmp_path / "a") == []
    sections = competition.read_sections(tmp_path / "a")
    assert sections is not None
    assert set(sections.values()) == {"inline105", "inline110", "inline120"}
    assert all(id_.startswith(section + "-") for id_, section in sections.items())
    assert all(id_.startswith("inline131-") for id_ in competition.test_ids(tmp_path / "a"))  # the farthest


def test_lines_of_two_surveys_with_one_number_have_different_names() -> None:
    """Else the tiles of one would count as those of the other, and could not be used to score its networks."""
    numbers = np.arange(3)
    line = Line("inline", 110, numbers, numbers, np.zeros((5, 3), np.float32), np.ones(3, bool))
    assert survey_lines._name(line) == survey_lines._name(replace(line, traces=numbers + 7))
    assert survey_lines._name(line) != survey_lines._name(replace(line, amplitudes=np.ones((5, 3), np.float32)))


def test_tiles_are_windows_of_the_line(survey: Path, tmp_path: Path) -> None:
    assert lines(survey, mask_path(survey), "110", tmp_path, "--name", "a") == 0
    labeled = competition.read_train(tmp_path / "a")
    with (tmp_path / "a" / "sections.csv").open() as file:
        places = {row["id"]: (int(row["row"]), int(row["column"])) for row in csv.DictReader(file)}
    labels, images = Survey.open(mask_path(survey)), Survey.open(survey)
    (line,) = labels.read(labels.slab("inline", 110))
    (picture,) = images.read(images.slab("inline", 110))
    bottom, right = (side - 101 for side in line.amplitudes.shape)
    assert set(places.values()) == {(0, 0), (bottom, 0), (0, right), (bottom, right)}
    for id_, mask in zip(labeled.ids, labeled.masks, strict=True):
        row, column = places[id_]
        live = picture.live[column : column + 101]
        window = line.amplitudes[row : row + 101, column : column + 101]
        assert np.array_equal(mask[:, live], window[:, live])


def test_the_same_lines_are_not_cut_again_and_others_need_overwrite(
    survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(survey, mask_path(survey), "110", tmp_path) == 0
    assert lines(survey, mask_path(survey), "110", tmp_path) == 0
    assert "s: already there" in capsys.readouterr().out
    assert lines(survey, mask_path(survey), "111", tmp_path) == 2
    assert "exists" in capsys.readouterr().err
    assert lines(survey, mask_path(survey), "111", tmp_path, "--overwrite") == 0


def test_labels_that_do_not_fit_are_named_in_one_line(
    survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "masks"
    write_masks(survey, masks, (110,))
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(masks / "111.png")
    assert lines(survey, masks, "110,111,112", tmp_path) == 2
    error = capsys.readouterr().err
    assert "111.png has 10x20 pixels; inline 111 has 120x" in error
    assert "no mask" in error
    assert "112.png" in error
    assert error.count("\n") == 1
    assert lines(survey, masks, "99", tmp_path) == 2
    assert "has no inline 99: it has 32, 100 to 131" in capsys.readouterr().err
    assert lines(survey, survey, "110", tmp_path) == 2
    assert "use 0 for no salt and 1 for salt" in capsys.readouterr().err
    assert lines(survey, masks, "110", tmp_path, "--step", "0") == 2
    line = segy_files.write(tmp_path / "l.sgy", segy_files.wave(6), [{21: n} for n in range(6)])
    assert lines(line, masks, "110", tmp_path) == 2
    assert "is a line" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_line_that_is_smaller_than_a_tile_is_mirrored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = segy_files.grid(range(3), range(40))
    source = segy_files.write(tmp_path / "a.sgy", rng.normal(size=(120, 60)), numbers)
    labels = segy_files.write(tmp_path / "m.sgy", np.repeat(np.arange(60) < 20, 120).reshape(60, 120).T, numbers)
    assert lines(source, labels, "1", tmp_path, "--name", "small") == 0
    found = competition.read_train(tmp_path / "small")
    assert found.masks.shape == (1, 101, 101)
    assert found.masks[0, :, 0].tolist() == [1] * 20 + [0] * 80 + [1]


def numbered(tmp_path: Path, inlines: range) -> tuple[Path, Path, np.ndarray, list[dict[int, int]]]:
    """A survey with 4 crosslines and its masks as files; the masks, (traces, samples), and the headers."""
    headers = segy_files.grid(inlines, range(50, 54))
    rng = np.random.default_rng(0)
    salt = rng.integers(0, 2, (len(headers), 30))
    source = segy_files.write(tmp_path / "s.sgy", rng.normal(size=salt.shape), headers)
    return source, segy_files.write(tmp_path / "m.sgy", salt, headers), salt, headers


def test_a_file_of_one_labeled_inline_serves_as_one_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, labels, salt, headers = numbered(tmp_path, range(5, 9))
    part = [row for row, header in enumerate(headers) if header[189] == 7]
    alone = segy_files.write(tmp_path / "alone.sgy", salt[part], [headers[row] for row in part])
    assert lines(source, labels, "7", tmp_path, "--name", "a") == 0
    assert lines(source, alone, "7", tmp_path, "--name", "b") == 0
    one, other = (competition.read_train(tmp_path / name) for name in "ab")
    assert one.ids == other.ids
    assert np.array_equal(one.masks, other.masks)
    assert np.array_equal(one.masks[0, :30, :4], salt[part].T)
    capsys.readouterr()
    assert lines(source, alone, "6,7", tmp_path, "--name", "c") == 2
    assert "alone.sgy has no inline 6: it is a line at inline 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("headers", "wrong"),
    [
        ([{21: 50 + n} for n in range(4)], "state no inline"),  # numbered as CDPs
        ([{189: 5 + n, 193: 50} for n in range(4)], "a line at inline 5 to 8"),  # a crossline
        ([{189: 7, 193: 51 + n} for n in range(4)], "crosslines 51-54"),
    ],
)
def test_a_line_that_is_not_the_labeled_inline_is_refused(
    headers: list[dict[int, int]], wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _, salt, _ = numbered(tmp_path, range(5, 9))
    alone = segy_files.write(tmp_path / "alone.sgy", salt[:4], headers)
    assert lines(source, alone, "7", tmp_path) == 2
    error = capsys.readouterr().err
    assert wrong in error
    assert error.count("\n") == 1


def test_inlines_with_negative_numbers_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, labels, _, _ = numbered(tmp_path, range(-6, 3))
    assert lines(source, labels, "-6, -2,1", tmp_path, "--name", "a") == 0
    sections = competition.read_sections(tmp_path / "a")
    assert sections is not None
    assert set(sections.values()) == {"inline-6", "inline-2", "inline1"}
    capsys.readouterr()
    assert in_process.call("score-survey", str(labels), str(labels), "--without", "-6") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["all", "8"]
    assert lines(source, labels, "--6", tmp_path, "--name", "b") == 2


@pytest.mark.parametrize(
    ("of_survey", "of_labels", "wrong"),
    [
        ((4000, {}), (8000, {}), "b.sgy has a sample interval of 8 ms, "),
        ((4000, {}), (0, {}), ""),
        ((0, {}), (8000, {}), ""),
        ((4000, {109: 200}), (4000, {109: 1000}), "b.sgy begins at 1000 ms, "),
        ((4000, {109: 200}), (4000, {109: 2000, 215: -10}), ""),
        ((4000, {109: 200}), (4000, {}), ""),
        ((4000, {}), (4000, {109: 200}), ""),
    ],
)
def test_other_samples_than_the_surveys_are_neither_labels_nor_truth(
    of_survey: tuple[int, dict[int, int]],
    of_labels: tuple[int, dict[int, int]],
    wrong: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Interval in microseconds, and headers: a delay with its scalar. What is 0 states nothing."""
    _, _, salt, headers = numbered(tmp_path, range(5, 8))

    def write(name: str, values: np.ndarray, stated: tuple[int, dict[int, int]]) -> Path:
        numbers = [{**header, **stated[1]} for header in headers]
        return segy_files.write(tmp_path / name, values, numbers, binary={3217: ("H", stated[0])})

    source = write("a.sgy", np.random.default_rng(1).normal(size=salt.shape), of_survey)
    predicted, labels = write("p.sgy", salt, of_survey), write("b.sgy", salt, of_labels)
    codes = lines(source, labels, "6", tmp_path), in_process.call("score-survey", str(labels), str(predicted))
    assert codes == ((2, 2) if wrong else (0, 0))
    error = capsys.readouterr().err
    assert error.count("\n") == 2 * bool(wrong)
    assert all(wrong in line for line in error.splitlines())


def test_a_survey_whose_name_is_none_for_a_dataset_needs_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, labels, _, _ = numbered(tmp_path, range(5, 8))
    source = source.rename(tmp_path / "my survey (1).sgy")
    assert lines(source, labels, "6", tmp_path) == 2
    assert "--name" in capsys.readouterr().err
    assert lines(source, labels, "6", tmp_path, "--name", "mine") == 0


# ---------------------------------------------------------------- the score


def cube(path: Path, salt: np.ndarray) -> Path:
    """A mask, (inlines, crosslines, samples), inlines from 10."""
    numbers = segy_files.grid(range(10, 10 + len(salt)), range(salt.shape[1]))
    return segy_files.write(path, salt.reshape(-1, salt.shape[2]), numbers, code=8)


def test_the_score_leaves_lines_out_and_knows_their_distance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true, found = np.zeros((12, 2, 10), int), np.zeros((12, 2, 10), int)
    true[:, :, :5] = 1
    found[1:6, :, :5] = 1  # right on inlines 11 to 15
    found[6:, :, 4:8] = 1  # 1 of 5, with 3 false, on the six behind them
    found[0] = 1  # the labeled line
    files = [str(cube(tmp_path / f"{name}.sgy", salt)) for name, salt in (("found", found), ("true", true))]
    assert in_process.call("score-survey", *files, "--without", "10") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    both, predicted, salt = 5 * 10 + 6 * 2, 5 * 10 + 6 * 8, 11 * 10
    expected = (both / (predicted + salt - both), both / predicted, both / salt)
    assert rows[0] == ["all", "11", *(f"{value:.4f}" for value in expected)]
    assert rows[1][-4:] == ["5", "1.0000", "1.0000", "1.0000"]
    assert rows[2][:3] == ["6", "to", "10"]
    assert rows[2][-3:] == [f"{value:.4f}" for value in (2 / 16, 2 / 8, 2 / 10)]
    assert in_process.call("score-survey", *files, "--without", "9") == 2
    assert "--without 9" in capsys.readouterr().err
    assert in_process.call("score-survey", files[0], str(cube(tmp_path / "c.sgy", true[:3]))) == 2
    assert "give files of one survey" in capsys.readouterr().err


def test_the_score_says_how_the_traces_of_two_files_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, labels, salt, headers = numbered(tmp_path, range(5, 9))
    turned = sorted(range(len(headers)), key=lambda row: headers[row][193])
    other = segy_files.write(tmp_path / "turned.sgy", salt[turned], [headers[row] for row in turned])
    assert in_process.call("score-survey", str(other), str(labels)) == 2
    assert "turned.sgy has the traces of" in (error := capsys.readouterr().err)
    assert "in another order" in error
    shifted = [{**header, 189: header[189] + 1} for header in headers]
    other = segy_files.write(tmp_path / "shifted.sgy", salt, shifted)
    assert in_process.call("score-survey", str(other), str(labels)) == 2
    error = capsys.readouterr().err
    assert "trace 1 is inline 6, crossline 50 in" in error
    assert "inline 5, crossline 50 in" in error
    assert error.count("\n") == 1
