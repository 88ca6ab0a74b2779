"""The handwritten U-Net: the case study's numbers, worked out by hand, and what every network here must do."""

import pytest
import torch
from overfitting import overfit
from torch import nn

from saltseg.config import FCNConfig, ModelConfig, SmpConfig, UNetConfig
from saltseg.errors import InputError
from saltseg.models import zoo
from saltseg.models.losses import binary_cross_entropy
from saltseg.models.unet import UNet, crop_to, down_sampling, join, pad_to_multiple


def convolution(i: int, o: int) -> int:
    """3x3 weights, bias, and the scale and shift of batch norm."""
    return 9 * i * o + o + 2 * o


def by_hand(channels: int) -> int:
    """Trainable parameters, added up from the case study's table."""
    total = 0
    for i, o in [(channels, 16), (16, 32), (32, 64), (64, 128), (128, 256)]:  # c1 … c5
        total += convolution(i, o) + convolution(o, o)
    for i, o in [(256, 128), (128, 64), (64, 32), (32, 16)]:  # u6 c6 … u9 c9
        total += (9 * i * o + o) + convolution(2 * o, o) + convolution(o, o)
    return total + 16 + 1


@pytest.mark.parametrize(("channels", "published"), [(3, 2_161_649), (1, 2_161_361)])
def test_parameters_are_the_case_studys(channels: int, published: int) -> None:
    assert by_hand(channels) == published
    assert zoo.parameters(UNet(channels)) == published


def test_sizes_at_every_level() -> None:
    network = UNet(3).eval()
    seen: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: torch.Tensor) -> None:
        seen[name] = tuple(output.shape[1:])

    for name, module in network.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: keep(name, out))
    network(torch.zeros(1, 3, 128, 128))
    assert [seen[f"contract{i}"] for i in range(1, 6)] == [
        (16, 128, 128), (32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8),
    ]  # fmt: skip
    assert [seen[f"up{i}"] for i in range(6, 10)] == [(128, 16, 16), (64, 32, 32), (32, 64, 64), (16, 128, 128)]
    assert [seen[f"expand{i}"] for i in range(6, 10)] == [(128, 16, 16), (64, 32, 32), (32, 64, 64), (16, 128, 128)]
    assert seen["head"] == (1, 128, 128)


def test_second_convolution_reads_the_firsts_output() -> None:
    """The case study's notebook has it read the block's input: then zeroing the first one changes nothing."""
    torch.manual_seed(0)
    network, image = UNet(1).eval(), torch.rand(1, 1, 32, 32)
    before = network.contract1(image)
    nn.init.zeros_(network.contract1[0].weight)
    assert not torch.allclose(before, network.contract1(image))


def test_skips_join_what_the_names_say() -> None:
    """u6+c4, u7+c3, u8+c2, u9+c1: the first half of each concatenation is the up-convolution's output."""
    torch.manual_seed(0)
    network, kept = UNet(1).eval(), {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, inp, out, name=name: kept.__setitem__(name, (inp[0], out)))
    network(torch.rand(2, 1, 64, 64))
    for level, partner in ((6, 4), (7, 3), (8, 2), (9, 1)):
        expected = torch.cat([kept[f"up{level}"][1], kept[f"contract{partner}"][1]], dim=1)
        assert torch.equal(kept[f"expand{level}"][0], expected)


def test_parameters_of_the_variants_by_hand() -> None:
    widths = (16, 32, 64, 128)
    learned = sum(convolution(f, f) for f in widths)  # a stride-2 convolution per level, batch norm with it
    assert zoo.parameters(UNet(1, down="strided_conv")) == 2_161_361 + learned
    assert zoo.parameters(UNet(1, down="average_pool")) == 2_161_361
    halved = sum(9 * f * f for f in widths)  # the first convolution after a skip reads half as many channels
    for skip in ("add", "max", "min", "none"):
        assert zoo.parameters(UNet(1, skip=skip)) == 2_161_361 - halved


def test_down_sampling_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert down_sampling("max_pool", 1)(image).item() == 6
    assert down_sampling("average_pool", 1)(image).item() == 3
    learned = down_sampling("strided_conv", 3)
    assert learned(torch.rand(2, 3, 10, 12)).shape == (2, 3, 5, 6)
    assert isinstance(learned, nn.Sequential)
    assert isinstance(learned[0], nn.Conv2d)
    for parameter in learned[0].parameters():
        nn.init.zeros_(parameter)
    learned[0].weight.data[0, 0, 1, 1] = 1  # filter 0 picks its own channel's upper left pixel of every two by two
    picked = learned[0](torch.arange(48.0).reshape(1, 3, 4, 4))[0, 0]
    assert picked.tolist() == [[0, 2], [8, 10]]


