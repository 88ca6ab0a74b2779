"""Networks by name: the handwritten ones, and segmentation-models-pytorch's (smp)."""

import copy
import inspect
from typing import Any

import torch
from torch import nn

from saltseg.config import FCNConfig, ModelConfig, SmpConfig, UNetConfig
from saltseg.errors import InputError, raise_if_of_machine, reason, unknown_name
from saltseg.models import pretrained as pretrained_weights
from saltseg.models.fcn import FullResolutionFCN
from saltseg.models.precision import keep_depthwise_float32
from saltseg.models.salt_network import SaltNetwork, keep_resolution, outputs
from saltseg.models.unet import UNet

PROBE = 128  # height and width of the empty tile that a new network is tried with: the smallest that all accept
BUILD_ERRORS = (RuntimeError, ValueError, KeyError, AttributeError, TypeError, AssertionError)  # smp's and timm's


def build(config: ModelConfig, pretrained: bool = True) -> nn.Module:
    """The network of a configuration: float (N, C, H, W) in [0, 1] → logits (N, 1, H, W), any height and width.

    Args:
        config: the weights are random, apart from an encoder's with ``config.weights``.
        pretrained: False: random weights throughout, for a checkpoint that is loaded next.

    Raises:
        InputError: an unknown architecture or encoder (the message names the nearest), pretrained weights that cannot
            be had, or options that do not work together.
    """
    channels = config.in_channels + len(config.extra_channels)
    if not isinstance(config, SmpConfig):
        return _custom(config, channels)
    network = _smp(config, channels)
    mean, std = (0.0,) * config.in_channels, (1.0,) * config.in_channels
    source = "random"
    weights = pretrained_weights.pretrained(config.weights, config.encoder) if pretrained else None
    if weights is not None:
        source = f"{weights.source}: {pretrained_weights.load(network.encoder, weights, config.in_channels).line()}"
        mean = _of_gray(weights.normalization.mean, config.in_channels)
        std = _of_gray(weights.normalization.std, config.in_channels)
    tile = torch.zeros(1, channels, PROBE, PROBE)
    try:  # options that do not work together fail here, not in the first epoch
        with torch.no_grad():
            network.eval()
            if config.stem in ("no_maxpool", "stride1"):
                before = network.encoder(tile)[-1].shape[-1]
                keep_resolution(network.encoder, config.stem, config.encoder)
                if network.encoder(tile)[-1].shape[-1] != 2 * before:
                    raise ValueError("this does not double the resolution of its features")
        built = SaltNetwork(network.train(), config, mean, std, source)
        with torch.no_grad():
            built.eval().outputs(tile[:, : config.in_channels])
    except InputError:
        raise
    except BUILD_ERRORS as error:
        raise _build_error(config, error) from None
    return keep_depthwise_float32(built.train())


def freeze_params_without_grad(network: nn.Module, channels: int) -> None:
    """Exclude weights that get no gradient from training, in place: some encoders end in a head that is never called.

    Processes that share a batch (DDP) would wait for their gradients. The gradients are computed on a copy, so that
    batch statistics and the random generator stay as they are.

    Args:
        network: any.
        channels: of the image.
    """
    tried = copy.deepcopy(network).train()
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        result = outputs(tried, torch.rand(2, channels, PROBE, PROBE))
        total = result.logits.sum() + sum(side.sum() for side in result.side)
        (total if result.presence is None else total + result.presence.sum()).backward()
    for parameter, copied in zip(network.parameters(), tried.parameters(), strict=True):
        parameter.requires_grad_(copied.grad is not None)


def _of_gray(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Red, green and blue values for a gray image: their mean where one channel stands for all three."""
    return values if channels == 3 else (sum(values) / 3,)


def _custom(config: UNetConfig | FCNConfig, channels: int) -> nn.Module:
    network = (
        UNet(channels, config.filters, config.dropout, config.down, config.skip)
        if isinstance(config, UNetConfig)
        else FullResolutionFCN(channels, config.filters, config.dilations, config.dropout)
    )
    if channels == config.in_channels and config.stem == "plain":
        return network
    return SaltNetwork(network, config, [0.0] * config.in_channels, [1.0] * config.in_channels)


def _smp(config: SmpConfig, channels: int) -> Any:
    import segmentation_models_pytorch as smp
    import timm

    architectures = {f"smp.{cls.__name__}": cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if config.architecture not in architectures:
        spelled = config.architecture.replace("++", "PlusPlus").replace("+", "Plus")
        raise InputError(
            f"unknown model.architecture {config.architecture!r}; did you mean {spelled}?"
            if spelled in architectures
            else unknown_name("model.architecture", config.architecture, ["unet", "fcn", *architectures])
        )
    cls = architectures[config.architecture]
    encoders = smp.encoders.get_encoder_names()
    name = config.encoder.removeprefix("tu-")  # timm's: a name, perhaps with the tag of its weights behind a dot
    if not (timm.is_model(name) if config.encoder.startswith("tu-") else config.encoder in encoders):
        if timm.is_model(name):
            raise InputError(f"unknown model.encoder {config.encoder!r}; did you mean tu-{name}?")
        wrong = "timm-tf_efficientnet_lite"  # smp's own copies, whose features are wrong
        right = [encoder for encoder in encoders if not encoder.startswith(wrong)]
        raise InputError(
            unknown_name("model.encoder", config.encoder, [*right, *(f"tu-{n}" for n in timm.list_models())])
        )
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
        options["dynamic_img_size"] = True  # else it accepts only images of its encoder's own size
    try:
        network = cls(encoder_name=config.encoder, encoder_weights=None, in_channels=channels, classes=1, **options)
    except BUILD_ERRORS as error:
        raise _build_error(config, error) from None
    if config.attention != "none":  # smp gives the last block, which joins no skip, an attention that it never calls
        blocks = network.decoder.blocks
        last = blocks[-1] if isinstance(blocks, nn.ModuleList) else blocks[f"x_0_{network.decoder.depth}"]
        last.attention1 = nn.Identity()
    return network


def _build_error(config: SmpConfig, error: Exception) -> InputError:
    raise_if_of_machine(error)
    widths = ", or leave model.decoder_channels []" if config.decoder_channels else ""
    return InputError(
        f"{config.architecture} with {config.encoder} and model.stem={config.stem}: {reason(error, 120)}; choose "
        f"another encoder, or smp.Unet with stem=plain{widths}"
    )


def parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
