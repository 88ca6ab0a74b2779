"""Networks → probabilities at the tiles' own size. Out-of-fold, test and folder predictions all come from here."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from saltseg import config
from saltseg.core.geometry import Fit
from saltseg.core.postprocess import quantise
from saltseg.data.dataset import to_input
from saltseg.errors import InputError
from saltseg.inference import tta
from saltseg.models import zoo

Progress = Callable[[int], object]
LARGEST = 4_000_000  # pixels of an image predicted whole; the U-Net holds about 1 kB per pixel


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uses_bf16(settings: config.Config) -> bool:
    """Whether training and prediction run in mixed bfloat16: asked for, or a GPU that has it in hardware."""
    if settings.train.precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return settings.train.precision == "bf16"


def load_network(settings: config.Config, path: Path) -> nn.Module:
    """The network that ``settings`` describes with the weights of a checkpoint, in evaluation mode.

    Reads tensors only (``weights_only=True``): a checkpoint from a stranger cannot run code.
    """
    network = zoo.build(settings.model)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        weights = {key.removeprefix("network."): value for key, value in saved.items()}
        network.load_state_dict(weights)
    except FileNotFoundError:
        raise InputError(f"no checkpoint at {path}; train the fold first with scripts/train.py") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file, all with many lines
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise InputError(f"{path} cannot be loaded ({reason}); delete the fold and train it again") from None
    return network.to(memory_format=torch.channels_last).eval()


@torch.inference_mode()
def probabilities(
    network: nn.Module,
    images: np.ndarray,
    settings: config.Config,
    *,
    views: tuple[str, ...] | None = None,
    fit: Fit | None = None,
    progress: Progress | None = None,
    out: type[np.float32] | type[np.uint8] = np.float32,
) -> np.ndarray:
    """Salt probability of every pixel, (N, H, W), averaged over the views.

    images: uint8 (N, H, W). views: names from ``tta.VIEWS``; default: those of the configuration. fit: how images
    reach the network; default: as tiles do. progress is called with the number of images done since its last call.
    out: float32 in [0, 1], or uint8 in 255ths, as predictions are stored.
    """
    chosen = tta.views(views or settings.predict.views)
    fit = fit or Fit.square(settings.data.fit, settings.data.size)
    device = next(network.parameters()).device
    height, width = images.shape[1:]
    result = np.empty(images.shape, out)
    network.eval()
    for start in range(0, len(images), settings.predict.batch_size):
        part = images[start : start + settings.predict.batch_size]
        batch = to_input(part, fit, settings.model.in_channels).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(settings)):
            mean = torch.stack([_probability(network, batch, view) for view in chosen]).mean(dim=0)
        values = np.clip(fit.inverse(mean[:, 0].cpu().numpy(), height, width), 0, 1)
        result[start : start + len(part)] = quantise(values) if out == np.uint8 else values
        if progress is not None:
            progress(len(part))
    return result


def _probability(network: nn.Module, batch: Tensor, view: tta.View) -> Tensor:
    return view.inverse(torch.sigmoid(network(view.forward(batch)).float()))


def of_any_size(networks: Sequence[nn.Module], image: np.ndarray, settings: config.Config) -> np.ndarray:
    """Salt probability, uint8 (H, W) in 255ths, of one image of any size: the mean over the networks and views.

    image: uint8 (H, W). The image is brought to the scale that the networks were trained at (a "resize" of
    101-pixel tiles to 128 enlarges a section by 128/101 too), seen whole, and the result is brought back.
    """
    height, width = image.shape
    if image.size > LARGEST:
        raise InputError(f"image of {height}x{width} pixels is too large to see whole; cut it into parts of 2000x2000")
    fit = Fit.section(settings.data.fit, settings.data.size, height, width)
    total = sum(probabilities(network, image[None], settings, fit=fit)[0] for network in networks)
    return quantise(total / np.float32(len(networks)))
