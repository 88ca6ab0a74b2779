"""Networks → probabilities at the tiles' own size. Out-of-fold, test and folder predictions are all made here."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from saltseg.config import Config, has_presence_head
from saltseg.data.dataset import to_input
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError
from saltseg.inference.tta import VIEWS, View
from saltseg.models.precision import autocast
from saltseg.models.salt_network import outputs
from saltseg.postprocessing.parameters import quantize
from saltseg.predictions import Predictions

Progress = Callable[[int], object]  # called with the number of images done since its last call
LARGEST = 4_000_000  # pixels of an image predicted whole; networks hold 1 to 2 kB per pixel, 4 to 8 with upsample_input


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
    values, presence = _predict(networks, images, settings, tta, None, progress, np.uint8)
    return Predictions(np.array(ids), values, presence_probability=presence)


def probabilities(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    settings: Config,
    *,
    tta: tuple[str, ...] | None = None,
    transform: TileTransform | None = None,
    progress: Progress | None = None,
    out: type[np.float32] | type[np.uint8] = np.float32,
) -> np.ndarray:
    """Salt probability of every pixel, averaged over the networks and the views.

    Args:
        networks: one or more, on one device; they are set to evaluation mode.
        images: uint8 (N, H, W).
        settings: of the networks, with the precision resolved (`saltseg.models.precision.trained_config`).
        tta: names of `VIEWS`; None: those of the settings.
        transform: how images reach the networks; None: as tiles do.
        progress: see `Progress`.
        out: float32 in [0, 1], or uint8 in 255ths, as predictions are stored.

    Returns:
        ``out`` (N, H, W).

    Raises:
        InputError: images of another type or shape.
    """
    return _predict(networks, images, settings, tta, transform, progress, out)[0]


@torch.inference_mode()
def _predict(
    networks: Sequence[nn.Module],
    images: np.ndarray,
    settings: Config,
    tta: tuple[str, ...] | None,
    transform: TileTransform | None,
    progress: Progress | None,
    out: type[np.float32] | type[np.uint8],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (N, H, W) and, from networks with a presence head, of holding salt, uint8 (N,) in 255ths."""
    if images.dtype != np.uint8 or images.ndim != 3:
        raise InputError(f"images are {images.dtype} of shape {images.shape}; give uint8 (N, H, W)")
    views = [VIEWS[name] for name in tta or settings.predict.tta]
    transform = transform or TileTransform.square(settings.data.resize_mode, settings.data.size)
    device = next(networks[0].parameters()).device
    height, width = images.shape[1:]
    result = np.empty(images.shape, out)
    presence = np.empty(len(images), np.uint8) if has_presence_head(settings.model) else None
    for network in networks:
        network.eval()
    for start in range(0, len(images), settings.runtime.predict_batch_size):
        part = images[start : start + settings.runtime.predict_batch_size]
        batch = to_input(part, transform, settings.model.in_channels).to(device, memory_format=torch.channels_last)
        with autocast(settings, device):
            pairs = [_predict_view(network, batch, view) for network in networks for view in views]
        mean = torch.stack([pixels for pixels, _ in pairs]).mean(dim=0)
        values = np.clip(transform.inverse(mean[:, 0].cpu().numpy(), height, width), 0, 1)
        done = slice(start, start + len(part))
        result[done] = quantize(values) if out == np.uint8 else values
        if presence is not None:
            presence[done] = quantize(torch.stack([salt for _, salt in pairs]).mean(dim=0).cpu().numpy())
        if progress is not None:
            progress(len(part))
    return result, presence


def _predict_view(network: nn.Module, batch: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Probabilities of one view: of every pixel (N, 1, H, W), turned back, and of holding salt (N,)."""
    result = outputs(network, view.forward(batch))
    presence = torch.zeros(0) if result.presence is None else torch.sigmoid(result.presence.float())
    return view.inverse(torch.sigmoid(result.logits.float())), presence


def predict_image(networks: Sequence[nn.Module], image: np.ndarray, settings: Config) -> np.ndarray:
    """Salt probability of one image of any size, averaged over the networks and the views.

    The networks see the whole image at the scale that they were trained at: if tiles of 101 pixels are resized to 128,
    the image is enlarged by 128/101, too.

    Args:
        networks: see `probabilities`.
        image: uint8 (H, W).
        settings: see `probabilities`.

    Returns:
        uint8 (H, W) in 255ths.

    Raises:
        InputError: an image of more than `LARGEST` pixels, or networks with ``model.extra_channels``.
    """
    height, width = image.shape
    if image.size > LARGEST:
        raise InputError(f"image of {height}x{width} pixels is too large to see whole; cut it into parts of 2000x2000")
    if settings.model.extra_channels:
        raise InputError(
            "model.extra_channels give the row within a tile, which an image of another size does not have; use tiles"
        )
    transform = TileTransform.section(settings.data.resize_mode, settings.data.size, height, width)
    return quantize(probabilities(networks, image[None], settings, transform=transform)[0])
