"""The files of a run under ``output/``, its lock, and runs by name. Steps of the pipeline exchange files alone."""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saltseg import config as configuration
from saltseg import io, schemas
from saltseg.errors import InputError, unknown_name


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
    last = File("last.ckpt")  # the state of the training after the last finished epoch, to resume from
    log = File("log.csv")  # one row per epoch
    oof = File("oof.npz")  # predictions for the fold's validation images
    test = File("test.npz")  # predictions for the test images
    train = File("train.npz")  # predictions for a sample of the images that the fold trained on
    pseudo = File("pseudo.npz")  # predictions for images without labels, for self-training
    metrics = File("metrics.json")  # the fold's metrics

    @property
    def number(self) -> int:
        return int(self.path.name.removeprefix("fold_"))

    def snapshot(self, cycle: int) -> Path:
        """Weights at the end of a cycle (1, 2, …) of the learning rate."""
        return self.path / f"network_{cycle:02d}.ckpt"

    def networks(self, train: configuration.TrainConfig) -> list[Path]:
        """Paths of the weights to predict with, present or not: one file, or one per snapshot in order."""
        if train.checkpoint == "snapshots":
            return [self.snapshot(cycle) for cycle in range(1, len(train.snapshot_epochs) + 1)]
        return [self.network]

    def finished(self) -> bool:
        """Whether training and prediction of this fold are complete."""
        return self.metrics.is_file()

    def locked(self) -> AbstractContextManager[None]:
        """Hold the fold for one process, see `io.locked`."""
        return io.locked(self.path / ".lock", self.path)


@dataclass(frozen=True)
class RunDir:
    """The files of a run under ``output/runs/<name>`` (or of a blend under ``output/blends/<name>``)."""

    path: Path

    config = File("config.yaml")  # resolved
    provenance = File("provenance.json")  # versions, commit, command and hashes of the data and the folds
    dataset = File("dataset.json")  # what the dataset consisted of, see `saltseg.data.competition.manifest`
    oof = File("oof.npz")  # out-of-fold predictions, each id exactly once
    test = File("test.npz")  # test predictions, the mean over finished folds
    postprocess = File("postprocess.json")  # the tuned post-processing and the scores it was chosen by
    submission = File("submission.csv")  # the file to upload
    pseudo = File("pseudo.json")  # which images without labels the folds have labeled
    solution_score = File("solution_score.json")  # the submission's score, where the dataset has a solution
    # the post-processing of the submission, where it is another run's
    postprocessing_source = File("postprocessing_source.json")
    report = File("report.html")  # the page about the run
    image_scores = File("image_scores.csv")  # of a published run: the score of every out-of-fold image

    @property
    def name(self) -> str:
        return self.path.name

    def fold(self, number: int) -> FoldDir:
        return FoldDir(self.path / f"fold_{number}")

    def folds(self) -> list[FoldDir]:
        """Folds that were started, in order; a copy such as fold_0.bak is none."""
        folds = [FoldDir(path) for path in self.path.glob("fold_*") if re.fullmatch(r"fold_[0-9]{1,4}", path.name)]
        return sorted(folds, key=lambda fold: fold.number)

    def finished_folds(self) -> list[FoldDir]:
        """Those that are trained and predicted, in order."""
        return [fold for fold in self.folds() if fold.finished()]

    def trained_folds(self) -> list[FoldDir]:
        """Finished folds in order, at least one; InputError where there is none, as in a blend of runs."""
        folds = self.finished_folds()
        if not folds and self.is_blend:
            raise InputError(f"{self.name} is a blend and has no networks of its own; name one of its members")
        if not folds:
            raise InputError(f"run {self.name!r} has no finished fold; continue it with saltseg train")
        return folds

    def read_config(self) -> configuration.Config:
        """The configuration the run was trained with."""
        if not self.config.is_file():
            known = ", ".join(_folders_with(self.path.parent, "config.yaml")) or "none"
            raise InputError(f"{self.path} holds no config.yaml, so it is no run; known: {known}")
        return configuration.load(self.config)

    def pseudo_labels_from_all_folds(self) -> str:
        """The run whose pseudo-labels, averaged over all of its folds, this run was trained on; "" for none.

        Such labels contain the validation masks: neither the run nor one trained on its predictions has a valid
        out-of-fold score. It is for a final submission.
        """
        # Only predictions remain of some runs.
        return self.read_config().pseudo_labels_from_all_folds if self.config.is_file() else ""

    def require_oof_score(self, way_out: str) -> None:
        """Raise InputError for a run without an out-of-fold score; ``way_out`` may name its {run} and its {teacher}."""
        teacher = self.pseudo_labels_from_all_folds()
        if teacher:
            raise InputError(
                f"{self.name} has no out-of-fold score, its labels come from all folds of {teacher}; "
                + way_out.format(run=self.name, teacher=teacher)
            )

    def read_provenance(self) -> dict[str, Any]:
        """Versions, command and hashes of what the run was made from, see `saltseg.provenance`."""
        return schemas.read(self.provenance)

    @property
    def is_blend(self) -> bool:
        """Whether it is the mean of other runs."""
        return self.path.parent.name == "blends"

    def members(self) -> list[str]:
        """Names of the runs that a blend averages; empty for a run."""
        return list(self.read_provenance().get("members", []))

    def drop_results(self) -> None:
        """Remove the results of the run as a whole, which are of other networks than now; those of its folds stay."""
        scores = (self.image_scores, self.solution_score, *self.path.glob("on_*.json"))
        tuning = (self.postprocess, self.postprocessing_source, self.path / "threshold_curve.png")
        for path in (*scores, *tuning, self.report, self.submission, self.test, self.oof):
            path.unlink(missing_ok=True)

    def locked(self) -> AbstractContextManager[None]:
        """Hold for one process what belongs to the run as a whole, see `io.locked`."""
        return io.locked(self.path / ".lock", self.path)


