"""What a run leaves under ``output/``: its files, predictions, provenance, locks.

Steps meet through these files alone.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from saltseg import __version__, storage
from saltseg import config as configuration
from saltseg.errors import InputError


class File:
    """A file of a directory object: ``fold.network`` is ``fold.path / "network.ckpt"``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, directory: Any, _: type) -> Path:
        return directory.path / self.name


@dataclass(frozen=True)
class FoldDir:
    """The files of one fold; ``metrics.json`` is written last and means "finished"."""

    path: Path

    network = File("network.ckpt")  # the weights to predict with; with snapshots there is one file per cycle instead
    last = File("last.ckpt")  # everything needed to go on after the last finished epoch
    log = File("log.csv")  # one row per epoch
    oof = File("oof.npz")  # predictions for the fold's validation images
    test = File("test.npz")  # predictions for the test images
    train = File("train.npz")  # predictions for a sample of the images that the fold trained on
    pseudo = File("pseudo.npz")  # what the fold's networks say of images without labels, for self-training
    metrics = File("metrics.json")  # the fold's figures

    @property
    def number(self) -> int:
        """Which fold this is."""
        return int(self.path.name.removeprefix("fold_"))

    def snapshot(self, cycle: int) -> Path:
        """Weights at the end of a cycle (1, 2, …) of the learning rate."""
        return self.path / f"network_{cycle:02d}.ckpt"

    def networks(self, train: configuration.TrainConfig) -> list[Path]:
        """The weights to predict with: one file, or one per snapshot in order; whether they are there or not."""
        if train.keep == "snapshots":
            return [self.snapshot(cycle) for cycle in range(1, train.cycles + 1)]
        return [self.network]

    def finished(self) -> bool:
        """Whether training and prediction of this fold are complete."""
        return self.metrics.is_file()

    def locked(self) -> AbstractContextManager[None]:
        """Hold the fold for one process; the operating system lets go of it when the process dies."""
        return _locked(self.path)


