"""Label efficiency: what each kind of initial weights gains with 100, 300, 1,000 and all labels.

One fold validates 0.4 of the images. All trainings have about as many steps. What is pretrained here is measured over a
longer training, which spends the steps of the pretraining on labeled tiles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from saltseg.studies import benchmark
from saltseg.studies.sweep import Budget, Changes, Study, Variant

LABELS = ("100", "300", "1000", "all")
# Kind → in words, what its gain is measured over, method of pretraining. "imagenet" is the recipe's own kind.
WEIGHTS = {
    "random": ("random weights", "", ""),
    "random_longer": ("random weights, as many steps as with pretraining", "random", ""),
    "synthetic": ("synthetic pretraining", "random_longer", "synthetic"),
    "masked": ("masked pretraining", "random_longer", "masked"),
    "imagenet": ("ImageNet weights", "random", ""),
    "imagenet_longer": ("ImageNet weights, as many steps as with pretraining", "imagenet", ""),
    "both": ("ImageNet weights and synthetic pretraining", "imagenet_longer", "synthetic"),
}


def _variant(kind: str, labels: str) -> Variant:
    words, reference, pretraining = WEIGHTS[kind]
    return Variant(
        f"{labels if labels == 'all' else f'{int(labels):,}'} labels, from {words}",
        reference and f"{reference}_{labels}",
        {} if kind.startswith(("imagenet", "both")) else {"model.weights": "none"},
        group=f"{labels}_longer" if kind.endswith("_longer") else labels,
        pretraining=pretraining,
    )


def _groups(epochs: Sequence[int], longer: float, images: Sequence[int] = (100, 300, 1000, 0)) -> Mapping[str, Changes]:
    """Settings for each of `LABELS`; longer: pretraining and training as a multiple of the training's steps."""
    held_out: dict[str, Any] = {"folds.scheme": "holdout", "folds.holdout": 0.4, "predict.tta": ["identity"]}
    groups = dict[str, Changes]()
    for labels, count, shown in zip(LABELS, epochs, images, strict=True):
        for name, factor in ((labels, 1.0), (f"{labels}_longer", longer)):
            groups[name] = {**held_out, "folds.train_images": shown, "train.epochs": round(count * factor)}
    return groups


_CPU, _TINY = benchmark.BUDGETS["cpu"], benchmark.BUDGETS["tiny"]
_FULL: dict[str, Any] = {
    "groups": _groups((480, 160, 50, 30), 6),
    "validations": 5,
    "pretraining": {"synthetic": {"train.epochs": 64}, "masked": {"train.epochs": 15}},  # 256,000 tiles each
}

STUDY = Study(
    "label_efficiency",
    "recipe_lite0",
    {f"{kind}_{labels}": _variant(kind, labels) for labels in LABELS for kind in WEIGHTS},
    {
        "cpu": Budget(
            _CPU.overrides,
            _groups((48, 16, 5, 3), 3.5),
            validations=1,
            unlabeled=_CPU.unlabeled,
            pretraining={"synthetic": {"train.epochs": 3}, "masked": {"train.epochs": 12}},
            noise=_CPU.noise,
        ),
        "gpu": Budget(experiment="recipe_resnet34", **_FULL),
        "gpu_offline": Budget(experiment="recipe_lite2", **_FULL),
        "tiny": Budget(
            _TINY.overrides, _groups((2, 2, 2, 2), 1, (8, 12, 16, 0)), validations=1, unlabeled=_TINY.unlabeled
        ),
    },
    complete=True,
    chart="labels",
)
