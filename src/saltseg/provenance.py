"""What a result was made with and from: versions, commit and command; and lineage, the runs that it learned from.

Lineage is found by name, or by the config.yaml and provenance.json that lie beside a file of weights. A file that was
copied away from those cannot be traced, nor can a dataset under another ``--input``.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from saltseg import __version__
from saltseg.config import Config, weights_file
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.releases import ModelDir
from saltseg.runs import RunDir

LEAKAGE = "these contain the validation masks; use {teacher} instead"  # way out of `RunDir.require_oof_score`

# ---------------------------------------------------------------- versions, commit, command


def record(**entries: Any) -> dict[str, Any]:
    """Versions, commit, command and time, followed by ``entries`` (dataset, hashes, …); ready for JSON."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    packages = ("torch", "lightning", "segmentation-models-pytorch", "timm", "albumentations", "numpy")
    return {
        "saltseg": __version__,
        "git_commit": git_commit(),
        "git_dirty": None if changes is None else bool(changes),
        "python": platform.python_version(),
        **{name: _installed(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{_processor()}",
        "command": _command(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **entries,
    }


def git_commit() -> str | None:
    """The commit of the code that runs; None where git does not tell, or the package is in no checkout of its own."""
    return _git("rev-parse", "HEAD")


def _processor() -> str:
    """ " of MODEL", the name that Linux gives the CPU; "" elsewhere. How fast bfloat16 is depends on the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" of {names[0]}" if names and names[0] else ""


def _command() -> str:
    """What the user typed, without the folder of the repository."""
    program = Path(sys.argv[0])
    if program.stem in ("saltseg", "__main__"):
        return " ".join(["saltseg", *sys.argv[1:]])
    name = f"scripts/{program.name}" if program.parent.name == "scripts" else program.name
    return " ".join(["python", name, *sys.argv[1:]])


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # else another repository that holds this folder would answer
        return None
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


# ---------------------------------------------------------------- lineage


def ancestors(settings: Config, output_dir: Path) -> list[RunDir]:
    """The runs, blends and pretrainings that a training with these settings learns from, and their ancestors.

    Each is listed once. Raises InputError for one whose config.yaml cannot be read.
    """
    return lineage(settings, output_dir)[0]


def lineage(settings: Config, output_dir: Path) -> tuple[list[RunDir], bool]:
    """`ancestors`, and whether all of them are here."""
    return _with_ancestors(_sources(settings, output_dir))


def inherited(settings: Config, output_dir: Path, root: Path) -> dict[str, Any]:
    """What a new run has to record about its `ancestors`, ready for its provenance.

    Args:
        settings: of the new run.
        output_dir: where its ancestors are.
        root: the dataset that it is trained on.

    Returns:
        ``transduction``: whether images of the test set help to train the run or an ancestor, or may do so.
        ``epoch_chosen_in``: names of ancestors that were trained on this dataset and chose their epoch on its
        validation images.

    Raises:
        InputError: the config.yaml of an ancestor cannot be read.
    """
    runs = [run for run in ancestors(settings, output_dir) if run.config.is_file() and not run.members()]
    selected = [run for run in runs if run.read_config().train.checkpoint == "best" and trained_on_labels_of(run, root)]
    return {
        "transduction": settings.transduction or any(_may_know_test_images(run, root) for run in runs),
        "epoch_chosen_in": sorted(run.name for run in selected),
    }


def transduction(run: RunDir) -> bool:
    """Whether test images may have helped to train a run, blend or pretraining: as recorded, else by its settings."""
    recorded = run.read_provenance().get("transduction")
    return bool(run.read_config().transduction if recorded is None and run.config.is_file() else recorded)


def check_no_leakage(settings: Config, root: Path) -> list[str]:
    """Refuse files of weights that were trained, directly or through ancestors, on labels of the dataset at ``root``.

    The weights of one fold learned from the images that validate the other folds.

    Returns:
        The runs behind such files of which nobody can tell, because their dataset is not here or has changed.

    Raises:
        InputError: ``train.init_from`` or ``model.weights`` is such a file.
    """
    unknown: list[str] = []
    for source in (settings.train.init_from, settings.encoder_weights):
        own = _folders_of_weights(source)
        for run in _with_ancestors([own] if own else [])[0]:
            same_labels = trained_on_labels_of(run, root)
            if same_labels is None:
                unknown.append(run.name)
            if same_labels:
                run.require_oof_score(LEAKAGE)
                through = "" if run.path in own else f" through {run.name}"
                is_model = ModelDir(run.path).manifest.is_file()  # of one fold
                by_fold = run.read_provenance()["dataset_hash"] == competition.fingerprint(root) and not is_model
                way_out = f"train.init_from={run.name} starts each fold from its own" if by_fold else "use others"
                raise InputError(
                    f"{source} learned{through} from images that validate other folds of the same data; {way_out}"
                )
    return list(dict.fromkeys(unknown))


def trained_on_labels_of(run: RunDir, root: Path) -> bool | None:
    """Whether a run was trained on labels of the dataset at ``root``: the same data, or rows with salt in common.

    So a run on all of Kaggle's labels is recognized under a subset of them, and one with other test images. None where
    the run's dataset is not beside ``root`` or has changed, so that nobody can tell.
    """
    recorded = run.read_provenance()
    if "dataset_hash" not in recorded:  # a pretraining, which uses no labels
        return False
    if competition.has_fingerprint(root, recorded["dataset_hash"]):
        return True
    other = root.parent / recorded["dataset"]
    if not competition.has_fingerprint(other, recorded["dataset_hash"]):
        return None
    return bool(competition.salt_rows(root) & competition.salt_rows(other))


def _may_know_test_images(run: RunDir, root: Path) -> bool:
    """Whether test images of the dataset at ``root`` may have helped to train a run or a pretraining.

    A masked pretraining has left out those of one dataset; whether it saw those of others is unknown.
    """
    recorded = run.read_provenance()
    masked_elsewhere = recorded.get("method") == "masked" and recorded.get("dataset") != root.name
    return masked_elsewhere or transduction(run)


def _with_ancestors(sources: Iterable[Sequence[Path]]) -> tuple[list[RunDir], bool]:
    """The runs, blends and pretrainings of `_sources` and all their ancestors, each once; and whether all are here."""
    run_of_path, remaining, complete = dict[Path, RunDir](), list(sources), True
    while remaining:
        found = [run for run in map(RunDir, remaining.pop()) if run.provenance.is_file()]
        complete = complete and bool(found)
        for run in found:
            path = run.path.resolve()
            if path in run_of_path:
                continue
            run_of_path[path] = run
            settings = run.read_config() if run.config.is_file() else Config()
            remaining += _sources(settings, run.path.parent.parent, run.members())
    return list(run_of_path.values()), complete


def _sources(settings: Config, output_dir: Path, members: Sequence[str] = ()) -> list[list[Path]]:
    """Possible paths of each run, blend or writer of weights that these settings, or the members of a blend, name."""
    start = settings.train.init_from
    names = members or (settings.teacher, start)  # a blend's settings are a copy of its first member's
    runs = [name for name in names if name and weights_file(name) is None]
    files = [_folders_of_weights(source) for source in (start, settings.encoder_weights)]
    return [*([output_dir / kind / name for kind in ("runs", "blends")] for name in runs), *filter(None, files)]


def _folders_of_weights(source: str) -> list[Path]:
    """Possible paths of the run (two levels up) or the pretraining (one up) that wrote ``file:PATH``; else none."""
    path = weights_file(source)
    return [] if path is None else [path.absolute().parent.parent, path.absolute().parent]
