"""Train a run: check the settings, make the folds, create the run, train the folds asked for."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import config, io, provenance
from saltseg.config import Config, MeanTeacher
from saltseg.data import competition, folds, unlabeled
from saltseg.data.competition import Images, Labeled
from saltseg.data.dataset import UNLABELED
from saltseg.errors import InputError
from saltseg.runs import FoldDir, RunDir
from saltseg.training import pseudo_labels
from saltseg.training.pseudo_labels import PseudoLabeledImages


def prepare_run(
    settings: Config,
    dataset: str,
    run: RunDir,
    input_dir: Path,
    output_dir: Path,
    wanted: Sequence[int] | None = None,
    overwrite: bool = False,
    devices: int = 1,
) -> tuple[list[int], list[int]]:
    """Check everything that can be checked before hours of training, and create the run if there is none.

    Args:
        settings: of the run.
        dataset: name of a dataset under ``input_dir``.
        run: where the run is, or will be.
        input_dir: where datasets are.
        output_dir: where fold tables and runs are.
        wanted: folds to train; None: all.
        overwrite: train finished folds again.
        devices: how many train one fold together, see `saltseg.training.trainer.fit`.

    Returns:
        The folds to train, and those that are finished and not to be overwritten.

    Raises:
        InputError: settings that cannot work or would leak labels; or the run exists with another configuration, other
            data, other folds or another number of devices, which would change batch norm.
    """
    root = competition.dataset_root(input_dir, dataset)
    table = fold_table(settings, root, output_dir)
    numbers = table.numbers if wanted is None else list(dict.fromkeys(wanted))
    for number in numbers:
        table.split(number, settings.folds)
    if not competition.test_ids(root):
        raise InputError(f"{root / 'sample_submission.csv'} lists no image to predict; give the dataset one at least")
    inputs = {
        "dataset": dataset,
        "dataset_hash": competition.fingerprint(root),
        "folds_hash": table.digest,
        "synthetic": competition.is_synthetic(root),
        "devices": devices,
    }
    if settings.teacher:
        teachers = pseudo_labels.find_teachers(output_dir, settings.teacher, inputs)
        if not overwrite:
            every = table.numbers if settings.pseudo_labels_from_all_folds else ()
            pseudo_labels.require_same_labels(run, teachers, every)
    _start_run(settings, inputs, output_dir)
    if unknown := provenance.check_no_leakage(settings, root):
        sys.stderr.write(
            f"warning: nobody can tell whether {', '.join(unknown)} learned from images that validate here: the "
            f"dataset of that training is not in {input_dir}, or has changed; the score may be too high\n"
        )
    if isinstance(settings.pseudo, MeanTeacher):
        inputs["unlabeled_hash"] = unlabeled.fingerprint(unlabeled.mean_teacher_images(settings.pseudo))
    if run.provenance.is_file():
        _require_same(run, settings, inputs)
    else:
        _create(run, settings, inputs, provenance.inherited(settings, output_dir, root), competition.manifest(root))
    skipped = [number for number in numbers if run.fold(number).finished() and not overwrite]
    return [number for number in numbers if number not in skipped], skipped


def _require_same(run: RunDir, settings: Config, inputs: dict[str, Any]) -> None:
    changed = config.differences(run.read_config(), settings)
    before = {"devices": 1} | run.read_provenance()
    changed += [f"{key}: changed" for key, value in inputs.items() if before.get(key) != value]
    if changed:
        raise InputError(
            f"run {run.name!r} exists and differs ({'; '.join(changed[:3])}); choose another --name, "
            f"or remove {run.path}"
        )


def _create(
    run: RunDir, settings: Config, inputs: dict[str, Any], inherited: dict[str, Any], manifest: dict[str, str]
) -> None:
    """Try the settings on one tile, choose the precision, and write configuration, manifest and provenance."""
    from saltseg.models import precision
    from saltseg.training import fold

    blend = run.path.parent.parent / "blends" / run.name
    if blend.exists():
        raise InputError(f"{blend} is a blend of that name, which this run would hide; choose another --name")
    network = fold.check(settings, *competition.SHAPE)
    chosen = precision.choose(settings, network, settings.train.batch_size // inputs["devices"])
    io.write_atomic(run.config, config.dump(settings))
    io.write_json_lines(run.dataset, manifest)
    io.write_json(run.provenance, provenance.record(**inputs, precision=chosen, **inherited))


def train_run(
    settings: Config,
    dataset: str,
    run: RunDir,
    input_dir: Path,
    output_dir: Path,
    wanted: Sequence[int] | None = None,
    overwrite: bool = False,
    devices: int = 1,
    predict_test: bool = True,
) -> list[int]:
    """Prepare a run and train the folds ``wanted``.

    Args:
        settings: and all others that are not listed: see `prepare_run`.
        devices: with several, give one fold in a process.
        predict_test: False: leave the test images out, for runs of which only out-of-fold predictions are needed.

    Returns:
        The folds that were skipped, because they are finished.

    Raises:
        InputError: see `prepare_run` and `saltseg.training.trainer.fit`.
    """
    numbers, skipped = prepare_run(settings, dataset, run, input_dir, output_dir, wanted, overwrite, devices)
    if not numbers:
        return skipped

    from saltseg.inference import engines
    from saltseg.models import precision
    from saltseg.training import fold, trainer

    settings = precision.resolved(settings, run.read_provenance())
    engines.check(settings)  # now rather than after the training
    root = competition.dataset_root(input_dir, dataset)
    table = fold_table(settings, root, output_dir)
    labeled = competition.read_train(root)
    no_images = Images((), np.empty((0, *competition.SHAPE), np.uint8))
    test = competition.read_test(root) if predict_test or settings.pseudo else no_images
    for number in numbers:
        directory = run.fold(number)
        with directory.locked() if trainer.is_first() else nullcontext():
            if overwrite and directory.finished() and trainer.is_first():
                fold.clear(directory)
            if directory.finished():  # by another process a moment ago
                skipped = [*skipped, number]
                continue
            data = fold.fold_data(number, labeled, test if predict_test else no_images, table, settings.folds)
            pseudo = _pseudo_labeled(settings, run, number, table, output_dir, labeled, test)
            data = replace(data, pseudo=pseudo, start=_start(settings, run, number, output_dir))
            fold.run(settings, data, directory, f"{run.name} fold {number}", devices)
    return skipped


def _pseudo_labeled(
    settings: Config, run: RunDir, number: int, table: folds.Folds, output_dir: Path, labeled: Labeled, test: Images
) -> PseudoLabeledImages | None:
    """The further images to train a fold on; images of ``labeled`` and ``test`` are left out."""
    pseudo = settings.pseudo
    if pseudo is None:
        return None
    if isinstance(pseudo, MeanTeacher):
        found = unlabeled.mean_teacher_images(pseudo)
        new = unlabeled.exclude_known(found, labeled.images, test.images, pseudo.transduction)
        return PseudoLabeledImages(new.ids, new.images, np.full_like(new.images, UNLABELED))
    teachers = pseudo_labels.find_teachers(output_dir, pseudo.teacher, run.read_provenance())
    return pseudo_labels.of_fold(teachers, number, pseudo, labeled.images, test.images, table.numbers)


def _start(settings: Config, run: RunDir, number: int, output_dir: Path) -> FoldDir | Path | None:
    """Whose weights a fold starts from."""
    start = _start_run(settings, run.read_provenance(), output_dir)
    if start is None:
        return config.weights_file(settings.train.init_from)
    return pseudo_labels.finished_fold(start, number)


def _start_run(settings: Config, inputs: dict[str, Any], output_dir: Path) -> RunDir | None:
    """The run of ``train.init_from``, if it names one; InputError if its folds are not this run's."""
    name = settings.train.init_from
    if not name or config.weights_file(name) is not None:
        return None
    start = pseudo_labels.find_teachers(output_dir, name, inputs)
    if len(start) > 1:
        raise InputError(f"train.init_from is {name}, a blend of {len(start)} runs; name one of its members")
    return start[0]


def fold_table(settings: Config, root: Path, output_dir: Path) -> folds.Folds:
    """The fold table of a dataset, created where it is not there yet."""
    path, ids = folds.table_path(output_dir, root.name, settings.folds), competition.train_ids(root)
    if path.is_file():
        return folds.read_table(path, ids)
    labeled = competition.read_train(root)
    sections = competition.read_sections(root)
    return folds.load_or_create(path, settings.folds, labeled.ids, labeled.images, labeled.masks, sections)
