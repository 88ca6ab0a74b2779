"""One battery for the network of every named experiment, and what `zoo.build` rejects."""

import copy
from pathlib import Path
from typing import NamedTuple

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from saltseg.config import Config, ModelConfig, SmpConfig, UNetConfig
from saltseg.errors import InputError
from saltseg.experiments import EXPERIMENTS
from saltseg.models import zoo
from saltseg.models.checkpoints import load_network
from saltseg.models.losses import binary_cross_entropy
from saltseg.models.salt_network import SaltNetwork, outputs
from saltseg.models.unet import UNet, crop_to, pad_to_multiple

# Experiments that differ in data or training only share a network, which is tested once.
NAMES = {EXPERIMENTS[name].config(name).model: name for name in reversed(EXPERIMENTS)}
ARCHITECTURES = {model.architecture: model for model in NAMES}
FAST = {*ARCHITECTURES.values(), EXPERIMENTS["recipe_resnet34"].config("").model}  # one per architecture, all options
CASES = [pytest.param(model, id=name, marks=() if model in FAST else pytest.mark.slow) for model, name in NAMES.items()]


class Case(NamedTuple):
    """A network with random weights, and its configuration. Tests that train work on a copy."""

    model: ModelConfig
    network: nn.Module


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return Case(request.param, zoo.build(request.param, pretrained=False))


def biased(network: nn.Module) -> nn.Module:
    """In training mode, with nothing that drops a gradient by chance.

    Biases make every ReLU pass something (scSE has some behind a single channel), and no block is dropped at random.
    """
    for module in network.modules():
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.constant_(module.bias, 0.5)
    return network.train()


@pytest.fixture(scope="module")
def biased_case(case: Case) -> Case:
    """One copy for the gradients at all sizes."""
    return Case(case.model, biased(copy.deepcopy(case.network)))


def gray(model: ModelConfig, count: int, size: int) -> torch.Tensor:
    """Random gray images as the network gets them, (count, C, size, size)."""
    return torch.rand(count, 1, size, size).repeat(1, model.in_channels, 1, 1)


def trained_a_little(case: Case) -> nn.Module:
    """A copy whose batch norm has seen images, so that a forgotten statistic would show."""
    network = copy.deepcopy(case.network).train()
    with torch.no_grad():
        network(gray(case.model, 4, 64))
    return network.eval()


def without_gradient(network: nn.Module) -> list[str]:
    """Parameters that got none, zero everywhere, or not finite."""
    return [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0 or not parameter.grad.isfinite().all()
    ]


@pytest.mark.parametrize("size", [101, pytest.param(160, marks=pytest.mark.slow)])
def test_forward_and_backward_reach_every_parameter(biased_case: Case, size: int) -> None:
    images, network = gray(biased_case.model, 2, size), biased_case.network
    network.zero_grad()
    found = outputs(network, images)
    assert found.logits.shape == (2, 1, size, size)
    binary_cross_entropy(found.logits, (images[:, :1] > 0.6).float()).backward()
    assert without_gradient(network) == []


def test_a_size_that_does_not_fit_is_seen_with_its_border_mirrored(case: Case) -> None:
    network, image = trained_a_little(case), gray(case.model, 1, 101)
    mirrored = pad_to_multiple(image, 16 if isinstance(network, UNet) else 32)
    with torch.no_grad():
        torch.testing.assert_close(network(image), crop_to(network(mirrored), 101, 101))


def test_logits_come_from_the_whole_image_and_from_no_other(case: Case) -> None:
    images = gray(case.model, 2, 64).requires_grad_()
    logits = trained_a_little(case)(images)
    assert logits[0].std() > 0
    logits[0].square().sum().backward()
    assert images.grad is not None
    assert (images.grad[0] != 0).float().mean() > 0.99
    assert not images.grad[1].any(), "another image of the batch shines through"


