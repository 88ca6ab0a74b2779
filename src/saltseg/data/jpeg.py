"""Find damage in a JPEG that decoders pass over: they fill what is missing with gray, with a warning at most.

Follows the Huffman codes of every scan (ITU-T T.81, annexes F and G) and demands that the data end with the last block.
There are no checksums: damage after which the codes fit again by chance stays hidden from every decoder.
"""

import math
import re
from dataclasses import dataclass, field

MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)  # ends the codes of a scan
RESTART = re.compile(rb"\xff+([\xd0-\xd7])")  # between the parts of a scan
MAX_SCANS = 100  # a progressive file has about ten
_INVALID = (1 << 30, 0)  # a code of a length that is always beyond the end

Table = list[tuple[int, int]]  # (length, symbol) of the code that 16 bits begin with


@dataclass
class _Frame:
    """Size and components of the image.

    Attributes:
        sampling: blocks (across, down) in a unit, by component.
        nonzero: for progressive files, which coefficients of a block have been sent, as bits, by component and block.
    """

    width: int
    height: int
    sampling: dict[int, tuple[int, int]]
    nonzero: dict[int, dict[int, int]] = field(default_factory=dict)

    def units(self, components: list[int]) -> int:
        """How many units a scan of these components has; of a single one, blocks."""
        across, down = (max(sampling[axis] for sampling in self.sampling.values()) for axis in (0, 1))
        if len(components) > 1:
            return math.ceil(self.width / (8 * across)) * math.ceil(self.height / (8 * down))
        own = self.sampling[components[0]]
        width, height = math.ceil(self.width * own[0] / across), math.ceil(self.height * own[1] / down)
        return math.ceil(width / 8) * math.ceil(height / 8)


