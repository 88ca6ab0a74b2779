"""YAML 1.2: scalars that YAML 1.1 reads otherwise, and everything that is refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltseg import yaml12
from saltseg.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("08", 8), ("-3", -3), ("+3", 3), ("0", 0),
        ("1e-3", 0.001), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-2.5e+1", -25.0),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", ""), ("  ", ""), ("''", ""),
        ("1:04", "1:04"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("tRUE", "tRUE"),
        ("1_000", "1_000"), ("0x10", "0x10"), ("0b1", "0b1"), ("0o7", "0o7"), (".inf", ".inf"), (".nan", ".nan"),
        ("2018-07-18", "2018-07-18"), ("=", "="), ("<<", "<<"), (".", "."), ("1e", "1e"), ("'1'", "1"), ('"no"', "no"),
        ("[identity, hflip]", ["identity", "hflip"]), ("[]", []), ("{a: 1, b: [x, 2]}", {"a": 1, "b": ["x", 2]}),
        ('{"a": 1e2, "b": null}', {"a": 100.0, "b": None}), ("{<<: {a: 1}}", {"<<": {"a": 1}}),
        ("a: 1\nb:\n- x\n", {"a": 1, "b": ["x"]}), ("a: # nothing", {"a": None}),
    ],
)  # fmt: skip
def test_yaml_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = yaml12.parse(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('!!int ""', "anchors, aliases and tags are not read"),
        ("! 1", "anchors, aliases and tags are not read"),
        ("!!python/object/apply:os.system [ls]", "anchors, aliases and tags are not read"),
        ("&a [1]", "anchors, aliases and tags are not read"),
        ("[&a x, *a]", "anchors, aliases and tags are not read"),
        ("[" * 21, "too many brackets inside each other"),
        ("[" * 3000, "too many brackets inside each other"),
        ("{a: " * 3000, "too many brackets inside each other"),
        ("- " * 3000, "too many brackets inside each other"),
        ("x" * 100_001, "100,001 characters are too long"),
        ("9" * 5000, "cannot be read"),
        ("[1, 2", "cannot be read"),
        ("{[1]: 2}", "cannot be read"),
        ("\x00", "cannot be read"),
        ("a\n---\nb", "cannot be read"),
        ("a: b: c", "cannot be read"),
    ],
)
def test_yaml_that_is_no_plain_value_is_refused_in_one_short_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        yaml12.parse(text)
    assert len(str(refused.value)) < 150
    assert "\n" not in str(refused.value)
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"x.yaml is not YAML \(.*{message}.*\); fix it or remove it"):
        yaml12.read(tmp_path / "x.yaml")


def test_nesting_up_to_the_bound_is_read() -> None:
    value = yaml12.parse("[" * 20 + "]" * 20)
    depth = 0
    while isinstance(value, list):
        value, depth = (value or [None])[0], depth + 1
    assert depth == 20


def test_a_file_of_another_encoding_is_no_yaml_and_an_empty_one_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(InputError, match=r"x.yaml is not YAML \(.*decode.*\); fix it or remove it"):
        yaml12.read(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text(" \n")
    assert yaml12.read(tmp_path / "x.yaml") is None


@pytest.mark.parametrize("blank", ["\xa0", "\u3000", "\u2003"])
def test_blanks_that_yaml_does_not_know_are_text(blank: str) -> None:
    assert yaml12.parse(f"{blank}\n") == blank
    assert yaml12.parse(" \t\n") == ""


TEXT = st.text(st.characters(exclude_characters="\x85\u2028\u2029", codec="utf-8"))  # PyYAML folds these line breaks
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
LOOKALIKES = st.sampled_from(["1e5", "08", "1.", "yes", "null", "~", "True", "1:04", "0x1", "<<", "-", "#", "a: b"])
VALUES = st.recursive(
    SCALARS | LOOKALIKES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_dumped_values_come_back_with_their_types(value: Any) -> None:
    def typed(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: typed(inner) for key, inner in part.items()}
        return [typed(inner) for inner in part] if isinstance(part, list) else (type(part), part)

    assert typed(yaml12.parse(yaml12.dump(value))) == typed(value)


@pytest.mark.parametrize("text", ["\x85", "a\x85b", "\u2028", "a \u2029 b", "\n\x85"])
def test_line_ends_of_unicode_come_back(text: str) -> None:
    assert yaml12.parse(yaml12.dump({"key": text})) == {"key": text}
    assert yaml12.parse("key: " + yaml12.dump(text).removesuffix("...\n")) == {"key": text}
