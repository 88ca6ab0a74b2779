"""The amplitudes of a bounded sample of a survey's traces: dead traces, NaN, signs, values for percentiles."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from saltseg.seismic.formats import IBM, IEEE
from saltseg.seismic.headers import Layout
from saltseg.seismic.traces import live, read_records, read_traces

MAX_TRACES = 20_000
MAX_VALUES = 2_000_000
_BLOCK = 64  # neighboring traces that are read together
_ENOUGH = 10_000  # samples by which the kind of float is told
_ONE_SIGNED = 0.01  # share of the rarer sign; amplitudes have about a half


@dataclass(frozen=True, eq=False)
class Amplitudes:
    """What a sample of traces holds.

    Attributes:
        traces: that were examined.
        dead: of those, how many hold fewer than two different finite values. What they hold, 0 or another value that
            fills gaps, counts nowhere below but in ``nan`` and ``infinite``.
        nan, infinite: how many hold such samples.
        minimum, maximum: of the finite samples; 0 where there are none.
        zero: share of finite samples that are exactly 0.
        negative: share of negative samples among the finite ones that are not 0.
        values: finite samples that are not 0, at random, float32 (up to `MAX_VALUES`,). Zeros are left out because
            mutes and padding would narrow the percentiles.
        looks_like: name of another float format that the stored words have the pattern of, else "".
    """

    traces: int
    dead: int
    nan: int
    infinite: int
    minimum: float
    maximum: float
    zero: float
    negative: float
    values: np.ndarray
    looks_like: str

    @property
    def one_signed(self) -> bool:
        """Whether nearly all samples have one sign, as in a velocity cube."""
        return len(self.values) > 0 and min(self.negative, 1 - self.negative) < _ONE_SIGNED

    def percentiles(self, shares: tuple[float, ...]) -> list[float]:
        """Percentiles (0..100) of `values`; 0 where there are none."""
        if not len(self.values):
            return [0.0] * len(shares)
        return [float(value) for value in np.percentile(self.values, shares)]


def sample_amplitudes(layout: Layout) -> Amplitudes:
    """Examine evenly spread blocks of neighboring traces; the same file gives the same sample.

    Args:
        layout: of the file.

    Raises:
        InputError: the file cannot be read.
    """
    blocks = _blocks(layout.traces)
    rng = np.random.default_rng(0)
    quota = -(-MAX_VALUES // len(blocks))
    counts = np.zeros(6, np.int64)  # traces, dead, with NaN, with infinity; zeros, negative samples
    low, high, total, kept = np.inf, -np.inf, 0, []
    for block in blocks:
        rows = read_traces(layout, np.arange(block.start, block.stop))
        finite = np.isfinite(rows)
        alive = live(rows)
        holes = [np.isnan(rows).any(1), np.isinf(rows).any(1)] if not finite.all() else [False, False]
        values = rows[finite & alive[:, None]]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        counts += [len(rows), (~alive).sum(), *map(np.sum, holes), (values == 0).sum(), (values < 0).sum()]
        total += values.size
        values = values[values != 0]
        kept.append(values if len(values) <= quota else values[rng.integers(0, len(values), quota)])
    zeros, negative = int(counts[4]), int(counts[5])
    return Amplitudes(
        traces=int(counts[0]),
        dead=int(counts[1]),
        nan=int(counts[2]),
        infinite=int(counts[3]),
        minimum=low if total else 0.0,
        maximum=high if total else 0.0,
        zero=zeros / max(total, 1),
        negative=negative / max(total - zeros, 1),
        values=np.concatenate(kept),
        looks_like=_float_pattern(layout, blocks),
    )


def _blocks(traces: int) -> list[range]:
    """All traces, or evenly spread blocks of together at most `MAX_TRACES`."""
    if traces <= MAX_TRACES:
        return [range(start, min(start + _BLOCK, traces)) for start in range(0, traces, _BLOCK)]
    starts = np.linspace(0, traces - _BLOCK, MAX_TRACES // _BLOCK).astype(int)
    return [range(int(start), int(start) + _BLOCK) for start in starts]


def _float_pattern(layout: Layout, blocks: list[range]) -> str:
    """Tell IBM from IEEE floats, which files mix up: both read as plausible numbers.

    The first hexadecimal digit of an IBM fraction is not 0. The same four bits are 0 in one in twelve IEEE floats.
    """
    code = layout.sample_format.code
    if code not in (IBM, IEEE):
        return ""
    words = np.concatenate([part.ravel() for part in _words(layout, blocks)])
    words = words[(words & 0x7FFFFFFF) != 0]
    if len(words) < _ENOUGH:
        return ""
    share = float(np.mean((words & 0x00F00000) == 0))
    if code == IBM:
        return "IEEE float" if share > 0.02 else ""
    return "IBM float" if share < 0.0005 else ""


def _words(layout: Layout, blocks: list[range]) -> Iterator[np.ndarray]:
    """The stored 32-bit words of some of the blocks."""
    record = np.dtype([("header", "V240"), ("words", layout.byte_order + "u4", (layout.samples,))])
    with layout.opened() as file:
        for block in blocks[:: max(1, len(blocks) // 16)]:
            file.seek(layout.first_trace + block.start * layout.trace_bytes)
            yield read_records(file, layout, record, len(block))["words"].astype(np.uint32)
