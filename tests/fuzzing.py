"""What tests of readers with damaged files share. SALTSEG_FUZZ: examples of each test (`make fuzz` asks for more)."""

import os
from collections.abc import Callable
from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from saltseg.errors import InputError

EXAMPLES = int(os.environ.get("SALTSEG_FUZZ", "0"))
FUZZ = settings(
    max_examples=EXAMPLES or 80,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=not EXAMPLES,
)
Changes = list[tuple[str, float, bytes]]


def changes() -> st.SearchStrategy[Changes]:
    """Up to four changes: a kind, a place as a share of the length, and bytes."""
    kind = st.sampled_from(["overwrite", "insert", "cut", "repeat"])
    return st.lists(st.tuples(kind, st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4)


def changed(data: bytes, todo: Changes) -> bytes:
    for kind, share, value in todo:
        at = int(share * len(data))
        if kind == "overwrite":
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        elif kind == "cut":
            data = data[:at] + data[at + 20 * value[0] :]
        else:
            data = data[:at] + data[max(0, at - 8 * value[0]) :]
    return data


def only_input_errors(read: Callable[[], object]) -> None:
    with suppress(InputError):
        read()
