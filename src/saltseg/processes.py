"""How trainings share machines: independent ones side by side, or one network on several devices."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from saltseg import cli
from saltseg.errors import InputError

TO_END = 30.0  # seconds that a process has after SIGTERM


def check_devices(devices: int, batch_size: int) -> None:
    """Raise InputError where ``devices`` GPUs, or processes without any, cannot share a batch or are not there.

    Each needs as many images as the others, and two at least (batch norm).
    """
    if batch_size % devices or batch_size // devices < 2:
        raise InputError(
            f"train.batch_size is {batch_size}, of all {devices} devices together; "
            f"make it a multiple of {devices}, {2 * devices} at least"
        )
    found = _gpus() if devices > 1 else []
    if found and len(found) < devices:
        raise InputError(f"--devices {devices}: there are {len(found)} GPUs; give that many at most")


def run(commands: Mapping[str, Sequence[str]], parallel: int, logs: Path) -> dict[str, int]:
    """Run each named Python command line (without the interpreter), ``parallel`` at a time; returns the exit codes.

    One that fails stops no other. One at a time, they write to this terminal; several, each to ``logs/NAME.log``, and
    the terminal shows the last line of every log. Side by side they share the cores (sums in another order: the same
    weights to the bit come from the same number of threads) and take turns with the GPUs that can be seen. None is left
    running when this function is left, by Ctrl-C and SIGTERM too (KeyboardInterrupt).
    """
    waiting, codes = list(commands.items()), dict[str, int]()
    running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    board, places = Board(logs), min(parallel, len(commands))
    if parallel > 1:
        logs.mkdir(parents=True, exist_ok=True)
    with _terminated_as_interrupted():
        try:
            while waiting or running:
                while waiting and len(running) < places:
                    name, command = waiting.pop(0)
                    place = min(set(range(places)) - {taken for taken, _ in running.values()})
                    log = logs / f"{name}.log" if parallel > 1 else None
                    running[name] = place, _start(command, place, places, log)
                for name, (_, process) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[name]
                    codes[name] = process.returncode
                    ended = f"ended with exit code {process.returncode}" if process.returncode else "finished"
                    hint = f", see {logs / name}.log" if process.returncode and parallel > 1 else ""
                    board.say(f"[{len(codes)}/{len(commands)}] {name} {ended}{hint}")
                if parallel > 1:
                    board.show(list(running))
                time.sleep(0.2)
        finally:
            board.clear()
            _end([process for _, process in running.values()])
    return codes


def call(command: Sequence[str]) -> int:
    """Run one Python command line in this terminal to its end; its exit code. As in `run`, it is not left running."""
    with _terminated_as_interrupted():
        process = _start(command, 0, 1, None)
        try:
            return process.wait()
        finally:
            _end([process])


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Meanwhile SIGTERM raises KeyboardInterrupt, as Ctrl-C does; by default it would leave children behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask those that run to stop, and kill what has not done so in time."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + TO_END
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(command: Sequence[str], place: int, places: int, log: Path | None) -> "subprocess.Popen[bytes]":
    """Start one command at one of ``places``; with a log it adds to that and sees its share of the machine alone."""
    environment = os.environ | {cli.PART_OF_RUN: "1"}
    if log is None:
        return subprocess.Popen([sys.executable, *command], env=environment)
    # Threads of one training wait for each other at every layer, so trainings of fewer threads each do more together
    # (benchmarks/bench.py --only tried).
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // places)))
    gpus = _gpus()
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, *command], env=environment, stdout=file, stderr=file)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


class Board:
    """The last line of every running log, redrawn in place; on a terminal only."""

    def __init__(self, logs: Path, stream: TextIO = sys.stderr) -> None:
        self.logs, self.stream, self.lines, self.shown = logs, stream, 0, 0.0

    def show(self, names: Sequence[str]) -> None:
        """Draw the lines of these logs, once a second at most."""
        if not self.stream.isatty() or time.monotonic() - self.shown < 1:
            return
        self.clear()
        width = shutil.get_terminal_size().columns - 1
        for name in names:
            line = last_line(self.logs / f"{name}.log") or f"{name}: starting"
            self.stream.write(line[:width] + "\n")
        self.stream.flush()
        self.lines, self.shown = len(names), time.monotonic()

    def clear(self) -> None:
        """Remove what is drawn."""
        if self.lines:
            self.stream.write(f"\x1b[{self.lines}A\x1b[J")
            self.stream.flush()
        self.lines, self.shown = 0, 0.0

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.clear()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def last_line(log: Path) -> str:
    """The last line of a log that holds anything; a progress bar's lines end in carriage returns."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1000))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
