"""What all verbs share: their registration, common options, progress bars."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saltseg.errors import InputError

if TYPE_CHECKING:
    from saltseg.config import Config, Runtime

# What a verb returns: an exit code (None: 0), or the command to type next, word by word.
Result = int | Sequence[str] | None
Verb = Callable[..., Result]

INPUT, OUTPUT = Path("input"), Path("output")
InputDir = Annotated[Path, typer.Option("--input", metavar="DIR", help="datasets")]
OutputDir = Annotated[Path, typer.Option("--output", metavar="DIR", help="results")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="a run under output/runs, or a blend under output/blends")]
RunOrModel = Annotated[
    str, typer.Argument(metavar="RUN|MODEL", help="a run under output/runs, or the name or folder of a released model")
]
Dataset = Annotated[str, typer.Option("--data", metavar="DATASET", help="folder under input/: synthetic, tgs, …")]
Experiment = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="a name that `saltseg experiments` lists, or a config.yaml")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="change a setting (`saltseg settings`); may be repeated"),
]
RuntimeChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="runtime.KEY=VALUE", help="how this machine computes; may be repeated"),
]
Folds = Annotated[str, typer.Option(metavar="0,1", help="all, or numbers")]
Parallel = Annotated[
    int, typer.Option(min=1, max=256, metavar="N", help="how many at a time, each a process of this machine")
]
Cluster = Annotated[
    str,
    typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers do it: tcp://host:8786", show_default=False),
]

VERBS: dict[str, Verb] = {}


def verb(name: str) -> Callable[[Verb], Verb]:
    """Register a function as ``saltseg NAME``; its docstring is the help, its parameters are the options."""

    def register(function: Verb) -> Verb:
        VERBS[name] = function
        return function

    return register


def numbers(option: str, text: str, also: str = "", signed: bool = False) -> list[int]:
    """The value of an option such as ``--seeds 0,1``; InputError for anything else.

    Args:
        option: its name.
        text: its value.
        also: what else may be written.
        signed: whether numbers may be negative, as those of lines.
    """
    parts = [part.strip() for part in text.split(",")]
    digits = [part.removeprefix("-") if signed else part for part in parts]
    if not all(part.isdecimal() for part in digits):
        raise InputError(f"{option} {text!r}; write {f'{also}, or ' if also else ''}numbers such as 0,1")
    return [int(part) for part in parts]


def fold_numbers(text: str) -> list[int] | None:
    """The value of ``--folds``; None for all."""
    return None if text == "all" else numbers("--folds", text, also="all")


@contextmanager
def progress_bar(**options: Any) -> Iterator[Callable[[int, int], None]]:
    """A progress bar of tqdm's with these options, as a function to call with (steps done, steps in all)."""
    from tqdm import tqdm

    with tqdm(**options) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance


def configured(experiment: str, changes: list[str] | None, holdout: float | None = None) -> "Config":
    """The configuration that the options of a training ask for; InputError for settings that do not fit."""
    from saltseg import config, experiments

    settings = config.override(experiments.named(experiment), changes or [])
    if holdout is None:
        return settings
    return config.change(settings, {"folds.scheme": "holdout", "folds.holdout": holdout})


def runtime(changes: list[str] | None) -> "Runtime":
    """How this machine computes, from ``--set runtime.KEY=VALUE``; InputError for any other setting."""
    from saltseg import config

    for change in changes or []:
        if not change.strip().startswith("runtime."):
            raise InputError(
                f"--set {change}: only settings of runtime apply here, such as runtime.predict_batch_size=16"
            )
    return config.override(config.Config(), changes or []).runtime
