"""The questions of the case study as variants of its U-Net.

All variants of a budget share folds, seeds, batches and the number of images shown, and one thing changes at a time.
Their length is fixed, so that no epoch is selected on the images that report the score. `PLATEAU` alone is trained as
the case study says, as long as the validation loss falls, for its curves.
"""

from typing import Any

from saltseg.config import Config, CosineSchedule, TrainConfig
from saltseg.studies.sweep import Budget, Changes, Overrides, Study, Variant

BASE, PLATEAU, NARROW = "base", "plateau", "narrow"

# Full-resolution networks of eleven layers. 23 filters cost the U-Net's operations, 39 hold the parameters of a U-Net
# of four filters (one of sixteen would need 155 filters and 45 times the operations).
DILATED = {"model.dilations": [1, 1, 2, 4, 8, 16, 8, 4, 2, 1, 1]}


def _fcn(filters: int, more: Changes) -> Changes:
    return {"model.architecture": "fcn", "model.filters": filters, **more}


def _share(above: int, below: int) -> Overrides:
    """Fewer or more images, shown as often in all as the base's: epochs change, and steps where a batch is partial."""
    return lambda base: {
        "folds.train_images": base.folds.train_images * above // below,
        "train.epochs": base.train.epochs * below // above,
    }


OVERRIDES: dict[str, Overrides] = {
    BASE: {},
    "strided_conv": {"model.down": "strided_conv"},
    "average_pool": {"model.down": "average_pool"},
    "add": {"model.skip": "add"},
    "max": {"model.skip": "max"},
    "min": {"model.skip": "min"},
    "no_skips": {"model.skip": "none"},
    "fcn_same_operations": _fcn(23, {}),
    "fcn_same_operations_dilated": _fcn(23, DILATED),
    NARROW: {"model.filters": 4},
    "fcn_same_parameters": _fcn(39, {}),
    "fcn_same_parameters_dilated": _fcn(39, DILATED),
    "no_dropout": {"model.dropout": 0},
    "more_dropout": {"model.dropout": 0.2},
    "augmented": {"data.augment": "light"},
    "flip_tta": {"predict.tta": ["identity", "hflip"]},
    "symmetric_lovasz": {"train.loss": "symmetric_lovasz"},
    "images_eighth": _share(1, 8),
    "images_quarter": _share(1, 4),
    "images_half": _share(1, 2),
    "images_double": _share(2, 1),
    PLATEAU: {
        "train.schedule": "plateau",
        "train.checkpoint": "best",
        "train.epochs": 50,
        "train.val_every_n_epochs": 1,
    },
}
VARIANTS = {
    name: Variant(reference=NARROW if "same_parameters" in name else "", overrides=overrides)
    for name, overrides in OVERRIDES.items()
}

POOLING = (BASE, "strided_conv", "average_pool")
SKIPS = (BASE, "add", "max", "min", "no_skips")
NECESSARY = (
    *(BASE, "fcn_same_operations", "fcn_same_operations_dilated"),
    *(NARROW, "fcn_same_parameters", "fcn_same_parameters_dilated"),
)
GAP = (BASE, "no_dropout", "more_dropout", "augmented")
IMAGES = ("images_eighth", "images_quarter", "images_half", BASE, "images_double")
LARGER = {"cpu": "cpu_full"}  # budgets, and those whose records answer what they have been trained for in their place
SHOWN = (BASE, "images_eighth")  # whose predicted tiles are kept, of simulated data
IMPROVES = (BASE, "flip_tta", "symmetric_lovasz")
QUESTIONS = {
    "Does a learned down-sampling beat max pooling?": POOLING,
    "What are the skip connections for?": SKIPS,
    "Is the encoder-decoder necessary?": NECESSARY,
    "What shrinks the gap between training and validation?": GAP,
    "What do more labeled images give?": IMAGES,
    "What improves precision and recall together?": IMPROVES,
}


def _details(*arguments: Any) -> dict[str, Any]:
    from saltseg.studies.case_study import measure

    return measure.details(*arguments)


STUDY = Study(
    "case_study",
    Config(name="case_study", train=TrainConfig(schedule=CosineSchedule(), checkpoint="last", batch_size=16)),
    VARIANTS,
    {
        # About five minutes per variant, fold and seed on two cores: an eighth of the full work per image and epoch.
        "cpu": Budget(
            {
                "data.size": 64,
                "folds.train_images": 800,
                "train.epochs": 12,
                "train.val_every_n_epochs": 2,
                "train.precision": "32",
            },
            folds=(0, 1),
        ),
        # The case study's own size and all images of a fold: 40 to 55 minutes for base, on two cores with both folds
        # side by side.
        "cpu_full": Budget(
            {
                "folds.train_images": 2400,
                "train.epochs": 16,
                "train.val_every_n_epochs": 2,
                "train.precision": "32",
            },
            folds=(0, 1),
            without=("images_double",),
        ),
        "gpu": Budget({"folds.train_images": 2400, "train.epochs": 50}, seeds=(0, 1), without=("images_double",)),
        # Trains for seconds, for tests.
        "tiny": Budget(
            {
                "data.size": 32,
                "model.filters": 2,
                "folds.count": 3,
                "folds.train_images": 24,
                "train.epochs": 4,
                "train.precision": "32",
                "train.val_every_n_epochs": 2,
            },
            folds=(0, 1),
        ),
    },
    reference=BASE,
    details=_details,
)
