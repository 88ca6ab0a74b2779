"""The ladder's stages and budgets as data: what each trains, in which order, and what is refused."""

import re
from itertools import pairwise

import pytest

from saltseg import config, experiments, ladders
from saltseg.errors import InputError

BUDGETS = list(ladders.BUDGETS)
TRAINED = [name for name, stage in ladders.STAGES.items() if not stage.members]


def options(command: list[str], option: str) -> list[str]:
    """The values given to an option, in order."""
    return [value for name, value in pairwise(command) if name == option]


def made(stage: str, budget: str) -> list[list[str]]:
    return ladders.commands(stage, budget, "tgs", "tiles", "w.safetensors")


def settings(stage: str, budget: str) -> config.Config:
    """What the stage's run is trained with."""
    command = made(stage, budget)[-1]
    assert command[0] == "run"
    return config.override(experiments.named(command[1]), options(command, "--set"))


def test_every_stage_stands_on_stages_below_it() -> None:
    names = list(ladders.STAGES)
    for number, (name, stage) in enumerate(ladders.STAGES.items()):
        below = names[:number]
        assert set(stage.needs) <= set(below), name
        assert stage.builds_on in below or (name == "baseline" and stage.builds_on == "")
        assert set(stage.members) <= {n for n in TRAINED if not ladders.STAGES[n].ours}  # those that use the recipe


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("stage", TRAINED)
def test_no_stage_chooses_an_epoch_and_all_share_images_and_folds(stage: str, budget: str) -> None:
    found = settings(stage, budget)
    assert found.train.keep == "last"
    assert found.folds == settings("baseline", budget).folds
    assert found.train.seed == 0


@pytest.mark.parametrize("budget", BUDGETS)
def test_stages_differ_in_what_they_say_and_in_nothing_else(budget: str) -> None:
    recipe = settings("recipe", budget)
    student, again = (f"tgs-ladder-{budget}-{name}" for name in ("recipe", "student1"))
    for stage, change in (
        ("pretrained", ["train.start_from:  → file:w.safetensors"]),
        ("student1", [f"pseudo.teacher:  → {student}"]),
        ("student2", [f"pseudo.teacher:  → {again}"]),
    ):
        assert config.differences(recipe, settings(stage, budget)) == change
    assert settings("baseline", budget).model.architecture == "unet"
    assert recipe.model.architecture.startswith("smp.")
    assert recipe.train.loss == "symmetric_lovasz"


def test_a_teacher_labels_and_a_network_is_pretrained_before_the_run() -> None:
    label, run = made("student2", "cpu")
    assert label == ["pseudo_label", "tgs-ladder-cpu-student1", "--images", "tiles", "--limit", "1000"]
    assert options(run, "--name") == ["tgs-ladder-cpu-student2"]
    pretrain, run = made("pretrained", "gpu")
    assert pretrain[:6] == ["pretrain", "recipe_resnet34", "--method", "masked", "--data", "tgs"]
    assert options(pretrain, "--images") == ["tiles"]
    assert options(pretrain, "--limit") == []
    assert options(pretrain, "--set") == ["train.epochs=30"]
    assert options(run, "--set") == ["train.start_from=file:w.safetensors"]
    members = [f"tgs-ladder-cpu-{name}" for name in ("recipe", "pretrained", "student1", "student2")]
    blend, *rest = made("blend", "cpu")
    assert blend == ["blend", *members, "--name", "tgs-ladder-cpu-blend"]
    assert rest == [[step, "tgs-ladder-cpu-blend"] for step in ("optimise", "submit", "report")]


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_settings_of_a_pretraining_hold_together(budget: str) -> None:
    command = made("pretrained", budget)[0]
    found = config.override(experiments.named(command[1]), options(command, "--set"))
    assert found.model == settings("pretrained", budget).model
    assert found.data == settings("pretrained", budget).data


def test_the_rehearsal_has_the_scale_that_it_states() -> None:
    found = settings("recipe", "cpu")
    assert (found.folds.count, found.folds.train_images, found.train.epochs) == (2, 500, 10)
    assert ladders.BUDGETS["cpu"].unlabelled == 1000
    assert ladders.BUDGETS["gpu"].unlabelled is None
    assert settings("recipe", "gpu") == experiments.named("recipe_resnet34")


def test_stages_come_in_the_ladders_order_and_need_what_they_stand_on() -> None:
    assert ladders.chosen(["student1", "recipe", "baseline"]) == ["baseline", "recipe", "student1"]
    assert ladders.chosen(["student2"], finished=["student1"]) == ["student2"]
    assert ladders.chosen(["pretrained"]) == ["pretrained"]  # its gain comes when the recipe is there
    for names, message in (
        (["recpe"], "unknown stage 'recpe'; did you mean recipe?"),
        (["student2", "recipe"], "student2 needs student1, which is not finished; add it to --only, or leave --only"),
        (["blend", "recipe"], "blend needs pretrained, which is not finished"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            ladders.chosen(names)
