"""Which unit an address of code belongs to (``.debug_aranges``, DWARF 5, section 6.1.2).

clang writes no such table, and one linker's output may have units with and without it: the units
that it does not speak of are asked for the ranges of their root entries.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.damage import DAMAGE
from vringcore.debuginfo.ranges import code_of
from vringcore.debuginfo.units import DWARF64
from vringcore.errors import VringcoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.dwarf import Dwarf

LOOK_BACK = 8
"""Ranges before an address that are tried: they do not overlap unless something is wrong."""

MAX_RANGES = 1 << 20
"""Ranges of root entries that are read."""


class RangeMap:
    """Ranges of addresses, each with a number; of those around an address the last counts."""

    __slots__ = ("_rows", "_starts")

    def __init__(self, rows: list[tuple[int, int, int]]) -> None:
        self._rows = sorted(rows)
        self._starts = [row[0] for row in self._rows]

    def at(self, address: int) -> int:
        """Return the number of the range around an address, -1 if none is."""
        end = bisect_right(self._starts, address)
        for _start, stop, number in reversed(self._rows[max(0, end - LOOK_BACK) : end]):
            if address < stop:
                return number
        return -1


class UnitMap:
    """Numbers of units by address.

    :param lowest: code below this address was left out by the linker
    """

    def __init__(self, dwarf: Dwarf, lowest: int) -> None:
        self._dwarf = dwarf
        self._lowest = lowest
        self._told: set[int] = set()
        self._map = RangeMap(list(self._table()))
        self._others: RangeMap | None = None

    def at(self, address: int) -> int:
        """Return the number of the unit that has code at an address, -1 if none is known to."""
        number = self._map.at(address)
        if number < 0:
            if self._others is None:
                self._others = RangeMap(list(self._from_roots()))
            number = self._others.at(address)
        return number

    def _table(self) -> Iterator[tuple[int, int, int]]:
        section = self._dwarf.elf.section(".debug_aranges")
        data = section.data if section is not None else b""
        order = self._dwarf.order
        pos = 0
        while pos + 12 <= len(data):
            wide, size = False, struct.unpack_from(order + "I", data, pos)[0] + 4
            if size == DWARF64 + 4:
                wide, size = True, struct.unpack_from(order + "Q", data, pos + 4)[0] + 12
            yield from self._set(data[pos : pos + size], wide=wide)
            pos += size

    def _set(self, data: bytes, *, wide: bool) -> Iterator[tuple[int, int, int]]:
        """Yield start, end and unit of the ranges of one unit."""
        head = struct.Struct(self._dwarf.order + ("12xHQBB" if wide else "4xHIBB"))
        if len(data) < head.size:
            return
        _version, offset, address_size, segment_size = head.unpack_from(data)
        code = {4: "II", 8: "QQ"}.get(address_size)
        chain = self._dwarf.chain
        number = chain.number_at(offset)
        if code is None or segment_size or number < 0 or chain.offsets[number] != offset:
            return  # Of no use; the unit's own ranges are asked.
        self._told.add(number)
        pair = 2 * address_size
        first = -(-head.size // pair) * pair
        last = len(data) - (len(data) - first) % pair
        for start, size in struct.iter_unpack(self._dwarf.order + code, data[first:last]):
            if size and start >= self._lowest:
                yield start, start + size, number

    def _from_roots(self) -> Iterator[tuple[int, int, int]]:
        read = 0
        for number in range(len(self._dwarf.chain)):
            if number in self._told:
                continue
            try:
                root = self._dwarf.own_unit(number).root()
                if root.tag == dw.TAG_COMPILE_UNIT or root.tag == dw.TAG_SKELETON_UNIT:
                    for start, size in code_of(root):
                        read += 1
                        if read > MAX_RANGES:
                            return
                        if start >= self._lowest and size > 0:
                            yield start, start + size, number
            except (VringcoreError, *DAMAGE):
                continue  # Its addresses stay unknown; those of the others do not.
