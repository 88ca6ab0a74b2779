"""The ladders' stages and budgets as data: what each trains, in which order, and what is refused."""

import re
from itertools import pairwise

import pytest

from saltseg import config, experiments, ladders
from saltseg.errors import InputError

BUDGETS = list(ladders.BUDGETS)
TRAINED = [name for name, stage in ladders.STAGES.items() if not stage.members]
BESIDE = [name for name in TRAINED if name not in ladders.EFFICIENCY]  # those that share images and folds


def options(command: list[str], option: str) -> list[str]:
    """The values given to an option, in order."""
    return [value for name, value in pairwise(command) if name == option]


def made(stage: str, budget: str) -> list[list[str]]:
    return ladders.commands(stage, budget, "tgs", "tiles", "made")


def settings(stage: str, budget: str) -> config.Config:
    """What the stage's run is trained with."""
    command = made(stage, budget)[-1]
    assert command[0] == "run"
    return ladders.settings_of(command)


@pytest.mark.parametrize("ladder", ladders.LADDERS)
def test_every_stage_stands_on_stages_below_it(ladder: str) -> None:
    names = ladders.LADDERS[ladder]
    for number, name in enumerate(names):
        stage, below = ladders.STAGES[name], names[:number]
        assert set(stage.needs) <= {*below, *(("longer",) if number == 0 else ())}, name
        assert number == 0 or stage.over in (*below, "")
    assert set(ladders.STAGES["blend"].members) < set(ladders.RUNGS)
    assert set(ladders.STAGES) == {name for stages in ladders.LADDERS.values() for name in stages}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("stage", TRAINED)
def test_no_stage_chooses_an_epoch_and_all_share_the_seed(stage: str, budget: str) -> None:
    found = settings(stage, budget)
    assert found.train.keep == "last"
    assert (found.train.seed, found.folds.seed) == (0, 0)


@pytest.mark.parametrize("budget", BUDGETS)
def test_stages_share_images_and_folds(budget: str) -> None:
    assert len({settings(stage, budget).folds for stage in BESIDE}) == 1
    for labels in ladders.LABELS:
        of_start = {start: settings(f"{start}_{labels}", budget) for start in ladders.STARTS}
        assert len({found.folds for found in of_start.values()}) == 1
        assert len({found.train.epochs for start, found in of_start.items() if not start.endswith("longer")}) == 1


@pytest.mark.parametrize("budget", BUDGETS)
def test_stages_differ_in_what_they_say_and_in_nothing_else(budget: str) -> None:
    recipe = settings("recipe", budget)
    length, looks = recipe.train.epochs, recipe.train.validate_every
    twice = [f"train.epochs: {length} → {2 * length}", f"train.validate_every: {looks} → {2 * looks}"]
    name = f"tgs-ladder-{budget}"
    unlabelled = ladders.BUDGETS[budget].unlabelled
    for stage, change in (
        ("pretrained", [f"train.start_from:  → file:made/{name}-pretrained/weights.safetensors"]),
        ("longer", twice),
        ("student1", [f"pseudo.teacher:  → {name}-longer"]),
        ("student2", [f"pseudo.teacher:  → {name}-student1"]),
        ("confident", [f"pseudo.teacher:  → {name}-longer", "pseudo.confidence: 0.0 → 0.5"]),
        ("taught_only", [f"pseudo.teacher:  → {name}-longer", "pseudo.share: 0.5 → 1.0"]),
        ("fine_tuned", [f"train.start_from:  → {name}-taught_only"]),
        (
            "own_teacher",
            ["pseudo.teacher:  → self", "pseudo.images:  → tiles"]
            + ([f"pseudo.limit: 0 → {unlabelled}"] if unlabelled else []),
        ),
        ("hard_labels", ["train.loss: symmetric_lovasz → bce", f"pseudo.teacher:  → {name}-longer"]),
    ):
        assert config.differences(recipe, settings(stage, budget)) == change
    assert config.differences(settings("hard_labels", budget), settings("soft_labels", budget)) == [
        "pseudo.labels: hard → soft"
    ]
    assert config.differences(settings("own_teacher", budget), settings("own_teacher_late", budget)) == [
        "pseudo.label_after: 0.0 → 0.5"
    ]
    assert settings("baseline", budget).model.architecture == "unet"
    assert recipe.model.architecture.startswith("smp.")
    assert recipe.train.loss == "symmetric_lovasz"


