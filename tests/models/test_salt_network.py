"""Each option around an encoder-decoder: its effect on the numbers, by hand or by a second implementation."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from saltseg.config import SmpConfig, UNetConfig
from saltseg.errors import InputError
from saltseg.models import zoo
from saltseg.models.losses import binary_cross_entropy
from saltseg.models.salt_network import Outputs, SaltNetwork, extra, keep_resolution, outputs


def unet(**fields: Any) -> SaltNetwork:
    """A small U-Net of smp's with options, the same random weights in every call, in training mode."""
    torch.manual_seed(0)
    network = zoo.build(SmpConfig(**{"encoder": "resnet18"} | fields))
    assert isinstance(network, SaltNetwork)
    return network


def bare(**fields: Any) -> SaltNetwork:
    """A network that returns its input."""
    config = UNetConfig(**fields)
    return SaltNetwork(nn.Identity(), config, [0.0] * config.in_channels, [1.0] * config.in_channels)


def inputs_and_outputs(module: nn.Module) -> list[tuple[Tensor, Any]]:
    """Filled with (input, output) of the module as it is called."""
    seen: list[tuple[Tensor, Any]] = []
    module.register_forward_hook(lambda _, given, output: seen.append((given[0], output)))
    return seen


def gradient(module: nn.Module) -> float:
    """Of all its parameters together, 0 where there is none."""
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


# Stem


@pytest.mark.parametrize(
    ("encoder", "stem"),
    [
        ("resnet18", "no_maxpool"),
        ("resnet18", "stride1"),
        ("tu-resnet34d", "no_maxpool"),  # a stem of three convolutions
        ("densenet121", "no_maxpool"),
        ("tu-tf_efficientnet_lite0", "stride1"),
        ("mobilenet_v2", "stride1"),
        ("mit_b0", "upsample_input"),
    ],
)
def test_a_kept_resolution_doubles_the_deepest_features(encoder: str, stem: str) -> None:
    plain, keen = unet(encoder=encoder).eval(), unet(encoder=encoder, stem=stem).eval()
    seen = [inputs_and_outputs(network.network.encoder) for network in (plain, keen)]
    image = torch.rand(1, 1, 128, 128)
    with torch.no_grad():
        assert plain(image).shape == keen(image).shape == (1, 1, 128, 128)
    assert [calls[0][1][-1].shape[-2:] for calls in seen] == [(4, 4), (8, 8)]
    assert seen[1][0][0].shape[-2:] == ((256, 256) if stem == "upsample_input" else (128, 128))
    shapes = [{name: tensor.shape for name, tensor in network.state_dict().items()} for network in (plain, keen)]
    assert shapes[0] == shapes[1], "pretrained weights would no longer fit"


def test_no_maxpool_leaves_out_the_pooling_and_nothing_else() -> None:
    network = unet(stem="no_maxpool").eval()
    encoder = network.network.encoder
    seen, image = inputs_and_outputs(encoder.layer1), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        network(image)
        expected = encoder.relu(encoder.bn1(encoder.conv1(image)))
    assert torch.equal(seen[0][0], expected)
    assert encoder.conv1.stride == (2, 2)


def test_stride1_changes_the_stride_and_nothing_else() -> None:
    network, plain = unet(stem="stride1"), unet()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        every, second = network.network.encoder.conv1(image), plain.network.encoder.conv1(image)
    torch.testing.assert_close(every[..., ::2, ::2], second)
    assert isinstance(network.network.encoder.maxpool, nn.MaxPool2d)


def test_upsample_input_by_hand() -> None:
    """0 1 2 … becomes 0, ¼, ¾, 1¼, … for the network, whose pairs average to the same again, but at the ends to ⅛."""
    network = bare(stem="upsample_input")
    seen = inputs_and_outputs(network.network)
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    logits = network(ramp)
    assert seen[0][0].shape == (1, 1, 64, 64)
    assert seen[0][0][0, 0, 7, :4].tolist() == [0, 0.25, 0.75, 1.25]
    assert torch.equal(logits[..., 1:-1], ramp[..., 1:-1])
    assert logits[0, 0, 3, [0, -1]].tolist() == [0.125, 30.875]


