"""Pseudo-labels fold by fold, and the rule that keeps scores honest: which network may label images for which.

Fold k of a student is trained on the labels of fold k of its teacher, whose network has not seen the validation images
of fold k. Labels averaged over all folds bring the validation masks into the training; they raised the out-of-fold
score by 0.005 without a gain on the test set (2nd-place team's logs, 2018). ``pseudo.all_folds`` uses them all the
same, for a final submission: such a run has no out-of-fold predictions and no score, and is no teacher. The validation
loss in its log is contaminated and chooses nothing.
"""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import runs, schemas
from saltseg.config import PseudoLabels
from saltseg.data import unlabeled
from saltseg.data.competition import Images
from saltseg.errors import InputError
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.predictions import Predictions, load_predictions, mean_predictions
from saltseg.provenance import LEAKAGE
from saltseg.runs import FoldDir, RunDir


@dataclass(frozen=True)
class PseudoLabeledImages(Images):
    """Images without labels, and what a teacher's fold predicts of them.

    Attributes:
        masks: uint8 (N, 101, 101): {0, 1} for hard labels, 255ths for soft ones, all
            `saltseg.data.dataset.UNLABELED` with a mean teacher.
        checksums: of the teachers' files of labels, see `checksum`.
    """

    masks: np.ndarray
    checksums: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids, pixels and labels."""
        return hashlib.sha256(unlabeled.fingerprint(self).encode() + self.masks.tobytes()).hexdigest()


def checksum(number: int, images_hash: str, labels: Predictions) -> str:
    """SHA-256 (hex) of the labels that fold ``number`` predicts for images with that fingerprint."""
    ids = "\n".join(labels.ids.tolist())
    digest = hashlib.sha256(f"{number}\n{images_hash}\n{ids}\n".encode())
    digest.update(labels.probabilities.tobytes())
    return digest.hexdigest()


def intact(fold: FoldDir, record: Mapping[str, Any]) -> Predictions | None:
    """A fold's labels, if they are those that ``record`` (pseudo.json) has the checksum of."""
    if not fold.pseudo.is_file():
        return None
    labels = load_predictions(fold.pseudo)
    recorded = record.get("checksums", {}).get(str(fold.number))
    return labels if recorded == checksum(fold.number, record["hash"], labels) else None


def find_teachers(output_dir: Path, name: str, student: Mapping[str, Any]) -> list[RunDir]:
    """The run ``name``, or the members of that blend, if fold k of each may be used to train fold k of a student.

    All members count equally: the weights of a blend may be fitted on the validation masks.

    Args:
        output_dir: where runs and blends are.
        name: of the run or blend.
        student: its dataset_hash and folds_hash.

    Raises:
        InputError: a teacher has other data or folds than the student, or was trained on labels of all folds. Then its
            networks may have seen the student's validation images.
    """
    teachers = runs.leaf_runs(output_dir, name)
    for teacher in teachers:
        teacher.require_oof_score(LEAKAGE)
        recorded = teacher.read_provenance()
        for key, what in (("dataset_hash", "data"), ("folds_hash", "folds")):
            if recorded[key] != student[key]:
                raise InputError(
                    f"{teacher.name} was trained on other {what}: its training images may hold this run's validation "
                    "images; train a teacher on the same data and folds"
                )
    return teachers


def finished_fold(run: RunDir, number: int) -> FoldDir:
    """Fold ``number`` of a run; InputError if it is not finished."""
    require_finished([run], [number])
    return run.fold(number)


def require_finished(runs: Sequence[RunDir], numbers: Sequence[int]) -> None:
    """Raise InputError, with the commands to train them, unless the runs have finished these folds."""
    problems = []
    for run in runs:
        if missing := [number for number in numbers if not run.fold(number).finished()]:
            words = ["saltseg", "train", str(run.config), "--data", run.read_provenance()["dataset"]]
            command = shlex.join([*words, "--name", run.name, "--folds", ",".join(map(str, missing))])
            problems.append(f"{run.name} has not finished {_named(missing)}; train it first: {command}")
    if problems:
        raise InputError("; ".join(problems))


def require_labeled(teachers: Sequence[RunDir], numbers: Sequence[int]) -> None:
    """Raise InputError, with the commands to label them, unless these folds of the teachers have labeled images.

    Whether the labels are intact, `of_fold` finds out, which has to read them.
    """
    require_finished(teachers, numbers)
    problems = []
    for run in teachers:
        checksums = schemas.read(run.pseudo).get("checksums", {}) if run.pseudo.is_file() else {}
        if missing := [n for n in numbers if str(n) not in checksums or not run.fold(n).pseudo.is_file()]:
            problems.append(_not_labeled(run, missing))
    if problems:
        raise InputError("; ".join(problems))


