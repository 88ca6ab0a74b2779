"""Pretrained weights give the features of the network they come from, and nothing else is loaded."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from tiny_encoder import TINY, assert_same_features, copied, encoder_of, from_file, images, write
from torch import Tensor, nn

from saltseg.config import SmpConfig
from saltseg.errors import InputError
from saltseg.models import pretrained, zoo
from saltseg.models.pretrained_sources import IMAGENET, Pretrained
from saltseg.models.salt_network import SaltNetwork


def found(state: Mapping[str, Tensor]) -> Pretrained:
    return Pretrained(state, IMAGENET, "file test.pth")


@pytest.mark.parametrize("kind", ["offline", "imagenet", "file:x.pth"])
def test_the_encoders_that_compute_wrong_features_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"wrong features .*; use tu-tf_efficientnet_lite4$"):
        pretrained.pretrained(kind, "timm-tf_efficientnet_lite4")


def test_no_weights_and_unknown_ones() -> None:
    assert pretrained.pretrained("none", "timm-tf_efficientnet_lite4") is None
    with pytest.raises(InputError, match=r"'imagenette'; choose none, imagenet \(model hub\), offline or file:PATH"):
        pretrained.pretrained("imagenette", "resnet18")


# --- the first convolution -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "mobileone_s0", TINY])  # MobileOne has two convolutions side by side
def test_one_gray_channel_equals_three_repeated_ones_and_further_inputs_start_silent(name: str) -> None:
    source = found(encoder_of(name).state_dict())
    rgb, gray, deep = (encoder_of(name, channels, seed=9) for channels in (3, 1, 3))
    pretrained.load(rgb, source, gray_channels=3)
    pretrained.load(gray, source, gray_channels=1)
    pretrained.load(deep, source, gray_channels=1)
    image = images(1)
    with torch.inference_mode():
        expected = rgb(image.expand(-1, 3, -1, -1))
        assert_same_features(gray(image), expected)
        assert_same_features(deep(torch.cat([image, 100 * images(2)], dim=1)), expected)
    deep(torch.cat([image, images(2)], dim=1))[-1].square().mean().backward()
    first = next(module for module in deep.modules() if isinstance(module, nn.Conv2d))
    assert first.weight.grad is not None
    assert first.weight.grad[:, 1:].abs().max() > 0  # silent, not dead


def test_three_gray_channels_and_further_inputs() -> None:
    source = encoder_of(TINY)
    encoder = encoder_of(TINY, 5, seed=9)
    pretrained.load(encoder, found(source.state_dict()), gray_channels=3)
    image = images(3)
    with torch.inference_mode():
        assert_same_features(encoder(torch.cat([image, images(2)], dim=1)), source(image))


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module.", "network.network.encoder.", "_orig_mod.model.encoder."])
@pytest.mark.parametrize("inside", ["state_dict", "model"])
def test_wrappers_around_the_encoder_are_seen_through(tmp_path: Path, prefix: str, inside: str) -> None:
    source, encoder = encoder_of(TINY), encoder_of(TINY, seed=9)
    state = copied(source.state_dict(), prefix) | {f"{prefix}model.fc.bias": torch.zeros(9), "head.bias": torch.ones(1)}
    report = pretrained.load(encoder, from_file(write(tmp_path / "w.pth", {"epoch": 3, inside: state})), 3)
    assert report == pretrained.LoadReport(90, (), (f"{prefix}model.fc.bias", "head.bias"))
    with torch.inference_mode():
        assert_same_features(encoder(images(3)), source(images(3)))


def test_of_two_wrapped_networks_the_one_that_matches_better_is_taken() -> None:
    source, encoder = encoder_of(TINY), encoder_of(TINY, seed=9)
    part = dict(list(copied(encoder_of(TINY, seed=5).state_dict(), "module.").items())[:80])
    report = pretrained.load(encoder, found(part | copied(source.state_dict(), "network.")), 3)
    assert report == pretrained.LoadReport(90, (), tuple(part))
    assert torch.equal(encoder.state_dict()["model.conv1.0.weight"], source.state_dict()["model.conv1.0.weight"])


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])  # the latter's extractor writes stem_0 for stem.0
def test_files_of_timms_classifiers_fit_the_encoders(name: str) -> None:
    torch.manual_seed(0)
    classifier, encoder = timm.create_model(name).eval(), encoder_of(f"tu-{name}", seed=9)
    report = pretrained.load(encoder, found(classifier.state_dict()), 3)
    assert report.missing == ()
    assert all(key.startswith(("head.", "fc.")) for key in report.unexpected)
    with torch.inference_mode():
        theirs = classifier.forward_intermediates(images(3), intermediates_only=True)
        torch.testing.assert_close(encoder(images(3))[-1], theirs[-1], rtol=1e-5, atol=1e-5)


def test_a_partial_file_is_reported_and_the_rest_stays_random() -> None:
    source, encoder, untouched = encoder_of(TINY), encoder_of(TINY, seed=9), encoder_of(TINY, seed=9)
    missing = tuple(list(source.state_dict())[-9:])  # a tenth
    part = {key: value for key, value in source.state_dict().items() if key not in missing}
    report = pretrained.load(encoder, found(part | {"fc.weight": torch.zeros(2, 2)}), 3)
    assert report == pretrained.LoadReport(90 - len(missing), missing, ("fc.weight",))
    assert report.line() == (
        f"{90 - len(missing)} of 90 tensors loaded, {len(missing)} not found ({', '.join(missing[:8])} "
        f"and {len(missing) - 8} more), "
        "1 of the source not used (fc.weight)"
    )
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, (untouched if key in missing else source).state_dict()[key]), key


def test_less_than_nine_tenths_of_the_encoders_tensors_are_refused() -> None:
    encoder, untouched = encoder_of(TINY), encoder_of(TINY)
    source = list(encoder_of(TINY, seed=9).state_dict().items())
    with pytest.raises(InputError) as refused:
        pretrained.load(encoder, found(dict(source[:80]) | {"bert.bias": torch.ones(3)}), 3)
    assert str(refused.value) == (
        f"file test.pth: 80 of the encoder's 90 tensors found (no {source[80][0]} …) among its 81 ({source[0][0]} …); "
        "give weights of this very encoder"
    )
    for state, first in (
        ({"bert.bias": torch.ones(3)}, r"among its 1 \(bert.bias …\)"),
        ({}, r"among its 0 \(none …\)"),
    ):
        with pytest.raises(
            InputError, match=rf"0 of the encoder's 90 tensors found \(no model.conv1.0.weight …\) {first}"
        ):
            pretrained.load(encoder, found(state), 3)
    assert_equal_state(encoder, untouched)
    assert pretrained.load(encoder, found(dict(source[:81])), 3).loaded == 81


def test_wrong_shapes_are_refused_and_leave_the_encoder_alone() -> None:
    encoder, untouched = encoder_of(TINY), encoder_of(TINY)
    state, last = copied(encoder_of(TINY, seed=9).state_dict()), list(encoder.state_dict())[-2]
    with pytest.raises(InputError, match=rf"{last} has shape \(7,\), the encoder needs \(\d+,\); give weights of"):
        pretrained.load(encoder, found(state | {last: torch.zeros(7)}), 3)
    for wrong in (torch.zeros(7, 3, 3, 3), torch.zeros(3)):
        with pytest.raises(
            InputError, match=rf"conv1.0.weight has shape \({len(wrong)}, ?.*\), the encoder needs \(16, 3,"
        ):
            pretrained.load(encoder, found(state | {"model.conv1.0.weight": wrong}), 3)
    assert_equal_state(encoder, untouched)


def assert_equal_state(one: nn.Module, other: nn.Module) -> None:
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


# --- networks of our own --------------------------------------------------------------------------------------------

Inputs = tuple[int, tuple[str, ...]]  # channels that carry the image, extra channels
GRAY, COLOR, ROWS = (1, ()), (3, ()), ("row", "image_x_row")


def built(inputs: Inputs, source: Path | None = None) -> SaltNetwork:
    torch.manual_seed(0 if source is None else 9)
    model = SmpConfig(architecture="smp.FPN", encoder=TINY, in_channels=inputs[0], extra_channels=inputs[1])
    network = zoo.build(replace(model, weights="none" if source is None else f"file:{source}"))
    assert isinstance(network, SaltNetwork)
    return network.eval()


def trained(inputs: Inputs, path: Path) -> SaltNetwork:
    """A network and its file, with batch statistics and a normalization of its own, alike in all colors."""
    network = built(inputs)
    network.network.encoder = encoder_of(TINY, inputs[0] + len(inputs[1]))
    network.mean.fill_(0.3)
    network.std.fill_(0.7)
    torch.save({"state_dict": network.state_dict(), "weights_source": "random"}, path)
    return network


def features(network: SaltNetwork, gray: Tensor) -> list[Tensor]:
    """Of the network's encoder, as it is called when the network is shown gray images (N, 1, H, W)."""
    seen: list[list[Tensor]] = []
    handle = network.network.encoder.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.inference_mode():
        network(gray.expand(-1, len(network.mean), -1, -1))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GRAY, GRAY),
        (COLOR, COLOR),
        ((1, ROWS), (1, ROWS)),  # three channels, but not red, green and blue
        ((3, ROWS), (3, ROWS)),
        (COLOR, GRAY),
        (GRAY, (1, ROWS)),
        (COLOR, (1, ROWS)),
        (COLOR, (3, ROWS)),
    ],
)
def test_features_of_a_trained_network_come_back_from_its_file(tmp_path: Path, before: Inputs, after: Inputs) -> None:
    source = trained(before, tmp_path / "network.ckpt")
    network = built(after, tmp_path / "network.ckpt")
    assert network.mean.flatten().tolist() == pytest.approx([0.3] * after[0])
    assert network.std.flatten().tolist() == pytest.approx([0.7] * after[0])
    gray = images(1).sigmoid()
    for ours, theirs in zip(features(network, gray)[1:], features(source, gray)[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()))
    assert network.weights_source.startswith("file network.ckpt (sha256 ")
    assert "90 of 90 tensors loaded" in network.weights_source


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GRAY, COLOR),
        ((1, ROWS), COLOR),  # equal shapes
        ((1, ROWS), GRAY),
        ((1, ("row",)), (1, ROWS)),
        ((3, ("row",)), COLOR),
        ((3, ("row",)), GRAY),
        ((3, ("row",)), (3, ROWS)),
    ],
)
def test_input_channels_with_another_meaning_are_refused(tmp_path: Path, before: Inputs, after: Inputs) -> None:
    trained(before, tmp_path / "network.ckpt")
    with pytest.raises(InputError) as refused:
        built(after, tmp_path / "network.ckpt")
    assert str(refused.value).partition("): ")[2] == (
        f"its first filters read {before[0] + len(before[1])} channels, {before[0]} of them the image, the encoder's "
        f"{after[0] + len(after[1])} and {after[0]}; set model.in_channels and model.extra_channels as they were, or "
        "give weights trained on three channels alone"
    )


@pytest.mark.parametrize(("width", "gray_channels", "fits"), [(1, 1, True), (2, 1, True), (4, 3, True), (1, 3, False)])
def test_an_encoder_alone_does_not_say_which_channels_carry_the_image(
    width: int, gray_channels: int, fits: bool
) -> None:
    source, encoder = encoder_of(TINY, width), encoder_of(TINY, max(width, gray_channels), seed=9)
    if fits:
        pretrained.load(encoder, found(source.state_dict()), gray_channels)
        assert_equal_state(encoder, source)
    else:
        with pytest.raises(InputError, match="read 1 channels, 1 of them the image, the encoder's 3 and 3; set"):
            pretrained.load(encoder, found(source.state_dict()), gray_channels)