def test_logits_coarser_than_the_image_are_enlarged() -> None:
    network = bare()
    network.network = nn.AvgPool2d(2)
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)  # pairs average to 0.5, 2.5, …; between them lie 1, 1.5, 2
    assert network(ramp)[0, 0, 5, :4].tolist() == [0.5, 1, 2, 3]


@pytest.mark.parametrize(
    ("encoder", "stem", "message"),
    [
        (
            "mobilenet_v2",
            "no_maxpool",
            "model.stem=no_maxpool: mobilenet_v2 has no max pooling to remove; use stem=stride1",
        ),
        (
            "mit_b0",
            "stride1",
            "model.stem=stride1: the first convolution of mit_b0 has stride 4, not 2; use stem=upsample_input",
        ),
    ],
)
def test_a_stem_that_an_encoder_does_not_have_is_refused(encoder: str, stem: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        unet(encoder=encoder, stem=stem)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("encoder", "stem"),
    [
        ("tu-resnetblur50", "no_maxpool"),  # its pooling has stride 1; a blur behind it halves
        ("efficientnet-b0", "stride1"),  # its padding is fixed for stride 2: 63, 31, 15, … rows instead of 64, 32, 16
    ],
)
def test_a_stem_that_does_not_double_the_resolution_is_refused(encoder: str, stem: str) -> None:
    with pytest.raises(InputError, match=f"^(model.stem={stem}: |smp.Unet with ){encoder}"):
        unet(encoder=encoder, stem=stem)


def test_only_the_first_pooling_and_the_first_stride_go() -> None:
    encoder = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3, stride=2)), nn.MaxPool2d(2), nn.MaxPool2d(2))
    keep_resolution(encoder, "no_maxpool", "toy")
    assert [type(module) for module in encoder] == [nn.Sequential, nn.Identity, nn.MaxPool2d]
    keep_resolution(encoder, "stride1", "toy")
    assert encoder[0][0].stride == (1, 1)


# Normalization and extra channels


