"""Before the first fold is trained: what all folds need is there. Training again removes what it replaces, at last."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import tiny_run
from loose_tiles import folder, noise
from tiny_run import Trained

from saltseg import config, io, predictions, runs
from saltseg.errors import InputError
from saltseg.models import precision
from saltseg.pipeline import pseudo_labeling
from saltseg.runs import FoldDir, RunDir
from saltseg.training import fold, run_training
from saltseg.training.run_training import TrainingJob

FIXED = ("train.checkpoint=last", "train.schedule=constant", "train.precision=32", "train.epochs=1")
TAUGHT = ("pseudo.teacher=tiny-run", "train.init_from=tiny-run")


def job(trained: Trained, *changes: str, **fields: object) -> TrainingJob:
    settings = config.override(trained.settings, [*FIXED, *changes])
    student = runs.run_dir(trained.output, "student")
    return replace(TrainingJob(settings, "tiny", student, trained.input, trained.output), **fields)  # type: ignore[arg-type]


def label(trained: Trained, *numbers: int) -> None:
    """Three images, by these folds of the run."""
    for number in numbers:
        tiny_run.checkpoint(trained, number, 0.6)
    pseudo_labeling.label(trained.run, folder(trained.output, noise(3)), folds=numbers)


@pytest.fixture(autouse=True)
def trainings() -> Iterator[list[str]]:
    """The titles of the folds that were trained; instead of training, a fold gets weights and metrics."""
    titles = list[str]()

    def run(settings: config.Config, data: fold.FoldData, directory: FoldDir, title: str, devices: int) -> None:
        io.write_atomic(directory.network, f"weights of training {len(titles)}")
        io.write_json(directory.metrics, tiny_run.metrics(data.number))
        titles.append(title)

    with mock.patch.object(fold, "run", run):
        yield titles


def test_labels_and_weights_of_every_fold_are_there_before_the_first_is_trained(
    trained: Trained, trainings: list[str]
) -> None:
    label(trained, 0)
    images = trained.output / "unlabeled"
    command = f"saltseg pseudo-label tiny-run --images {images} --folds 1,2"
    for more, wanted in (((), None), (("pseudo.all_folds=true",), [0])):
        with pytest.raises(InputError) as refused:
            run_training.train_run(job(trained, "pseudo.teacher=tiny-run", *more, fold_numbers=wanted))
        assert str(refused.value) == f"tiny-run has labeled no images for folds 1, 2; run {command}"
    trained.run.fold(1).metrics.unlink()
    command = f"saltseg train {trained.run.config} --data tiny --name tiny-run --folds 1"
    for change in TAUGHT:
        with pytest.raises(InputError) as refused:
            run_training.train_run(job(trained, change))
        assert str(refused.value) == f"tiny-run has not finished fold 1; train it first: {command}"
    io.write_json(trained.run.fold(1).metrics, io.read_json(trained.run.fold(0).metrics) | {"fold": 1})
    label(trained, 1, 2)
    trained.run.fold(2).network.unlink()  # as of a run that was published without weights
    with pytest.raises(InputError, match=r"no checkpoint at .*fold_2"):
        run_training.train_run(job(trained, *TAUGHT))
    assert not runs.run_dir(trained.output, "student").path.exists()
    assert trainings == []
    assert run_training.train_run(job(trained, *TAUGHT, fold_numbers=[0])) == []
    assert trainings == ["student fold 0"]
    io.remove(trained.run.fold(0).path)  # a finished fold needs its teacher no more
    assert run_training.train_run(job(trained, *TAUGHT, fold_numbers=[0])) == [0]


def test_every_member_of_a_blend_that_lacks_a_fold_is_named(trained: Trained) -> None:
    label(trained, 0, 1, 2)
    other = runs.run_dir(trained.output, "other")
    for path in (path for path in trained.run.path.rglob("*") if path.is_file()):
        io.write_atomic(other.path / path.relative_to(trained.run.path), path.read_bytes())
    io.write_json(
        RunDir(trained.output / "blends" / "both").provenance,
        trained.run.read_provenance() | {"members": ["tiny-run", "other"]},
    )
    trained.run.fold(2).pseudo.unlink()
    io.write_json(other.pseudo, io.read_json(other.pseudo) | {"checksums": {"1": "killed before it was recorded"}})
    with pytest.raises(InputError, match=r"^tiny-run has labeled no images for fold 2; .*; other has labeled no images "
                       r"for folds 0, 2; run saltseg pseudo-label other .*--folds 0,2$"):  # fmt: skip
        run_training.prepare_run(job(trained, "pseudo.teacher=both"))


def results(run: RunDir) -> list[Path]:
    """Of the run as a whole."""
    names = ("oof.npz", "test.npz", "postprocess.json", "submission.csv", "solution_score.json", "report.html",
             "image_scores.csv", "threshold_curve.png")  # fmt: skip
    return [run.path / name for name in (*names, "postprocessing_source.json", "on_synthetic.json")]


def files(run: RunDir) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def change_labels(trained: Trained) -> None:
    labels = predictions.load_predictions(trained.run.fold(0).pseudo)
    predictions.save_predictions(trained.run.fold(0).pseudo, replace(labels, probabilities=255 - labels.probabilities))


SPOILT: dict[str, tuple[Callable[[Trained], None], str]] = {
    "labels changed": (change_labels, "is not what fold 0 of tiny-run predicted"),
    "images changed": (lambda trained: (trained.output / "unlabeled" / "u0.png").unlink(), "unlabeled has changed"),
    "weights gone": (lambda trained: trained.run.fold(0).network.unlink(), "no checkpoint at "),
    "weights of another network": (
        lambda trained: trained.write_settings(config.override(trained.settings, ["model.filters=2"])),
        "whose network differs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_fold_that_cannot_be_trained_again_is_kept(spoilt: str, trained: Trained, trainings: list[str]) -> None:
    label(trained, 0)
    task = job(trained, *TAUGHT, fold_numbers=[0])
    run_training.train_run(task)
    for path in results(task.run):
        io.write_atomic(path, "of the first training")
    before = files(task.run)
    spoil, message = SPOILT[spoilt]
    spoil(trained)
    with pytest.raises(InputError, match=message):
        run_training.train_run(replace(task, overwrite=True))
    assert files(task.run) == before
    assert trainings == ["student fold 0"]


def test_a_fold_in_half_precision_is_kept_where_there_is_no_gpu(trained: Trained) -> None:
    task = job(trained, "train.precision=auto", fold_numbers=[0])
    run_training.train_run(task)
    io.write_json(task.run.provenance, task.run.read_provenance() | {"precision": "fp16"})
    with pytest.raises(InputError, match="fp16, which needs a GPU"):
        run_training.train_run(replace(task, overwrite=True))
    assert task.run.fold(0).finished()


def test_training_a_fold_again_removes_its_files_and_the_results_of_the_run(
    trained: Trained, trainings: list[str]
) -> None:
    """Of three folds one is trained again: what other folds and the run's settings are stays."""
    task = job(trained)
    run_training.train_run(task)
    for path in (*results(task.run), task.run.pseudo, task.run.fold(0).pseudo, task.run.fold(1).pseudo):
        io.write_atomic(path, "of the first training")
    assert run_training.train_run(task) == [0, 1, 2]
    assert all(path.is_file() for path in results(task.run))
    before = files(task.run)
    run_training.train_run(replace(task, overwrite=True, fold_numbers=[0]))
    after, own = files(task.run), task.run.fold(0)
    assert set(before) - set(after) == {*results(task.run), own.pseudo}
    assert {path for path, content in after.items() if content != before[path]} == {own.network}
    assert trainings == [f"student fold {number}" for number in (0, 1, 2, 0)]


