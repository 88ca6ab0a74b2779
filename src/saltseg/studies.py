"""The case study's questions as variants of its U-Net: what scripts/study.py trains and docs/case_study.md answers.

All variants of a budget share folds, seeds, batches and the number of images shown. Their length is fixed, so that no
epoch is chosen on the images that report the score. One thing changes at a time. `PLATEAU` alone is trained the case
study's way, for its curves: as long as the validation loss falls.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from saltseg.config import Config, TrainConfig, differences, override

BASE, PLATEAU = "base", "plateau"
BASELINE = Config(
    name="study",
    train=TrainConfig(schedule="cosine", keep="last", batch_size=16),
)


@dataclass(frozen=True)
class Budget:
    """How much a study may train: settings, folds (None: all) and seeds; ``without``: variants it has no images for."""

    settings: tuple[str, ...]
    folds: tuple[int, ...] | None
    seeds: tuple[int, ...]
    without: tuple[str, ...] = ()


BUDGETS: Mapping[str, Budget] = {
    # About five minutes per variant, fold and seed on two cores: an eighth of the full work per image and epoch.
    "cpu": Budget(
        ("data.size=64", "folds.train_images=800", "train.epochs=12", "train.validate_every=2"), (0, 1), (0,),
    ),
    "gpu": Budget(("folds.train_images=2400", "train.epochs=50"), None, (0, 1), without=("images_double",)),
    # For tests and for a look at the pages.
    "tiny": Budget(
        ("data.size=32", "model.filters=2", "folds.count=3", "folds.train_images=24", "train.epochs=4",
         "train.validate_every=2"), (0, 1), (0,),
    ),
}  # fmt: skip

# Full-resolution networks of eleven layers. 23 filters cost the U-Net's operations, 39 hold the parameters of a U-Net
# of four filters (one of sixteen would need 155 filters and 45 times the operations).
DILATED = "model.dilations=[1, 1, 2, 4, 8, 16, 8, 4, 2, 1, 1]"

VARIANTS: Mapping[str, tuple[str, ...]] = {
    BASE: (),
    "strided_conv": ("model.down=strided_conv",),
    "average_pool": ("model.down=average_pool",),
    "add": ("model.skip=add",),
    "max": ("model.skip=max",),
    "min": ("model.skip=min",),
    "no_skips": ("model.skip=none",),
    "fcn_same_operations": ("model.architecture=fcn", "model.filters=23"),
    "fcn_same_operations_dilated": ("model.architecture=fcn", "model.filters=23", DILATED),
    "narrow": ("model.filters=4",),
    "fcn_same_parameters": ("model.architecture=fcn", "model.filters=39"),
    "fcn_same_parameters_dilated": ("model.architecture=fcn", "model.filters=39", DILATED),
    "no_dropout": ("model.dropout=0",),
    "more_dropout": ("model.dropout=0.2",),
    "augmented": ("data.augment=light",),
    "flip_tta": ("predict.views=[identity, hflip]",),
    "symmetric_lovasz": ("train.loss=symmetric_lovasz",),
    "images_eighth": (),
    "images_quarter": (),
    "images_half": (),
    "images_double": (),
    PLATEAU: ("train.schedule=plateau", "train.keep=best", "train.epochs=50", "train.validate_every=1"),
}
SHARES = {"images_eighth": (1, 8), "images_quarter": (1, 4), "images_half": (1, 2), "images_double": (2, 1)}

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "Does a learnt down-sampling beat max pooling?": (BASE, "strided_conv", "average_pool"),
    "What are the skip connections for?": (BASE, "add", "max", "min", "no_skips"),
    "Is the encoder-decoder necessary?": (
        BASE, "fcn_same_operations", "fcn_same_operations_dilated", "narrow", "fcn_same_parameters",
        "fcn_same_parameters_dilated",
    ),
    "What shrinks the gap between training and validation?": (BASE, "no_dropout", "more_dropout", "augmented"),
    "What do more labelled images give?": (
        "images_eighth", "images_quarter", "images_half", BASE, "images_double",
    ),
    "What improves precision and recall together?": (BASE, "flip_tta", "symmetric_lovasz"),
}  # fmt: skip


def settings(variant: str, budget: str, seed: int) -> Config:
    """The configuration of one training.

    Fewer or more images are shown as often in all as the baseline's: epochs change, and steps where a batch is partial.
    """
    base = override(BASELINE, BUDGETS[budget].settings)
    above, below = SHARES.get(variant, (1, 1))
    amount = (
        f"folds.train_images={base.folds.train_images * above // below}",
        f"train.epochs={base.train.epochs * below // above}",
    )
    return override(base, [*VARIANTS[variant], *(amount if variant in SHARES else ()), f"train.seed={seed}"])


def changes(variant: str, budget: str) -> list[str]:
    """What a variant changes in the baseline, for example ``model.skip=add``."""
    return differences(override(BASELINE, BUDGETS[budget].settings), settings(variant, budget, 0))
