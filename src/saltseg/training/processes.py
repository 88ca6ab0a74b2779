"""Trainings as processes: independent ones side by side, here or on a cluster, or one network on several devices."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from saltseg import io, workers
from saltseg.errors import InputError, reason
from saltseg.workers import CHILD, Workers

TO_END = 30.0  # seconds that a process has after SIGTERM
TO_TAKE_OVER = 60.0  # seconds that a training waits for the one in whose place it was started, see `run_command`


def check_devices(devices: int, batch_size: int) -> None:
    """Raise InputError if ``devices`` GPUs (processes, if there is none) cannot share a batch or are not there.

    Each needs equally many images, and two at least (batch norm).
    """
    if batch_size % devices or batch_size // devices < 2:
        raise InputError(
            f"train.batch_size is {batch_size}, of all {devices} devices together; "
            f"make it a multiple of {devices}, {2 * devices} at least"
        )
    found = workers.gpus() if devices > 1 else []
    if found and len(found) < devices:
        raise InputError(f"--devices {devices}: there are {len(found)} GPUs; give that many at most")


def run(commands: Mapping[str, Sequence[str]], where: Workers, logs: Path) -> dict[str, int]:
    """Run Python command lines, as many at a time as there are workers; one that fails stops no other.

    One at a time, they write to this terminal. Side by side they write to ``logs/NAME.log`` each, and the terminal
    shows the last line of every log. On this machine they share the cores and take turns with the visible GPUs. With
    fewer threads sums have another order, so weights are equal to the bit only for equal numbers of threads.

    All are ended when this function is left, also by Ctrl-C and SIGTERM (KeyboardInterrupt); but those that have begun
    on a cluster go on.

    Args:
        commands: by name, without the interpreter.
        where: on a cluster, in this folder.
        logs: folder of the logs.

    Returns:
        The exit codes by name.
    """
    if not commands:
        return {}
    if not where.here:
        logs.mkdir(parents=True, exist_ok=True)
    with _terminated_as_interrupted():
        if where.cluster:
            with where.executor(logs) as executor:
                units = [(tuple(words), logs.resolve() / f"{name}.log", Path.cwd()) for name, words in commands.items()]
                there = dict(zip(workers.submit(executor, logs, run_command, units), commands, strict=True))
                return _watch(executor, there, logs, apart=True)
        slots = _Slots(min(where.parallel, len(commands)))
        with futures.ThreadPoolExecutor(slots.count) as threads:
            try:
                here = {
                    threads.submit(slots.run, tuple(command), None if where.here else logs / f"{name}.log"): name
                    for name, command in commands.items()
                }
                return _watch(threads, here, logs, apart=not where.here)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
                slots.end()


def run_command(command: Sequence[str], log: Path, folder: Path) -> int:
    """Run a Python command line in a folder, adding what it writes to a log; returns its exit code."""
    # It may take the place of one whose worker was killed a moment ago, and which ends only now.
    environment = os.environ | {CHILD: "1", io.PATIENCE: str(TO_TAKE_OVER)}
    with log.open("ab") as file:
        try:
            return subprocess.run(
                [sys.executable, *command], cwd=folder, env=environment, stdout=file, stderr=file
            ).returncode
        except OSError as error:  # another is tried for the others
            file.write(f"error: {error}\n".encode())
            return 2


def _watch(
    executor: futures.Executor, waiting: dict["futures.Future[int]", str], logs: Path, apart: bool
) -> dict[str, int]:
    """Wait for all commands, and say of each how it ended; apart: whether they write to logs."""
    codes, display, left, started = dict[str, int](), LogDisplay(logs), set(waiting), time.time()
    try:
        while left:
            done, left = futures.wait(left, 0.2, futures.FIRST_COMPLETED)
            for future in done:
                name, why = waiting[future], ""
                try:
                    code = future.result()
                except futures.CancelledError:  # the scheduler is gone
                    raise
                except Exception as error:  # its workers were killed, or cannot work; others may do better
                    code, why = 1, f": {reason(error)}"
                codes[name] = code
                ended = f"ended with exit code {code}{why}" if code else "finished"
                if code == -signal.SIGKILL:
                    ended = "was killed, perhaps for want of memory: run fewer at a time"
                if code and apart and not why:
                    log = logs / f"{name}.log"
                    ended += f", see {log}: {last_line(log)}"
                display.print(f"[{len(codes)}/{len(waiting)}] {name} {ended}")
            if left:
                workers.check(executor)
            if apart:
                running = [name for future, name in waiting.items() if future in left and future.running()]
                # What runs on a cluster, its futures do not say, but the logs do.
                begun = [name for future, name in waiting.items() if future in left and _changed(logs, name) >= started]
                display.show(running or begun)
    finally:
        display.clear()
        for future in left:
            future.cancel()
    return codes


def _changed(logs: Path, name: str) -> float:
    """When a log was written to, in seconds since 1970; 0 where there is none."""
    try:
        return (logs / f"{name}.log").stat().st_mtime
    except OSError:
        return 0.0


class _Slots:
    """Processes of this machine, ``count`` at a time, each with its share of it."""

    def __init__(self, count: int) -> None:
        self.count, self.ended, self.lock = count, False, threading.Lock()
        self.free = list(range(count))
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, command: Sequence[str], log: Path | None) -> int:
        """Run a Python command line in a free slot; without a log it writes to this terminal and has all cores."""
        with self.lock:
            if self.ended:
                return -signal.SIGTERM
            slot = self.free.pop(0)
            environment = os.environ | {CHILD: "1"} | (workers.share(slot, self.count) if log else {})
            with log.open("ab") if log else nullcontext() as file:
                process = subprocess.Popen([sys.executable, *command], env=environment, stdout=file, stderr=file)
            self.processes.append(process)
        code = process.wait()
        with self.lock:
            self.free.append(slot)
        return code

    def end(self) -> None:
        """Terminate those that run, kill those that have not ended in time, and start no more."""
        with self.lock:
            self.ended = True
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + TO_END
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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