@pytest.mark.slow
@pytest.mark.parametrize("model", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_overfits_one_image(model: ModelConfig) -> None:
    """To less than half of what the best answer costs that ignores the image: the entropy of its mask."""
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    mask = ((rows - 0.2) ** 2 + (columns + 0.1) ** 2 < 0.3).float()[None, None]
    share = mask.mean()
    entropy = -(share * share.log() + (1 - share) * (1 - share).log())  # 0.55
    image = 0.5 + 0.1 * torch.randn(1, 1, 32, 32) + 0.2 * mask
    # Twice the same image: batch norm needs two values, and some networks pool the image to one.
    images, masks = image.repeat(2, model.in_channels, 1, 1), mask.repeat(2, 1, 1, 1)
    network = zoo.build(model, pretrained=False).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, fused=True)
    losses: list[float] = []
    while len(losses) < 25 and (not losses or losses[-1] > entropy / 2):
        optimizer.zero_grad()
        loss = binary_cross_entropy(network(images), masks)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < entropy / 2, losses
    assert losses[-1] < losses[0] / 2


def test_saved_and_loaded_gives_equal_logits(case: Case, tmp_path: Path) -> None:
    network, images = trained_a_little(case).to(memory_format=torch.channels_last), gray(case.model, 2, 64)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "network.ckpt")
    torch.manual_seed(1)  # other random weights to begin with
    loaded = load_network(Config(model=case.model), tmp_path / "network.ckpt")
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


def changed(**fields: object) -> SmpConfig:
    """A small U-Net of smp's with other fields."""
    return SmpConfig(**{"encoder": "resnet18"} | fields)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(cls.__name__ for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()))
def test_every_architecture_works_and_every_weight_that_trains_gets_gradient(name: str) -> None:
    torch.manual_seed(0)
    encoder = "tu-vit_tiny_patch16_224" if name == "DPT" else "resnet18"
    network = biased(zoo.build(changed(architecture=f"smp.{name}", encoder=encoder)))
    zoo.freeze_params_without_grad(network, 1)
    images = torch.rand(2, 1, 101, 101)
    logits = network(images)
    assert logits.shape == images.shape
    binary_cross_entropy(logits, (images > 0.6).float()).backward()
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    # A bias in front of batch norm changes nothing; its gradient is a rounding error, in PAN exactly 0.
    still = [name for name in without_gradient(network) if name in trained and not name.endswith(".bias")]
    assert still == []
    unused = {"PSPNet": ("encoder.layer3.", "encoder.layer4."), "DPT": ("decoder.", "encoder.")}
    frozen = [name.removeprefix("network.") for name, p in network.named_parameters() if not p.requires_grad]
    assert bool(frozen) == (name in unused)
    assert all(parameter.startswith(unused[name]) for parameter in frozen)


def test_weights_that_nothing_calls_do_not_train() -> None:
    """This encoder ends in a layer for classification; processes that share a batch would wait for its gradients."""
    network = zoo.build(changed(encoder="efficientnet-b0", deep_supervision=True, presence_head=True)).eval()
    before, generator = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    zoo.freeze_params_without_grad(network, 1)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"network.encoder.{name}" for name in ("_conv_head.weight", "_bn1.weight", "_bn1.bias")}
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training


def test_a_transformer_for_one_size_of_image_takes_any() -> None:
    network = zoo.build(changed(architecture="smp.DPT", encoder="tu-vit_tiny_patch16_224")).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 1, 101, 101)).shape == (1, 1, 101, 101)


def test_names_of_timm_may_carry_the_tag_of_their_weights() -> None:
    plain, tagged = (zoo.build(changed(encoder=name)) for name in ("tu-resnet18", "tu-resnet18.a1_in1k"))
    assert plain.state_dict().keys() == tagged.state_dict().keys()


def test_widths_and_attention_reach_the_decoder() -> None:
    network = zoo.build(changed(decoder_channels=(96, 64, 48, 32, 16), attention="scse"))
    names = {name for name, _ in network.named_parameters()}
    assert [block.conv2[0].out_channels for block in network.network.decoder.blocks] == [96, 64, 48, 32, 16]
    per_block = [
        sum(f"decoder.blocks.{i}.attention" in name and "cSE.1.weight" in name for name in names) for i in range(5)
    ]
    assert per_block == [2, 2, 2, 2, 1]  # the last block joins no skip, so it has no attention before its convolutions


