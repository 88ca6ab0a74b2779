"""The whole ladder as plain data: stages, the ladders that they make up, and the budgets to climb on.

scripts/ladder.py climbs. All trainings of a budget share folds and seed, and each has a fixed length, so that no epoch
is chosen on the images that report the score. Self-training is measured over a training that takes as many steps
without it: what further images give, and not what further steps give. So is pretraining in the ladder of labels; in
that of scores it comes on top of the recipe's steps.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from saltseg.config import Config, override, unknown
from saltseg.errors import InputError
from saltseg.experiments import named

BASELINE = "unet"
CROSS_ENTROPY, OWN_TEACHER = "train.loss=bce", "pseudo.teacher=self"


@dataclass(frozen=True)
class Stage:
    """One rung: a training, or the mean of others.

    what: in words. over: the stage that its gain is measured over; "": none. settings: what it changes in the recipe.
    ours: the handwritten network is trained instead of the recipe. length: its epochs, as a multiple of the budget's;
    None: as many steps as a pretraining and the training after it have.
    labels: images that it may train on, of the budget's `Budget.labels`; None: as many as all others. pretraining:
    the method of scripts/pretrain.py that makes the weights it starts from. teacher: the stage whose folds label
    images for it. start: the stage whose folds it goes on from. members: the stages that it is the mean of.
    """

    what: str
    over: str = ""
    settings: tuple[str, ...] = ()
    ours: bool = False
    length: int | None = 1
    labels: str | None = None
    pretraining: str = ""
    teacher: str = ""
    start: str = ""
    members: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that must be finished before."""
        return self.members or tuple(stage for stage in (self.teacher, self.start) if stage)


RUNGS: Mapping[str, Stage] = {
    "baseline": Stage("the handwritten U-Net", ours=True),
    "recipe": Stage("the recipe", "baseline"),
    "pretrained": Stage(
        "the recipe after masked-image pretraining on unlabelled tiles", "recipe", pretraining="masked"
    ),
    "longer": Stage("the recipe for twice the epochs, so with a student's number of steps", "recipe", length=2),
    "student1": Stage("the recipe trained anew, half of its tiles labelled by `longer`", "longer", teacher="longer"),
    "student2": Stage(
        "the recipe trained anew, half of its tiles labelled by `student1`", "student1", teacher="student1"
    ),
    "blend": Stage("mean of the three above", "longer", members=("longer", "student1", "student2")),
}

# Ways to learn from images without labels, each with as many steps as `longer` has. The Lovász loss takes no
# probabilities as labels, so soft labels are compared under cross-entropy.
VARIANTS: Mapping[str, Stage] = {
    "confident": Stage(
        "`student1` with the half of the tiles that `longer` is surest of", "student1", ("pseudo.confidence=0.5",),
        teacher="longer",
    ),
    "taught_only": Stage(
        "all of its tiles labelled by `longer`, half as long", settings=("pseudo.share=1",), teacher="longer",
    ),
    "fine_tuned": Stage("`taught_only`, then as long on labelled tiles", "longer", start="taught_only"),
    "own_teacher": Stage(
        "half of its tiles labelled by the average of its own weights, from the first step on", "longer", (OWN_TEACHER,)
    ),
    "own_teacher_late": Stage(
        "the same in the second half of the training only", "longer", (OWN_TEACHER, "pseudo.label_after=0.5")
    ),
    "hard_labels": Stage("`student1` under cross-entropy", "student1", (CROSS_ENTROPY,), teacher="longer"),
    "soft_labels": Stage(
        "`hard_labels` with probabilities as labels", "hard_labels", (CROSS_ENTROPY, "pseudo.labels=soft"),
        teacher="longer",
    ),
}  # fmt: skip

STARTS = ("random", "random_longer", "synthetic", "masked", "imagenet", "imagenet_longer", "both")
LABELS = ("100", "300", "1000", "all")


