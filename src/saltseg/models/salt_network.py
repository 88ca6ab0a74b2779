"""Options around an encoder-decoder: normalization, extra input channels, resolution, and auxiliary outputs.

`SaltNetwork` takes any module that maps images to logits. A hypercolumn and deep supervision read the levels of its
decoder, so they need ``decoder.blocks`` that work one after the other (smp's Unet, Linknet, MAnet). The presence head
needs an ``encoder``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from saltseg.config import ModelConfig, SmpConfig
from saltseg.errors import InputError
from saltseg.models.unet import crop_to, pad_to_multiple


@dataclass(frozen=True)
class Outputs:
    """A network's outputs for N images of H x W pixels.

    Attributes:
        logits: (N, 1, H, W), of salt.
        side: (N, 1, H, W) each, the same from every coarser level of the decoder (deep supervision).
        presence: (N,), logits of the probability that the image holds any salt (presence head).
    """

    logits: Tensor
    side: tuple[Tensor, ...] = ()
    presence: Tensor | None = None


def outputs(network: nn.Module, images: Tensor) -> Outputs:
    """All outputs of any network: float (N, C, H, W) in [0, 1] → `Outputs`."""
    return network.outputs(images) if isinstance(network, SaltNetwork) else Outputs(network(images))


class SaltNetwork(nn.Module):
    """An encoder-decoder with the options of the configuration around it.

    Args:
        network: float (N, C, H, W) → logits (N, 1, h, w).
        config: its options.
        mean: of each channel that carries the image; the encoder's weights expect (value - mean) / std.
        std: likewise.
        weights_source: a line about where those weights are from.
    """

    network: Any  # with the encoder, decoder and segmentation_head that an option needs
    mean: Tensor
    std: Tensor
    row: Tensor | None  # see `number_rows`

    def __init__(
        self,
        network: nn.Module,
        config: ModelConfig,
        mean: Sequence[float],
        std: Sequence[float],
        weights_source: str = "random",
    ) -> None:
        super().__init__()
        self.network, self.weights_source = network, weights_source
        self.extra_channels, self.upsample_input = config.extra_channels, config.stem == "upsample_input"
        # Buffers, not constants: they travel with the weights, so a trained network needs no pretrained file again.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.register_buffer("row", None)
        self._levels: list[Tensor] = []
        self.hypercolumn = self.side = self.presence = None
        if not isinstance(config, SmpConfig):
            return
        if config.hypercolumn or config.deep_supervision:
            widths = self._record_levels(config)
            if config.hypercolumn:
                self.hypercolumn = Hypercolumn(widths)
                network.segmentation_head = nn.Identity()  # the hypercolumn is the head now
            if config.deep_supervision:
                self.side = nn.ModuleList(nn.Conv2d(width, 1, kernel_size=1) for width in widths[:-1])
        if config.presence_head:
            self.presence = nn.Linear(_part(network, "encoder", config).out_channels[-1], 1)

    def forward(self, image: Tensor) -> Tensor:
        """Float (N, C, H, W) in [0, 1] → logits (N, 1, H, W), for any H and W of at least 12 pixels."""
        return self.outputs(image).logits

    def outputs(self, image: Tensor) -> Outputs:
        """Float (N, C, H, W) in [0, 1] → `Outputs`; side outputs in training mode only."""
        height, width = image.shape[-2:]
        x = pad_to_multiple(image, 32)
        x = torch.cat([(x - self.mean) / self.std, *extra(self.extra_channels, x, self._row(image))], dim=1)
        if self.upsample_input:
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        self._levels.clear()
        presence: Tensor | None = None
        if self.presence is None:
            logits = self.network(x)
        else:
            features = self.network.encoder(x)
            logits = self.network.segmentation_head(self.network.decoder(features))
            presence = self.presence(features[-1].mean(dim=(2, 3)))[:, 0]
        if self.hypercolumn is not None:
            logits = self.hypercolumn(self._levels)
        side = [] if self.side is None or not self.training else zip(self.side, self._levels, strict=False)
        frame = (height + -height % 32, width + -width % 32)

        def resized(logits: Tensor) -> Tensor:
            """Logits of any resolution → the image's pixels."""
            if logits.shape[-1] > frame[1]:
                logits = functional.adaptive_avg_pool2d(logits, frame)
            elif logits.shape[-1] < frame[1]:
                logits = functional.interpolate(logits, size=frame, mode="bilinear", align_corners=False)
            return crop_to(logits, height, width)

        result = Outputs(resized(logits), tuple(resized(head(level)) for head, level in side), presence)
        self._levels.clear()
        return result

    def number_rows(self, row: Tensor) -> None:
        """Say which row of the tile each row of the input shows, float (H,) from -1 (top) to 1 (bottom).

        Without this, the rows of the input are numbered from -1 to 1, which is right where tiles are resized to it.
        The numbers travel with the weights. So networks trained before 2026-11-30, whose weights have none, go on to
        see the numbers that they were trained with: -1 to 1 over the whole input, the padding included.
        """
        self.row = row if self.extra_channels else None

    def _row(self, image: Tensor) -> Tensor | None:
        """The rows' numbers (N, 1, H, W) for an image (N, C, H, W), padded as the image is; None without."""
        if self.row is None:
            return None
        row = self.row[None, None]
        if row.shape[-1] != image.shape[-2]:  # training at half the resolution
            row = functional.interpolate(row, image.shape[-2], mode="linear", align_corners=False)
        return pad_to_multiple(row[..., None].expand_as(image[:, :1]), 32)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        saved = state_dict.get(f"{prefix}row")
        self.row = None if saved is None else torch.empty_like(saved, device=self.mean.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _record_levels(self, config: SmpConfig) -> list[int]:
        """Make every block of the decoder append its output to ``_levels``; returns their numbers of channels."""
        blocks = getattr(_part(self.network, "decoder", config), "blocks", None)
        if not isinstance(blocks, nn.ModuleList):
            raise InputError(
                f"model.architecture {config.architecture} has no decoder.blocks in sequence for a hypercolumn "
                "or deep supervision; use smp.Unet, smp.Linknet or smp.MAnet"
            )
        for block in blocks:
            block.register_forward_hook(self._record)  # a bound method: copies of the network record for themselves
        with torch.no_grad():
            self.network.eval()(torch.zeros(1, len(self.mean) + len(self.extra_channels), 64, 64))
        self.network.train()
        widths = [level.shape[1] for level in self._levels]
        self._levels.clear()
        return widths

    def _record(self, block: nn.Module, inputs: Any, output: Tensor) -> None:
        self._levels.append(output)


class Hypercolumn(nn.Module):
    """A head that reads every level of the decoder (Hariharan et al. 2015; the TGS 1st place's U-Nets).

    A 1x1 convolution reduces each level to the channels of the finest one before it is enlarged: concatenating the
    levels as they are would cost more than the whole decoder.

    Args:
        widths: channels of the levels, coarsest first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(width, widths[-1], kernel_size=1) for width in widths[:-1])
        self.head = nn.Conv2d(widths[-1] * len(widths), 1, kernel_size=3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """(N, width, h, w) of every level, coarsest first → logits (N, 1, H, W) at the finest resolution."""
        size = levels[-1].shape[-2:]
        enlarged = [
            functional.interpolate(reduce(level), size=size, mode="bilinear", align_corners=False)
            for reduce, level in zip(self.reduce, levels, strict=False)
        ]
        return self.head(torch.cat([*enlarged, levels[-1]], dim=1))


def without_row_numbers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for a new training, which numbers the rows of its own input, see `SaltNetwork.number_rows`."""
    return {name: tensor for name, tensor in state.items() if name != "row"}


def extra(names: Sequence[str], image: Tensor, row: Tensor | None = None) -> list[Tensor]:
    """Further input channels (N, 1, H, W) from the image (N, C, H, W) in [0, 1].

    ``row`` is -1 in the uppermost row and 1 in the lowest; it tells the network the depth within the tile.
    ``image_x_row`` is the image's first channel times that. Together they are the competition's "depth channels".

    row: (N, 1, H, W); None: the image has no padding, so the numbers follow from its height.
    """
    if row is None:
        row = torch.linspace(-1, 1, image.shape[-2], device=image.device, dtype=image.dtype)[:, None]
    channels = {"row": lambda: row.expand_as(image[:, :1]), "image_x_row": lambda: image[:, :1] * row}
    return [channels[name]() for name in names]


def keep_resolution(encoder: nn.Module, stem: str, encoder_name: str) -> None:
    """Remove the first down-sampling of an encoder, in place: the first pooling (``no_maxpool``), or the stride of the
    first convolution (``stride1``)."""
    if stem == "no_maxpool":
        for parent in encoder.modules():
            for name, child in parent.named_children():
                if isinstance(child, nn.MaxPool2d):
                    setattr(parent, name, nn.Identity())
                    return
        raise InputError(f"model.stem=no_maxpool: {encoder_name} has no max pooling to remove; use stem=stride1")
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    if tuple(first.stride) != (2, 2):
        raise InputError(
            f"model.stem=stride1: the first convolution of {encoder_name} has stride {first.stride[0]}, not 2; "
            "use stem=upsample_input"
        )
    first.stride = (1, 1)


def _part(network: nn.Module, name: str, config: SmpConfig) -> Any:
    part = getattr(network, name, None)
    if part is None:
        raise InputError(f"model.architecture {config.architecture} has no {name} for this option; use smp.Unet")
    return part
