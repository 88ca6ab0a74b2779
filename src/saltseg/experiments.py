"""The named experiments. Each is a few lines and a why; ``--set section.key=value`` changes one for a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from saltseg.config import Config, DataConfig, ModelConfig, PredictConfig, TrainConfig, load, override, unknown
from saltseg.errors import InputError

# The case study to the letter: tiles resized to 128x128, no augmentation, threshold 0.5, best epoch by validation loss.
UNET_SPEC = Config(name="unet_spec")

# The same network with what everybody adds. Reflect padding keeps pixels as they are (resize and pad tie in the
# literature), and 101 -> 112 costs a quarter less than 101 -> 128. Only left-right flips: gravity has a direction.
UNET = Config(
    name="unet",
    data=DataConfig(fit="pad", size=112, augment="light"),
    predict=PredictConfig(views=("identity", "hflip"), decision="tuned"),
)

# What the baselines of segmentation-models-pytorch share. A length fixed beforehand and an average of the weights: no
# epoch is picked on the images that report the score. Three grey channels keep any encoder's own normalisation.
BASELINE = Config(
    name="baseline",
    model=ModelConfig(architecture="smp.Unet", weights="imagenet", in_channels=3),
    data=DataConfig(fit="pad", size=128, augment="light"),
    train=TrainConfig(
        epochs=60,
        optimizer="adamw",
        learning_rate=5e-4,
        weight_decay=1e-2,
        schedule="cosine",
        warmup=2,
        clip=1.0,
        ema=0.99,
        keep="last",
    ),
    predict=PredictConfig(views=("identity", "hflip"), decision="tuned"),
)


def baseline(name: str, train: Mapping[str, Any] | None = None, **model: Any) -> Config:
    """`BASELINE` with another network, and perhaps another training."""
    return replace(
        BASELINE, name=name, model=replace(BASELINE.model, **model), train=replace(BASELINE.train, **(train or {}))
    )


# ImageNet weights without a model hub, and light enough for two cores: a narrow decoder makes it half as fast again.
# One grey channel is exact here, since these weights expect the same mean for all colours.
LITE0 = baseline(
    "unet_efficientnet_lite0",
    encoder="tu-tf_efficientnet_lite0",
    weights="offline",
    in_channels=1,
    decoder_channels=(128, 64, 48, 32, 16),
)


# What the levers say (RESULTS.md): the symmetric Lovász loss from the first epoch on. Fourteen epochs in five folds are
# about two hours on two cores with nothing else to do.
RECIPE_LITE0 = replace(
    LITE0,
    name="recipe_lite0",
    train=replace(LITE0.train, epochs=14, batch_size=16, loss="symmetric_lovasz"),
)

# The cheap levers on top that gained most: the network knows how far down the tile it looks, at twice the rate.
RECIPE_LITE0_DEPTH = replace(
    RECIPE_LITE0,
    name="recipe_lite0_depth",
    model=replace(RECIPE_LITE0.model, extra_channels=("row", "image_x_row")),
    train=replace(RECIPE_LITE0.train, learning_rate=1e-3, validate_every=7),
)

# Tiles at the size that the network learns from, without a border to leave alone: over five folds a tie with padding.
RECIPE_LITE0_RESIZED = replace(
    RECIPE_LITE0_DEPTH, name="recipe_lite0_resized", data=replace(RECIPE_LITE0_DEPTH.data, fit="resize")
)

EXPERIMENTS: dict[str, Config] = {
    config.name: config
    for config in (
        UNET_SPEC,
        UNET,
        # A few minutes on two cores: the same network at half the resolution costs a quarter per image.
        replace(
            UNET,
            name="demo",
            data=DataConfig(fit="resize", size=64, augment="light"),
            folds=replace(UNET.folds, count=3),
            train=TrainConfig(epochs=12, batch_size=16, learning_rate=2e-3, plateau_patience=2, plateau_factor=0.3),
        ),
        baseline("unet_resnet34", encoder="resnet34"),
        baseline("unet_resnet34_scse", encoder="resnet34", attention="scse"),
        baseline("unetplusplus_resnet34", architecture="smp.UnetPlusPlus", encoder="resnet34"),
        baseline("fpn_resnet34", architecture="smp.FPN", encoder="resnet34"),
        baseline("manet_resnet34", architecture="smp.MAnet", encoder="resnet34"),
        baseline("deeplabv3plus_resnet34", architecture="smp.DeepLabV3Plus", encoder="resnet34"),
        baseline("segformer_mit_b2", architecture="smp.Segformer", encoder="mit_b2"),
        baseline("upernet_convnext_tiny", architecture="smp.UPerNet", encoder="tu-convnext_tiny"),
        LITE0,
        RECIPE_LITE0,
        RECIPE_LITE0_DEPTH,
        RECIPE_LITE0_RESIZED,
        # Padded tiles and a larger encoder, a quarter slower, so for fewer epochs.
        replace(
            RECIPE_LITE0_DEPTH,
            name="recipe_lite2_depth",
            model=replace(RECIPE_LITE0_DEPTH.model, encoder="tu-tf_efficientnet_lite2"),
            train=replace(RECIPE_LITE0_DEPTH.train, epochs=12, validate_every=6),
        ),
        # The same at full length with a larger encoder and smp's own decoder, for a GPU that reaches no model hub.
        replace(
            LITE0,
            name="recipe_lite2",
            model=replace(LITE0.model, encoder="tu-tf_efficientnet_lite2", decoder_channels=()),
            train=replace(LITE0.train, loss="symmetric_lovasz"),
        ),
        # The same loss with what the field reports to help a ResNet34, for a GPU and a model hub.
        baseline(
            "recipe_resnet34",
            {"loss": "symmetric_lovasz"},
            encoder="resnet34",
            stem="unpooled",
            attention="scse",
            hypercolumn=True,
        ),
    )
}


COMBINED = ("train.loss=symmetric_lovasz", "model.extra_channels=[row, image_x_row]", "train.learning_rate=0.001")
PROGRESSIVE = ("train.epochs={longer}", "train.validate_every={longer}", "train.half_size_until={half_size}")
# What scripts/levers.py turns on one at a time against the baseline, and what two cores can pay for. The held-out part
# is large because differences are small: with 1,800 images a paired difference of 0.01 shows.
LEVERS: dict[str, tuple[str, ...]] = {
    "base": (),
    "random": ("model.weights=none",),
    "unpooled": ("model.stem=unpooled",),
    "stride1": ("model.stem=stride1",),
    "upsampled": ("model.stem=upsampled",),
    "hypercolumn": ("model.hypercolumn=true",),
    "scse": ("model.attention=scse",),
    "deep_supervision": ("model.deep_supervision=true",),
    "empty_head": ("model.empty_head=true",),
    "depth_channels": ("model.extra_channels=[row, image_x_row]",),
    "wide_decoder": ("model.decoder_channels=[256, 128, 64, 32, 16]",),
    "lite2": ("model.encoder=tu-tf_efficientnet_lite2",),
    "focal": ("train.loss=focal",),
    "dice": ("train.loss=bce + dice",),
    "lovasz": ("train.late_from={second_half}", "train.late_loss=lovasz"),
    "lovasz_elu": ("train.late_from={second_half}", "train.late_loss=lovasz_elu"),
    "symmetric_lovasz": ("train.late_from={second_half}", "train.late_loss=symmetric_lovasz"),
    "lovasz_elu_throughout": ("train.loss=lovasz_elu",),
    "symmetric_throughout": ("train.loss=symmetric_lovasz",),
    "no_clip": ("train.clip=0",),
    "symmetric_unclipped": ("train.loss=symmetric_lovasz", "train.clip=0"),
    "double_rate": ("train.learning_rate=0.001",),
    # The cheap ones that gained most one at a time, under the whole decision rule.
    "combined": COMBINED,
    # As many operations as the baseline and more epochs: at half the size half again as many as the baseline has, and
    # the rest at full size.
    "progressive": PROGRESSIVE,
    "combined_progressive": (*COMBINED, *PROGRESSIVE),
    "tile_loss": ("train.loss_region=tile",),
    "resize": ("data.fit=resize",),
    "resize_192": ("data.fit=resize", "data.size=192"),
    "no_augmentation": ("data.augment=none",),
    "no_ema": ("train.ema=0",),
    "swa": ("train.ema=0", "train.validate_every=1", "train.swa_from={second_half}"),
    "one_cycle": ("train.schedule=one_cycle", "train.warmup=0"),
    "snapshots": ("train.ema=0", "train.warmup=0", "train.cycles=2", "train.validate_every=2", "train.keep=snapshots"),
    "sgd": ("train.optimizer=sgd", "train.learning_rate=0.05", "train.weight_decay=0.0001"),
}
BUDGETS: dict[str, tuple[str, ...]] = {
    "cpu": (
        "folds.scheme=holdout",
        "folds.holdout=0.6",
        "train.epochs=8",
        "train.batch_size=16",
        "train.warmup=1",
        "train.validate_every=8",
        "predict.views=identity",
    ),
    "gpu": (),  # the baseline's own length in all folds
}


def with_lever(experiment: Config, budget: str, lever: str) -> list[str]:
    """The assignments that put ``experiment`` on a budget and change one lever; for `saltseg.config.override`."""
    epochs = override(experiment, BUDGETS[budget]).train.epochs
    half_size = epochs * 3 // 2  # epochs, each of a quarter of the operations
    lengths = {"second_half": epochs // 2 + 1, "half_size": half_size, "longer": half_size + epochs - half_size // 4}
    return [*BUDGETS[budget], *(setting.format(**lengths) for setting in LEVERS[lever])]


def named(name: str) -> Config:
    """The experiment called ``name``, or the configuration in the YAML file at that path.

    Raises InputError naming the nearest experiments.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    if name.endswith((".yaml", ".yml")):
        try:
            return load(Path(name))
        except OSError:
            raise InputError(
                f"no configuration to read at {name}; a run keeps its own in output/runs/RUN/config.yaml"
            ) from None
    raise InputError(unknown("experiment", name, EXPERIMENTS))
