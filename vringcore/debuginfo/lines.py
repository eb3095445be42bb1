"""File and line of a code address (``.debug_line`` of DWARF 2 to 5, section 6.2)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING

from vringcore.debuginfo.abbrev import Encoding
from vringcore.debuginfo.damage import DAMAGE, damaged
from vringcore.debuginfo.linefiles import FileTable
from vringcore.debuginfo.lineprogram import FILE_SHIFT, LINE_MASK, Machine, Sequence
from vringcore.debuginfo.units import DWARF64
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from vringcore.debuginfo.units import Unit

MAX_PROGRAM = 64 << 20
"""Bytes of one unit's line program; the largest of a QEMU have some hundred thousand."""

LOOK_BACK = 8
"""Sequences before an address that are tried: they do not overlap unless something is wrong."""


class LineTable:
    """The line program of a unit, run once. ``weight`` is the number of rows kept of it.

    :param offset: where it lies in ``.debug_line`` (DW_AT_stmt_list)
    :param lowest: code below this address was left out by the linker
    :raises DwarfError: if its header cannot be understood
    """

    def __init__(self, unit: Unit, offset: int, lowest: int = 0) -> None:
        self._where = f".debug_line+{offset:#x}"
        self._damage: DwarfError | None = None
        data = self._load(unit, offset)
        found: list[Sequence] = []
        machine, tables, program, encoding = self._header(unit, data)
        self.files = FileTable(unit, data, tables, encoding)
        try:
            machine.run(data, program, self.files, found)
        except DwarfError as error:
            self._damage = error
        except DAMAGE as error:
            self._damage = damaged(error)
        self._sequences = sorted(
            (s for s in found if s.start >= lowest), key=lambda sequence: sequence.start
        )
        self._starts = [s.start for s in self._sequences]
        self.weight = sum(len(s.addresses) for s in self._sequences)

    def row(self, address: int) -> tuple[int, int] | None:
        """Return the number of the file and the line of an address, None if it has none.

        Of several rows of one address that counts which gdb shows. Line 0 is code that belongs to
        no line.

        :raises DwarfError: if the program is damaged before it comes to the address
        """
        end = bisect_right(self._starts, address)
        for sequence in reversed(self._sequences[max(0, end - LOOK_BACK) : end]):
            if address < sequence.end:
                place = sequence.places[bisect_right(sequence.addresses, address) - 1]
                return place >> FILE_SHIFT, place & LINE_MASK
        if self._damage is not None:
            raise self._damage
        return None

    def _load(self, unit: Unit, offset: int) -> bytes:
        section = unit.dwarf.elf.section(".debug_line")
        if section is None:
            raise DwarfError("a unit's lines without .debug_line", where=unit.where(0))
        order = unit.dwarf.order
        head = section.read(offset, 12)
        size = struct.unpack_from(order + "I", head)[0] + 4
        if size == DWARF64 + 4:
            size = struct.unpack_from(order + "Q", head, 4)[0] + 12
        if size > min(MAX_PROGRAM, section.size - offset):
            raise DwarfError(
                "a line program of impossible size",
                where=self._where,
                seen=f"{size} bytes",
                expected=f"at most {min(MAX_PROGRAM, section.size - offset)}",
            )
        return section.read(offset, size)

    def _header(self, unit: Unit, data: bytes) -> tuple[Machine, int, int, Encoding]:
        """Return the header's meaning, and where its tables and the program start."""
        order = unit.dwarf.order
        wide = data[:4] == b"\xff\xff\xff\xff"
        pos = 12 if wide else 4
        version = struct.unpack_from(order + "H", data, pos)[0]
        if not 2 <= version <= 5:
            raise DwarfError(
                "a line program of an unknown version",
                where=self._where,
                seen=str(version),
                expected="2 to 5",
            )
        pos += 2
        address_size = unit.encoding.address_size
        if version == 5:
            address_size = data[pos]  # and segment_selector_size
            pos += 2
        number = struct.Struct(order + ("Q" if wide else "I"))
        program = number.unpack_from(data, pos)[0] + pos + number.size
        pos += number.size
        instruction, operations = data[pos], 1
        if version >= 4:
            pos += 1
            operations = data[pos] or 1
        statement, line_base, line_range, base = struct.unpack_from(order + "BbBB", data, pos + 1)
        tables = pos + 5 + max(0, base - 1)
        if base == 0 or line_range == 0 or (operations > 1 and instruction == 0):
            raise DwarfError(
                "a line program's header makes no sense",
                where=self._where,
                seen=f"opcode_base {base}, line_range {line_range}",
                expected="neither to be 0",
            )
        machine = Machine(
            instruction=instruction,
            operations=operations,
            line_base=line_base,
            line_range=line_range,
            lengths=data[pos + 5 : tables],
            byteorder=unit.dwarf.byteorder,
            statement=bool(statement),
        )
        return machine, tables, program, Encoding(version, address_size, 8 if wide else 4, order)
