"""Networks by name: ours, and segmentation-models-pytorch's (this is the only file that imports it)."""

from torch import Tensor, nn

from saltseg.config import ModelConfig, unknown
from saltseg.errors import InputError
from saltseg.models.unet import UNet, crop_to, pad_to_multiple


def build(config: ModelConfig) -> nn.Module:
    """A network with random weights: float (N, C, H, W) in [0, 1] → logits (N, 1, H, W), any height and width.

    Raises InputError naming the nearest architectures or encoders.
    """
    if config.architecture == "unet":
        return UNet(config.in_channels, config.filters, config.dropout)
    import segmentation_models_pytorch as smp

    architectures = {f"smp.{cls.__name__}": cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if config.architecture not in architectures:
        raise InputError(unknown("model.architecture", config.architecture, ["unet", *architectures]))
    if not config.encoder.startswith("tu-") and config.encoder not in smp.encoders.get_encoder_names():
        raise InputError(unknown("model.encoder", config.encoder, smp.encoders.get_encoder_names()))
    try:
        network = architectures[config.architecture](
            encoder_name=config.encoder, encoder_weights=None, in_channels=config.in_channels, classes=1
        )
    except (RuntimeError, ValueError, KeyError) as error:  # an encoder timm does not have, or one that does not fit
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{config.architecture} with {config.encoder}: {reason}; choose another encoder") from None
    return AnySize(network)


class AnySize(nn.Module):
    """Reflect-pads to the multiple of 32 that encoders need and crops the logits back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Float (N, C, H, W) → logits (N, 1, H, W)."""
        return crop_to(self.network(pad_to_multiple(image, 32)), *image.shape[-2:])


def parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
