"""Lines, volumes and gathers told apart by their headers, with the evidence."""

from pathlib import Path

import numpy as np
import pytest
import segy_files

from saltseg.errors import InputError
from saltseg.seismic import index
from saltseg.seismic.axes import Axis, axis
from saltseg.seismic.headers import read_layout
from saltseg.seismic.index import find_geometry
from saltseg.seismic.traces import Fields, coordinates, delays_ms, read_index


def fields_of(path: Path, headers: list[dict[int, int]]) -> Fields:
    """Header fields of a file with these headers."""
    return read_index(read_layout(segy_files.write(path / "a.sgy", np.ones((len(headers), 2)), headers)))


def test_an_axis_names_its_range_and_its_most_frequent_step() -> None:
    assert axis(np.array([10, 14, 12, 20, 10])) == Axis(10, 20, 2, 4, 1.0)
    assert axis(np.array([7, 7])) == Axis(7, 7, 1, 1, 1.0)
    assert axis(np.array([1, 1001, -(2**31), 2**31 - 1])).count == 4
    uneven = axis(np.array([0, 10, 20, 30, 34]))
    assert (uneven.step, uneven.regular) == (2, 0.75)  # no one step: the largest that divides all differences
    assert Axis(10, 20, 2, 4, 1.0).positions(np.array([10, 12, 20])).tolist() == [0, 1, 5]
    assert Axis(10, 20, 2, 4, 1.0).numbers(np.array([0, 1, 5])).tolist() == [10, 12, 20]


@pytest.mark.parametrize("wrong", [777, 601, 501, 377])
def test_a_few_wrong_numbers_do_not_change_the_grid(wrong: int) -> None:
    numbers = np.tile(np.arange(500, 600, 2), 40)
    numbers[3] = wrong
    found = axis(numbers)
    assert found == Axis(500, 598, 2, 50, found.regular, 1)
    assert np.flatnonzero(found.strays(numbers)).tolist() == [3]
    assert found.positions(numbers[:5]).tolist() == [0, 1, 2, {777: 49, 601: 49, 501: 0, 377: 0}[wrong], 4]
    line = np.arange(500, 900, 2)  # each number once
    line[7] = wrong
    assert axis(line).step == 2


def test_a_wrong_number_in_a_line_is_no_bin_of_its_own(tmp_path: Path) -> None:
    headers = [{21: 500 + 2 * n} for n in range(200)]
    headers[7] = {21: 777}
    chosen = find_geometry(fields_of(tmp_path, headers)).chosen
    assert chosen is not None
    assert (chosen.bytes, chosen.unique, chosen.filled) == ("CDP 21", 199 / 200, 199 / 200)


@pytest.mark.parametrize(
    "lines",
    [
        [*range(1000, 1300, 2), *range(1301, 1401, 2)],  # the numbers are odd from there on
        [*range(1000, 1500, 2), 1201],  # one more line between two others
        [*range(1000, 1300, 2), *range(1301, 1401, 2), *range(1402, 2000, 2)],
    ],
)
@pytest.mark.parametrize("traces", [1, 30])
def test_no_two_lines_become_one(lines: list[int], traces: int) -> None:
    found = axis(np.repeat(lines, traces))
    if traces == 1 and len(lines) == 251:
        assert (found.step, found.astray) == (2, 1)  # one trace of 251 may well be a wrong number
        return
    assert (found.step, found.astray) == (1, 0)
    assert found.regular < 1
    assert found.numbers(found.positions(np.array(lines))).tolist() == lines


def test_a_part_of_a_line_between_two_others_is_no_wrong_number() -> None:
    lines = np.arange(1000, 1200, 2)
    numbers = np.concatenate([np.repeat(lines, 1000), np.full(400, 1101)])
    found = axis(numbers)
    assert (found.first, found.last, found.step, found.count, found.astray) == (1000, 1198, 1, 101, 0)
    assert found.positions(numbers[-1:]).tolist() == [101]
    stray = axis(numbers[: 100_000 + 2])  # two traces may well be wrong, three are a line
    assert (stray.step, stray.count, stray.astray) == (2, 100, 2)
    assert stray.positions(np.array([1101])).tolist() == [50]
    assert axis(numbers[: 100_000 + 3]).astray == 0


def test_too_many_numbers_off_the_grid_are_not_wrong() -> None:
    numbers = np.concatenate([np.tile(np.arange(1000, 1200, 2), 10), np.arange(1001, 1023, 2)])
    assert (axis(numbers[:-1]).step, axis(numbers[:-1]).astray) == (2, 10)  # 1 % of 1,010
    assert (axis(numbers).step, axis(numbers).astray) == (1, 0)


