"""What stands behind a training: the runs and pretrainings that it learns from, and what follows for its score.

They are found by name, or by the config.yaml and provenance.json that lie beside a file of weights. A file that was
copied away from those is beyond this.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from saltseg.config import Config
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.runs import RunDir

FILE = "file:"


def behind(settings: Config, output_dir: Path) -> list[RunDir]:
    """The runs and pretrainings that a training with these settings learns from, and those behind them, each once."""
    return _closure(_sources(settings, output_dir))


def inherited(settings: Config, output_dir: Path, root: Path) -> dict[str, Any]:
    """What a run has to say of itself because of what it learns from, ready for its provenance.

    transduction: whether test images help to train it, directly or through one of `behind`. epoch_chosen_in: those of
    them that were trained on the dataset at ``root`` and chose their epoch on its validation images.
    """
    found = behind(settings, output_dir)
    configs = {place.name: place.read_config() for place in found}
    chosen = [place.name for place in found if configs[place.name].train.keep == "best" and _saw(place, root)]
    return {
        "transduction": any(config.pseudo.transduction for config in (settings, *configs.values())),
        "epoch_chosen_in": sorted(chosen),
    }


def demand_unseen(settings: Config, root: Path) -> None:
    """Refuse files of weights that learnt from labels of the dataset at ``root``, themselves or by what is behind them.

    One fold's weights learnt from what validates the other folds.
    """
    for source in (settings.train.start_from, settings.model.weights):
        for place in _closure(_beside(source)):
            if _saw(place, root):
                through = "" if place.path in _beside(source) else f" through {place.name}"
                raise InputError(
                    f"{source} learnt{through} from images that validate other folds of the same data; "
                    f"train.start_from={place.name} starts each fold from its own"
                )


def _closure(paths: Iterable[Path]) -> list[RunDir]:
    """The runs, blends and pretrainings at these paths and all that stand behind them; other paths are passed over."""
    found, waiting = dict[Path, RunDir](), list(paths)
    while waiting:
        place = RunDir(waiting.pop().resolve())
        if place.path in found or not (place.config.is_file() and place.provenance.is_file()):
            continue
        found[place.path] = place
        members = place.read_provenance().get("members", [])
        waiting += _sources(place.read_config(), place.path.parent.parent, members)
    return list(found.values())


def _sources(settings: Config, output_dir: Path, members: Sequence[str] = ()) -> list[Path]:
    """Where what these settings name would be: runs, blends, whatever left a file of weights, members of a blend."""
    names = (*members, settings.pseudo.teacher, settings.train.start_from)
    named = [output_dir / kind / name for name in names if name not in ("", "self") for kind in ("runs", "blends")]
    return [*named, *_beside(settings.train.start_from), *_beside(settings.model.weights)]


def _beside(source: str) -> list[Path]:
    """Where the run (of a fold's weights) or the pretraining of ``file:PATH`` would be; nothing for other sources."""
    if not source.startswith(FILE):
        return []
    path = Path(source.removeprefix(FILE)).expanduser().resolve()
    return [path.parent.parent, path.parent]


def _saw(place: RunDir, root: Path) -> bool:
    """Whether a run was trained on labels of the dataset at ``root``: the same data, or rows with salt in common.

    So a run on all of Kaggle's labels is found out under a cut of them, and one whose test images alone are others.
    """
    origin = place.read_provenance()
    if "dataset_hash" not in origin:  # a pretraining, which looks at no labels
        return False
    if origin["dataset_hash"] == competition.fingerprint(root):
        return True
    other = root.parent / origin["dataset"]
    return (other / "train.csv").is_file() and bool(competition.salt_rows(root) & competition.salt_rows(other))
