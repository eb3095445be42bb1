"""Which function of a unit an address lies in, and what is inlined there (DWARF 5, section 3.3)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import uleb
from vringcore.debuginfo.ranges import base_of, code_of
from vringcore.debuginfo.toplevel import Plan, Step, skip_children
from vringcore.debuginfo.unitmap import RangeMap
from vringcore.debuginfo.units import Entry
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.abbrev import Abbrev
    from vringcore.debuginfo.units import Unit

MAX_DEPTH = 200
"""Blocks and inlined functions inside each other."""

MAX_RANGES = 1 << 18
"""Ranges that are read to find the functions of a unit, or what is inlined at an address."""

_FUNCTIONS = frozenset({dw.TAG_SUBPROGRAM, dw.TAG_INLINED_SUBROUTINE})
_SCOPES = frozenset({
    dw.TAG_LEXICAL_BLOCK, dw.TAG_TRY_BLOCK, dw.TAG_CATCH_BLOCK, dw.TAG_NAMESPACE,
})  # fmt: skip

_STEPS = -1
"""The key of these steps among those that an abbreviation keeps; the others are masks."""


class _CodeStep(Step):
    """``code``: the entry is a function that has code, or can hold such."""

    __slots__ = ("code",)

    def __init__(self, abbrev: Abbrev, offset_size: int) -> None:
        super().__init__(abbrev, 0, offset_size)
        placed = dw.AT_LOW_PC in abbrev.forms or dw.AT_RANGES in abbrev.forms
        self.code = placed if abbrev.tag in _FUNCTIONS else abbrev.tag in _SCOPES
        if self.code:
            self.skip = -1


class _CodePlan(dict[int, _CodeStep]):
    __slots__ = ("_unit",)

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit

    def __missing__(self, code: int) -> _CodeStep:
        abbrev = self._unit.abbrevs[code]
        step = abbrev.steps.get(_STEPS)
        if step is None:
            step = abbrev.steps[_STEPS] = _CodeStep(abbrev, self._unit.header.offset_size)
        self[code] = step
        return step


class UnitCode:
    """The functions of a unit by address.

    :param lowest: code below this address was left out by the linker
    :raises DwarfError: if its entries cannot be walked
    """

    def __init__(self, unit: Unit, lowest: int = 0) -> None:
        self.unit = unit
        self.weight = len(unit.data)
        self._lowest = lowest
        self._plan = _CodePlan(unit)
        self._skipping = Plan(unit, 0)
        self._base = base_of(unit)
        root = unit.root()
        self._read = 0
        self._first = root.end if root.abbrev.children else len(unit.data)
        self._functions = RangeMap(list(self._pieces(self._at_file_scope(self._first, 0))))
        self._all: RangeMap | None = None

    def chain(self, address: int) -> list[Entry]:
        """Return the function around an address and what is inlined there, the innermost last.

        Empty if no function of the unit has the address.
        """
        self._read = 0
        offset = self._functions.at(address)
        if offset < 0:
            # Functions inside others, which GNU C has, have code beside that of the outer one.
            if self._all is None:
                self._all = RangeMap(list(self._pieces(self._everywhere())))
            offset = self._all.at(address)
            if offset < 0:
                return []
        function = Entry(self.unit, offset)
        return [function, *self._inlined(function, address, 0)]

    def _inlined(self, outer: Entry, address: int, depth: int) -> list[Entry]:
        if not outer.abbrev.children:
            return []
        if depth > MAX_DEPTH:
            raise DwarfError("entries nested too deeply", where=self.unit.where(outer.offset))
        for offset in self._children(outer.end):
            entry = Entry(self.unit, offset)
            tag = entry.tag
            if tag == dw.TAG_SUBPROGRAM:
                continue
            if any(start <= address < start + size for start, size in self._code_of(entry)):
                inner = self._inlined(entry, address, depth + 1)
                return [entry, *inner] if tag == dw.TAG_INLINED_SUBROUTINE else inner
            if tag in _SCOPES and entry.get(dw.AT_LOW_PC) is entry.get(dw.AT_RANGES) is None:
                inner = self._inlined(entry, address, depth + 1)
                if inner:
                    return inner
        return []

    def _code_of(self, entry: Entry) -> Iterator[tuple[int, int]]:
        for piece in code_of(entry, self._base):
            self._read += 1
            if self._read > MAX_RANGES:
                raise DwarfError(
                    "a unit has more ranges of code than any program",
                    where=self.unit.where(entry.offset),
                    expected=f"at most {MAX_RANGES}",
                )
            yield piece

    def _pieces(self, offsets: Iterator[int]) -> Iterator[tuple[int, int, int]]:
        for offset in offsets:
            for start, size in self._code_of(Entry(self.unit, offset)):
                if start >= self._lowest and size > 0:
                    yield start, start + size, offset

    def _at_file_scope(self, pos: int, depth: int) -> Iterator[int]:
        for offset in self._children(pos):
            entry = Entry(self.unit, offset)
            if entry.tag == dw.TAG_SUBPROGRAM:
                yield offset
            elif entry.tag == dw.TAG_NAMESPACE and entry.abbrev.children and depth < MAX_DEPTH:
                yield from self._at_file_scope(entry.end, depth + 1)

    def _children(self, pos: int) -> Iterator[int]:
        """Yield where those of a list of entries lie that have or hold code."""
        unit, plan = self.unit, self._plan
        data, end = unit.data, len(unit.data)
        number = struct.Struct(unit.encoding.order + "I").unpack_from
        while pos < end:
            start = pos
            code = data[pos]
            pos += 1
            if code >= 0x80:
                code, pos = uleb(data, start)
            if code == 0:
                return
            step = plan[code]
            if step.skip >= 0:
                pos += step.skip
                continue
            if step.code:
                yield start
            if step.sibling_at >= 0:
                sibling = number(data, pos + step.sibling_at)[0]
                if sibling > start:
                    pos = sibling
                    continue
            pos, inside = step.past(data, pos, number)
            if inside:
                pos = skip_children(unit, self._skipping, pos)

    def _everywhere(self) -> Iterator[int]:
        """Yield every function of the unit that has code, however deep."""
        unit, plan, pos = self.unit, self._plan, self._first
        data, end = unit.data, len(unit.data)
        while pos < end:
            start = pos
            code, pos = uleb(data, pos)
            if code == 0:
                continue
            abbrev = plan[code].abbrev
            if abbrev.tag == dw.TAG_SUBPROGRAM and plan[code].code:
                yield start
            pos = pos + abbrev.size if abbrev.size >= 0 else abbrev.read(data, pos)[1]
