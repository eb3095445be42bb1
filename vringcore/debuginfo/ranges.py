"""Where the code of a function in several pieces starts (DWARF 5, section 2.17.3; DWARF 4, 2.17.3).

GCC moves what it believes to be seldom run away from the rest of a function, which then has a list
of ranges in place of DW_AT_low_pc and DW_AT_high_pc. The first range is that of the entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import uleb
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from vringcore.debuginfo.units import Unit

_END, _BASE_X, _START_X_END_X, _START_X_LENGTH = 0, 1, 2, 3
_OFFSET_PAIR, _BASE, _START_END, _START_LENGTH = 4, 5, 6, 7
"""Kinds of entries of ``.debug_rnglists`` (DW_RLE, DWARF 5, section 7.25)."""

_MAX_ENTRIES = 64


def first_range(unit: Unit, form: int, value: int) -> tuple[int, int] | None:
    """Return start and size of the first range of a DW_AT_ranges, None if there is none.

    :raises DwarfError: if the list cannot be read
    """
    base = unit.root().get(dw.AT_LOW_PC)
    start = base if isinstance(base, int) else 0
    if unit.header.version < 5:
        return _first_pair(unit, value, start)
    data = _section(unit, ".debug_rnglists")
    if form == dw.FORM_RNGLISTX:
        raise DwarfError("a list of ranges by index", where=unit.where(0))
    return _first_entry(unit, data, value, start)


def _section(unit: Unit, name: str) -> bytes:
    section = unit.dwarf.elf.section(name)
    if section is None:
        raise DwarfError(f"a list of ranges without {name}", where=unit.where(0))
    return section.data


def _first_pair(unit: Unit, pos: int, base: int) -> tuple[int, int] | None:
    data, size = _section(unit, ".debug_ranges"), unit.encoding.address_size
    for _ in range(_MAX_ENTRIES):
        start, end = _address(unit, data, pos), _address(unit, data, pos + size)
        if start == end == 0:
            return None
        if start == (1 << (8 * size)) - 1:
            base = end
        elif start != end:
            return base + start, end - start
        pos += 2 * size
    return None


def _first_entry(unit: Unit, data: bytes, pos: int, base: int) -> tuple[int, int] | None:
    size = unit.encoding.address_size
    for _ in range(_MAX_ENTRIES):
        kind = data[pos]
        pos += 1
        if kind == _END:
            return None
        if kind in (_BASE, _START_END, _START_LENGTH):
            first, pos = _address(unit, data, pos), pos + size
        else:
            first, pos = uleb(data, pos)
            if kind != _OFFSET_PAIR:
                first = unit.address(first)
        if kind in (_BASE, _BASE_X):
            base = first
            continue
        if kind == _START_END:
            second, pos = _address(unit, data, pos), pos + size
        else:
            second, pos = uleb(data, pos)
        start, length = {
            _OFFSET_PAIR: (base + first, second - first),
            _START_X_LENGTH: (first, second),
            _START_LENGTH: (first, second),
            _START_END: (first, second - first),
            _START_X_END_X: (first, unit.address(second) - first if kind == _START_X_END_X else 0),
        }.get(kind, (0, 0))
        if length > 0:
            return start, length
    return None


def _address(unit: Unit, data: bytes, pos: int) -> int:
    raw = data[pos : pos + unit.encoding.address_size]
    if len(raw) != unit.encoding.address_size:
        raise DwarfError("a list of ranges leaves its section", where=f"byte {pos:#x}")
    return int.from_bytes(raw, unit.dwarf.byteorder)
