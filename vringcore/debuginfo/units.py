"""The units of ``.debug_info``: their headers, their root entries, and what their forms mean."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import uleb
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from vringcore.debuginfo.abbrev import Abbrev, AbbrevTable, Encoding
    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.layout.types import Type

DWARF64 = 0xFFFF_FFFF
"""In place of a unit's length: the 64-bit format, whose length and offsets have 8 bytes."""

_STRX = frozenset({
    dw.FORM_STRX, dw.FORM_STRX1, dw.FORM_STRX2, dw.FORM_STRX3, dw.FORM_STRX4, dw.FORM_GNU_STR_INDEX,
})  # fmt: skip

_ADDRX = frozenset({
    dw.FORM_ADDRX, dw.FORM_ADDRX1, dw.FORM_ADDRX2, dw.FORM_ADDRX3, dw.FORM_ADDRX4,
    dw.FORM_GNU_ADDR_INDEX,
})  # fmt: skip

UNIT_REFERENCES = frozenset({
    dw.FORM_REF1, dw.FORM_REF2, dw.FORM_REF4, dw.FORM_REF8, dw.FORM_REF_UDATA,
})  # fmt: skip

_ALTERNATE_REFERENCES = frozenset({dw.FORM_GNU_REF_ALT, dw.FORM_REF_SUP4, dw.FORM_REF_SUP8})


class UnitHeader:
    """What the header of a unit says. Offsets of entries count from the unit's first byte.

    :param data: starts with the header
    :param offset: where it lies, for messages
    :param types: it is in ``.debug_types``, where DWARF 4 keeps type units
    :raises DwarfError: for another version than 2 to 5, or an empty unit
    """

    __slots__ = (
        "abbrev_offset", "address_size", "first", "kind", "offset", "offset_size", "signature",
        "size", "type_offset", "version",
    )  # fmt: skip

    def __init__(self, data: bytes, offset: int, order: str, *, types: bool = False) -> None:
        self.offset = offset
        self.offset_size, pos = 4, 4
        length = struct.unpack_from(order + "I", data)[0]
        if length == DWARF64:
            self.offset_size, pos = 8, 12
            length = struct.unpack_from(order + "Q", data, 4)[0]
        self.size = length + pos
        self.version = struct.unpack_from(order + "H", data, pos)[0]
        self.signature = self.type_offset = 0
        self.kind = dw.UT_TYPE if types else dw.UT_COMPILE
        number = "I" if self.offset_size == 4 else "Q"
        if self.version == 5:
            layout = struct.Struct(order + "BB" + number)
            self.kind, self.address_size, self.abbrev_offset = layout.unpack_from(data, pos + 2)
        elif 2 <= self.version <= 4:
            layout = struct.Struct(order + number + "B")
            self.abbrev_offset, self.address_size = layout.unpack_from(data, pos + 2)
        else:
            raise DwarfError(
                "a unit of an unknown version",
                where=f"unit at .debug_info+{offset:#x}",
                seen=str(self.version),
                expected="DWARF 2 to 5",
            )
        self.first = pos + 2 + layout.size
        if self.kind in (dw.UT_SKELETON, dw.UT_SPLIT_COMPILE):
            self.signature = struct.unpack_from(order + "Q", data, self.first)[0]
            self.first += 8
        elif self.kind in (dw.UT_TYPE, dw.UT_SPLIT_TYPE):
            layout = struct.Struct(order + "Q" + number)
            self.signature, self.type_offset = layout.unpack_from(data, self.first)
            self.first += layout.size
        if self.size <= self.first:
            raise DwarfError("an empty unit", where=f"unit at .debug_info+{offset:#x}")


class Entry:
    """One debug information entry, decoded: its abbreviation, raw values, and where they end."""

    __slots__ = ("abbrev", "end", "offset", "unit", "values")

    def __init__(self, unit: Unit, offset: int) -> None:
        data = unit.data
        code, pos = data[offset], offset + 1
        if code >= 0x80:
            code, pos = uleb(data, offset)
        self.unit = unit
        self.offset = offset
        self.abbrev: Abbrev = unit.abbrevs[code]
        self.values, self.end = self.abbrev.read(data, pos)

    @property
    def tag(self) -> int:
        """The DW_TAG."""
        return self.abbrev.tag

    def get(self, at: int) -> Any:
        """Return an attribute's raw value, None if there is none."""
        return self.abbrev.get(self.values, at)

    def name(self) -> bytes | None:
        """Return DW_AT_name."""
        return self.unit.string(self.abbrev, self.values, dw.AT_NAME)

    def integer(self, at: int) -> int | None:
        """Return an attribute that is a number; None if it is missing or an expression."""
        value = self.get(at)
        return value if isinstance(value, int) else None

    def address(self, at: int) -> int | None:
        """Return an attribute that is an address, given or by its index; else the number it is."""
        value = self.get(at)
        if value is not None and self.abbrev.forms[at] in _ADDRX:
            if isinstance(value, bytes):
                value = int.from_bytes(value, self.unit.dwarf.byteorder)
            return self.unit.address(value)
        return value if isinstance(value, int) else None

    def reference(self, at: int) -> Entry | None:
        """Return the entry that an attribute refers to, None if there is no such attribute."""
        value = self.get(at)
        if value is None:
            return None
        return Entry(*self.unit.target(self.abbrev.forms[at], value))


