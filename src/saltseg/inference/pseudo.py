"""Labels for images that have none, fold by fold, and the one rule that keeps scores honest: who may learn from whom.

Fold k of a student learns from the labels that fold k of its teacher made, and from no other's: that network never saw
the images that validate in fold k. Labels averaged over all folds carry the validation masks into the training; they
inflate the out-of-fold score by 0.005 (2nd-place team's logs, 2018). ``pseudo.all_folds`` takes them all the same, for
a final submission: such a run has no out-of-fold predictions, no score, and teaches nobody. Only the validation loss in
its log remains, which is contaminated and chooses nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg import runs, storage
from saltseg.config import PseudoConfig
from saltseg.core.postprocess import HALF
from saltseg.data import competition, unlabelled
from saltseg.errors import InputError
from saltseg.inference import blend, predict
from saltseg.inference.lineage import LEAKS
from saltseg.runs import FoldDir, RunDir


@dataclass(frozen=True)
class Pseudo:
    """Images without labels and what a teacher's fold made of them.

    images: uint8 (N, 101, 101). masks: uint8 (N, 101, 101), {0, 1} for hard labels, 255ths for soft ones; all
    `saltseg.data.dataset.UNKNOWN` where the network in training is its own teacher. checksums: of the files of labels
    that the masks are from, see `checksum`.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray
    checksums: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids, pixels and labels: says of a trained fold what it learnt from."""
        images = competition.Images(self.ids, self.images)
        return hashlib.sha256(unlabelled.fingerprint(images).encode() + self.masks.tobytes()).hexdigest()


def label(run: RunDir, folder: Path, limit: int | None = None) -> int:
    """Have every finished fold predict the images of ``folder`` into fold_K/pseudo.npz; returns how many.

    limit: see `saltseg.data.unlabelled.read`. pseudo.json says what images they are and holds a checksum of each fold's
    labels, so that no others pass for them by mistake. Folds that have done so already are skipped. Raises InputError
    for a folder whose images are no tiles, and for a run that may not teach.
    """
    finished = run.trained_folds()
    run.demand_score(LEAKS)
    images = unlabelled.read(folder, limit)
    settings = run.read_config()
    record: dict[str, Any] = {"folder": str(folder), "limit": limit, "n": len(images.ids)}
    record |= {"hash": unlabelled.fingerprint(images), "checksums": {}}
    with run.locked():
        if run.pseudo.is_file():
            before = storage.read_json(run.pseudo)
            if before["hash"] != record["hash"]:
                raise InputError(
                    f"{run.name} has labelled other images; remove {run.pseudo} and its fold_*/pseudo.npz first"
                )
            record["checksums"] = before.get("checksums", {})
        storage.write_json(run.pseudo, record)  # the folder may have moved
        for fold in finished:
            if _intact(fold, record) is not None:
                continue
            networks = predict.load_networks(settings, fold)
            with tqdm(desc=f"fold {fold.number}: labelling", total=len(images.ids), unit="img", mininterval=1) as bar:
                found = predict.predictions(networks, images.ids, images.images, settings, progress=bar.update)
            runs.save_predictions(fold.pseudo, found)
            record["checksums"][str(fold.number)] = checksum(fold.number, record["hash"], found)
            storage.write_json(run.pseudo, record)
    return len(images.ids)


def checksum(number: int, images_hash: str, labels: runs.Predictions) -> str:
    """SHA-256 (hex) of what fold ``number`` says of images with that fingerprint."""
    ids = "\n".join(labels.ids.tolist())
    digest = hashlib.sha256(f"{number}\n{images_hash}\n{ids}\n".encode())
    digest.update(labels.probabilities.tobytes())
    return digest.hexdigest()


def _intact(fold: FoldDir, record: Mapping[str, Any]) -> runs.Predictions | None:
    """The labels that pseudo.json tells of; None where there are none, or others."""
    if not fold.pseudo.is_file():
        return None
    found = runs.load_predictions(fold.pseudo)
    known = record.get("checksums", {}).get(str(fold.number))
    return found if known == checksum(fold.number, record["hash"], found) else None


def members(output_dir: Path, name: str) -> list[RunDir]:
    """The run ``name``, or those that the blend ``name`` is the mean of.

    All count equally: weights of a blend may be fitted, and were so on the masks that validate.
    """
    run = runs.existing_run(output_dir, name)
    return [one for member in run.members() for one in members(output_dir, member)] or [run]


def teachers(output_dir: Path, name: str, facts: Mapping[str, Any]) -> list[RunDir]:
    """The run ``name``, or the members of that blend, fold k of which may teach fold k of a run with these ``facts``.

    facts: dataset_hash and folds_hash of the student. Raises InputError unless both are the teacher's, and where the
    teacher learnt from all folds of its own: its networks could have seen the images that the student is judged by.
    """
    found = members(output_dir, name)
    for run in found:
        _demand_fit(run, facts)
    return found


def _demand_fit(teacher: RunDir, facts: Mapping[str, Any]) -> None:
    teacher.demand_score(LEAKS)
    known = teacher.read_provenance()
    for key, what in (("dataset_hash", "data"), ("folds_hash", "folds")):
        if known[key] != facts[key]:
            raise InputError(
                f"{teacher.name} was trained on other {what}: what it learnt may hold this run's validation images; "
                "train a teacher on the same data and folds"
            )


def finished_fold(run: RunDir, number: int) -> FoldDir:
    """Fold ``number`` of a run; InputError where it is not finished."""
    fold = run.fold(number)
    if not fold.finished():
        raise InputError(f"{run.name} has not finished fold {number}; train it first with scripts/train.py")
    return fold


def of_fold(
    taught_by: Sequence[RunDir],
    number: int,
    config: PseudoConfig,
    labelled: np.ndarray,
    test: np.ndarray,
    every: Sequence[int] = (),
) -> Pseudo:
    """What fold ``number`` learns from without labels: the labels that the teachers' fold is surest of.

    taught_by: see `teachers`; of several the mean is taken. labelled, test: what is left out, see
    `saltseg.data.unlabelled.without_known`. every: all folds of the table; with ``config.all_folds`` the labels are the
    mean of what these say, and the student has no honest score.
    """
    assert every or not config.all_folds
    folds = [(run, finished_fold(run, k)) for run in taught_by for k in (every if config.all_folds else [number])]
    records = [_record(run, fold) for run, fold in folds]
    images = unlabelled.read(Path(records[0][0]["folder"]), records[0][0].get("limit"))
    now = unlabelled.fingerprint(images)
    for (run, _), (record, _) in zip(folds, records, strict=True):
        if record["hash"] != now:
            raise InputError(
                f"{records[0][0]['folder']} has changed since {run.name} labelled it, or that labelled another folder; "
                "restore it or label anew"
            )
    allowed = unlabelled.without_known(images, config, labelled, test)
    found = blend.mean([labels for _, labels in records]).of(allowed.ids)
    kept = surest(found, config.confidence)
    masks = HALF.apply(found[kept]) if config.labels == "hard" else found[kept]
    sums = tuple(record["checksums"][str(fold.number)] for (_, fold), (record, _) in zip(folds, records, strict=True))
    return Pseudo(tuple(allowed.ids[i] for i in kept), allowed.images[kept], masks, sums)


def surest(labels: np.ndarray, confidence: float) -> np.ndarray:
    """Which tiles are left when the share ``confidence`` of them is left out that the labels are least sure of.

    labels: uint8 (N, H, W), 255ths. Sure is a tile with a large mean |2 p - 1| over its pixels. Returns positions int
    (M,), ascending, at least one.
    """
    sure = np.array([np.abs(2.0 * image - 255).mean() for image in labels])
    return np.sort(np.argsort(-sure, kind="stable")[: max(1, round((1 - confidence) * len(sure)))])


def empty_shares(run: RunDir) -> tuple[float, float]:
    """Share of tiles without salt among those that a run has labelled, and among the surest half, mean over folds."""
    shares = []
    for fold in run.finished_folds():
        labels = runs.load_predictions(fold.pseudo).probabilities
        empty = HALF.apply(labels).max(axis=(1, 2)) == 0
        shares.append((empty.mean(), empty[surest(labels, 0.5)].mean()))
    everything, half = np.mean(shares, axis=0)
    return float(everything), float(half)


def demand_same_labels(student: RunDir, taught_by: Sequence[RunDir], every: Sequence[int] = ()) -> None:
    """Raise InputError where a finished fold of the student learnt from other labels than its teachers give now.

    every: all folds of the table, for a student that learns from the labels of all folds. What is not known, since a
    teacher's labels are gone or were made before there were checksums, is no difference.
    """
    now = [(run, storage.read_json(run.pseudo).get("checksums", {})) for run in taught_by if run.pseudo.is_file()]
    if len(now) < len(taught_by):
        return
    for fold in student.finished_folds():
        learnt = storage.read_json(fold.metrics).get("pseudo_checksums", [])
        given = [known.get(str(number)) for _, known in now for number in (every or [fold.number])]
        if learnt and any(given) and learnt != given:
            names = " and ".join(run.name for run in taught_by)
            raise InputError(
                f"fold {fold.number} of {student.name} learnt from other labels than {names} gives now; "
                f"remove {student.path}"
            )


def _record(run: RunDir, fold: FoldDir) -> tuple[dict[str, Any], runs.Predictions]:
    """What pseudo.json tells, and a fold's labels; InputError where there are none, or others than it tells of."""
    if not (fold.pseudo.is_file() and run.pseudo.is_file()):
        raise InputError(
            f"{run.name} has labelled no images for fold {fold.number}; run scripts/pseudo_label.py {run.name}"
        )
    record: dict[str, Any] = storage.read_json(run.pseudo)
    labels = _intact(fold, record)
    if labels is None:
        raise InputError(
            f"{fold.pseudo} is not what fold {fold.number} of {run.name} said, or older than checksums; "
            f"run scripts/pseudo_label.py {run.name} again"
        )
    return record, labels
