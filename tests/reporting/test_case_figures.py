"""The case study's figures: what is drawn is what the records hold."""

import numpy as np
import pytest
from fake_records import entry, read

from saltseg.reporting import case_data_figures, case_diagram, case_pixel_figures, case_training_figures
from saltseg.reporting.case_pixels import boundary_errors, threshold_curve
from saltseg.reporting.style import BLUE, GREEN, VERMILION


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_gap_is_from_validation_to_training(tmp_path) -> None:
    axes = case_training_figures.gap(read(tmp_path, entry()), ["base"]).axes[0]
    found = lines(axes)
    assert found["training images"].tolist() == [[0.7, 0]]
    assert found["validation images"].tolist() == [[0.6, 0]]
    assert [text.get_text() for text in axes.texts] == ["+0.100"]


def test_the_learning_curve_is_in_the_order_of_images(tmp_path) -> None:
    study = read(tmp_path, entry(n_train=800, fitted="6"), entry("images_double", n_train=1600, fitted="7"),
                 entry("images_half", n_train=400, fitted="3"))  # fmt: skip
    axes = case_training_figures.images(study, ["images_double", "images_half", "base"]).axes[0]
    assert lines(axes)["validation, tuned rule"].tolist() == [[400, 0.3], [800, 0.6], [1600, 0.7]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["400", "800", "1,600"]


def test_errors_are_drawn_on_their_side_of_the_boundary(tmp_path) -> None:
    axes = case_pixel_figures.boundary({"base": boundary_errors(read(tmp_path, entry()), "base")}).axes[0]
    expected = [[-10.5, 0.1], [-1.5, 0.2], [-0.5, 0.3], [0.5, 0.4], [1.5, 0.1], [10.5, 0]]
    assert lines(axes)["base"] == pytest.approx(np.array(expected))


def test_marks_of_cheapest_and_of_theory(tmp_path) -> None:
    axes = case_pixel_figures.costs(threshold_curve(read(tmp_path, entry(), entry(seed=1)), "base")).axes[0]
    dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    crosses = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "x"]
    assert dots[3] == pytest.approx([64 / 255, 200])  # missed salt costs 3
    assert crosses[0] == pytest.approx([232 / 255, 40])  # missed salt costs 1/10: nothing is marked at 232


def test_training_is_dashed_and_validation_solid() -> None:
    losses, rates = case_training_figures.training_curves(entry()).axes
    style = {tuple(line.get_ydata()): line.get_linestyle() for line in losses.lines}
    assert style == {(0.4, 0.4): "--", (0.5, 0.5): "-"}
    assert [line.get_xydata().tolist() for line in rates.lines] == [[[2, 0.001], [4, 0.001]]] * 2


def test_examples_are_of_their_kind() -> None:
    assert len(case_data_figures.examples()) == len(case_data_figures.KINDS)
    for tile, (_, low, high) in zip(case_data_figures.examples(), case_data_figures.KINDS, strict=True):
        assert low <= tile.mask.mean() <= high
        assert tile.image.any()


def test_the_diagram_says_the_sizes_of_every_level() -> None:
    texts = {text.get_text() for text in case_diagram.diagram().axes[0].texts}
    assert {"16 × 128 × 128", "32 × 64 × 64", "64 × 32 × 32", "128 × 16 × 16", "256 × 8 × 8"} <= texts
    assert "copy: 128 + 128 channels" in texts


def test_precision_is_drawn_in_the_steps_that_its_area_has(tmp_path) -> None:
    curve = threshold_curve(read(tmp_path, entry()), "base")
    axes = case_pixel_figures.precision_recall({"base": curve}).axes[0]
    line, dot = axes.lines
    assert line.get_drawstyle() == "steps-post"  # recall falls: precision holds from a threshold's recall to the next
    assert dot.get_xydata().tolist() == [[0.5, 1.0]]


def test_marks_say_what_a_network_is_and_what_it_is_compared_with(tmp_path) -> None:
    names = ["base", "narrow", "fcn_same_operations", "fcn_same_parameters_dilated"]
    study = read(tmp_path, *(entry(name, operations=10**k, parameters=k + 1) for k, name in enumerate(names, start=8)))
    figure = case_training_figures.score_by_operations(study, names)
    handles = figure.legends[0].legend_handles
    assert [handle.get_label() for handle in handles] == names
    assert [handle.get_marker() for handle in handles] == ["o", "s", "o", "s"]
    assert [handle.get_color() for handle in handles] == [BLUE, BLUE, VERMILION, GREEN]
    assert [mark.get_offsets().tolist() for mark in figure.axes[0].collections] == [
        [[0.1, 0.5]], [[1, 0.5]], [[10, 0.5]], [[100, 0.5]],
    ]  # fmt: skip


def test_shares_of_pixels_have_whole_decades_however_alike_they_are(tmp_path) -> None:
    figure = case_pixel_figures.calibration({"base": threshold_curve(read(tmp_path, entry()), "base")})
    figure.draw_without_rendering()
    axis = figure.axes[1].yaxis
    low, high = axis.get_view_interval()
    assert [tick.get_text() for tick in axis.get_ticklabels() if low <= tick.get_position()[1] <= high] == [
        "1 %", "10 %", "100 %",
    ]  # fmt: skip