def _start(start: str, labels: str) -> Stage:
    """The recipe from one kind of weights, with some of the labels; "imagenet" is the recipe's own kind.

    both: pretraining on simulated tiles that starts from ImageNet weights. What is pretrained here is measured over a
    longer training, which spends the steps of the pretraining on labelled tiles.
    """
    amount = "all labels" if labels == "all" else f"{int(labels):,} labels"
    origin, over, pretraining = {
        "random": ("random weights", "", ""),
        "random_longer": ("random weights, as many steps as with pretraining", "random", ""),
        "synthetic": ("synthetic pretraining", "random_longer", "synthetic"),
        "masked": ("masked pretraining", "random_longer", "masked"),
        "imagenet": ("ImageNet weights", "random", ""),
        "imagenet_longer": ("ImageNet weights, as many steps as with pretraining", "imagenet", ""),
        "both": ("ImageNet weights and synthetic pretraining", "imagenet_longer", "synthetic"),
    }[start]
    return Stage(
        f"{amount}, from {origin}",
        over and f"{over}_{labels}",
        () if start in ("imagenet", "imagenet_longer", "both") else ("model.weights=none",),
        length=None if start.endswith("_longer") else 1,
        labels=labels,
        pretraining=pretraining,
    )


EFFICIENCY: Mapping[str, Stage] = {f"{start}_{labels}": _start(start, labels) for labels in LABELS for start in STARTS}
STAGES: Mapping[str, Stage] = {**RUNGS, **VARIANTS, **EFFICIENCY}
LADDERS: Mapping[str, tuple[str, ...]] = {
    "score": tuple(RUNGS),
    "self_training": ("longer", "student1", *VARIANTS),
    "labels": tuple(EFFICIENCY),
}


@dataclass(frozen=True)
class Budget:
    """How much a ladder may train.

    recipe: the experiment that is the recipe. every: settings of all trainings; baseline, recipes: further ones of
    those alone. looks: how often a training validates. pretraining: settings by method; unlabelled: how many images
    without labels, the first by file name, None: all. labels: settings of a training by what `Stage.labels` calls it.
    with_pretraining: pretraining and training on a part of the labels, as a multiple of the latter's steps. noise: what
    is known of trainings that differ in the seed only.
    """

    recipe: str
    every: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    looks: int = 1
    pretraining: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unlabelled: int | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    with_pretraining: float = 1
    noise: str = "how far trainings that differ in the seed only scatter at this budget has not been measured"


def _labels(epochs: Sequence[int]) -> Mapping[str, tuple[str, ...]]:
    """One fold that validates 0.4 of the images; ``epochs`` for each of `LABELS`, so that steps are about equal."""
    held_out = ("folds.scheme=holdout", "folds.holdout=0.4", "predict.views=identity")
    return {
        name: (*held_out, f"folds.train_images={0 if name == 'all' else name}", f"train.epochs={count}")
        for name, count in zip(LABELS, epochs, strict=True)
    }


FIXED_LENGTH = ("train.schedule=cosine", "train.keep=last")
FULL: dict[str, Any] = {
    "baseline": FIXED_LENGTH,
    "looks": 5,
    "pretraining": {"synthetic": ("train.epochs=64",), "masked": ("train.epochs=15",)},  # 256,000 tiles each
    "labels": _labels((480, 160, 50, 30)),
    "with_pretraining": 6,
}
BUDGETS: Mapping[str, Budget] = {
    # A rehearsal: two hours on two cores. Few images to train on leave many to judge by, since differences are
    # small: of 3,000 labelled images 1,500 validate in either fold.
    "cpu": Budget(
        "recipe_lite0",
        ("folds.count=2", "folds.train_images=500", "train.epochs=10", "train.batch_size=16"),
        baseline=FIXED_LENGTH,
        recipes=("train.warmup=1", "train.ema=0.98"),  # of 300 steps; 0.99 would hold 4 % of the first one's weights
        pretraining={"synthetic": ("train.epochs=3",), "masked": ("train.epochs=12",)},
        unlabelled=1000,
        labels=_labels((48, 16, 5, 3)),
        with_pretraining=3.5,
        noise="trainings that differ in the seed only scatter by 0.007 (one sigma with 1,200 labels, RESULTS.md; with "
        "the fewer of this budget probably by more), so a gain below 0.02 may be noise",
    ),
    # Everything: five folds, full length, all images; with a model hub, and without one.
    "gpu": Budget("recipe_resnet34", **FULL),
    "gpu_offline": Budget("recipe_lite2", **FULL),
    # For tests and for a look at what comes out.
    "tiny": Budget(
        "recipe_lite0",
        ("data.fit=resize", "data.size=32", "folds.count=2", "folds.train_images=16", "train.epochs=2",
         "train.batch_size=8", "train.learning_rate=0.01"),
        baseline=("model.filters=2", *FIXED_LENGTH),
        recipes=("train.warmup=0", "train.ema=0.5"),
        unlabelled=20,
        labels={name: (f"folds.train_images={count}",) for name, count in zip(LABELS, (8, 12, 16, 0), strict=True)},
    ),
}  # fmt: skip


