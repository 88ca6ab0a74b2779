"""Trainings as processes: independent ones side by side, or one network on several devices."""

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

from saltseg.errors import InputError

CHILD = "SALTSEG_CHILD"  # environment variable of every process that is started here
TO_END = 30.0  # seconds that a process has after SIGTERM


def end_with_parent(interval: float = 2.0) -> None:
    """Have this process stop, as by SIGTERM, when its parent is gone: one that is killed cannot end its children."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def is_child() -> bool:
    """Whether another command started this process; that command reports the result."""
    return CHILD in os.environ


def check_devices(devices: int, batch_size: int) -> None:
    """Raise InputError if ``devices`` GPUs (processes, if there is none) cannot share a batch or are not there.

    Each needs equally many images, and two at least (batch norm).
    """
    if batch_size % devices or batch_size // devices < 2:
        raise InputError(
            f"train.batch_size is {batch_size}, of all {devices} devices together; "
            f"make it a multiple of {devices}, {2 * devices} at least"
        )
    gpus = _gpus() if devices > 1 else []
    if gpus and len(gpus) < devices:
        raise InputError(f"--devices {devices}: there are {len(gpus)} GPUs; give that many at most")


def run(commands: Mapping[str, Sequence[str]], parallel: int, logs: Path) -> dict[str, int]:
    """Run Python command lines, ``parallel`` at a time; one that fails stops no other.

    One at a time, they write to this terminal. Several write to ``logs/NAME.log`` each, and the terminal shows the last
    line of every log; they share the cores and take turns with the visible GPUs. With fewer threads sums have another
    order, so weights are equal to the bit only for equal numbers of threads. All are ended when this function is left,
    also by Ctrl-C and SIGTERM (KeyboardInterrupt).

    Args:
        commands: by name, without the interpreter.
        parallel: at a time.
        logs: folder of the logs.

    Returns:
        The exit codes by name.
    """
    waiting, codes = list(commands.items()), dict[str, int]()
    running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
    display, slots = LogDisplay(logs), min(parallel, len(commands))
    if parallel > 1:
        logs.mkdir(parents=True, exist_ok=True)
    with _terminated_as_interrupted():
        try:
            while waiting or running:
                while waiting and len(running) < slots:
                    name, command = waiting.pop(0)
                    slot = min(set(range(slots)) - {taken for taken, _ in running.values()})
                    log = logs / f"{name}.log" if parallel > 1 else None
                    running[name] = slot, _start(command, slot, slots, log)
                for name, (_, process) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[name]
                    codes[name] = process.returncode
                    ended = f"ended with exit code {process.returncode}" if process.returncode else "finished"
                    if process.returncode == -signal.SIGKILL:
                        ended = "was killed, perhaps for want of memory: lower --parallel"
                    if process.returncode and parallel > 1:
                        log = logs / f"{name}.log"
                        ended += f", see {log}: {last_line(log)}"
                    display.print(f"[{len(codes)}/{len(commands)}] {name} {ended}")
                if parallel > 1:
                    display.show(list(running))
                time.sleep(0.2)
        finally:
            display.clear()
            _end([process for _, process in running.values()])
    return codes


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, as Ctrl-C does; by default it would leave children running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Terminate those that run, and kill those that have not ended in time."""
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


def _start(command: Sequence[str], slot: int, slots: int, log: Path | None) -> "subprocess.Popen[bytes]":
    """Start a command; with a log, it appends to that and gets the share of the machine of one of ``slots``."""
    environment = os.environ | {CHILD: "1"}
    if log is None:
        return subprocess.Popen([sys.executable, *command], env=environment)
    # Threads wait for each other at every layer, so trainings with fewer threads each are faster together
    # (benchmarks/bench.py --only tried).
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // slots)))
    gpus = _gpus()
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, *command], env=environment, stdout=file, stderr=file)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The GPUs that this process sees, by their names in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


class LogDisplay:
    """The last line of every running log, redrawn in place; on a terminal only."""

    def __init__(self, logs: Path, stream: TextIO = sys.stderr) -> None:
        self.logs, self.stream, self.lines, self.shown = logs, stream, 0, 0.0

    def show(self, names: Sequence[str]) -> None:
        """Draw the last lines of these logs, at most once a second."""
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

    def print(self, line: str) -> None:
        """Print a line that stays."""
        self.clear()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; the lines of a progress bar end in carriage returns."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1000))
            lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
