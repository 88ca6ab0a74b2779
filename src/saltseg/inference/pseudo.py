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
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import blend, predict
from saltseg.runs import FoldDir, RunDir

LEAKS = "what it learnt holds the masks that validate; take {teacher} instead"


@dataclass(frozen=True)
class Pseudo:
    """Images without labels and what a teacher's fold made of them.

    images: uint8 (N, 101, 101). masks: uint8 (N, 101, 101), {0, 1} for hard labels, 255ths for soft ones; all
    `saltseg.data.dataset.UNKNOWN` where the network in training is its own teacher.
    """

    ids: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray

    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids, pixels and labels: says of a trained fold what it learnt from."""
        images = competition.Images(self.ids, self.images)
        return hashlib.sha256(fingerprint(images).encode() + self.masks.tobytes()).hexdigest()


def label(run: RunDir, folder: Path, limit: int | None = None) -> int:
    """Have every finished fold predict the images of ``folder``: fold_K/pseudo.npz, then pseudo.json; returns how many.

    limit: see `read`. Folds that have done so already are skipped. Raises InputError for a folder whose images are no
    tiles, and for a run that may not teach.
    """
    finished = run.trained_folds()
    run.demand_score(LEAKS)
    images = read(folder, limit)
    settings = run.read_config()
    if run.pseudo.is_file() and storage.read_json(run.pseudo)["hash"] != fingerprint(images):
        raise InputError(f"{run.name} has labelled other images; remove {run.pseudo} and its fold_*/pseudo.npz first")
    record = {"folder": str(folder), "limit": limit, "n": len(images.ids), "hash": fingerprint(images)}
    storage.write_json(run.pseudo, record)
    for fold in finished:
        if fold.pseudo.is_file():
            continue
        networks = predict.load_networks(settings, fold)
        with tqdm(desc=f"fold {fold.number}: labelling", total=len(images.ids), unit="img", mininterval=1) as bar:
            found = predict.predictions(networks, images.ids, images.images, settings, progress=bar.update)
        runs.save_predictions(fold.pseudo, found)
    return len(images.ids)


def read(folder: Path, limit: int | None = None) -> competition.Images:
    """The tiles of a folder, ids are file names; InputError where one is not of the competition's size.

    limit: only the first so many by file name, or all where there are fewer.
    """
    found = competition.read_folder(folder, limit)
    for id_, image in found:
        if image.shape != competition.SHAPE:
            size = "x".join(map(str, image.shape))
            raise InputError(f"{folder / id_}: {size} pixels, not 101x101; cut tiles of that size")
    return competition.Images(tuple(id_ for id_, _ in found), np.stack([image for _, image in found]))


def own_images(config: PseudoConfig) -> competition.Images:
    """The tiles that a network which is its own teacher learns from, see `read`."""
    return read(Path(config.images), config.limit or None)


def fingerprint(images: competition.Images) -> str:
    """SHA-256 (hex) over ids and pixels."""
    digest = hashlib.sha256("\n".join(images.ids).encode())
    digest.update(images.images.tobytes())
    return digest.hexdigest()


def teacher_run(output_dir: Path, name: str, facts: Mapping[str, Any]) -> RunDir:
    """The run ``name``, fold k of which may teach fold k of a run with these ``facts``.

    facts: dataset_hash and folds_hash of the student. Raises InputError unless both are the teacher's, and where the
    teacher learnt from all folds of its own: its networks could have seen the images that the student is judged by.
    """
    teacher = runs.existing_run(output_dir, name)
    teacher.demand_score(LEAKS)
    known = teacher.read_provenance()
    for key, what in (("dataset_hash", "data"), ("folds_hash", "folds")):
        if known[key] != facts[key]:
            raise InputError(
                f"{name} was trained on other {what}: what it learnt may hold this run's validation images; "
                "train a teacher on the same data and folds"
            )
    return teacher


def finished_fold(run: RunDir, number: int) -> FoldDir:
    """Fold ``number`` of a run; InputError where it is not finished."""
    fold = run.fold(number)
    if not fold.finished():
        raise InputError(f"{run.name} has not finished fold {number}; train it first with scripts/train.py")
    return fold


def of_fold(
    run: RunDir,
    number: int,
    config: PseudoConfig,
    labelled: np.ndarray,
    test: np.ndarray,
    every: Sequence[int] = (),
) -> Pseudo:
    """What fold ``number`` learns from without labels: the labels that the teacher's fold is surest of.

    labelled, test: see `unlabelled`, which says what images are left out. every: all folds of the table; with
    ``config.all_folds`` the labels are the mean of what these say, and the student has no honest score.
    """
    assert every or not config.all_folds
    teachers = [finished_fold(run, k) for k in (every if config.all_folds else [number])]
    for teacher in teachers:
        if not (teacher.pseudo.is_file() and run.pseudo.is_file()):
            raise InputError(
                f"{run.name} has labelled no images for fold {teacher.number}; run scripts/pseudo_label.py {run.name}"
            )
    recorded = storage.read_json(run.pseudo)
    images = read(Path(recorded["folder"]), recorded.get("limit"))
    if fingerprint(images) != recorded["hash"]:
        raise InputError(f"{recorded['folder']} has changed since {run.name} labelled it; restore it or label anew")
    allowed = unlabelled(images, config, labelled, test)
    found = blend.mean([runs.load_predictions(teacher.pseudo) for teacher in teachers]).of(allowed.ids)
    sure = np.array([np.abs(2.0 * image - 255).mean() for image in found])
    kept = np.sort(np.argsort(-sure, kind="stable")[: max(1, round((1 - config.confidence) * len(sure)))])
    masks = HALF.apply(found[kept]) if config.labels == "hard" else found[kept]
    return Pseudo(tuple(allowed.ids[i] for i in kept), allowed.images[kept], masks)


def unlabelled(
    images: competition.Images, config: PseudoConfig, labelled: np.ndarray, test: np.ndarray
) -> competition.Images:
    """``images`` but those whose pixels are one of ``labelled`` or ``test``, both uint8 (N, 101, 101).

    So no validation or test image comes in by another name (``config.transduction`` lets the test set in). Constant
    tiles stay: they are many, and alike. Raises InputError when no other image is left.
    """
    known = {_key(image) for image in (*labelled, *(test[:0] if config.transduction else test))}
    kept = [i for i, image in enumerate(images.images) if np.ptp(image) == 0 or _key(image) not in known]
    if all(np.ptp(images.images[i]) == 0 for i in kept):
        raise InputError(
            "all of the images are labelled or test images, or of one grey value throughout; give others, or --set "
            "pseudo.transduction=true for the test set's"
        )
    return competition.Images(tuple(images.ids[i] for i in kept), images.images[kept])


def _key(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
