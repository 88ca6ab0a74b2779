"""Variants of what a JSON file holds, each with one value of another kind."""

import copy
from collections.abc import Iterator
from typing import Any

ODD = (None, True, -1, 0, 3.5, 1e300, 10**30, "", "x", "\u0000", [], {}, [None], [[]], {"a": 1})


def places(value: Any, *keys: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside; of lists the first."""
    if keys:
        yield keys
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, *keys, key)
    elif isinstance(value, list) and value:
        yield from places(value[0], *keys, 0)


def variants(content: Any) -> Iterator[Any]:
    """The same with one value of another kind, or without one."""
    yield from ODD
    for *keys, last in places(content):
        for odd in (*ODD, Ellipsis):
            changed = copy.deepcopy(content)
            inner = changed
            for key in keys:
                inner = inner[key]
            if odd is Ellipsis:
                del inner[last]
            else:
                inner[last] = odd
            yield changed
