"""The debug information of one file: its sections, strings, tables and units."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.abbrev import AbbrevTable, Encoding
from vringcore.debuginfo.chain import UnitChain
from vringcore.debuginfo.strings import Strings
from vringcore.debuginfo.toplevel import TopLevel
from vringcore.debuginfo.units import Unit
from vringcore.errors import DebugInfoMissingError, DwarfError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.debuginfo.elf import ElfFile, Section
    from vringcore.debuginfo.splitunits import Package, SplitUnits

KEPT_BYTES = 32 << 20
"""Bytes of units that are kept decoded; the oldest go first."""


class UnitBytes:
    """The bytes of all units: ``.debug_info``, from ``types_at`` on DWARF 4's ``.debug_types``."""

    def __init__(self, info: Section, types: Section | None) -> None:
        self._info = info
        self._types = types
        self.packed = info.packed
        self.types_at = info.size
        self.size = info.size + (types.size if types is not None else 0)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of them, fewer where a section ends."""
        if offset < self.types_at or self._types is None:
            return self._info.read(offset, size)
        return self._types.read(offset - self.types_at, size)

    def reader(self) -> Callable[[int, int], bytes]:
        """Return what reads as :meth:`read` does, for thousands of reads."""
        return self._info.reader() if self._types is None else self.read


class Dwarf:
    """One file's debug information.

    :param alternate: opens the file that ``.gnu_debugaltlink`` names (dwz's common part)
    :param split: makes what finds what ``-gsplit-dwarf`` moved to files of its own
    :param package: the ``.dwp`` that this is one unit of
    :raises DebugInfoMissingError: if the file has none
    """

    def __init__(
        self,
        elf: ElfFile,
        alternate: Callable[[ElfFile], Dwarf] | None = None,
        *,
        split: Callable[[], SplitUnits] | None = None,
        package: Package | None = None,
    ) -> None:
        info, abbrev = elf.section(".debug_info"), elf.section(".debug_abbrev")
        if info is None or abbrev is None:
            raise DebugInfoMissingError(
                "no debug information in the file",
                where=elf.path,
                seen="no .debug_info section" if info is None else "no .debug_abbrev section",
            )
        self.elf = elf
        self.info = UnitBytes(info, elf.section(".debug_types"))
        self.order = elf.header.byteorder
        self.byteorder: Literal["big", "little"] = "big" if elf.header.big_endian else "little"
        self.strings = Strings(elf.section(".debug_str"), ".debug_str")
        self.line_strings = Strings(elf.section(".debug_line_str"), ".debug_line_str")
        self._abbrev = abbrev
        self._open_alternate = alternate
        self._make_split = split
        self._split: SplitUnits | None = None
        self._addresses = elf.section(".debug_addr") is not None
        self._package = package
        self._alternate: Dwarf | None = None
        self._chain: UnitChain | None = None
        self._encodings: dict[tuple[int, int, int], Encoding] = {}
        self._tables: dict[tuple[int, Encoding], AbbrevTable] = {}
        self._units: dict[int, Unit] = {}
        self._kept = 0
        self._top_levels: dict[int, TopLevel] = {}

    @property
    def chain(self) -> UnitChain:
        """All units by offset and name."""
        if self._chain is None:
            self._chain = UnitChain(self)
        return self._chain

    def unit(self, number: int, *, keep: bool = True) -> Unit:
        """Return a unit by its place in the section; of a skeleton, what it stands for.

        :param keep: False for a unit that is only passed over
        :raises DwarfError: if it is of a kind that is not read here, or damaged
        """
        unit = self._units.get(number)
        if unit is None:
            unit = self.own_unit(number)
            header = unit.header
            # DWARF 4 has no kind of unit for skeletons, but they alone need the addresses' table.
            if header.kind == dw.UT_SKELETON or (self._addresses and header.version < 5):
                unit = self._whole(unit)
            if keep:
                self._keep(number, unit)
        return unit

    def _keep(self, number: int, unit: Unit) -> None:
        self._kept += len(unit.data)
        self._units[number] = unit
        while self._kept > KEPT_BYTES and len(self._units) > 1:
            oldest = next(iter(self._units))
            self._kept -= len(self._units.pop(oldest).data)

    def _whole(self, unit: Unit) -> Unit:
        from vringcore.debuginfo.splitunits import SplitUnits, stands_for

        name = stands_for(unit)
        if not name:
            return unit
        if self._split is None:
            make = self._make_split
            self._split = SplitUnits([self.elf.path]) if make is None else make()
        return self._split.unit(unit, name)

    def own_unit(self, number: int) -> Unit:
        """Return a unit as this file has it, be it a skeleton.

        :raises DwarfError: if it is damaged
        """
        header = self.chain.header(number)
        offset = header.offset
        data = self.info.read(offset, header.size)
        if len(data) != header.size:
            raise DwarfError(
                "a unit leaves its section",
                where=f"unit at .debug_info+{offset:#x}",
                seen=f"{len(data)} bytes",
                expected=str(header.size),
            )
        key = (header.version, header.address_size, header.offset_size)
        encoding = self._encodings.get(key)
        if encoding is None:
            encoding = self._encodings[key] = Encoding(*key, self.order)
        table = self._tables.get((header.abbrev_offset, encoding))
        if table is None:
            table = AbbrevTable(partial(self._abbrev.read, header.abbrev_offset), encoding)
            self._tables[header.abbrev_offset, encoding] = table
        return Unit(self, header, data, encoding, table)

    def unit_holding(self, offset: int) -> tuple[Unit, int]:
        """Return the unit around an offset of ``.debug_info``, and the offset inside it.

        :raises DwarfError: if no unit is there
        """
        number = self.chain.number_at(offset)
        if number >= 0:
            unit = self.unit(number)
            inside = offset - unit.offset
            if unit.header.first <= inside < len(unit.data):
                return unit, inside
        raise DwarfError("a reference to no entry", seen=f".debug_info+{offset:#x}")

    def type_unit(self, signature: int) -> tuple[Unit, int]:
        """Return where the type of a type unit lies.

        :raises DwarfError: if no type unit has that signature
        """
        found = self.chain.type_unit(signature)
        if found is None and self._package is not None:
            other = self._package.type_unit(signature)
            if other is not None and other.chain.type_unit(signature) is not None:
                return other.type_unit(signature)
        if found is None:
            raise DwarfError("a type unit that is not there", seen=f"signature {signature:#018x}")
        return self.unit(found[0]), found[1]

    def alternate(self) -> Dwarf:
        """Return the debug information of dwz's common file.

        :raises DwarfError: if the file does not name one, or it was not found
        """
        if self._alternate is None:
            if self._open_alternate is None:
                link = self.elf.alternate_link()
                raise DwarfError(
                    "the debug information refers to a common file that is not at hand",
                    where=self.elf.path,
                    seen="no .gnu_debugaltlink" if link is None else f"the name {link[0]}",
                    hint="install the package with the .dwz file, or name its directory",
                )
            self._alternate = self._open_alternate(self.elf)
        return self._alternate

    def close(self) -> None:
        """Close what was opened for it."""
        if self._split is not None:
            self._split.close()

    def string_offset(self, base: int, index: int, size: int) -> int:
        """Return an entry of ``.debug_str_offsets``.

        :raises DwarfError: if it lies outside the section
        """
        return self._indexed(".debug_str_offsets", base, index, size)

    def indexed_address(self, base: int, index: int, size: int) -> int:
        """Return an entry of ``.debug_addr``.

        :raises DwarfError: if it lies outside the section
        """
        return self._indexed(".debug_addr", base, index, size)

    def _indexed(self, name: str, base: int, index: int, size: int) -> int:
        section = self.elf.section(name)
        at = base + index * size
        data = section.data[at : at + size] if section is not None else b""
        if len(data) != size:
            raise DwarfError(
                "an index leaves its table",
                where=f"{name}+{base:#x}",
                seen=f"index {index}",
            )
        return int.from_bytes(data, self.byteorder)

    def top_level(self, number: int, mask: int) -> TopLevel:
        """Return the names that a unit defines at file scope, of at least the kinds in ``mask``."""
        known = self._top_levels.get(number)
        if known is None or mask & ~known.mask:
            if known is not None:
                mask |= known.mask
            known = self._top_levels[number] = TopLevel(self.unit(number), mask)
        return known
