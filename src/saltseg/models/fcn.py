"""A fully convolutional network without down-sampling: convolutions at the full size of the image, one after another.

It answers the case study's question 5.3, whether an encoder and a decoder are needed at all. Dilations widen its
receptive field at the same cost (Yu and Koltun 2016, arXiv 1511.07122).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from saltseg.models.unet import initialize


class FullResolutionFCN(nn.Module):
    """Image → logits of salt, same height and width; 3x3 convolutions with batch norm and ReLU, then 1x1.

    Trainable parameters with F filters, L layers and C input channels: 9 F (C + (L - 1) F) + 3 L F + F + 1.

    Args:
        in_channels: of the image.
        filters: channels of every layer.
        dilations: one per layer; with d it reads every d-th pixel.
        dropout: share of values before the last layer that are zeroed in training.
    """

    def __init__(self, in_channels: int, filters: int, dilations: Sequence[int], dropout: float = 0.05) -> None:
        super().__init__()
        widths = [in_channels, *[filters] * len(dilations)]
        self.layers = nn.Sequential(
            *(_layer(width, filters, dilation) for width, dilation in zip(widths, dilations, strict=False))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(filters, 1, kernel_size=1)
        self.apply(initialize)

    def forward(self, image: Tensor) -> Tensor:
        """Float (N, C, H, W) in [0, 1] → logits (N, 1, H, W), for any H and W."""
        return self.head(self.dropout(self.layers(image)))


def _layer(in_channels: int, filters: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, filters, kernel_size=3, padding=dilation, dilation=dilation),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
    )
