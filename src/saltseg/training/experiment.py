"""An experiment on a dataset: resolve the configuration, make the folds, train those asked for."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import config, runs, storage
from saltseg.data import competition, folds, unlabelled
from saltseg.data.dataset import UNKNOWN
from saltseg.errors import InputError
from saltseg.inference import lineage, pseudo


def begin(
    settings: config.Config,
    dataset: str,
    run: runs.RunDir,
    input_dir: Path,
    output_dir: Path,
    wanted: Sequence[int] | None = None,
    overwrite: bool = False,
    devices: int = 1,
) -> tuple[list[int], list[int]]:
    """Check everything that can be checked before hours of training, and create the run.

    Returns the folds of ``wanted`` (default: all) to train, and those that are finished and not to be overwritten.
    Raises InputError for settings that cannot work or would leak, and when the run exists with another configuration,
    other data, other folds or a number of devices that is another to batch norm.
    """
    root = competition.dataset_root(input_dir, dataset)
    table = _folds(settings, root, dataset, output_dir)
    numbers = table.numbers if wanted is None else list(dict.fromkeys(wanted))
    for number in numbers:
        table.split(number, settings.folds)
    if not competition.test_ids(root):
        raise InputError(f"{root / 'sample_submission.csv'} lists no image to predict; give the dataset one at least")
    facts = {
        "dataset": dataset,
        "dataset_hash": competition.fingerprint(root),
        "folds_hash": table.digest,
        "synthetic": competition.is_synthetic(root),
        "devices": devices,
    }
    if settings.pseudo.teacher not in ("", "self"):
        taught_by = pseudo.teachers(output_dir, settings.pseudo.teacher, facts)
        if not overwrite:
            pseudo.demand_same_labels(run, taught_by, table.numbers if settings.pseudo.all_folds else ())
    _start_run(settings, facts, output_dir)
    lineage.demand_unseen(settings, root)
    if settings.pseudo.teacher == "self":
        facts["unlabelled_hash"] = unlabelled.fingerprint(unlabelled.own_images(settings.pseudo))
    if run.provenance.is_file():
        _demand_same(run, settings, facts)
    else:
        _create(run, settings, facts, lineage.inherited(settings, output_dir, root))
    skipped = [number for number in numbers if run.fold(number).finished() and not overwrite]
    return [number for number in numbers if number not in skipped], skipped


def _demand_same(run: runs.RunDir, settings: config.Config, facts: dict[str, Any]) -> None:
    changed = config.differences(run.read_config(), settings)
    before = {"devices": 1} | run.read_provenance()
    changed += [f"{key}: changed" for key, value in facts.items() if before.get(key) != value]
    if changed:
        raise InputError(
            f"run {run.name!r} exists and differs ({'; '.join(changed[:3])}); choose another --name, "
            f"or remove {run.path}"
        )


def _create(run: runs.RunDir, settings: config.Config, facts: dict[str, Any], inherited: dict[str, Any]) -> None:
    """Try the settings on one tile, then write configuration and provenance."""
    from saltseg.training import fold

    blend = run.path.parent.parent / "blends" / run.name
    if blend.exists():
        raise InputError(f"{blend} is a blend of that name, which this run would hide; choose another --name")
    fold.check(settings, *competition.SHAPE)
    storage.write_atomic(run.config, config.dump(settings))
    storage.write_json(run.provenance, runs.provenance(**facts, **inherited))


def train(
    settings: config.Config,
    dataset: str,
    run: runs.RunDir,
    input_dir: Path,
    output_dir: Path,
    wanted: Sequence[int] | None = None,
    overwrite: bool = False,
    devices: int = 1,
    predict_test: bool = True,
) -> list[int]:
    """Train and finish the folds ``wanted`` (default: all); returns those that were skipped as finished.

    ``predict_test=False`` spares the test images, for runs that only their out-of-fold predictions are wanted of.
    devices: how many train one fold together (see `loop.fit`); with several, give one fold in a process.
    """
    numbers, skipped = begin(settings, dataset, run, input_dir, output_dir, wanted, overwrite, devices)
    if not numbers:
        return skipped

    from saltseg.training import fold, loop

    root = competition.dataset_root(input_dir, dataset)
    table = _folds(settings, root, dataset, output_dir)
    labelled = competition.read_train(root)
    nothing = competition.Images((), np.empty((0, *competition.SHAPE), np.uint8))
    test = competition.read_test(root) if predict_test or settings.pseudo.teacher else nothing
    for number in numbers:
        directory = run.fold(number)
        with directory.locked() if loop.is_first() else nullcontext():
            if overwrite and directory.finished() and loop.is_first():
                fold.clear(directory)
            if directory.finished():  # by another process a moment ago
                skipped = [*skipped, number]
                continue
            data = fold.fold_data(number, labelled, test if predict_test else nothing, table, settings.folds)
            taught = _taught(settings, run, number, table.numbers, output_dir, labelled.images, test.images)
            data = replace(data, pseudo=taught, start=_start(settings, run, number, output_dir))
            fold.run(settings, data, directory, f"{run.name} fold {number}", devices)
    return skipped


def _taught(
    settings: config.Config,
    run: runs.RunDir,
    number: int,
    every: Sequence[int],
    output_dir: Path,
    labelled: np.ndarray,
    test: np.ndarray,
) -> pseudo.Pseudo | None:
    """The further images of a fold; labelled, test: uint8 (N, 101, 101), which are not to be among them."""
    chosen = settings.pseudo
    if not chosen.teacher:
        return None
    if chosen.teacher == "self":
        new = unlabelled.without_known(unlabelled.own_images(chosen), chosen, labelled, test)
        return pseudo.Pseudo(new.ids, new.images, np.full_like(new.images, UNKNOWN))
    teachers = pseudo.teachers(output_dir, chosen.teacher, run.read_provenance())
    return pseudo.of_fold(teachers, number, chosen, labelled, test, every)


def _start(settings: config.Config, run: runs.RunDir, number: int, output_dir: Path) -> runs.FoldDir | Path | None:
    """What a fold takes its weights over from."""
    before = _start_run(settings, run.read_provenance(), output_dir)
    return config.file_behind(settings.train.start_from) if before is None else pseudo.finished_fold(before, number)


def _start_run(settings: config.Config, facts: dict[str, Any], output_dir: Path) -> runs.RunDir | None:
    """The run that each fold goes on from, if it is one; InputError where its folds may not teach this run's."""
    name = settings.train.start_from
    if not name or config.file_behind(name) is not None:
        return None
    before = pseudo.teachers(output_dir, name, facts)
    if len(before) > 1:
        raise InputError(f"train.start_from is {name}, a blend of {len(before)} runs; name one of its members")
    return before[0]


def _folds(settings: config.Config, root: Path, dataset: str, output_dir: Path) -> folds.Folds:
    path, ids = folds.table_path(output_dir, dataset, settings.folds), competition.train_ids(root)
    if path.is_file():
        return folds.read_table(path, ids)
    labelled = competition.read_train(root)
    return folds.load_or_make(path, settings.folds, labelled.ids, labelled.masks, competition.read_sections(root))
