"""Facts about the study's networks: receptive fields by hand, sizes, the up-convolution as a sum of stamps."""

import numpy as np
import pytest
import torch
from torch import nn

from saltseg.errors import InputError
from saltseg.models.fcn import FullResolutionFCN
from saltseg.reporting import case_networks


def conv(**options):
    return nn.Conv2d(1, 1, 3, padding=options.pop("padding", 1), **options)


@pytest.mark.parametrize(
    ("network", "field"),
    [
        (nn.Sequential(conv(), nn.BatchNorm2d(1), nn.ReLU(), conv()), 5),
        (nn.Sequential(conv(dilation=4, padding=4)), 9),
        # back from the output: 1 → the upsampling 1 → the convolution 3 → the pooling 6 → the convolution 8
        (nn.Sequential(conv(), nn.MaxPool2d(2), nn.Dropout(), conv(), nn.Upsample(scale_factor=2)), 8),
        # 1 → 3 at the half resolution, each a window of 3 that moves by 2: 3 + 2 + 2
        (nn.Sequential(conv(stride=2), conv(), nn.Upsample(scale_factor=2)), 7),
        # an odd output pixel has two sources, an even one has one: the largest counts
        (nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 3, 2, 1, 1)), 4),
        (FullResolutionFCN(1, 2, (1, 2, 4)), 15),
    ],
)
def test_receptive_fields_by_hand(network, field) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert case_networks.receptive_field(network, 64) == field
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())  # a copy was probed


def test_a_field_that_leaves_the_image_is_refused() -> None:
    with pytest.raises(InputError, match="reaches the edge of 40 pixels; give a larger size"):
        case_networks.receptive_field(FullResolutionFCN(1, 1, (8, 8)), 40)


def test_facts_about_the_networks() -> None:
    """U-Net, back from the output, as wide as it gets: 1 → two convolutions 5 → up-convolution 4 (an odd start) → 8 →
    5 → 9 → 6 → 10 → 6 → 10; four times doubled and widened by two convolutions: 24, 52, 108, 220."""
    found = case_networks.networks("cpu")
    assert (found.field, found.plain, found.dilated) == (220, 1 + 2 * 11, 1 + 2 * 48)
    assert (found.parameters, found.size) == (2_161_361, 64)
    assert found.gflop == pytest.approx(4.77 / 3, abs=0.01)  # forward alone, without backward
    assert found.equal_filters == 155
    # 9 products of 155 + 10 · 155² pairs and 155 of the head, each two operations, on every pixel
    fcn = 2 * (9 * (155 + 10 * 155**2) + 155)
    assert found.equal_operations == pytest.approx(fcn * 128 * 128 / (found.gflop * 1e9), rel=1e-6)


def test_shapes_are_those_of_the_network() -> None:
    found = case_networks.shapes()
    assert [found[f"contract{level}"] for level in (1, 3, 5)] == [(16, 128, 128), (64, 32, 32), (256, 8, 8)]
    assert [found[name] for name in ("up6", "expand6", "expand9", "head")] == [
        (128, 16, 16), (128, 16, 16), (16, 128, 128), (1, 128, 128),
    ]  # fmt: skip


def test_the_transposed_convolution_adds_stamps() -> None:
    image, kernel, output = case_networks.transposed_example()
    stamps = np.zeros((6, 6))
    for row, column in np.ndindex(2, 2):
        stamps[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += image[row, column] * kernel
    np.testing.assert_allclose(output, stamps[1:5, 1:5])
    assert output.tolist()[0] == [4, 6, 8, 4]  # 4, between 4 and 8, 8, half of 8
