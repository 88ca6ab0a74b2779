"""The picture of what levers gained: order, colours, intervals, the band of noise, and the size of the file."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from matplotlib.colors import same_color

from saltseg import experiments
from saltseg.inference.levers import Worth
from saltseg.reporting import gains
from saltseg.reporting.style import GREEN, MUTED, VERMILION


def worth(lever, gain=None, by_seed=(0.7351,)):
    """A lever with this (gain, low, high), cross-fitted; the picture shows nothing else of it."""
    unused = {field.name: None for field in fields(Worth)}
    known = {"lever": lever, "by_seed": by_seed, "n": 1800, "cross_fitted": 0.7351, "gain_cross_fitted": gain}
    return Worth(**(unused | known))


BASE = worth("base")
FOUND = [
    BASE,
    worth("better", (0.02, 0.01, 0.03), (0.015, 0.025)),
    worth("unsure", (0.001, -0.004, 0.006), (0.001,)),
    worth("doubtful", (-0.002, -0.006, 0.002), (-0.002,)),
    worth("worse", (-0.01, -0.015, -0.005), (-0.01,)),
]
LONGEST = replace(
    worth(max(experiments.LEVERS, key=len), (-0.02, -0.03, -0.01), (-0.02,)), gain_whole_rule=(0.01, 0.0, 0.02)
)


@pytest.fixture
def drawn(monkeypatch):
    """The chart as matplotlib's figure instead of PNG bytes."""
    monkeypatch.setattr(gains, "png", lambda figure: figure)


def dots(axes):
    return [line for line in axes.lines if line.get_marker() == "o"]


def test_a_dot_per_lever_in_order_from_the_top(drawn):
    axes = gains.chart(FOUND).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "unsure", "doubtful", "worse"]
    assert [tuple(dot.get_xydata()[0]) for dot in dots(axes)] == [(0.02, 0), (0.001, 1), (-0.002, 2), (-0.01, 3)]
    low, high = axes.get_ylim()
    assert low > high  # axis upside down: place 0 on top


def test_green_and_red_only_where_the_interval_leaves_zero_out(drawn):
    axes = gains.chart(FOUND).axes[0]
    bars = [line for line in axes.lines if line.get_linewidth() == 3]
    ends = [(0.01, 0.03), (-0.004, 0.006), (-0.006, 0.002), (-0.015, -0.005)]
    assert [tuple(bar.get_xdata()) for bar in bars] == ends
    for dot, bar, colour in zip(dots(axes), bars, (GREEN, MUTED, MUTED, VERMILION), strict=True):
        assert same_color(dot.get_color(), colour)
        assert same_color(bar.get_color(), colour)


def test_single_seeds_are_ticks_where_there_are_several(drawn):
    ticks = [line for line in gains.chart(FOUND).axes[0].lines if line.get_marker() == "|"]
    assert [(list(tick.get_xdata()), list(tick.get_ydata())) for tick in ticks] == [([0.015, 0.025], [0, 0])]


def test_the_band_is_one_sigma_of_a_difference(drawn):
    """Two trainings, each with a standard deviation of 0.0075: their difference has sqrt(2) x 0.0075 = 0.0106."""
    axes = gains.chart(FOUND, 0.0075).axes[0]
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.0106066, 0.0106066))
    title = axes.get_title(loc="left")
    assert title == "baseline 0.735 · 1,800 images\nband: ±0.011, one sigma of a difference between seeds"


def test_a_gain_far_beyond_the_others_is_told_in_words(drawn):
    axes = gains.chart([*FOUND, worth("far", (-0.139, -0.15, -0.12), (-0.139,))]).axes[0]
    assert len(dots(axes)) == 4
    (text,) = axes.texts
    assert (text.get_text(), text.get_position()[1]) == ("-0.139", 4)
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "far"
    assert axes.get_xlim() == (-0.04, 0.04)


def test_the_gain_under_the_whole_rule_is_hollow(drawn):
    known = replace(worth("better", (0.02, 0.01, 0.03), (0.02,)), gain_whole_rule=(0.012, 0.0, 0.02))
    axes = gains.chart([BASE, known, FOUND[2]]).axes[0]
    (hollow,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert tuple(hollow.get_xydata()[0]) == (0.012, 0)
    assert hollow.get_markerfacecolor() == "none"
    assert axes.get_xlabel().endswith("hollow: whole rule")
    assert not gains.chart(FOUND).axes[0].get_xlabel().endswith("whole rule")


def test_without_noise_or_levers_there_is_still_a_picture(drawn):
    axes = gains.chart(FOUND).axes[0]
    assert not axes.patches
    assert axes.get_title(loc="left") == "baseline 0.735 · 1,800 images"
    axes = gains.chart([BASE], 0.0075).axes[0]
    assert (dots(axes), [label.get_text() for label in axes.get_yticklabels()], len(axes.patches)) == ([], [], 1)


@pytest.mark.parametrize(("found", "noise", "height"), [([*FOUND, LONGEST], 0.0075, 470), ([BASE], None, 254)])
def test_the_file_is_as_large_as_said_and_all_text_fits(found, noise, height, monkeypatch):
    """5.4 inches by 1 inch and 0.27 per lever (one at least), at 200 dots."""
    kept = []
    draw = gains.png
    monkeypatch.setattr(gains, "png", lambda figure: kept.append(figure) or draw(figure))
    picture = cv2.imdecode(np.frombuffer(gains.chart(found, noise), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (height, 1080, 3)
    assert picture.std() > 5
    axes = kept[0].axes[0]
    for text in (axes._left_title, axes.xaxis.label, *axes.get_yticklabels()):  # matplotlib has no other way to it
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= 1080, text
        assert box.y1 <= height, text
