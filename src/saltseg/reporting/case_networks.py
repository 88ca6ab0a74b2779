"""Facts about the study's networks that need no training: sizes, operations, receptive fields, an up-convolution."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from saltseg import config, studies
from saltseg.errors import InputError
from saltseg.inference.study import operations
from saltseg.models import zoo
from saltseg.models.fcn import FullResolutionFCN
from saltseg.models.unet import UNet, up_convolution
from saltseg.studies import BASE

SIZE = config.Config().data.size  # pixels, height and width, that the case study's U-Net is fed


@dataclass(frozen=True)
class Networks:
    """Facts about the U-Net as the case study has it, and about the full-resolution networks.

    parameters, gflop: of that U-Net, on an image of `SIZE`. field: its receptive field, pixels in height and width.
    plain, dilated: those of the full-resolution networks. size: pixels of the study's images, height and width.
    equal_filters, equal_operations: width of a full-resolution network with the U-Net's parameters, and its operations
    as a multiple of the U-Net's.
    """

    parameters: int
    gflop: float
    field: int
    plain: int
    dilated: int
    size: int
    equal_filters: int
    equal_operations: float


@cache
def networks(budget: str) -> Networks:
    """Built, counted and probed on the spot; only `Networks.size` depends on the budget."""
    plain = studies.settings(BASE, budget, 0).model.dilations
    dilated = studies.settings("fcn_same_operations_dilated", budget, 0).model.dilations
    unet, layers = UNet(), len(plain)
    parameters = zoo.parameters(unet)

    def excess(filters: int) -> int:  # FullResolutionFCN's docstring has the sum; here for one input channel
        return 9 * filters * (1 + (layers - 1) * filters) + 3 * layers * filters + filters + 1 - parameters

    equal = min(range(1, 1000), key=lambda filters: abs(excess(filters)))
    small = torch.zeros(1, 1, 32, 32)  # operations grow with the pixels in both, so their ratio is that of any size
    return Networks(
        parameters=parameters,
        gflop=operations(unet, torch.zeros(1, 1, SIZE, SIZE)) / 1e9,
        field=receptive_field(UNet(filters=1), 256),
        plain=FullResolutionFCN(1, 1, plain).receptive_field,
        dilated=FullResolutionFCN(1, 1, dilated).receptive_field,
        size=studies.settings(BASE, budget, 0).data.size,
        equal_filters=equal,
        equal_operations=operations(FullResolutionFCN(1, equal, plain), small) / operations(unet, small),
    )


def receptive_field(network: nn.Module, size: int, places: int = 16) -> int:
    """Pixels, height and width, of the part of the image that one output pixel can depend on.

    The gradient of an output in the middle of a size x size image, in a copy whose convolutions average, whose max
    pooling averages too and whose ReLU and batch norm let all pass: positive exactly on the field. In networks with
    strides it depends on the pixel; this is the largest of ``places`` neighbours on the diagonal.

    Raises InputError when the field reaches the image's edge, so that a larger one is needed.
    """
    probe = _averaging_copy(network)
    image = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    output = probe(image)
    extents = []
    for place in range((size - places) // 2, (size + places) // 2):
        (gradient,) = torch.autograd.grad(output[0, 0, place, place], image, retain_graph=True)
        for axis in (0, 1):
            seen = gradient[0, 0].sum(dim=axis).nonzero().flatten()
            if int(seen[0]) == 0 or int(seen[-1]) == size - 1:
                raise InputError(f"the receptive field reaches the edge of {size} pixels; give a larger size")
            extents.append(int(seen[-1] - seen[0]) + 1)
    return max(extents)


def _averaging_copy(network: nn.Module) -> nn.Module:
    """A float64 copy in which every layer hands a positive share of each of its inputs on; see `receptive_field`."""
    probe = copy.deepcopy(network).double().eval()
    for parent in list(probe.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
            elif isinstance(module, nn.ReLU | nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    return probe


def shapes() -> dict[str, tuple[int, int, int]]:
    """Channels, height and width behind each block of the case study's U-Net, for one image of `SIZE`."""
    network, found = UNet().eval(), {}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.update({name: tuple(output.shape[1:])})

    for name, module in network.named_children():
        module.register_forward_hook(note(name))
    with torch.no_grad():
        network(torch.zeros(1, 1, SIZE, SIZE))
    return found


def transposed_example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The U-Net's up-convolution by numbers: input (2, 2), a kernel (3, 3), output (4, 4), all float32."""
    layer = up_convolution(1, 1)
    kernel = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    image = torch.tensor([[4.0, 8.0], [12.0, 16.0]])
    with torch.no_grad():
        layer.weight.copy_(kernel)
        nn.init.constant_(layer.bias, 0)  # type: ignore[arg-type]
        return image.numpy(), kernel.numpy(), layer(image[None, None])[0, 0].numpy()
