"""Averages by hand, joined by id; members that do not fit are refused."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltseg import io, predictions, runs
from saltseg.errors import InputError
from saltseg.predictions import Predictions


def of(
    values: dict[str, int | list[int]], fold: list[int] | None = None, presence: list[int] | None = None
) -> Predictions:
    """Predictions of one row of pixels each."""
    pixels = np.array([np.atleast_1d(value) for value in values.values()], np.uint8)[:, None, :]
    probability = None if presence is None else np.array(presence, np.uint8)
    return Predictions(np.array(list(values)), pixels, None if fold is None else np.array(fold), probability)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([7], 7),
        ([1, 2], 2),  # 1.5: halves go up
        ([2, 3], 3),  # 2.5 too, where rounding to even would give 2
        ([0, 255], 128),  # 127.5: just salt
        ([1, 1, 2], 1),  # 1.33
        ([1, 2, 2], 2),  # 1.67
        ([127, 127, 128, 128], 128),
        ([255] * 257, 255),  # 65535, all that 16 bits hold
        ([255] * 258, 255),
        ([255] * 300 + [0] * 300, 128),
    ],
)
def test_the_mean_is_rounded_half_up(members: list[int], expected: int) -> None:
    result = predictions.mean_predictions([of({"a": value}) for value in members])
    assert result.probabilities.tolist() == [[[expected]]]
    assert result.probabilities.dtype == np.uint8


@given(st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3), min_size=1, max_size=9))
def test_the_mean_of_any_members_by_fractions(members: list[list[int]]) -> None:
    result = predictions.mean_predictions([of({"a": pixels}) for pixels in members]).probabilities[0, 0]
    for column, value in zip(zip(*members, strict=True), result.tolist(), strict=True):
        exact = Fraction(sum(column), len(column))
        assert value == (exact + Fraction(1, 2)).__floor__()


@given(st.permutations("abcd"), st.permutations("abcd"))
def test_members_are_joined_by_id_whatever_their_order(one: list[str], other: list[str]) -> None:
    values = {"a": 10, "b": 20, "c": 30, "d": 40}
    result = predictions.mean_predictions(
        [of({id_: values[id_] for id_ in one}), of({id_: values[id_] + 100 for id_ in other})]
    )
    assert result.ids.tolist() == list(one)  # the order of the first
    assert result.probabilities[:, 0, 0].tolist() == [values[id_] + 50 for id_ in one]


def test_folds_are_kept_and_must_agree_by_id() -> None:
    first = of({"a": 0, "b": 2}, [0, 1])
    result = predictions.mean_predictions([first, of({"b": 4, "a": 2}, [1, 0])])
    assert result.fold is not None
    assert result.fold.tolist() == [0, 1]
    assert result.probabilities[:, 0, 0].tolist() == [1, 3]
    for fold in ([0, 1], [1, 1], [1, 2]):  # the ids are in the other order: all are different folds
        with pytest.raises(InputError, match=r"trained on different folds; their average would leak"):
            predictions.mean_predictions([first, of({"b": 4, "a": 2}, fold)])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 1), 151),  # 150.5
        ((3, 1), 126),  # (3 * 101 + 200) / 4 = 125.75
        ((2, 6), 175),  # 175.25
        ((0, 5), 200),
        ((1, 0), 101),
        ((10**12, 3 * 10**12), 175),  # beyond 32 bits; only the ratio matters
    ],
)
def test_weights_are_counts(weights: tuple[int, int], expected: int) -> None:
    assert predictions.mean_predictions([of({"a": 101}), of({"a": 200})], weights).probabilities.tolist() == [
        [[expected]]
    ]


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 weights are needed, whole numbers from 0 up, not all 0: \[0, 0\]"):
        predictions.mean_predictions([of({"a": 1}), of({"a": 1})], [0, 0])


def test_presence_is_averaged_by_id_with_the_same_weights_where_every_member_has_it() -> None:
    one, other = of({"a": 1, "b": 1}, presence=[0, 100]), of({"b": 1, "a": 1}, presence=[200, 50])
    assert (result := predictions.mean_predictions([one, other], [3, 1]).presence_probability) is not None
    assert (result.tolist(), result.dtype) == ([13, 125], np.uint8)  # 12.5 and 125
    for members in ([one, of({"a": 1, "b": 1})], [of({"a": 1, "b": 1}), one]):
        assert predictions.mean_predictions(members).presence_probability is None


def test_a_fold_that_any_two_members_do_not_share_is_refused() -> None:
    without = of({"a": 0, "b": 0})
    with pytest.raises(InputError, match=r"trained on different folds"):
        predictions.mean_predictions([without, of({"a": 0, "b": 0}, [0, 1]), of({"a": 0, "b": 0}, [1, 0])])
    assert predictions.mean_predictions([without, of({"b": 0, "a": 0}, [1, 0])]).fold is None


def test_the_arguments_are_left_alone() -> None:
    first, second = of({"a": 100}), of({"a": 200})
    assert predictions.mean_predictions([first, second]).probabilities.tolist() == [[[150]]]
    assert (first.probabilities.tolist(), second.probabilities.tolist()) == ([[[100]]], [[[200]]])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": 1}, r"predictions to average differ in 1 ids, the first 'b'"),
        ({"a": 1, "b": 1, "c": 1}, r"predictions to average differ in 1 ids, the first 'c'"),
        ({"a": 1, "c": 1}, r"predictions to average differ in 2 ids, the first 'b'"),
    ],
)
def test_members_of_other_images_are_refused(other: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictions.mean_predictions([of({"a": 1, "b": 1}), of(other)])


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"size|shape"):
        predictions.mean_predictions([of({"a": [1, 2]}), of({"a": [1, 2, 3]})])


# ---------------------------------------------------------------- collate


def write(
    tmp_path: Path, parts: dict[int, dict[str, int]], presence: dict[int, list[int]] | None = None
) -> list[runs.FoldDir]:
    run = runs.run_dir(tmp_path, "x")
    for number, values in parts.items():
        predictions.save_predictions(run.fold(number).oof, of(values, presence=(presence or {}).get(number)))  # type: ignore[arg-type]
    return [run.fold(number) for number in parts]


def test_folds_are_collated_in_the_order_of_ids_each_with_its_fold(tmp_path: Path) -> None:
    result = predictions.collate_folds(write(tmp_path, {2: {"c": 1, "a": 2}, 0: {"longer": 3}, 10: {"b": 4}}))
    assert result.fold is not None
    assert result.ids.tolist() == ["a", "b", "c", "longer"]
    assert result.probabilities[:, 0, 0].tolist() == [2, 4, 1, 3]
    assert result.fold.tolist() == [2, 10, 2, 0]


def test_an_id_that_validates_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"predictions hold id .*b.* more than once"):
        predictions.collate_folds(write(tmp_path, {0: {"a": 1, "b": 1}, 1: {"b": 1, "c": 1}}))


def test_presence_is_collated_with_its_image_where_every_fold_has_it(tmp_path: Path) -> None:
    parts = {2: {"c": 1, "a": 2}, 0: {"b": 3}}
    result = predictions.collate_folds(write(tmp_path, parts, {2: [30, 10], 0: [20]}))
    assert result.presence_probability is not None
    assert result.presence_probability.tolist() == [10, 20, 30]
    assert predictions.collate_folds(write(tmp_path, parts, {2: [30, 10]})).presence_probability is None


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"ids": np.arange(2)}, "ids of type int64"),
        ({"ids": np.array("ab")}, "ids of type <U2"),
        ({"ids": np.array([0x110000], np.uint32).view("<U1").repeat(2)}, "ids of other characters"),
        ({"ids": np.array(["a", "\ud800"])}, "ids of other characters"),
        ({"probabilities": np.zeros((2, 1, 1))}, "probabilities of type float64"),
        ({"probabilities": np.zeros((3, 1, 1), np.uint8)}, r"probabilities of type uint8 and shape \(3, 1, 1\)"),
        ({"probabilities": np.zeros(2, np.uint8)}, r"probabilities of type uint8 and shape \(2,\)"),
        ({"fold": np.zeros(2)}, "fold of type float64"),
        ({"fold": np.zeros((2, 1), np.int16)}, "fold of type int16"),
        ({"presence": np.zeros(3, np.uint8)}, "presence of type uint8"),
    ],
)
def test_a_file_of_other_arrays_is_refused(changed: dict[str, np.ndarray], what: str, tmp_path: Path) -> None:
    arrays = {"ids": np.array(["a", "b"]), "probabilities": np.zeros((2, 1, 1), np.uint8)}
    io.write_arrays(tmp_path / "oof.npz", arrays)
    assert predictions.load_predictions(tmp_path / "oof.npz").ids.tolist() == ["a", "b"]
    io.write_arrays(tmp_path / "oof.npz", arrays | changed)
    with pytest.raises(InputError, match=rf"oof\.npz cannot be read as predictions \(.*({what})"):
        predictions.load_predictions(tmp_path / "oof.npz")