def test_a_run_is_created_once_by_whoever_is_first(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process creates it while this one measures, and finds another precision."""
    first, second = (job(trained, "train.precision=auto", fold_numbers=[number]) for number in (0, 1))

    def choose(found: str, meanwhile: TrainingJob | None = None) -> Callable[..., str]:
        def chosen(*_: object) -> str:
            if meanwhile is not None:
                monkeypatch.setattr(precision, "choose", choose("bf16"))
                run_training.prepare_run(meanwhile)
            return found

        return chosen

    monkeypatch.setattr(precision, "choose", choose("32", meanwhile=first))
    assert run_training.prepare_run(second) == ([1], [])
    assert first.run.read_provenance()["precision"] == "bf16"
    io.remove(first.run.path)
    monkeypatch.setattr(precision, "choose", choose("32", meanwhile=first))
    with pytest.raises(InputError, match=r"run 'student' exists and differs \(train.seed: 0 → 7\)"):
        run_training.prepare_run(job(trained, "train.precision=auto", "train.seed=7"))
    assert first.run.read_config().train.seed == 0


def test_whoever_writes_the_files_of_a_new_run_is_waited_for(trained: Trained) -> None:
    """Another process has the lock, and this one comes to the end of its measurements."""
    task, held, measured, order = job(trained), threading.Event(), threading.Event(), list[str]()

    def hold() -> None:
        with task.run.locked():
            held.set()
            measured.wait()
            time.sleep(0.2)
            order.append("the other" if not task.run.provenance.exists() else "too early")

    def choose(*_: object) -> str:
        measured.set()
        return "32"

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    with mock.patch.object(precision, "choose", choose):
        run_training.prepare_run(task)
    other.join()
    assert order == ["the other"]
    assert task.run.provenance.is_file()
