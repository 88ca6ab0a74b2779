"""The command ``saltseg``: its verbs, exit codes, and one line for every error that the user can fix."""

import functools
import inspect
import io
import os
import shlex
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Annotated, Any, NoReturn

import typer

from saltseg import __version__, workers
from saltseg.cli import (
    analyze,
    data,
    export,
    predict,
    pretrain,
    reference,
    release,
    study,
    submission,
    survey,
    train,
    view,
)
from saltseg.cli.command import INPUT, OUTPUT, VERBS, Verb
from saltseg.errors import InputError, of_machine

# Each registers its verbs when it is imported.
GROUPS = (data, train, pretrain, predict, submission, release, export, survey, analyze, view, study, reference)


def main(*verb: str) -> NoReturn:
    """Run this process's command line, after ``verb`` if given, and leave with its exit code."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")  # a Windows pipe may lack the minus sign
    threading.excepthook = _of_thread
    if workers.is_child():
        workers.end_with_parent()
    raise SystemExit(call([*verb, *sys.argv[1:]]))


def call(arguments: Sequence[str]) -> int:
    """Run ``saltseg ARGUMENTS`` in this process.

    Returns:
        The exit code: that of the verb; 2 after an error of the user's, with one line on stderr; 130 after Ctrl-C;
        141 where the reader of the output left before the end.
    """
    try:
        code = _answer(list(arguments) or ["--help"])
    except BrokenPipeError:
        _drop_output()
        return 128 + 13  # as after SIGPIPE
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except BrokenPipeError:  # after the work is done
        _drop_output()
    except OSError as error:  # the output goes to a file on a full disk
        _drop_output()
        return _fail(of_machine(error))
    return code


def _answer(arguments: list[str]) -> int:
    """Run the verb; errors that are not ours become a line and an exit code."""
    try:
        return _invoke(list(arguments))  # parsing takes words out
    except InputError as error:
        return _fail(str(error))
    except typer.TyperException as error:
        verb = f"{arguments[0]} " if arguments[0] in VERBS else ""
        return _fail(f"{error.format_message().removesuffix('.')} (see: saltseg {verb}--help)")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last finished epoch or step", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except Exception as error:
        if line := of_machine(error):
            return _fail(line)
        raise  # our mistake, with its traceback


def _invoke(arguments: list[str]) -> int:
    try:
        with command_line().make_context("saltseg", arguments) as context:
            return command_line().invoke(context)
    except typer.Exit as leaving:  # --help
        return leaving.exit_code


def _show_version(asked: bool) -> None:
    if asked:
        print(f"saltseg {__version__}")
        raise typer.Exit


@functools.cache
def command_line() -> Any:
    """The command line that typer makes of the verbs."""
    app = typer.Typer(
        help="Find salt bodies in seismic images: from images to a submission and a cross-validated score.",
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    app.callback()(_common)
    for group in GROUPS:
        for name, function in VERBS.items():
            if function.__module__ == group.__name__:
                text = inspect.cleandoc(function.__doc__ or "")
                app.command(name, short_help=text.splitlines()[0], help=_layout(text))(_finished(function))
    return typer.main.get_command(app)


def _common(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version, help="show it")] = False,
) -> None:
    """What stands before a verb."""


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
        if not workers.is_child():
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


def _of_thread(arguments: threading.ExceptHookArgs) -> None:
    """No traceback for an error of the machine: TensorBoard's thread hands it to the one that trains, too.

    Nor for units of work that were called off when another failed: the thread of Python 3.11's process pool stumbles
    over them.
    """
    if isinstance(arguments.exc_value, futures.InvalidStateError):
        return
    if arguments.exc_value is None or not of_machine(arguments.exc_value):
        threading.__excepthook__(arguments)


def _open_standard_streams() -> None:
    """Give a process that was started without standard streams empty ones.

    Otherwise the next file that is opened takes the number of one, and what a library writes to standard error lands in
    that file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest number that is free
        pass
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _drop_output() -> None:
    """Send what is left to flush nowhere: of the streams whose reader is gone or whose disk is full."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
