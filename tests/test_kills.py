"""SIGKILL at any moment, and two processes of one name: results are whole or not there, and the next call succeeds."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import in_process
import numpy as np
import pytest
import tiny_run
import torch
from PIL import Image

from saltseg import io, predictions, runs
from saltseg.data import competition
from saltseg.pipeline import blend, collate, folder, submit  # all that the children need
from saltseg.reporting import plots, publish
from saltseg.synthetic import dataset

IMPORTED = (blend, folder, plots, publish, dataset)  # by the children otherwise, one by one
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")]
KILLS = 8


@dataclass(frozen=True)
class Command:
    """A verb with its words, what it makes, and what lists that."""

    words: tuple[str, ...]
    target: Path
    listed: Callable[[], list[str]]

    def start(self) -> int:
        """Run it in a child process, whose id is returned; nothing has to be imported there."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            torch.set_num_threads(1)  # a fork has no pool of threads
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(null, stream)
            code = in_process.call(*self.words)
        finally:
            os._exit(code)

    def run(self) -> int:
        """Run it to the end; returns the exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(), 0)[1])

    def result(self) -> dict[str, bytes]:
        """What it made, without the times in provenance.json."""
        files = [path for path in self.target.rglob("*") if path.is_file()]
        return {
            str(path.relative_to(self.target)): b"" if path.name == "provenance.json" else path.read_bytes()
            for path in files
        }


@pytest.fixture
def command(request: pytest.FixtureRequest, trained: tiny_run.Trained) -> Command:
    """One of the commands below, ready to run."""
    places = ("--input", str(trained.input), "--output", str(trained.output))

    def names(folder: str) -> Callable[[], list[str]]:
        return lambda: [run.name for run in runs.all_runs(trained.output) if run.path.parent.name == folder]

    if request.param == "prepare":
        words = ("prepare", "--source", "synthetic", "--train", "30", "--test", "10", "--name", "x", *places[:2])
        return Command(words, trained.input / "x", lambda: competition.list_datasets(trained.input))
    if request.param == "predict":
        images = trained.input / "images"
        images.mkdir()
        for number in range(12):
            pixels = np.random.default_rng(number).integers(0, 256, (150, 200 + number), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{number}.png")
        for number in range(3):
            tiny_run.checkpoint(trained, number, 0.6)
        target = trained.output / "predictions" / "x"
        words = ("predict", "tiny-run", str(images), "--to", str(target), *places)
        return Command(words, target, list)
    collate.collate_run(trained.run, trained.workspace)
    if request.param == "publish":
        io.write_json(trained.run.postprocess, tiny_run.postprocess())
        submit.write_submission(trained.run, trained.workspace)
        log = [{"epoch": 1, "train_loss": 0.5, "valid_loss": 0.5, "learning_rate": 0.1}]
        for fold in trained.run.folds():
            io.write_csv(fold.log, log)
        return Command(("publish", "tiny-run", *places), trained.output / "published" / "tiny-run", list)
    other = runs.run_dir(trained.output, "other")
    for name in ("oof", "test"):
        predictions.save_predictions(getattr(other, name), predictions.load_predictions(getattr(trained.run, name)))
    for name in ("config", "provenance"):
        io.write_atomic(getattr(other, name), getattr(trained.run, name).read_text())
    words = ("blend", "tiny-run", "other", "--name", "x", *places)
    return Command(words, trained.output / "blends" / "x", names("blends"))


VERBS = pytest.mark.parametrize("command", ["blend", "publish", "predict", "prepare"], indirect=True)


@VERBS
def test_killed_at_any_moment_a_result_is_whole_or_not_there(command: Command) -> None:
    started = time.monotonic()
    assert command.run() == 0
    seconds, whole, listed = time.monotonic() - started, command.result(), command.listed()
    assert len(whole) > 3
    io.remove(command.target)
    dice, killed = random.Random(0), 0
    for _ in range(4 * KILLS):
        child = command.start()
        time.sleep(dice.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL:
            killed += 1
        else:
            seconds *= 0.8  # it ended before: the first run was the slowest
        assert command.result() in ({}, whole)
        assert set(command.listed()) <= set(listed)
        if command.words[0] != "publish" or dice.random() < 0.5:  # that replaces what there is
            io.remove(command.target)
        if killed == KILLS:
            break
    assert killed == KILLS
    io.remove(command.target)
    assert command.run() == 0
    assert command.result() == whole
    assert command.listed() == listed
    assert [path.name for path in command.target.parent.iterdir() if path.name.startswith(".x")] == []


@VERBS
def test_of_two_at_once_one_makes_the_result_and_the_other_does_not_harm_it(command: Command) -> None:
    assert command.run() == 0
    whole = command.result()
    for _ in range(3):
        io.remove(command.target)
        children = [command.start(), command.start()]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert set(codes) <= {0, 2}
        assert 0 in codes
        assert command.result() == whole
