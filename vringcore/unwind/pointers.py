"""Encoded pointers of unwind tables (LSB Core 5.0, section 10.5, "DWARF Exception Header")."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.debuginfo.leb import sleb, uleb
from vringcore.errors import DwarfError
from vringcore.unwind.registers import MASK

if TYPE_CHECKING:
    from vringcore.memory.space import HostSpace

OMIT = 0xFF
INDIRECT = 0x80

_PCREL = 0x10
_DATAREL = 0x30
_ALIGNED = 0x50

_CODES = {0x00: "Q", 0x02: "H", 0x03: "I", 0x04: "Q", 0x08: "q", 0x0A: "h", 0x0B: "i", 0x0C: "q"}
_FIXED = {order: {form: Struct(order + code) for form, code in _CODES.items()} for order in "<>"}
_ULEB, _SLEB = 0x01, 0x09


def size_of(encoding: int) -> int | None:
    """Return the bytes that a pointer takes, None where that depends on its value."""
    layout = _FIXED["<"].get(encoding & 0x0F)
    return None if layout is None or encoding == OMIT else layout.size


def plain(data: bytes, pos: int, encoding: int, order: str = "<") -> tuple[int, int]:
    """Return the number as it is written at ``pos``, and where it ends.

    :param order: of bytes, as :mod:`struct` has it
    :raises DwarfError: for an encoding that is not defined
    """
    form = encoding & 0x0F
    layout = _FIXED[order].get(form)
    if layout is not None:
        return layout.unpack_from(data, pos)[0], pos + layout.size
    if form == _ULEB:
        return uleb(data, pos)
    if form == _SLEB:
        return sleb(data, pos)
    raise DwarfError("a pointer of an unknown encoding", seen=f"{encoding:#x}")


def pointer(
    data: bytes,
    pos: int,
    encoding: int,
    base: int,
    *,
    data_base: int = 0,
    space: HostSpace | None = None,
    order: str = "<",
) -> tuple[int, int]:
    """Return an address at ``pos``, and where it ends.

    :param base: run-time address of ``data[0]``
    :param data_base: what ``DW_EH_PE_datarel`` counts from
    :param space: where an indirect pointer is read from; without one its own address is returned
    :param order: of bytes, as :mod:`struct` has it
    :raises DwarfError: for an encoding that is not defined or needs a base that nothing tells
    """
    if encoding & 0x70 == _ALIGNED:
        pos += -(base + pos) % 8
        value, end = plain(data, pos, 0, order)
    else:
        value, end = plain(data, pos, encoding, order)
        value += _base_of(encoding, base + pos, data_base)
    value &= MASK
    if encoding & INDIRECT and space is not None:
        (value,) = _FIXED[order][0].unpack(space.read(HostAddress(value), 8))
    return value, end


def _base_of(encoding: int, place: int, data_base: int) -> int:
    kind = encoding & 0x70
    if kind == 0:
        return 0
    if kind == _PCREL:
        return place
    if kind == _DATAREL:
        return data_base
    raise DwarfError("a pointer relative to what nothing tells", seen=f"encoding {encoding:#x}")