def _not_labeled(run: RunDir, numbers: Sequence[int]) -> str:
    record = schemas.read(run.pseudo) if run.pseudo.is_file() else {"folder": "FOLDER"}
    words = ["saltseg", "pseudo-label", run.name, "--images", record["folder"]]
    if limit := record.get("limit"):
        words += ["--limit", str(limit)]
    command = shlex.join([*words, "--folds", ",".join(map(str, numbers))])
    return f"{run.name} has labeled no images for {_named(numbers)}; run {command}"


def _named(numbers: Sequence[int]) -> str:
    return f"fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def of_fold(
    teachers: Sequence[RunDir],
    number: int,
    config: PseudoLabels,
    labeled: np.ndarray,
    test: np.ndarray,
    every: Sequence[int] = (),
) -> PseudoLabeledImages:
    """The images and pseudo-labels that fold ``number`` of a student is trained on.

    Args:
        teachers: see `find_teachers`; the labels are the mean over them.
        number: of the fold.
        config: of the student.
        labeled: uint8 (N, 101, 101), images to leave out, see `saltseg.data.unlabeled.exclude_known`.
        test: likewise, of the test set.
        every: all folds of the table, for ``config.all_folds``: the labels are the mean over them, too.

    Raises:
        InputError: a fold is not finished or has labeled no images, its labels have changed since they were recorded,
            the teachers labeled different images, or the images have changed.
    """
    assert every or not config.all_folds
    numbers = every if config.all_folds else [number]
    folds = [(run, finished_fold(run, k)) for run in teachers for k in numbers]
    records, labels = zip(*(_record(run, fold) for run, fold in folds), strict=True)
    folder = Path(records[0]["folder"])
    images = unlabeled.read(folder, records[0].get("limit"))
    fingerprint = unlabeled.fingerprint(images)
    for (run, _), record in zip(folds, records, strict=True):
        if record["hash"] != fingerprint:
            raise InputError(
                f"{folder} has changed since {run.name} labeled it, or that labeled another folder; "
                "restore it or label it again"
            )
    allowed = unlabeled.exclude_known(images, labeled, test, config.transduction)
    mean = mean_predictions(labels).select(allowed.ids)
    kept = most_confident(mean, config.drop_fraction)
    masks = THRESHOLD_HALF.apply(mean[kept]) if config.labels == "hard" else mean[kept]
    checksums = tuple(record["checksums"][str(fold.number)] for (_, fold), record in zip(folds, records, strict=True))
    return PseudoLabeledImages(tuple(allowed.ids[i] for i in kept), allowed.images[kept], masks, checksums)


def most_confident(labels: np.ndarray, drop_fraction: float) -> np.ndarray:
    """Indices of the tiles that are left when the least confident ones are dropped.

    A tile's confidence is the mean of |2 p - 1| over its pixels.

    Args:
        labels: uint8 (N, H, W), probabilities p in 255ths.
        drop_fraction: share of the tiles to drop.

    Returns:
        int (M,), ascending, at least one.
    """
    confidence = np.array([np.abs(2.0 * image - 255).mean() for image in labels])
    return np.sort(np.argsort(-confidence, kind="stable")[: max(1, round((1 - drop_fraction) * len(confidence)))])


def require_same_labels(student: RunDir, teachers: Sequence[RunDir], every: Sequence[int] = ()) -> None:
    """Raise InputError if a finished fold of the student was trained on other labels than its teachers have now.

    Where labels are gone or older than checksums, nothing can be compared, and that is no error.

    Args:
        student: an existing run, or none yet.
        teachers: see `find_teachers`.
        every: all folds of the table, for a student trained on the labels of all folds.
    """
    now = [schemas.read(run.pseudo).get("checksums", {}) for run in teachers if run.pseudo.is_file()]
    if len(now) < len(teachers):
        return
    for fold in student.finished_folds():
        used = schemas.read(fold.metrics).get("pseudo_checksums", [])
        current = [checksums.get(str(number)) for checksums in now for number in (every or [fold.number])]
        if used and any(current) and used != current:
            names = " and ".join(run.name for run in teachers)
            raise InputError(
                f"fold {fold.number} of {student.name} was trained on other labels than {names} has now; "
                f"remove {student.path}"
            )


def _record(run: RunDir, fold: FoldDir) -> tuple[dict[str, Any], Predictions]:
    """A run's pseudo.json, and a fold's labels; InputError if there are none, or others than recorded."""
    if not (fold.pseudo.is_file() and run.pseudo.is_file()):
        raise InputError(_not_labeled(run, [fold.number]))
    record: dict[str, Any] = schemas.read(run.pseudo)
    labels = intact(fold, record)
    if labels is None:
        raise InputError(
            f"{fold.pseudo} is not what fold {fold.number} of {run.name} predicted, or older than checksums; "
            f"run saltseg pseudo-label {run.name} again"
        )
    return record, labels
