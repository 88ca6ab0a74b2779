"""Train a run: check the settings, make the folds, create the run, train the folds asked for."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from saltseg import config, io, provenance
from saltseg.config import Config, MeanTeacher
from saltseg.data import competition, folds, unlabeled
from saltseg.data.competition import Images, Labeled
from saltseg.data.dataset import UNLABELED
from saltseg.errors import InputError
from saltseg.runs import FoldDir, RunDir
from saltseg.training import pseudo_labels
from saltseg.training.pseudo_labels import PseudoLabeledImages


@dataclass(frozen=True)
class TrainingJob:
    """Folds of a run to train.

    Attributes:
        settings: of the run.
        dataset: name of a dataset under ``input_dir``.
        run: where the run is, or will be.
        input_dir: where datasets are.
        output_dir: where fold tables and runs are.
        fold_numbers: the folds to train; None: all.
        overwrite: train finished folds again.
        devices: how many train one fold together, see `saltseg.training.trainer.fit`; with several, give one fold in a
            process.
        predict_test: False: leave the test images out, for runs of which only out-of-fold predictions are needed.
    """

    settings: Config
    dataset: str
    run: RunDir
    input_dir: Path
    output_dir: Path
    fold_numbers: Sequence[int] | None = None
    overwrite: bool = False
    devices: int = 1
    predict_test: bool = True

    @property
    def root(self) -> Path:
        """The folder of the dataset; raises InputError where there is none."""
        return competition.dataset_root(self.input_dir, self.dataset)

    def fold_table(self) -> folds.Folds:
        """The fold table of the dataset, created where it is not there yet."""
        root, scheme = self.root, self.settings.folds
        path, ids = folds.table_path(self.output_dir, self.dataset, scheme), competition.train_ids(root)
        if path.is_file():
            return folds.read_table(path, ids)
        labeled, sections = competition.read_train(root), competition.read_sections(root)
        return folds.load_or_create(path, scheme, labeled.ids, labeled.images, labeled.masks, sections)


def prepare_run(job: TrainingJob) -> tuple[list[int], list[int]]:
    """Check everything that can be checked before hours of training, and create the run if there is none.

    Returns:
        The folds to train, and those that are finished and not to be overwritten.

    Raises:
        InputError: settings that cannot work or would leak labels; a run that it learns from lacks one of the folds; or
            the run exists with another configuration, other data, other folds or another number of devices, which would
            change batch norm.
    """
    settings, run, root, table = job.settings, job.run, job.root, job.fold_table()
    numbers = table.numbers if job.fold_numbers is None else list(dict.fromkeys(job.fold_numbers))
    for number in numbers:
        table.split(number, settings.folds)
    skipped = [number for number in numbers if run.fold(number).finished() and not job.overwrite]
    numbers = [number for number in numbers if number not in skipped]
    if not competition.test_ids(root):
        raise InputError(f"{root / 'sample_submission.csv'} lists no image to predict; give the dataset one at least")
    inputs = {
        "dataset": job.dataset,
        "dataset_hash": competition.fingerprint(root),
        "folds_hash": table.digest,
        "synthetic": competition.is_synthetic(root),
        "devices": job.devices,
    }
    if settings.teacher:
        teachers = pseudo_labels.find_teachers(job.output_dir, settings.teacher, inputs)
        every = table.numbers if settings.pseudo_labels_from_all_folds else ()
        if not job.overwrite:
            pseudo_labels.require_same_labels(run, teachers, every)
        pseudo_labels.require_labeled(teachers, every if every and numbers else numbers)
    if start := _start_run(job, inputs):
        from saltseg.models import checkpoints

        pseudo_labels.require_finished([start], numbers)
        for number in numbers:
            checkpoints.require_weights(start.fold(number).networks(start.read_config().train)[-1])
    if unknown := provenance.check_no_leakage(settings, root):
        sys.stderr.write(
            f"warning: nobody can tell whether {', '.join(unknown)} learned from images that validate here: the "
            f"dataset of that training is not in {job.input_dir}, or has changed; the score may be too high\n"
        )
    if isinstance(settings.pseudo, MeanTeacher):
        inputs["unlabeled_hash"] = unlabeled.fingerprint(unlabeled.mean_teacher_images(settings.pseudo))
    if not run.provenance.is_file():
        _create(job, inputs)
    _require_same(job, inputs)
    return numbers, skipped


def _require_same(job: TrainingJob, inputs: dict[str, Any]) -> None:
    run = job.run
    before = {"devices": 1} | run.read_provenance()
    changed = config.differences(run.read_config(), job.settings)
    changed += [f"{key}: changed" for key, value in inputs.items() if before.get(key) != value]
    if changed:
        raise InputError(
            f"run {run.name!r} exists and differs ({'; '.join(changed[:3])}); choose another --name, "
            f"or remove {run.path}"
        )


def _create(job: TrainingJob, inputs: dict[str, Any]) -> None:
    """Try the settings on one tile, choose the precision, and write configuration, manifest and provenance.

    Nothing is written if another process, which trains other folds, has created the run meanwhile.
    """
    from saltseg.models import precision
    from saltseg.training import fold

    settings, run = job.settings, job.run
    inherited, manifest = provenance.inherited(settings, job.output_dir, job.root), competition.manifest(job.root)
    blend = run.path.parent.parent / "blends" / run.name
    if blend.exists():
        raise InputError(f"{blend} is a blend of that name, which this run would hide; choose another --name")
    network = fold.check(settings, *competition.SHAPE)
    selected = precision.choose(settings, network, settings.train.batch_size // job.devices)
    run.path.mkdir(parents=True, exist_ok=True)
    with FileLock(run.path / ".lock"):  # not `RunDir.locked`: whoever writes these files is waited for
        if not run.provenance.is_file():
            io.write_atomic(run.config, config.dump(settings))
            io.write_json_lines(run.dataset, manifest)
            io.write_json(run.provenance, provenance.record(**inputs, precision=selected, **inherited))


def train_run(job: TrainingJob) -> list[int]:
    """Prepare a run, see `prepare_run`, and train its folds.

    Returns:
        The folds that were skipped, because they are finished.

    Raises:
        InputError: see `prepare_run` and `saltseg.training.trainer.fit`.
    """
    numbers, skipped = prepare_run(job)
    if not numbers:
        return skipped

    from saltseg.inference import engines
    from saltseg.models import precision
    from saltseg.training import fold, trainer

    settings, run = precision.resolved(job.settings, job.run.read_provenance()), job.run
    engines.check(settings)  # now rather than after the training
    precision.require_gpu(settings.train.precision)  # now rather than after a fold is removed
    table, labeled = job.fold_table(), competition.read_train(job.root)
    no_images = Images((), np.empty((0, *competition.SHAPE), np.uint8))
    test = competition.read_test(job.root) if job.predict_test or settings.pseudo else no_images
    for number in numbers:
        directory = run.fold(number)
        with directory.locked() if trainer.is_first() else nullcontext():
            again = job.overwrite and directory.finished() and trainer.is_first()
            if directory.finished() and not again:  # by another process a moment ago
                skipped = [*skipped, number]
                continue
            data = fold.fold_data(number, labeled, test if job.predict_test else no_images, table, settings.folds)
            pseudo = _pseudo_labeled(job, number, table, labeled, test)
            data = replace(data, pseudo=pseudo, start=_start(job, number))
            if again:
                fold.make_module(settings, data)  # a fold is kept if the weights that it starts from are gone
                run.drop_results()
                fold.clear(directory)
            fold.run(settings, data, directory, f"{run.name} fold {number}", job.devices)
    return skipped


def _pseudo_labeled(
    job: TrainingJob, number: int, table: folds.Folds, labeled: Labeled, test: Images
) -> PseudoLabeledImages | None:
    """The further images to train a fold on; images of ``labeled`` and ``test`` are left out."""
    pseudo = job.settings.pseudo
    if pseudo is None:
        return None
    if isinstance(pseudo, MeanTeacher):
        images = unlabeled.mean_teacher_images(pseudo)
        new = unlabeled.exclude_known(images, labeled.images, test.images, pseudo.transduction)
        return PseudoLabeledImages(new.ids, new.images, np.full_like(new.images, UNLABELED))
    teachers = pseudo_labels.find_teachers(job.output_dir, pseudo.teacher, job.run.read_provenance())
    return pseudo_labels.of_fold(teachers, number, pseudo, labeled.images, test.images, table.numbers)


def _start(job: TrainingJob, number: int) -> FoldDir | Path | None:
    """Whose weights a fold starts from."""
    run = _start_run(job, job.run.read_provenance())
    return (
        config.weights_file(job.settings.train.init_from) if run is None else pseudo_labels.finished_fold(run, number)
    )


def _start_run(job: TrainingJob, inputs: dict[str, Any]) -> RunDir | None:
    """The run of ``train.init_from``, if it names one; InputError if its folds are not this run's."""
    name = job.settings.train.init_from
    if not name or config.weights_file(name) is not None:
        return None
    members = pseudo_labels.find_teachers(job.output_dir, name, inputs)
    if len(members) > 1:
        raise InputError(f"train.init_from is {name}, a blend of {len(members)} runs; name one of its members")
    return members[0]
