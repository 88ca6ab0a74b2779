"""Speed never changes results: what is faster agrees with the plain way within the tolerance stated here."""

import copy

import numpy as np
import pytest
import tiny_fold
import torch
from torch import Tensor, nn

from saltseg import config
from saltseg.inference import predict
from saltseg.models import losses, zoo
from saltseg.models.network import outputs

EXPERIMENTS = {
    "unet": ("model.filters=4", "model.dropout=0"),
    "lite0": (
        "model.architecture=smp.Unet", "model.encoder=tu-tf_efficientnet_lite0",
        "model.decoder_channels=[8, 8, 8, 8, 8]",
    ),
}  # fmt: skip


def settings(name: str, *changes: str) -> config.Config:
    return tiny_fold.settings(*EXPERIMENTS[name], "data.size=64", *changes)


def gradients(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of one step, and the gradient of every parameter in a row."""
    masks = (images[:, :1] > 0.5).float()
    loss = losses.from_text("bce")(outputs(network.train(), images).logits, masks)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_order_of_pixels_in_memory_changes_no_gradient(name: str) -> None:
    """Channels last, which training and prediction use, against NCHW: to one per cent of its length."""
    torch.manual_seed(0)
    network = zoo.build(settings(name).model)
    plain, fast = copy.deepcopy(network), network.to(memory_format=torch.channels_last)
    images = torch.rand(4, 1, 64, 64)
    loss, wanted = gradients(plain, images)
    same, found = gradients(fast, images.to(memory_format=torch.channels_last))
    assert float(same) == pytest.approx(float(loss), rel=1e-5)
    assert float((found - wanted).norm()) < 0.01 * float(wanted.norm())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_bfloat16_predicts_the_same_within_a_hundredth(name: str) -> None:
    """As on a GPU: probabilities within 0.01 on average and 0.1 at worst."""
    torch.manual_seed(0)
    network = zoo.build(settings(name).model).eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 101, 101), np.uint8)
    full, half = (
        predict.probabilities([network], images, settings(name, f"train.precision={precision}"))
        for precision in ("32", "bf16")
    )
    assert 0 < np.abs(full - half).mean() < 0.01
    assert np.abs(full - half).max() < 0.1
    assert full.std() > 0.01  # it says something
