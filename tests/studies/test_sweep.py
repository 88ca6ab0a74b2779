"""The studies as data: what each variant trains, what they share, how many steps they take."""

from itertools import product
from pathlib import Path

import pytest

from saltseg import config, experiments
from saltseg.config import Config, PseudoLabels
from saltseg.errors import InputError
from saltseg.studies import ablations, benchmark, label_efficiency, self_training
from saltseg.studies.case_study import variants as case_study
from saltseg.studies.label_efficiency import LABELS, WEIGHTS
from saltseg.studies.sweep import Sweep

STUDIES = {m.STUDY.name: m.STUDY for m in (ablations, benchmark, self_training, label_efficiency, case_study)}
BUDGETS = [(name, budget) for name, study in STUDIES.items() for budget in study.budgets]


def sweep(study: str, budget: str = "cpu", transduction: bool = False) -> Sweep:
    return Sweep(STUDIES[study], "tgs", budget, Path("input"), Path("output"), Path("tiles"), transduction)


def settings(study: str, budget: str, variant: str) -> Config:
    return sweep(study, budget).settings(variant, 0)


def changed(one: Config, other: Config) -> list[str]:
    """Differences, but for defaults of a section that only one of them has."""
    return [line for line in config.differences(one, other) if ": - →" not in line and "→ -" not in line]


@pytest.mark.parametrize(("study", "budget"), BUDGETS)
def test_every_variant_is_valid_selects_no_epoch_and_shares_the_seed(study: str, budget: str) -> None:
    of = sweep(study, budget)
    for name, variant in of.study.variants.items():
        assert set(variant.needs) | {of.study.reference_of(name)} <= {*of.study.variants, ""}
        if variant.members:
            continue
        found = of.settings(name, 3)
        assert (found.train.checkpoint == "best") == (name == case_study.PLATEAU)
        assert (found.train.seed, found.folds.seed) == (3, 0)
        assert found.train.precision == ("auto" if "gpu" in budget else "32")
        if variant.pretraining:
            path, before = of.pretraining(name, 3)
            assert found.train.init_from == f"file:{path}/weights.safetensors"
            assert (before.model, before.data, before.train.init_from) == (found.model, found.data, "")


@pytest.mark.parametrize("budget", ablations.STUDY.budgets)
def test_ablations_change_something_and_cost_as_many_operations(budget: str) -> None:
    of = sweep("ablations", budget)
    base = of.settings("base", 0)
    for name in of.study.variants:
        found = of.settings(name, 0)
        assert bool(of.changes(name)) == (name != "base")
        # An epoch at half the size has a quarter of the operations.
        assert found.train.epochs - 0.75 * found.train.low_resolution_epochs == pytest.approx(
            base.train.epochs, abs=0.5
        )
    assert of.changes("lovasz") == [
        "train.second_loss: lovasz_elu → lovasz", f"train.second_loss_start_epoch: 0 → {base.train.epochs // 2 + 1}",
    ]  # fmt: skip


