"""The case study's figures: what is drawn is what the records hold; early stops and falling rates in its logs."""

import numpy as np
import pytest
from study_records import case, case_record, case_sweep

from saltseg.reporting.style import BLUE, GREEN, VERMILION
from saltseg.studies.case_study import pixels, training
from saltseg.studies.case_study.training import descents, stops


@pytest.fixture
def record(tmp_path):
    """Makes a record of base with other details."""
    return lambda **changed: case_record(case_sweep(tmp_path), changed=changed)


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_where_patience_would_have_ended_a_training(record) -> None:
    losses = {2: 0.5, 4: 0.4, 6: 0.45, 8: 0.41, 10: 0.39, 12: 0.6}
    rows = [{"epoch": float(epoch), "valid_loss": loss} for epoch, loss in losses.items()]
    made = record(folds=[3], curves=[rows])
    assert stops(made, patience=4) == [(3, 10, 0.39, 0.6, 8, 4, 0.4)]
    assert stops(made, patience=6) == [(3, 10, 0.39, 0.6, 12, 10, 0.39)]


def test_where_a_plateau_lowered_the_rate_and_what_was_kept(record) -> None:
    def rows(*pairs):
        every = enumerate(pairs, start=1)
        return [{"epoch": float(epoch), "train_loss": 0.1, "valid_loss": loss, "learning_rate": rate}
                for epoch, (loss, rate) in every]  # fmt: skip

    first = rows((0.5, 1e-3), (0.4, 1e-3), (0.6, 1e-3), (0.3, 1.0000001e-4), (0.35, 1e-4), (0.36, 1e-5))
    found = descents(record(folds=[2, 4], curves=[first, rows((0.5, 1e-3), (0.4, 1e-3))]))
    assert found == [(2, [(4, 1.0000001e-4), (6, 1e-5)], 4, 6), (4, [], 2, 2)]


def test_the_gap_is_from_validation_to_training(tmp_path) -> None:
    axes = training.gap_figure(case(tmp_path, "base"), ["base"]).axes[0]
    assert lines(axes)["training images"].tolist() == [[0.7, 0]]
    assert lines(axes)["validation images"].tolist() == [[0.6, 0]]
    assert [text.get_text() for text in axes.texts] == ["+0.100"]


def test_the_learning_curve_is_in_the_order_of_images(tmp_path) -> None:
    made = (("base", 800, "6"), ("images_double", 1600, "7"), ("images_half", 400, "3"))
    study = case(tmp_path, *({"variant": name, "n_train": count, "tuned": tuned} for name, count, tuned in made))
    axes = training.images_figure(study, ["images_double", "images_half", "base"]).axes[0]
    assert lines(axes)["validation, tuned"].tolist() == [[400, 0.3], [800, 0.6], [1600, 0.7]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["400", "800", "1,600"]


def test_marks_say_what_a_network_is_and_what_it_is_compared_with(tmp_path) -> None:
    names = ["base", "narrow", "fcn_same_operations", "fcn_same_parameters_dilated"]
    costs = [{"operations": 10**k, "parameters": k + 1} for k in range(8, 12)]
    study = case(tmp_path, *({"variant": name, "changed": cost} for name, cost in zip(names, costs, strict=True)))
    figure = training.operations_figure(study, names)
    handles = figure.legends[0].legend_handles
    assert [handle.get_label() for handle in handles] == names
    assert [handle.get_marker() for handle in handles] == ["o", "s", "o", "s"]
    assert [handle.get_color() for handle in handles] == [BLUE, BLUE, VERMILION, GREEN]
    assert [mark.get_offsets().tolist() for mark in figure.axes[0].collections] == [
        [[10**k, 0.5]] for k in range(-1, 3)
    ]


def test_errors_are_drawn_on_their_side_of_the_boundary(record) -> None:
    axes = pixels.boundary_figure({"base": pixels.boundary_errors([record()])}).axes[0]
    expected = [[-10.5, 0.1], [-1.5, 0.2], [-0.5, 0.3], [0.5, 0.4], [1.5, 0.1], [10.5, 0]]
    assert lines(axes)["base"] == pytest.approx(np.array(expected))


def test_marks_of_cheapest_and_of_theory(record) -> None:
    axes = pixels.costs_figure(pixels.curve_of([record()])).axes[0]
    dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    crosses = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "x"]
    assert dots[3] == pytest.approx([64 / 255, 200])  # missed salt costs 3
    assert crosses[0] == pytest.approx([232 / 255, 40])  # missed salt costs 1/10: nothing is marked at 232


def test_precision_is_drawn_in_the_steps_that_its_area_has(record) -> None:
    line, dot = pixels.precision_recall_figure({"base": pixels.curve_of([record()])}).axes[0].lines
    assert line.get_drawstyle() == "steps-post"  # recall falls: precision holds from a threshold's recall to the next
    assert dot.get_xydata().tolist() == [[0.5, 1.0]]


def test_shares_of_pixels_have_whole_decades_however_alike_they_are(record) -> None:
    figure = pixels.calibration_figure({"base": pixels.curve_of([record()])})
    figure.draw_without_rendering()
    axis = figure.axes[1].yaxis
    low, high = axis.get_view_interval()
    shown = [tick.get_text() for tick in axis.get_ticklabels() if low <= tick.get_position()[1] <= high]
    assert shown == ["1 %", "10 %", "100 %"]
