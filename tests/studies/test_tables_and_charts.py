"""The table of a study and its charts: order, signs, colors, what is left out."""

import cv2
import numpy as np
import pytest
from matplotlib.colors import same_color
from study_records import record, sweep, write

from saltseg.reporting.style import BLUE, GREEN, MUTED, VERMILION
from saltseg.studies import benchmark, charts, label_efficiency, records, results, tables


@pytest.fixture
def drawn(monkeypatch):
    """Charts as matplotlib's figures instead of PNG bytes."""
    monkeypatch.setattr(charts, "png", lambda figure: figure)


def compared(of, *made):
    return results.compare_all(of, results.read(write(of, *made)))


def table(of, *made, noise=None, costs=None):
    return tables.markdown(of, compared(of, *made), noise, costs).splitlines()


def test_the_table_has_signed_gains_and_what_was_measured(tmp_path) -> None:
    of = sweep(tmp_path)
    costs = {"base": {"time": 1.0, "mb": 999, "images_per_second": 40.0}, "focal": {"time": 1.5, "mb": 1234}}
    made = [record(of), record(of, "focal", tuned="4")]
    header, _, base, focal, _, notes = table(of, *made, noise=0.01, costs=costs)
    names = "variant|what|tuned|gain [95 %]|post-processed [95 %]|gain [95 %]|at 0.5|log-loss|epoch|MiB|minutes"
    assert header == f"| {names.replace('|', ' | ')} |"
    assert base == "| `base` |  | 0.5000 |  | 0.5000 [0.5000, 0.5000] |  | 0.5000 | 0.2500 | 20 s (1.00) | 999 | 2 |"
    assert focal.startswith("| `focal` | `train.loss=focal` | 0.4000 | -0.1000 [-0.1000, -0.1000] | 0.4000 [0.4000, ")
    assert focal.endswith("| 30 s (1.50) | 1,234 | 2 |")  # 800 images, forty a second
    assert "standard deviation of 0.0100. That of the difference of two unrelated trainings is 0.0141." in notes
    several = table(of, record(of, seed=1, tuned="7"), record(of, "focal", 1, tuned="6"))
    assert "| 0.5000 0.7000 |" in several[2]
    assert "| -0.1000 -0.1000 |" in several[3]
    assert "That of a gain with the same seed on both sides is 0.0000 (1 variants)." in several[-1]


def test_a_chain_names_its_references_and_what_has_to_be_known_about_it(tmp_path) -> None:
    of = sweep(tmp_path, benchmark.STUDY)
    made = [record(of, "baseline"), record(of, "recipe", tuned="6"), record(of, "longer", tuned="7", transduction=True)]
    lines = table(of, *made)
    assert "| `longer` | the recipe for twice the epochs, so with a student's number of steps |" in lines[4]
    assert "| `recipe` |" in lines[4]
    assert "standard deviation of 0.007 (with 1,200 labels" in lines[-1]
    assert lines[-1].endswith("Test images, without their labels, helped to train `longer` (transduction).")
    gpu = sweep(tmp_path, benchmark.STUDY, "gpu")
    assert "was not measured" in table(gpu, record(gpu, "recipe"))[-1]
    assert "Fewer labels" not in lines[-1]
    labels = sweep(tmp_path, label_efficiency.STUDY)
    assert "Fewer labels are a part of more" in table(labels, record(labels, "random_100"))[-1]


def chart(of, *made, noise=None):
    return charts.gains(compared(of, *made), noise).axes[0]


def dots(axes):
    return [line for line in axes.lines if line.get_marker() == "o"]


def test_a_dot_per_gain_from_the_top_with_its_interval_and_color(tmp_path, drawn) -> None:
    of = sweep(tmp_path)
    made = [record(of), record(of, "swa", tuned="5555555556"), record(of, "dice", tuned="6555555545")]
    axes = chart(of, *made, record(of, "focal", tuned="4555555545"), noise=0.0075)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["swa", "dice", "focal"]
    assert np.array([dot.get_xydata()[0] for dot in dots(axes)]) == pytest.approx(
        np.array([[0.01, 0], [0, 1], [-0.02, 2]])
    )
    low, high = axes.get_ylim()
    assert low > high  # the first on top
    for dot, color in zip(dots(axes), (MUTED, MUTED, MUTED), strict=True):
        assert same_color(dot.get_color(), color)  # with zero in the interval
    (band,) = axes.patches  # two trainings of 0.0075: their difference has sqrt(2) times as much
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.0106066, 0.0106066))
    assert axes.get_title(loc="left").startswith("base 0.500 · 10 images\nband: ±0.011")