def run_dir(output_dir: Path, name: str) -> RunDir:
    """The run called ``name``; raises InputError when the name could leave the directory."""
    return RunDir(output_dir / "runs" / check_name(name))


def check_name(name: str) -> str:
    """The name of a run or a model; raises InputError when it could leave its directory."""
    if not re.fullmatch(schemas.NAME, name):
        raise InputError(f"name {name!r}: use letters, digits, '.', '_', '+' and '-' only, a letter or digit first")
    return name


def default_name(dataset: str, experiment: str, holdout: float | None) -> str:
    """The name of a run that the user did not name."""
    return f"{dataset}-{experiment}" + ("" if holdout is None else f"-holdout{holdout:g}")


def existing_run(output_dir: Path, name: str, published: bool = False) -> RunDir:
    """The run or blend called ``name``; raises InputError naming the known ones.

    published: accept a run of which only the published files are left, as long as its images' scores are among them.
    """
    run = run_dir(output_dir, name)
    for candidate in (run, RunDir(output_dir / "blends" / name)):
        if candidate.provenance.is_file():
            return candidate
    record = RunDir(output_dir / "published" / name)
    if published and record.image_scores.is_file():
        return record
    known = [other.name for other in all_runs(output_dir)]
    if published:
        known += _folders_with(output_dir / "published", "image_scores.csv")
    raise InputError(
        unknown_name("run", name, dict.fromkeys(known))
        if known
        else f"no run called {name!r}: {output_dir / 'runs'} is empty; train one with saltseg train"
    )


def leaf_runs(output_dir: Path, name: str, inside: tuple[str, ...] = ()) -> list[RunDir]:
    """The run ``name``, or the runs that the blend ``name`` averages, in order; members that are blends are followed.

    Raises:
        InputError: there is no such run, or a blend contains itself. inside: the blends that this one is a member of.
    """
    if name in inside:
        raise InputError(f"blend {name} contains itself ({' > '.join([*inside, name])}); remove it and blend again")
    run = existing_run(output_dir, name)
    return [leaf for member in run.members() for leaf in leaf_runs(output_dir, member, (*inside, name))] or [run]


def all_runs(output_dir: Path) -> list[RunDir]:
    """Runs, then blends, each in alphabetical order."""
    return [
        RunDir(output_dir / kind / name)
        for kind in ("runs", "blends")
        for name in _folders_with(output_dir / kind, "provenance.json")
    ]


def _folders_with(directory: Path, file: str) -> list[str]:
    """Names of the folders that hold such a file; hidden ones are those that `io.atomic_dir` has not finished."""
    return sorted(path.parent.name for path in directory.glob(f"[!.]*/{file}") if path.is_file())
