"""Mixed precision: which one is chosen, recorded and used, and what stays in float32 on a CPU."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from saltseg import config, io
from saltseg.config import Config
from saltseg.errors import InputError
from saltseg.models import precision
from saltseg.models.precision import keep_depthwise_float32
from saltseg.runs import RunDir


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 1, 1))


def test_only_depthwise_convolutions_compute_in_float32_under_autocast() -> None:
    plain, kept = network(), keep_depthwise_float32(network())
    seen = {}
    for name, module in kept.named_children():
        module.register_forward_hook(lambda _, x, y, name=name: seen.__setitem__(name, (x[0].dtype, y.dtype)))
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first, rounded, result = kept[0](x), plain[1](plain[0](x)), kept[1](kept[0](x))
        kept(x)
    expected = nn.functional.conv2d(first.float(), plain[1].weight, plain[1].bias, padding=1, groups=8)
    assert torch.equal(result, expected.detach().to(torch.bfloat16))
    assert not torch.equal(result, rounded)  # weights in bfloat16 round
    assert seen == {name: (torch.float32 if name == "0" else torch.bfloat16, torch.bfloat16) for name in "012"}
    assert torch.equal(kept(x), plain(x))  # without autocast nothing changes


def test_names_of_tensors_and_copies_survive() -> None:
    kept = keep_depthwise_float32(network())
    assert list(kept.state_dict()) == list(network().state_dict())
    other = copy.deepcopy(kept)
    with torch.no_grad():
        other[1].weight.zero_()
    x = torch.rand(1, 8, 4, 4)
    assert not torch.equal(kept[1](x), other[1](x))


# Choosing


def settings(asked: str = "auto") -> Config:
    return config.change(Config(), {"train.precision": asked, "data.size": 16})


def machine(patch: pytest.MonkeyPatch, gpu: bool = False, gpu_bf16: bool = False, **cpu: bool) -> None:
    """Pretend to have a GPU, with bfloat16 in hardware or emulated, and a CPU with these instructions."""
    patch.setattr(torch.cuda, "is_available", lambda: gpu)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: gpu_bf16 or including_emulation)
    patch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)


@pytest.mark.parametrize(
    ("asked", "hardware", "speedup", "chosen"),
    [
        ("auto", {"gpu": True, "gpu_bf16": True}, None, "bf16"),
        ("auto", {"gpu": True}, None, "fp16"),  # T4, P100
        ("32", {"gpu": True, "gpu_bf16": True}, None, "32"),
        ("fp16", {"gpu": True, "gpu_bf16": True}, None, "fp16"),
        ("auto", {"avx512_bf16": True}, 1.1, "bf16"),
        ("auto", {"amx_bf16": True, "avx512_bf16": False}, 3.0, "bf16"),
        ("auto", {"avx512_bf16": True}, 1.09, "32"),
        ("auto", {"avx512_f": True}, None, "32"),
        ("32", {"avx512_bf16": True}, None, "32"),
        ("bf16", {}, None, "bf16"),
    ],
)
def test_the_choice_follows_the_machine_and_the_timing(
    asked: str, hardware: dict[str, bool], speedup: float | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a speedup nothing is to be timed."""
    machine(monkeypatch, **hardware)
    shapes: list[torch.Size] = []

    def timing(network: nn.Module, images: torch.Tensor) -> float:
        shapes.append(images.shape)
        assert speedup is not None
        return speedup

    monkeypatch.setattr(precision, "bf16_speedup", timing)
    assert precision.choose(settings(asked), network(), 4) == chosen
    assert shapes == ([] if speedup is None else [(4, 1, 16, 16)])


def test_fp16_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    with pytest.raises(InputError, match=r"^train.precision is fp16, which needs a GPU; use bf16, 32 or auto"):
        precision.choose(settings("fp16"), network(), 4)


def test_the_speedup_is_that_of_the_fastest_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 0.9, 0.3, 0.2 and 0.1 seconds, in turn in float32 and bfloat16: 0.2 / 0.1."""
    clock = iter([0.0, 0.9, 1.0, 1.3, 2.0, 2.2, 3.0, 3.1])
    monkeypatch.setattr(precision.time, "thread_time", lambda: next(clock))
    kinds: list[torch.dtype] = []
    timed, before, threads = network(), copy.deepcopy(network().state_dict()), torch.get_num_threads()
    timed.register_forward_hook(lambda _, x, y: kinds.append(y.dtype))
    assert precision.bf16_speedup(timed, torch.rand(4, 1, 16, 16)) == pytest.approx(2.0)
    assert kinds == [torch.float32, torch.bfloat16] * 2
    assert torch.get_num_threads() == threads
    assert all(torch.equal(tensor, before[name]) for name, tensor in timed.state_dict().items())
    assert all(parameter.grad is None for parameter in timed.parameters())


# Recorded


@pytest.mark.parametrize(
    ("asked", "record", "hardware", "used"),
    [
        ("auto", {"precision": "32"}, {"avx512_bf16": True}, "32"),
        ("auto", {"precision": "bf16"}, {}, "bf16"),
        ("auto", {"precision": "fp16"}, {"gpu": True, "gpu_bf16": True}, "fp16"),
        ("auto", {}, {"avx512_bf16": True}, "32"),  # older than the record
        ("auto", {"precision": None}, {}, "32"),
        ("auto", {}, {"gpu": True, "gpu_bf16": True}, "bf16"),
        ("auto", {}, {"gpu": True}, "32"),
        ("bf16", {}, {}, "bf16"),
    ],
)
def test_a_run_keeps_its_precision_on_any_machine(
    asked: str, record: dict[str, Any], hardware: dict[str, Any], used: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    machine(monkeypatch, **hardware)
    run = RunDir(tmp_path)
    io.write_atomic(run.config, config.dump(settings(asked)))
    data = {"dataset": "tiny", "dataset_hash": "0", "folds_hash": "0", "synthetic": True}
    io.write_json(run.provenance, data | record)
    assert precision.trained_config(run) == settings(used)


@pytest.mark.parametrize(
    ("trained", "kind"),
    [
        ("32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float32),  # on a CPU
    ],
)
def test_predictions_use_the_precision_of_the_training(trained: str, kind: torch.dtype) -> None:
    with precision.autocast(settings(trained), torch.device("cpu")):
        assert torch.nn.functional.linear(torch.rand(2, 2), torch.rand(2, 2)).dtype == kind


def test_a_precision_that_is_not_resolved_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="not resolved"):
        precision.autocast(settings("auto"), torch.device("cpu"))
