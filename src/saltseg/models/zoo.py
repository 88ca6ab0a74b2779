"""Networks by name: ours, and segmentation-models-pytorch's (only this file and weight_sources.py import it)."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from saltseg.config import ModelConfig, unknown
from saltseg.errors import InputError, reason
from saltseg.models import weights
from saltseg.models.fcn import FullResolutionFCN
from saltseg.models.network import SaltNetwork, keep_resolution, outputs
from saltseg.models.precision import keep_depthwise_float32
from saltseg.models.unet import UNet

PROBE = 128  # pixels of the empty tile that a new network is tried with: the fewest that all architectures take
MISFITS = (RuntimeError, ValueError, KeyError, AttributeError, TypeError, AssertionError)  # smp's and timm's
OURS = ("unet", "fcn")
OURS_ONLY, UNET_ONLY, FCN_ONLY = ("filters", "dropout"), ("down", "skip"), ("dilations",)
SMP_ONLY = ("encoder", "weights", "decoder_channels", "attention", "hypercolumn", "deep_supervision", "empty_head")


def build(config: ModelConfig, pretrained: bool = True) -> nn.Module:
    """The network of a configuration: float (N, C, H, W) in [0, 1] → logits (N, 1, H, W), any height and width.

    Weights are random but for an encoder's with ``config.weights``. ``pretrained=False`` leaves those out too: for
    a checkpoint that is loaded next. Raises InputError naming the nearest architectures or encoders, or the lever
    that the architecture does not have.
    """
    channels = config.in_channels + len(config.extra_channels)
    if config.architecture in OURS:
        return _ours(config, channels)
    _refuse(config, (*OURS_ONLY, *UNET_ONLY, *FCN_ONLY))
    network = _smp(config, channels)
    mean, std = (0.0,) * config.in_channels, (1.0,) * config.in_channels
    origin = "random"
    found = weights.pretrained(config.weights, config.encoder) if pretrained else None
    if found is not None:
        origin = f"{found.source}: {weights.load(network.encoder, found, config.in_channels).line()}"
        mean, std = (
            _grey(values, config.in_channels) for values in (found.normalisation.mean, found.normalisation.std)
        )
    tile = torch.zeros(1, channels, PROBE, PROBE)
    try:  # what does not go together is refused at once, not in the first epoch
        with torch.no_grad():
            network.eval()
            if config.stem in ("unpooled", "stride1"):
                before = network.encoder(tile)[-1].shape[-1]
                keep_resolution(network.encoder, config.stem, config.encoder)
                if network.encoder(tile)[-1].shape[-1] != 2 * before:
                    raise ValueError("this does not double the resolution of its features")
        built = SaltNetwork(network.train(), config, mean, std, origin)
        with torch.no_grad():
            built.eval().outputs(tile[:, : config.in_channels])
    except InputError:
        raise
    except MISFITS as error:
        raise _misfit(config, error) from None
    return keep_depthwise_float32(built.train())


def freeze_unused(network: nn.Module, channels: int) -> None:
    """Take weights that no gradient reaches out of training, in place: some encoders end in a head that nobody calls.

    Processes that share a batch would wait for their gradients for ever. channels: of the image. Tried on a copy, so
    that statistics of batch norm and the generator of random numbers stay as they are.
    """
    tried = copy.deepcopy(network).train()
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        found = outputs(tried, torch.rand(2, channels, PROBE, PROBE))
        total = found.logits.sum() + sum(side.sum() for side in found.side)
        (total if found.presence is None else total + found.presence.sum()).backward()
    for parameter, reached in zip(network.parameters(), tried.parameters(), strict=True):
        parameter.requires_grad_(reached.grad is not None)


def _grey(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Red, green and blue figures for a grey image: their mean where one channel stands for all three."""
    return values if channels == 3 else (sum(values) / 3,)