def test_joins_by_hand() -> None:
    up, skip = torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1), torch.tensor([0.5, 3.0]).reshape(1, 2, 1, 1)
    for kind, expected in {
        "concat": [1.0, -2.0, 0.5, 3.0], "add": [1.5, 1.0], "max": [1.0, 3.0], "min": [0.5, -2.0], "none": [1.0, -2.0],
    }.items():  # fmt: skip
        assert join(kind, up, skip).flatten().tolist() == expected


def test_without_skips_nothing_of_the_finest_level_comes_through() -> None:
    torch.manual_seed(0)
    for skip, passes in (("none", False), ("add", True)):
        network, kept = UNet(1, skip=skip, dropout=0).eval(), {}
        network.contract1.register_forward_hook(lambda _, __, out, kept=kept: kept.update(c1=out))
        network.down1.register_forward_hook(lambda _, __, out: out.detach())
        network(torch.rand(1, 1, 32, 32, requires_grad=True)).sum().backward()
        gradient = network.contract1[0].weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is passes


NETWORKS = [
    UNetConfig(),
    UNetConfig(down="strided_conv", skip="add"),
    UNetConfig(down="average_pool", skip="max", filters=4),
    UNetConfig(skip="min", filters=4),
    UNetConfig(skip="none", filters=4),
    FCNConfig(filters=8, dilations=(1, 2, 4, 1)),
    UNetConfig(in_channels=3, filters=4),
    SmpConfig(encoder="resnet18"),
]


def name(config: ModelConfig) -> str:
    return "-".join(str(getattr(config, key, "")) for key in ("architecture", "filters", "in_channels", "skip"))


@pytest.mark.parametrize("config", NETWORKS, ids=name)
@pytest.mark.parametrize("size", [(101, 101), (33, 160)])
def test_any_size_gives_logits_of_that_size(config: ModelConfig, size: tuple[int, int]) -> None:
    logits = zoo.build(config).eval()(torch.rand(2, config.in_channels, *size))
    assert logits.shape == (2, 1, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("config", NETWORKS, ids=name)
def test_every_parameter_receives_gradient(config: ModelConfig) -> None:
    torch.manual_seed(0)
    network = zoo.build(config)
    images = torch.rand(2, config.in_channels, 101, 101)
    binary_cross_entropy(network(images), (images[:, :1] > 0.6).float()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_overfits_one_image() -> None:
    torch.manual_seed(0)
    network = UNet(1, dropout=0.0)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    mask = ((rows**2 + columns**2) < 0.4).float()[None, None]
    image = 0.5 + 0.1 * torch.randn(1, 1, 48, 48) + 0.1 * mask
    assert overfit(network, image, mask, rate=3e-3) < 0.1
    assert ((network(image) > 0) == (mask > 0.5)).float().mean() > 0.99


def test_padding_and_cropping_are_inverse_and_reflect() -> None:
    image = torch.arange(2 * 101 * 77, dtype=torch.float32).reshape(1, 2, 101, 77)
    padded = pad_to_multiple(image, 16)
    assert padded.shape[-2:] == (112, 80)
    assert torch.equal(crop_to(padded, 101, 77), image)
    assert torch.equal(padded[..., 4, 1:78], image[..., 1, :])  # 5 rows above: row 4 mirrors row 1 about row 0
    assert pad_to_multiple(padded, 16) is padded


@pytest.mark.parametrize(("multiple", "shortest"), [(16, 6), (32, 12)])
def test_each_side_may_be_as_short_as_its_own_reflection_allows(multiple: int, shortest: int) -> None:
    for side in range(shortest, 2 * multiple):
        for other in (shortest, multiple + 1):
            for height, width in ((side, other), (other, side)):
                padded = pad_to_multiple(torch.zeros(1, 1, height, width), multiple)
                assert (padded.shape[-2] % multiple, padded.shape[-1] % multiple) == (0, 0)
    with pytest.raises(InputError, match=f"too small to reflect to {multiple}"):
        pad_to_multiple(torch.zeros(1, 1, shortest - 1, 4 * multiple), multiple)


def test_an_image_too_small_to_reflect_is_refused() -> None:
    with pytest.raises(InputError, match="image of 5x5 pixels is too small to reflect to 16"):
        UNet(1).eval()(torch.rand(1, 1, 5, 5))


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'smp.Unett'; did you mean smp.Unet"):
        zoo.build(SmpConfig(architecture="smp.Unett"))
    with pytest.raises(InputError, match=r"'resnet43'; did you mean .*resnet34"):
        zoo.build(SmpConfig(encoder="resnet43"))


def test_binary_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 2.0]]]])
    masks = torch.tensor([[[[1.0, 0.0]]]])
    # -log(1/2) = 0.6931 and -log(1 - sigmoid(2)) = log(1 + e^2) = 2.1269
    assert binary_cross_entropy(logits, masks).item() == pytest.approx((0.693147 + 2.126928) / 2, abs=1e-6)
