"""The named experiments: what they stand for, and names that nobody knows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saltseg import config, experiments, yaml12
from saltseg.data.augmentation import POLICIES
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError
from saltseg.inference import tta
from saltseg.models import losses
from saltseg.studies import ablations


def test_unet_spec_is_the_case_study_and_unet_adds_exactly_this() -> None:
    assert experiments.named("unet_spec") == config.Config()
    assert config.differences(experiments.named("unet_spec"), experiments.named("unet")) == [
        "name: unet_spec → unet",
        "data.resize_mode: resize → pad",
        "data.size: 128 → 112",
        "data.augment: none → light",
        "predict.tta: ['identity'] → ['identity', 'hflip']",
        "predict.postprocessing: half → tuned",
    ]


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_each_is_called_by_its_own_name_and_every_name_in_it_exists(name: str) -> None:
    settings = experiments.named(name)
    assert settings.name == name
    assert settings.data.augment in POLICIES
    assert set(settings.predict.tta) <= set(tta.VIEWS)
    losses.from_text(settings.train.loss)  # networks are built in tests/models/test_zoo.py
    TileTransform.square(settings.data.resize_mode, settings.data.size).forward(
        np.zeros((1, 101, 101))
    )  # pads to 101 at least
    assert config.from_mapping(yaml12.parse(config.dump(settings))) == settings


def test_the_published_recipes_are_the_experiments_of_today() -> None:
    """So that the commands in README.md train again what is published."""
    folder = Path(__file__).parents[1] / "output" / "published"
    recipes = {
        "tgs-recipe_lite0": "recipe_lite0",
        "tgs-combined": "recipe_lite0_depth",
        "tgs-lite0_resized": "recipe_lite0_resized",
        "tgs-recipe_lite2_depth": "recipe_lite2_depth",
    }
    for run, name in recipes.items():
        published, today = config.load(folder / run / "config.yaml"), experiments.named(name)
        assert config.differences(replace(published, name=name), today) == []
    for run, name in (("tgs-lite0_42", "recipe_lite0_long"), ("tgs-lite0_42_student", "recipe_lite0_student")):
        published = config.load(folder / run / "config.yaml")
        # what a machine chooses, and what names other runs
        of_others = {"train.precision": "auto", "train.init_from": ""}
        today = replace(config.change(published, of_others), name=name, pseudo=None)
        assert config.differences(today, experiments.named(name)) == []


@pytest.mark.parametrize(
    ("name", "architecture", "encoder"),
    [
        ("unet_resnet34", "Unet", "resnet34"),
        ("unet_resnet34_scse", "Unet", "resnet34"),
        ("unetplusplus_resnet34", "UnetPlusPlus", "resnet34"),
        ("fpn_resnet34", "FPN", "resnet34"),
        ("manet_resnet34", "MAnet", "resnet34"),
        ("deeplabv3plus_resnet34", "DeepLabV3Plus", "resnet34"),
        ("segformer_mit_b2", "Segformer", "mit_b2"),
        ("upernet_convnext_tiny", "UPerNet", "tu-convnext_tiny"),
        ("unet_efficientnet_lite0", "Unet", "tu-tf_efficientnet_lite0"),
    ],
)
def test_the_baselines_are_what_they_are_called(name: str, architecture: str, encoder: str) -> None:
    model = experiments.named(name).model
    assert (model.architecture, model.encoder) == (f"smp.{architecture}", encoder)
    assert (model.attention == "scse") == name.endswith("scse")
    assert model.weights == ("offline" if "lite" in name else "imagenet")


def test_no_experiment_turns_tiles_upside_down() -> None:
    for name in experiments.EXPERIMENTS:
        assert set(experiments.named(name).predict.tta) <= {"identity", "hflip"}


def test_a_misspelled_experiment_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown experiment 'unet_spek'; did you mean unet_spec"):
        experiments.named("unet_spek")
    with pytest.raises(InputError, match=r"unknown experiment 'zzz'; known: unet_spec, unet, demo, unet_eff"):
        experiments.named("zzz")


def test_a_file_is_an_experiment_too(tmp_path: Path) -> None:
    path = tmp_path / "again.yaml"
    path.write_text("name: again\ntrain: {epochs: 3}\n")
    assert experiments.named(str(path)).name == "again"
    assert experiments.named(str(path)).train.epochs == 3
    with pytest.raises(InputError, match=r"no configuration to read at .*missing.yaml; a run keeps its own in"):
        experiments.named(str(tmp_path / "missing.yaml"))


def test_a_binary_file_is_no_experiment(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match=r"config.yaml"):
        experiments.named(str(path))


def test_an_experiment_that_goes_on_from_a_run_demands_it() -> None:
    student = experiments.named("recipe_lite0_student")
    with pytest.raises(InputError, match=r"goes on from a trained run, which train.init_from and pseudo.teacher must"):
        experiments.require_needs("recipe_lite0_student", student)
    started = config.change(student, {"train.init_from": "tgs-a"})
    with pytest.raises(InputError, match=r"which pseudo.teacher must name: add --set pseudo.teacher=RUN$"):
        experiments.require_needs("recipe_lite0_student", started)
    experiments.require_needs("recipe_lite0_student", config.change(started, {"pseudo.teacher": "tgs-a"}))
    experiments.require_needs("recipe_lite0", experiments.named("recipe_lite0"))
    experiments.require_needs("of_a_file.yaml", student)
    with pytest.raises(InputError, match=r"goes on from a trained run; give an experiment that starts by itself$"):
        ablations.STUDY.with_base("recipe_lite0_student")