@pytest.mark.parametrize("budget", ["cpu", "gpu"])
def test_what_learns_from_images_without_labels_takes_as_many_steps_as_what_it_is_measured_over(budget: str) -> None:
    def seen(stage: str) -> float:
        """Images per labelled image that a stage is shown, the stage that it goes on from counted in."""
        found, start = settings(stage, budget), ladders.STAGES[stage].start
        beside = 1 if found.pseudo.share == 1 or not found.pseudo.teacher else 1 / (1 - found.pseudo.share)
        return found.train.epochs * beside + (seen(start) if start else 0)

    students = (
        "student1",
        "student2",
        "confident",
        "fine_tuned",
        "own_teacher",
        "own_teacher_late",
        "hard_labels",
        "soft_labels",
    )
    assert {seen(stage) for stage in students} == {seen("longer")} == {2 * seen("recipe")}


def test_trainings_with_more_and_fewer_labels_take_about_as_many_steps() -> None:
    for budget, whole in (("cpu", 1800), ("gpu", 1800)):  # of the 3,000 tiles with labels
        counts = []
        for labels in ladders.LABELS:
            found = settings(f"random_{labels}", budget)
            assert found.folds.train_images == (0 if labels == "all" else int(labels))
            counts.append((found.folds.train_images or whole) * found.train.epochs)
        assert max(counts) < 1.2 * min(counts)


def test_test_images_come_in_when_they_are_asked_for_and_wherever_images_without_labels_are() -> None:
    for stage in TRAINED:
        plain, allowed = (ladders.commands(stage, "cpu", "tgs", "tiles", transduction=asked) for asked in (False, True))
        learns = any("--images" in command for command in plain) or stage.startswith("own_teacher")
        assert any("pseudo.transduction=true" in command for command in allowed) == learns
        assert not any("pseudo.transduction=true" in command for command in plain)


@pytest.mark.parametrize("budget", ["cpu", "gpu", "gpu_offline"])
@pytest.mark.parametrize("labels", ladders.LABELS)
def test_what_is_pretrained_is_measured_over_a_training_that_sees_as_many_tiles(budget: str, labels: str) -> None:
    for start, over in (("synthetic", "random_longer"), ("masked", "random_longer"), ("both", "imagenet_longer")):
        assert ladders.STAGES[f"{start}_{labels}"].over == f"{over}_{labels}"
        own, longer = settings(f"{start}_{labels}", budget), settings(f"{over}_{labels}", budget)
        images = own.folds.train_images or 1800  # 0.6 of the 3,000 tiles with labels
        unlabelled = 0.95 * (ladders.BUDGETS[budget].unlabelled or 18000)  # a twentieth judges
        epoch = unlabelled if start == "masked" else 4000
        pretraining = ladders.settings_of(made(f"{start}_{labels}", budget)[0]).train.epochs * epoch
        assert longer.train.epochs * images == pytest.approx(
            own.train.epochs * images + pretraining, rel=0.1
        )  # epochs are whole
        assert longer.model == own.model