@pytest.mark.parametrize("budget", benchmark.BUDGETS)
def test_stages_differ_in_what_they_say_and_in_nothing_else(budget: str) -> None:
    of, own = sweep("benchmark", budget), sweep("self_training", budget)
    recipe = of.settings("recipe", 0)
    length, every = recipe.train.epochs, recipe.train.val_every_n_epochs
    twice = [f"train.epochs: {length} → {2 * length}", f"train.val_every_n_epochs: {every} → {2 * every}"]
    for name, change in (
        (
            "pretrained",
            [f"train.init_from:  → file:output/pretrained/benchmark-tgs-{budget}-pretrained-0/weights.safetensors"],
        ),
        ("longer", twice),
        ("student1", []),
        ("confident", []),
        ("fine_tuned", [f"train.init_from:  → self_training-tgs-{budget}-pseudo_labels_only-0"]),
        ("mean_teacher", []),
        ("hard_labels", ["train.loss: symmetric_lovasz → bce"]),
    ):
        found = (own if name in own.study.variants else of).settings(name, 0)
        assert changed(recipe, found) == change
    teachers = {name: own.settings(name, 0).teacher for name in own.study.variants}
    assert {teachers[name] for name in ("student1", "confident", "hard_labels", "soft_labels")} == {
        f"benchmark-tgs-{budget}-longer-0"
    }
    assert of.settings("student2", 0).teacher == f"benchmark-tgs-{budget}-student1-0"
    for one, other, change in (
        ("student1", "confident", ["pseudo.drop_fraction: 0.0 → 0.5"]),
        ("student1", "pseudo_labels_only", ["pseudo.share: 0.5 → 1.0"]),
        ("hard_labels", "soft_labels", ["pseudo.labels: hard → soft"]),
        ("mean_teacher", "mean_teacher_late", ["pseudo.ramp_up_fraction: 0.0 → 0.5"]),
    ):
        assert config.differences(own.settings(one, 0), own.settings(other, 0)) == change
    assert own.settings("mean_teacher", 0).pseudo.images == "tiles"
    baseline = of.settings("baseline", 0)
    assert (baseline.model.architecture, baseline.train.schedule.kind) == ("unet", "cosine")
    assert (recipe.model.architecture, recipe.train.loss) == ("smp.Unet", "symmetric_lovasz")
    assert len({of.settings(name, 0).folds for name in ("baseline", "recipe", "longer", "student1")}) == 1


def test_the_cpu_budget_is_small_and_the_gpu_budget_is_everything() -> None:
    found = settings("benchmark", "cpu", "recipe")
    assert (found.folds.count, found.folds.train_images, found.train.epochs) == (2, 500, 10)
    whole = config.differences(experiments.named("recipe_resnet34"), settings("benchmark", "gpu", "recipe"))
    assert whole == ["train.val_every_n_epochs: 1 → 12"]


@pytest.mark.parametrize("budget", ["cpu", "gpu"])
def test_what_learns_from_images_without_labels_takes_as_many_steps_as_its_reference(budget: str) -> None:
    def shown(study: str, variant: str) -> float:
        """Images per labeled image that a variant is shown, that it goes on from counted in."""
        found, start = settings(study, budget, variant), STUDIES[study].variants[variant].init_from
        share = 0 if found.pseudo is None or found.pseudo.share == 1 else found.pseudo.share
        return found.train.epochs / (1 - share) + (shown(study, start) if start else 0)

    students = {name for name in self_training.STUDY.variants if name not in ("recipe", "pseudo_labels_only")}
    assert {shown("self_training", name) for name in students} == {2 * shown("benchmark", "recipe")}


@pytest.mark.parametrize(("budget", "labels"), list(product(("cpu", "gpu", "gpu_offline"), LABELS)))
def test_what_is_pretrained_is_measured_over_a_training_that_is_shown_as_many_tiles(budget: str, labels: str) -> None:
    of = sweep("label_efficiency", budget)
    for kind, reference in (("synthetic", "random_longer"), ("masked", "random_longer"), ("both", "imagenet_longer")):
        assert of.study.reference_of(f"{kind}_{labels}") == f"{reference}_{labels}"
        own, longer = of.settings(f"{kind}_{labels}", 0), of.settings(f"{reference}_{labels}", 0)
        images = own.folds.train_images or 1800  # 0.6 of the 3,000 tiles with labels
        unlabeled = 0.95 * (of.budget.unlabeled or 18000)  # a twentieth validates
        tiles = of.pretraining(f"{kind}_{labels}", 0)[1].train.epochs * (unlabeled if kind == "masked" else 4000)
        assert longer.train.epochs * images == pytest.approx(own.train.epochs * images + tiles, rel=0.1)  # whole epochs
        assert longer.model == own.model


