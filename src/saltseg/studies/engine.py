"""The sweep engine: train what has no record yet, and record it.

A study may take hours: it goes on where it was stopped, and a variant that fails stops no other.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saltseg import config, io, predictions, provenance, runs, schemas
from saltseg.data import competition, unlabeled
from saltseg.errors import InputError
from saltseg.pipeline.workspace import Workspace, sections_of, with_truth
from saltseg.postprocessing import step_selection
from saltseg.postprocessing.areas import log_loss
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.runs import RunDir
from saltseg.studies import charts, records, results, tables
from saltseg.studies.records import Record
from saltseg.studies.sweep import Sweep
from saltseg.workers import Workers, is_child

if TYPE_CHECKING:
    from saltseg.training.run_training import TrainingJob

Training = tuple[str, int]  # variant, seed


def write_table(sweep: Sweep) -> str:
    """Write table.md and chart.png beside the records; returns the table."""
    of_variant = results.read(sweep)
    found, noise = results.compare_all(sweep, of_variant), results.seed_noise(of_variant, sweep.study.reference)
    costs = sweep.folder / "cost.json"
    table = tables.markdown(sweep, found, noise, io.read_json(costs) if costs.is_file() else None)
    io.write_atomic(sweep.folder / "table.md", table + "\n")
    chart = charts.labels(sweep.study, found) if sweep.study.chart == "labels" else charts.gains(found, noise)
    io.write_atomic(sweep.folder / "chart.png", chart)
    return table


def left_out(sweep: Sweep, variants: Sequence[str]) -> dict[str, str]:
    """Those of the variants that change nothing or do not fit the base: variant → why."""
    from saltseg.training import fold

    study, reasons = sweep.study, dict[str, str]()
    for name in variants:
        try:
            if study.variants[name].members:
                continue
            settings = sweep.settings(name, 0)
            if study.reference not in ("", name) and settings == sweep.settings(study.reference, 0):
                raise InputError("it changes nothing here")
            if not settings.train.init_from:  # weights that may not be there yet
                fold.check(settings, *competition.SHAPE)
        except InputError as error:
            reasons[name] = str(error)
    return reasons


def missing(sweep: Sweep, variants: Sequence[str], seeds: Sequence[int]) -> list[Training]:
    """The trainings without a record."""
    return [(name, seed) for seed in seeds for name in variants if not sweep.record_path(name, seed).is_file()]


def run(sweep: Sweep, pending: Sequence[Training], where: Workers, command: Sequence[str]) -> dict[str, str]:
    """Train and record; returns those that are not finished, by name, with the reason where it is known.

    Those that need others wait for them. Variants that ask for more labels than there are, and those that need such a
    variant, are left out and named; they do not count as unfinished.

    Args:
        sweep: whose variants.
        pending: as `missing` returns them.
        where: trainings run.
        command: Python command line of this sweep; it takes --only, --seeds and --folds.

    Raises:
        InputError: a training needs another that is neither pending nor recorded, or whose run is not here; or images
            that are not there or others than before.
    """
    _check_before(sweep, pending)
    reasons, failed = _too_few_labels(sweep, pending), dict[str, str]()
    for variant, reason in reasons.items():
        sys.stderr.write(f"{variant} is left out: {reason}\n")
    waiting = [training for training in pending if training[0] not in reasons]
    sys.stdout.write(f"{len(waiting)} trainings to do\n")
    sys.stdout.flush()
    while waiting:
        ready = [training for training in waiting if not _lacking(sweep, training)]
        if not ready:
            return failed | {_name(left): f"it needs {_lacking(sweep, left)[0]}" for left in waiting}
        failed |= _train_each(sweep, ready, where, command)
        waiting = [training for training in waiting if training not in ready]
    return failed


def _name(training: Training) -> str:
    return f"{training[0]}-{training[1]}"


def _lacking(sweep: Sweep, training: Training) -> list[str]:
    """The variants that a training needs and that are not recorded, or whose runs are not here."""
    name, seed = training
    needs = [(need, seed) for need in sweep.study.variants[name].needs]
    return [need[0] for need in needs if not (sweep.record_path(*need).is_file() and _run_is_here(sweep, need))]


def _run_is_here(sweep: Sweep, training: Training) -> bool:
    """Whether all folds of a training are here, or the predictions of a blend, and not only its record."""
    run = sweep.run_dir(*training)
    if sweep.study.variants[training[0]].members:
        return run.oof.is_file() and run.test.is_file()
    numbers = sweep.budget.folds or range(sweep.settings(*training).folds.trained)
    return all(run.fold(number).finished() for number in numbers)


def _check_before(sweep: Sweep, pending: Sequence[Training]) -> None:
    """Refuse what would fail after hours."""
    recorded = [record for own in results.read(sweep).values() for record in own]
    for training in pending:
        for need in _lacking(sweep, training):
            path = sweep.record_path(need, training[1])
            if path.is_file():
                raise InputError(
                    f"{training[0]} needs the run of {need}, of which only the record is here; copy it to "
                    f"{sweep.run_dir(need, training[1]).path}, or remove {path} and rerun to train it again"
                )
            if (need, training[1]) not in pending:
                raise InputError(
                    f"{training[0]} needs {need}, which is not finished; add it to --only, or leave --only out"
                )
    if not any(sweep.study.variants[name].unlabeled for name, _ in pending):
        return
    if sweep.images is None:
        raise InputError(f"the study {sweep.study.name} learns from images without labels; give --images FOLDER")
    given = _unlabeled_hash(sweep.images, sweep.budget.unlabeled)
    for record in recorded:
        if sweep.study.variants[record.variant].unlabeled and record.unlabeled_hash not in (None, given):
            raise InputError(
                f"{record.variant} was trained with other images without labels than those of {sweep.images}; give the "
                f"same folder, or remove its record from {sweep.folder}"
            )


def _too_few_labels(sweep: Sweep, pending: Sequence[Training]) -> dict[str, str]:
    """The variants that ask for more labeled images than a fold has, or need such a variant, and the reason."""
    reasons = dict[str, str]()
    for name, seed in dict(pending).items():  # the number of labels does not depend on the seed
        variant = sweep.study.variants[name]
        if needed := [need for need in variant.needs if need in reasons]:
            reasons[name] = f"it needs {needed[0]}, which is left out"
        if variant.members or needed:
            continue
        job = _job(sweep, (name, seed), sweep.budget.folds)
        table = job.fold_table()
        try:
            for number in job.fold_numbers or table.numbers:
                table.split(number, job.settings.folds)
        except InputError as error:
            reasons[name] = str(error)
    return reasons


def _unlabeled_hash(folder: Path, limit: int | None) -> str:
    return unlabeled.fingerprint(unlabeled.read(folder, limit))


def _train_each(sweep: Sweep, ready: Sequence[Training], where: Workers, command: Sequence[str]) -> dict[str, str]:
    """Each in a process of its own, so that none inherits another's memory; returns those that failed, and why.

    Side by side, each fold has one. What trainings share is made here, before they start: side by side each would lock
    it for itself.
    """
    from saltseg.training import processes

    failed, commands = dict[str, str](), dict[Training, dict[str, list[str]]]()
    for training in ready:
        try:
            if not is_child():
                _prepare(sweep, training)
                commands[training] = _commands(sweep, training, where, command)
        except InputError as error:
            failed[_name(training)] = str(error)
    every = {name: words for own in commands.values() for name, words in own.items()}
    codes = processes.run(every, where, sweep.logs) if every else {}
    for training in (training for training in ready if _name(training) not in failed):
        own = commands.get(training, {})
        if bad := [name for name in own if codes[name]]:
            failed[_name(training)] = "" if where.here else f"see {sweep.logs / bad[0]}.log"
        elif not (own and where.here):  # a blend, a child's, or one whose folds have been trained apart
            try:
                train(sweep, training)
            except InputError as error:
                failed[_name(training)] = str(error)
    return failed


def _commands(sweep: Sweep, training: Training, where: Workers, command: Sequence[str]) -> dict[str, list[str]]:
    """The command lines that train a variant, by name: one that records it, too, or one for each fold left."""
    from saltseg.training import run_training

    if sweep.study.variants[training[0]].members:
        return {}
    own = [*command, "--only", training[0], "--seeds", str(training[1])]
    if where.here:
        return {_name(training): own}
    folds, _ = run_training.prepare_run(_job(sweep, training, sweep.budget.folds))
    return {f"{_name(training)}-fold_{number}": [*own, "--folds", str(number)] for number in folds}


def train(sweep: Sweep, training: Training) -> None:
    """Train what one variant lacks with one seed, whose sources are there, and write its record."""
    (name, seed), run = training, sweep.run_dir(*training)
    workspace = Workspace(sweep.input_dir, sweep.output_dir)
    if members := sweep.study.variants[name].members:
        from saltseg.pipeline import blend

        io.remove(run.path)  # of earlier members
        blend.blend_runs([sweep.run_dir(member, seed) for member in members], run, workspace)
    else:
        train_folds(sweep, training, sweep.budget.folds)
    if sweep.study.complete:
        _finish(run, workspace)
    records.write(sweep.record_path(name, seed), record(sweep, training))


def train_folds(sweep: Sweep, training: Training, folds: Sequence[int] | None) -> None:
    """Train folds of one variant (None: all), without a record."""
    from saltseg.training import run_training

    run_training.train_run(_job(sweep, training, folds))


def _job(sweep: Sweep, training: Training, folds: Sequence[int] | None) -> "TrainingJob":
    from saltseg.training.run_training import TrainingJob

    settings, run = sweep.settings(*training), sweep.run_dir(*training)
    places, test = (sweep.input_dir, sweep.output_dir), sweep.study.complete
    return TrainingJob(settings, sweep.data, run, *places, folds, predict_test=test)


def _prepare(sweep: Sweep, training: Training) -> None:
    """Make what a training learns from beside its labels: the weights of a pretraining, labels of a teacher."""
    name, seed = training
    spec, run = sweep.study.variants[name], sweep.run_dir(*training)
    if spec.members:
        return
    sources = [sweep.run_dir(need, seed) for need in spec.needs]
    if spec.pretraining:
        sources.append(_pretrain(sweep, training))
    begun = run.read_provenance().get("created", "") if run.provenance.is_file() else ""
    for source in sources:
        finished = [schemas.read(fold.metrics)["finished"] for fold in source.finished_folds()]
        if begun and max(finished, default=source.read_provenance().get("created", "")) > begun:
            raise InputError(f"{run.name} learned from an earlier {source.name} than there is now; remove {run.path}")
    if spec.teacher:
        from saltseg.pipeline import pseudo_labeling

        assert sweep.images is not None
        for teacher in runs.leaf_runs(sweep.output_dir, sources[0].name):
            pseudo_labeling.label(teacher, sweep.images, sweep.budget.unlabeled)


def _pretrain(sweep: Sweep, training: Training) -> RunDir:
    from saltseg.training import pretraining

    path, settings = sweep.pretraining(*training)
    directory = pretraining.PretrainedDir(path)
    if sweep.study.variants[training[0]].pretraining == "synthetic":
        pretraining.synthetic(settings, directory, 4000)
        return RunDir(path)
    assert sweep.images is not None
    root = competition.dataset_root(sweep.input_dir, sweep.data)
    every = unlabeled.read(sweep.images, sweep.budget.unlabeled)
    known = competition.read_train(root).images, competition.read_test(root).images
    images = unlabeled.exclude_known(every, *known, sweep.transduction)
    left = len(every.ids) - len(images.ids)
    pretraining.masked(settings, directory, images, dataset=sweep.data, left_out=left, transduction=sweep.transduction)
    return RunDir(path)


def _finish(run: RunDir, workspace: Workspace) -> None:
    """What makes a run or blend one like any other: post-processing, submission, report."""
    from saltseg.pipeline import collate, submit, tune
    from saltseg.reporting import report

    if not run.members():
        collate.collate_run(run, workspace)
    tune.tune_run(run, workspace)
    submit.write_submission(run, workspace)
    report.write(run, workspace)


def record(sweep: Sweep, training: Training) -> Record:
    """The record of a finished run or blend."""
    (name, seed), run = training, sweep.run_dir(*training)
    spec = sweep.study.variants[name]
    blend, further = bool(spec.members), sweep.images if spec.unlabeled else None
    workspace = Workspace(sweep.input_dir, sweep.output_dir)
    oof = predictions.load_predictions(run.oof) if blend else predictions.collate_folds(run.finished_folds())
    oof = predictions.reorder(oof, np.sort(oof.ids))
    root = workspace.root(run)
    images = with_truth(oof, competition.read_train(root))
    loss = log_loss(images.areas(THRESHOLD_HALF))
    scores = step_selection.scores(images, sections_of(root, oof.ids.tolist()))
    folds = [schemas.read(fold.metrics) for fold in run.finished_folds()]
    origin = run.read_provenance()
    memory = [fold.get("peak_gpu_memory_mb") or fold["peak_memory_mb"] or 0 for fold in folds]
    details = sweep.study.details
    return Record(
        study=sweep.owner(name).study.name,
        budget=sweep.budget_name,
        variant=name,
        seed=seed,
        run=run.name,
        dataset=sweep.data,
        dataset_hash=origin["dataset_hash"],
        folds_hash=origin["folds_hash"],
        unlabeled_hash=_unlabeled_hash(further, sweep.budget.unlabeled) if further else None,
        transduction=provenance.transduction(run),
        n=len(oof.ids),
        n_train=None if blend else folds[0]["n_train"],
        n_pseudo=None if blend else folds[0].get("n_pseudo"),
        scores={kind: float(values.mean()) for kind, values in scores.items()},
        passed={kind: records.to_digits(values) for kind, values in scores.items()},
        log_loss=loss,
        seconds=None if blend else sum(fold["seconds"] for fold in folds),
        seconds_per_epoch=None if blend else float(np.mean([f["n_train"] / f["images_per_second"] for f in folds])),
        peak_memory_mb=None if blend else max(memory),
        device=None if blend else "gpu" if folds[0].get("peak_gpu_memory_mb") else "cpu",
        created=origin.get("created") if blend else max(fold["finished"] for fold in folds),
        command=origin.get("command"),
        commit=origin.get("git_commit") if blend else folds[0].get("git_commit"),
        machine=origin.get("machine", ""),
        changes=[] if blend else sweep.changes(name),
        settings={} if blend else config.flat(run.read_config()),
        details=details(run, workspace, oof, images, sweep.record_path(name, seed)) if details else {},
        precision=None if blend else origin.get("precision") or "32",
        nested=True,
    )
