"""Charts: the numbers they are drawn from, and what is drawn where."""

import cv2
import fake_run
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.reporting import plots


def lines(axes):
    """Label -> line."""
    return {line.get_label(): line for line in axes.lines}


@pytest.fixture
def drawn(monkeypatch):
    """Charts as matplotlib figures instead of PNG bytes."""
    monkeypatch.setattr(plots, "png", lambda figure: figure)


def test_pixel_curve_by_hand(fake):
    precision, recall = plots.pixel_curve(fake.probabilities, fake.labeled.masks)
    # Rows of salt: true 6 x 40, predicted 40 + 38 + 34 + 30 + 24 + 20 right and 5 wrong.
    assert precision[128] == pytest.approx(186 / 191)
    assert recall[128] == pytest.approx(186 / 240)
    assert (precision[201], recall[201]) == (1, 0)  # nothing predicted
    assert (precision[20], recall[20]) == (pytest.approx(240 / 808), 1)  # everything predicted


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 77, 127, 128, 200, 255])),
    arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 1)),
)
def test_pixel_curve_against_counting(probabilities, true):
    precision, recall = plots.pixel_curve(probabilities, true)
    for threshold in (0, 1, 77, 78, 128, 129, 255):
        predicted = probabilities >= threshold
        hits = np.sum(predicted & (true == 1))
        assert precision[threshold] == (hits / predicted.sum() if predicted.any() else 1)
        if true.any():
            assert recall[threshold] == hits / true.sum()
        else:
            assert np.isnan(recall[threshold])


def test_precision_recall_marks_the_post_processing_off_the_curve(fake, drawn):
    postprocessing = Postprocessing(128, 6 * 101)  # empties the tile of five wrong rows and nothing else
    chart = plots.precision_recall(fake.probabilities, fake.labeled.masks, postprocessing.apply(fake.probabilities))
    marks = {label.split(":")[0]: line.get_xydata()[0] for label, line in lines(chart.axes[0]).items()}
    assert marks["threshold 0.5"] == pytest.approx([186 / 240, 186 / 191])
    assert marks["post-processing"] == pytest.approx([186 / 240, 1])


def test_learning_curves_show_the_best_epoch_and_the_drop_of_the_rate(drawn):
    chart = plots.learning_curves({0: fake_run.log_rows(), 1: fake_run.log_rows(0.05)})
    losses, rates = chart.axes
    dots = [tuple(line.get_xydata()[0]) for line in losses.lines if line.get_marker() == "o"]
    assert dots == [(3, 0.4), (3, pytest.approx(0.45))]
    assert [rates.lines[0].get_ydata().tolist(), rates.get_yscale()] == [[1e-3, 1e-3, 1e-3, 1e-4], "log"]
    texts = [text.get_text() for text in losses.figure.legends[0].get_texts()]
    assert texts[-2:] == ["fold 0", "fold 1"]


def test_learning_curves_read_text_and_skip_a_loss_that_is_not_a_number(drawn):
    rows = [{key: str(value) for key, value in row.items()} for row in fake_run.log_rows()]
    rows[0]["valid_loss"] = "nan"
    chart = plots.learning_curves({4: rows[:2]})
    dots = [tuple(line.get_xydata()[0]) for line in chart.axes[0].lines if line.get_marker() == "o"]
    assert dots == [(2, 0.45)]


def summary(**changes):
    """What postprocess.json holds of the curve: a peak at 0.6."""
    threshold = np.arange(1, 256)
    score = 0.8 - np.abs(threshold - 153) / 255
    content = {
        "score_at_half": 0.69,
        "argmax": {"score": 0.805, "postprocessing": {"threshold": 150, "min_area": 9}},
        "smoothed_argmax": {"score": 0.8, "postprocessing": {"threshold": 153, "min_area": 30}},
        "curve": {
            "threshold": threshold.tolist(),
            "score": score.tolist(),
            "score_no_min_area": (score - 0.01).tolist(),
        },
    }
    return content | changes


def test_threshold_curve_marks_three_thresholds_and_keeps_them_in_view(drawn):
    axes = plots.threshold_curve(summary()).axes[0]
    marks = {label.split(" ")[0].rstrip(":"): line.get_xydata() for label, line in lines(axes).items()}
    assert marks["0.5"][0] == pytest.approx([128 / 255, 0.69])
    assert marks["argmax"][0] == pytest.approx([150 / 255, 0.805])
    assert marks["smoothed"][0] == pytest.approx([0.6, 0.8])
    assert "minimum area 30 px" in lines(axes)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 128 / 255 < 0.6 < right
    assert low < 0.69 < 0.805 < high
    assert right - left < 0.3  # the rest of the axis holds nothing to choose from


def test_without_minimum_area_there_is_one_curve(drawn):
    best = {"score": 0.8, "postprocessing": {"threshold": 153, "min_area": 0}}
    axes = plots.threshold_curve(summary(smoothed_argmax=best)).axes[0]
    curves = [name for name, line in lines(axes).items() if len(line.get_xdata()) > 1]
    assert curves == ["no minimum area"]


def test_coverage_bars_stand_where_their_class_is(drawn):
    rows = [{"coverage_class": 0, "n": 3, "score": 1.0}, {"coverage_class": 4, "n": 1, "score": 0.2}]
    axes = plots.coverage_bars(rows).axes[0]
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
    assert bars == [(0, 1.0), (4, 0.2)]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert (names[0], names[4], names[10]) == ("none\n3", "≤40\n1", "≤100\n0")
    assert axes.lines[0].get_ydata()[0] == pytest.approx(0.8)  # (3 x 1 + 0.2) / 4


def test_score_intervals_puts_the_first_on_top(drawn):
    axes = plots.score_intervals([("one", 0.8, (0.7, 0.9)), ("two", 0.6, (0.5, 0.7))]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    low, high = axes.get_ylim()
    assert low > high  # axis upside down: index 0 on top
    assert axes.lines[0].get_xdata().tolist() == [0.7, 0.9]


def test_every_chart_is_a_png_that_is_the_same_twice(fake):
    postprocess = summary()
    for draw in (
        lambda: plots.learning_curves({0: fake_run.log_rows()}),
        lambda: plots.threshold_curve(postprocess),
        lambda: plots.precision_recall(
            fake.probabilities, fake.labeled.masks, THRESHOLD_HALF.apply(fake.probabilities)
        ),
        lambda: plots.coverage_bars([{"coverage_class": 0, "n": 3, "score": 1.0}]),
    ):
        first = draw()
        picture = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[1] == 1080  # 5.4 inches at 200 dots
        assert picture.std() > 5
        assert draw() == first