class Unit:
    """A unit: the bytes of its entries and what is needed to understand them.

    :ivar skeleton: of a unit in a file of its own, what was left of it in the program
    """

    __slots__ = (
        "_bases", "abbrevs", "data", "dwarf", "encoding", "header", "offset", "skeleton", "types",
    )  # fmt: skip

    def __init__(
        self, dwarf: Dwarf, header: UnitHeader, data: bytes, encoding: Encoding,
        abbrevs: AbbrevTable,
    ) -> None:  # fmt: skip
        self.dwarf = dwarf
        self.header = header
        self.offset = header.offset
        self.data = data
        self.encoding = encoding
        self.abbrevs = abbrevs
        self.types: dict[int, Type] = {}
        self.skeleton: Unit | None = None
        self._bases: tuple[int, int] | None = None

    def root(self) -> Entry:
        """Return the unit's own entry."""
        return Entry(self, self.header.first)

    @property
    def name(self) -> str:
        """The source file's name as the compiler was given it."""
        return (self.root().name() or b"").decode("utf-8", "backslashreplace")

    def where(self, offset: int) -> str:
        """Return a place in words, for messages."""
        return f".debug_info+{self.offset + offset:#x}"

    def string(self, abbrev: Abbrev, values: tuple[Any, ...], at: int) -> bytes | None:
        """Return an attribute that is a string, None if there is none.

        :raises DwarfError: if it lies outside its section or in a file that is not at hand
        """
        value = abbrev.get(values, at)
        if value is None or isinstance(value, bytes):
            if value is not None and abbrev.forms[at] == dw.FORM_STRX3:
                return self._indexed(int.from_bytes(value, self.dwarf.byteorder))
            return value
        form = abbrev.forms[at]
        if form == dw.FORM_STRP:
            return self.dwarf.strings[value]
        if form == dw.FORM_LINE_STRP:
            return self.dwarf.line_strings[value]
        if form in (dw.FORM_GNU_STRP_ALT, dw.FORM_STRP_SUP):
            return self.dwarf.alternate().strings[value]
        if form in _STRX:
            return self._indexed(value)
        raise DwarfError("a string in an unexpected form", seen=f"form {form:#x}")

    def _indexed(self, index: int) -> bytes:
        base = self._bases_of_root()[0]
        return self.dwarf.strings[self.dwarf.string_offset(base, index, self.header.offset_size)]

    def address(self, index: int) -> int:
        """Return the address at an index of ``.debug_addr`` (DW_OP_addrx, DW_FORM_addrx).

        :raises DwarfError: if it lies outside the section
        """
        if self.skeleton is not None:
            return self.skeleton.address(index)
        return self.dwarf.indexed_address(
            self._bases_of_root()[1], index, self.encoding.address_size
        )

    def _bases_of_root(self) -> tuple[int, int]:
        if self._bases is None:
            abbrev, values = self._root_values()
            strings = abbrev.get(values, dw.AT_STR_OFFSETS_BASE)
            addresses = abbrev.get(values, dw.AT_ADDR_BASE)
            if addresses is None:
                addresses = abbrev.get(values, dw.AT_GNU_ADDR_BASE)
            # Without the attribute: past the table's header, as in a file of one unit.
            start = 2 * self.header.offset_size if self.header.version >= 5 else 0
            self._bases = (
                start if strings is None else strings,
                start if addresses is None else addresses,
            )
        return self._bases

    def _root_values(self) -> tuple[Abbrev, tuple[Any, ...]]:
        code, pos = uleb(self.data, self.header.first)
        abbrev = self.abbrevs[code]
        return abbrev, abbrev.read(self.data, pos)[0]

    def target(self, form: int, value: int) -> tuple[Unit, int]:
        """Return the unit and offset that a reference leads to.

        :raises DwarfError: if it leads nowhere, or into a file that is not at hand
        """
        if form in UNIT_REFERENCES:
            if not self.header.first <= value < len(self.data):
                raise DwarfError("a reference leaves its unit", seen=f"offset {value:#x}")
            return self, value
        if form == dw.FORM_REF_ADDR:
            return self.dwarf.unit_holding(value)
        if form in _ALTERNATE_REFERENCES:
            return self.dwarf.alternate().unit_holding(value)
        if form == dw.FORM_REF_SIG8:
            return self.dwarf.type_unit(value)
        raise DwarfError("a reference in an unexpected form", seen=f"form {form:#x}")
