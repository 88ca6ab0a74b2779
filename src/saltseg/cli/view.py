"""The verb view: a page on this machine to try a network on."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from saltseg.cli import survey as surveys
from saltseg.cli.command import INPUT, OUTPUT, InputDir, OutputDir, Result, RuntimeChanges, runtime, verb
from saltseg.errors import InputError

PORT = 8765


@verb("view")
def view(
    name: Annotated[
        str | None, Argument(metavar="[MODEL|RUN]", help="a released model, or a run or blend", show_default=False)
    ] = None,
    survey: Annotated[
        Path | None, Option(metavar="SURVEY", help="SEG-Y file that was predicted", show_default=False)
    ] = None,
    salt: Annotated[
        Path | None,
        Option(metavar="PATH", help="its probability (default: in output/predictions/RUN)", show_default=False),
    ] = None,
    truth: Annotated[Path | None, Option(metavar="PATH", help="its true mask, SEG-Y", show_default=False)] = None,
    depth: Annotated[bool, Option("--depth", help="SEG-Y: samples are meters, not milliseconds")] = False,
    inline_byte: surveys.InlineByte = None,
    crossline_byte: surveys.CrosslineByte = None,
    as_line: surveys.AsLine = False,
    port: Annotated[int, Option(min=0, max=65535, metavar="N", help="of the address; 0 takes a free one")] = PORT,
    changes: RuntimeChanges = None,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Open a page on this machine to look at predictions and to try other post-processing.

      saltseg view tgs-recipe_lite0                                  drop images; the run's best and worst tiles
      saltseg view tgs-recipe_lite0 --survey survey.sgy              and slices of a predicted survey
      saltseg view --survey survey.sgy --salt salt.sgy --truth mask.sgy

    The page shows image, probability and outline, and moves with sliders for threshold, hysteresis and minimum area.
    Only this machine can open it, nothing leaves it, and no network is needed. Ctrl-C ends it.
    """
    options = (salt, truth, inline_byte, crossline_byte)
    if survey is None and (depth or as_line or any(option is not None for option in options)):
        raise InputError(
            "--salt, --truth, --depth, --inline-byte, --crossline-byte and --as-line are for --survey; name it, or "
            "leave them out"
        )
    if survey is None and name is None:
        raise InputError("there is nothing to show: name a run or a model, or a predicted survey with --survey")
    try:
        from saltseg.viewer import content, server
    except ModuleNotFoundError as error:
        if str(error.name).startswith("saltseg"):
            raise
        raise InputError(f"saltseg view needs {error.name}; pip install 'saltseg[viewer]'") from None
    slices = None
    if survey is not None:
        from saltseg.viewer.slices import Slices

        probability = _probability(survey, salt, name, output_dir)
        slices = Slices(surveys.opened(survey, inline_byte, crossline_byte, as_line), probability, truth, depth)
    found = content.read(name, slices, input_dir, output_dir, runtime(changes))
    for note in found.notes:
        print(f"note: {note}")
    server.serve(found, port, lambda address: print(f"{address}  (Ctrl-C ends it)", flush=True))
    return 0


def _probability(survey: Path, salt: Path | None, name: str | None, output_dir: Path) -> Path:
    """The file of the salt probability of a survey; raises InputError where there is none."""
    if salt is None and name is None:
        raise InputError(f"--survey {survey}: where is its probability? Add --salt, or the run that predicted it")
    # The folder is named after the run or the model, which may have been given by its path.
    path = salt or output_dir / "predictions" / Path(str(name)).resolve().name / f"{survey.stem}.sgy"
    if not path.is_file():
        raise InputError(f"no salt probability {path}; make it with saltseg predict {name or 'RUN'} {survey}")
    return path
