"""Stored numbers and float32."""

import struct
from pathlib import Path

import numpy as np
import pytest
import segy_files
from hypothesis import given
from hypothesis import strategies as st

from saltseg.seismic.formats import FORMATS, decode, encode
from saltseg.seismic.headers import read_layout
from saltseg.seismic.traces import read_traces

# Worked out by hand: sign, 64 + power of 16, fraction; -118.625 is the example of the standard's readers.
IBM_WORDS = {0xC276A000: -118.625, 0x42640000: 100, 0x41100000: 1, 0x40800000: 0.5, 0xBF100000: -1 / 256, 0: 0}


@pytest.mark.parametrize(("word", "value"), IBM_WORDS.items())
def test_ibm_words_and_their_values(word: int, value: float) -> None:
    for order in "<>":
        assert decode(np.array([word], order + "u4"), FORMATS[1])[0] == value
        stored = encode(np.array([value]), FORMATS[1], order)
        assert stored.tobytes() == struct.pack(order + "I", word)


def test_ibm_floats_at_the_ends() -> None:
    words = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F000000, 0x00000001, 0x41010000], np.uint32)
    # Larger than float32, as negative, a fraction of 0 is 0, smaller than float32, not normalized: 1/16.
    assert decode(words, FORMATS[1]).tolist() == [np.inf, -np.inf, 0, 0, 1 / 16]
    largest = np.array([np.finfo(np.float32).max], np.float32)
    np.testing.assert_allclose(decode(encode(largest, FORMATS[1], ">"), FORMATS[1]) / largest, 1, rtol=2**-21)


@given(st.floats(-(2.0**100), 2.0**100, width=32))
def test_ibm_floats_round_to_the_nearest(value: float) -> None:
    there = encode(np.array([value], np.float32), FORMATS[1], ">")
    back = float(decode(there, FORMATS[1])[0])
    assert abs(back - value) <= abs(value) * 2**-21 + 1e-37  # half of the last of at least 21 bits
    if abs(value) > 1e-36:  # smaller ones than float32 has with all bits become 0
        assert np.array_equal(encode(np.array([back]), FORMATS[1], ">"), there)


@given(st.integers(0, 2**31 - 1), st.booleans())
def test_normalized_ibm_words_survive_a_round_trip(word: int, negative: bool) -> None:
    word = (word & 0x00FFFFFF) | 0x00100000 | (48 + (word >> 24) % 32) << 24 | negative << 31
    stored = np.array([word], ">u4")
    assert encode(decode(stored, FORMATS[1]), FORMATS[1], ">").tobytes() == stored.tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", FORMATS)
def test_a_file_of_each_format_and_byte_order_has_the_same_picture(code: int, order: str, tmp_path: Path) -> None:
    picture = segy_files.wave(6)
    picture = picture - picture.min() if FORMATS[code].unsigned else picture
    path = segy_files.write(tmp_path / "a.sgy", picture, segy_files.grid((1, 2), (1, 2, 3)), order=order, code=code)
    layout = read_layout(path)
    assert (layout.byte_order, layout.sample_format.code, layout.traces, layout.samples) == (order, code, 6, 8)
    assert np.array_equal(read_traces(layout, np.arange(6)), picture)


@pytest.mark.parametrize(("code", "low", "high"), [(8, -128, 127), (3, -32768, 32767), (16, 0, 255), (11, 0, 65535)])
def test_integers_are_rounded_and_clipped(code: int, low: int, high: int) -> None:
    values = np.array([-1e12, 1e12, 1.4, 1.6])
    assert encode(values, FORMATS[code], "<").tolist() == [low, high, 1, 2]


@pytest.mark.parametrize("code", [2, 10])
def test_large_integers_do_not_wrap(code: int) -> None:
    limits = np.iinfo(FORMATS[code].dtype)
    assert encode(np.array([-1e12, 1e12], np.float32), FORMATS[code], "<").tolist() == [limits.min, limits.max]


@pytest.mark.parametrize("name", ["Format1msb.sgy", "Format3msb.sgy", "Format5msb.sgy", "Format5lsb.sgy", "f3-lsb.sgy"])
def test_one_picture_one_answer(name: str) -> None:
    def picture(file: str) -> np.ndarray:
        layout = read_layout(segy_files.public(file))
        return read_traces(layout, np.arange(layout.traces))

    expected = picture("f3.sgy")
    assert (expected.min(), expected.max()) == (-10239, 10827)
    assert np.array_equal(picture(name), expected)


@pytest.mark.parametrize("name", ["Format1msb.sgy", "f3.sgy", "Format5lsb.sgy", "small.sgy", "delay-scalar.sgy"])
def test_segyio_reads_the_same_numbers(name: str) -> None:
    segyio = pytest.importorskip("segyio")
    path = segy_files.public(name)
    layout = read_layout(path)
    with segyio.open(path, ignore_geometry=True, endian="little" if "lsb" in name else "big") as file:
        expected = file.trace.raw[:]
    assert np.array_equal(read_traces(layout, np.arange(layout.traces)), expected)
