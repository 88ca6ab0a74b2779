"""What goes around an encoder-decoder: normalisation, extra inputs, kept resolution, and further outputs to learn from.

`SaltNetwork` takes any module that maps images to logits. Hypercolumn and deep supervision read the levels of its
decoder, so they need one whose ``blocks`` work one after the other (smp's Unet, Linknet, MAnet); the empty-image head
needs an ``encoder``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from saltseg.config import ModelConfig
from saltseg.errors import InputError
from saltseg.models.unet import crop_to, pad_to_multiple


@dataclass(frozen=True)
class Outputs:
    """What a network says of N images of H x W pixels.

    logits: (N, 1, H, W), of salt. side: the same from each coarser level of the decoder (deep supervision).
    presence: (N,), logits of holding any salt (empty-image head).
    """

    logits: Tensor
    side: tuple[Tensor, ...] = ()
    presence: Tensor | None = None


def outputs(network: nn.Module, images: Tensor) -> Outputs:
    """All outputs of any network: float (N, C, H, W) in [0, 1] → `Outputs`."""
    return network.outputs(images) if isinstance(network, SaltNetwork) else Outputs(network(images))


class SaltNetwork(nn.Module):
    """An encoder-decoder with the levers of the configuration around it.

    mean, std: of each channel that carries the image; (value - mean) / std is what the encoder's weights expect.
    origin: a line about where those weights are from.
    """

    network: Any  # an encoder, a decoder and a segmentation_head, where a lever asks for them
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        config: ModelConfig,
        mean: Sequence[float],
        std: Sequence[float],
        origin: str = "random",
    ) -> None:
        super().__init__()
        self.network, self.origin = network, origin
        self.extra_channels, self.upsampled = config.extra_channels, config.stem == "upsampled"
        # Buffers, not constants: they travel with the weights, so a trained network needs no pretrained file again.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self._levels: list[Tensor] = []
        self.hypercolumn = self.side = self.presence = None
        if config.hypercolumn or config.deep_supervision:
            widths = self._record_levels(config)
            if config.hypercolumn:
                self.hypercolumn = Hypercolumn(widths)
                network.segmentation_head = nn.Identity()  # the hypercolumn is the head now
            if config.deep_supervision:
                self.side = nn.ModuleList(nn.Conv2d(width, 1, kernel_size=1) for width in widths[:-1])
        if config.empty_head:
            self.presence = nn.Linear(_part(network, "encoder", config).out_channels[-1], 1)

    def forward(self, image: Tensor) -> Tensor:
        """Float (N, C, H, W) in [0, 1] → logits (N, 1, H, W), any height and width."""
        return self.outputs(image).logits

    def outputs(self, image: Tensor) -> Outputs:
        """Float (N, C, H, W) in [0, 1] → `Outputs`; side outputs in training mode only."""
        height, width = image.shape[-2:]
        x = pad_to_multiple(image, 32)
        x = torch.cat([(x - self.mean) / self.std, *extra(self.extra_channels, x)], dim=1)
        if self.upsampled:
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

        def fitted(found: Tensor) -> Tensor:
            """Bring logits of any resolution back to the image's pixels."""
            if found.shape[-1] > frame[1]:
                found = functional.adaptive_avg_pool2d(found, frame)
            elif found.shape[-1] < frame[1]:
                found = functional.interpolate(found, size=frame, mode="bilinear", align_corners=False)
            return crop_to(found, height, width)

        result = Outputs(fitted(logits), tuple(fitted(head(level)) for head, level in side), presence)
        self._levels.clear()
        return result

    def _record_levels(self, config: ModelConfig) -> list[int]:
        """Have every block of the decoder leave its output in ``_levels``; returns their widths in channels."""
        blocks = getattr(_part(self.network, "decoder", config), "blocks", None)
        if not isinstance(blocks, nn.ModuleList):
            raise InputError(
                f"model.architecture {config.architecture} has no levels in a row for a hypercolumn or deep "
                "supervision; use smp.Unet, smp.Linknet or smp.MAnet"
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
    """A head that sees every level of the decoder (Hariharan et al. 2015; the 1st place's U-Nets).

    Each level is reduced to the width of the finest one by a 1x1 convolution at its own resolution and then
    enlarged: concatenating the levels as they are would cost more than the whole decoder.
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


def extra(names: Sequence[str], image: Tensor) -> list[Tensor]:
    """Further input channels (N, 1, H, W) from the image (N, C, H, W) in [0, 1].

    row: -1 in the uppermost row to 1 in the lowest, so that the network knows how far down the tile it looks.
    image_x_row: the image's first channel times that. Together they are the competition's "depth channels".
    """
    ramp = torch.linspace(-1, 1, image.shape[-2], device=image.device, dtype=image.dtype)[:, None]
    made = {"row": lambda: ramp.expand_as(image[:, :1]), "image_x_row": lambda: image[:, :1] * ramp}
    return [made[name]() for name in names]


def keep_resolution(encoder: nn.Module, stem: str, encoder_name: str) -> None:
    """Take the first halving out of an encoder, in place: the first pooling, or the stride of the first convolution."""
    if stem == "unpooled":
        for parent in encoder.modules():
            for name, child in parent.named_children():
                if isinstance(child, nn.MaxPool2d):
                    setattr(parent, name, nn.Identity())
                    return
        raise InputError(f"model.stem=unpooled: {encoder_name} has no pooling to leave out; use stem=stride1")
    first = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    if tuple(first.stride) != (2, 2):
        raise InputError(
            f"model.stem=stride1: the first convolution of {encoder_name} has stride {first.stride[0]}, not 2; "
            "use stem=upsampled"
        )
    first.stride = (1, 1)


def _part(network: nn.Module, name: str, config: ModelConfig) -> Any:
    part = getattr(network, name, None)
    if part is None:
        raise InputError(f"model.architecture {config.architecture} has no {name} for this lever; use smp.Unet")
    return part
