"""The command ``saltseg``: its verbs, exit codes, and one line for every error that the user can fix."""

import errno
import functools
import inspect
import io
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import typer

from saltseg.cli import analyze, data, predict, pretrain, reference, study, train
from saltseg.cli.command import INPUT, OUTPUT, VERBS, Verb
from saltseg.errors import InputError
from saltseg.training import processes

GROUPS = (data, train, pretrain, predict, analyze, study, reference)  # each registers its verbs when it is imported

# Errors of the operating system that the user can fix: no space, no rights, a file for a folder.
FIXABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
)  # fmt: skip


def main(*verb: str) -> NoReturn:
    """Run this process's command line, after ``verb`` if given, and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")  # a Windows pipe may lack the minus sign
    if processes.is_child():
        processes.end_with_parent()
    raise SystemExit(call([*verb, *sys.argv[1:]]))


def call(arguments: Sequence[str]) -> int:
    """Run ``saltseg ARGUMENTS`` in this process.

    Returns:
        The exit code: that of the verb; 2 after an error of the user's, with one line on stderr; 130 after Ctrl-C;
        141 where the reader of the output left before the end.
    """
    try:
        code = _invoke(list(arguments) or ["--help"])
    except InputError as error:
        return _fail(str(error))
    except typer.TyperException as error:
        verb = f"{arguments[0]} " if arguments and arguments[0] in VERBS else ""
        return _fail(f"{error.format_message().removesuffix('.')} (see: saltseg {verb}--help)")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last finished epoch or step", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_output()
        return 128 + 13  # as after SIGPIPE
    except OSError as error:
        if error.errno not in FIXABLE:
            raise  # a missing file that nobody expected to be missing is our mistake
        return _fail(f"{error}; fix it and rerun")
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    return code


def _invoke(arguments: list[str]) -> int:
    try:
        with command_line().make_context("saltseg", arguments) as context:
            return command_line().invoke(context)
    except typer.Exit as leaving:  # --help
        return leaving.exit_code


@functools.cache
def command_line() -> Any:
    """The command line that typer makes of the verbs."""
    app = typer.Typer(
        help="Find salt bodies in seismic images: from images to a submission and a cross-validated score.",
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    for group in GROUPS:
        for name, function in VERBS.items():
            if function.__module__ == group.__name__:
                text = inspect.cleandoc(function.__doc__ or "")
                app.command(name, short_help=text.splitlines()[0], help=_layout(text))(_finished(function))
    return typer.main.get_command(app)


def _layout(text: str) -> str:
    """Have typer leave the lines of indented paragraphs as they are: ``\\b`` before them."""
    return "\n\n".join(f"\b\n{part}" if part.startswith(" ") else part for part in text.split("\n\n"))


def _finished(function: Verb) -> Callable[..., int]:
    """A verb that prints the next command, if it returns one, and returns an exit code."""

    @functools.wraps(function)
    def command(**options: Any) -> int:
        result = function(**options)
        if result is None or isinstance(result, int):
            return result or 0
        if not processes.is_child():
            print(next_line(result, options))
        return 0

    return command


def next_line(words: Sequence[str], options: Mapping[str, Any]) -> str:
    """The line that names the next command, which works as typed: blanks quoted, folders that are not the defaults."""
    words = list(words)
    if words[0] == "saltseg":
        parameters = inspect.signature(VERBS[words[1]]).parameters
        for name, option, default in (("input_dir", "--input", INPUT), ("output_dir", "--output", OUTPUT)):
            if name in parameters and options.get(name, default) != default:
                words += [option, str(options[name])]
    return f"next: {shlex.join(words)}"


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _drop_output() -> None:
    """Send what is left to flush nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