def test_the_network_is_given_the_image_less_its_mean_by_its_deviation() -> None:
    image = torch.rand(2, 3, 32, 32)
    mean, std = [0.5, 0.25, 0.0], [0.5, 0.25, 2.0]
    found = SaltNetwork(nn.Identity(), UNetConfig(in_channels=3), mean, std)(image)
    expected = torch.stack([image[:, 0] * 2 - 1, image[:, 1] * 4 - 1, image[:, 2] / 2], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_normalization_travels_with_the_weights() -> None:
    trained = SaltNetwork(nn.Identity(), UNetConfig(), [0.4], [0.2])
    restored, image = bare(), torch.rand(1, 1, 32, 32)
    assert not torch.equal(restored(image), trained(image))
    restored.load_state_dict(trained.state_dict())
    assert torch.equal(restored(image), trained(image))
    assert list(dict(trained.named_parameters())) == []  # and is not trained


def test_extra_channels_by_hand() -> None:
    image = torch.tensor([0.0, 0.5, 1.0, 0.25, 0.75]).view(1, 1, 5, 1).repeat(1, 3, 1, 2)
    image[:, 1:] = 9  # only the first channel counts
    row, image_x_row = extra(("row", "image_x_row"), image)
    assert row[0, 0].tolist() == [[-1, -1], [-0.5, -0.5], [0, 0], [0.5, 0.5], [1, 1]]
    assert image_x_row[0, 0, :, 0].tolist() == [-0.0, -0.25, 0.0, 0.125, 0.75]
    assert extra((), image) == []
    assert torch.equal(extra(("image_x_row",), image)[0], image_x_row)


def test_extra_channels_follow_the_image_as_it_is_before_normalization() -> None:
    config = UNetConfig(extra_channels=("row", "image_x_row"))
    image = torch.rand(2, 1, 32, 64)
    found = SaltNetwork(nn.Identity(), config, [0.5], [0.25])(image)
    ramp = torch.tensor([-1 + 2 * row / 31 for row in range(32)])[:, None]
    assert found.shape == (2, 3, 32, 64)
    torch.testing.assert_close(found[:, :1], 4 * image - 2)
    torch.testing.assert_close(found[:, 1:2], ramp.expand(2, 1, 32, 64))
    torch.testing.assert_close(found[:, 2:], image * ramp)


def test_left_and_right_are_alike_to_the_extra_channels() -> None:
    image = torch.rand(1, 1, 32, 32)
    found, mirrored = (extra(("row", "image_x_row"), side) for side in (image, image.flip(3)))
    assert all(torch.equal(one.flip(3), other) for one, other in zip(found, mirrored, strict=True))
    assert torch.equal(found[0], mirrored[0])


# Hypercolumn


@pytest.mark.parametrize("architecture", ["smp.Unet", "smp.Linknet", "smp.MAnet"])
def test_the_hypercolumn_a_second_way(architecture: str) -> None:
    network = unet(architecture=architecture, hypercolumn=True).eval()
    head, levels = network.hypercolumn, [inputs_and_outputs(block) for block in network.network.decoder.blocks]
    assert head is not None
    with torch.no_grad():
        logits = network(torch.rand(2, 1, 64, 64))
        found = [calls[-1][1] for calls in levels]
        total = head.head.bias.view(1, 1, 1, 1)
        width = found[-1].shape[1]
        for number, level in enumerate(found):  # a convolution of joined channels is the sum of their convolutions
            filters = head.head.weight[:, number * width : (number + 1) * width]
            if number < len(found) - 1:
                level = head.reduce[number](level)
                level = functional.interpolate(level, size=(64, 64), mode="bilinear", align_corners=False)
            total = total + functional.conv2d(level, filters, padding=1)
    torch.testing.assert_close(logits, total, rtol=1e-4, atol=1e-5)
    assert [level.shape[-1] for level in found] == [4, 8, 16, 32, 64]


@pytest.mark.parametrize("level", range(4))
def test_every_level_changes_the_hypercolumns_logits(level: int) -> None:
    network, image = unet(hypercolumn=True).eval(), torch.rand(1, 1, 64, 64)
    assert network.hypercolumn is not None
    with torch.no_grad():
        before = network(image)
        assert torch.equal(network(image), before)
        network.hypercolumn.reduce[level].weight.zero_()
        assert (network(image) - before).abs().max() > 1e-4


def test_the_hypercolumn_takes_the_place_of_the_old_head() -> None:
    plain, keen = (dict(unet(hypercolumn=on).named_parameters()) for on in (False, True))
    assert {name for name in plain if name not in keen} == {
        "network.segmentation_head.0.weight",
        "network.segmentation_head.0.bias",
    }
    assert all(name.startswith("hypercolumn.") for name in keen if name not in plain)


# Deep supervision


def test_side_outputs_in_training_only_and_from_each_level_but_the_last() -> None:
    network, images = unet(deep_supervision=True), torch.rand(2, 1, 101, 101)
    assert network.side is not None
    levels = [inputs_and_outputs(block) for block in network.network.decoder.blocks]
    found = network.outputs(images)
    assert [side.shape for side in found.side] == [(2, 1, 101, 101)] * 4
    for side, head, calls in zip(found.side, network.side, levels, strict=False):
        coarse = functional.conv2d(calls[-1][1], head.weight, head.bias)
        enlarged = functional.interpolate(coarse, size=(128, 128), mode="bilinear", align_corners=False)
        torch.testing.assert_close(side, enlarged[..., 13:114, 13:114])
    assert network.eval().outputs(images).side == ()


def test_deep_supervision_leaves_the_logits_alone() -> None:
    plain, keen, image = unet(), unet(deep_supervision=True), torch.rand(2, 1, 64, 64)
    plain.load_state_dict(keen.state_dict(), strict=False)
    assert torch.equal(plain(image), keen(image))


@pytest.mark.parametrize("side", range(4))
def test_a_loss_on_a_side_output_reaches_its_level_and_the_coarser_ones(side: int) -> None:
    network = unet(deep_supervision=True)
    images = torch.rand(2, 1, 64, 64)
    binary_cross_entropy(network.outputs(images).side[side], (images > 0.5).float()).backward()
    reached = [gradient(block) > 0 for block in network.network.decoder.blocks]
    assert reached == [number <= side for number in range(5)]
    assert gradient(network.network.encoder.conv1) > 0
    assert gradient(network.network.segmentation_head) == 0


# Presence head


@pytest.mark.parametrize("encoder", ["resnet18", "mit_b0"])
def test_presence_a_second_way(encoder: str) -> None:
    network = unet(encoder=encoder, presence_head=True).eval()
    assert network.presence is not None
    deepest, images = inputs_and_outputs(network.network.encoder), torch.rand(3, 1, 101, 101)
    with torch.no_grad():
        found = network.outputs(images)
        features = deepest[-1][1][-1].flatten(2)  # (3, channels, 16)
        expected = features.sum(dim=2) / 16 @ network.presence.weight[0] + network.presence.bias
    assert found.presence is not None
    torch.testing.assert_close(found.presence, expected)
    assert found.presence.shape == (3,)
    assert found.presence.unique().numel() == 3, "presence does not depend on the image"


def test_the_presence_head_leaves_the_logits_alone_and_teaches_the_encoder() -> None:
    plain, keen, images = unet(), unet(presence_head=True), torch.rand(2, 1, 64, 64)
    plain.load_state_dict(keen.state_dict(), strict=False)
    found = keen.outputs(images)
    assert torch.equal(plain(images), found.logits)
    assert plain.outputs(images).presence is None
    assert found.presence is not None
    functional.binary_cross_entropy_with_logits(found.presence, torch.tensor([0.0, 1.0])).backward()
    assert gradient(keen.network.encoder.conv1) > 0
    assert gradient(keen.network.decoder) == 0


# All together


@pytest.mark.parametrize(
    "fields",
    [
        {"stem": "no_maxpool", "attention": "scse"},
        pytest.param({"stem": "stride1", "architecture": "smp.MAnet"}, marks=pytest.mark.slow),
        pytest.param({"stem": "upsample_input", "architecture": "smp.Linknet"}, marks=pytest.mark.slow),
        {"stem": "stride1", "encoder": "tu-tf_efficientnet_lite0"},
    ],
    ids=lambda fields: "-".join(fields.values()),
)
def test_with_all_options_every_parameter_receives_gradient(fields: dict[str, str]) -> None:
    options = {"hypercolumn": True, "deep_supervision": True, "presence_head": True}
    network = unet(**fields, **options, extra_channels=("row", "image_x_row"))
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.constant_(module.bias, 0.5)  # no ReLU without input by chance of initialization
    images = torch.rand(2, 1, 101, 101)
    masks, found = (images > 0.6).float(), outputs(network, images)
    assert found.presence is not None
    loss = sum(binary_cross_entropy(logits, masks) for logits in (found.logits, *found.side))
    (loss + functional.binary_cross_entropy_with_logits(found.presence, torch.tensor([0.0, 1.0]))).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_copy_records_for_itself() -> None:
    """torch's AveragedModel copies the network; hooks bound to the original would fill the original's levels."""
    original = unet(hypercolumn=True, deep_supervision=True, presence_head=True)
    image = torch.rand(2, 1, 64, 64)
    twin = copy.deepcopy(original)
    expected = original.outputs(image)
    with torch.no_grad():
        for parameter in original.network.decoder.parameters():
            parameter.zero_()
    assert not torch.equal(original(image), expected.logits)
    found = twin.outputs(image)
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(one, other) for one, other in zip(found.side, expected.side, strict=True))
    for network in (original, twin):
        assert network._levels == [], "features are kept alive between calls"


def test_a_network_without_further_outputs_has_logits_only() -> None:
    network, image = nn.Conv2d(1, 1, 1), torch.rand(1, 1, 4, 4)
    found = outputs(network, image)
    assert isinstance(found, Outputs)
    assert torch.equal(found.logits, network(image))
    assert (found.side, found.presence) == ((), None)


@pytest.mark.parametrize("option", ["hypercolumn", "deep_supervision"])
@pytest.mark.parametrize("architecture", ["smp.FPN", "smp.UnetPlusPlus", "smp.Segformer"])
def test_options_that_read_levels_are_refused_where_there_are_none(architecture: str, option: str) -> None:
    with pytest.raises(InputError) as refused:
        unet(architecture=architecture, **{option: True})
    assert str(refused.value) == (
        f"model.architecture {architecture} has no decoder.blocks in sequence for a hypercolumn or deep supervision; "
        "use smp.Unet, smp.Linknet or smp.MAnet"
    )


def test_a_network_without_the_part_that_an_option_reads_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model.architecture smp.Unet has no encoder for this option; use smp.Unet$"):
        SaltNetwork(nn.Identity(), SmpConfig(presence_head=True), [0.0], [1.0])
