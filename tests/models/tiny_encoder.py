"""A small encoder with random weights, its input, and files of tensors, for the tests of weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from segmentation_models_pytorch import encoders
from torch import Tensor, nn

from saltseg.models import pretrained
from saltseg.models.pretrained_sources import Pretrained

TINY = "tu-test_resnet"  # timm's for tests: 90 tensors, 0.4 million parameters


def encoder_of(name: str, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """Random weights and random batch statistics, so that a tensor left out or exchanged is felt."""
    torch.manual_seed(seed)
    encoder = encoders.get_encoder(name, in_channels=in_channels, weights=None).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return encoder


def copied(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Clones: safetensors refuses memory that two tensors share."""
    return {prefix + key: value.clone() for key, value in state.items()}


def images(channels: int, size: int = 64) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def assert_same_features(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one[1:], other[1:], strict=True):  # the first "feature" is the input itself
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()) if b.numel() else 0.0)


def write(path: Path, content: Any) -> str:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return f"file:{path}"


def from_file(name: str, encoder: str = TINY) -> Pretrained:
    result = pretrained.pretrained(name, encoder)
    assert result is not None
    return result
