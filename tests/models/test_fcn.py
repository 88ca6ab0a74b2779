"""The full-resolution network: parameters by hand, its receptive field, and that it trains."""

import pytest
import torch
from overfitting import overfit

from saltseg.config import FCNConfig
from saltseg.models import zoo
from saltseg.models.fcn import FullResolutionFCN


def test_parameters_by_hand() -> None:
    # 3 filters, 3 layers, 1 channel: 9*1*3 + 9*3*3 + 9*3*3 weights, 3 biases, 3 scales and 3 shifts a layer, head 3 + 1
    assert zoo.parameters(FullResolutionFCN(1, 3, (1, 2, 4))) == 27 + 81 + 81 + 27 + 4
    assert zoo.parameters(FullResolutionFCN(2, 5, (1,))) == 90 + 15 + 6


@pytest.mark.parametrize(("dilations", "field"), [((1,), 3), ((1, 1, 1), 7), ((1, 2, 4), 15), ((3,), 7)])
def test_a_pixel_sees_its_receptive_field_and_no_further(dilations: tuple[int, ...], field: int) -> None:
    torch.manual_seed(0)
    network = FullResolutionFCN(1, 16, dilations).eval()
    image = torch.rand(1, 1, 41, 41, requires_grad=True)
    network(image)[0, 0, 20, 20].backward()
    assert image.grad is not None
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert (rows[0].item(), rows[-1].item()) == (20 - field // 2, 20 + field // 2)


def test_the_configuration_says_how_wide_and_how_deep() -> None:
    network = zoo.build(FCNConfig(filters=7, dilations=(1, 3)))
    assert zoo.parameters(network) == zoo.parameters(FullResolutionFCN(1, 7, (1, 3)))


def test_overfits_one_image() -> None:
    """The salt is noise of the same mean, only rougher: a pixel's own value does not tell, its neighbors do."""
    torch.manual_seed(0)
    network = FullResolutionFCN(1, 8, (1, 2, 2), dropout=0.0)
    mask = torch.zeros(1, 1, 24, 24)
    mask[..., 6:18, 4:16] = 1
    image = 0.5 + 0.05 * torch.randn(1, 1, 24, 24) * (1 + 5 * mask)
    assert overfit(network, image, mask, rate=1e-2) < 0.1
