"""The receptive field of a network, probed."""

import copy

import torch
from torch import nn


def receptive_field(network: nn.Module, size: int, probes: int = 16) -> int:
    """Pixels, height and width, of the part of the image that one output pixel can depend on.

    The gradient of an output in the middle of a size x size image is positive exactly on the field in a copy whose
    convolutions and poolings average and whose ReLU and batch norm are left out. In networks with strides the field
    depends on the pixel; this is the largest of ``probes`` neighbors on the diagonal.

    Raises ValueError when the field reaches the image's edge, so that a larger one is needed.
    """
    probe = _averaging_copy(network)
    image = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    output = probe(image)
    extents = []
    for index in range((size - probes) // 2, (size + probes) // 2):
        (gradient,) = torch.autograd.grad(output[0, 0, index, index], image, retain_graph=True)
        for axis in (0, 1):
            seen = gradient[0, 0].sum(dim=axis).nonzero().flatten()
            if int(seen[0]) == 0 or int(seen[-1]) == size - 1:
                raise ValueError(f"the receptive field reaches the edge of {size} pixels; give a larger size")
            extents.append(int(seen[-1] - seen[0]) + 1)
    return max(extents)


def _averaging_copy(network: nn.Module) -> nn.Module:
    """A float64 copy in which every output of a layer grows with each of its inputs; see `receptive_field`."""
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
