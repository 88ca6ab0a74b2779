"""Surveys through the commands: what the tests of the single steps leave out."""

import json
from collections.abc import Callable
from pathlib import Path

import in_process
import numpy as np
import pytest
import segy_files
import torch
from tiny_run import Trained, postprocess

from saltseg import io
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import windows
from saltseg.models import checkpoints
from saltseg.seismic.headers import read_layout
from saltseg.seismic.traces import read_traces
from saltseg.synthetic.survey import SurveySize, simulate_survey


class Half(torch.nn.Module):
    """Probability 1/2 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.slope * image[:, :1]


def cube(path: Path, salt: np.ndarray) -> Path:
    """A mask, (inlines, crosslines, samples), inlines from 10."""
    numbers = segy_files.grid(range(10, 10 + len(salt)), range(salt.shape[1]))
    return segy_files.write(path, salt.reshape(-1, salt.shape[2]), numbers, code=8)


def test_scan_prints_the_geometry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = segy_files.grid(range(10, 14), range(5))
    source = segy_files.write(tmp_path / "a.sgy", np.random.default_rng(0).integers(-99, 100, (20, 24)), numbers)
    assert in_process.call("scan", str(source)) == 0
    out = capsys.readouterr().out
    assert "10" in out
    assert "13" in out
    assert "saltseg predict RUN SURVEY" in out


def test_prestack_is_refused_in_one_line(
    tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Half())
    io.write_json(trained.run.postprocess, postprocess(threshold=100))
    numbers = [{189: i, 193: x, 37: 100 * offset} for i in range(6) for x in range(6) for offset in range(4)]
    source = segy_files.write(
        tmp_path / "p.sgy", np.random.default_rng(0).integers(-99, 100, (len(numbers), 24)), numbers
    )
    places = ("--input", str(trained.input), "--output", str(trained.output))
    target = tmp_path / "new" / "salt.sgy"
    assert in_process.call("predict", "tiny-run", str(source), "--to", str(target), *places) == 2
    error = capsys.readouterr().err
    assert "prestack" in error
    assert error.count("\n") == 1
    assert not target.exists()
    assert in_process.call("scan", str(source)) == 2


def test_a_volume_as_a_line(tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Half())
    io.write_json(trained.run.postprocess, postprocess(threshold=100))
    numbers = segy_files.grid(range(4), range(5))
    values = np.random.default_rng(0).integers(-99, 100, (20, 24))
    values[7] = 0
    source, target = segy_files.write(tmp_path / "a.sgy", values, numbers), tmp_path / "salt.sgy"
    places = ("--input", str(trained.input), "--output", str(trained.output))
    assert in_process.call("predict", "tiny-run", str(source), "--to", str(target), "--as-line", *places) == 0
    assert json.loads((tmp_path / "salt.sgy.json").read_text())["directions"] == ["line"]
    layout = read_layout(target)
    found = read_traces(layout, np.arange(layout.traces))
    live = np.arange(20) != 7
    np.testing.assert_allclose(found[live], 0.5, atol=1.01 / 255)
    assert not found[7].any()


def test_a_simulated_survey_scores_1_against_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--inlines", "32", "--crosslines", "32", "--samples", "32")
    assert in_process.call("simulate-survey", str(tmp_path / "s.sgy"), *size) == 0
    assert f"next: saltseg scan {tmp_path / 's.sgy'}" in capsys.readouterr().out
    mask = str(tmp_path / "s_mask.sgy")
    assert in_process.call("score-survey", mask, mask) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row == ["all", "32", "1.0000", "1.0000", "1.0000"]
    assert in_process.call("simulate-survey", str(tmp_path / "s.sgy"), *size) == 2


def test_more_samples_than_a_header_can_count_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--inlines", "32", "--crosslines", "32", "--samples", "65536")
    assert in_process.call("simulate-survey", str(tmp_path / "s.sgy"), *size) == 2
    assert "65535" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
    with pytest.raises(InputError, match="at most 65,535 samples"):
        simulate_survey(tmp_path / "s.sgy", SurveySize(samples=65_536))
    assert not list(tmp_path.iterdir())


def test_the_score_of_a_mask_that_is_shifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = np.zeros((4, 3, 20), int)
    true[:, :, 5:13] = 1
    files = [str(cube(tmp_path / f"{n}.sgy", np.roll(true, n, 2))) for n in (2, 0)]
    assert in_process.call("score-survey", *files) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[2:] == ["0.6000", "0.7500", "0.7500"]  # 6 of 8 samples shared, 10 covered


def test_what_is_no_mask_is_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two values on different lines, as probabilities or amplitudes have."""
    mask = np.zeros((4, 3, 20), int)
    mask[:, :, 5:13] = 100
    first = cube(tmp_path / "a.sgy", mask)
    assert in_process.call("score-survey", str(first), str(cube(tmp_path / "b.sgy", mask // 100))) == 0
    mask[3] //= 2
    second = cube(tmp_path / "c.sgy", mask)
    assert in_process.call("score-survey", str(second), str(first)) == 2
    error = capsys.readouterr().err
    assert "c.sgy is no mask: besides 0 it has 100, 50, …; give one such as salt_mask.sgy" in error


def test_the_score_of_traces_without_line_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    salt = np.zeros((6, 20), int)
    salt[:, :8] = 1
    one, other = (
        str(segy_files.write(tmp_path / f"{n}.sgy", np.roll(salt, n, 1), [{} for _ in salt], code=8)) for n in (0, 2)
    )
    assert in_process.call("score-survey", one, other) == 2
    capsys.readouterr()
    assert in_process.call("score-survey", one, other, "--as-line") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["all", "1", "0.6000", "0.7500", "0.7500"]


def test_labels_that_moved_are_cut_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many salt pixels as before, elsewhere."""
    salt = np.zeros((3, 110, 105), int)
    salt[:, :, 20:40] = 1
    image = np.random.default_rng(0).integers(-99, 100, salt.shape)
    source = cube(tmp_path / "a.sgy", image)
    words = ("--inlines", "11", "--name", "a", "--input", str(tmp_path / "input"))
    first, second = cube(tmp_path / "m.sgy", salt), cube(tmp_path / "n.sgy", np.roll(salt, 30, 2))
    assert in_process.call("lines", str(source), "--labels", str(first), *words) == 0
    assert in_process.call("lines", str(source), "--labels", str(second), *words) == 2
    assert "exists" in capsys.readouterr().err
    assert in_process.call("lines", str(source), "--labels", str(second), *words, "--overwrite") == 0
    masks = competition.read_train(tmp_path / "input" / "a").masks
    assert masks[:, 50:66].all()
    assert not masks[:, 20:40].any()


@pytest.fixture
def predicted(tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[float, str]]:
    """Clip and polarity that `saltseg predict tiny-run SOURCE …` takes."""
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Half())
    io.write_json(trained.run.postprocess, postprocess(threshold=100))

    def call(source: Path, *more: str) -> tuple[float, str]:
        target, places = tmp_path / "salt.sgy", ("--input", str(trained.input), "--output", str(trained.output))
        assert in_process.call("predict", "tiny-run", str(source), "--to", str(target), *more, *places) == 0
        record = json.loads((tmp_path / "salt.sgy.json").read_text())
        for path in tmp_path.glob("salt*"):
            path.unlink()
        return record["clip_percentile"], record["polarity"]

    return call


def labeled_lines(source: Path, input_dir: Path) -> str:
    """source.json of labeled lines that were cut from a cube with a clip of 90 and reversed polarity."""
    labels = cube(source.with_name("mask.sgy"), np.ones((4, 5, 24), int))
    words = ("--inlines", "11", "--name", "lines", "--input", str(input_dir), "--clip", "90")
    assert in_process.call("lines", str(source), "--labels", str(labels), *words, "--polarity", "reversed") == 0
    return (input_dir / "lines" / "source.json").read_text()


def test_clip_and_polarity_are_those_of_the_labeled_lines(
    tmp_path: Path, trained: Trained, predicted: Callable[..., tuple[float, str]]
) -> None:
    """Of the same file both, of another the clip; of what no command wrote neither."""
    dice = np.random.default_rng(0)
    same, other = (cube(tmp_path / f"{name}.sgy", dice.integers(-99, 100, (4, 5, 24))) for name in "ab")
    written = labeled_lines(same, trained.input)
    assert predicted(same) == (99, "as stored")
    (trained.root / "source.json").write_text(written)
    assert predicted(same) == (90, "reversed")
    assert predicted(other) == (90, "as stored")
    assert predicted(same, "--clip", "95", "--polarity", "as-stored") == (95, "as stored")
    (trained.root / "source.json").write_text('{"source": "lines", "clip": "high"}')
    assert predicted(same) == (99, "as stored")


def test_clip_and_polarity_of_other_lines_than_those_of_the_training_are_not_taken(
    tmp_path: Path,
    trained: Trained,
    predicted: Callable[..., tuple[float, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = cube(tmp_path / "a.sgy", np.random.default_rng(0).integers(-99, 100, (4, 5, 24)))
    (trained.root / "source.json").write_text(labeled_lines(source, trained.input))
    table = trained.root / "train.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(windows, "predict_images", lambda *arguments, **options: pytest.fail("predicted"))
        places = ("--input", str(trained.input), "--output", str(trained.output))
        for one in ((), ("--clip", "95"), ("--polarity", "reversed")):
            words = ("predict", "tiny-run", str(source), "--to", str(tmp_path / "new.sgy"), *one, *places)
            assert in_process.call(*words) == 2
            error = capsys.readouterr().err
            assert f"the labeled lines in {trained.root} are not those that tiny-run was trained on" in error
            assert error.endswith("give --clip and --polarity\n")
    assert not list(tmp_path.glob("*new*"))
    assert predicted(source, "--clip", "95", "--polarity", "reversed") == (95, "reversed")
    assert "labeled lines" not in capsys.readouterr().out


def test_what_scan_warns_of_is_said_by_all_commands_that_read_amplitudes(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """IBM floats whose header says IEEE, and trace headers with another interval."""
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Half())
    io.write_json(trained.run.postprocess, postprocess(threshold=100))
    numbers = segy_files.grid(range(10, 14), range(5), b117=2000)
    values = np.random.default_rng(0).normal(0, 100, (20, 600))
    source = segy_files.write(tmp_path / "a.sgy", values, numbers, code=1)
    with source.open("r+b") as file:
        file.seek(3224)
        file.write(bytes([0, 5]))
    labels = cube(tmp_path / "mask.sgy", np.ones((4, 5, 600), int))
    places, target = ("--input", str(trained.input)), tmp_path / "salt.sgy"
    words = ("--to", str(target), "--output", str(trained.output), *places)
    for command in (
        ("scan", str(source)),
        ("predict", "tiny-run", str(source), *words),
        ("lines", str(source), "--labels", str(labels), "--inlines", "11", *places),
    ):
        assert in_process.call(*command) == 0
        out = capsys.readouterr().out
        assert "amples look like IBM float" in out, command[0]
        assert "2000 µs" in out, command[0]
    assert len(json.loads((tmp_path / "salt.sgy.json").read_text())["warnings"]) == 2
    assert "Samples look like IBM float" in (tmp_path / "salt.html").read_text()


def test_a_mask_with_nan_is_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    true = np.ones((4, 3, 20))
    first = cube(tmp_path / "a.sgy", true.astype(int))
    true[1, 2, 3] = np.nan
    numbers = segy_files.grid(range(10, 14), range(3))
    second = segy_files.write(tmp_path / "b.sgy", true.reshape(-1, 20), numbers)
    assert in_process.call("score-survey", str(first), str(second)) == 2
    assert "b.sgy has samples that are no numbers (NaN or infinity)" in capsys.readouterr().err
