"""Which tiles are shown, under which title, and that pictures show what they say."""

import cv2
import fake_run
import numpy as np
import pytest

from saltseg.errors import InputError
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.predictions import Predictions
from saltseg.reporting import gallery


def chosen_ids(scored, rows=gallery.ROWS):
    return {kind: [scored.ids[k] for k in indices] for kind, indices in gallery.choose(scored, rows).items()}


def make_scored(average_precision, empty=()):
    """Tiles t0, t1 … with these scores; those at `empty` have neither true nor predicted salt."""
    count = len(average_precision)
    masks = np.ones((count, 2, 2), np.uint8)
    masks[list(empty)] = 0
    ids = tuple(f"t{k}" for k in range(count))
    return gallery.ScoredTiles(ids, masks, masks, masks, masks, np.array(average_precision))


def test_scores_by_hand_and_join_by_id(fake):
    order = np.random.default_rng(1).permutation(8)
    predictions = Predictions(np.array(fake_run.IDS)[order], fake.probabilities[order])
    scored = gallery.score(predictions, fake.labeled, THRESHOLD_HALF)
    assert scored.ids == tuple(np.array(fake_run.IDS)[order])
    assert scored.average_precision == pytest.approx(fake_run.AVERAGE_PRECISION[order])
    assert np.array_equal(scored.true, fake.labeled.masks[order])


def test_scores_are_after_post_processing(fake):
    predictions = Predictions(np.array(fake_run.IDS), fake.probabilities)
    scored = gallery.score(predictions, fake.labeled, Postprocessing(128, 6 * 101))
    assert scored.average_precision[7] == 1  # the five invented rows of "h" are taken away
    presence = np.array([255] * 7 + [50], np.uint8)
    predictions = Predictions(np.array(fake_run.IDS), fake.probabilities, presence_probability=presence)
    assert gallery.score(predictions, fake.labeled, Postprocessing(presence_threshold=51)).average_precision[7] == 1
    assert gallery.score(predictions, fake.labeled, Postprocessing(presence_threshold=50)).average_precision[7] == 0


def test_an_unknown_id_is_refused(fake):
    predictions = Predictions(np.array(["a", "zz"]), fake.probabilities[:2])
    with pytest.raises(InputError, match=r"1 predicted ids are not in train.csv, the first 'zz'; give --input"):
        gallery.score(predictions, fake.labeled, THRESHOLD_HALF)


def test_best_median_worst_of_the_fake_run(fake):
    scored = gallery.score(Predictions(np.array(fake_run.IDS), fake.probabilities), fake.labeled, THRESHOLD_HALF)
    # "c" is empty twice and left out; of the seven others two each.
    assert chosen_ids(scored) == {"best": ["a", "b"], "median": ["d", "e"], "worst": ["g", "h"]}


def test_ties_go_by_id_and_no_tile_is_shown_twice():
    scored = make_scored([0.5] * 12)
    chosen = chosen_ids(scored)
    assert chosen["best"] == ["t0", "t1", "t10"]
    assert chosen["worst"] == ["t11", "t2", "t3"]
    assert len({id_ for ids in chosen.values() for id_ in ids}) == 9


def test_the_median_rows_are_the_middle():
    scored = make_scored([k / 20 for k in range(11)])
    assert chosen_ids(scored)["median"] == ["t6", "t5", "t4"]
    assert chosen_ids(scored, rows=1)["median"] == ["t5"]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_tiles_make_short_lists(count):
    chosen = chosen_ids(make_scored([0.1, 0.2, 0.3][:count]))
    assert sum(map(len, chosen.values())) == count
    assert chosen["best"] == ([f"t{count - 1}"] if count else [])


def test_empty_tiles_are_shown_only_where_nothing_else_is():
    chosen = chosen_ids(make_scored([1, 1, 1, 0.2], empty=(0, 1, 2)))
    assert chosen == {"best": ["t0"], "median": ["t1"], "worst": ["t3"]}


def test_titles(fake):
    scored = gallery.score(Predictions(np.array(fake_run.IDS), fake.probabilities), fake.labeled, THRESHOLD_HALF)
    assert gallery.title(scored, 1) == "b · AP 0.90 · salt 40 %"  # 40 of 101 rows: 39.6 %
    assert gallery.title(scored, 7) == "h · AP 0.00 · no salt"


def test_panels_show_the_boundary_and_the_masks():
    true = np.zeros((1, 101, 101), np.uint8)
    true[:, :, :50] = 1
    image = np.full((1, 101, 101), 200, np.uint8)
    scored = gallery.ScoredTiles(("$1 < 2",), image, true, np.full_like(image, 255), 1 - true, np.zeros(1))
    data = gallery.draw(scored, [0])
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    salt, rock = (59, 134, 192), (255, 255, 255)

    def pixel(column, x):
        """Color at the share x of the tile in this column, in the middle of its height."""
        left = 0.01 + column * (303 / 240 + 0.09)
        return tuple(picture[-2 - 150, round(240 * left + x * 303)])

    assert pixel(0, 0.25) == pixel(0, 0.75) == (200, 200, 200)
    assert pixel(1, 0.25) == pixel(3, 0.75) == pixel(2, 0.75) == salt
    assert pixel(1, 0.75) == pixel(3, 0.25) == rock
    for column, on_boundary in ((0, True), (1, False), (2, True), (3, True)):
        darkest = min(sum(pixel(column, 0.47 + k / 303)) for k in range(18))
        assert (darkest < 60) == on_boundary


def test_quantiles_are_of_tiles_with_a_boundary() -> None:
    """Eleven half-salt tiles with AP 0.0 … 1.0 (in shuffled order) and an empty tile with AP 1 that shows nothing."""
    order = np.random.default_rng(0).permutation(11)
    true = np.zeros((12, 4, 4), np.uint8)
    true[:11, 2:] = 1
    value = np.append(order / 10, 1.0)
    scored = gallery.ScoredTiles(tuple(f"t{k:02d}" for k in range(12)), true, true, true, true, value)
    assert [value[k] for k in gallery.at_quantiles(scored)] == [0.9, 0.5, 0.1]
    assert 11 not in gallery.at_quantiles(scored, (1.0,))
