"""The whole ladder as plain data: its stages, from the handwritten U-Net to a blend, and the budgets to climb it on.

scripts/ladder.py climbs it. All stages of a budget share images, folds and seed, and every training has a fixed length,
so that no epoch is chosen on the images that report the score. A student is shown each labelled image as often as its
teacher was, and an image that the teacher labelled for each of them: it trains twice as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saltseg.config import unknown
from saltseg.errors import InputError

BASELINE = "unet"


@dataclass(frozen=True)
class Stage:
    """One rung. what: in words. builds_on: the stage that its gain is measured over; "": none.

    teacher: the stage whose folds label images for it. members: the stages that it is the mean of, equally weighted; it
    is trained itself where there are none. ours: the handwritten network, not the recipe.
    """

    what: str
    builds_on: str = ""
    ours: bool = False
    pretrained: bool = False
    teacher: str = ""
    members: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that must be finished before."""
        return self.members or ((self.teacher,) if self.teacher else ())


STAGES: Mapping[str, Stage] = {
    "baseline": Stage("the handwritten U-Net", ours=True),
    "recipe": Stage("the recipe", "baseline"),
    "pretrained": Stage("the recipe after masked-image pretraining on unlabelled tiles", "recipe", pretrained=True),
    "student1": Stage("the recipe with labels by `recipe`, from the start again", "recipe", teacher="recipe"),
    "student2": Stage("the recipe with labels by `student1`, from the start again", "student1", teacher="student1"),
    "blend": Stage("mean of the four above", "student2", members=("recipe", "pretrained", "student1", "student2")),
}


@dataclass(frozen=True)
class Budget:
    """How much a ladder may train.

    recipe: the experiment that is the recipe. every: settings of all trainings; baseline, recipes, pretraining: further
    ones of those alone. unlabelled: how many images without labels, the first by file name; None: all.
    """

    recipe: str
    every: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    pretraining: tuple[str, ...] = ()
    unlabelled: int | None = None


FIXED_LENGTH = ("train.schedule=cosine", "train.keep=last")
BUDGETS: Mapping[str, Budget] = {
    # A rehearsal: an hour and a half on two cores. Few images to train on leave many to judge by, since differences are
    # small: of 3,000 labelled images 1,500 validate in either fold.
    "cpu": Budget(
        "recipe_lite0",
        ("folds.count=2", "folds.train_images=500", "train.epochs=10", "train.validate_every=10",
         "train.batch_size=16"),
        baseline=FIXED_LENGTH,
        unlabelled=1000,
    ),
    # Everything: five folds, full length, all images.
    "gpu": Budget("recipe_resnet34", baseline=FIXED_LENGTH, pretraining=("train.epochs=30",)),
    # For tests and for a look at what comes out.
    "tiny": Budget(
        "recipe_lite0",
        ("data.fit=resize", "data.size=32", "folds.count=2", "folds.train_images=16", "train.epochs=2",
         "train.validate_every=2", "train.batch_size=8", "train.learning_rate=0.01"),
        baseline=("model.filters=2", *FIXED_LENGTH),
        recipes=("model.weights=none", "train.warmup=0", "train.ema=0"),
        unlabelled=20,
    ),
}  # fmt: skip


def run_name(dataset: str, budget: str, stage: str) -> str:
    """What the stage's run, blend or pretraining is called."""
    return f"{dataset}-ladder-{budget}-{stage}"


def chosen(names: Sequence[str], finished: Sequence[str] = ()) -> list[str]:
    """The stages called so, in the ladder's order.

    Raises InputError for one there is not (naming the nearest), and for one that needs another which is neither
    chosen nor finished.
    """
    for name in names:
        if name not in STAGES:
            raise InputError(unknown("stage", name, STAGES))
    for name in names:
        for needed in STAGES[name].needs:
            if needed not in (*names, *finished):
                raise InputError(f"{name} needs {needed}, which is not finished; add it to --only, or leave --only out")
    return [name for name in STAGES if name in names]


def experiment(stage: str, budget: str) -> str:
    """The experiment that a stage trains."""
    return BASELINE if STAGES[stage].ours else BUDGETS[budget].recipe


def changes(stage: str, budget: str) -> list[str]:
    """What the budget changes in the stage's experiment, for `saltseg.config.override`."""
    found = BUDGETS[budget]
    return [*found.every, *(found.baseline if STAGES[stage].ours else found.recipes)]


def commands(stage: str, budget: str, dataset: str, images: str, weights: str) -> list[list[str]]:
    """The scripts that make a stage and their options, in order: ``[["run", "unet", "--data", ...], ...]``.

    images: the folder of images without labels. weights: the file that the stage's pretraining leaves.
    """
    found, name, trained = STAGES[stage], run_name(dataset, budget, stage), experiment(stage, budget)
    if found.members:
        members = [run_name(dataset, budget, member) for member in found.members]
        return [["blend", *members, "--name", name], *([step, name] for step in ("optimise", "submit", "report"))]
    limit = BUDGETS[budget].unlabelled
    unlabelled = ["--images", images, *([] if limit is None else ["--limit", str(limit)])]
    own, before = changes(stage, budget), list[list[str]]()
    if found.pretrained:
        options = ["--method", "masked", "--data", dataset, *unlabelled, "--name", name]
        before.append(["pretrain", trained, *options, *_set([*own, *BUDGETS[budget].pretraining])])
        own.append(f"train.start_from=file:{weights}")
    if found.teacher:
        teacher = run_name(dataset, budget, found.teacher)
        before.append(["pseudo_label", teacher, *unlabelled])
        own.append(f"pseudo.teacher={teacher}")
    return [*before, ["run", trained, "--data", dataset, "--name", name, *_set(own)]]


def _set(assignments: Sequence[str]) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]
