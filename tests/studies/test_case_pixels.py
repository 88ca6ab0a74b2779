"""What the records say about pixels, by hand: thresholds, costs, calibration, errors by distance (see `details`)."""

import numpy as np
import pytest
from study_records import case_record, case_sweep, details, steps

from saltseg.studies.case_study import pixels
from saltseg.studies.case_study.pixels import boundary_errors, calibrated, calibration, errors_when_tuned


def record(tmp_path, **changed):
    return case_record(case_sweep(tmp_path), changed=changed)


@pytest.fixture
def curve(tmp_path):
    return pixels.curve_of([record(tmp_path)] * 2)  # two seeds alike: the ratios of one


def test_precision_and_recall(curve) -> None:
    assert curve.precision[[0, 50, 150]] == pytest.approx([0.4, 40 / 60, 1])
    assert np.isnan(curve.precision[201])  # nothing is marked
    assert curve.recall[[0, 50, 150, 201]] == pytest.approx([1, 1, 0.5, 0])
    assert curve.missed_share[[50, 150, 255]] == pytest.approx([0, 0.25, 1])  # of 4 images with salt
    assert curve.invented_share[[0, 100, 101]] == pytest.approx([1, 0.5, 0])  # of 6 without
    assert (curve.pixels, curve.true_pixels) == (200, 80)
    assert curve.area == pytest.approx(0.5 * 40 / 60 + 0.5 * 1)


def test_errors_of_one_decision(curve, tmp_path) -> None:
    assert curve.errors(50) == pytest.approx([40 / 60, 1, 0, 0.5])
    assert curve.errors(150) == pytest.approx([1, 0.5, 0.25, 0])
    # 16 of 20 marked pixels are among the 40 of salt
    assert errors_when_tuned([record(tmp_path)] * 2) == pytest.approx([16 / 20, 16 / 40, 2 / 4, 0 / 6])


def test_precision_at_a_recall_between_two_thresholds_interpolates_counts(curve) -> None:
    assert curve.precision_at(1.0) == pytest.approx(40 / 60)
    assert curve.precision_at(0.5) == pytest.approx(1)
    # 30 of 40: the 20 above 100/255 and half of the 40 at it, of which half are salt; 0.83 between the precisions
    assert curve.precision_at(0.75) == pytest.approx(30 / 40)
    assert curve.precision_at(0.25) == pytest.approx(1)
    assert np.isnan(curve.precision_at(0.0))


def test_costs_and_the_cheapest_threshold(curve) -> None:
    # at 50: 20 of 100 pixels invented; at 150: 20 missed; at 0: 60 invented
    assert curve.cost(3.0)[[0, 50, 150]] == pytest.approx([600, 200, 600])
    assert curve.cost(0.1)[[50, 150, 201]] == pytest.approx([200, 20, 40])
    assert curve.cheapest(3.0) == 64  # all of 1 … 100 cost the same; 255 / 4 = 63.75
    assert [calibrated(ratio) for ratio in (0.1, 1.0, 3.0)] == [232, 128, 64]
    assert curve.cheapest(0.1) == 200  # all of 101 … 200; 255 / 1.1 = 231.8


def test_calibration(curve, tmp_path) -> None:
    found = calibration(curve)
    assert found.pixels.tolist() == [80, 0, 0, 80, 0, 0, 0, 40, 0, 0]
    assert found.predicted[[0, 3, 7]] == pytest.approx([0, 100 / 255, 200 / 255])
    assert found.salt[[0, 3, 7]] == pytest.approx([0, 0.5, 1])
    assert np.isnan(found.salt[1])
    assert found.error == pytest.approx(0.4 * (0.5 - 100 / 255) + 0.2 * (1 - 200 / 255))
    assert found.mean == pytest.approx(0.4 * 100 / 255 + 0.2 * 200 / 255)
    # bins begin at whole tenths: a pixel at 25, 26, 229, 230 and 255 of 255: 0.098, 0.102, 0.898, 0.902 and 1
    ends = steps((25, 5), (26, 4), (229, 3), (230, 2), (255, 1))
    thresholds = details()["totals"]["thresholds"] | {"predicted": ends, "intersection": steps((255, 1))}
    totals = details()["totals"] | {"thresholds": thresholds}
    assert calibration(pixels.pooled([totals])).pixels.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 2]


def test_errors_near_and_far_from_the_boundary(tmp_path) -> None:
    found = boundary_errors([record(tmp_path)] * 2)
    assert found.rate == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.1, 0])
    assert (found.near, found.far, found.far_of_all) == pytest.approx((10 / 40, 10 / 160, 10 / 20))


def test_a_share_of_nothing_is_not_defined(tmp_path) -> None:
    nowhere = details()["boundary"] | {"pixels": [0, 0, 10, 10, 0, 0], "errors": [0] * 6}
    totals = details()["totals"] | {"true_pixels": 0, "images_with_salt": 0}
    without = record(tmp_path, boundary=nowhere, totals=totals)
    found, curve = boundary_errors([without]), pixels.curve_of([without])
    assert np.isnan([found.rate[0], found.far, found.far_of_all]).all()
    assert found.near == 0
    assert np.isnan([*curve.recall, *curve.missed_share, curve.area]).all()
