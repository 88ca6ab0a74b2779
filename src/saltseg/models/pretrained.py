"""Pretrained weights for an encoder: choosing a source, and copying the tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from saltseg.config import weights_file
from saltseg.errors import InputError
from saltseg.models.pretrained_sources import Pretrained, from_file, from_hub, from_package, wrapper

MIN_SHARE = 0.9  # of an encoder's tensors that a source must have
NAMED = 8  # tensors in a message


@dataclass(frozen=True)
class LoadReport:
    """What `load` did.

    Attributes:
        loaded: number of tensors copied.
        missing: names of the encoder's tensors that the source lacks; they stay random.
        unexpected: names of the source's tensors that the encoder lacks, normally a classifier's.
    """

    loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def line(self) -> str:
        """One readable line."""
        line = f"{self.loaded} of {self.loaded + len(self.missing)} tensors loaded"
        if self.missing:
            line += f", {len(self.missing)} not found ({_some(self.missing)})"
        if self.unexpected:
            line += f", {len(self.unexpected)} of the source not used ({_some(self.unexpected)})"
        return line


def _some(names: tuple[str, ...]) -> str:
    """All names of a short list, else the first ones and how many more."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def pretrained(weights: str, encoder: str) -> Pretrained | None:
    """The weights that ``model.weights`` names for an encoder of smp; None for "none".

    Raises:
        InputError: they cannot be had or read; the message names the other choices.
    """
    if weights == "none":
        return None
    if encoder.startswith("timm-tf_efficientnet_lite"):
        raise InputError(
            f"model.encoder {encoder} loads pretrained weights and computes wrong features with them (its padding and "
            f"batch norm are not those of its training); use {encoder.replace('timm-', 'tu-', 1)}"
        )
    if weights == "imagenet":
        return from_hub(encoder)
    if weights == "offline":
        return from_package(encoder)
    if (path := weights_file(weights)) is not None:
        return from_file(path, encoder)
    raise InputError(f"unknown model.weights {weights!r}; choose none, imagenet (model hub), offline or file:PATH")


def load(encoder: nn.Module, weights: Pretrained, gray_channels: int) -> LoadReport:
    """Copy pretrained tensors into an encoder of smp, in place.

    From three channels to one the filters for red, green and blue are summed: the same features as from the gray image
    three times, where all three are normalized alike. The filters of extra input channels are zero, unless the weights
    have some.

    Args:
        encoder: of smp or timm.
        weights: its tensors.
        gray_channels: how many of the encoder's input channels carry the image, 1 or 3; they come first, and any
            further ones are extra inputs.

    Raises:
        InputError: the source has less than `MIN_SHARE` of the encoder's tensors, a shape is wrong, or the input
            channels mean something else. Then nothing is copied.
    """
    own = encoder.state_dict()
    names = _names_in_source(own, weights.state)
    missing = tuple(key for key in own if key not in names)
    if len(names) < MIN_SHARE * len(own):
        raise InputError(
            f"{weights.source}: {len(names)} of the encoder's {len(own)} tensors found (no {missing[0]} …) among its "
            f"{len(weights.state)} ({next(iter(weights.state), 'none')} …); give weights of this very encoder"
        )
    tensors = {key: weights.state[name] for key, name in names.items()}
    for key in _image_filters(encoder) & tensors.keys():
        tensors[key] = _for_channels(tensors[key], weights, gray_channels, own[key].shape[1])
    for key, tensor in tensors.items():
        if tensor.shape != own[key].shape:
            raise InputError(
                f"{weights.source}: {names[key]} has shape {tuple(tensor.shape)}, the encoder needs "
                f"{tuple(own[key].shape)}; give weights of this very encoder"
            )
    for key, tensor in tensors.items():
        own[key].copy_(tensor)  # state_dict() returns the encoder's own memory
    used = set(names.values())
    return LoadReport(len(tensors), missing, tuple(name for name in weights.state if name not in used))


def _names_in_source(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, str]:
    """The encoder's names → the source's, for the tensors that both have.

    Wrappers such as "network.encoder." are removed on both sides; of several in one file, the one with the most
    matching names is used. timm's feature extractors write "stem_0" where its classifiers, whose files the hub has,
    write "stem.0", so the two are treated as the same.
    """

    def plain(name: str, prefix: str) -> str:
        return name.removeprefix(prefix).replace(".", "_")

    ours = {plain(key, wrapper(key)): key for key in own}
    assert len(ours) == len(own), "two tensors of the encoder have the same plain name"
    matches = []
    for prefix in dict.fromkeys(map(wrapper, state)):
        theirs = {plain(name, prefix): name for name in state if name.startswith(prefix)}
        matches.append({key: theirs[name] for name, key in ours.items() if name in theirs})
    return max(matches, key=len, default={})


def _image_filters(encoder: nn.Module) -> set[str]:
    """Names of the filters that read the image; some encoders (MobileOne, RepVGG) have parallel ones."""
    convolutions = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d)}
    channels = next(iter(convolutions.values())).in_channels
    return {f"{name}.weight" for name, m in convolutions.items() if m.in_channels == channels and m.groups == 1}


def _for_channels(filters: Tensor, weights: Pretrained, gray_channels: int, channels: int) -> Tensor:
    """Filters (O, C, H, W) of ``weights`` → (O, channels, H, W), see `load`; InputError if that is impossible."""
    assert gray_channels in (1, 3)
    assert gray_channels <= channels
    if filters.ndim != 4:
        return filters  # the caller rejects the shape
    width = filters.shape[1]
    # Where the weights do not state it: of one or three channels all carry the image, of others as many as here.
    carrying = weights.image_channels or (width if width in (1, 3) else gray_channels)
    if width == carrying == 3 and gray_channels == 1:
        filters, width, carrying = filters.sum(dim=1, keepdim=True), 1, 1
    if carrying != gray_channels or width not in (carrying, channels):
        raise InputError(
            f"{weights.source}: its first filters read {width} channels, {carrying} of them the image, the encoder's "
            f"{channels} and {gray_channels}; set model.in_channels and model.extra_channels as they were, or give "
            "weights trained on three channels alone"
        )
    return functional.pad(filters, (0, 0, 0, 0, 0, channels - width))
