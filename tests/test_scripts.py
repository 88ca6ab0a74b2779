"""Every script as a user runs it: quick help, and one line for every misspelt name."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import Trained

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))
HEAVY = ["torch", "lightning", "cv2", "matplotlib", "pandas", "albumentations", "scipy", "segmentation_models_pytorch"]

HELP = f"""
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
runpy.run_path(sys.argv[0], run_name="imported")  # must do nothing
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""


def test_the_scripts_that_are_meant_are_there() -> None:
    assert {"train", "predict", "optimise", "submit", "report", "leaderboard", "run", "score"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_imports_nothing_heavy(name: str) -> None:
    """A second is what a user waits for help without wondering; torch alone takes several."""
    path = SCRIPTS / f"{name}.py"
    done = subprocess.run([sys.executable, "-c", HELP, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert done.stdout.startswith("usage: ")
    assert f"python scripts/{name}.py" in done.stdout  # an example to copy


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def refusal(trained: Trained, name: str, *arguments: str) -> str:
    """The one line on standard error with which the script leaves; nothing is written."""
    places = ["--input", str(trained.input), "--output", str(trained.output)]
    places = {"score": [], "leaderboard": places[2:], "check_data": places[:2], "prepare_data": places[:2]}.get(
        name, places
    )
    before = files(trained.output)
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *arguments, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=trained.input)
    assert done.returncode == 2, done.stderr
    assert files(trained.output) == before
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.endswith("\n")
    return done.stderr


@pytest.mark.parametrize(
    ("command", "nearest"),
    [
        ("train unet_spek --data tiny", "did you mean unet_spec"),
        ("train unet --data tinny", "there: tiny"),
        ("train unet --data tiny --set train.epoch=3", "did you mean train.epochs"),
        ("train unet --data tiny --set data.fit=crop", "choose one of resize, pad"),
        ("train unet --data tiny --folds first", "write all, or numbers such as 0,1"),
        ("train unet --data tiny --holdout 1.5", "folds.holdout is 1.5; it must be between 0 and 1"),
        ("train unet --data tiny --name a/b", "run name 'a/b': use letters"),
        ("train missing.yaml --data tiny", "no configuration to read at missing.yaml"),
        ("run unet_spek --data tiny", "did you mean unet_spec"),
        ("run unet --data tinny", "there: tiny"),
        ("run unet --data tiny --set train.epoch=3", "did you mean train.epochs"),
        ("predict tiny-rum", "did you mean tiny-run"),
        ("optimise tiny-rum", "did you mean tiny-run"),
        ("submit tiny-rum", "did you mean tiny-run"),
        ("report tiny-rum", "did you mean tiny-run"),
        ("publish tiny-rum", "did you mean tiny-run"),
        ("publish tiny-run", "python scripts/submit.py tiny-run"),
        ("blend tiny-run tiny-rum --name both", "did you mean tiny-run"),
        ("blend tiny-run tiny-run --name both", "a blend needs two different runs"),
        ("evaluate tiny-rum --data tiny", "did you mean tiny-run"),
        ("compare tiny-run tiny-rum", "did you mean tiny-run"),
        ("score missing.csv solution.csv", "solution.csv"),
        ("levers unet_efficientnet_lite --data tiny", "did you mean unet_efficientnet_lite0"),
        ("levers unet_efficientnet_lite0 --data tiny --only base,scce", "did you mean scse"),
        ("levers unet_efficientnet_lite0 --data tiny --seeds one", "--seeds 'one'; write numbers such as 0,1"),
        ("study --data tiny --only base,no_skip", "did you mean no_skips"),
        ("study --data tiny --seeds one", "--seeds 'one'; write numbers such as 0,1"),
        ("case_study --data tiny --budget tiny", "make them with: python scripts/study.py --data tiny --budget tiny"),
        ("pseudo_label tiny-rum --images there", "did you mean tiny-run"),
        ("submit tiny-run --rule-of tiny-rum", "did you mean tiny-run"),
        ("ladder --data tinny --images tiny/test/images", "there: tiny"),
        ("ladder --data tiny --images there", "there is no folder; check the path"),
        ("ladder --data tiny --images tiny/test/images --only baseline,recpe", "did you mean recipe"),
        ("ladder --data tiny --images tiny/test/images --only student2", "student2 needs student1, which is not"),
        ("check_data tinny", "there: tiny"),
        ("compare_synthetic --real tinny", "there: tiny"),
        ("prepare_data --source ./tinny", "tinny"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_in_one_line(command: str, nearest: str, trained: Trained) -> None:
    assert nearest in refusal(trained, *command.split())


def test_a_fold_that_does_not_exist_is_refused_before_training(trained: Trained) -> None:
    arguments = ("unet", "--data", "tiny", "--set", "folds.count=3", "--folds", "0,7", "--name", "new")
    assert "no fold 7; this table has folds 0, 1, 2" in refusal(trained, "train", *arguments)


def test_a_leaderboard_of_nothing_says_so(trained: Trained, tmp_path: Path) -> None:
    empty = Trained(trained.input, tmp_path / "empty", trained.run, trained.settings)
    assert "train one with scripts/run.py" in refusal(empty, "leaderboard")


def test_a_step_out_of_order_names_the_step_before(trained: Trained) -> None:
    assert "run scripts/train.py or scripts/predict.py first" in refusal(trained, "optimise", "tiny-run")
    assert "run the step that writes it" in refusal(trained, "submit", "tiny-run")


def test_score_lists_every_reason_for_a_refusal_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "solution.csv").write_text("id,rle_mask\na,1 5\nb,\nc,2 3\nd,\n")
    rows = ["a,1 5", "a,1 5", "b,0 3", "x,", "c,1 2 3", "d,10201 2"]
    (tmp_path / "mine.csv").write_text("id,rle_mask\n" + "\n".join(rows) + "\n")
    command = [sys.executable, str(SCRIPTS / "score.py"), "mine.csv", "solution.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "mine.csv is refused for 5 reasons, listed above" in done.stderr
    assert [line.split(":")[1].strip() for line in done.stdout.splitlines()] == [f"row {k}" for k in (3, 4, 5, 6, 7)]
