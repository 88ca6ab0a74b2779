"""A network in half the bytes, and back: the weights of convolutions in float16, all other tensors as they are.

Biases, normalization and the numbers of the rows stay in float32. They are some percent of the numbers, and variances
may exceed what float16 can hold.
"""

from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from saltseg.config import Config
from saltseg.errors import InputError, reason
from saltseg.io import write_atomic
from saltseg.models import pretrained_sources, zoo

CONVOLUTION_AXES = 4


def write(path: Path, network: nn.Module) -> None:
    """Write the tensors of a network as safetensors, atomically.

    Raises:
        InputError: a weight is too large for float16.
    """
    halved = {
        name: (tensor.half() if tensor.ndim == CONVOLUTION_AXES else tensor).cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    if name := pretrained_sources.not_finite(halved):
        raise InputError(f"{name} holds a weight that float16 cannot; train with a higher train.weight_decay")
    write_atomic(path, safetensors.torch.save(halved))


def read(settings: Config, path: Path) -> nn.Module:
    """The network that ``settings`` describes with the weights that `write` wrote, in float32 and evaluation mode.

    Raises:
        InputError: the file is missing or damaged, or does not fit the network.
    """
    network = zoo.build(settings.model, pretrained=False)
    state = pretrained_sources.read(path)
    try:
        network.load_state_dict(
            {name: value.float() if value.dtype == torch.half else value for name, value in state.items()}
        )
    except RuntimeError as error:
        raise InputError(
            f"{path} does not fit the network of its config.yaml ({reason(error)}); fetch it again, or use the "
            "version of saltseg that wrote it"
        ) from None
    return network.to(memory_format=torch.channels_last).eval()
