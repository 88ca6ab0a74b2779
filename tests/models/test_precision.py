"""Mixed precision on a CPU: what stays in float32, and that scores agree."""

import copy

import torch
from torch import nn

from saltseg.models.precision import keep_depthwise_float32


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 1, 1))


def test_only_depthwise_convolutions_compute_in_float32_under_autocast() -> None:
    plain, kept = network(), keep_depthwise_float32(network())
    seen = {}
    for name, module in kept.named_children():
        module.register_forward_hook(lambda _, x, y, name=name: seen.__setitem__(name, (x[0].dtype, y.dtype)))
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first, rounded, result = kept[0](x), plain[1](plain[0](x)), kept[1](kept[0](x))
        kept(x)
    expected = nn.functional.conv2d(first.float(), plain[1].weight, plain[1].bias, padding=1, groups=8)
    assert torch.equal(result, expected.detach().to(torch.bfloat16))
    assert not torch.equal(result, rounded)  # weights in bfloat16 round
    assert seen == {name: (torch.float32 if name == "0" else torch.bfloat16, torch.bfloat16) for name in "012"}
    assert torch.equal(kept(x), plain(x))  # without autocast nothing changes


def test_names_of_tensors_and_copies_survive() -> None:
    kept = keep_depthwise_float32(network())
    assert list(kept.state_dict()) == list(network().state_dict())
    other = copy.deepcopy(kept)
    with torch.no_grad():
        other[1].weight.zero_()
    x = torch.rand(1, 8, 4, 4)
    assert not torch.equal(kept[1](x), other[1](x))