@dataclass(frozen=True)
class RunDir:
    """The files of a run under ``output/runs/<name>`` (or of a blend under ``output/blends/<name>``)."""

    path: Path

    config = File("config.yaml")  # resolved
    provenance = File("provenance.json")  # versions, commit, command and hashes of the data and the folds
    oof = File("oof.npz")  # out-of-fold predictions, each id exactly once
    test = File("test.npz")  # test predictions, the mean over finished folds
    postprocess = File("postprocess.json")  # the decision rule and the scores it was chosen by
    submission = File("submission.csv")  # the file to upload
    pseudo = File("pseudo.json")  # which images without labels the folds have labelled
    solution_score = File("solution_score.json")  # the submission's score, where the dataset has a solution
    borrowed = File("borrowed_rule.json")  # the decision rule of the submission, where it is another run's
    report = File("report.html")  # the page about the run
    image_scores = File("image_scores.csv")  # where it is published: what every out-of-fold image scored

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    def fold(self, number: int) -> FoldDir:
        """The directory of fold ``number``."""
        return FoldDir(self.path / f"fold_{number}")

    def folds(self) -> list[FoldDir]:
        """Folds that were started, in order; a copy such as fold_0.bak is none."""
        found = [FoldDir(path) for path in self.path.glob("fold_*") if re.fullmatch(r"fold_\d+", path.name)]
        return sorted(found, key=lambda fold: fold.number)

    def finished_folds(self) -> list[FoldDir]:
        """Finished folds in order."""
        return [fold for fold in self.folds() if fold.finished()]

    def trained_folds(self) -> list[FoldDir]:
        """Finished folds in order, at least one; InputError where there is none, as in a blend of runs."""
        found = self.finished_folds()
        if not found and self.path.parent.name == "blends":
            raise InputError(f"{self.name} is a blend and has no networks of its own; name one of its members")
        if not found:
            raise InputError(f"run {self.name!r} has no finished fold; go on with scripts/train.py")
        return found

    def read_config(self) -> configuration.Config:
        """The configuration the run was trained with."""
        if not self.config.is_file():
            raise InputError(f"{self.path} holds no config.yaml, so it is no run; known: {_names(self.path.parent)}")
        return configuration.load(self.config)

    def taught_by_all_folds(self) -> str:
        """The run whose labels, averaged over all of its folds, taught this one; "" where it was taught otherwise.

        Such labels hold the masks that validate, so that the run has no honest out-of-fold score, nor has any other
        that learns from it. It is for a final submission.
        """
        # Of some runs only predictions are left.
        return self.read_config().pseudo.teacher_of_all_folds if self.config.is_file() else ""

    def demand_score(self, way_out: str) -> None:
        """Raise InputError for a run without an honest score; ``way_out`` may name its {run} and its {teacher}."""
        teacher = self.taught_by_all_folds()
        if teacher:
            raise InputError(
                f"{self.name} has no out-of-fold score, its labels come from all folds of {teacher}; "
                + way_out.format(run=self.name, teacher=teacher)
            )

    def read_provenance(self) -> dict[str, Any]:
        """Where the run came from."""
        return storage.read_json(self.provenance)

    def members(self) -> list[str]:
        """Names of the runs that a blend is the mean of; empty for a run."""
        return [str(name) for name in self.read_provenance().get("members", [])]

    def locked(self) -> AbstractContextManager[None]:
        """Hold what belongs to no fold alone for one process."""
        return _locked(self.path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{path} is being written by another process; wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()


def run_dir(output_dir: Path, name: str) -> RunDir:
    """The run called ``name``; raises InputError when the name could leave the directory."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise InputError(f"run name {name!r}: use letters, digits, '.', '_', '+' and '-' only")
    return RunDir(output_dir / "runs" / name)


def default_name(dataset: str, experiment: str, holdout: float | None) -> str:
    """The name of a run that was given none."""
    return f"{dataset}-{experiment}" + ("" if holdout is None else f"-holdout{holdout:g}")


def existing_run(output_dir: Path, name: str, published: bool = False) -> RunDir:
    """The run or blend called ``name``; raises InputError naming the known ones.

    published: where there is none, also one of which only the published files are there, with its images' scores.
    """
    run = run_dir(output_dir, name)
    for candidate in (run, RunDir(output_dir / "blends" / name)):
        if candidate.provenance.is_file():
            return candidate
    record = RunDir(output_dir / "published" / name)
    if published and record.image_scores.is_file():
        return record
    known = [found.name for found in all_runs(output_dir)]
    if published:
        known += sorted(path.parent.name for path in (output_dir / "published").glob("*/image_scores.csv"))
    raise InputError(
        configuration.unknown("run", name, dict.fromkeys(known))
        if known
        else f"no run called {name!r}: {output_dir / 'runs'} is empty; train one with scripts/train.py"
    )


def all_runs(output_dir: Path) -> list[RunDir]:
    """Runs, then blends, each in alphabetical order."""
    return [
        RunDir(path.parent)
        for kind in ("runs", "blends")
        for path in sorted((output_dir / kind).glob("*/provenance.json"))
    ]


def _names(directory: Path) -> str:
    return ", ".join(sorted(path.parent.name for path in directory.glob("*/config.yaml"))) or "none"


@dataclass(frozen=True)
class Predictions:
    """Probabilities that carry their ids.

    ids: str (N,), each once. probabilities: uint8 (N, H, W), salt probability in 255ths. fold: int16 (N,), the
    fold that each image validated in, for out-of-fold predictions only. presence: uint8 (N,), probability in 255ths
    that the image holds any salt, for networks with an empty-image head only.
    """

    ids: np.ndarray
    probabilities: np.ndarray
    fold: np.ndarray | None = None
    presence: np.ndarray | None = None

    def __post_init__(self) -> None:
        assert self.probabilities.dtype == np.uint8, self.probabilities.dtype
        assert self.probabilities.ndim == 3, self.probabilities.shape
        assert len(self.ids) == len(self.probabilities)
        assert self.presence is None or (self.presence.dtype == np.uint8 and self.presence.shape == self.ids.shape)
        values, counts = np.unique(self.ids, return_counts=True)
        if (counts > 1).any():
            raise InputError(f"predictions hold id {str(values[counts > 1][0])!r} more than once; predict again")

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all of it, in this order."""
        parts = (self.probabilities, self.fold, self.presence)
        digest = hashlib.sha256("\n".join(self.ids.tolist()).encode())
        for part in (part for part in parts if part is not None):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def of(self, ids: np.ndarray | tuple[str, ...]) -> np.ndarray:
        """Probabilities in the order of ``ids``; raises InputError when one is missing."""
        return self.probabilities[self.rows(ids)]

    def rows(self, ids: np.ndarray | tuple[str, ...]) -> list[int]:
        """Where each of ``ids`` stands; raises InputError when one is missing."""
        row = {id_: i for i, id_ in enumerate(self.ids.tolist())}
        missing = [str(id_) for id_ in ids if str(id_) not in row]
        if missing:
            raise InputError(f"no prediction for {len(missing)} ids, the first {missing[0]!r}; run scripts/predict.py")
        return [row[str(id_)] for id_ in ids]


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write a compressed ``.npz`` atomically."""
    arrays: dict[str, Any] = {"ids": predictions.ids.astype(str), "probabilities": predictions.probabilities}
    if predictions.fold is not None:
        arrays["fold"] = predictions.fold.astype(np.int16)
    if predictions.presence is not None:
        arrays["presence"] = predictions.presence
    storage.write_arrays(path, arrays)


def load_predictions(path: Path) -> Predictions:
    """Read what :func:`save_predictions` wrote; never unpickles."""
    made_by = "scripts/train.py or scripts/predict.py"
    arrays = storage.read_arrays(path, ("ids", "probabilities"), "predictions", made_by)
    try:
        return Predictions(arrays["ids"], arrays["probabilities"], arrays.get("fold"), arrays.get("presence"))
    except InputError:
        raise
    except Exception as error:  # our own assertions, and what numpy says of other dtypes
        raise storage.unreadable(path, "predictions", error) from None


def provenance(**facts: Any) -> dict[str, Any]:
    """Versions, commit, command and time, plus ``facts`` (dataset, hashes, …)."""
    packages = ("torch", "lightning", "segmentation-models-pytorch", "timm", "albumentations", "numpy")
    return {
        "saltseg": __version__,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        **{name: _installed(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "command": _command(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }


def _command() -> str:
    """What was typed, without the folder that the repository happens to lie in."""
    script = Path(sys.argv[0])
    return " ".join(
        ["python", f"scripts/{script.name}" if script.parent.name == "scripts" else script.name, *sys.argv[1:]]
    )


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        root = Path(__file__).parent
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
