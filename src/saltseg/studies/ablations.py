"""Ablations: what each setting of a recipe gains, changed one at a time."""

from saltseg.config import Config
from saltseg.studies.sweep import Budget, Changes, Overrides, Study, Variant


def _half(base: Config) -> int:
    """The first epoch of the second half of a training."""
    return base.train.epochs // 2 + 1


def _second_loss(loss: str) -> Overrides:
    return lambda base: {"train.second_loss": loss, "train.second_loss_start_epoch": _half(base)}


def _progressive(base: Config) -> Changes:
    """As many operations, more epochs: half again as many as the base has at half the size, the rest at full size."""
    low = base.train.epochs * 3 // 2  # epochs, each of a quarter of the operations
    epochs = low + base.train.epochs - low // 4
    return {"train.epochs": epochs, "train.val_every_n_epochs": epochs, "train.low_resolution_epochs": low}


DEPTH = {"model.extra_channels": ["row", "image_x_row"]}
# The cheap ones that gained most one at a time, with all post-processing steps.
COMBINED = {"train.loss": "symmetric_lovasz", **DEPTH, "train.learning_rate": 0.001}
SNAPSHOTS = {
    "train.ema_decay": 0,
    "train.schedule.warmup_epochs": 0,
    "train.schedule.num_cycles": 2,
    "train.val_every_n_epochs": 2,
    "train.checkpoint": "snapshots",
}

OVERRIDES: dict[str, Overrides] = {
    "base": {},
    "random": {"model.weights": "none"},
    "no_maxpool": {"model.stem": "no_maxpool"},
    "stride1": {"model.stem": "stride1"},
    "upsample_input": {"model.stem": "upsample_input"},
    "hypercolumn": {"model.hypercolumn": True},
    "scse": {"model.attention": "scse"},
    "deep_supervision": {"model.deep_supervision": True},
    "presence_head": {"model.presence_head": True},
    "depth_channels": DEPTH,
    "wide_decoder": {"model.decoder_channels": [256, 128, 64, 32, 16]},
    "lite2": {"model.encoder": "tu-tf_efficientnet_lite2"},
    "focal": {"train.loss": "focal"},
    "dice": {"train.loss": "bce + dice"},
    "lovasz": _second_loss("lovasz"),
    "lovasz_elu": _second_loss("lovasz_elu"),
    "symmetric_lovasz": _second_loss("symmetric_lovasz"),
    "lovasz_elu_throughout": {"train.loss": "lovasz_elu"},
    "symmetric_throughout": {"train.loss": "symmetric_lovasz"},
    "no_clip": {"train.grad_clip_norm": 0},
    "symmetric_unclipped": {"train.loss": "symmetric_lovasz", "train.grad_clip_norm": 0},
    "double_rate": {"train.learning_rate": 0.001},
    "combined": COMBINED,
    "progressive": _progressive,
    "combined_progressive": lambda base: {**COMBINED, **_progressive(base)},
    "tile_loss": {"train.loss_region": "tile"},
    "resize": {"data.resize_mode": "resize"},
    "resize_192": {"data.resize_mode": "resize", "data.size": 192},
    "no_augmentation": {"data.augment": "none"},
    "no_ema": {"train.ema_decay": 0},
    "swa": lambda base: {"train.ema_decay": 0, "train.val_every_n_epochs": 1, "train.swa_start_epoch": _half(base)},
    "one_cycle": {"train.schedule": "one_cycle"},
    "snapshots": SNAPSHOTS,
    "sgd": {"train.optimizer": "sgd", "train.learning_rate": 0.05, "train.weight_decay": 0.0001},
}

# The validation part of the cpu budget is large because differences are small: with 1,800 images a paired difference of
# 0.01 shows. A training of it takes about six minutes on two cores, more with a heavier network.
STUDY = Study(
    name="ablations",
    base="unet_efficientnet_lite0",
    reference="base",
    variants={name: Variant(overrides=overrides) for name, overrides in OVERRIDES.items()},
    budgets={
        "cpu": Budget(
            {
                "folds.scheme": "holdout",
                "folds.holdout": 0.6,
                "train.epochs": 8,
                "train.batch_size": 16,
                "train.schedule.warmup_epochs": 1,
                "train.val_every_n_epochs": 8,
                "train.precision": "32",
                "predict.tta": ["identity"],
            }
        ),
        "gpu": Budget(),  # the base's own length in all folds
    },
)
