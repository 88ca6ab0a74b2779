"""The simulated survey: geology and headers that the rest can be tested on."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from saltseg.errors import InputError
from saltseg.seismic.amplitudes import sample_amplitudes
from saltseg.seismic.scaling import WARN_DISTANCE, Scaling, histogram_distance
from saltseg.seismic.scan import scan
from saltseg.seismic.volume import Survey
from saltseg.synthetic.survey import CROSSLINE_STEP, FIRST_CROSSLINE, FIRST_INLINE, SurveySize, simulate_survey

SMALL = SurveySize(inlines=40, crosslines=48, samples=96)


def cube(path: Path, size: SurveySize) -> np.ndarray:
    """float32 (inlines, crosslines, samples), 0 where there is no trace."""
    values = np.zeros((size.inlines, size.crosslines, size.samples), np.float32)
    for line in Survey.open(path).lines("inline"):
        columns = (line.numbers - FIRST_CROSSLINE) // CROSSLINE_STEP
        values[line.number - FIRST_INLINE, columns] = line.amplitudes.T
    return values


def test_the_same_seed_gives_the_same_bytes_in_each_format(tmp_path: Path) -> None:
    masks = [simulate_survey(tmp_path / f"{name}.sgy", SMALL, 5) for name in "ab"]
    assert (tmp_path / "a.sgy").read_bytes() == (tmp_path / "b.sgy").read_bytes()
    assert masks[0].read_bytes() == masks[1].read_bytes()
    simulate_survey(tmp_path / "c.sgy", SMALL, 5, sample_format=5, byte_order="<")
    simulate_survey(tmp_path / "d.sgy", SMALL, 6)
    one, other, different = (cube(tmp_path / f"{name}.sgy", SMALL) for name in "acd")
    np.testing.assert_allclose(one, other, rtol=2**-20)
    assert not np.allclose(one, different)


def test_the_salt_has_an_overhang_and_a_bright_top(tmp_path: Path) -> None:
    size = SurveySize(inlines=64, crosslines=64, samples=128, irregular=False)
    mask = cube(simulate_survey(tmp_path / "a.sgy", size, 1), size)
    assert set(np.unique(mask)) == {0, 1}
    assert 0.02 < mask.mean() < 0.4
    assert mask[:, :, 0].max() == 0  # sediments above
    below = np.diff(mask, axis=2)
    overhang = (below < 0).any(2)  # the salt ends downwards: sediments under it
    assert overhang.sum() > 20
    image = np.abs(cube(tmp_path / "a.sgy", size))
    tops = np.argwhere(below > 0)
    assert np.median(image[tuple(tops.T)]) > 3 * np.median(image)


def test_the_headers_are_those_of_a_survey_with_an_irregular_edge(tmp_path: Path) -> None:
    size = SurveySize(inlines=60, crosslines=80, samples=64, dead_share=0.05)
    mask_path = simulate_survey(tmp_path / "a.sgy", size, 2)
    report = scan(tmp_path / "a.sgy")
    assert report.problems == ()
    assert report.notes == ()
    assert report.geometry.chosen is not None
    assert report.geometry.chosen.bytes == "189/193"
    assert report.geometry.chosen.misfit == pytest.approx(0, abs=0.01)
    assert report.bins is not None
    assert report.bins.missing > report.bins.holes > 0
    assert 0.02 < report.amplitudes.dead / report.amplitudes.traces < 0.08
    survey, mask = Survey.open(tmp_path / "a.sgy"), Survey.open(mask_path)
    for name in ("inlines", "crosslines", "x", "y"):
        assert np.array_equal(getattr(survey, name), getattr(mask, name))


def test_its_gray_levels_are_those_of_the_training_tiles(tmp_path: Path) -> None:
    simulate_survey(tmp_path / "a.sgy", SurveySize(inlines=40, crosslines=120, samples=160), 3)
    found = sample_amplitudes(Survey.open(tmp_path / "a.sgy").layout)
    assert histogram_distance(found, Scaling.fit(found)) < WARN_DISTANCE / 2


def test_both_directions_are_continuous(tmp_path: Path) -> None:
    size = SurveySize(inlines=48, crosslines=48, samples=96, irregular=False)
    simulate_survey(tmp_path / "a.sgy", size, 4)
    values = cube(tmp_path / "a.sgy", size)

    def correlation(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    assert correlation(values[1:], values[:-1]) > 0.9
    assert correlation(values[:, 1:], values[:, :-1]) > 0.9


def test_memory_does_not_grow_with_the_survey(tmp_path: Path) -> None:
    peaks = []
    for inlines in (32, 64):
        tracemalloc.start()
        simulate_survey(tmp_path / f"{inlines}.sgy", SurveySize(inlines, 64, 128))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_bad_sizes_and_existing_files(tmp_path: Path) -> None:
    for size, seed in ((SurveySize(inlines=31), 0), (SurveySize(dead_share=1), 0), (SMALL, -1)):
        with pytest.raises(InputError, match="use sides of at least 32"):
            simulate_survey(tmp_path / "a.sgy", size, seed)
    (tmp_path / "a_mask.sgy").touch()
    with pytest.raises(InputError, match=r"a_mask.sgy exists"):
        simulate_survey(tmp_path / "a.sgy", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["a_mask.sgy"]
