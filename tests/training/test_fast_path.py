"""Speed never changes results: what is faster agrees with the plain way within the tolerance stated here."""

import copy
from pathlib import Path

import numpy as np
import pytest
import tiny_fold
import torch
from torch import Tensor, nn

from saltseg import config, io
from saltseg.inference import predict
from saltseg.models import checkpoints, losses, zoo
from saltseg.models.salt_network import outputs

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
def test_bfloat16_predicts_the_same_within_a_twentieth(name: str, tmp_path: Path) -> None:
    """After a training in bfloat16, which learns. Lite0's depthwise convolutions stay in float32."""
    changes = (
        *EXPERIMENTS[name],
        "data.size=64",
        "train.precision=bf16",
        "train.epochs=6",
        "train.learning_rate=0.005",
    )
    fold, _ = tiny_fold.train(tmp_path / "fold_0", *changes, "train.checkpoint=last", "train.schedule=constant")
    losses = [float(row["train_loss"]) for row in io.read_csv(fold.log)]
    assert losses[-1] < 0.8 * losses[0], losses
    trained = settings(name, "train.precision=bf16")
    network = checkpoints.load_network(trained, fold.network)
    images = tiny_fold.data().valid.images
    mixed = predict.probabilities([network], images, trained)
    full = predict.probabilities([network], images, config.override(trained, ["train.precision=32"]))
    assert 0 < np.abs(full - mixed).max() < 0.05
    assert full.std() > 0.05  # it says something
