"""What every script shares: one line per bad input, exit codes, directories, the next command to type."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from saltseg.errors import InputError

# Errors of the operating system that whoever typed the command can mend: no space, no rights, a file for a folder.
USERS = (
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
)  # fmt: skip
PART_OF_RUN = "SALTSEG_PART_OF_RUN"  # set for scripts that another script starts


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's ``main`` and leave the process.

    Exit code 0 (or what ``main`` returns), 2 after bad input with one line on stderr, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")  # a Windows pipe may know no minus sign
    try:
        code = main() or 0
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last finished epoch or step", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader (head, less) has seen enough; what is left to flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in USERS:
            raise  # a missing file that nobody expected to be missing is our mistake
        print(f"error: {error}; mend that and run the same command again", file=sys.stderr)
        code = 2
    raise SystemExit(code)


def next_step(command: str) -> None:
    """Tell the user what to type next, unless a step of ``scripts/run.py`` is speaking."""
    if PART_OF_RUN not in os.environ:
        print(f"next: {command}")


def numbers(option: str, text: str, also: str = "") -> list[int]:
    """The value of an option such as ``--seeds 0,1``; InputError for anything else. also: what else may be written."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"{option} {text!r}; write {f'{also}, or ' if also else ''}numbers such as 0,1")
    return [int(part) for part in parts]


def at_least_one(text: str) -> int:
    """The value of an option such as ``--parallel 2``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def add_set(arguments: argparse.ArgumentParser) -> None:
    """Add ``--set``, which may be repeated; for `saltseg.config.override`."""
    said = "change a setting; may be repeated"
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=said)


def add_training(arguments: argparse.ArgumentParser, experiments: Iterable[str]) -> None:
    """Add what says which training is meant and how it is spread: what train.py takes, and run.py hands on to it."""
    arguments.add_argument("experiment", help=f"one of {', '.join(experiments)}, or a config.yaml")
    said = "folder under input/, for example synthetic or tgs"
    arguments.add_argument("--data", required=True, metavar="DATASET", help=said)
    arguments.add_argument("--folds", default="all", help="all (default) or numbers such as 0,1")
    arguments.add_argument("--holdout", type=float, metavar="SHARE", help="one random validation part instead of folds")
    add_set(arguments)
    arguments.add_argument("--name", help="the run's name (default: DATASET-EXPERIMENT)")
    add_parallel(arguments)
    add_devices(arguments)


def add_parallel(arguments: argparse.ArgumentParser) -> None:
    """Add ``--parallel``: how many trainings run at a time, see `saltseg.processes`."""
    arguments.add_argument(
        "--parallel", type=at_least_one, default=1, metavar="N", help="trainings at a time, each a process (default: 1)"
    )


def add_devices(arguments: argparse.ArgumentParser) -> None:
    """Add ``--devices``: what trains one network together, see `saltseg.training.loop.fit`."""
    said = "GPUs, or processes without any, that share each batch (default: 1)"
    arguments.add_argument("--devices", type=at_least_one, default=1, metavar="N", help=said)


class Parser(argparse.ArgumentParser):
    """argparse's, which says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2, without the usage: it would hide what matters."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose ``--help`` keeps the layout of the script's docstring."""
    return Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_directories(arguments: argparse.ArgumentParser) -> None:
    """Add ``--input`` and ``--output``: where datasets are read and where results go."""
    arguments.add_argument("--input", type=Path, default=Path("input"), metavar="DIR", help="datasets (default: input)")
    arguments.add_argument(
        "--output", type=Path, default=Path("output"), metavar="DIR", help="results (default: output)"
    )
