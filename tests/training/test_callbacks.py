"""Which weights a training saves, what it logs, and that both are the same after an interruption."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_fold import STEPS, Interrupted, assert_equal, data, settings, train, weights
from torch import Tensor, nn

from saltseg import io, predictions
from saltseg.data.dataset import EpochSampler, TileDataset, loader
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.models import checkpoints, losses, zoo
from saltseg.models.losses import binary_cross_entropy
from saltseg.runs import FoldDir
from saltseg.training import fold as fold_module
from saltseg.training import trainer
from saltseg.training.callbacks import EpochLog

FIXED = ["train.checkpoint=last", "train.schedule=constant"]


def rows(fold: FoldDir) -> list[dict[str, str]]:
    """The log without wall-clock times."""
    with fold.log.open() as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def files(fold: FoldDir) -> list[str]:
    """The names of the weights to predict with."""
    return sorted(path.name for path in fold.path.glob("network*"))


# Which weights


def test_the_log_is_rounded_and_the_rows_that_choose_the_best_epoch_are_not(tmp_path: Path) -> None:
    log = EpochLog(tmp_path / "log.csv")
    for epoch, loss in enumerate((0.12345649, 0.12345641)):
        metrics = {"train_loss": loss, "valid_loss": loss, "valid_frame_accuracy": 0.5, "learning_rate": 1e-3}
        trainer = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch, is_global_zero=True)
        log.on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
        log.on_validation_start(trainer, None)  # type: ignore[arg-type]
        log.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    assert [(row["epoch"], row["valid_loss"]) for row in log.rows] == [(1, 0.12345649), (2, 0.12345641)]
    rows = io.read_csv(tmp_path / "log.csv")
    assert [(row["epoch"], row["valid_loss"]) for row in rows] == [("1", "0.123456"), ("2", "0.123456")]


def test_the_best_epochs_weights_are_kept(tmp_path: Path) -> None:
    fold, record = train(tmp_path / "fold_0", "train.epochs=7", "train.learning_rate=0.03", "train.seed=1")
    found = [float(row["valid_loss"]) for row in rows(fold)]
    best = found.index(min(found))
    assert 0 < best < 6, f"this test needs a best epoch in the middle: {found}"
    assert_equal(weights(fold.network), record.validated[best])
    assert files(fold) == ["network.ckpt"]


def test_the_last_epochs_weights_are_kept(tmp_path: Path) -> None:
    fold, record = train(tmp_path / "fold_0", "train.epochs=6", "train.learning_rate=0.03", *FIXED)
    found = [float(row["valid_loss"]) for row in rows(fold)]
    assert min(found) < found[-1], "this test needs a last epoch that is not the best"
    assert_equal(weights(fold.network), record.after[-1])
    assert files(fold) == ["network.ckpt"]


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_one_set_of_weights_per_cycle_is_kept(tmp_path: Path, ema: float) -> None:
    cycles = ["train.schedule=cosine", "train.schedule.num_cycles=3", "train.checkpoint=snapshots"]
    fold, record = train(tmp_path / "fold_0", "train.epochs=6", *cycles, f"train.ema_decay={ema}")
    assert files(fold) == ["network_01.ckpt", "network_02.ckpt", "network_03.ckpt"]
    for number, epoch in enumerate((2, 4, 6), start=1):
        assert_equal(weights(fold.snapshot(number)), record.validated[epoch - 1])
        own = record.after[epoch * STEPS - 1]["head.weight"]
        assert torch.equal(weights(fold.snapshot(number))["head.weight"], own) == (ema == 0)


def test_averaged_weights_do_not_depend_on_who_loads_the_images(tmp_path: Path) -> None:
    """Batch norm is measured anew with dropout at work; how often a loader draws must not decide what it drops."""
    swa = ["train.epochs=3", "train.swa_start_epoch=2", "model.dropout=0.3", *FIXED]
    alone, _ = train(tmp_path / "alone" / "fold_0", *swa)
    helped, _ = train(tmp_path / "helped" / "fold_0", *swa, "runtime.workers=1")
    assert_equal(weights(alone.network), weights(helped.network))


def test_averaged_weights_have_batch_norm_statistics_of_their_own(tmp_path: Path) -> None:
    """Means and variances of what each batch norm is given, batch by batch, over the last epoch's training images."""
    swa = ["train.epochs=3", "train.swa_start_epoch=2", "train.learning_rate=0.01", "model.dropout=0", *FIXED]
    fold, record = train(tmp_path / "fold_0", *swa)
    assert io.read_json(fold.metrics)["valid_loss"] is None  # it was of other batch norm statistics
    kept, network = weights(fold.network), zoo.build(settings("model.dropout=0").model).train()
    network.load_state_dict(kept)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def look(name: str, given: Tensor) -> None:
        pixels = given.transpose(0, 1).flatten(1)
        seen.setdefault(name, []).append((pixels.mean(dim=1), pixels.var(dim=1)))

    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0]))
    images = data().train
    batches: Any = loader(
        TileDataset(images.images, images.masks, "none"),
        TileTransform.square("resize", 32), 1, batch_size=8, seed=0, shuffle=True, workers=0,
    )  # fmt: skip
    assert isinstance(batches.sampler, EpochSampler)
    batches.sampler.set_epoch(2)
    with torch.no_grad():
        for batch, _ in batches:
            network(batch)
    assert len(seen) == 18
    for name, found in seen.items():
        mean, variance = (torch.stack(figures).mean(dim=0) for figures in zip(*found, strict=True))
        torch.testing.assert_close(kept[f"{name}.running_mean"], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(kept[f"{name}.running_var"], variance, rtol=1e-4, atol=1e-5)
    before = record.validated[-1]["contract1.1.running_var"]  # merely averaged, that is what validated
    assert (before - kept["contract1.1.running_var"]).abs().max() > 1e-3


def test_cycles_are_counted_from_the_warm_up_and_all_of_them_predict(tmp_path: Path) -> None:
    cycles = [
        "train.schedule=cosine",
        "train.epochs=5",
        "train.schedule.warmup_epochs=1",
        "train.schedule.num_cycles=2",
        "train.checkpoint=snapshots",
    ]
    fold, record = train(tmp_path / "fold_0", *cycles)
    chosen = settings(*cycles)
    assert [path.name for path in fold.networks(chosen.train)] == ["network_01.ckpt", "network_02.ckpt"]
    for path, epoch in zip(fold.networks(chosen.train), (3, 5), strict=True):
        assert_equal(weights(path), record.validated[epoch - 1])
    both = [
        predict.probabilities([checkpoints.load_network(chosen, path)], data().valid.images, chosen)
        for path in fold.networks(chosen.train)
    ]
    mean = predictions.load_predictions(fold.oof).probabilities / 255
    np.testing.assert_allclose(mean, (both[0] + both[1]) / 2, atol=0.5 / 255 + 1e-5)
    (fold.path / "network_07.ckpt").write_bytes(b"a stray file is none of them")
    assert len(checkpoints.load_networks(chosen, fold)) == 2
    fold.snapshot(1).unlink()
    with pytest.raises(InputError, match=r"no checkpoint at .*network_01.ckpt"):  # never silently fewer
        checkpoints.load_networks(chosen, fold)


# What is written about it


def test_the_log_has_the_mean_rate_and_the_log_loss_whatever_trains(tmp_path: Path) -> None:
    fold, record = train(
        tmp_path / "fold_0", "train.epochs=2", "train.loss=dice", "train.schedule=cosine", "train.checkpoint=last"
    )
    for epoch, row in enumerate(rows(fold)):
        rates = record.rates[epoch * STEPS : (epoch + 1) * STEPS]
        mean = (8 * rates[0] + 8 * rates[1] + 4 * rates[2]) / 20
        assert float(row["learning_rate"]) == pytest.approx(mean, rel=1e-4)
    network, valid = zoo.build(settings().model), data().valid
    network.load_state_dict(weights(fold.network))
    fit = TileTransform.square("resize", 32)
    images = torch.from_numpy(fit.forward(valid.images.astype(np.float32) / 255))[:, None]
    masks = torch.from_numpy(fit.forward_masks(valid.masks).astype(np.float32))[:, None]
    with torch.no_grad():
        logits = network.eval()(images)
    assert float(rows(fold)[-1]["valid_loss"]) == pytest.approx(binary_cross_entropy(logits, masks).item(), rel=1e-4)
    accuracy = ((logits > 0) == (masks > 0.5)).float().mean().item()
    assert float(rows(fold)[-1]["valid_frame_accuracy"]) == pytest.approx(accuracy, rel=1e-4)


def test_the_validation_loss_is_a_mean_over_images_not_over_batches(tmp_path: Path) -> None:
    """Eight images in batches of five and three."""
    fold, record = train(tmp_path / "fold_0", "train.epochs=1", "train.batch_size=5", *FIXED)
    network = zoo.build(settings().model)
    network.load_state_dict(record.validated[-1])
    network.eval()
    batches = fold_module.batches(settings("train.batch_size=5"), data().valid, 0, learning=False)
    with torch.no_grad():
        pairs = [(binary_cross_entropy(network(images), masks).item(), len(images)) for images, masks in batches]
    assert [count for _, count in pairs] == [5, 3]
    by_image = sum(loss * count for loss, count in pairs) / 8
    found = float(rows(fold)[-1]["valid_loss"])
    assert found == pytest.approx(by_image, rel=1e-5)
    assert found != pytest.approx(sum(loss for loss, _ in pairs) / 2, rel=1e-4)


def test_looking_at_the_validation_images_less_often_changes_nothing_else(tmp_path: Path) -> None:
    common = ["train.epochs=4", "train.ema_decay=0.5", "train.schedule=cosine", "train.checkpoint=last"]
    often, record = train(tmp_path / "often" / "fold_0", *common)
    seldom, other = train(tmp_path / "seldom" / "fold_0", *common, "train.val_every_n_epochs=2")
    assert (len(record.validated), len(other.validated)) == (4, 2)
    assert_equal(weights(often.network), weights(seldom.network))
    for number, (one, two) in enumerate(zip(rows(often), rows(seldom), strict=True)):
        unseen = {"valid_loss", "valid_frame_accuracy"} if number % 2 == 0 else set()
        assert {name for name in one if one[name] != two[name]} == unseen
        assert all(two[name] == "nan" for name in unseen)


# At the first look at the validation images, later, and at the end: trained to it, and still not finished.
@pytest.mark.parametrize("late", [1, 3, 4])
@pytest.mark.parametrize("keep", ["last", "snapshots"])
def test_a_loss_that_stops_being_finite_is_no_finished_training(
    tmp_path: Path, keep: str, late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first cycle's weights would predict; nobody would notice that the second cycle's are missing."""
    monkeypatch.setitem(losses.LOSSES, "dice", lambda logits, masks: logits.sum() * math.nan)
    broken = [
        "train.epochs=4",
        *(["train.loss=dice"] if late == 1 else [f"train.second_loss_start_epoch={late}", "train.second_loss=dice"]),
        f"train.checkpoint={keep}",
    ]
    cosine = ["train.schedule=cosine", "train.schedule.num_cycles=2"]
    for _ in range(2):
        with pytest.raises(InputError, match=r"^tiny: the validation loss is not finite; lower train.learning_rate"):
            train(tmp_path / "fold_0", *broken, *cosine)
        assert not FoldDir(tmp_path / "fold_0").finished()
        monkeypatch.setattr(trainer, "make_trainer", None)  # starting again trains no more


def test_the_last_epoch_must_be_looked_at() -> None:
    """Weights are kept after a look at the validation images; without one at the end there would be none."""
    cycles = [
        "train.schedule=cosine",
        "train.epochs=9",
        "train.schedule.warmup_epochs=1",
        "train.schedule.num_cycles=2",
    ]
    with pytest.raises(InputError, match=r"^train.val_every_n_epochs is 4"):
        settings(*cycles, "train.checkpoint=last", "train.val_every_n_epochs=4")


# Interruptions

ADAMW = ["train.optimizer=adamw", "train.weight_decay=0.1"]
SGD = ["train.optimizer=sgd", "train.learning_rate=0.05", "train.grad_clip_norm=0.5"]
LATE = ["train.second_loss_start_epoch=3", "train.second_loss=lovasz_elu"]
COSINE = ["train.schedule=cosine", "train.checkpoint=last"]


@pytest.mark.parametrize(
    "assignments",
    [
        [*COSINE, "train.schedule.warmup_epochs=1", "train.ema_decay=0.6", *LATE, *ADAMW],
        [*COSINE, "train.ema_decay=0.6", "train.val_every_n_epochs=2", *SGD],
        ["train.schedule=one_cycle", "train.checkpoint=last", "train.swa_start_epoch=2", *ADAMW],
        ["train.schedule=cosine", "train.schedule.num_cycles=2", "train.checkpoint=snapshots", *SGD],
        ["train.schedule.patience=1", "train.checkpoint=best", "train.ema_decay=0.3"],
        [*COSINE, "train.ema_decay=0.6", "runtime.workers=1"],
    ],
    ids=["ema-warmup-late", "ema-seldom", "swa-one_cycle", "snapshots", "best-ema", "workers"],
)
def test_interrupted_twice_it_ends_with_the_same_result(tmp_path: Path, assignments: list[str]) -> None:
    common = ["train.epochs=4", "data.augment=light", *assignments]
    unbroken, whole = train(tmp_path / "unbroken" / "fold_0", *common)
    parts = [train(tmp_path / "broken" / "fold_0", *common, stop_at=step) for step in (4, 10)]  # in epochs 2 and 4
    broken, last = train(tmp_path / "broken" / "fold_0", *common)
    assert [len(record.after) for _, record in parts] == [4, 7]
    assert last.rates == whole.rates[9:]
    for one, other in zip(last.after, whole.after[9:], strict=True):
        assert_equal(one, other)
    assert files(broken) == files(unbroken)
    for path in unbroken.networks(settings(*common).train):
        assert_equal(weights(path), weights(broken.path / path.name))
    assert rows(broken) == rows(unbroken)
    for name in ("oof", "test", "train"):
        pair = [predictions.load_predictions(getattr(fold, name)).probabilities for fold in (unbroken, broken)]
        assert np.array_equal(*pair)


def test_interrupted_before_prediction_it_trains_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swa = ["train.epochs=3", "train.swa_start_epoch=2", *FIXED]
    unbroken, _ = train(tmp_path / "unbroken" / "fold_0", *swa)
    with monkeypatch.context() as patch:
        patch.setattr(predict, "predictions", raise_interrupted)
        broken, record = train(tmp_path / "broken" / "fold_0", *swa)
        assert len(record.after) == 9
    broken, record = train(tmp_path / "broken" / "fold_0", *swa)
    assert record.after == []
    assert_equal(weights(broken.network), weights(unbroken.network))
    assert rows(broken) == rows(unbroken)
    assert broken.finished()


def raise_interrupted(*_: object, **__: object) -> None:
    """In the place of a function that takes long."""
    raise Interrupted
