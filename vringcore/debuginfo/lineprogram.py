"""Running a line number program (DWARF 5, section 6.2.5).

Only what tells file and line of an address is kept: columns, views and discriminators are passed
over. Of several rows of one address one is kept, the one that gdb shows.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Literal

from vringcore.debuginfo.leb import sleb, uleb

if TYPE_CHECKING:
    from vringcore.debuginfo.linefiles import FileTable

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN, _NEGATE_STMT = 1, 2, 3, 4, 5, 6
_BASIC_BLOCK, _CONST_ADD_PC, _FIXED_ADVANCE_PC, _PROLOGUE_END, _EPILOGUE_BEGIN = 7, 8, 9, 10, 11
"""Standard opcodes (DW_LNS)."""

_NO_OPERANDS = frozenset({_BASIC_BLOCK, _PROLOGUE_END, _EPILOGUE_BEGIN})

_END_SEQUENCE, _SET_ADDRESS, _DEFINE_FILE, _SET_DISCRIMINATOR = 1, 2, 3, 4
"""Extended opcodes (DW_LNE)."""

FILE_SHIFT = 32
LINE_MASK = (1 << FILE_SHIFT) - 1

_STATEMENT = 1 << 62
"""Marks a place that a debugger may stop at (``is_stmt``), above file and line."""

_START = 1 << FILE_SHIFT | 1
"""File 1, line 1: where every sequence starts."""


class Sequence:
    """Rows of code that lies together: ``[start, end)``, and where its rows begin.

    ``places`` are ``file << FILE_SHIFT | line``, one for each of ``addresses``.
    """

    __slots__ = ("addresses", "end", "places", "start")

    def __init__(self, addresses: list[int], places: list[int], end: int) -> None:
        if addresses != sorted(addresses):
            rows = sorted(zip(addresses, places, strict=True), key=lambda row: row[0])
            addresses, places = [a for a, _ in rows], [p for _, p in rows]
        self.addresses = array("Q", addresses)
        self.places = array("Q", places)
        self.start = addresses[0]
        self.end = end


class Machine:
    """What a line program's header says of how to run it.

    :param operations: ``maximum_operations_per_instruction``
    :param lengths: how many operands the standard opcodes from 1 on have
    :param statement: ``default_is_stmt``
    """

    __slots__ = (
        "_advances", "_base", "_byteorder", "_instruction", "_lengths", "_operations", "_start",
        "_steps",
    )  # fmt: skip

    def __init__(
        self, *, instruction: int, operations: int, line_base: int, line_range: int,
        lengths: bytes, byteorder: Literal["big", "little"], statement: bool = True,
    ) -> None:  # fmt: skip
        self._instruction = instruction
        self._operations = operations
        self._lengths = b"\0" + lengths
        self._base = base = len(lengths) + 1
        self._byteorder: Literal["big", "little"] = byteorder
        self._start = _START | _STATEMENT if statement else _START
        self._advances = [0] * 256
        self._steps = [0] * 256
        for opcode in range(base, 256):
            self._advances[opcode] = (opcode - base) // line_range * instruction
            self._steps[opcode] = line_base + (opcode - base) % line_range

    def run(  # noqa: C901 - one loop: it passes every byte of the program
        self, data: bytes, pos: int, files: FileTable, found: list[Sequence]
    ) -> None:
        """Add the sequences of the program at ``pos`` to ``found``.

        Whatever it raises, those found before are whole.
        """
        base, advances, steps = self._base, self._advances, self._steps
        instruction, operations = self._instruction, self._operations
        end = len(data)
        addresses: list[int] = []
        places: list[int] = []
        discriminated: set[int] = set()
        # An address and the operation in its instruction are one number, so that an advance is one
        # addition: operations * address + instruction * op_index. File, line and mark are one,
        # likewise.
        position, place = 0, self._start
        while pos < end:
            opcode = data[pos]
            pos += 1
            if opcode >= base:
                position += advances[opcode]
                place += steps[opcode]
                addresses.append(position)
                places.append(place)
            elif opcode == _SET_COLUMN:
                while data[pos] >= 0x80:
                    pos += 1
                pos += 1
            elif opcode == _NEGATE_STMT:
                place ^= _STATEMENT
            elif opcode in _NO_OPERANDS:
                pass
            elif opcode == _COPY:
                addresses.append(position)
                places.append(place)
            elif opcode == _ADVANCE_LINE:
                number = data[pos]
                if number < 0x40:
                    pos += 1
                elif number < 0x80:
                    pos += 1
                    number -= 0x80
                else:
                    number, pos = sleb(data, pos)
                place += number
            elif opcode == 0:
                size = data[pos]
                pos += 1
                if size >= 0x80:
                    size, pos = uleb(data, pos - 1)
                extended = data[pos] if size else 0
                if extended == _SET_ADDRESS:
                    address = int.from_bytes(data[pos + 1 : pos + size], self._byteorder)
                    position = address * operations
                elif extended == _END_SEQUENCE:
                    if self._operations != 1:
                        addresses = [self._address(p) for p in addresses]
                    self._finish(*_shown(addresses, places, discriminated), position, found)
                    addresses, places, discriminated = [], [], set()
                    position, place = 0, self._start
                elif extended == _SET_DISCRIMINATOR and data[pos + 1]:
                    discriminated.add(len(places))  # The row to come.
                elif extended == _DEFINE_FILE:
                    files.add(data[pos + 1 : pos + size])
                pos += size
            elif opcode == _SET_FILE:
                number = data[pos]
                pos += 1
                if number >= 0x80:
                    number, pos = uleb(data, pos - 1)
                place = place & (LINE_MASK | _STATEMENT) | number << FILE_SHIFT
            elif opcode == _ADVANCE_PC:
                number = data[pos]
                pos += 1
                if number >= 0x80:
                    number, pos = uleb(data, pos - 1)
                position += number * instruction
            elif opcode == _CONST_ADD_PC:
                position += advances[255]
            elif opcode == _FIXED_ADVANCE_PC:
                number = int.from_bytes(data[pos : pos + 2], self._byteorder)
                position = (self._address(position) + number) * operations
                pos += 2
            else:
                for _ in range(self._lengths[opcode]):
                    while data[pos] >= 0x80:
                        pos += 1
                    pos += 1

    def _address(self, position: int) -> int:
        if self._operations == 1:
            return position
        return position // self._instruction // self._operations * self._instruction

    def _finish(
        self, addresses: list[int], places: list[int], position: int, found: list[Sequence]
    ) -> None:
        try:
            if addresses and addresses[0] < self._address(position):
                found.append(Sequence(addresses, places, self._address(position)))
        except OverflowError:
            pass  # Code that the linker left out, at an address beyond all others; or damage.


def _shown(
    addresses: list[int], places: list[int], discriminated: set[int]
) -> tuple[list[int], list[int]]:
    """Return one row for each address, that which gdb shows, where a debugger stops.

    Of the rows of one address the last one that is a statement counts, within its file; the last
    file counts, unless it comes in without a statement where another file has had one. A row that
    differs from the one before by its discriminator alone begins no line (``for (a; b; c)``).
    """
    starts: list[int] = []
    kept: list[int] = []
    last, line, here, parted = -1, -1, -1, False
    met = stands = 0
    for row, place in enumerate(places):
        address, marked, bare = addresses[row], place & _STATEMENT, place & ~_STATEMENT
        parted = row in discriminated or (parted and bare & LINE_MASK == line)
        line = bare & LINE_MASK
        if address != here:
            here, met = address, 0
        if met and not marked and (bare ^ last) >> FILE_SHIFT:
            continue
        met |= marked
        if parted and bare == last:
            continue
        last = bare
        if not starts or starts[-1] != address:
            starts.append(address)
            kept.append(bare)
            stands = marked
        elif marked or not stands:
            kept[-1], stands = bare, marked
    return starts, kept
