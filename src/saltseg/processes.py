"""How trainings share machines: independent ones side by side, or one network on several devices."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from saltseg import cli
from saltseg.errors import InputError


@dataclass(frozen=True)
class Devices:
    """What trains one network: so many GPUs (without any: processes) on each of so many machines, Lightning's DDP."""

    each: int = 1
    nodes: int = 1

    @property
    def ranks(self) -> int:
        """Processes in all; they share every batch."""
        return self.each * self.nodes

    def check(self, batch_size: int) -> None:
        """Raise InputError where a batch cannot be shared evenly, two images each at least (batch norm)."""
        if batch_size % self.ranks or batch_size // self.ranks < 2:
            raise InputError(
                f"train.batch_size is {batch_size}, of all {self.ranks} processes together; "
                f"make it a multiple of {self.ranks}, {2 * self.ranks} at least"
            )


ALONE = Devices()
INTERRUPTED = 130  # exit code of a script after Ctrl-C, see cli.run


def run(commands: Mapping[str, Sequence[str]], parallel: int, logs: Path) -> dict[str, int]:
    """Run each named Python command line (without the interpreter), ``parallel`` at a time; returns the exit codes.

    One that fails stops no other. One at a time, they write to this terminal; several, each to ``logs/NAME.log``, and
    the terminal shows the last line of every log. Side by side they share the cores and take turns with the GPUs that
    can be seen. None is left running when this function is left; KeyboardInterrupt where one was interrupted.
    """
    waiting, codes = list(commands.items()), dict[str, int]()
    running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    board = Board(logs)
    if parallel > 1:
        logs.mkdir(parents=True, exist_ok=True)
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                name, command = waiting.pop(0)
                place = min(set(range(parallel)) - {taken for taken, _ in running.values()})
                running[name] = place, _start(command, place, parallel, logs / f"{name}.log")
            for name, (_, process) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                codes[name] = process.returncode
                if process.returncode == INTERRUPTED:
                    raise KeyboardInterrupt
                ended = f"ended with exit code {process.returncode}" if process.returncode else "finished"
                hint = f", see {logs / name}.log" if process.returncode and parallel > 1 else ""
                board.say(f"[{len(codes)}/{len(commands)}] {name} {ended}{hint}")
            if parallel > 1:
                board.show(list(running))
            time.sleep(0.2)
    finally:
        board.clear()
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()
    return codes


def _start(command: Sequence[str], place: int, parallel: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start one command at one of ``parallel`` places."""
    environment = os.environ | {cli.PART_OF_RUN: "1"}
    if parallel == 1:
        return subprocess.Popen([sys.executable, *command], env=environment)
    # Threads of one training wait for each other at every layer: two trainings of one thread each do more on two cores
    # than one after the other, and far more when something else runs as well (RESULTS.md, "Speed").
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // parallel)))
    gpus = _gpus()
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    with log.open("wb") as file:
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