def run_name(dataset: str, budget: str, stage: str) -> str:
    """What the stage's run, blend or pretraining is called."""
    return f"{dataset}-ladder-{budget}-{stage}"


def chosen(ladder: str, only: Sequence[str] | None = None, finished: Sequence[str] = ()) -> list[str]:
    """The stages of a ladder, or those of it called so, in its order.

    Raises InputError for one that there is not (naming the nearest), and for one that needs another which is neither
    chosen nor finished.
    """
    stages = LADDERS[ladder]
    names = stages if only is None else only
    for name in names:
        if name not in stages:
            raise InputError(unknown(f"{ladder} stage", name, stages))
    for name in names:
        for needed in STAGES[name].needs:
            if needed not in (*names, *finished):
                raise InputError(f"{name} needs {needed}, which is not finished; add it to --only, or leave --only out")
    return [name for name in stages if name in names]


def experiment(stage: str, budget: str) -> str:
    """The experiment that a stage trains."""
    return BASELINE if STAGES[stage].ours else BUDGETS[budget].recipe


def changes(stage: str, budget: str) -> list[str]:
    """What stage and budget change in the experiment, without what earlier stages give; for `config.override`."""
    found, rung = BUDGETS[budget], STAGES[stage]
    own = [*found.every, *(found.baseline if rung.ours else found.recipes), *rung.settings]
    own += [] if rung.labels is None else found.labels[rung.labels]
    alone = [change for change in own if not change.startswith("pseudo.")]  # which asks for images, and sets no length
    length = found.with_pretraining if rung.length is None else rung.length
    epochs = round(override(named(experiment(stage, budget)), alone).train.epochs * length)
    return [*own, f"train.epochs={epochs}", f"train.validate_every={epochs // found.looks}"]


def commands(
    stage: str,
    budget: str,
    dataset: str,
    images: str,
    pretrained: str = "output/pretrained",
    transduction: bool = False,
) -> list[list[str]]:
    """The scripts that make a stage and their options, in order: ``[["run", "unet", "--data", ...], ...]``.

    images: the folder of images without labels. pretrained: the folder that pretrainings leave their weights in.
    transduction: learn from test images that are in the folder, too. Paths are quoted: settings are read as YAML.
    """
    found, rung = BUDGETS[budget], STAGES[stage]
    name, trained = run_name(dataset, budget, stage), experiment(stage, budget)
    if rung.members:
        members = [run_name(dataset, budget, member) for member in rung.members]
        return [["blend", *members, "--name", name], *([step, name] for step in ("optimise", "submit", "report"))]
    limit = [] if found.unlabelled is None else ["--limit", str(found.unlabelled)]
    unlabelled, own, before = ["--images", images, *limit], changes(stage, budget), list[list[str]]()
    known = ["pseudo.transduction=true"] if transduction else []
    if rung.pretraining:
        made = stage.rpartition("_")[0] if rung.labels else stage  # one for all numbers of labels
        weights = run_name(dataset, budget, made)
        source = ["--data", dataset, *unlabelled] if rung.pretraining == "masked" else []
        settings = [*found.every, *found.recipes, *rung.settings, *found.pretraining.get(rung.pretraining, ())]
        settings += known if rung.pretraining == "masked" else []
        before.append(["pretrain", trained, "--method", rung.pretraining, *source, "--name", weights, *_set(settings)])
        own.append(f"train.start_from={json.dumps(f'file:{pretrained}/{weights}/weights.safetensors')}")
    if rung.teacher:
        teacher = run_name(dataset, budget, rung.teacher)
        before.append(["pseudo_label", teacher, *unlabelled])
        own += [f"pseudo.teacher={teacher}", *known]
    if rung.start:
        own.append(f"train.start_from={run_name(dataset, budget, rung.start)}")
    if OWN_TEACHER in own:
        own += [f"pseudo.images={json.dumps(images)}", f"pseudo.limit={found.unlabelled or 0}", *known]
    return [*before, ["run", trained, "--data", dataset, "--name", name, *_set(own)]]


def settings_of(command: Sequence[str]) -> Config:
    """What the run of `commands` is trained with, but for its name."""
    given = [value for option, value in pairwise(command) if option == "--set"]
    return override(named(command[1]), given)


def _set(assignments: Sequence[str]) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]
