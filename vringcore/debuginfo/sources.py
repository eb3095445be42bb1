"""Function, file and line of a code address, the inlined functions around it included."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.damage import DAMAGE, damaged
from vringcore.debuginfo.elf import SHF_ALLOC
from vringcore.debuginfo.inlines import UnitCode
from vringcore.debuginfo.lines import LineTable
from vringcore.debuginfo.unitmap import UnitMap
from vringcore.errors import VringcoreError
from vringcore.layout.types import SourceFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.units import Entry, Unit

T = TypeVar("T", bound=UnitCode | LineTable)
P = ParamSpec("P")
R = TypeVar("R")

MAX_ORIGINS = 4
"""Entries that are followed to a function's name: inlined, its origin, its declaration."""

_MANGLED = (b"_Z", b"_R")

KEPT_LINES = 1 << 20
"""Rows of line programs that are kept, of 16 bytes each."""

KEPT_CODE = 64 << 20
"""Bytes of units whose functions are kept."""


class _Kept(dict[int, T | None]):
    """What was made of units, by number, None for what could not be; the oldest goes first."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._sum = 0

    def __setitem__(self, number: int, made: T | None) -> None:
        super().__setitem__(number, made)
        self._sum += 0 if made is None else made.weight
        while self._sum > self._limit and len(self) > 1:
            oldest = self.pop(next(iter(self)))
            self._sum -= 0 if oldest is None else oldest.weight


class Sources:
    """The source lines of one file's code. ``log`` tells what was damaged."""

    def __init__(self, dwarf: Dwarf, log: list[str]) -> None:
        self._dwarf = dwarf
        self._log = log
        # Code that the linker left out stays described, as if it lay at address 0.
        allocated = (h.addr for h in dwarf.elf.headers if h.flags & SHF_ALLOC and h.size)
        self._lowest = min(allocated, default=0)
        self._units = UnitMap(dwarf, self._lowest)
        self._code: _Kept[UnitCode] = _Kept(KEPT_CODE)
        self._lines: _Kept[LineTable] = _Kept(KEPT_LINES)

    def source_of(self, address: int) -> list[SourceFrame]:
        """Return the functions around a link-time address, the innermost inlined one first.

        The last one's name is "" if no entry describes the function (assembler), and the list is
        empty if nothing is known.

        :raises DwarfError: if the unit of the address cannot be read
        """
        number = self._units.at(address)
        if number < 0:
            return []
        unit = self._unit(number)
        if number not in self._code:
            self._code[number] = self._attempt(UnitCode, unit, self._lowest)
        code, lines = self._code[number], self._lines_of(unit)
        chain = None if code is None else self._attempt(code.chain, address)
        row = None if lines is None else self._attempt(lines.row, address)
        if not chain:
            return [] if row is None else [_frame("", lines, *row)]
        frames = []
        file, line = row or (-1, 0)
        for entry in reversed(chain):
            frames.append(_frame(self._attempt(_name, entry) or "", lines, file, line))
            # Where a function was inlined is the place in the one around it.
            file, line = entry.integer(dw.AT_CALL_FILE) or 0, entry.integer(dw.AT_CALL_LINE) or 0
        return frames

    def chain_of(self, address: int) -> list[Entry]:
        """Return the function around a link-time address and what is inlined there, innermost last.

        Empty if no function is known there.

        :raises DwarfError: if the unit of the address cannot be read
        """
        number = self._units.at(address)
        if number < 0:
            return []
        unit = self._dwarf.unit(number)
        if number not in self._code:
            self._code[number] = self._attempt(UnitCode, unit, self._lowest)
        code = self._code[number]
        return [] if code is None else code.chain(address)

    def _unit(self, number: int) -> Unit:
        """Return a unit, or the skeleton that has its lines at least."""
        return self._attempt(self._dwarf.unit, number) or self._dwarf.own_unit(number)

    def _lines_of(self, unit: Unit) -> LineTable | None:
        unit = unit.skeleton or unit
        offset = unit.root().integer(dw.AT_STMT_LIST)
        if offset is None:
            return None
        if offset not in self._lines:
            self._lines[offset] = self._attempt(LineTable, unit, offset, self._lowest)
        return self._lines[offset]

    def _attempt(self, read: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Return a part of the answer, None where it cannot be read."""
        try:
            return read(*args, **kwargs)
        except VringcoreError as error:
            self._log.append(str(error))
        except DAMAGE as error:
            self._log.append(str(damaged(error)))
        return None


def _name(entry: Entry) -> str:
    """Return a function's name: the one it is linked by, as ``openat64`` for glibc's ``openat``.

    Mangled names of C++ and Rust are not for reading; they have one that is.
    """
    origin: Entry | None = entry
    for _ in range(MAX_ORIGINS):
        if origin is None:
            break
        linked = origin.unit.string(origin.abbrev, origin.values, dw.AT_LINKAGE_NAME)
        name = linked if linked and not linked.startswith(_MANGLED) else origin.name()
        if name is not None:
            return name.decode("utf-8", "backslashreplace")
        origin = origin.reference(dw.AT_SPECIFICATION) or origin.reference(dw.AT_ABSTRACT_ORIGIN)
    return ""


def _frame(function: str, lines: LineTable | None, file: int, line: int) -> SourceFrame:
    name = lines.files.name(file) if lines is not None and line else ""
    if lines is None or not name:
        return SourceFrame(function)
    return SourceFrame(function, name, line, "" if name[0] == "/" else lines.files.directory)
