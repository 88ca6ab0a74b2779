"""Benchmark: from the handwritten U-Net to a blend of self-trained networks, what each stage gains over the one before.

All trainings of a budget share folds and seed, and have a fixed length, so that no epoch is selected on the images that
report the score. Self-training is measured over a training with as many steps: what further images give, and not what
further steps give. Pretraining comes on top of the steps of the recipe.
"""

from typing import Any

from saltseg.studies.sweep import Budget, Study, Variant

VARIANTS = {
    "baseline": Variant("the handwritten U-Net (`unet`)", experiment="unet", group="baseline"),
    "recipe": Variant("the recipe", "baseline"),
    "pretrained": Variant(
        "the recipe after masked-image pretraining on unlabeled tiles", "recipe", pretraining="masked"
    ),
    "longer": Variant(
        "the recipe for twice the epochs, so with a student's number of steps",
        "recipe",
        lambda base: {"train.epochs": 2 * base.train.epochs},
    ),
    "student1": Variant("the recipe trained anew, half of its tiles labeled by `longer`", "longer", teacher="longer"),
    "student2": Variant(
        "the recipe trained anew, half of its tiles labeled by `student1`", "student1", teacher="student1"
    ),
    "blend": Variant("mean of the three above", "longer", members=("longer", "student1", "student2")),
}

FIXED_LENGTH = {"train.schedule": "cosine", "train.checkpoint": "last"}
_FULL: dict[str, Any] = {  # everything: full length, all images
    "validations": 5,
    "groups": {"baseline": FIXED_LENGTH},
    "pretraining": {"masked": {"train.epochs": 15}},  # 256,000 tiles
}
NOISE = (
    "There is one training each. Trainings that differ in the seed only have a standard deviation of 0.007 (with 1,200 "
    "labels, see RESULTS.md; with the fewer of this budget probably more), so a gain below 0.02 may be noise."
)
BUDGETS = {
    # Two to four hours on two cores. Few images to train on leave many to score, since differences are small: of 3,000
    # labeled images 1,500 validate in either fold.
    "cpu": Budget(
        {
            "folds.count": 2,
            "folds.train_images": 500,
            "train.epochs": 10,
            "train.batch_size": 16,
            "train.precision": "32",
            "train.schedule.warmup_epochs": 1,
            "train.ema_decay": 0.98,  # of 300 steps; 0.99 would hold 4 % of the first one's weights
        },
        {"baseline": {**FIXED_LENGTH, "train.ema_decay": 0}},
        validations=1,
        unlabeled=1000,
        pretraining={"masked": {"train.epochs": 12}},
        noise=NOISE,
    ),
    "gpu": Budget(experiment="recipe_resnet34", **_FULL),
    "gpu_offline": Budget(experiment="recipe_lite2", **_FULL),  # without a model hub
    # Trains for seconds, for tests.
    "tiny": Budget(
        {
            "data.resize_mode": "resize",
            "data.size": 32,
            "folds.count": 2,
            "folds.train_images": 16,
            "train.epochs": 2,
            "train.batch_size": 8,
            "train.precision": "32",
            "train.learning_rate": 0.01,
            "train.schedule.warmup_epochs": 0,
            "train.ema_decay": 0.5,
        },
        {"baseline": {**FIXED_LENGTH, "train.ema_decay": 0, "model.filters": 2}},
        validations=1,
        unlabeled=20,
    ),
}

STUDY = Study("benchmark", "recipe_lite0", VARIANTS, BUDGETS, complete=True)
