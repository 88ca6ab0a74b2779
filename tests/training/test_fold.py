"""Training one fold: reproducible, resumable after SIGKILL with the same result, in one precision, by one writer."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_fold
import torch

from saltseg import experiments, io, predictions, runs
from saltseg.config import override
from saltseg.data import competition, folds
from saltseg.data.competition import Images
from saltseg.errors import InputError
from saltseg.models import checkpoints, losses, precision
from saltseg.synthetic.dataset import write_dataset
from saltseg.training import fold, run_training
from saltseg.training.run_training import TrainingJob

# Small, but with everything that carries state from epoch to epoch: dropout, augmentation, a learning rate that
# drops after every epoch without improvement, and a best epoch.
SETTINGS = [
    "data.size=32", "data.resize_mode=resize", "model.filters=4", "folds.count=2",
    "train.epochs=5", "train.batch_size=8", "train.schedule.patience=1", "train.learning_rate=0.02",
    "train.precision=32",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    write_dataset(root / "input" / "tiny", n_train=36, n_test=6, seed=3)
    return root


def command(place: Path, name: str, *more: str) -> list[str]:
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    places = ["--input", str(place / "input"), "--output", str(place / "output")]
    train = ["unet", "--data", "tiny", "--folds", "0", "--name", name]
    return [sys.executable, "-m", "saltseg", "train", *train, *options, *places, *more]


def train(place: Path, name: str, *changes: str, wanted: Sequence[int] = (0,)) -> tuple[runs.RunDir, list[int]]:
    """As `command`, but in this process; the run, and the folds that were skipped."""
    settings, run = override(experiments.named("unet"), [*SETTINGS, *changes]), runs.run_dir(place / "output", name)
    job = TrainingJob(settings, "tiny", run, place / "input", place / "output", wanted)
    return run, run_training.train_run(job)


@pytest.fixture(scope="module")
def unbroken(place: Path) -> runs.FoldDir:
    return train(place, "unbroken")[0].fold(0)


def figures(fold: runs.FoldDir) -> list[list[str]]:
    """The log without its two columns of wall-clock time."""
    with fold.log.open() as file:
        return [row[:5] for row in csv.reader(file)]


def weights(fold: runs.FoldDir) -> dict[str, torch.Tensor]:
    return torch.load(fold.network, weights_only=True)["state_dict"]


def assert_same_result(one: runs.FoldDir, other: runs.FoldDir) -> None:
    assert figures(one) == figures(other)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    for path in ("oof", "test", "train"):
        a, b = predictions.load_predictions(getattr(one, path)), predictions.load_predictions(getattr(other, path))
        assert a.ids.tolist() == b.ids.tolist()
        assert np.array_equal(a.probabilities, b.probabilities)


def test_a_fold_leaves_its_figures_and_no_state(unbroken: runs.FoldDir, place: Path) -> None:
    metrics = json.loads(unbroken.metrics.read_text())
    rows = list(csv.DictReader(unbroken.log.open()))
    assert (metrics["n_train"], metrics["n_valid"], metrics["epochs"], len(rows)) == (18, 18, 5, 5)
    best = min(rows, key=lambda row: float(row["valid_loss"]))
    assert metrics["best_epoch"] == int(best["epoch"])
    assert float(f"{metrics['valid_loss']:.6g}") == float(best["valid_loss"])  # the log is rounded
    assert metrics["threads"] >= 1  # "the same to the bit" is promised for equal numbers
    assert not unbroken.last.exists()
    assert (unbroken.path / "tensorboard").is_dir()
    rates = [float(row["learning_rate"]) for row in rows]
    losses = [float(row["valid_loss"]) for row in rows]
    for epoch in range(1, len(rows)):  # patience 1: the epoch after one without improvement has a tenth of the rate
        better = losses[epoch - 1] < min(losses[: epoch - 1], default=np.inf)
        assert rates[epoch] == pytest.approx(rates[epoch - 1] * (1 if better else 0.1), rel=1e-4)
    assert min(rates) < max(rates), "the rate never dropped: this test and the next prove less than they say"


def test_oof_and_training_sample_are_disjoint_and_follow_the_table(unbroken: runs.FoldDir, place: Path) -> None:
    with next((place / "output" / "folds").glob("tiny-stratified2.csv")).open() as file:
        fold_of_id = {row["id"]: int(row["fold"]) for row in csv.DictReader(file)}
    valid = set(predictions.load_predictions(unbroken.oof).ids.tolist())
    assert valid == {id_ for id_, fold in fold_of_id.items() if fold == 0}
    assert set(predictions.load_predictions(unbroken.train).ids.tolist()) == set(fold_of_id) - valid


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_result(unbroken: runs.FoldDir, place: Path) -> None:
    fold = runs.run_dir(place / "output", "killed").fold(0)
    for rows in (1, 3, 5):  # 5: training is over, prediction is not
        process = subprocess.Popen(command(place, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not fold.log.exists() or len(figures(fold)) <= rows):
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(place, "killed"), check=True, capture_output=True)
    assert_same_result(unbroken, fold)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_so_and_is_no_success(sent: signal.Signals, place: Path) -> None:
    """Lightning leaves with exit code 0 after SIGTERM; scripts/run.py would go on to predict and submit."""
    name = f"stopped-{sent.name}"
    fold = runs.run_dir(place / "output", name).fold(0)
    process = subprocess.Popen(
        command(place, name, "--set", "train.epochs=500"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )
    while process.poll() is None and (not fold.log.exists() or len(figures(fold)) <= 2):
        time.sleep(0.01)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the same command goes on from the last finished epoch" in errors
    assert "Traceback" not in errors
    assert fold.last.is_file()
    assert not fold.finished()


def test_a_loss_that_is_not_finite_is_refused(place: Path) -> None:
    with pytest.raises(InputError, match=r"the validation loss is not finite; lower train.learning_rate"):
        train(place, "nan", "train.learning_rate=1e30")


def test_settings_that_cannot_work_leave_no_run_behind(place: Path) -> None:
    with pytest.raises(InputError, match=r"data.size is 32, smaller than tiles of 101 pixels"):
        train(place, "small", "data.resize_mode=pad")
    assert not (place / "output" / "runs" / "small").exists()


def test_a_fold_that_is_being_trained_is_refused(place: Path) -> None:
    with (
        runs.run_dir(place / "output", "guarded").fold(0).locked(),
        pytest.raises(InputError, match="is being written by another process"),
    ):
        train(place, "guarded")


def test_a_finished_fold_is_skipped(unbroken: runs.FoldDir, place: Path) -> None:
    before = unbroken.metrics.stat().st_mtime_ns
    assert train(place, "unbroken")[1] == [0]
    assert unbroken.metrics.stat().st_mtime_ns == before


def test_another_configuration_under_the_same_name_is_refused(unbroken: runs.FoldDir, place: Path) -> None:
    with pytest.raises(InputError, match=r"^run 'unbroken' exists and differs \(train.seed: 0 → 7\)"):
        train(place, "unbroken", "train.seed=7")


def test_the_name_of_a_blend_is_refused(place: Path) -> None:
    blend = place / "output" / "blends" / "taken"
    blend.mkdir(parents=True)
    with pytest.raises(InputError, match=r"blends.taken is a blend of that name, which this run would hide; choose an"):
        train(place, "taken")
    assert not (place / "output" / "runs" / "taken").exists()


def test_a_dataset_without_labels_or_without_anything_to_predict_is_refused(place: Path) -> None:
    settings = override(experiments.named("unet"), SETTINGS)
    for name, message in (
        ("train", "there is nothing to learn from"),
        ("sample_submission", "to predict; give the dat"),
    ):
        root = place / "input" / f"no_{name}"
        shutil.copytree(place / "input" / "tiny", root)
        (root / f"{name}.csv").write_text("id,rle_mask\n")
        run = runs.run_dir(place / "output", root.name)
        with pytest.raises(InputError, match=rf"{name}.csv lists no image.*{message}"):
            run_training.prepare_run(TrainingJob(settings, root.name, run, place / "input", place / "output"))
        assert not run.path.exists()


def test_a_fold_that_is_not_in_the_table_is_refused_before_training(place: Path) -> None:
    with pytest.raises(InputError, match="no fold 7; this table has folds 0, 1"):
        train(place, "never", wanted=[7])
    assert not (place / "output" / "runs" / "never").exists()


def test_other_seeds_give_other_weights(unbroken: runs.FoldDir, place: Path) -> None:
    run, _ = train(place, "other", "train.epochs=1", "train.seed=1")
    first, second = weights(unbroken), weights(run.fold(0))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_fewer_training_images_are_a_part_of_the_folds_own(place: Path) -> None:
    """Each fold trains on a part of its own training images, and validates and predicts all of its images."""
    run, _ = train(place, "few", "train.epochs=1", "folds.train_images=5", wanted=[0, 1])
    more, _ = train(place, "more", "train.epochs=1", "folds.train_images=9", wanted=[0])
    with (place / "output" / "folds" / "tiny-stratified2.csv").open() as file:
        fold_of_id = {row["id"]: int(row["fold"]) for row in csv.DictReader(file)}
    used = []
    for number in (0, 1):
        metrics = json.loads(run.fold(number).metrics.read_text())
        assert (metrics["n_train"], metrics["n_valid"]) == (5, 18)
        valid = set(predictions.load_predictions(run.fold(number).oof).ids.tolist())
        assert valid == {id_ for id_, fold in fold_of_id.items() if fold == number}
        used.append(set(predictions.load_predictions(run.fold(number).train).ids.tolist()))
        assert len(used[number]) == 5
        assert not used[number] & valid
    assert used[0] < set(predictions.load_predictions(more.fold(0).train).ids.tolist())


@pytest.mark.parametrize(("speedup", "chosen"), [(2.0, "bf16"), (1.0, "32")])
def test_the_precision_is_chosen_once_recorded_and_used_again(
    place: Path, speedup: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU with bfloat16 instructions: another timing would raise StopIteration."""
    timings = iter([speedup])
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(precision, "bf16_speedup", lambda *_: next(timings))
    name = f"auto-{chosen}"
    with tiny_fold.breaking_off(stop_at=4), pytest.raises(tiny_fold.Interrupted):
        train(place, name, "train.precision=auto", "train.epochs=2")
    run, _ = train(place, name, "train.precision=auto", "train.epochs=2")
    assert io.read_json(run.provenance)["precision"] == chosen
    assert run.read_config().train.precision == "auto"
    assert precision.trained_config(run).train.precision == chosen
    given, _ = train(place, f"given-{chosen}", f"train.precision={chosen}", "train.epochs=2")
    assert_same_result(run.fold(0), given.fold(0))