def _ours(config: ModelConfig, channels: int) -> nn.Module:
    name = config.architecture
    _refuse(config, (*SMP_ONLY, *(FCN_ONLY if name == "unet" else UNET_ONLY)))
    if config.stem not in ("plain", "upsampled"):
        raise InputError(f"model.stem is {config.stem!r}: our {name} keeps full resolution anyway; use plain")
    network = (
        UNet(channels, config.filters, config.dropout, config.down, config.skip)
        if name == "unet"
        else FullResolutionFCN(channels, config.filters, config.dilations, config.dropout)
    )
    if channels == config.in_channels and config.stem == "plain":
        return network
    return SaltNetwork(network, config, [0.0] * config.in_channels, [1.0] * config.in_channels)


def _refuse(config: ModelConfig, options: Sequence[str]) -> None:
    """Options of another architecture would change nothing, silently."""
    for option in options:
        value = getattr(config, option)
        if value != getattr(ModelConfig(), option):
            homes = {"unet or fcn": OURS_ONLY, "unet": UNET_ONLY, "fcn": FCN_ONLY, "smp.Unet": SMP_ONLY}
            home = next(name for name, own in homes.items() if option in own)
            raise InputError(
                f"model.{option} is {value!r}: {config.architecture} has no such option; use model.architecture={home}"
            )


def _smp(config: ModelConfig, channels: int) -> Any:
    import segmentation_models_pytorch as smp
    import timm

    architectures = {f"smp.{cls.__name__}": cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if config.architecture not in architectures:
        spelt = config.architecture.replace("++", "PlusPlus").replace("+", "Plus")
        raise InputError(
            f"unknown model.architecture {config.architecture!r}; did you mean {spelt}?"
            if spelt in architectures
            else unknown("model.architecture", config.architecture, [*OURS, *architectures])
        )
    cls = architectures[config.architecture]
    encoders = smp.encoders.get_encoder_names()
    name = config.encoder.removeprefix("tu-")  # timm's: a name, perhaps with the tag of its weights behind a dot
    if not (timm.is_model(name) if config.encoder.startswith("tu-") else config.encoder in encoders):
        if timm.is_model(name):
            raise InputError(f"unknown model.encoder {config.encoder!r}; did you mean tu-{name}?")
        trap = "timm-tf_efficientnet_lite"  # smp's own copies, whose features are wrong
        right = [encoder for encoder in encoders if not encoder.startswith(trap)]
        raise InputError(unknown("model.encoder", config.encoder, [*right, *(f"tu-{n}" for n in timm.list_models())]))
    options: dict[str, Any] = {}
    known = inspect.signature(cls).parameters
    if config.decoder_channels:
        if not isinstance(getattr(known.get("decoder_channels"), "default", None), tuple):
            raise InputError(f"model.decoder_channels: {config.architecture} has no list of widths; leave it []")
        options["decoder_channels"] = config.decoder_channels
    if config.attention != "none":
        if "decoder_attention_type" not in known:
            raise InputError(
                f"model.attention={config.attention}: {config.architecture} has none; use smp.Unet or smp.UnetPlusPlus"
            )
        options["decoder_attention_type"] = config.attention
    if cls is smp.DPT:
        options["dynamic_img_size"] = True  # else it takes images of its encoder's own size only
    try:
        network = cls(encoder_name=config.encoder, encoder_weights=None, in_channels=channels, classes=1, **options)
    except MISFITS as error:
        raise _misfit(config, error) from None
    if config.attention != "none":  # smp gives the last block, which joins no skip, an attention that it never calls
        blocks = network.decoder.blocks
        last = blocks[-1] if isinstance(blocks, nn.ModuleList) else blocks[f"x_0_{network.decoder.depth}"]
        last.attention1 = nn.Identity()
    return network


def _misfit(config: ModelConfig, error: Exception) -> InputError:
    widths = ", or leave model.decoder_channels []" if config.decoder_channels else ""
    return InputError(
        f"{config.architecture} with {config.encoder} and model.stem={config.stem}: {reason(error, 120)}; choose "
        f"another encoder, or smp.Unet with stem=plain{widths}"
    )


def parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
