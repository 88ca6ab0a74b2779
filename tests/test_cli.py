"""What every script shares: exit codes, one line per bad input, the next command."""

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saltseg import cli
from saltseg.errors import InputError


def left(main) -> object:  # type: ignore[no-untyped-def]
    """The exit code of `cli.run(main)`."""
    with pytest.raises(SystemExit) as leaving:
        cli.run(main)
    return leaving.value.code


def fail(error: BaseException) -> None:
    raise error


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert left(lambda: None) == 0
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


@pytest.mark.parametrize("error", [ValueError("ours"), AssertionError("ours"), KeyError("ours")])
def test_our_own_mistakes_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        cli.run(lambda: fail(error))


@pytest.mark.parametrize("code", [errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG])
def test_a_path_that_cannot_be_is_one_line_and_exit_code_two(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert left(lambda: fail(OSError(code, "what it is", "afile/runs"))) == 2
    said = f"error: [Errno {code}] what it is: 'afile/runs'; mend that and run the same command again\n"
    assert capsys.readouterr().err == said


def test_a_full_disk_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert left(lambda: fail(OSError(28, "No space left on device", "output/oof.npz"))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: [Errno 28] No space left on device: 'output/oof.npz'; ")
    assert err.count("\n") == 1


def closed_pipe(code: str) -> subprocess.CompletedProcess[str]:
    """Run code whose standard output nobody reads, buffered as in a user's shell."""
    read, write = os.pipe()
    os.close(read)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    try:
        return subprocess.run(
            [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    finally:
        os.close(write)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = closed_pipe("from saltseg import cli\ncli.run(lambda: [print('x' * 80) for _ in range(10_000)] and 0)")
    assert (done.returncode, done.stderr) == (0, "")


def test_nor_is_it_after_a_short_output() -> None:
    done = closed_pipe("from saltseg import cli\ncli.run(lambda: print('x'))")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_next_step_is_told_unless_run_py_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cli.PART_OF_RUN, raising=False)
    cli.next_step("python scripts/x.py")
    assert capsys.readouterr().out == "next: python scripts/x.py\n"
    monkeypatch.setenv(cli.PART_OF_RUN, "1")
    cli.next_step("python scripts/x.py")
    assert capsys.readouterr().out == ""


def test_directories_have_defaults_and_are_paths() -> None:
    parser = cli.parser("What it does.\n\n  an example")
    cli.add_directories(parser)
    assert parser.parse_args([]) == argparse.Namespace(input=Path("input"), output=Path("output"))
    given = parser.parse_args(["--input", "a", "--output", "b"])
    assert given == argparse.Namespace(input=Path("a"), output=Path("b"))
    assert "What it does.\n\n  an example" in parser.format_help()  # the docstring's lines are kept


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_how_many_is_a_number_of_at_least_one(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.parser("")
    cli.add_parallel(parser)
    assert parser.parse_args(["--parallel", "3"]).parallel == 3
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([f"--parallel={text}"])
    assert f"argument --parallel: {text!r} is not a number of at least 1" in capsys.readouterr().err
