"""ONNX Runtime and OpenVINO give torch's answers, in the precision that is asked for."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saltseg import config
from saltseg.config import Config
from saltseg.errors import InputError
from saltseg.inference import engines, predict
from saltseg.models import onnx_graph, precision, zoo

SETTINGS = config.change(
    Config(),
    {
        "model.architecture": "smp.Unet",
        "model.encoder": "tu-test_resnet",
        "model.decoder_channels": [16, 8, 8, 8, 8],
        "model.presence_head": True,
        "model.extra_channels": ["row", "image_x_row"],
        "data.resize_mode": "pad",
        "data.size": 112,
        "train.precision": "32",
        "predict.tta": ["identity", "hflip"],
    },
)
onnxruntime = pytest.mark.skipif(not find_spec("onnxruntime"), reason="onnxruntime is not installed")
openvino = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")


def with_statistics(network: nn.Module) -> nn.Module:
    """Batch statistics at random, so that a tensor left out or exchanged is felt."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    network = with_statistics(zoo.build(SETTINGS.model))
    with torch.no_grad():
        network.presence.weight.mul_(50)  # else it says nearly the same of all images
    return network


def tiles(count: int) -> np.ndarray:
    """Noise, each tile brighter than the one before."""
    brightness = np.linspace(0.2, 1, count)[:, None, None]
    return (np.random.default_rng(count).integers(0, 256, (count, 101, 101)) * brightness).astype(np.uint8)


def answers(network: nn.Module, images: np.ndarray, *changes: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and presence in 255ths, with settings of runtime changed."""
    settings = config.override(SETTINGS, [f"runtime.{change}" for change in changes])
    found = predict.predictions([network], [str(n) for n in range(len(images))], images, settings)
    assert found.presence_probability is not None
    return found.probabilities.astype(int), found.presence_probability.astype(int)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [pytest.param("onnxruntime", marks=onnxruntime), pytest.param("openvino", marks=openvino)]
)
def test_an_engine_gives_the_answers_of_torch(network: nn.Module, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At several sizes of a batch, which are parts of four images: one conversion serves all."""
    conversions: list[Any] = []
    convert = onnx_graph.convert
    monkeypatch.setattr(onnx_graph, "convert", lambda *given: (conversions.append(given), convert(*given))[1])
    monkeypatch.setattr(engines, "IMAGES_PER_THREAD", 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for count in (1, 6, 9):
        wanted, found = answers(network, tiles(count)), answers(network, tiles(count), f"engine={engine}")
        for one, other in zip(wanted, found, strict=True):
            assert np.abs(one - other).max() <= 1  # 255ths
            assert one.std() > 0 or count == 1
    assert len(conversions) == 1


def test_a_processor_gets_a_part_of_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads get 16 images of 40; the answers come back in order."""

    class Identity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias, self.seen = nn.Parameter(torch.zeros(1)), list[int]()

        def forward(self, images: Tensor) -> Tensor:
            self.seen.append(len(images))
            return images + self.bias

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    network, images = Identity(), torch.rand(40, 1, 4, 4)
    found = engines.outputs(network, images, SETTINGS)
    assert network.seen == [16, 16, 8]
    assert torch.equal(found.logits, images)
    assert found.presence is None


def test_presence_of_all_parts_comes_back_in_order(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = answers(network, tiles(9))[1]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(engines, "IMAGES_PER_THREAD", 4)
    assert np.abs(answers(network, tiles(9))[1] - wanted).max() <= 1  # 255ths
    assert np.ptp(wanted) > 10


@onnxruntime
def test_a_converted_network_is_collected_with_its_network() -> None:
    before = len(engines._known)
    network = zoo.build(config.UNetConfig(filters=1)).eval()
    settings = config.override(SETTINGS, ["runtime.engine=onnxruntime"])
    engines.outputs(network, torch.rand(1, 1, 16, 16), settings)
    assert len(engines._known) == before + 1
    del network
    assert len(engines._known) == before


# ---------------------------------------------------------------- precision


def test_the_precision_of_prediction_is_that_of_the_training_unless_another_is_set() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")

    def used(trained: str, asked: str, device: torch.device) -> str:
        changed = config.override(SETTINGS, [f"train.precision={trained}", f"runtime.precision={asked}"])
        return precision.of_prediction(changed, device)

    assert [used(trained, "trained", cpu) for trained in ("32", "bf16", "fp16")] == ["32", "bf16", "32"]
    assert [used(trained, "trained", gpu) for trained in ("32", "bf16", "fp16")] == ["32", "bf16", "fp16"]
    assert [used(trained, "bf16", cpu) for trained in ("32", "auto", "fp16")] == ["bf16"] * 3
    assert used("bf16", "32", gpu) == "32"


def test_torch_computes_in_the_precision_that_is_set(network: nn.Module) -> None:
    images = torch.rand(2, 1, 112, 112)
    with torch.inference_mode():
        for asked, dtype in (("32", torch.float32), ("bf16", torch.bfloat16)):
            changed = config.override(SETTINGS, [f"runtime.precision={asked}"])
            with precision.autocast(changed, images.device):
                assert engines.outputs(network, images, changed).logits.dtype == dtype


@openvino
def test_openvino_computes_in_the_precision_that_is_set(network: nn.Module) -> None:
    """Left alone, it would take bfloat16 for both where the processor has it."""
    if not engines._openvino_has_bf16():
        pytest.skip("this processor has no bfloat16")
    full = answers(network, tiles(4), "engine=openvino", "precision=32")[0]
    mixed = answers(network, tiles(4), "engine=openvino", "precision=bf16")[0]
    assert np.abs(full - answers(network, tiles(4))[0]).max() <= 1
    assert 1 <= np.abs(full - mixed).max() <= 25


def test_what_predicted_is_named() -> None:
    changed = config.override(SETTINGS, ["train.precision=fp16"])
    assert engines.describe(changed, torch.device("cpu")) == f"torch {torch.__version__.partition('+')[0]}, 32"


# ---------------------------------------------------------------- refusals


@onnxruntime
def test_onnxruntime_refuses_bfloat16() -> None:
    """Of a run that was trained in it, too: float32 must be asked for."""
    for changes in (["train.precision=bf16"], ["runtime.precision=bf16"]):
        with pytest.raises(InputError, match=r"does not compute in bf16; add --set runtime\.precision=32"):
            engines.check(config.override(SETTINGS, ["runtime.engine=onnxruntime", *changes]))


@openvino
def test_openvino_refuses_bfloat16_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_openvino_has_bf16", lambda: False)
    with pytest.raises(
        InputError, match=r"does not compute in bf16 on this processor; add --set runtime\.precision=32"
    ):
        engines.check(config.override(SETTINGS, ["runtime.engine=openvino", "runtime.precision=bf16"]))


@pytest.mark.parametrize(("engine", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    engine: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"{engine}, which is not installed; pip install -e '\.\[{extra}\]'"):
        engines.check(config.override(SETTINGS, [f"runtime.engine={engine}"]))
