"""Optimizers, learning rates and averages of weights: by hand, and as a real training uses them."""

import math
from pathlib import Path
from unittest import mock

import pytest
import torch
from lightning import LightningModule
from tiny_fold import STEPS, State, assert_equal, settings, train, weights
from torch import Tensor, nn

from saltseg.config import CosineSchedule, OneCycleSchedule, TrainConfig
from saltseg.models import zoo
from saltseg.training import callbacks, optimizers

FIXED = ["train.checkpoint=last", "train.schedule=constant"]  # nothing depends on the validation images


def toy() -> nn.Sequential:
    """One decayed parameter of 2, four that are not, all with gradient 0."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 2.0)
        parameter.grad = torch.zeros_like(parameter)
    return network


def initial() -> State:
    """The weights that `tiny_fold.train` starts from: its fold and seed are 0."""
    torch.manual_seed(0)
    return zoo.build(settings().model).state_dict()


def floats(state: State) -> State:
    """Without the counts of batches, which no average of weights can mean."""
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


# Optimizers


@pytest.mark.parametrize(
    ("kind", "shrunk"),
    [
        ("adamw", 2 - 0.1 * 0.3 * 2),  # decoupled: rate x decay x weight
        ("sgd", 2 - 0.1 * 1.9 * 0.3 * 2),  # as gradient 0.3 x 2; Nesterov's first step goes 1 + 0.9 times as far
        ("adam", 2 - 0.1),  # as gradient too, of which Adam's first step keeps the sign only
    ],
)
def test_weight_decay_by_hand_and_not_on_biases_and_normalization(kind: str, shrunk: float) -> None:
    network = toy()
    train_config = TrainConfig(optimizer=kind, learning_rate=0.1, weight_decay=0.3)  # type: ignore[arg-type]
    optimizers.optimizer(network, train_config).step()
    values = {name: parameter.item() for name, parameter in network.named_parameters()}
    assert values == {"0.weight": pytest.approx(shrunk), "0.bias": 2, "1.weight": 2, "1.bias": 2}


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_every_parameter_is_optimized_once(kind: str, decay: float) -> None:
    network = zoo.build(settings().model)
    chosen = optimizers.optimizer(network, TrainConfig(optimizer=kind, weight_decay=decay))  # type: ignore[arg-type]
    assert type(chosen) is {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[kind]
    given = [id(parameter) for group in chosen.param_groups for parameter in group["params"]]
    assert sorted(given) == sorted(map(id, network.parameters()))
    decays = {id(p): group["weight_decay"] for group in chosen.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert decays[id(parameter)] == (decay if name.endswith("weight") and parameter.ndim > 1 else 0), name


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_without_weight_decay_weights_without_gradient_stay(kind: str) -> None:
    network = toy()
    optimizers.optimizer(network, TrainConfig(optimizer=kind, learning_rate=0.1)).step()  # type: ignore[arg-type]
    assert {parameter.item() for parameter in network.parameters()} == {2.0}


def test_an_average_follows_the_network_to_its_device() -> None:
    """Lightning makes it before the network is moved; every step would copy all weights to the processor."""
    module = LightningModule()
    module.layer = torch.nn.Linear(2, 2)
    averaging = callbacks.Averaging(TrainConfig(ema_decay=0.9))
    averaging.setup(mock.Mock(), module, "fit")
    module.to("meta")  # stands in for a GPU
    averaging.on_fit_start(mock.Mock(), module)
    assert averaging._average_model is not None
    assert {tensor.device.type for tensor in averaging._average_model.parameters()} == {"meta"}


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path) -> None:
    """SGD's first step with Nesterov momentum goes rate x 1.9 x gradient."""
    sgd = ["train.epochs=1", "train.optimizer=sgd", "train.learning_rate=0.5", *FIXED]
    norms = []
    for clip in (0.001, 0.0):
        _, record = train(tmp_path / str(clip) / "fold_0", *sgd, f"train.grad_clip_norm={clip}")
        network = zoo.build(settings().model)
        moved = [record.after[0][name] - initial()[name] for name, _ in network.named_parameters()]
        norms.append(math.sqrt(sum(float(step.square().sum()) for step in moved)))
    assert norms[0] == pytest.approx(0.5 * 1.9 * 0.001, rel=1e-3)
    assert norms[1] > 100 * norms[0]


# Learning rates


def used(schedule: CosineSchedule | OneCycleSchedule, steps_per_epoch: int, **fields: object) -> list[float]:
    """The learning rate of every step, stepped as `SaltModule` does."""
    train_config = TrainConfig(optimizer="sgd", checkpoint="last", schedule=schedule, **fields)  # type: ignore[arg-type]
    optimizer = optimizers.optimizer(toy(), train_config)
    scheduler, rates = optimizers.scheduler(optimizer, train_config, steps_per_epoch), []
    for step in range(train_config.epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule.kind == "one_cycle":
            scheduler.step()
        else:
            scheduler.step_update(step + 1)
    return rates


def test_cosine_with_warmup_by_hand() -> None:
    rates = used(CosineSchedule(warmup_epochs=1, minimum_learning_rate=0.1), 100, epochs=5, learning_rate=1.0)
    assert rates[0] == pytest.approx(0.01)
    assert rates[50] == pytest.approx((0.01 + 1) / 2)
    assert rates[100] == 1.0  # the first step of the second epoch
    assert rates[100 + 200] == pytest.approx((1 + 0.1) / 2)  # half way down
    assert rates[100 + 100] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert 0.1 < rates[499] < 0.1001
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_cosine_cycles_start_anew_at_the_first_step_of_an_epoch() -> None:
    rates = used(CosineSchedule(num_cycles=3, minimum_learning_rate=0.1), 100, epochs=6, learning_rate=1.0)
    assert [step for step, rate in enumerate(rates) if rate == 1.0] == [0, 200, 400]
    assert [rates[first + 100] for first in (0, 200, 400)] == pytest.approx([0.55] * 3)
    assert max(rates[199], rates[399], rates[599]) < 0.101


def test_a_minimum_above_the_top_leaves_the_rate_at_the_top() -> None:
    assert set(used(CosineSchedule(), 10, epochs=2, learning_rate=1e-6)) == {1e-6}  # default minimum: 1e-5


def test_one_cycle_by_hand() -> None:
    rates = used(OneCycleSchedule(), 10, epochs=10, learning_rate=1.0)
    assert rates[0] == pytest.approx(1 / 25)
    assert rates.index(max(rates)) == 29  # the last of the first 30 %
    assert rates[29] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 / 25 / 10_000)


