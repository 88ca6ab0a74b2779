"""Networks → probabilities at the tiles' own size. Out-of-fold and test predictions are made here."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from saltseg.config import Config, has_presence_head
from saltseg.data.dataset import to_input
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError
from saltseg.inference import engines
from saltseg.inference.tta import VIEWS, View
from saltseg.models.precision import autocast
from saltseg.postprocessing.parameters import quantize
from saltseg.predictions import Predictions

Progress = Callable[[int], object]  # called with the number of images, or windows, done since its last call


def predictions(
    networks: Sequence[nn.Module],
    ids: Sequence[str],
    images: np.ndarray,
    settings: Config,
    *,
    tta: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """`probabilities` in 255ths together with the ids and, from a presence head, the probability of holding salt."""
    values, presence = _predict(networks, images, settings, tta, progress, np.uint8)
    return Predictions(np.array(ids), values, presence_probability=presence)


def probabilities(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    settings: Config,
    *,
    tta: tuple[str, ...] | None = None,
    progress: Progress | None = None,
    out: type[np.float32] | type[np.uint8] = np.float32,
) -> np.ndarray:
    """Salt probability of every pixel, averaged over the networks and the views.

    Args:
        networks: one or more, on one device; they are set to evaluation mode.
        images: uint8 (N, H, W).
        settings: of the networks, with the precision resolved (`saltseg.models.precision.trained_config`).
        tta: names of `VIEWS`; None: those of the settings.
        progress: see `Progress`.
        out: float32 in [0, 1], or uint8 in 255ths, as predictions are stored.

    Returns:
        ``out`` (N, H, W).

    Raises:
        InputError: images of another type or shape.
    """
    return _predict(networks, images, settings, tta, progress, out)[0]


def _predict(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    settings: Config,
    tta: tuple[str, ...] | None,
    progress: Progress | None,
    out: type[np.float32] | type[np.uint8],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (N, H, W) and, from networks with a presence head, of holding salt, uint8 (N,) in 255ths."""
    if images.dtype != np.uint8 or images.ndim != 3:
        raise InputError(f"images are {images.dtype} of shape {images.shape}; give uint8 (N, H, W)")
    views = [VIEWS[name] for name in tta or settings.predict.tta]
    transform = TileTransform.square(settings.data.resize_mode, settings.data.size)
    result = np.empty(images.shape, out)
    presence = np.empty(len(images), np.uint8) if has_presence_head(settings.model) else None
    for network in networks:
        network.eval()
    for start in range(0, len(images), settings.runtime.predict_batch_size):
        part = images[start : start + settings.runtime.predict_batch_size]
        values, salt = predict_batch(networks, part, settings, views, transform)
        done = slice(start, start + len(part))
        result[done] = quantize(values) if out == np.uint8 else values
        if presence is not None:
            presence[done] = quantize(salt)
        if progress is not None:
            progress(len(part))
    return result, presence


@torch.inference_mode()
def predict_batch(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    settings: Config,
    views: Sequence[View],
    transform: TileTransform,
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over networks and views of one batch.

    Args:
        networks: on one device, in evaluation mode.
        images: uint8 (N, H, W), as many as are predicted at once.
        settings: see `probabilities`.
        views: one or more.
        transform: how images reach the networks.

    Returns:
        Salt probability of every pixel, float32 (N, H, W) in [0, 1]; and, from networks with a presence head, of
        holding salt, float32 (N,).
    """
    device = next(networks[0].parameters()).device
    batch = to_input(images, transform, settings.model.in_channels).to(device, memory_format=torch.channels_last)
    with autocast(settings, device):
        pairs = [_predict_view(network, batch, view, settings) for network in networks for view in views]
    mean = torch.stack([pixels for pixels, _ in pairs]).mean(dim=0)
    values = np.clip(transform.inverse(mean[:, 0].cpu().numpy(), *images.shape[1:]), 0, 1)
    return values, torch.stack([salt for _, salt in pairs]).mean(dim=0).cpu().numpy()


def _predict_view(network: nn.Module, batch: Tensor, view: View, settings: Config) -> tuple[Tensor, Tensor]:
    """Probabilities of one view: of every pixel (N, 1, H, W), turned back, and of holding salt (N,)."""
    result = engines.outputs(network, view.forward(batch), settings)
    presence = torch.zeros(0) if result.presence is None else torch.sigmoid(result.presence.float())
    return view.inverse(torch.sigmoid(result.logits.float()), (batch.shape[-2], batch.shape[-1])), presence
