"""Why ids and the names of their files do not match: what spreadsheets, macOS, Windows and habits do to names."""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator

SUFFIX = re.compile(r"(\.(png|jpe?g|tiff?|bmp))+$", re.IGNORECASE)
NUMBER = re.compile(r"(\d+\.?\d*)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
DIGITS = 15  # that a spreadsheet keeps of a number

ID_SUFFIX, FILE_SUFFIX, FORM, CASE, BLANKS, AS_NUMBER = "id suffix", "file suffix", "form", "case", "blanks", "number"
FIXES = {
    ID_SUFFIX: "write ids without the suffix of a file",
    FILE_SUFFIX: "name every file <id>.png, and save other formats as PNG",
    FORM: "write both in the same Unicode form (NFC)",
    CASE: "write both with the same upper and lower case",
    BLANKS: "remove the blanks at the ends of names",
    AS_NUMBER: "take the table as it was before a spreadsheet turned its ids into numbers, or import them as text",
}


def explain(ids: Iterable[str], others: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Pair ids that have no file with names that have no id, where they differ in writing alone.

    Args:
        ids: without a match.
        others: names of files, or ids of another table, without a match.

    Yields:
        (id, other, causes), causes keys of `FIXES`. A rounded number may be the id of several others.
    """
    others = list(others)
    other_of_key = {_key(other): other for other in others}
    paired, unpaired = set[str](), list[str]()
    for id_ in ids:
        other = other_of_key.get(_key(id_))
        causes = [] if other is None else _causes(id_, other)
        if other is not None and causes:
            paired.add(other)
            yield id_, other, causes
        else:
            unpaired.append(id_)
    for id_, other in sorted(_same_numbers(unpaired, [other for other in others if other not in paired])):
        suffixes = [cause for cause in _causes(id_, other) if cause in (ID_SUFFIX, FILE_SUFFIX)]
        yield id_, other, [AS_NUMBER, *suffixes]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", SUFFIX.sub("", name.strip()).strip()).casefold()


def _causes(id_: str, other: str) -> list[str]:
    """What differs. Of `other`, one suffix .png is that of a file."""
    other = other.removesuffix(".png")
    plain = [SUFFIX.sub("", name.strip()) for name in (id_, other)]
    forms = [unicodedata.normalize("NFC", name) for name in plain]
    differs = {
        ID_SUFFIX: plain[0] != id_.strip(),
        FILE_SUFFIX: plain[1] != other.strip(),
        FORM: (plain[0] == forms[0]) != (plain[1] == forms[1]),
        CASE: forms[0].strip() != forms[1].strip(),
        BLANKS: any(name != name.strip() for name in (id_, other, *plain)),
    }
    return [cause for cause, applies in differs.items() if applies]


def _same_numbers(ids: list[str], others: list[str]) -> set[tuple[str, str]]:
    """Pairs of equal numbers, rounded as either is written: 7 and 007, 100000 and 1e5, 1.23E+07 and 12345678."""
    return _rounded_pairs(ids, others) | {(id_, other) for other, id_ in _rounded_pairs(others, ids)}


def _rounded_pairs(numbers: list[str], names: list[str]) -> set[tuple[str, str]]:
    """Pairs of a number and a name that is the same number, rounded to as many digits."""
    pairs = set()
    for digits in {_digits(number) for number in numbers} - {0}:
        number_of_value = {_value(number, digits): number for number in numbers if _digits(number) == digits}
        values = ((name, _value(name, digits)) for name in names if _digits(name))
        pairs |= {(number_of_value[value], name) for name, value in values if value in number_of_value}
    return pairs


def _digits(name: str) -> int:
    """Significant digits that a number is written with, `DIGITS` for a whole one, 0 for what is no number."""
    number = NUMBER.fullmatch(SUFFIX.sub("", name))
    if number is None:
        return 0
    return len(number[1].replace(".", "")) if number[2] else DIGITS


def _value(name: str, digits: int) -> str:
    number = float(SUFFIX.sub("", name))
    return name if math.isinf(number) else f"{number:.{digits - 1}e}"
