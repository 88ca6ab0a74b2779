"""Trainings side by side: logs apart, cores and GPUs shared, one failure stops no other, nothing is left running."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saltseg import workers
from saltseg.errors import InputError
from saltseg.training import processes
from saltseg.workers import Workers

SAY = "import os, sys; print('out of', sys.argv[1]); print(os.environ.get(sys.argv[2]), file=sys.stderr)"


def say(name: str, variable: str = "OMP_NUM_THREADS") -> list[str]:
    return ["-c", SAY, name, variable]


def test_each_has_a_log_of_its_own_and_one_failure_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {"a": say("a"), "b": ["-c", "print('so far'); raise SystemExit(2)"], "c": say("c")}
    assert processes.run(commands, Workers(2), tmp_path) == {"a": 0, "b": 2, "c": 0}
    assert [(tmp_path / f"{name}.log").read_text().splitlines()[0] for name in "abc"] == [
        "out of a",
        "so far",
        "out of c",
    ]
    printed = capsys.readouterr().out
    assert f"b ended with exit code 2, see {tmp_path / 'b'}.log: so far" in printed
    assert "[3/3]" in printed


def test_one_at_a_time_speaks_to_this_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert processes.run({"a": say("a"), "b": say("b")}, Workers(1), tmp_path / "logs") == {"a": 0, "b": 0}
    assert capfd.readouterr().out.splitlines() == ["out of a", "[1/2] a finished", "out of b", "[2/2] b finished"]
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("cores", "parallel", "threads"), [(16, 2, "8"), (16, 5, "5"), (2, 2, "1"), (2, 4, "1")])
def test_side_by_side_they_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, parallel: int, threads: str
) -> None:
    """Three trainings: no more slots than that."""
    monkeypatch.setattr(workers, "cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    processes.run({name: say(name) for name in "abc"}, Workers(parallel), tmp_path)
    assert (tmp_path / "a.log").read_text().split()[-1] == threads


def test_they_take_turns_with_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    processes.run({name: say(name, "CUDA_VISIBLE_DEVICES") for name in "abc"}, Workers(3), tmp_path)
    assert sorted((tmp_path / f"{name}.log").read_text().split()[-1] for name in "abc") == ["3", "3", "5"]


def test_no_more_than_asked_for_run_at_a_time(tmp_path: Path) -> None:
    """Each writes down when it began and ended; at no beginning are more than two others open."""
    code = "import time; a = time.time(); time.sleep(0.3); print(a, time.time())"
    processes.run({str(number): ["-c", code] for number in range(5)}, Workers(2), tmp_path)
    times = [tuple(map(float, (tmp_path / f"{number}.log").read_text().split())) for number in range(5)]
    open_at = [sum(start <= moment < end for start, end in times) for moment, _ in times]
    assert max(open_at) == 2


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("kind", "deaf"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_none_is_left_running_when_it_is_stopped(tmp_path: Path, kind: int, deaf: bool) -> None:
    """``deaf`` children ignore SIGTERM and are killed; others are never started."""
    child = "import os, signal, time; "
    child += "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
    child += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    commands = {"a": ["-c", child], "b": ["-c", "import time; time.sleep(60)"], "c": ["-c", ""]}
    parent = (
        "import pathlib; from saltseg.training import processes; from saltseg.workers import Workers; "
        "processes.TO_END = 1.0; "
        f"processes.run({commands}, Workers(2), pathlib.Path({str(tmp_path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    child_pid = int((tmp_path / "pid").read_text())
    process.send_signal(kind)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert not alive(child_pid)
    assert not (tmp_path / "c.log").exists()


def test_a_second_attempt_adds_to_the_log(tmp_path: Path) -> None:
    for _ in range(2):
        processes.run({"a": say("a"), "b": say("b")}, Workers(2), tmp_path)
    assert (tmp_path / "a.log").read_text().count("out of a") == 2


def test_devices_share_a_batch_evenly_and_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    processes.check_devices(1, 3)
    processes.check_devices(2, 8)
    for devices, batch_size in ((3, 8), (4, 4)):
        with pytest.raises(InputError, match=f"train.batch_size is {batch_size}, of all {devices} devices together"):
            processes.check_devices(devices, batch_size)
    with pytest.raises(InputError, match="--devices 4: there are 2 GPUs; give that many at most"):
        processes.check_devices(4, 16)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    processes.check_devices(4, 16)  # processes, then


def test_the_last_line_of_a_log_with_a_progress_bar(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert processes.last_line(log) == ""
    log.write_bytes(b"x" * 5000 + "\nfold 0:  10%|█\rfold 0:  20%|██\n\n".encode())
    assert processes.last_line(log) == "fold 0:  20%|██"


def test_the_display_shows_the_last_lines_and_removes_them(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    (tmp_path / "a.log").write_text("epoch 1\repoch 2\r")
    terminal = Terminal()
    display = processes.LogDisplay(tmp_path, terminal)
    display.show(["a", "b"])
    assert terminal.getvalue() == "epoch 2\nb: starting\n"
    display.show(["a"])  # a second has not passed
    display.clear()
    assert terminal.getvalue() == "epoch 2\nb: starting\n\x1b[2A\x1b[J"