def test_a_run_that_is_older_than_the_record_goes_on_in_float32(place: Path) -> None:
    with tiny_fold.breaking_off(stop_at=4), pytest.raises(tiny_fold.Interrupted):
        train(place, "older", "train.epochs=2")
    run = runs.run_dir(place / "output", "older")
    provenance = io.read_json(run.provenance)
    del provenance["precision"]
    io.write_json(run.provenance, provenance)
    io.write_atomic(run.config, run.config.read_text().replace("precision: '32'", "precision: auto"))
    train(place, "older", "train.epochs=2", "train.precision=auto")
    whole, _ = train(place, "whole", "train.epochs=2")
    assert_same_result(run.fold(0), whole.fold(0))


@pytest.mark.slow
def test_folds_side_by_side_give_the_same_and_one_that_fails_stops_no_other(
    place: Path, unbroken: runs.FoldDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # sums depend on how threads share them
    together = runs.run_dir(place / "output", "together")
    options = command(place, "together", "--parallel", "2", "--folds", "all")
    with together.fold(1).locked():
        done = subprocess.run(options, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not finished: fold_1; the same command tries them again" in done.stderr
    assert "is being written by another process" in (together.path / "logs" / "fold_1.log").read_text()
    assert_same_result(together.fold(0), unbroken)
    again = subprocess.run(options, check=False, capture_output=True, text=True)
    assert (again.returncode, together.fold(1).finished()) == (0, True)
    assert "fold 0 of together is finished already; skipped" in again.stdout


@pytest.mark.slow
def test_two_processes_train_one_network_together(
    place: Path, unbroken: runs.FoldDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 tiles in batches of 8, four for each: one of them writes, and the losses are those of a training alone."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shared = runs.run_dir(place / "output", "shared")
    done = subprocess.run(command(place, "shared", "--devices", "2"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics, rows = json.loads(shared.fold(0).metrics.read_text()), figures(shared.fold(0))
    assert (metrics["epochs"], metrics["devices"], len(rows)) == (5, 2, 6)
    assert len(list((shared.fold(0).path / "tensorboard").glob("events*"))) == 1
    assert all(np.isfinite(float(value)) for value in rows[-1][1:])
    assert done.stdout.count("score ") == 1
    # Batch norm sees half the images in each process, so the losses are near, not equal.
    assert float(rows[1][1]) == pytest.approx(float(figures(unbroken)[1][1]), rel=0.1)
    # What is logged is the loss of the weights that are kept, on all images.
    settings, labeled = shared.read_config(), competition.read_train(place / "input" / "tiny")
    table = folds.read_table(place / "output" / "folds" / "tiny-stratified2.csv", labeled.ids)
    valid = fold.fold_data(0, labeled, Images((), labeled.images[:0]), table, settings.folds).valid
    network = checkpoints.load_network(settings, shared.fold(0).network)
    with torch.no_grad():
        parts = [(network(images), masks) for images, masks in fold.batches(settings, valid, 0, learning=False)]
    logits, masks = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    assert metrics["valid_loss"] == pytest.approx(float(losses.binary_cross_entropy(logits, masks)), rel=1e-4)
    refused = subprocess.run(command(place, "shared"), check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "run 'shared' exists and differs (devices: changed)" in refused.stderr


@pytest.mark.slow
def test_two_processes_lower_the_learning_rate_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's loss falls, the other one's rises twice as fast: on the mean neither improves."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = """
        import sys
        import torch
        import tiny_fold
        from pathlib import Path
        from saltseg.runs import FoldDir
        from saltseg.training import fold
        from saltseg.training.module import SaltModule

        def validation_step(module, batch, index):
            slope = 2 if module.global_rank else -1
            module.log_validation(torch.tensor(1.0 + 0.1 * slope * module.current_epoch), 0.5, len(batch[0]))

        def on_train_end(module):
            [rate] = {group["lr"] for group in module.optimizers().param_groups}
            Path(sys.argv[1], f"rate{module.global_rank}").write_text(f"{rate:.1g}")

        SaltModule.validation_step, SaltModule.on_train_end = validation_step, on_train_end
        settings = tiny_fold.settings("train.epochs=3", "train.schedule.patience=1")
        fold.run(settings, tiny_fold.data(), FoldDir(Path(sys.argv[1], "fold_0")), "both", devices=2)
    """
    (tmp_path / "both.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "both.py"), str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # Epoch 1 is the best on the mean; epochs 2 and 3 each end with a tenth of the rate.
    assert [(tmp_path / f"rate{rank}").read_text() for rank in (0, 1)] == ["1e-05", "1e-05"]


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_to_the_same_result(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole, broken = (runs.run_dir(place / "output", name).fold(0) for name in ("shared", "stopped"))
    if not whole.finished():
        subprocess.run(command(place, "shared", "--devices", "2"), check=True, capture_output=True)
    process = subprocess.Popen(command(place, "stopped", "--devices", "2"), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not broken.last.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert not broken.finished()
    subprocess.run(command(place, "stopped", "--devices", "2"), check=True, capture_output=True)
    assert_same_result(broken, whole)