def test_starts_differ_in_the_weights_alone() -> None:
    random = settings("random_300", "cpu")
    assert random.model.weights == "none"
    for start in ("synthetic", "masked"):
        file = f"file:made/tgs-ladder-cpu-{start}/weights.safetensors"
        assert config.differences(random, settings(f"{start}_300", "cpu")) == [f"train.start_from:  → {file}"]
        once = made(f"{start}_100", "cpu")[0]
        assert once == made(f"{start}_all", "cpu")[0]  # one pretraining for all numbers of labels
        assert options(once, "--method") == [start]
        pretrained = ladders.settings_of(once)
        assert (pretrained.model, pretrained.data) == (random.model, random.data)
        assert pretrained.train.start_from == ""
    assert config.differences(random, settings("imagenet_300", "cpu")) == ["model.weights: none → offline"]
    file = "file:made/tgs-ladder-cpu-both/weights.safetensors"
    assert config.differences(settings("imagenet_300", "cpu"), settings("both_300", "cpu")) == [
        f"train.start_from:  → {file}"
    ]
    (epochs, longer), (looks, _) = (
        line.split(": ")
        for line in config.differences(settings("imagenet_300", "cpu"), settings("imagenet_longer_300", "cpu"))
    )
    assert (epochs, longer, looks) == ("train.epochs", "16 → 56", "train.validate_every")
    pretrained = ladders.settings_of(made("both_300", "cpu")[0])
    assert config.differences(ladders.settings_of(made("synthetic_300", "cpu")[0]), pretrained) == [
        "model.weights: none → offline"
    ]


def test_a_teacher_labels_and_a_network_is_pretrained_before_the_run() -> None:
    label, run = made("student2", "cpu")
    assert label == ["pseudo_label", "tgs-ladder-cpu-student1", "--images", "tiles", "--limit", "1000"]
    assert options(run, "--name") == ["tgs-ladder-cpu-student2"]
    pretrain, run = made("pretrained", "gpu")
    assert pretrain[:6] == ["pretrain", "recipe_resnet34", "--method", "masked", "--data", "tgs"]
    assert options(pretrain, "--images") == ["tiles"]
    assert options(pretrain, "--limit") == []
    assert options(pretrain, "--name") == ["tgs-ladder-gpu-pretrained"]
    assert options(pretrain, "--set") == ["train.epochs=15"]
    assert "--images" not in made("synthetic_100", "gpu")[0]
    members = [f"tgs-ladder-cpu-{name}" for name in ("longer", "student1", "student2")]
    blend, *rest = made("blend", "cpu")
    assert blend == ["blend", *members, "--name", "tgs-ladder-cpu-blend"]
    assert rest == [[step, "tgs-ladder-cpu-blend"] for step in ("optimise", "submit", "report")]


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_settings_of_a_pretraining_hold_together(budget: str) -> None:
    found = ladders.settings_of(made("pretrained", budget)[0])
    assert found.model == settings("pretrained", budget).model
    assert found.data == settings("pretrained", budget).data


def test_the_rehearsal_has_the_scale_that_it_states() -> None:
    found = settings("recipe", "cpu")
    assert (found.folds.count, found.folds.train_images, found.train.epochs) == (2, 500, 10)
    assert ladders.BUDGETS["cpu"].unlabelled == 1000
    assert ladders.BUDGETS["gpu"].unlabelled is None
    whole = config.differences(experiments.named("recipe_resnet34"), settings("recipe", "gpu"))
    assert whole == ["train.validate_every: 1 → 12"]


def test_stages_come_in_the_ladders_order_and_need_what_they_stand_on() -> None:
    assert ladders.chosen("score", ["longer", "recipe", "baseline"]) == ["baseline", "recipe", "longer"]
    assert ladders.chosen("score") == list(ladders.RUNGS)
    assert ladders.chosen("score", ["student2"], finished=["student1"]) == ["student2"]
    assert ladders.chosen("score", ["pretrained"]) == ["pretrained"]  # its gain comes when the recipe is there
    for names, message in (
        (["recpe"], "unknown score stage 'recpe'; did you mean recipe?"),
        (["random_100"], "unknown score stage 'random_100'"),
        (["student2", "recipe"], "student2 needs student1, which is not finished; add it to --only, or leave --only"),
        (["blend", "recipe"], "blend needs longer, which is not finished"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            ladders.chosen("score", names)
