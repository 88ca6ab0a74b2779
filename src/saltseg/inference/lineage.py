"""What stands behind a training: the runs and pretrainings that it learns from, and what follows for its score.

They are found by name, or by the config.yaml and provenance.json that lie beside a file of weights. A file that was
copied away from those is beyond this, and so is a dataset under another ``--input``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from saltseg.config import Config, file_behind
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.runs import RunDir

LEAKS = "what it learnt holds the masks that validate; take {teacher} instead"


def behind(settings: Config, output_dir: Path) -> list[RunDir]:
    """The runs, blends and pretrainings that a training with these settings learns from, and those behind them.

    Raises InputError for one whose config.yaml cannot be read.
    """
    return _closure(_sources(settings, output_dir))


def inherited(settings: Config, output_dir: Path, root: Path) -> dict[str, Any]:
    """What a run has to say of itself because of what it learns from, ready for its provenance.

    transduction: whether images of the test set of the dataset at ``root`` help to train it, or may do so: directly, or
    through one of `behind`. epoch_chosen_in: names of the runs behind it that were trained on that dataset and chose
    their epoch on its validation images. Raises InputError as `behind` does.
    """
    found = [place for place in behind(settings, output_dir) if place.config.is_file() and not place.members()]
    chosen = [place.name for place in found if place.read_config().train.keep == "best" and _saw(place, root)]
    return {
        "transduction": _asks_for_test(settings) or any(_may_know_test(place, root) for place in found),
        "epoch_chosen_in": sorted(chosen),
    }


def transduction(run: RunDir) -> bool:
    """What `inherited` said of a run or blend when it was made; of those that are older, what their settings say."""
    known = run.read_provenance().get("transduction")
    return bool(_asks_for_test(run.read_config()) if known is None and run.config.is_file() else known)


def demand_unseen(settings: Config, root: Path) -> None:
    """Refuse files of weights that learnt from labels of the dataset at ``root``, themselves or by what is behind them.

    One fold's weights learnt from what validates the other folds.
    """
    for source in (settings.train.start_from, settings.model.weights):
        for place in _closure(_beside(source)):
            if _saw(place, root):
                place.demand_score(LEAKS)
                through = "" if place.path in _beside(source) else f" through {place.name}"
                same = place.read_provenance()["dataset_hash"] == competition.fingerprint(root)
                way_out = f"train.start_from={place.name} starts each fold from its own" if same else "take others"
                raise InputError(
                    f"{source} learnt{through} from images that validate other folds of the same data; {way_out}"
                )


def _asks_for_test(settings: Config) -> bool:
    return bool(settings.pseudo.teacher) and settings.pseudo.transduction


def _may_know_test(place: RunDir, root: Path) -> bool:
    """Whether test images of the dataset at ``root`` may have helped to train a run or a pretraining.

    A masked pretraining has left out those of one dataset, and nobody knows about those of others.
    """
    origin, settings = place.read_provenance(), place.read_config()
    if origin.get("method") == "masked":
        return settings.pseudo.transduction or origin.get("dataset") != root.name
    return _asks_for_test(settings)


def _closure(paths: Iterable[Path]) -> list[RunDir]:
    """The runs, blends and pretrainings at these paths and all that stand behind them, each once."""
    found, waiting = dict[Path, RunDir](), list(paths)
    while waiting:
        place = RunDir(waiting.pop())
        own = place.path.resolve()
        if own in found or not place.provenance.is_file():
            continue
        found[own] = place
        settings = place.read_config() if place.config.is_file() else Config()
        waiting += _sources(settings, place.path.parent.parent, place.members())
    return list(found.values())


def _sources(settings: Config, output_dir: Path, members: Sequence[str] = ()) -> list[Path]:
    """Where what these settings name would be: runs, blends, whatever left a file of weights, members of a blend."""
    own = () if members else (settings.pseudo.teacher, settings.train.start_from)  # a blend's are its first member's
    names = [name for name in (*members, *own) if name not in ("", "self") and file_behind(name) is None]
    named = [output_dir / kind / name for name in names for kind in ("runs", "blends")]
    return [*named, *_beside(settings.train.start_from), *_beside(settings.model.weights)]


def _beside(source: str) -> list[Path]:
    """Where the run (of a fold's weights) or the pretraining of ``file:PATH`` would be; nothing for other sources."""
    path = file_behind(source)
    return [] if path is None else [path.absolute().parent.parent, path.absolute().parent]


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
    if not (other / "train.csv").is_file() or competition.fingerprint(other) != origin["dataset_hash"]:
        return False  # that dataset is gone, so nobody can know
    return bool(competition.salt_rows(root) & competition.salt_rows(other))
