"""Every verb answers a misspelled name, or a step out of order, with one line that names the way out."""

import inspect
from pathlib import Path

import in_process
import pytest
from tiny_run import Trained

from saltseg.cli.command import VERBS


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


class Refusals:
    """Commands about the dataset and the run of the fixture `trained`, typed in the folder of the datasets."""

    def __init__(self, trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
        self.trained, self.capsys = trained, capsys

    def __call__(self, command: str) -> str:
        """The one line on standard error with which a command leaves; nothing is written."""
        verb, *words = command.split()
        parameters = inspect.signature(VERBS[verb]).parameters
        words += ["--input", str(self.trained.input)] if "input_dir" in parameters else []
        words += ["--output", str(self.trained.output)] if "output_dir" in parameters else []
        before = files(self.trained.output)
        assert in_process.call(verb, *words) == 2
        assert files(self.trained.output) == before
        text = self.capsys.readouterr().err
        assert text.startswith("error: ")
        assert text.endswith("\n")
        assert text.count("\n") == 1
        return text


@pytest.fixture
def refusal(trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refusals:
    monkeypatch.chdir(trained.input)
    return Refusals(trained, capsys)


@pytest.mark.parametrize(
    ("command", "nearest"),
    [
        ("prepare --source ./tinny", "tinny"),
        ("check tinny", "there: tiny"),
        ("realism --real tinny", "there: tiny"),
        ("train unet_spek --data tiny", "did you mean unet_spec"),
        ("train unet --data tinny", "there: tiny"),
        ("train unet --data tiny --set train.epoch=3", "did you mean train.epochs"),
        ("train unet --data tiny --set data.resize_mode=crop", "choose one of resize, pad"),
        ("train unet --data tiny --folds first", "write all, or numbers such as 0,1"),
        ("train unet --data tiny --folds -1", "write all, or numbers such as 0,1"),
        ("train unet --data tiny --holdout 1.5", "folds.holdout is 1.5; it must be below 1"),
        ("train unet --data tiny --name a/b", "name 'a/b': use letters"),
        ("train missing.yaml --data tiny", "no configuration to read at missing.yaml"),
        ("train unet --data tiny --set train.batch_size=9 --devices 2", "train.batch_size is 9, of all 2 devices"),
        ("train unet --data tiny --parallel 2 --devices 2", "give one of the two"),
        ("run unet_spek --data tiny", "did you mean unet_spec"),
        ("run unet --data tinny", "there: tiny"),
        ("run unet --data tiny --set train.epoch=3", "did you mean train.epochs"),
        ("pretrain unet_spek --method synthetic --name a", "did you mean unet_spec"),
        ("pretrain unet --method masked --images tiny --data tinny --name a", "there: tiny"),
        ("pseudo-label tiny-rum --images there", "did you mean tiny-run"),
        ("predict tiny-rum", "did you mean tiny-run"),
        ("predict tiny-run --to there", "--to there is for images or a survey"),
        ("predict tiny-run --set train.epochs=3", "only settings of runtime apply here"),
        ("evaluate tiny-run --data tiny --set runtime.worker=3", "did you mean runtime.workers"),
        ("settings train.schedul", "did you mean train.schedule"),
        ("tune tiny-rum", "did you mean tiny-run"),
        ("submit tiny-rum", "did you mean tiny-run"),
        ("submit tiny-run --postprocessing-from tiny-rum", "did you mean tiny-run"),
        ("blend tiny-run tiny-rum --name both", "did you mean tiny-run"),
        ("blend tiny-run tiny-run --name both", "a blend needs two different runs"),
        ("evaluate tiny-rum --data tiny", "did you mean tiny-run"),
        ("score missing.csv solution.csv", "solution.csv is refused: file is missing"),
        ("report tiny-rum", "did you mean tiny-run"),
        ("compare tiny-run tiny-rum", "did you mean tiny-run"),
        ("publish tiny-rum", "did you mean tiny-run"),
        ("publish tiny-run", "saltseg submit tiny-run"),
        ("study ablations --data tinny", "there: tiny"),
        ("study ablations --data tiny --only base,scce", "did you mean scse"),
        ("study ablations --data tiny --seeds one", "--seeds 'one'; write numbers such as 0,1"),
        ("study ablations --data tiny --seeds -1", "--seeds '-1'; write numbers such as 0,1"),
        ("study benchmark --data tiny --budget cpuu", "did you mean cpu"),
        ("study benchmark --data tiny --images there", "there is no folder"),
        ("study ablation --data tiny", "'ablation' is not one of 'ablations', 'benchmark'"),
        ("case-study --data tiny --budget tiny", "saltseg study case_study --data tiny --budget tiny"),
    ],
)
def test_a_misspelled_name_is_answered_with_the_nearest(command: str, nearest: str, refusal: Refusals) -> None:
    assert nearest in refusal(command)


@pytest.mark.parametrize(
    ("name", "way_out"),
    [("a.png", "folder that holds it"), ("a.TIF", "folder that holds it"), ("a.npy", "saltseg.load")],
)
def test_a_file_of_one_picture_is_no_survey(name: str, way_out: str, refusal: Refusals, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bytes(10_000))
    answer = refusal(f"predict tiny-run {tmp_path / name}")
    assert str(tmp_path / name) in answer
    assert way_out in answer


def test_a_fold_that_does_not_exist_is_refused_before_training(refusal: Refusals) -> None:
    command = "train unet --data tiny --set folds.count=3 --folds 0,7 --name new"
    assert "no fold 7; this table has folds 0, 1, 2" in refusal(command)


def test_a_leaderboard_of_nothing_says_so(refusal: Refusals, tmp_path: Path) -> None:
    refusal.trained = Trained(refusal.trained.input, tmp_path / "empty", refusal.trained.run, refusal.trained.settings)
    assert "saltseg run" in refusal("leaderboard")


def test_a_step_out_of_order_names_the_step_before(refusal: Refusals) -> None:
    assert "saltseg predict" in refusal("tune tiny-run")
    assert "postprocess.json" in refusal("submit tiny-run")


def test_score_lists_every_reason_for_a_refusal_with_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solution, mine = tmp_path / "solution.csv", tmp_path / "mine.csv"
    solution.write_text("id,rle_mask\na,1 5\nb,\nc,2 3\nd,\n")
    mine.write_text("id,rle_mask\n" + "\n".join(["a,1 5", "a,1 5", "b,0 3", "x,", "c,1 2 3", "d,10201 2"]) + "\n")
    assert in_process.call("score", str(mine), str(solution)) == 2
    out, err = capsys.readouterr()
    assert "mine.csv is refused for 5 reasons; correct it" in err
    assert [line.split(":")[1].strip() for line in out.splitlines()] == [f"row {k}" for k in (3, 4, 5, 6, 7)]


def test_score_counts_the_reasons_beyond_twenty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solution, mine = tmp_path / "solution.csv", tmp_path / "mine.csv"
    solution.write_text("id,rle_mask\n" + "".join(f"{k},\n" for k in range(150)))
    mine.write_text("id,rle_mask\n" + "".join(f"{k},0 1\n" for k in range(150)))
    assert in_process.call("score", str(mine), str(solution)) == 2
    out, err = capsys.readouterr()
    assert "150 reasons, the first 20 are listed (--all lists every one)" in err
    assert len(out.splitlines()) == 20
    assert in_process.call("score", str(mine), str(solution), "--all") == 2
    assert len(capsys.readouterr().out.splitlines()) == 150
