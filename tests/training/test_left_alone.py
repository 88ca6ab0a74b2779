"""What a training does when the disk is full, or when the process that started it is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saltseg.synthetic import dataset

resource = pytest.importorskip("resource")  # not on Windows

SETTINGS = (
    "train.epochs=5000",
    "model.filters=4",
    "data.resize_mode=resize",
    "data.size=32",
    "folds.count=2",
    "train.precision=32",
    "train.batch_size=4",
)


def command(folder: Path, *more: str) -> list[str]:
    dataset.write_dataset(folder / "input" / "tiny", n_train=24, n_test=4, seed=3)
    places = ["--input", str(folder / "input"), "--output", str(folder / "output")]
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    return [sys.executable, "-m", "saltseg", "train", "unet", "--data", "tiny", *changes, *places, *more]


@pytest.mark.slow
def test_a_file_that_cannot_grow_is_one_line(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, 100 * 1024))

    done = subprocess.run(command(tmp_path), preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: [Errno 27] File too large")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "output" / "runs").rglob("last.ckpt"))


@pytest.mark.slow
def test_a_folder_that_is_removed_is_one_line_and_does_not_come_back(tmp_path: Path) -> None:
    training = subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True)
    runs, deadline = tmp_path / "output" / "runs", time.monotonic() + 120
    while not list(runs.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.2)
    shutil.rmtree(runs, ignore_errors=True)
    _, error = training.communicate(timeout=120)
    assert training.returncode == 2, error
    *_, last = error.strip().splitlines()
    assert last.startswith("error: ")
    assert "removed or moved" in last
    assert "Traceback" not in error
    assert not [path for path in runs.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(command(tmp_path, "--parallel", "2"), start_new_session=True)
    logs = tmp_path / "output" / "runs" / "tiny-unet"
    deadline = time.monotonic() + 120
    while len(list(logs.glob("fold_*/log.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    threads = Path(f"/proc/{parent.pid}/task").glob("*/children")  # each lists the processes that it has started
    children = [child for path in threads for child in path.read_text().split()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.5)
    left = [child for child in children if Path(f"/proc/{child}").exists()]
    for child in left:
        os.kill(int(child), signal.SIGKILL)
    assert not left
