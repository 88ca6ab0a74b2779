"""Networks → probabilities at the tiles' own size. Out-of-fold, test and folder predictions all come from here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saltseg import config
from saltseg.core.geometry import Fit
from saltseg.core.postprocess import quantise
from saltseg.data.dataset import to_input
from saltseg.errors import InputError, reason
from saltseg.inference import tta
from saltseg.models import zoo
from saltseg.models.network import outputs
from saltseg.runs import FoldDir, Predictions

Progress = Callable[[int], object]
LARGEST = 4_000_000  # pixels of an image predicted whole; networks hold 1 to 2 kB per pixel, 4 to 8 if upsampled


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uses_bf16(settings: config.Config) -> bool:
    """Whether training and prediction run in mixed bfloat16: asked for, or a GPU that has it in hardware."""
    if settings.train.precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return settings.train.precision == "bf16"


def bf16_would_pay(settings: config.Config) -> bool:
    """Whether this CPU has instructions for bfloat16 that ``train.precision=auto`` leaves unused; see RESULTS.md."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    has_them = known.get("avx512_bf16", False) or known.get("amx_bf16", False)
    return settings.train.precision == "auto" and not torch.cuda.is_available() and has_them


def load_networks(settings: config.Config, fold: FoldDir) -> list[nn.Module]:
    """A fold's networks on the best device, in evaluation mode: one, or one per snapshot."""
    return [load_network(settings, path).to(best_device()) for path in fold.networks(settings.train)]


def load_network(settings: config.Config, path: Path) -> nn.Module:
    """The network that ``settings`` describes with the weights of a checkpoint, in evaluation mode.

    Reads tensors only (``weights_only=True``): a checkpoint from a stranger cannot run code.
    """
    network = zoo.build(settings.model, pretrained=False)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except FileNotFoundError:
        raise InputError(f"no checkpoint at {path}; train the fold first with scripts/train.py") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file, all with many lines
        raise InputError(f"{path} cannot be loaded ({reason(error)}); delete the fold and train it again") from None
    return network.to(memory_format=torch.channels_last).eval()


def origin(path: Path) -> str:
    """The line about pretrained weights in a checkpoint that `load_network` can read; "random" where it has none."""
    return torch.load(path, map_location="cpu", weights_only=True).get("origin", "random")


def predictions(
    networks: Sequence[nn.Module],
    ids: Sequence[str],
    images: np.ndarray,
    settings: config.Config,
    *,
    views: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """What networks say of images uint8 (N, H, W), ready to be stored with their ids; see `probabilities`."""
    values, presence = _predict(networks, images, settings, views, None, progress, np.uint8)
    return Predictions(np.array(ids), values, presence=presence)


def probabilities(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    settings: config.Config,
    *,
    views: tuple[str, ...] | None = None,
    fit: Fit | None = None,
    progress: Progress | None = None,
    out: type[np.float32] | type[np.uint8] = np.float32,
) -> np.ndarray:
    """Salt probability of every pixel, (N, H, W), averaged over the networks and the views.

    images: uint8 (N, H, W). views: names from ``tta.VIEWS``; default: those of the configuration. fit: how images
    reach the networks; default: as tiles do. progress is called with the number of images done since its last call.
    out: float32 in [0, 1], or uint8 in 255ths, as predictions are stored.
    """
    return _predict(networks, images, settings, views, fit, progress, out)[0]


@torch.inference_mode()
def _predict(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    settings: config.Config,
    views: tuple[str, ...] | None,
    fit: Fit | None,
    progress: Progress | None,
    out: type[np.float32] | type[np.uint8],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (N, H, W) and, from networks with an empty-image head, of holding salt, uint8 (N,) in 255ths."""
    chosen = tta.views(views or settings.predict.views)
    fit = fit or Fit.square(settings.data.fit, settings.data.size)
    device = next(networks[0].parameters()).device
    height, width = images.shape[1:]
    result = np.empty(images.shape, out)
    presence = np.empty(len(images), np.uint8) if settings.model.empty_head else None
    for network in networks:
        network.eval()
    for start in range(0, len(images), settings.predict.batch_size):
        part = images[start : start + settings.predict.batch_size]
        batch = to_input(part, fit, settings.model.in_channels).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(settings)):
            found = [_view(network, batch, view) for network in networks for view in chosen]
        mean = torch.stack([pixels for pixels, _ in found]).mean(dim=0)
        values = np.clip(fit.inverse(mean[:, 0].cpu().numpy(), height, width), 0, 1)
        done = slice(start, start + len(part))
        result[done] = quantise(values) if out == np.uint8 else values
        if presence is not None:
            presence[done] = quantise(torch.stack([whole for _, whole in found]).mean(dim=0).cpu().numpy())
        if progress is not None:
            progress(len(part))
    return result, presence


def _view(network: nn.Module, batch: Tensor, view: tta.View) -> tuple[Tensor, Tensor]:
    """Probabilities of one view: of every pixel (N, 1, H, W), turned back, and of holding salt (N,)."""
    found = outputs(network, view.forward(batch))
    whole = torch.zeros(0) if found.presence is None else torch.sigmoid(found.presence.float())
    return view.inverse(torch.sigmoid(found.logits.float())), whole


def of_any_size(networks: Sequence[nn.Module], image: np.ndarray, settings: config.Config) -> np.ndarray:
    """Salt probability, uint8 (H, W) in 255ths, of one image of any size: the mean over the networks and views.

    image: uint8 (H, W). The image is brought to the scale that the networks were trained at (a "resize" of
    101-pixel tiles to 128 enlarges a section by 128/101 too), seen whole, and the result is brought back.
    """
    height, width = image.shape
    if image.size > LARGEST:
        raise InputError(f"image of {height}x{width} pixels is too large to see whole; cut it into parts of 2000x2000")
    if settings.model.extra_channels:
        raise InputError(
            "model.extra_channels tell the row in a tile, which an image of another size has not; use tiles"
        )
    fit = Fit.section(settings.data.fit, settings.data.size, height, width)
    return quantise(probabilities(networks, image[None], settings, fit=fit)[0])
