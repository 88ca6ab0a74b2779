"""The U-Net of the case study, written by hand, to be read from top to bottom.

Ronneberger et al. 2015 (arXiv 1505.04597) in the slim form of the TGS Salt case study: 16 to 256 filters, batch
normalization, dropout after every pooling and every concatenation. Names of tensors are the case study's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from saltseg.errors import InputError


def two_convolutions(in_channels: int, filters: int) -> nn.Sequential:
    """Two 3x3 convolutions, each followed by batch norm and ReLU.

    In the case study's own notebook the second one reads the block's input, so that its first never trains. Its Keras
    also has other constants of batch norm: eps 1e-3 and momentum 0.01; here they are PyTorch's.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, filters, kernel_size=3, padding=1),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
        nn.Conv2d(filters, filters, kernel_size=3, padding=1),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
    )


def up_convolution(in_channels: int, filters: int) -> nn.ConvTranspose2d:
    """Transposed convolution 3x3 of stride 2: doubles height and width exactly."""
    return nn.ConvTranspose2d(in_channels, filters, kernel_size=3, stride=2, padding=1, output_padding=1)


def down_sampling(kind: str, filters: int) -> nn.Module:
    """Halve height and width: ``max_pool`` (the case study's), ``average_pool``, or ``strided_conv``, which is learned
    (Springenberg et al. 2015, arXiv 1412.6806)."""
    if kind == "strided_conv":
        return nn.Sequential(
            nn.Conv2d(filters, filters, kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(filters),
            nn.ReLU(inplace=True),
        )
    return nn.MaxPool2d(2) if kind == "max_pool" else nn.AvgPool2d(2)


def join(kind: str, up: Tensor, skip: Tensor) -> Tensor:
    """Join two float (N, C, H, W) at a skip connection: ``concat`` gives 2 C channels, all others give C."""
    if kind == "concat":
        return torch.cat([up, skip], dim=1)
    if kind == "add":
        return up + skip
    if kind == "max":
        return torch.maximum(up, skip)
    if kind == "min":
        return torch.minimum(up, skip)
    return up  # none


class UNet(nn.Module):
    """Image → logits of salt, same height and width.

    The defaults are the case study's. Trainable parameters with 16 filters: 2,161,361 for one input channel, 2,161,649
    for three.

    Args:
        in_channels: of the image.
        filters: channels of the first level; each further level has twice as many.
        dropout: share of values that are zeroed in training.
        down: see `down_sampling`.
        skip: see `join`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        filters: int = 16,
        dropout: float = 0.05,
        down: str = "max_pool",
        skip: str = "concat",
    ) -> None:
        super().__init__()
        self.skip = skip
        f1, f2, f3, f4, f5 = (filters * factor for factor in (1, 2, 4, 8, 16))
        self.contract1 = two_convolutions(in_channels, f1)
        self.contract2 = two_convolutions(f1, f2)
        self.contract3 = two_convolutions(f2, f3)
        self.contract4 = two_convolutions(f3, f4)
        self.contract5 = two_convolutions(f4, f5)
        self.down1, self.down2, self.down3, self.down4 = (down_sampling(down, f) for f in (f1, f2, f3, f4))
        joined = 2 if skip == "concat" else 1
        self.up6, self.expand6 = up_convolution(f5, f4), two_convolutions(joined * f4, f4)
        self.up7, self.expand7 = up_convolution(f4, f3), two_convolutions(joined * f3, f3)
        self.up8, self.expand8 = up_convolution(f3, f2), two_convolutions(joined * f2, f2)
        self.up9, self.expand9 = up_convolution(f2, f1), two_convolutions(joined * f1, f1)
        self.head = nn.Conv2d(f1, 1, kernel_size=1)
        self.dropout = nn.Dropout(dropout)
        self.apply(initialize)

    def forward(self, image: Tensor) -> Tensor:
        """Float (N, C, H, W) in [0, 1] → logits (N, 1, H, W), for any H and W of at least 6 pixels."""
        height, width = image.shape[-2:]
        x = pad_to_multiple(image, 16)  #             C x 128 x 128
        c1 = self.contract1(x)  #                    16 x 128 x 128
        p1 = self.dropout(self.down1(c1))  #         16 x  64 x  64
        c2 = self.contract2(p1)  #                   32 x  64 x  64
        p2 = self.dropout(self.down2(c2))  #         32 x  32 x  32
        c3 = self.contract3(p2)  #                   64 x  32 x  32
        p3 = self.dropout(self.down3(c3))  #         64 x  16 x  16
        c4 = self.contract4(p3)  #                  128 x  16 x  16
        p4 = self.dropout(self.down4(c4))  #        128 x   8 x   8
        c5 = self.contract5(p4)  #                  256 x   8 x   8

        u6 = join(self.skip, self.up6(c5), c4)  #   256 x  16 x  16
        c6 = self.expand6(self.dropout(u6))  #      128 x  16 x  16
        u7 = join(self.skip, self.up7(c6), c3)  #   128 x  32 x  32
        c7 = self.expand7(self.dropout(u7))  #       64 x  32 x  32
        u8 = join(self.skip, self.up8(c7), c2)  #    64 x  64 x  64
        c8 = self.expand8(self.dropout(u8))  #       32 x  64 x  64
        u9 = join(self.skip, self.up9(c8), c1)  #    32 x 128 x 128
        c9 = self.expand9(self.dropout(u9))  #       16 x 128 x 128
        logits = self.head(c9)  #                     1 x 128 x 128
        return crop_to(logits, height, width)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Reflect-pad (N, C, H, W) so that height and width are multiples; the larger half below and to the right.

    Raises:
        InputError: a side is too short: of fewer than 6 pixels for 16, of fewer than 12 for 32.
    """
    vertical, horizontal = (-size % multiple for size in image.shape[-2:])
    if not vertical and not horizontal:
        return image
    top, left = vertical // 2, horizontal // 2
    if vertical - top >= image.shape[-2] or horizontal - left >= image.shape[-1]:
        raise InputError(
            f"image of {image.shape[-2]}x{image.shape[-1]} pixels is too small to reflect to {multiple}; enlarge it"
        )
    return functional.pad(image, (left, horizontal - left, top, vertical - top), mode="reflect")


def crop_to(tensor: Tensor, height: int, width: int) -> Tensor:
    """Inverse of `pad_to_multiple`: the part of (N, C, H', W') that the image of height x width took."""
    top, left = (tensor.shape[-2] - height) // 2, (tensor.shape[-1] - width) // 2
    return tensor[..., top : top + height, left : left + width]


def initialize(module: nn.Module) -> None:
    """Initialize as the case study's Keras does: He normal in the blocks, Glorot uniform elsewhere, zero biases."""
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return
    if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(module.weight)
    assert module.bias is not None
    nn.init.zeros_(module.bias)
