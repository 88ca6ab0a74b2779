"""Two things measured in turn, their ratio and its range."""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from saltseg.errors import InputError


@dataclass(frozen=True)
class Row:
    """One line of the table.

    name: what was measured. ours, other: its speed and that of what it is held against, in ``unit``. ratios: ours over
    other, one per pair measured one after the other. target: the smallest ratio wanted, None where none was set.
    """

    name: str
    against: str
    unit: str
    ours: float
    other: float
    ratios: tuple[float, ...]
    target: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return statistics.median(self.ratios)


@contextmanager
def one_line() -> Iterator[None]:
    """End the program with one line and exit code 2 at a mistake of the user's."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_turn(ours: Callable[[], object], other: Callable[[], object], repeats: int) -> list[tuple[float, float]]:
    """Seconds of both, measured alternately, so that other work on the machine touches both, after one try."""
    ours(), other()
    return [(seconds(ours), seconds(other)) for _ in range(repeats)]


def rates(
    name: str,
    against: str,
    unit: str,
    pairs: Iterable[tuple[float, float]],
    amount: float = 1,
    other_amount: float | None = None,
    target: float | None = None,
    note: str = "",
) -> Row:
    """A row from pairs of seconds in which ours did ``amount`` of the work and the other ``other_amount``."""
    found = list(pairs)
    shared = amount if other_amount is None else other_amount
    ours, other = ([amount / a for a, _ in found], [shared / b for _, b in found])
    ratios = tuple(a / b for a, b in zip(ours, other, strict=True))
    return Row(name, against, unit, statistics.median(ours), statistics.median(other), ratios, target, note)


HEADER = "| what | against | ours | other | ratio [range] | target |\n|---|---|---|---|---|---|"


def line(row: Row) -> str:
    """Of a Markdown table under `HEADER`; a ratio above 1 means that ours is faster, in brackets the range of pairs."""
    spread = f"{row.ratio:.3g} [{min(row.ratios):.3g}, {max(row.ratios):.3g}]"
    target = "" if row.target is None else f"≥ {row.target:g} {'✓' if row.ratio >= row.target else '✗'}"
    note = f" ({row.note})" if row.note else ""
    return (
        f"| {row.name}{note} | {row.against} | {row.ours:.3g} {row.unit} | {row.other:.3g} {row.unit} "
        f"| {spread} | {target} |"
    )
