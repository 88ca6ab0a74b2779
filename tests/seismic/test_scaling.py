"""Amplitudes to gray with one scale for a survey."""

from dataclasses import replace

import numpy as np
import pytest
import segy_files

from saltseg.errors import InputError
from saltseg.seismic.amplitudes import Amplitudes, sample_amplitudes
from saltseg.seismic.headers import read_layout
from saltseg.seismic.scaling import REFERENCE_HISTOGRAM, WARN_DISTANCE, Scaling, histogram, histogram_distance


def amplitudes(values: np.ndarray) -> Amplitudes:
    """As if a survey held these values."""
    return Amplitudes(1, 0, 0, 0, float(values.min()), float(values.max()), 0, 0.5, values.astype(np.float32), "")


def test_clipping_at_a_percentile_of_the_distance_from_the_median() -> None:
    values = amplitudes(np.arange(-100, 101) + 7.0)
    scaling = Scaling.fit(values, percentile=50)
    assert (scaling.center, scaling.half_range) == (7, 50)
    assert scaling.apply(np.array([-1e9, -43, 7, 57, 1e9], np.float32)).tolist() == [0, 0, 128, 255, 255]
    assert replace(scaling, flip=True).apply(np.array([-43, 32, 57], np.float32)).tolist() == [255, 64, 0]


def test_one_spike_does_not_change_the_scale() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    spiked = np.append(values, 1e30)
    one, other = Scaling.fit(amplitudes(values)), Scaling.fit(amplitudes(spiked))
    assert other.half_range == pytest.approx(one.half_range, rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 0}, "clip percentile 0; use a number over 0"),
        ({"percentile": 101}, "clip percentile 101"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scaling.fit(amplitudes(np.arange(10.0)), **options)


def test_constant_amplitudes_have_no_scale() -> None:
    for values in (np.ones(5), np.zeros(0)):
        with pytest.raises(InputError, match="hold a single amplitude"):
            Scaling.fit(replace(amplitudes(np.ones(1)), values=values.astype(np.float32)))


def test_histograms_and_their_distance() -> None:
    images = np.zeros((3, 2, 2), np.uint8)
    images[0] = [[0, 1], [1, 3]]
    images[2] = 7  # of one gray level, as the black image: left out
    shares = histogram(images)
    assert shares[:4].tolist() == [0.25, 0.5, 0, 0.25]
    assert shares.sum() == 1
    at_ten = np.eye(256)[10]
    # Two halves at gray 0 and 255 are moved to 10: 10 and 245 levels.
    distance = histogram_distance(amplitudes(np.array([-1.0, 1.0])), Scaling(0, 1), at_ten)
    assert distance == pytest.approx(127.5)


def test_the_reference_is_a_distribution_like_that_of_real_data() -> None:
    assert REFERENCE_HISTOGRAM.sum() == pytest.approx(1)
    found = sample_amplitudes(read_layout(segy_files.public("f3.sgy")))
    assert histogram_distance(found, Scaling.fit(found)) < WARN_DISTANCE / 2
    velocities = amplitudes(1500 + 3000 * np.random.default_rng(0).beta(0.3, 0.3, 10_000))
    assert histogram_distance(velocities, Scaling.fit(velocities)) > WARN_DISTANCE
