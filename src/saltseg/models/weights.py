"""Pretrained weights for an encoder: which there are, and how they get into it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from saltseg.config import file_behind
from saltseg.errors import InputError
from saltseg.models.weight_sources import Pretrained, from_file, from_hub, from_package, wrapper


@dataclass(frozen=True)
class Loaded:
    """What `load` did: how many tensors it copied, the encoder's names without one, the source's names not used."""

    loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def line(self) -> str:
        """One readable line; a classifier's tensors among the unused ones are normal."""
        line = f"{self.loaded} of {self.loaded + len(self.missing)} tensors loaded"
        if self.missing:
            line += f", {len(self.missing)} not found ({_some(self.missing)})"
        if self.unexpected:
            line += f", {len(self.unexpected)} of the source not used ({_some(self.unexpected)})"
        return line


def _some(names: tuple[str, ...], most: int = 8) -> str:
    """All names of a short list, else the first ones."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def pretrained(weights: str, encoder: str) -> Pretrained | None:
    """The weights that ``model.weights`` names for an encoder of segmentation-models-pytorch; None for "none".

    Raises InputError when they cannot be had or read, with the choices that are left.
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
    if (path := file_behind(weights)) is not None:
        return from_file(path, encoder)
    raise InputError(f"unknown model.weights {weights!r}; choose none, imagenet (model hub), offline or file:PATH")


def load(encoder: nn.Module, found: Pretrained, grey_channels: int) -> Loaded:
    """Copy pretrained tensors into an encoder of segmentation-models-pytorch, in place.

    grey_channels: how many of the encoder's input channels carry the image, 1 or 3; they come first, and any further
    ones are extra inputs. Their filters start at zero where the weights know of no extra inputs. From three channels
    to one the filters for red, green and blue are summed: the same features as from the grey image three times, where
    all three are normalised alike.

    Raises InputError when fewer than half of the encoder's tensors are found, a shape is wrong or the input channels
    mean something else; then nothing is copied.
    """
    own = encoder.state_dict()
    names = _names_in_source(own, found.state)
    missing = tuple(key for key in own if key not in names)
    if len(names) < len(missing):
        raise InputError(
            f"{found.source}: {len(names)} of the encoder's {len(own)} tensors found (no {missing[0]} …) among its "
            f"{len(found.state)} ({next(iter(found.state), 'none')} …); give weights of this very encoder"
        )
    fitted = {key: found.state[name] for key, name in names.items()}
    for key in _image_filters(encoder) & fitted.keys():
        fitted[key] = _for_channels(fitted[key], found, grey_channels, own[key].shape[1])
    for key, tensor in fitted.items():
        if tensor.shape != own[key].shape:
            raise InputError(
                f"{found.source}: {names[key]} has shape {tuple(tensor.shape)}, the encoder needs "
                f"{tuple(own[key].shape)}; give weights of this very encoder"
            )
    for key, tensor in fitted.items():
        own[key].copy_(tensor)  # state_dict() hands out the encoder's own memory
    used = set(names.values())
    return Loaded(len(fitted), missing, tuple(name for name in found.state if name not in used))


def _names_in_source(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, str]:
    """The encoder's names → the source's, for the tensors that both have.

    Wrappers such as "network.encoder." are left out on both sides; of several in one file, the one under which most
    names match is taken. timm's feature extractors write "stem_0" where its classifiers, whose files the hub has,
    write "stem.0", so the two count as the same.
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
    """Names of the filters that read the input image; some encoders (MobileOne, RepVGG) have parallel ones."""
    convolutions = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d)}
    channels = next(iter(convolutions.values())).in_channels
    return {f"{name}.weight" for name, m in convolutions.items() if m.in_channels == channels and m.groups == 1}


def _for_channels(filters: Tensor, found: Pretrained, grey_channels: int, channels: int) -> Tensor:
    """Filters (O, C, H, W) of ``found`` → (O, channels, H, W), see `load`; raises InputError where that cannot be."""
    assert grey_channels in (1, 3)
    assert grey_channels <= channels
    if filters.ndim != 4:
        return filters  # the caller refuses the shape
    width = filters.shape[1]
    # Weights that do not say how many carry the image: one or three do, of any other number as many as here.
    carrying = found.image_channels or (width if width in (1, 3) else grey_channels)
    if width == carrying == 3 and grey_channels == 1:
        filters, width, carrying = filters.sum(dim=1, keepdim=True), 1, 1
    if carrying != grey_channels or width not in (carrying, channels):
        raise InputError(
            f"{found.source}: its first filters read {width} channels, {carrying} of them the image, the encoder's "
            f"{channels} and {grey_channels}; set model.in_channels and model.extra_channels as they were, or give "
            "weights trained on three channels alone"
        )
    return functional.pad(filters, (0, 0, 0, 0, 0, channels - width))