def test_kinds_of_weights_differ_in_the_weights_alone() -> None:
    of = sweep("label_efficiency")
    for labels in LABELS:
        assert len({of.settings(f"{kind}_{labels}", 0).folds for kind in WEIGHTS}) == 1
        short = [kind for kind in WEIGHTS if not kind.endswith("_longer")]
        assert len({of.settings(f"{kind}_{labels}", 0).train.epochs for kind in short}) == 1
    random = of.settings("random_300", 0)
    folder = "output/pretrained/label_efficiency-tgs-cpu"
    assert config.differences(random, of.settings("imagenet_300", 0)) == ["model.weights: none → offline"]
    for kind in ("synthetic", "masked"):
        change = f"train.init_from:  → file:{folder}-{kind}-0/weights.safetensors"
        assert config.differences(random, of.settings(f"{kind}_300", 0)) == [change]
        assert of.pretraining(f"{kind}_100", 0) == of.pretraining(f"{kind}_all", 0)  # one for all numbers of labels
    longer = config.differences(of.settings("imagenet_300", 0), of.settings("imagenet_longer_300", 0))
    assert longer == ["train.epochs: 16 → 56", "train.val_every_n_epochs: 16 → 56"]
    steps = [(of.settings(f"random_{n}", 0).folds.train_images or 1800) * of.settings(f"random_{n}", 0).train.epochs
             for n in LABELS]  # fmt: skip
    assert max(steps) < 1.2 * min(steps)


def test_test_images_come_in_when_they_are_asked_for() -> None:
    for allowed in (False, True):
        of = sweep("self_training", transduction=allowed)
        found = {name: of.settings(name, 0).pseudo for name in of.study.variants}
        assert {pseudo.transduction for pseudo in found.values() if pseudo} == {allowed}
        assert isinstance(found["student1"], PseudoLabels)


@pytest.mark.parametrize("budget", case_study.STUDY.budgets)
def test_variants_of_the_case_study_change_one_thing_and_share_the_number_of_images_shown(budget: str) -> None:
    of = sweep("case_study", budget)
    base = of.settings("base", 0)
    for name in set(of.study.variants) - {case_study.PLATEAU, "base"}:
        found = of.settings(name, 0)
        assert found.folds.train_images * found.train.epochs == base.folds.train_images * base.train.epochs
        if not name.startswith(("fcn", "images")):
            assert len(of.changes(name)) == 1
    plateau, as_published = of.settings(case_study.PLATEAU, 0).train, Config().train
    assert (plateau.schedule, plateau.epochs) == (as_published.schedule, as_published.epochs)
    assert {line.split(".")[0] for line in of.changes(case_study.PLATEAU)} == {"train"}


@pytest.mark.parametrize("budget", ["cpu_full", "gpu"])
def test_the_full_case_study_asks_for_no_more_images_than_five_folds_of_the_real_data_leave(budget: str) -> None:
    of = sweep("case_study", budget)
    assert of.settings("base", 0).data.size == 128
    assert max(of.settings(name, 0).folds.train_images for name in of.select("")) == 2400
    assert of.settings("images_double", 0).folds.train_images == 4800
    asked = {variant for variants in case_study.QUESTIONS.values() for variant in variants}
    assert asked == set(case_study.VARIANTS) - {case_study.PLATEAU}


def test_variants_come_in_the_order_of_the_study_and_unknown_ones_are_refused() -> None:
    of = sweep("benchmark")
    assert of.select("longer,recipe,baseline") == ["baseline", "recipe", "longer"]
    with pytest.raises(InputError, match="unknown variant 'recpe'; did you mean recipe"):
        of.select("recpe")
    with pytest.raises(InputError, match="unknown variant 'images_double'"):
        sweep("case_study", "gpu").select("images_double")
    with pytest.raises(InputError, match="unknown budget 'gpus'; did you mean gpu"):
        sweep("benchmark", "gpus").select("")


def test_another_experiment_can_be_the_base_if_its_length_is_fixed() -> None:
    study = ablations.STUDY.with_base("recipe_resnet34")
    of = Sweep(study, "tgs", "gpu", Path("input"), Path("output"))
    assert of.name == "ablations_recipe_resnet34-tgs-gpu"
    assert of.settings("base", 0) == experiments.named("recipe_resnet34")
    with pytest.raises(InputError, match="unet selects its best epoch on the images that report the gain"):
        ablations.STUDY.with_base("unet")
