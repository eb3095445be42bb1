"""Members of a struct or union: offsets in bytes, bit-fields in bits (DWARF 5, section 5.7.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import uleb
from vringcore.debuginfo.toplevel import skip_children
from vringcore.debuginfo.units import Entry
from vringcore.errors import DwarfError
from vringcore.layout.types import Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.typereader import TypeReader

MAX_MEMBERS = 1 << 16


def read_members(types: TypeReader, record: Entry, record_size: int) -> Iterator[Member]:
    """Yield the members of a struct or union of ``record_size`` bytes, in order.

    :raises DwarfError: if a member lies outside, or its place is computed at run time
    """
    if not record.abbrev.children:
        return
    unit, pos = record.unit, record.end
    data, end = unit.data, len(unit.data)
    for _ in range(MAX_MEMBERS):
        if pos >= end or data[pos] == 0:
            return
        child = Entry(unit, pos)
        pos = child.end
        if child.tag == dw.TAG_MEMBER:
            member = _member(types, child)
            if member.offset > record_size:
                raise DwarfError(
                    f"member {member.name} lies outside its structure",
                    where=unit.where(child.offset),
                    seen=f"offset {member.offset}",
                    expected=f"at most {record_size}",
                )
            yield member
        if child.abbrev.children:
            pos = skip_children(unit, None, pos)
    raise DwarfError("a structure with too many members", where=unit.where(record.offset))


def _member(types: TypeReader, entry: Entry) -> Member:
    raw = entry.name()
    name = raw.decode("utf-8", "backslashreplace") if raw else None
    type_ = types.of(entry)
    bits = entry.integer(dw.AT_BIT_SIZE)
    offset = _offset(entry)
    if bits is None:
        return Member(name, type_, offset)
    first = entry.integer(dw.AT_DATA_BIT_OFFSET)
    if first is None:
        first = 8 * offset + _old_bit_offset(types, entry, bits)
    return Member(name, type_, first >> 3, bits, first & 7)


def _offset(entry: Entry) -> int:
    value = entry.get(dw.AT_DATA_MEMBER_LOCATION)
    if value is None:
        return 0  # Members of a union have no place of their own.
    if isinstance(value, int):
        return value
    # Up to DWARF 3 an expression that adds a constant to the structure's address.
    if value[:1] == bytes((dw.OP_PLUS_UCONST,)):
        offset, end = uleb(value, 1)
        if end == len(value):
            return offset
    raise DwarfError(
        "a member whose place is computed at run time",
        where=entry.unit.where(entry.offset),
        seen=value[:16].hex(" "),
    )


def _old_bit_offset(types: TypeReader, entry: Entry, bits: int) -> int:
    """Return where a bit-field starts, from DWARF 2's and 3's DW_AT_bit_offset.

    That counts from the most significant bit of a storage unit of DW_AT_byte_size.
    """
    from_top = entry.get(dw.AT_BIT_OFFSET)
    if not isinstance(from_top, int):
        return 0
    form = entry.abbrev.forms[dw.AT_BIT_OFFSET]
    if form == dw.FORM_DATA8 and from_top >> 63:
        from_top -= 1 << 64
    if entry.unit.dwarf.byteorder == "big":
        return from_top
    size = entry.integer(dw.AT_BYTE_SIZE)
    if size is None:
        size = types.byte_size(entry)
    return 8 * size - from_top - bits
