"""The verb view: what it refuses, and how it ends."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from example import SurveyFiles
from tiny_run import Trained, checkpoint

from saltseg.cli import app


def refused(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """The one line with which ``saltseg view OPTIONS`` is refused."""
    assert app.call(["view", *map(str, options)]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    return shown.err.removeprefix("error: ").rstrip()


def test_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys).startswith("there is nothing to show: name a run or a model")
    assert "are for --survey" in refused(capsys, "r", "--truth", "m.sgy")
    assert "are for --survey" in refused(capsys, "r", "--inline-byte", "9")


def test_a_survey_needs_its_probability(
    capsys: pytest.CaptureFixture[str], files: SurveyFiles, trained: Trained
) -> None:
    assert "Add --salt, or the run" in refused(capsys, "--survey", files.survey)
    text = refused(capsys, "tiny-run", "--survey", files.survey, "--output", trained.output)
    expected = trained.output / "predictions" / "tiny-run" / "s.sgy"
    assert text == f"no salt probability {expected}; make it with saltseg predict tiny-run {files.survey}"
    assert "no salt probability" in refused(capsys, "--survey", files.survey, "--salt", files.survey.with_name("x.sgy"))


def test_without_the_extra_the_way_out_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "saltseg.viewer.server", raising=False)
    monkeypatch.delattr("saltseg.viewer.server", raising=False)
    assert refused(capsys, "r") == "saltseg view needs uvicorn; pip install 'saltseg[viewer]'"


@pytest.mark.slow
def test_it_serves_on_this_machine_until_ctrl_c(trained: Trained, tmp_path: Path) -> None:
    for number in range(3):
        checkpoint(trained, number, 0.7)
    command = ["saltseg", "view", "tiny-run", "--port", "0", "--input", trained.input, "--output", trained.output]
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, command)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("note: there are no tiles")
            address = process.stdout.readline().split()[0]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address) as page:
                assert b"<title>saltseg view</title>" in page.read()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
            assert (process.returncode, output) == (0, "")
        finally:
            process.kill()