@pytest.mark.parametrize(("inline", "crossline"), [*index.PAIRS])
def test_a_volume_is_found_at_each_pair_of_bytes(inline: int, crossline: int, tmp_path: Path) -> None:
    headers = [{inline: i, crossline: x, 73: 100 * x, 77: 50 * i} for i in (5, 7, 9, 11) for x in (1, 2, 3)]
    geometry = find_geometry(fields_of(tmp_path, headers))
    assert geometry.kind == "volume"
    assert geometry.chosen is not None
    assert (geometry.chosen.inline_byte, geometry.chosen.crossline_byte) == (inline, crossline)
    assert geometry.chosen.inline == Axis(5, 11, 2, 4, 1.0)
    assert (geometry.chosen.unique, geometry.chosen.filled) == (1, 1)
    assert geometry.chosen.misfit == pytest.approx(0, abs=1e-9)


def test_coordinates_decide_between_two_full_grids(tmp_path: Path) -> None:
    # 189/193 number the traces of a 3x4 grid that the coordinates contradict; 9/21 follow them.
    headers = [
        {189: n % 3, 193: n // 3, 9: n // 4, 21: n % 4, 181: 1000 * (n % 4), 185: 1000 * (n // 4)} for n in range(12)
    ]
    geometry = find_geometry(fields_of(tmp_path, headers))
    assert geometry.chosen is not None
    assert geometry.chosen.bytes == "9/21"
    assert {c.bytes: c.kind for c in geometry.candidates}["189/193"] == "volume"


def irregular(inline: int, crossline: int, counter: tuple[int, int]) -> list[dict[int, int]]:
    """Headers of 12 inlines of 10 traces whose first crossline wanders by up to 4; ``counter``: bytes that hide it."""
    starts = (3, 0, 4, 1, 2, 4, 0, 3, 1, 4, 2, 0)
    return [
        {counter[0]: i, counter[1]: n + 1, inline: i, crossline: 50 + start + n}
        for i, start in enumerate(starts, 20)
        for n in range(10)
    ]


def located(headers: list[dict[int, int]], inline: int, crossline: int) -> list[dict[int, int]]:
    """The same with coordinates that follow these bytes."""
    return [{**header, 181: 9000 + 25 * header[crossline], 185: 7000 + 40 * header[inline]} for header in headers]


@pytest.mark.parametrize("counter", [(9, 21), (17, 13)])
def test_traces_counted_anew_on_each_inline_do_not_win_by_their_full_grid(
    counter: tuple[int, int], tmp_path: Path
) -> None:
    headers = irregular(189, 193, counter)
    found = find_geometry(fields_of(tmp_path, headers))
    assert {c.bytes: c.filled for c in found.candidates if c.kind} == {
        "189/193": 10 / 14,
        "{}/{}".format(*counter): 1,
    }
    assert found.chosen is not None
    assert (found.chosen.bytes, found.chosen.misfit) == ("189/193", None)
    assert [c.bytes for c in found.others] == ["{}/{}".format(*counter)]
    found = find_geometry(fields_of(tmp_path, located(headers, 189, 193)))
    assert (found.chosen and found.chosen.bytes, found.others) == ("189/193", ())


def test_coordinates_decide_against_the_earlier_pair(tmp_path: Path) -> None:
    headers = irregular(9, 21, (189, 193))
    counted = find_geometry(fields_of(tmp_path, headers))
    assert (counted.chosen and counted.chosen.bytes, [c.bytes for c in counted.others]) == ("189/193", ["9/21"])
    found = find_geometry(fields_of(tmp_path, located(headers, 9, 21)))
    assert (found.chosen and found.chosen.bytes, found.others) == ("9/21", ())


@pytest.mark.parametrize(("wrong", "bytes_", "other"), [(95, "189/193", "9/21"), (2095, "9/21", "189/193")])
def test_an_earlier_pair_is_not_believed_if_its_grid_is_nearly_empty(
    wrong: int, bytes_: str, other: str, tmp_path: Path
) -> None:
    headers = [{189: i, 193: x, 9: i, 21: x} for i in range(10) for x in range(10)]
    headers[7][193] = wrong  # 100 traces in 960 bins or in 20,960
    found = find_geometry(fields_of(tmp_path, headers))
    assert (found.chosen and found.chosen.bytes, [c.bytes for c in found.others]) == (bytes_, [other])


def test_other_bytes_with_the_same_places_are_no_other_choice(tmp_path: Path) -> None:
    # 9/21 have the same numbers, 17/13 count from 1; 5/21 say nothing.
    headers = [{189: i, 193: x, 9: i, 21: x, 17: i + 1, 13: x - 49} for i in range(4) for x in range(50, 55)]
    found = find_geometry(fields_of(tmp_path, headers))
    assert [c.bytes for c in found.candidates if c.kind == "volume"] == ["189/193", "9/21", "17/13"]
    assert found.others == ()
    skipped = [{**header, 193: header[193] + (header[193] > 52)} for header in headers]
    assert [c.bytes for c in find_geometry(fields_of(tmp_path, skipped)).others] == ["9/21"]  # 17/13 say the same


@pytest.mark.parametrize(("x", "y"), [(0, 0), (10**8, -(10**8))])
def test_a_few_wrong_coordinates_do_not_spoil_the_fit(x: int, y: int, tmp_path: Path) -> None:
    headers = located(irregular(189, 193, (17, 13)), 189, 193)
    for n in (5, 6, 7, 64, 100, 119):  # a twentieth
        headers[n] |= {181: x, 185: y}
    found = find_geometry(fields_of(tmp_path, headers))
    assert (found.chosen and found.chosen.bytes, found.others) == ("189/193", ())
    misfits = {c.bytes: c.misfit for c in found.candidates if c.kind}
    assert misfits["189/193"] == pytest.approx(0, abs=1e-6)
    assert misfits["17/13"] is not None
    assert 1 < misfits["17/13"] < 3  # the first crosslines have a standard deviation of 1.5
    for n in range(20, 40):
        headers[n] |= {181: x, 185: y}
    misfit = find_geometry(fields_of(tmp_path, headers)).candidates[0].misfit
    assert misfit is not None
    assert (misfit < 0.5) == (x == 0)  # all that have none are left out, however many; not all that are wrong


def test_coordinates_of_too_few_traces_say_nothing(tmp_path: Path) -> None:
    headers = segy_files.grid(range(6), range(8))
    one_line = [{**header, 181: 100 + header[193], 185: 5} if header[189] == 2 else header for header in headers]
    constant = [{**header, 181: 7, 185: 5} if n else header for n, header in enumerate(headers)]
    for some in (one_line, constant, [{181: 1, **headers[0]}, *headers[1:]]):
        chosen = find_geometry(fields_of(tmp_path, some)).chosen
        assert (chosen and chosen.bytes, chosen and chosen.misfit) == ("189/193", None)


def test_volumes_that_may_be_shots(tmp_path: Path) -> None:
    shots = [{9: shot, 17: shot, 13: c, 21: 2 * shot + c} for shot in range(1, 9) for c in range(1, 13)]
    fields = fields_of(tmp_path, shots)
    assert (find_geometry(fields).kind, find_geometry(fields).may_be_shots) == ("volume", True)
    assert not find_geometry(fields, 9, 21).may_be_shots  # the user says what they are
    assert not find_geometry(fields, as_line=True).may_be_shots
    stacked = [{9: i, 21: x} for i in range(4) for x in range(5)]
    assert find_geometry(fields_of(tmp_path, stacked)).may_be_shots
    assert not find_geometry(fields_of(tmp_path, located(stacked, 9, 21))).may_be_shots
    assert not find_geometry(fields_of(tmp_path, segy_files.grid(range(4), range(5)))).may_be_shots


def test_lines(tmp_path: Path) -> None:
    cdp = find_geometry(fields_of(tmp_path, [{21: 100 + 2 * n, 5: n} for n in range(9)]))
    assert (cdp.kind, cdp.chosen and cdp.chosen.bytes) == ("line", "CDP 21")
    one_inline = find_geometry(fields_of(tmp_path, [{189: 7, 193: n} for n in range(9)]))
    assert (one_inline.kind, one_inline.chosen and one_inline.chosen.bytes) == ("line", "189/193")
    through = find_geometry(fields_of(tmp_path, [{189: n, 193: 3 * n} for n in range(9)]))
    assert (through.kind, through.chosen) == ("line", None)
    asked = find_geometry(fields_of(tmp_path, [{} for _ in range(9)]), as_line=True)
    assert (asked.kind, asked.chosen) == ("line", None)


def test_prestack_and_gathers(tmp_path: Path) -> None:
    bins = [{189: i, 193: x, 37: o} for i in (1, 2) for x in (1, 2, 3) for o in (100, 200, 300)]
    geometry = find_geometry(fields_of(tmp_path, bins))
    assert geometry.kind == "prestack"
    assert "3 traces with different offsets" in geometry.reason
    # Shots whose traces have a CDP of their own each: record and CDP look like a full grid.
    shots = [{9: shot, 13: c, 21: 2 * shot + c, 37: 100 * c} for shot in range(6) for c in range(5)]
    assert find_geometry(fields_of(tmp_path, shots)).kind == "prestack"
    bare = [{9: shot, 13: channel} for shot in range(3) for channel in range(5)]
    geometry = find_geometry(fields_of(tmp_path, bare))
    assert (geometry.kind, "3 field records of up to 5 channels" in geometry.reason) == ("unknown", True)
    nothing = find_geometry(fields_of(tmp_path, [{} for _ in range(4)]))
    assert (nothing.kind, "25% of them" in nothing.reason) == ("unknown", True)
    assert find_geometry(fields_of(tmp_path, [{}])).kind == "unknown"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("f3.sgy", "volume"),
        ("small-lsb.sgy", "volume"),
        ("small-ps.sgy", "prestack"),
        ("1xN.sgy", "prestack"),
        ("shot-gather.sgy", "unknown"),
        ("delay-scalar.sgy", "unknown"),
    ],
)
def test_public_files(name: str, kind: str) -> None:
    geometry = find_geometry(read_index(read_layout(segy_files.public(name))))
    assert geometry.kind == kind
    if name == "f3.sgy":
        assert geometry.chosen is not None
        assert geometry.chosen.inline == Axis(111, 133, 1, 23, 1.0)
        assert geometry.chosen.crossline == Axis(875, 892, 1, 18, 1.0)
        assert {c.bytes for c in geometry.candidates if c.kind == "volume"} == {"189/193", "9/21", "9/17"}
        assert geometry.others == ()


