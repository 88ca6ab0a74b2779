"""What the page shows: networks, tiles of a run, slices of a survey."""

from dataclasses import dataclass
from pathlib import Path

from saltseg import releases
from saltseg.config import Runtime
from saltseg.errors import InputError
from saltseg.pipeline import trained, tune
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.runs import RunDir
from saltseg.viewer.networks import Networks
from saltseg.viewer.slices import Slices
from saltseg.viewer.tiles import Tiles


@dataclass(frozen=True, eq=False)
class Content:
    """What the page can show.

    Attributes:
        name: of the run or the model; "" for a survey alone.
        postprocessing: with which the page begins.
        networks: for images that are dropped.
        tiles: of a run.
        slices: of a survey.
        notes: what is missing, and why; a line each.
    """

    name: str
    postprocessing: Postprocessing
    networks: Networks | None = None
    tiles: Tiles | None = None
    slices: Slices | None = None
    notes: tuple[str, ...] = ()


def read(
    name: str | None,
    slices: Slices | None,
    input_dir: Path,
    output_dir: Path,
    runtime: Runtime | None = None,
) -> Content:
    """Read a run or a model for the page. What cannot be read becomes a note, as long as there is something to show.

    Args:
        name: of a run, a blend or a released model; None for a survey alone.
        slices: of a survey.
        input_dir: where the dataset of the run is.
        output_dir: where runs are.
        runtime: how this machine computes; None: the defaults.

    Raises:
        InputError: there is no such run or model, or nothing of it can be shown.
    """
    if name is None:
        return Content("", slices.postprocessing if slices else THRESHOLD_HALF, slices=slices)
    source = releases.find(name, output_dir)
    networks = tiles = None
    notes = []
    postprocessing = tune.postprocessing_of(source) if isinstance(source, RunDir) else THRESHOLD_HALF
    try:
        found = trained.load(source, runtime=runtime)
        networks, postprocessing = Networks(source.name, found), found.postprocessing
    except InputError as error:
        notes.append(f"images cannot be predicted: {error}")
    if isinstance(source, RunDir):
        try:
            tiles = Tiles.read(source, input_dir)
        except InputError as error:
            notes.append(f"there are no tiles: {error}")
    else:
        notes += filter(None, [releases.notice(source.read_manifest())])
    if not (networks or tiles or slices):
        raise InputError(" | ".join(notes))
    return Content(source.name, postprocessing, networks, tiles, slices, tuple(notes))
