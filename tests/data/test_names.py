"""Names that differ in writing alone are paired, with every cause."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltseg.data import names

NFD = unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize(
    ("id_", "other", "causes"),
    [
        ("a.png", "a.png", [names.ID_SUFFIX]),
        ("a.PNG", "a.png", [names.ID_SUFFIX]),
        ("a", "a.PNG", [names.FILE_SUFFIX]),
        ("a", "a.jpeg", [names.FILE_SUFFIX]),
        ("a", "a.png.png", [names.FILE_SUFFIX]),
        ("a.png", "a.PNG", [names.ID_SUFFIX, names.FILE_SUFFIX]),
        ("é", f"{NFD}.png", [names.FORM]),
        (NFD, "é.png", [names.FORM]),
        ("ABC", "abc.png", [names.CASE]),
        ("a", "a .png", [names.BLANKS]),
        ("é.png", f"{NFD.upper()} .PNG", [names.ID_SUFFIX, names.FILE_SUFFIX, names.FORM, names.CASE, names.BLANKS]),
        ("7", "007.png", [names.AS_NUMBER]),
        ("7.0", "007.png", [names.AS_NUMBER]),
        ("100000", "1e5.png", [names.AS_NUMBER]),
        ("1.00E+05", "1e5.png", [names.AS_NUMBER]),
        ("1.0E+10", "10000000000.png", [names.AS_NUMBER]),
        ("1.23457E+12", "1234567890123.png", [names.AS_NUMBER]),
        ("0.00E+00", "00e1234567.png", [names.AS_NUMBER]),
        ("7", "007.PNG", [names.AS_NUMBER, names.FILE_SUFFIX]),
        ("007", "7.png", [names.AS_NUMBER]),  # another table than the images' may be the damaged one
        ("10000000000", "1.0E+10.png", [names.AS_NUMBER]),
    ],
)
def test_what_differs_in_writing_is_paired(id_, other, causes):
    assert list(names.explain([id_, "x1"], [other, "y1.png"])) == [(id_, other, causes)]


@pytest.mark.parametrize(
    ("id_", "other"),
    [
        ("a", "b.png"),
        ("7", "70.png"),
        ("7", "7a.png"),
        ("1e5", "1e6.png"),
        ("1.2E+03", "1251.png"),
        ("9" * 400, "8" * 400),
    ],
)
def test_other_names_are_not(id_, other):
    assert list(names.explain([id_], [other])) == []


def test_ids_that_were_rounded_to_one_number_are_all_explained():
    files = [f"12345678{k}.png" for k in range(10, 20)]
    pairs = list(names.explain(["1.23457E+09"], files))
    assert [(id_, other) for id_, other, _ in pairs] == [("1.23457E+09", file) for file in files]


@given(st.lists(st.text(max_size=8), max_size=6), st.lists(st.text(max_size=8), max_size=6))
def test_any_names_can_be_compared(ids, others):
    for id_, other, causes in names.explain(ids, others):
        assert id_ in ids
        assert other in others
        assert causes
        assert set(causes) <= set(names.FIXES)