def test_certain_gains_are_green_and_red_large_ones_numbers_and_seeds_ticks(tmp_path, drawn) -> None:
    of = sweep(tmp_path)
    tuned = "5" * 38 + "66"
    made = [record(of, seed=seed, tuned="5" * 40) for seed in (0, 1)]
    made += [record(of, "swa", seed, tuned="6" * 10 + "5" * 30) for seed in (0, 1)]
    made += [
        record(of, "dice", tuned="4" * 10 + "5" * 30),
        record(of, "focal", tuned="9" * 40),
        record(of, "sgd", tuned=tuned),
    ]
    axes = chart(of, *made)
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [("+0.400", (0.04, 0))]
    assert [
        same_color(dot.get_color(), color) for dot, color in zip(dots(axes), (GREEN, MUTED, VERMILION), strict=True)
    ] == [True] * 3
    ticks = [line for line in axes.lines if line.get_marker() == "|"]
    assert [list(tick.get_xdata()) for tick in ticks] == [pytest.approx([0.025, 0.025])]
    hollow = [line for line in axes.lines if line.get_marker() == "D"]
    assert (len(hollow), hollow[0].get_markerfacecolor()) == (3, "none")
    assert axes.get_xlabel().endswith("hollow: post-processed")


def test_without_gains_there_is_still_a_picture_and_a_chain_names_its_references(tmp_path, drawn) -> None:
    of = sweep(tmp_path)
    assert dots(chart(of, record(of))) == []
    chain = sweep(tmp_path, benchmark.STUDY)
    axes = chart(
        chain, record(chain, "baseline", tuned="2"), record(chain, "recipe", tuned="8"), record(chain, "longer")
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["recipe over baseline", "longer over recipe"]


def test_the_chart_of_labels_has_a_line_per_kind_of_weights(tmp_path, drawn) -> None:
    of = sweep(tmp_path, label_efficiency.STUDY)
    names = {"random_100": 100, "random_300": 300, "random_longer_100": 100, "imagenet_300": 300}
    made = [record(of, name, tuned=str(place + 1), n_train=count) for place, (name, count) in enumerate(names.items())]
    figure = charts.labels(of.study, compared(of, *made))
    axes = figure.axes[0]
    lines = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "300"]
    assert list(lines) == ["random weights", "random weights, as many steps as with pretraining", "ImageNet weights"]
    random, longer, _ = lines.values()
    assert random.get_ydata() == pytest.approx([0.1, 0.2])
    assert (random.get_linestyle(), longer.get_linestyle()) == ("-", "--")
    assert random.get_color() == longer.get_color() == BLUE


def test_the_file_is_as_large_as_said_and_all_text_fits(tmp_path, monkeypatch) -> None:
    """5.4 inches by 1 inch and 0.27 per gain, at 200 dots."""
    kept, draw = [], charts.png
    monkeypatch.setattr(charts, "png", lambda figure: kept.append(figure) or draw(figure))
    of = sweep(tmp_path)
    longest = max(of.study.variants, key=len)
    found = compared(of, record(of), record(of, longest, tuned="5555555556"), record(of, "focal", tuned="4"))
    picture = cv2.imdecode(np.frombuffer(charts.gains(found, 0.0075), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (308, 1080, 3)
    axes = kept[0].axes[0]
    for text in (axes._left_title, axes.xaxis.label, *axes.get_yticklabels()):  # matplotlib has no other way to it
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.x1 <= 1080, text


def test_the_main_score_is_the_tuned_one_where_all_have_it(tmp_path) -> None:
    of = sweep(tmp_path)
    assert records.KINDS == ("score_at_half", "score_tuned_cv", "score_postprocessed_cv")
    assert {result.main for result in compared(of, record(of), record(of, "focal"))} == {"score_tuned_cv"}
