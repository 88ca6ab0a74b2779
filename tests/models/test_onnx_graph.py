"""Networks as ONNX graphs: equal to torch, or refused."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saltseg.config import ModelConfig, SmpConfig, UNetConfig
from saltseg.errors import InputError
from saltseg.models import onnx_graph, zoo

TINY = "tu-test_resnet"
FAST = UNetConfig(filters=2, extra_channels=("row",))
SLOW = {
    "hypercolumn": SmpConfig(encoder=TINY, hypercolumn=True, deep_supervision=True, attention="scse"),
    "FPN": SmpConfig(architecture="smp.FPN", encoder=TINY, stem="upsample_input"),
    "DeepLabV3Plus": SmpConfig(architecture="smp.DeepLabV3Plus", encoder="resnet18", stem="no_maxpool"),
    "Segformer": SmpConfig(architecture="smp.Segformer", encoder="mit_b0"),
}


@pytest.mark.parametrize(
    "model",
    [pytest.param(FAST, id="unet")]
    + [pytest.param(model, id=name, marks=pytest.mark.slow) for name, model in SLOW.items()],
)
def test_a_graph_computes_what_torch_does(model: ModelConfig) -> None:
    """At sizes that are padded inside, for one image and for several."""
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = zoo.build(model)
    with torch.no_grad():
        network(torch.rand(4, model.in_channels, 128, 128))  # batch norm has seen images
    network.eval()
    for size in (101,) if model is FAST else (101, 128):
        graph = onnx_graph.convert(network, torch.zeros(2, model.in_channels, size, size), ["images", "logits"])
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        for count in (1, 3):
            images = torch.rand(count, model.in_channels, size, size)
            with torch.no_grad():
                wanted = network(images).numpy()
            (found,) = session.run(None, {"images": images.numpy()})
            assert wanted.std() > 1e-3
            np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


def test_what_a_graph_cannot_express_is_refused() -> None:
    pytest.importorskip("onnxscript")

    class Undecided(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(InputError, match=r"the conversion to ONNX does not know how: .*; use torch"):
        onnx_graph.convert(Undecided(), torch.zeros(2, 1, 4, 4), ["images", "logits"])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(InputError, match=r"needs onnxscript, which is not installed; pip install -e '\.\[onnx\]'"):
        onnx_graph.convert(nn.Identity(), torch.zeros(2, 1, 4, 4), ["images", "logits"])