class _Bits:
    """Bits of one part of a scan, from the first on; those beyond the end are 0."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.end = data + bytes(4), 0, 8 * len(data)

    def symbol(self, table: Table) -> int:
        start = self.at >> 3
        window = int.from_bytes(self.data[start : start + 3]) >> (8 - (self.at & 7)) & 0xFFFF
        length, symbol = table[window]
        self.at += length
        return symbol

    def take(self, count: int) -> int:
        start, self.at = self.at, self.at + count
        window = int.from_bytes(self.data[start >> 3 : (start >> 3) + 4].ljust(4, b"\0"))
        return window >> (32 - (start & 7) - count) & ((1 << count) - 1)


def require_complete(data: bytes) -> None:
    """Raise ValueError unless a JPEG ends as it should and its scans hold the codes of exactly their blocks."""
    try:
        _walk(data)
    except (LookupError, ArithmeticError):
        raise ValueError("damaged or cut off") from None


def _walk(data: bytes) -> None:
    at, scans, restart, frame = 2, 0, 0, _Frame(0, 0, {})
    tables: dict[int, Table] = {}
    while True:
        if data[at] != 0xFF:
            raise ValueError("damaged between its segments")
        while data[at] == 0xFF:
            at += 1
        kind, start = data[at], at + 3
        if kind == 0xD9:
            if not scans:
                raise ValueError("it holds no picture")
            return
        at += 1 + int.from_bytes(data[at + 1 : at + 3])
        body = data[start:at]
        if kind == 0xC4:
            _read_tables(body, tables)
        elif kind in (0xC0, 0xC1, 0xC2):
            sampling = {body[i]: (body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, 6 + 3 * body[5], 3)}
            frame = _Frame(int.from_bytes(body[3:5]), int.from_bytes(body[1:3]), sampling)
        elif 0xC0 <= kind <= 0xCF:
            raise ValueError("neither a baseline nor a progressive JPEG")
        elif kind == 0xDD:
            restart = int.from_bytes(body[:2])
        elif kind == 0xDA:
            end, scans = MARKER.search(data, at), scans + 1
            if end is None or scans > MAX_SCANS:
                raise ValueError("cut off" if end is None else f"more than {MAX_SCANS} scans")
            _Scan(body, frame, tables).follow(data[at : end.start()], restart)
            at = end.start()


def _read_tables(body: bytes, tables: dict[int, Table]) -> None:
    """Huffman tables by class and number, as a lookup by the next 16 bits."""
    while body:
        counts, symbols, table = body[1:17], iter(body[17:]), list[tuple[int, int]]()
        for length, count in enumerate(counts, start=1):
            for symbol in [next(symbols, 0) for _ in range(count)]:
                table += [(length, symbol)] * (1 << (16 - length))
            if len(table) > 1 << 16:
                raise ValueError("damaged table of codes")
        tables[body[0]] = table + [_INVALID] * ((1 << 16) - len(table))
        body = body[17 + sum(counts) :]


class _Scan:
    """One scan: the components and the coefficients that it sends, for the first time or one bit more of each."""

    def __init__(self, header: bytes, frame: _Frame, tables: dict[int, Table]) -> None:
        count = header[0]
        components = [header[1 + 2 * i] for i in range(count)]
        numbers = [header[2 + 2 * i] for i in range(count)]
        self.first, self.last = header[1 + 2 * count], min(63, header[2 + 2 * count])
        self.refines = header[3 + 2 * count] >> 4 > 0
        self.units, self.end_run = frame.units(components), 0
        self.blocks = []  # of a unit: tables for the first and the other coefficients, and what was sent of them before
        for component, number in zip(components, numbers, strict=True):
            across, down = frame.sampling[component]
            first = tables[number >> 4] if self.first == 0 and not self.refines else []
            others = tables[16 + (number & 15)] if self.last else []
            sent_before = frame.nonzero.setdefault(component, {})
            self.blocks += [(first, others, sent_before)] * (across * down if count > 1 else 1)

    def follow(self, codes: bytes, restart: int) -> None:
        parts = RESTART.split(codes)
        numbers, parts = parts[1::2], parts[::2]
        size = restart or self.units
        if len(parts) != math.ceil(self.units / size) or any(n[0] & 7 != i % 8 for i, n in enumerate(numbers)):
            raise ValueError("a part of the picture is missing")
        for i, part in enumerate(parts):
            bits, self.end_run = _Bits(part.replace(b"\xff\x00", b"\xff")), 0
            for unit in range(i * size, min((i + 1) * size, self.units)):
                for first, others, sent_before in self.blocks:
                    self._block(bits, first, others, sent_before, unit)
                if bits.at > bits.end:
                    raise ValueError("a part of the picture is missing")
            if bits.end - bits.at >= 8:
                raise ValueError("damaged: the picture ends before its data")

    def _block(self, bits: _Bits, first: Table, others: Table, sent_before: dict[int, int], unit: int) -> None:
        if self.first == 0:
            bits.take(1 if self.refines else bits.symbol(first) & 15)
        if self.last == 0:
            return
        if self.refines:
            self._refine(bits, others, sent_before, unit)
        elif self.end_run:
            self.end_run -= 1
        else:
            self._send(bits, others, sent_before, unit)

    def _send(self, bits: _Bits, table: Table, sent_before: dict[int, int], unit: int) -> None:
        """Coefficients of a block for the first time: a number of zeros, then a value, until the end of the block."""
        at, sent, last = max(self.first, 1), 0, self.last
        while at <= last:
            symbol = bits.symbol(table)
            zeros, size = symbol >> 4, symbol & 15
            if size == 0 and zeros < 15:
                self.end_run = (1 << zeros) - 1 + bits.take(zeros)  # blocks without further values
                break
            at += zeros
            if size:
                bits.at += size
                sent |= 1 << at
            at += 1
        if at > last + 1:
            raise ValueError("damaged: a block of more than 64 values")
        if self.first:
            sent_before[unit] = sent_before.get(unit, 0) | sent

    def _refine(self, bits: _Bits, table: Table, sent_before: dict[int, int], unit: int) -> None:
        """A bit more of the coefficients that were sent before, and new ones between them."""
        at, old, new = max(self.first, 1), sent_before.get(unit, 0), 0
        while at <= self.last and not self.end_run:
            symbol = bits.symbol(table)
            zeros, size = symbol >> 4, symbol & 15
            if size == 0 and zeros < 15:
                self.end_run = (1 << zeros) + bits.take(zeros)
                break
            bits.at += size  # of a new value the sign
            while at <= self.last and (old >> at & 1 or zeros):
                if old >> at & 1:
                    bits.at += 1
                else:
                    zeros -= 1
                at += 1
            if size:
                new |= 1 << at
            at += 1
        if self.end_run:
            bits.at += (old >> at & ((1 << (self.last + 1 - at)) - 1)).bit_count()
            self.end_run -= 1
        sent_before[unit] = old | new
