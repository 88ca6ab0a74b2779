"""Aggregates of tiles, by hand on made-up ones."""

import numpy as np
import pytest

from saltseg.reporting import realism


def test_statistics_by_hand():
    """Two tiles with ten cycles down and a constant one; salt in none, all and a quarter of the pixels."""
    depth = np.arange(101)[:, None] / 101
    wave = np.broadcast_to(128 + 100 * np.sin(20 * np.pi * depth), (101, 101))
    images = np.stack([wave, wave, np.full((101, 101), 7)]).astype(np.uint8)
    masks = np.zeros((3, 101, 101), np.uint8)
    masks[1] = 1
    masks[2, :25] = 1
    result = realism.statistics(images, masks)
    assert result["power_down"].argmax() == 10
    assert result["power_along"].argmax() == 0
    for key in ("power_down", "power_along", "histogram", "classes"):
        assert result[key].sum() == pytest.approx(1)
    assert result["deviation"] == pytest.approx([100 / 2**0.5] * 2, rel=0.01)
    assert np.flatnonzero(result["classes"]).tolist() == [0, 3, 10]
    table = result["table"]
    assert (table["tiles"], table["constant tiles"], table["empty masks"]) == (
        3,
        pytest.approx(1 / 3),
        table["constant tiles"],
    )
    assert table["mean coverage"] == pytest.approx((1 + 25 / 101) / 3)
    assert table["correlation 4 pixels along"] == pytest.approx(1, abs=1e-3)
    assert table["correlation 4 pixels down"] == pytest.approx(np.cos(2 * np.pi * 40 / 101), abs=0.02)
