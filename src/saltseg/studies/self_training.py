"""Self-training: ways to learn from images without labels, each with as many steps as `longer` has.

The Lovász loss takes no probabilities as labels, so soft labels are compared under cross-entropy.
"""

from saltseg.studies import benchmark
from saltseg.studies.sweep import Study, Variant

SHARED = ("recipe", "longer", "student1")  # trained and recorded by the benchmark

VARIANTS = {
    "confident": Variant(
        "`student1` without the half of the tiles that `longer` is least confident of",
        "student1",
        {"pseudo.drop_fraction": 0.5},
        teacher="longer",
    ),
    "pseudo_labels_only": Variant(
        "all of its tiles labeled by `longer`, half as long", overrides={"pseudo.share": 1}, teacher="longer"
    ),
    "fine_tuned": Variant(
        "`pseudo_labels_only`, then as long on labeled tiles", "longer", init_from="pseudo_labels_only"
    ),
    "mean_teacher": Variant(
        "half of its tiles labeled by the average of its own weights, from the first step on",
        "longer",
        mean_teacher=True,
    ),
    "mean_teacher_late": Variant(
        "the same in the second half of the training only",
        "longer",
        {"pseudo.ramp_up_fraction": 0.5},
        mean_teacher=True,
    ),
    "hard_labels": Variant("`student1` under cross-entropy", "student1", {"train.loss": "bce"}, teacher="longer"),
    "soft_labels": Variant(
        "`hard_labels` with probabilities as labels",
        "hard_labels",
        {"train.loss": "bce", "pseudo.labels": "soft"},
        teacher="longer",
    ),
}

STUDY = Study(
    "self_training",
    "recipe_lite0",
    {name: benchmark.VARIANTS[name] for name in SHARED} | VARIANTS,
    benchmark.BUDGETS,
    parent="benchmark",
    shared=SHARED,
    complete=True,
)
