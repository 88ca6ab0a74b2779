"""What the study records of a variant: errors by distance by hand, costs by hand, a whole record of a small run."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_run import Trained, checkpoint, place, predictions

from saltseg import config, runs, storage, studies
from saltseg.config import Config, DataConfig, ModelConfig
from saltseg.core import metric, thresholds
from saltseg.core.areas import areas
from saltseg.data import competition, folds
from saltseg.inference import study


def test_errors_are_counted_by_their_distance_to_the_true_boundary() -> None:
    true = np.zeros((3, 6, 50), np.uint8)
    true[0, :, 25:] = 1  # columns 0 … 24 lie 25 … 1 pixels outside, 25 … 49 lie 1 … 25 inside
    true[1] = 1  # no boundary: left out
    predicted = true.copy()
    predicted[0, :, 25:27] = 0  # six pixels missed at distance 1, six at 2
    predicted[0, 0, 0:5] = 1  # five invented, 25 … 21 pixels outside: all in the last bin
    predicted[1, 0] = 0
    found = study.errors_by_distance(predicted, true)
    assert found["distance"] == [*range(-20, 0), *range(1, 21)]
    at = {distance: place for place, distance in enumerate(found["distance"])}
    assert [found["pixels"][at[d]] for d in (-20, -19, -1, 1, 19, 20)] == [36, 6, 6, 6, 6, 36]
    assert sum(found["pixels"]) == 300
    assert {d: e for d, e in zip(found["distance"], found["errors"], strict=True) if e} == {1: 6, 2: 6, -20: 5}


def test_diagonal_distances_are_euclidean_and_rounded_up() -> None:
    true = np.ones((1, 3, 3), np.uint8)
    true[0, 0, 0] = 0
    found = study.errors_by_distance(1 - true, true)  # every pixel is wrong
    # from the corner: 1, 2 along the edges, √2 → 2, √5 → 3 twice, √8 → 3
    assert dict(zip(found["distance"], found["errors"], strict=True)) | {} == {
        **dict.fromkeys(found["distance"], 0), -1: 1, 1: 2, 2: 3, 3: 3,
    }  # fmt: skip


def test_operations_by_hand() -> None:
    """3x3 convolutions 1 → 2 → 2 and the 1x1 head on 32x32 pixels, two operations for each product and its sum."""
    settings = Config(model=ModelConfig(architecture="fcn", filters=2, dilations=(1, 4)), data=DataConfig(size=32))
    found = study.cost(settings)
    assert found["operations"] == 2 * 32 * 32 * (9 * 1 * 2 + 9 * 2 * 2 + 2)
    assert found["parameters"] == 9 * 2 + 9 * 4 + 3 * 2 * 2 + 3
    assert found["milliseconds"] > 0


def test_networks_that_are_said_to_match_do() -> None:
    def cost(variant: str) -> dict[str, float]:
        return study.cost(studies.settings(variant, "cpu", 0))

    unet, narrow = cost("base"), cost("narrow")
    assert cost("fcn_same_operations")["operations"] == pytest.approx(unet["operations"], rel=0.05)
    assert cost("fcn_same_operations_dilated")["operations"] == pytest.approx(unet["operations"], rel=0.05)
    assert cost("fcn_same_parameters")["parameters"] == pytest.approx(narrow["parameters"], rel=0.05)
    assert cost("fcn_same_parameters_dilated")["parameters"] == pytest.approx(narrow["parameters"], rel=0.05)


@pytest.mark.parametrize("budget", studies.BUDGETS)
def test_variants_change_one_thing_and_share_the_number_of_steps(budget: str) -> None:
    base = studies.settings("base", budget, 0)
    assert base.train.keep == "last"  # no epoch is chosen on the images that report the score
    shown = base.folds.train_images * base.train.epochs
    for variant in set(studies.VARIANTS) - {studies.PLATEAU}:
        found = studies.settings(variant, budget, 0)
        assert found.folds.train_images * found.train.epochs == shown
        assert (found.folds.seed, found.folds.count, found.data.size) == (
            base.folds.seed, base.folds.count, base.data.size,
        )  # fmt: skip
        sections = {key.split(".")[0] + key.split(".")[1][:5] for key in studies.changes(variant, budget)}
        assert (variant == "base") == (not sections)
        if not variant.startswith(("fcn", "images")):
            assert len(sections) <= 1
    assert config.differences(base, studies.settings("base", budget, 3)) == ["train.seed: 0 → 3"]


def test_the_full_budget_asks_for_no_more_images_than_five_folds_of_the_real_data_leave() -> None:
    for variant in set(studies.VARIANTS) - set(studies.BUDGETS["gpu"].without):
        assert studies.settings(variant, "gpu", 0).folds.train_images <= 2400
    assert studies.settings("images_double", "gpu", 0).folds.train_images == 4800


def test_questions_name_variants_and_forget_none() -> None:
    asked = {variant for variants in studies.QUESTIONS.values() for variant in variants}
    assert asked == set(studies.VARIANTS) - {studies.PLATEAU}


def test_one_variant_alone_is_trained_as_the_case_study_did() -> None:
    found, case_study = studies.settings(studies.PLATEAU, "cpu", 0), Config()
    same = ("schedule", "keep", "epochs", "validate_every", "plateau_factor", "plateau_patience", "stop_patience")
    assert all(getattr(found.train, name) == getattr(case_study.train, name) for name in same)
    assert {key.split(".")[0] for key in studies.changes(studies.PLATEAU, "cpu")} == {"train"}
    kept = {name: studies.settings(name, "cpu", 0).train.keep for name in studies.VARIANTS}
    assert [name for name, keep in kept.items() if keep == "best"] == [studies.PLATEAU]


def test_a_record_agrees_with_the_predictions_it_is_about(trained: Trained) -> None:
    for number, fold in enumerate(trained.run.finished_folds()):
        figures = {"n_train": 8, "images_per_second": 1, "peak_memory_mb": 7, "git_commit": "abc"}
        figures |= {"train_pixel_accuracy": 0.5 + number / 10, "train_score_at_half": 1, "valid_pixel_accuracy": 1}
        storage.write_json(fold.metrics, storage.read_json(fold.metrics) | figures)
        rows = [{"epoch": 1, "train_loss": 0.5, "valid_loss": "nan", "learning_rate": 0.1}]
        storage.write_csv(fold.log, [*rows, {"epoch": 2, "train_loss": 0.4, "valid_loss": number, "learning_rate": 0}])
    storage.write_json(trained.run.provenance, trained.run.read_provenance() | {"command": "x", "machine": "y"})
    broken = runs.load_predictions(trained.run.fold(1).oof)
    wrong = broken.probabilities.copy()
    wrong[broken.ids == "b1"] = 0  # 20 rows of salt missed
    wrong[broken.ids == "a1", 3, 7] = 128  # a pixel invented
    runs.save_predictions(trained.run.fold(1).oof, runs.Predictions(broken.ids, wrong))

    entry = study.record(trained.run, place(trained), "no_skips", "tiny", 3)
    pixels = 12 * 101 * 101
    assert entry["pixel_accuracy"] == pytest.approx(1 - (20 * 101 + 1) / pixels)
    assert entry["at_half"] == pytest.approx(10 / 12)
    salt = 3 * 101 * (20 + 40 + 101)
    assert (entry["true_pixels"], entry["pixels"], entry["images_with_salt"]) == (salt, pixels, 9)
    thresholds = entry["thresholds"]
    assert [thresholds["predicted"][t] for t in (0, 128, 129, 255)] == [pixels, salt - 2019, salt - 2020, 0]
    assert [thresholds["intersection"][t] for t in (0, 128, 255)] == [salt, salt - 2020, 0]
    assert [thresholds["missed"][t] for t in (0, 128, 255)] == [0, 1, 9]
    assert [thresholds["invented"][t] for t in (0, 20, 21, 128, 129)] == [3, 3, 1, 1, 0]
    assert sum(entry["boundary"]["errors"]) == 20 * 101
    assert entry["tuned"] == {"intersection": salt - 2020, "predicted": salt - 2020, "missed": 1, "invented": 0}
    assert entry["curves"][1] == [{"epoch": 2, "train_loss": 0.4, "valid_loss": 1, "learning_rate": 0}]
    assert entry["train"] == {"pixel_accuracy": pytest.approx(0.6), "score_at_half": 1}
    assert (entry["variant"], entry["budget"], entry["seed"], entry["folds"]) == ("no_skips", "tiny", 3, [0, 1, 2])
    assert entry["changes"] == ["model.skip: concat → none"]


def test_errors_under_the_rule_of_the_other_groups_are_those_of_its_masks() -> None:
    rng = np.random.default_rng(0)
    true = (rng.random((12, 9, 9)) < rng.choice([0, 0.3, 0.6], 12)[:, None, None]).astype(np.uint8)
    probabilities = np.clip(rng.normal(90 + 70 * true, 50), 0, 255).astype(np.uint8)
    group = np.arange(12) % 3
    rules = thresholds.cross_fit(probabilities, true, group).rules
    masks = np.concatenate([rules[name].apply(probabilities[group == name]) for name in rules])
    true_of = np.concatenate([true[group == name] for name in rules])
    marked, salt = masks.any(axis=(1, 2)), true_of.any(axis=(1, 2))
    assert study.tuned(areas(probabilities, true), group) == {
        "intersection": int((masks & true_of).sum()), "predicted": int(masks.sum()),
        "missed": int((salt & ~marked).sum()), "invented": int((~salt & marked).sum()),
    }  # fmt: skip
    assert not salt.all()


def test_tiles_that_are_shown_are_the_first_by_id_with_some_salt_and_some_rock(trained: Trained) -> None:
    ids = ("c2", "d1", "b2", "a1", "b1")
    said = predictions(ids, lambda id_: np.full((101, 101), int(id_[1]), np.uint8))
    runs.save_predictions(trained.run.fold(0).train, said)
    found = study.tiles(trained.run, place(trained))
    assert {name: values.shape for name, values in found.items()} == {
        **dict.fromkeys(("images", "masks", "probabilities"), (2, 2, 101, 101)), "ids": (2, 2), "git_commit": (),
    }  # fmt: skip
    assert found["ids"].tolist() == [["b1", "b2"], ["b0", "c0"]]
    # b1 and b2 trained, b0 and c0 validated; the grey value of a tile is ten times its place in TRAIN
    assert found["images"][:, :, 0, 0].tolist() == [[40, 50], [30, 60]]
    assert found["masks"].sum(axis=(2, 3)).tolist() == [[2020, 2020], [2020, 4040]]
    assert found["probabilities"][:, :, 0, 0].tolist() == [[1, 2], [200, 200]]
    assert found["probabilities"][1, :, 30, 0].tolist() == [20, 200]
    assert study.tiles(trained.run, place(trained), each=1)["images"][:, :, 0, 0].tolist() == [[40], [30]]


def test_folds_are_averaged_on_the_images_that_trained_none_of_them(trained: Trained) -> None:
    """Folds say 0.1, 0.6 and 0.95 of every pixel: two of three mark all of it, and their mean, 0.55, does, too."""
    for number, probability in enumerate((0.1, 0.6, 0.95)):
        checkpoint(trained, number, probability)
    settings = replace(trained.settings, folds=replace(trained.settings.folds, train_images=2))
    settings = replace(settings, train=replace(settings.train, keep="last", schedule="constant"))
    trained.write_settings(settings)
    labelled = competition.read_train(trained.root)
    table = folds.read_table(trained.table, labelled.ids)
    seen = {int(i) for number in range(3) for i in table.split(number, settings.folds)[0]}
    unseen = [i for i in range(12) if i not in seen]
    assert 2 <= len(unseen) < 12
    full = metric.average_precision(np.ones((len(unseen), 101, 101)), labelled.masks[unseen])
    none = metric.average_precision(np.zeros((len(unseen), 101, 101)), labelled.masks[unseen])
    assert full.mean() != none.mean()

    found = study.ensemble(trained.run, place(trained))
    assert found is not None
    assert (found["n"], found["folds"]) == (len(unseen), [0, 1, 2])
    assert found["at_half"]["alone"] == pytest.approx((none.mean() + 2 * full.mean()) / 3)
    assert found["at_half"]["together"] == pytest.approx(full.mean())
    assert found["at_half"]["gain"] == pytest.approx((full.mean() - none.mean()) / 3)
    low, high = found["at_half"]["interval"]
    assert low <= found["at_half"]["gain"] <= high
    assert found["together"]["thresholds"]["predicted"][128] == len(unseen) * 101**2
    assert found["alone"]["thresholds"]["predicted"][128] == 2 * len(unseen) * 101**2  # of three networks two mark all
    assert (found["alone"]["n"], found["together"]["n"]) == (3 * len(unseen), len(unseen))
    tuned = found["cross_fitted"]
    assert tuned["gain"] == pytest.approx(tuned["together"] - tuned["alone"])
    mean = np.full((len(unseen), 101, 101), 140, np.uint8)  # of 26, 153 and 242 255ths
    parts = thresholds.random_parts(len(unseen))
    assert tuned["together"] == thresholds.cross_fit(mean, labelled.masks[unseen], parts).score

    trained.write_settings(trained.settings)  # the folds have seen all images between them, and chose their epochs
    assert study.ensemble(trained.run, place(trained)) is None
