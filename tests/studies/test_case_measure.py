"""What the case study measures of a run: errors by distance by hand, costs by hand, a whole record of a small run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import Trained, checkpoint, make_predictions

from saltseg import config, io, predictions, schemas
from saltseg.config import Config, DataConfig, FCNConfig
from saltseg.data import competition, folds
from saltseg.metrics import average_precision
from saltseg.models import zoo
from saltseg.pipeline.workspace import with_truth
from saltseg.postprocessing import threshold_search
from saltseg.postprocessing.areas import areas
from saltseg.studies.case_study import measure
from saltseg.studies.case_study.variants import STUDY
from saltseg.studies.sweep import Sweep


def test_errors_are_counted_by_their_distance_to_the_true_boundary() -> None:
    true = np.zeros((3, 6, 50), np.uint8)
    true[0, :, 25:] = 1  # columns 0 … 24 lie 25 … 1 pixels outside, 25 … 49 lie 1 … 25 inside
    true[1] = 1  # no boundary: left out
    predicted = true.copy()
    predicted[0, :, 25:27] = 0  # six pixels missed at distance 1, six at 2
    predicted[0, 0, 0:5] = 1  # five invented, 25 … 21 pixels outside: all in the last bin
    predicted[1, 0] = 0
    found = measure.errors_by_distance(predicted, true)
    assert found["distance"] == [*range(-20, 0), *range(1, 21)]
    at = {distance: index for index, distance in enumerate(found["distance"])}
    assert [found["pixels"][at[d]] for d in (-20, -19, -1, 1, 19, 20)] == [36, 6, 6, 6, 6, 36]
    assert sum(found["pixels"]) == 300
    assert {d: e for d, e in zip(found["distance"], found["errors"], strict=True) if e} == {1: 6, 2: 6, -20: 5}


def test_diagonal_distances_are_euclidean_and_rounded_up() -> None:
    true = np.ones((1, 3, 3), np.uint8)
    true[0, 0, 0] = 0
    found = measure.errors_by_distance(1 - true, true)  # every pixel is wrong
    # from the corner: 1, 2 along the edges, √2 → 2, √5 → 3 twice, √8 → 3
    expected = dict.fromkeys(found["distance"], 0) | {-1: 1, 1: 2, 2: 3, 3: 3}
    assert dict(zip(found["distance"], found["errors"], strict=True)) == expected


def test_operations_by_hand() -> None:
    """3x3 convolutions 1 → 2 → 2 and the 1x1 head on 32x32 pixels, two operations for each product and its sum."""
    found = measure.cost(Config(model=FCNConfig(filters=2, dilations=(1, 4)), data=DataConfig(size=32)))
    assert found["operations"] == 2 * 32 * 32 * (9 * 1 * 2 + 9 * 2 * 2 + 2)
    assert found["parameters"] == 9 * 2 + 9 * 4 + 3 * 2 * 2 + 3


def test_networks_that_are_said_to_match_do(tmp_path) -> None:
    of = Sweep(STUDY, "tgs", "cpu", tmp_path, tmp_path)

    def network(name: str):
        return zoo.build(of.settings(name, 0).model, pretrained=False).eval()

    image, unet, narrow = torch.zeros(1, 1, 64, 64), network("base"), zoo.parameters(network("narrow"))
    for kind in ("", "_dilated"):
        costs = measure.operations(network(f"fcn_same_operations{kind}"), image)
        assert costs == pytest.approx(measure.operations(unet, image), rel=0.05)
        assert zoo.parameters(network(f"fcn_same_parameters{kind}")) == pytest.approx(narrow, rel=0.05)


def details(trained: Trained, path) -> dict:
    oof = predictions.collate_folds(trained.run.finished_folds())
    images = with_truth(oof, competition.read_train(trained.workspace.root(trained.run)))
    return measure.details(trained.run, trained.workspace, oof, images, path)


def test_details_agree_with_the_predictions_they_are_about(trained: Trained, tmp_path) -> None:
    for number, fold in enumerate(trained.run.finished_folds()):
        metrics = {"train_pixel_accuracy": 0.5 + number / 10, "train_score_at_half": 1, "valid_pixel_accuracy": 1}
        io.write_json(fold.metrics, io.read_json(fold.metrics) | metrics)
        rows = [{"epoch": 1, "train_loss": 0.5, "valid_loss": "nan", "learning_rate": 0.1}]
        io.write_csv(fold.log, [*rows, {"epoch": 2, "train_loss": 0.4, "valid_loss": number, "learning_rate": 0}])
    broken = predictions.load_predictions(trained.run.fold(1).oof)
    wrong = broken.probabilities.copy()
    wrong[broken.ids == "b1"] = 0  # 20 rows of salt missed
    wrong[broken.ids == "a1"] = 255  # an empty image filled
    predictions.save_predictions(trained.run.fold(1).oof, replace(broken, probabilities=wrong))
    found = details(trained, tmp_path / "add-0.json")
    assert schemas.check(tmp_path, found, schemas.CASE_DETAILS, "") == found
    assert (found["folds"], found["image_folds"], found["ensemble"]) == ([0, 1, 2], "012012012012", None)
    totals, tile = found["totals"], 101 * 101
    assert (totals["n"], totals["images_with_salt"], totals["pixels"]) == (12, 9, 12 * tile)
    assert totals["true_pixels"] == 3 * 101 * (20 + 40 + 101)
    at_half = {key: counts[128] for key, counts in totals["thresholds"].items()}
    lost = 20 * 101
    assert at_half == {
        "intersection": totals["true_pixels"] - lost, "predicted": totals["true_pixels"] - lost + tile,
        "missed": 1, "invented": 1,
    }  # fmt: skip
    assert found["pixel_accuracy"] == pytest.approx(1 - (lost + tile) / (12 * tile))
    assert found["train"]["pixel_accuracy"] == pytest.approx(0.6)
    assert found["curves"][2] == [{"epoch": 2.0, "train_loss": 0.4, "valid_loss": 2.0, "learning_rate": 0.0}]
    assert found["tuned"]["missed"] == 1  # nothing restores what is predicted as 0


def test_tuned_errors_are_those_of_the_masks() -> None:
    rng = np.random.default_rng(0)
    true = (rng.random((12, 9, 9)) < rng.choice([0, 0.3, 0.6], 12)[:, None, None]).astype(np.uint8)
    probabilities = np.clip(rng.normal(90 + 70 * true, 50), 0, 255).astype(np.uint8)
    group = np.arange(12) % 3
    fitted = threshold_search.cross_fit_areas(areas(probabilities, true), group).per_group
    masks = np.concatenate([fitted[name].apply(probabilities[group == name]) for name in fitted])
    true_of = np.concatenate([true[group == name] for name in fitted])
    marked, salt = masks.any(axis=(1, 2)), true_of.any(axis=(1, 2))
    assert measure.tuned_errors(areas(probabilities, true), group) == {
        "intersection": int((masks & true_of).sum()), "predicted": int(masks.sum()),
        "missed": int((salt & ~marked).sum()), "invented": int((~salt & marked).sum()),
    }  # fmt: skip
    assert not salt.all()


def test_the_mean_of_folds_is_scored_on_images_that_trained_none_of_them(trained: Trained) -> None:
    """Folds say 0.1, 0.6 and 0.95 of every pixel: two of three mark all of it, and their mean, 0.55, does, too."""
    for number, probability in enumerate((0.1, 0.6, 0.95)):
        checkpoint(trained, number, probability)
    changes = {"folds.train_images": 2, "train.checkpoint": "last", "train.schedule": "constant"}
    settings = config.change(trained.settings, changes)
    trained.write_settings(settings)
    labeled = competition.read_train(trained.root)
    table = folds.read_table(trained.table, labeled.ids)
    seen = {int(i) for number in range(3) for i in table.split(number, settings.folds)[0]}
    unseen = [i for i in range(12) if i not in seen]
    assert 2 <= len(unseen) < 12
    true = labeled.masks[unseen]
    full, none = (average_precision.average_precision(np.full_like(true, value), true).mean() for value in (1, 0))
    assert full != none

    found = measure.ensemble(trained.run, trained.workspace)
    assert (found["n"], found["trained"], found["folds"]) == (len(unseen), len(seen), [0, 1, 2])
    half, tuned = found["score_at_half"], found["score_tuned_cv"]
    assert half["alone"] == pytest.approx((none + 2 * full) / 3)
    assert half["together"] == pytest.approx(full)
    assert half["gain"] == pytest.approx((full - none) / 3)
    assert half["interval"][0] <= half["gain"] <= half["interval"][1]
    assert found["together"]["thresholds"]["predicted"][128] == len(unseen) * 101**2
    assert found["alone"]["thresholds"]["predicted"][128] == 2 * len(unseen) * 101**2  # of three networks two mark all
    assert (found["alone"]["n"], found["together"]["n"]) == (3 * len(unseen), len(unseen))
    assert tuned["gain"] == pytest.approx(tuned["together"] - tuned["alone"])
    mean = np.full(true.shape, 140, np.uint8)  # of 26, 153 and 242 255ths
    parts = threshold_search.random_parts(len(unseen))
    assert tuned["together"] == threshold_search.cross_fit_areas(areas(mean, true), parts).average_precision.mean()

    trained.write_settings(trained.settings)  # the folds have seen all images between them, and selected their epochs
    assert measure.ensemble(trained.run, trained.workspace) is None


def test_tiles_that_are_shown_are_the_first_by_id_with_some_salt_and_some_rock(trained: Trained) -> None:
    ids = ("c2", "d1", "b2", "a1", "b1")
    sample = make_predictions(ids, lambda id_: np.full((101, 101), int(id_[1]), np.uint8))
    predictions.save_predictions(trained.run.fold(0).train, sample)
    found = measure.tiles(trained.run, trained.workspace)
    assert found["ids"].tolist() == [["b1", "b2"], ["b0", "c0"]]
    # b1 and b2 trained, b0 and c0 validated; the gray value of a tile is ten times its place in TRAIN
    assert found["images"][:, :, 0, 0].tolist() == [[40, 50], [30, 60]]
    assert found["masks"].sum(axis=(2, 3)).tolist() == [[2020, 2020], [2020, 4040]]
    assert found["probabilities"][:, :, 0, 0].tolist() == [[1, 2], [200, 200]]
    assert found["probabilities"][1, :, 30, 0].tolist() == [20, 200]
    assert measure.tiles(trained.run, trained.workspace, each=1)["images"][:, :, 0, 0].tolist() == [[40], [30]]
