"""What all verbs share: exit codes, one line for bad input, quick help, next commands that work as typed."""

import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import in_process
import pytest
from tiny_run import Trained

from saltseg import __version__
from saltseg.cli import app
from saltseg.cli.command import OUTPUT, VERBS, numbers
from saltseg.config import Runtime
from saltseg.errors import InputError
from saltseg.models import precision
from saltseg.pipeline import collate, folder
from saltseg.workers import CHILD, Workers

SCRIPTS = Path(__file__).parents[1] / "scripts"
VERB_OF_SCRIPT = {
    "prepare_data": "prepare",
    "check_data": "check",
    "optimize_threshold": "tune",
    **{name: name for name in ("run", "train", "predict", "submit", "score")},
    **{name: name for name in ("report", "leaderboard", "blend", "compare")},
}


def left(verb: Callable[[], int]) -> int:
    """The exit code of a command line that does this."""
    with mock.patch.object(app, "_invoke", side_effect=lambda arguments: verb()):
        return app.call([])


def fail(error: BaseException) -> int:
    raise error


# Exit codes


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert left(lambda: 0) == 0
    assert left(lambda: 3) == 3
    assert capsys.readouterr() == ("", "")


def test_bad_input_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert left(lambda: fail(InputError("size: 7; use 8"))) == 2
    assert capsys.readouterr() == ("", "error: size: 7; use 8\n")


def test_control_c_is_130_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert left(lambda: fail(KeyboardInterrupt())) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "the same command goes on from the last finished epoch or step" in err