def test_bytes_named_by_the_user(tmp_path: Path) -> None:
    headers = [{189: 1, 193: n, 201: n // 3, 205: n % 3} for n in range(9)]
    layout = read_layout(segy_files.write(tmp_path / "a.sgy", np.ones((9, 2)), headers))
    fields = read_index(layout, (201, 205))
    geometry = find_geometry(fields, 201, 205)
    assert (geometry.kind, geometry.chosen and geometry.chosen.bytes) == ("volume", "201/205")
    assert find_geometry(fields, None, 193).kind == "line"
    with pytest.raises(InputError, match="inline byte 189 without a crossline byte; give both"):
        find_geometry(fields, 189)


def test_a_varying_offset_does_not_make_a_volume_prestack_whose_bytes_are_named(tmp_path: Path) -> None:
    headers = [{9: i, 21: x, 37: 10 * i + x} for i in range(4) for x in range(5)]
    fields = fields_of(tmp_path, headers)
    assert find_geometry(fields).kind == "prestack"
    assert find_geometry(fields, 9, 21).kind == "volume"
    several = fields_of(tmp_path, [{**header, 37: offset} for header in headers for offset in (1, 2, 3)])
    assert find_geometry(several, 9, 21).kind == "prestack"


def test_coordinates_of_traces_with_wrong_numbers_do_not_count(tmp_path: Path) -> None:
    headers = [{189: i, 193: 2 * x, 181: 1000 * x, 185: 1000 * i} for i in range(10) for x in range(20)]
    headers[0][193] = 39 + 2 * 10**6
    chosen = find_geometry(fields_of(tmp_path, headers)).chosen
    assert chosen is not None
    assert (chosen.bytes, chosen.crossline.astray) == ("189/193", 1)
    assert chosen.misfit == pytest.approx(0, abs=1e-9)


def test_coordinates_with_their_scalar(tmp_path: Path) -> None:
    headers = [{73: 12345, 77: 7, 71: -100}, {73: 20, 77: 8, 71: 10}, {73: 30, 77: 9, 71: 0}]
    found, x, y = coordinates(fields_of(tmp_path, headers))
    assert found == (73, 77)  # those at 181/185 are all 0
    assert x.tolist() == pytest.approx([123.45, 200, 30])
    assert y.tolist() == pytest.approx([0.07, 80, 9])
    assert coordinates(fields_of(tmp_path, [{181: n, 73: 5} for n in range(2)]))[0] == (181, 185)
    assert coordinates(fields_of(tmp_path, [{181: 5}, {181: 5}]))[0] is None


def test_delays_with_their_scalar(tmp_path: Path) -> None:
    headers = [{109: 10_000, 215: -10}, {109: 7, 215: 100}, {109: -8}]
    fields = fields_of(tmp_path, headers)
    assert delays_ms(fields).tolist() == [1000, 700, -8]
    assert find_geometry(fields, as_line=True).delays_ms == (-8, 1000)
    assert delays_ms(read_index(read_layout(segy_files.public("delay-scalar.sgy")))).tolist() == [1000]


def test_a_wrong_number_is_an_obstacle_and_not_a_grid_of_a_billion_bins(tmp_path: Path) -> None:
    headers = segy_files.grid(range(10), range(10))
    headers[-1] = {189: 9, 193: 2_000_000_000}
    layout = read_layout(segy_files.write(tmp_path / "a.sgy", np.ones((100, 2)), headers))
    found = index.obstacles(layout, find_geometry(read_index(layout)))
    assert len(found) == 1
    assert "100.0% of the grid empty (inlines 0-9, crosslines 0-2000000000)" in found[0]