@pytest.mark.parametrize(("kind", "momentum"), [("adam", {"betas": (0.9, 0.999)}), ("sgd", {"momentum": 0.9})])
def test_one_cycle_leaves_the_momentum_alone(kind: str, momentum: dict[str, object]) -> None:
    train_config = TrainConfig(optimizer=kind, checkpoint="last", schedule=OneCycleSchedule(), epochs=4)  # type: ignore[arg-type]
    optimizer = optimizers.optimizer(toy(), train_config)
    scheduler = optimizers.scheduler(optimizer, train_config, 10)
    for _ in range(40):
        assert {name: optimizer.param_groups[0][name] for name in momentum} == momentum
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["train.schedule=constant"], [1e-3] * 6),
        (["train.schedule=cosine"], [1e-3 * share for share in (1, 0.93368257, 0.7525, 0.505, 0.2575, 0.07631743)]),
        (["train.schedule=cosine", "train.schedule.warmup_epochs=1"], [1e-5, 3.4e-4, 6.7e-4, 1e-3, 7.525e-4, 2.575e-4]),
        (["train.schedule=cosine", "train.schedule.num_cycles=2"], [1e-3, 7.525e-4, 2.575e-4] * 2),
        (["train.schedule=one_cycle"], None),
    ],
    ids=lambda value: "-".join(value) if value and isinstance(value[0], str) else "",
)
def test_rates_that_a_training_uses(tmp_path: Path, assignments: list[str], expected: list[float] | None) -> None:
    """Two epochs of three steps; shares of the cosine: 0.01 + 0.99 (1 + cos(pi t / T)) / 2."""
    fold, record = train(tmp_path / "fold_0", "train.epochs=2", "train.checkpoint=last", *assignments)
    expected = expected or used(OneCycleSchedule(), STEPS, epochs=2)
    assert record.rates == pytest.approx(expected, rel=1e-6)
    assert fold.finished()


# Averages of weights


def recursion(states: list[State], decay: float) -> State:
    """The exponential average, step by step, from the first state on."""
    average = floats(states[0])
    for state in states[1:]:
        average = {name: decay * tensor + (1 - decay) * state[name] for name, tensor in average.items()}
    return average


def test_the_exponential_average_is_a_recursion_over_the_steps(tmp_path: Path) -> None:
    fold, record = train(tmp_path / "ema" / "fold_0", "train.epochs=3", "train.ema_decay=0.6", *FIXED)
    for epoch in range(3):  # what validates is the average up to there, batch norm statistics included
        expected = recursion(record.after[: (epoch + 1) * STEPS], 0.6)
        torch.testing.assert_close(floats(record.validated[epoch]), expected)
    assert_equal(weights(fold.network), record.validated[-1])
    assert (record.validated[-1]["head.weight"] - record.after[-1]["head.weight"]).abs().max() > 1e-4

    _, without = train(tmp_path / "none" / "fold_0", "train.epochs=3", *FIXED)
    for one, other in zip(record.after, without.after, strict=True):  # training never sees the average
        assert_equal(one, other)
    assert_equal(without.validated[0], without.after[STEPS - 1])


def test_equal_weights_are_the_mean_of_the_epochs_ends(tmp_path: Path) -> None:
    swa = ["train.epochs=4", "train.swa_start_epoch=2", *FIXED]
    fold, record = train(tmp_path / "swa" / "fold_0", *swa)
    ends = [floats(record.after[(epoch + 1) * STEPS - 1]) for epoch in range(4)]
    torch.testing.assert_close(floats(record.validated[0]), ends[0])  # nothing to average yet
    for epoch in (1, 2, 3):
        mean = {name: torch.stack([end[name] for end in ends[1 : epoch + 1]]).mean(dim=0) for name in ends[0]}
        torch.testing.assert_close(floats(record.validated[epoch]), mean)
    kept = weights(fold.network)
    names = [name for name, _ in zoo.build(settings().model).named_parameters()]
    torch.testing.assert_close({name: kept[name] for name in names}, {name: mean[name] for name in names})

    _, without = train(tmp_path / "none" / "fold_0", "train.epochs=4", *FIXED)
    for one, other in zip(record.after, without.after, strict=True):
        assert_equal(one, other)


def test_the_average_covers_statistics_and_leaves_constants(tmp_path: Path) -> None:
    """A normalization that the average moved would be another network's."""
    model = ["model.architecture=smp.Unet", "model.encoder=tu-tf_efficientnet_lite0", "model.hypercolumn=true"]
    fold, record = train(tmp_path / "fold_0", "train.epochs=1", "train.ema_decay=0.6", *model, *FIXED)
    kept: dict[str, Tensor] = weights(fold.network)
    assert (kept["mean"].tolist(), kept["std"].tolist()) == ([[[0.0]]], [[[1.0]]])
    name = "network.encoder.model.bn1.running_var"
    torch.testing.assert_close(kept[name], recursion(record.after, 0.6)[name])