@pytest.mark.parametrize("error", [ValueError("ours"), AssertionError("ours"), OSError("ours")])
def test_our_own_mistakes_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        left(lambda: fail(error))


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        *((code, "fix it and rerun") for code in (errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EIO, errno.ESTALE)),
        *((code, "free space on that disk and rerun") for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)),
        (errno.ENOENT, "was it removed or moved meanwhile? Rerun"),
    ],
)
def test_what_the_system_refuses_is_one_line_and_exit_code_two(
    code: int, way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left(lambda: fail(OSError(code, "what it is", "afile/runs"))) == 2
    assert capsys.readouterr() == ("", f"error: [Errno {code}] what it is: 'afile/runs'; {way_out}\n")


def closed_pipe(code: str) -> subprocess.CompletedProcess[str]:
    """Run code whose standard output nobody reads, buffered as in a user's shell."""
    read, write = os.pipe()
    os.close(read)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", f"from saltseg.cli import app; app._invoke = lambda _: {code}; app.main()"]
    try:
        return subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    finally:
        os.close(write)


def test_a_reader_that_leaves_in_the_middle_ends_it_quietly_as_sigpipe_does() -> None:
    done = closed_pipe("[print('x' * 80) for _ in range(10_000)] and 0")
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("code", [0, 2])
def test_after_the_end_its_own_exit_code_counts(code: int) -> None:
    done = closed_pipe(f"print('x') or {code}")
    assert (done.returncode, done.stderr) == (code, "")


def test_without_an_output_nothing_is_printed() -> None:
    code = "from saltseg.cli import app; app._invoke = lambda _: print('x') or 0; app.main()"
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$0" >&-', code], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    code = "from saltseg.cli import app; app._invoke = lambda _: print('x') or 0; app.main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2, "error: [Errno 28] No space left on device; free space on that disk and rerun\n"
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows closes streams another way")
def test_without_standard_streams_no_file_gets_their_numbers(tmp_path: Path) -> None:
    """Numbers 0 to 2 would go to the files opened next, and what C libraries print would land in them."""
    code = (
        "import os, pathlib, sys; from saltseg.cli import app; from tqdm import tqdm\n"
        "def verb(_):\n"
        "    file = open('data', 'w'); os.write(2, b'from a library'); list(tqdm([1]))\n"
        "    print(file.fileno(), file=file)\n"
        "    return 0\n"
        "app._invoke = verb; app.main()"
    )
    command = ["bash", "-c", f'"{sys.executable}" -c "$0" <&- >&- 2>&-', code]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert int((tmp_path / "data").read_text()) > 2


# Usage


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("trian", "No such command 'trian'. Did you mean 'train', 'pretrain'? (see: saltseg --help)"),
        ("--versoin", "No such option: --versoin (Possible options: --version) (see: saltseg --help)"),
        ("train unet", "Missing option '--data' (see: saltseg train --help)"),
        (
            "train unet --data tgs --fold 0",
            "No such option: --fold (Possible options: --folds, --holdout) (see: saltseg train",
        ),
        ("train unet --data tgs --parallel 0", "'--parallel': Input should be greater than or equal to 1 (see: salt"),
        ("train unet --data tgs --parallel 257", "'--parallel': Input should be less than or equal to 256 (see: salt"),
        ("prepare --source synthetic --train 9999999999", "'--train': Input should be less than or equal to 1000000"),
        ("realism --tiles 9999999999", "'--tiles': Input should be less than or equal to 1000000 (see: saltseg"),
        ("simulate-survey a.sgy --inlines 99999", "'--inlines': Input should be less than or equal to 10000 (see: sal"),
        ("train unet --data tgs --devices two", "'--devices': Input should be a valid integer"),
        ("blend a b --name c --weights fited", "'fited' is not one of 'equal', 'fitted' (see: saltseg blend --help)"),
        ("score one.csv two.csv three.csv", "unexpected extra argument(s) (three.csv) (see: saltseg score --help)"),
        ("pretrain unet --method masked --name a", "give --images FOLDER, and no --tiles"),
        ("pretrain unet --method synthetic --name a --limit 3", "--limit is for --method masked; give --tiles N"),
        ("pretrain unet --method synthetic --name a --transduction", "--transduction are for --method masked; leave"),
        ("prepare --source kaggle --train 9", "--train, --test and --seed are for --source synthetic; leave them out"),
        ("prepare --source here --test 3", "--train, --test and --seed are for --source synthetic"),
        ("prepare --source here --seed 0", "--train, --test and --seed are for --source synthetic"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_names_the_help(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process.call(*command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process.call("--version") == 0
    assert capsys.readouterr().out == f"saltseg {__version__}\n"


def test_numbers_in_an_option() -> None:
    assert numbers("--folds", "0, 2,1") == [0, 2, 1]
    with pytest.raises(InputError, match="--folds 'first'; write all, or numbers such as 0,1"):
        numbers("--folds", "first", also="all")


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_line_by_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process.call(verb, "--help") == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: saltseg {verb} ")
    examples = re.findall(r"^ +(saltseg .*)", VERBS[verb].__doc__ or "", re.MULTILINE)
    assert any(example.startswith(f"saltseg {verb}") for example in examples)
    assert set(examples) <= {line.strip() for line in out.splitlines()}
    assert err == ""


HELP = """
import io, runpy, sys, time
from contextlib import redirect_stdout, suppress
from pathlib import Path

from saltseg.cli import app
app.call(["--help"])
seconds = time.process_time()
for verb in app.VERBS:
    app.call([verb, "--help"])
for path in sorted(Path(sys.argv[1]).glob("*.py")):
    if path.stem.startswith("migrate"):
        continue
    runpy.run_path(str(path), run_name="imported")
    sys.argv[1:] = ["--help"]
    with suppress(SystemExit), redirect_stdout(io.StringIO()) as text:
        runpy.run_path(str(path), run_name="__main__")
    print(path.stem, text.getvalue().split()[:3], file=sys.stderr)
heavy = "torch lightning cv2 matplotlib pandas albumentations scipy segmentation_models_pytorch numpy"
print(seconds, set(heavy.split()) & set(sys.modules), file=sys.stderr)
"""


def test_help_of_everything_is_quick_and_scripts_are_verbs() -> None:
    """One process for all. torch alone takes seconds to import; half a second of them is waited for nothing."""
    done = subprocess.run([sys.executable, "-c", HELP, str(SCRIPTS)], capture_output=True, text=True, check=True)
    *scripts, last = done.stderr.splitlines()
    assert scripts == [f"{name} ['Usage:', 'saltseg', '{VERB_OF_SCRIPT[name]}']" for name in sorted(VERB_OF_SCRIPT)]
    seconds, heavy = last.split(maxsplit=1)
    assert heavy == "set()"
    assert float(seconds) < 1


# Settings of the machine


def test_settings_of_the_machine_reach_every_prediction(trained: Trained) -> None:
    runtime = Runtime(predict_batch_size=3)
    words = ["--set", "runtime.predict_batch_size=3", "--output", str(trained.output)]
    with mock.patch.object(folder, "predict_folder", return_value=([], ())) as predicted:
        assert in_process.call("predict", "tiny-run", str(trained.root), "--tta", "identity", *words) == 0
    assert predicted.call_args.kwargs == {"tta": ("identity",), "runtime": runtime, "where": Workers()}
    with mock.patch.object(collate, "collate_run", return_value=(3, 3)) as collated:
        assert in_process.call("predict", "tiny-run", *words) == 0
    assert collated.call_args.args[-1] == runtime
    assert precision.trained_config(trained.run, runtime).runtime == runtime


# The next command


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["saltseg", "tune", "a"], "saltseg tune a --input 'my data'"),
        (["saltseg", "submit", "a"], "saltseg submit a --input 'my data'"),
        (["saltseg", "leaderboard"], "saltseg leaderboard"),  # reads results alone
        (["git", "add", "my output/published"], "git add 'my output/published'"),
    ],
)
def test_the_next_command_is_told_of_folders_that_are_not_the_defaults(words: list[str], line: str) -> None:
    assert app.next_line(words, {"input_dir": Path("my data"), "output_dir": OUTPUT}) == f"next: {line}"


def next_commands(text: str) -> list[list[str]]:
    return [shlex.split(line.removeprefix("next: ")) for line in text.splitlines() if line.startswith("next: ")]


def test_each_next_command_works_as_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From no data to the leaderboard, in folders with blanks; only what to train is chosen here."""
    monkeypatch.delenv(CHILD, raising=False)
    where = ["--input", str(tmp_path / "my data"), "--output", str(tmp_path / "my results")]
    assert in_process.call("prepare", "--source", "synthetic", "--train", "12", "--test", "4", *where[:2]) == 0
    (check,) = next_commands(capsys.readouterr().out)
    assert check[:3] == ["saltseg", "check", "synthetic"]
    assert in_process.call(*check[1:]) == 0
    (run,) = next_commands(capsys.readouterr().out)
    assert run == ["saltseg", "run", "unet", "--data", "synthetic", *where[:2]]
    small = "data.size=32 data.resize_mode=resize model.filters=2 folds.count=2 train.epochs=1 train.batch_size=4"
    assert in_process.call("train", *run[2:], *where[2:], *(f"--set={change}" for change in small.split())) == 0
    verbs = []
    for _ in range(5):
        (words,) = next_commands(capsys.readouterr().out)
        verbs.append(words[1])
        assert in_process.call(*words[1:]) == 0
    assert verbs == ["predict", "tune", "submit", "report", "leaderboard"]
    assert (tmp_path / "my results" / "leaderboard.html").is_file()


def test_a_process_of_another_command_names_no_next_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CHILD, "1")
    assert (
        in_process.call("prepare", "--source", "synthetic", "--train", "1", "--test", "1", f"--input={tmp_path}") == 0
    )
    assert next_commands(capsys.readouterr().out) == []
