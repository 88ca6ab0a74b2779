"""What the page shows: networks, tiles of a run, slices of a survey."""

from dataclasses import dataclass
from pathlib import Path

from saltseg import releases
from saltseg.config import Runtime
from saltseg.errors import InputError
from saltseg.pipeline import trained, tune
from saltseg.pipeline.workspace import Workspace
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
        notes: what is missing or differs from the run, and why; a line each.
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
    postprocessing = slices.postprocessing if slices else THRESHOLD_HALF
    if name is None:
        return Content("", postprocessing, slices=slices)
    source = releases.find(name, output_dir)
    networks = tiles = None
    notes: list[str] = []
    if isinstance(source, RunDir):
        try:
            postprocessing = tune.postprocessing_of(source)
        except InputError as error:
            if slices is None:
                raise
            return Content(source.name, postprocessing, slices=slices, notes=(f"of {source.name}: {error}",))
    try:
        found = trained.load(source, runtime=runtime)
        networks, postprocessing = Networks(source.name, found), found.postprocessing
        if isinstance(source, releases.ModelDir):
            notes += filter(None, [releases.notice(source.read_manifest())])
    except InputError as error:
        notes.append(f"images cannot be predicted: {error}")
    if isinstance(source, RunDir):
        try:
            tiles = Tiles.read(source, Workspace(input_dir, output_dir))
        except InputError as error:
            notes.append(f"there are no tiles: {error}")
    if postprocessing.presence_threshold:
        notes.append(
            "masks and scores here are without one step of the post-processing, the presence threshold, which empties "
            "images that probably hold no salt"
        )
    if not (networks or tiles or slices):
        raise InputError(" | ".join(notes))
    return Content(source.name, postprocessing, networks, tiles, slices, tuple(notes))
