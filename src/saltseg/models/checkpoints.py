"""Reading a fold's networks, and weights for a new one."""

import io as stdio
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saltseg.config import Config
from saltseg.errors import InputError, raise_if_of_machine, reason
from saltseg.io import write_atomic
from saltseg.models import half_precision, pretrained_sources, tensor_files, zoo
from saltseg.models.precision import best_device
from saltseg.models.salt_network import without_row_numbers
from saltseg.runs import FoldDir


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically.

    By way of memory: torch turns a full disk into an error that does not say so.
    """
    buffer = stdio.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def load_networks(settings: Config, fold: FoldDir) -> list[nn.Module]:
    """A fold's networks on the best device, in evaluation mode: one, or one per snapshot."""
    return [load_network(settings, path).to(best_device()) for path in fold.networks(settings.train)]


def load_network(settings: Config, path: Path) -> nn.Module:
    """The network that ``settings`` describes with the weights of a checkpoint, in evaluation mode.

    Of a published fold there may be no checkpoint but the same weights in half precision, see `half_weights`.

    Raises:
        InputError: there are neither, they are damaged, or their tensors hold NaN or do not fit the network.
    """
    if not path.is_file() and half_weights(path).is_file():
        return half_precision.read(settings, half_weights(path))
    network = zoo.build(settings.model, pretrained=False)
    try:
        state = tensor_files.load(path)["state_dict"]
        network.load_state_dict(state)
    except FileNotFoundError:
        raise _no_weights(path) from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file, all with many lines
        raise_if_of_machine(error)
        raise InputError(f"{path} cannot be loaded ({reason(error)}); delete the fold and train it again") from None
    if name := pretrained_sources.not_finite(state):
        raise InputError(
            f"{path} holds NaN or infinity in {name}: the training diverged; delete the fold and train it again with a "
            "lower train.learning_rate"
        )
    return network.to(memory_format=torch.channels_last).eval()


def require_weights(path: Path) -> None:
    """Raise InputError where there is neither a checkpoint nor its `half_weights`."""
    if not path.is_file() and not half_weights(path).is_file():
        raise _no_weights(path)


def _no_weights(path: Path) -> InputError:
    return InputError(
        f"no checkpoint at {path}; train the fold first with saltseg train, or remove {path.parent} if it was "
        "published without weights"
    )


def half_weights(path: Path) -> Path:
    """Where `saltseg publish --weights` puts the weights of a checkpoint, see `saltseg.models.half_precision`."""
    return path.with_suffix(".safetensors")


def weights_source(path: Path) -> str:
    """The line about pretrained weights in a checkpoint that `load_network` can read; "random" where it has none."""
    return tensor_files.load(path).get("weights_source", "random")


def load_weights(network: nn.Module, path: Path) -> str:
    """Copy a file's tensors into a whole network of the same architecture, in place.

    Returns:
        A line about where the weights are from.

    Raises:
        InputError: the file cannot be read as tensors, or one of them does not fit. Then nothing is copied.
    """
    state, own = map(without_row_numbers, (pretrained_sources.read(path), network.state_dict()))
    for name in (*own, *state):
        if name not in state:
            problem = f"no {name}, which the network has"
        elif name not in own:
            problem = f"{name}, which the network does not have"
        elif state[name].shape != own[name].shape:
            problem = f"{name} of shape {tuple(state[name].shape)}; the network's is {tuple(own[name].shape)}"
        else:
            continue
        raise InputError(
            f"train.init_from=file:{path} holds {problem}; give the weights of a whole network with the same model.* "
            "settings (model.weights=file:PATH takes an encoder alone)"
        )
    network.load_state_dict(state)
    return f"all weights from {pretrained_sources.title(path)}"