def test_weights_of_a_file_come_with_their_normalization_and_adapt_to_the_input(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = zoo.build(changed(in_channels=3)).network.encoder.state_dict()
    torch.save(source, tmp_path / "resnet18.pth")
    model = changed(weights=f"file:{tmp_path / 'resnet18.pth'}", extra_channels=("row",))
    network = zoo.build(model)
    filters = network.network.encoder.conv1.weight
    torch.testing.assert_close(
        filters[:, 0], source["conv1.weight"].sum(dim=1)
    )  # red, green and blue are the same gray
    assert not filters[:, 1].any()  # the row does not disturb what the weights know
    assert torch.equal(network.network.encoder.layer4[0].conv1.weight, source["layer4.0.conv1.weight"])
    assert network.mean.flatten().tolist() == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert network.std.flatten().tolist() == pytest.approx([(0.229 + 0.224 + 0.225) / 3])

    colored = zoo.build(changed(weights=model.weights, in_channels=3))
    assert colored.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert colored.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])

    (tmp_path / "resnet18.pth").unlink()  # a trained network does not ask for the file again
    restored = zoo.build(model, pretrained=False)
    assert restored.mean.flatten().tolist() == [0.0]
    restored.load_state_dict(network.state_dict())
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(restored.eval()(image), network.eval()(image))


def test_the_handwritten_network_with_an_extra_channel_is_the_same_network() -> None:
    plain, wrapped = zoo.build(UNetConfig(filters=2)), zoo.build(UNetConfig(filters=2, extra_channels=("row",)))
    assert isinstance(plain, UNet)
    assert isinstance(wrapped, SaltNetwork)
    assert isinstance(wrapped.network, UNet)
    assert wrapped.network.contract1[0].in_channels == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (changed(architecture="smp.FNP"), r"^unknown model.architecture 'smp.FNP'; did you mean smp.FPN"),
        (changed(encoder="qqqq"), r"^unknown model.encoder 'qqqq'; known: resnet18, .{500,3000} and \d,?\d\d\d more$"),
        (changed(encoder="resnet43"), r"^unknown model.encoder 'resnet43'; did you mean .*\bresnet34\b"),
        (
            changed(encoder="tu-convnxt_tiny"),
            r"^unknown model.encoder 'tu-convnxt_tiny'; did you mean tu-convnext_tiny",
        ),
        (
            changed(architecture="smp.Unet++"),
            r"^unknown model.architecture 'smp.Unet\+\+'; did you mean smp.UnetPlusPlus\?$",
        ),
        (changed(encoder="convnext_tiny"), r"^unknown model.encoder 'convnext_tiny'; did you mean tu-convnext_tiny\?$"),
        (
            changed(encoder="tf_efficientnet_lite0"),  # not smp's own timm-tf_efficientnet_lite0, which is wrong
            r"^unknown model.encoder 'tf_efficientnet_lite0'; did you mean tu-tf_efficientnet_lite0\?$",
        ),
        (
            changed(architecture="smp.DPT", encoder="tu-vit_tiny_patch16_224", presence_head=True),
            r"^smp.DPT with tu-vit_tiny_patch16_224 and model.stem=plain: .*prefix_tokens",
        ),
        (
            changed(encoder="tu-vit_tiny_patch16_224"),
            r"^smp.Unet with tu-vit_tiny_patch16_224 and model.stem=plain: Unsupported model downsampling pattern",
        ),
        (
            changed(encoder="tu-swin_tiny_patch4_window7_224"),
            r"^smp.Unet with tu-swin_tiny_patch4_window7_224 .* doesn't match model \(224\)",
        ),
        (
            changed(architecture="smp.FPN", decoder_channels=(64, 32)),
            r"^model.decoder_channels: smp.FPN has no list of widths; leave it \[\]$",
        ),
        (
            changed(decoder_channels=(64, 32)),
            r"Model depth is 5, but you provide `decoder_channels` for 2 blocks.; choose another encoder, or smp.Unet",
        ),
        (
            changed(architecture="smp.FPN", attention="scse"),
            r"^model.attention=scse: smp.FPN has none; use smp.Unet or smp.UnetPlusPlus$",
        ),
        (
            changed(architecture="smp.MAnet", stem="no_maxpool"),
            r"^smp.MAnet with resnet18 and model.stem=no_maxpool: Sizes of tensors must match .*; choose another "
            r"encoder, or smp.Unet with stem=plain$",
        ),
        (
            changed(architecture="smp.MAnet", stem="no_maxpool", hypercolumn=True),
            r"^smp.MAnet with resnet18 and model.stem=no_maxpool: Sizes of tensors must match",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_what_cannot_be_built_is_refused(model: ModelConfig, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        zoo.build(model)
    assert "\n" not in str(refused.value)
