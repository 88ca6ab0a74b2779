"""The pictures of a ladder: what stands where, and in which colour."""

import numpy as np
import pytest
from matplotlib.colors import same_color

from saltseg.reporting import rungs
from saltseg.reporting.style import BLUE, GREEN, MUTED, VERMILION


def entry(stage, score, gain=None, n_train=500):
    gain = gain and {"over": "recipe", "difference": sum(gain) / 2, "interval": list(gain)}
    what = f"{n_train} labels, from {stage.partition('_')[0]} weights"
    return {"stage": stage, "score": score, "interval": [score - 0.02, score + 0.01], "n": 3000, "n_train": n_train,
            "gain": gain, "what": what}  # fmt: skip


@pytest.fixture
def drawn(monkeypatch):
    """The chart as matplotlib's figure instead of PNG bytes."""
    monkeypatch.setattr(rungs, "png", lambda figure: figure)


def test_stages_stand_from_the_top_with_score_interval_and_gain(drawn):
    gains = (None, (0.01, 0.03), (-0.01, 0.02), (-0.03, -0.01))
    found = [entry(f"s{k}", 0.7 + 0.01 * k, gain) for k, gain in enumerate(gains)]
    axes = rungs.chart(found).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["s0", "s1", "s2", "s3"]
    low, high = axes.get_ylim()
    assert low > high
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    bars = [line for line in axes.lines if line.get_linewidth() == 3]
    for place, (dot, bar, colour) in enumerate(zip(dots, bars, (BLUE, GREEN, MUTED, VERMILION), strict=True)):
        assert tuple(dot.get_xydata()[0]) == (found[place]["score"], place)
        assert list(bar.get_xdata()) == found[place]["interval"]
        assert same_color(dot.get_color(), colour)
    assert [text.get_text() for text in axes.texts] == [
        "+0.020 over recipe",
        "+0.005 over recipe",
        "-0.020 over recipe",
    ]


def test_a_line_per_start_over_the_number_of_labels(drawn):
    found = [entry("random_300", 0.5, n_train=300), entry("masked_100", 0.6, n_train=100)]
    found += [entry("random_100", 0.4, n_train=100), entry("masked_300", 0.7, n_train=300)]
    axes = rungs.curves(found).axes[0]
    lines = {
        text.get_text(): line for text, line in zip(axes.figure.legends[0].get_texts(), axes.containers, strict=True)
    }
    assert list(lines) == ["random weights", "masked weights"]
    for start, scores in (("random weights", [0.4, 0.5]), ("masked weights", [0.6, 0.7])):
        line, _, (bars,) = lines[start]
        assert list(line.get_ydata()) == scores
        assert line.get_xdata() == pytest.approx([100, 300], rel=0.03)
        low, high = np.array([end[:, 1] for end in bars.get_segments()]).T
        assert low == pytest.approx(np.array(scores) - 0.02)
        assert high == pytest.approx(np.array(scores) + 0.01)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "300"]
