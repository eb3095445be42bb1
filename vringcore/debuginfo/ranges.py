"""Which addresses an entry's code has (DWARF 5, section 2.17; DWARF 4, 2.17).

GCC moves what it believes to be seldom run away from the rest of a function, which then has a list
of ranges in place of DW_AT_low_pc and DW_AT_high_pc. The first range is that of the entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import uleb
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.units import Entry, Unit

_END, _BASE_X, _START_X_END_X, _START_X_LENGTH = 0, 1, 2, 3
_OFFSET_PAIR, _BASE, _START_END, _START_LENGTH = 4, 5, 6, 7
"""Kinds of entries of ``.debug_rnglists`` (DW_RLE, DWARF 5, section 7.25)."""

_MAX_ENTRIES = 1 << 16


def first_range(unit: Unit, form: int, value: int) -> tuple[int, int] | None:
    """Return start and size of the first range of a DW_AT_ranges, None if there is none.

    :raises DwarfError: if the list cannot be read
    """
    return next((r for r in list_ranges(unit, form, value) if r[1] > 0), None)


def code_of(entry: Entry, base: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield start and size of each piece of an entry's code; none if it has no code of its own.

    Empty pieces are among them, with a size of 0 or less: see :func:`list_ranges`.

    :raises DwarfError: if a list of ranges cannot be read
    """
    ranges = entry.get(dw.AT_RANGES)
    if isinstance(ranges, int):
        yield from list_ranges(entry.unit, entry.abbrev.forms[dw.AT_RANGES], ranges, base)
        return
    low, high = entry.address(dw.AT_LOW_PC), entry.address(dw.AT_HIGH_PC)
    if low is None or high is None:
        return
    # From DWARF 4 on a constant is the size, an address the end.
    yield low, high if entry.abbrev.forms[dw.AT_HIGH_PC] in _CONSTANTS else high - low


_CONSTANTS = frozenset({
    dw.FORM_DATA1, dw.FORM_DATA2, dw.FORM_DATA4, dw.FORM_DATA8, dw.FORM_UDATA, dw.FORM_SDATA,
    dw.FORM_IMPLICIT_CONST,
})  # fmt: skip


def base_of(unit: Unit) -> int:
    """Return what the unit's ranges count from where they do not say: its DW_AT_low_pc, or 0."""
    return (unit.skeleton or unit).root().address(dw.AT_LOW_PC) or 0


def list_ranges(
    unit: Unit, form: int, value: int, base: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield start and size of every range of a DW_AT_ranges.

    What is no range, or an empty one, has a size of 0 or less: who counts what comes counts steps.

    :param base: :func:`base_of` the unit, if that is at hand
    :raises DwarfError: if the list cannot be read
    """
    if base is None:
        base = base_of(unit)
    if unit.header.version < 5:
        if unit.skeleton is not None:
            unit = unit.skeleton
            value += unit.root().integer(dw.AT_GNU_RANGES_BASE) or 0
        return _pairs(unit, value, base)
    data = _section(unit, ".debug_rnglists")
    if form == dw.FORM_RNGLISTX:
        value = _indexed_list(unit, data, value)
    return _entries(unit, data, value, base)


def _indexed_list(unit: Unit, data: bytes, index: int) -> int:
    """Return where the list of an index starts (DWARF 5, section 7.28)."""
    table = unit.root().integer(dw.AT_RNGLISTS_BASE)
    if table is None and unit.skeleton is not None:
        table = table_of_file(unit)
    if table is None:
        raise DwarfError("a list of ranges by index, without a table", where=unit.where(0))
    size = unit.header.offset_size
    raw = data[table + index * size : table + (index + 1) * size]
    if len(raw) != size:
        raise DwarfError("a list of ranges leaves its table", seen=f"index {index}")
    return table + int.from_bytes(raw, unit.dwarf.byteorder)


def table_of_file(unit: Unit) -> int:
    """Return where a ``.dwo`` has its one table of lists: behind the header (section 7.28)."""
    return 12 if unit.header.offset_size == 4 else 20


def _section(unit: Unit, name: str) -> bytes:
    section = unit.dwarf.elf.section(name)
    if section is None:
        raise DwarfError(f"a list of ranges without {name}", where=unit.where(0))
    return section.data


def _pairs(unit: Unit, pos: int, base: int) -> Iterator[tuple[int, int]]:
    data, size = _section(unit, ".debug_ranges"), unit.encoding.address_size
    for _ in range(_MAX_ENTRIES):
        start, end = _address(unit, data, pos), _address(unit, data, pos + size)
        if start == end == 0:
            return
        if start == (1 << (8 * size)) - 1:
            base = end
            yield base, 0
        else:
            yield base + start, end - start
        pos += 2 * size


def _entries(unit: Unit, data: bytes, pos: int, base: int) -> Iterator[tuple[int, int]]:
    for _ in range(_MAX_ENTRIES):
        kind = data[pos]
        pos += 1
        if kind == _END:
            return
        first, pos = _start(unit, data, pos, kind)
        if kind in (_BASE, _BASE_X):
            base = first
            yield base, 0
            continue
        if kind == _START_END:
            second, pos = _address(unit, data, pos), pos + unit.encoding.address_size
        else:
            second, pos = uleb(data, pos)
        if kind in (_START_X_LENGTH, _START_LENGTH):
            length = second
        elif kind == _START_X_END_X:
            length = unit.address(second) - first
        else:
            length = second - first
        yield (base + first if kind == _OFFSET_PAIR else first), length


def _start(unit: Unit, data: bytes, pos: int, kind: int) -> tuple[int, int]:
    """Return the first operand of an entry, an index replaced by its address, and its end."""
    if kind in (_BASE, _START_END, _START_LENGTH):
        return _address(unit, data, pos), pos + unit.encoding.address_size
    first, pos = uleb(data, pos)
    if kind == _OFFSET_PAIR:
        return first, pos
    if kind not in (_BASE_X, _START_X_END_X, _START_X_LENGTH):
        raise DwarfError("an unknown kind of range", seen=f"DW_RLE {kind:#x}")
    return unit.address(first), pos


def _address(unit: Unit, data: bytes, pos: int) -> int:
    raw = data[pos : pos + unit.encoding.address_size]
    if len(raw) != unit.encoding.address_size:
        raise DwarfError("a list of ranges leaves its section", where=f"byte {pos:#x}")
    return int.from_bytes(raw, unit.dwarf.byteorder)
