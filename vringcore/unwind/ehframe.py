"""Unwind tables as they lie in memory: ``.eh_frame_hdr``, and the entries of ``.eh_frame``.

LSB Core 5.0, chapter 10.6 ("Exception Frames"). Read are the steps of a binary search, eight bytes
each, then the one entry of a function and what it shares with others: a small core needs no more.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress, end_of
from vringcore.debuginfo.damage import ours
from vringcore.debuginfo.leb import sleb, uleb
from vringcore.errors import DwarfError
from vringcore.unwind.pointers import OMIT, plain, pointer, size_of

if TYPE_CHECKING:
    from vringcore.memory.space import HostSpace

PT_GNU_EH_FRAME = 0x6474E550

MAX_ENTRY = 1 << 16
"""Bytes of one entry; compilers make some tens, the largest function of QEMU some hundreds."""

MAX_AUGMENTATION = 16

_HEADER_SIZE = 4 + 2 * 8
_WORDS = {order: Struct(order + "I") for order in "<>"}
_WIDES = {order: Struct(order + "Q") for order in "<>"}
_POINTER_SIZE = 8


class CommonEntry(msgspec.Struct, frozen=True):
    """A CIE: what the functions of one object file have in common.

    :param return_column: the register that stands for the return address
    :param encoding: how a function's addresses are written
    :param signal: the functions are signal trampolines: what they return to was interrupted
    :param has_data: each function's entry has augmentation data of its own
    :param address: of the first instruction
    :param order: of bytes, as :mod:`struct` has it
    """

    code_align: int
    data_align: int
    return_column: int
    encoding: int
    signal: bool
    has_data: bool
    instructions: bytes
    address: int
    order: str = "<"


class FunctionEntry(msgspec.Struct, frozen=True):
    """An FDE: the instructions for the code ``[start, end)``; ``address`` is the first one's."""

    common: CommonEntry
    start: int
    end: int
    instructions: bytes
    address: int


class UnwindTable:
    """The unwind tables of one module.

    :param address: where its ``.eh_frame_hdr`` lies (PT_GNU_EH_FRAME)
    :param order: of bytes, as :mod:`struct` has it
    :raises DwarfError: if the header is damaged or has no search table
    :raises MemoryFault: if it is neither in the core nor in a file at hand
    """

    def __init__(self, space: HostSpace, address: int, order: str = "<") -> None:
        self._space = space
        self._order = order
        self._address = address
        self._commons: dict[int, CommonEntry] = {}
        self._rows: dict[int, tuple[int, int]] = {}
        self._read_header()

    @ours
    def _read_header(self) -> None:
        data = self._read(self._address, _HEADER_SIZE)
        version, frame, count, table = data[:4]
        if version != 1 or OMIT in (count, table):
            raise DwarfError(
                "unwind tables without a search table",
                where=f"{self._address:#x}",
                seen=f"version {version}, encodings {frame:#x}, {count:#x}, {table:#x}",
                expected="version 1 and a table",
            )
        pos = 4
        if frame != OMIT:
            _, pos = self._pointer(data, pos, frame, self._address)
        self._count, pos = plain(data, pos, count, self._order)
        each = size_of(table)
        if each is None or self._count < 0:
            raise DwarfError(
                "a search table whose entries have no fixed size",
                where=f"{self._address:#x}",
                seen=f"encoding {table:#x}, {self._count} entries",
            )
        self._encoding, self._each = table, each
        self._table = self._address + pos
        end_of(self._table, 2 * each * self._count)

    @ours
    def entry_at(self, pc: int) -> FunctionEntry | None:
        """Return the entry of the function that an address lies in, None if none covers it.

        :raises DwarfError: if the tables are damaged there
        :raises MemoryFault: if they are not in memory
        """
        low, high = 0, self._count
        place = 0
        while low < high:
            middle = (low + high) // 2
            start, entry = self._row(middle)
            if start <= pc:
                low, place = middle + 1, entry
            else:
                high = middle
        if not place:
            return None
        found = self._function(place)
        return found if found.start <= pc < found.end else None

    def _row(self, index: int) -> tuple[int, int]:
        row = self._rows.get(index)
        if row is None:
            address = self._table + 2 * self._each * index
            data = self._read(address, 2 * self._each)
            start, pos = self._pointer(data, 0, self._encoding, address)
            entry, _ = self._pointer(data, pos, self._encoding, address)
            row = self._rows[index] = start, entry
        return row

    def _pointer(self, data: bytes, pos: int, encoding: int, base: int) -> tuple[int, int]:
        """Return an address of the header or its table, and where it ends."""
        order = self._order
        return pointer(data, pos, encoding, base, data_base=self._address, order=order)

    def _function(self, address: int) -> FunctionEntry:
        data, pos, wide = self._entry(address)
        back, body = self._offset(data, pos, wide=wide)
        if not back:
            raise DwarfError("a function's unwind entry that is none", where=f"{address:#x}")
        common = self._common(address + pos - back)
        order = self._order
        start, body = pointer(data, body, common.encoding, address, space=self._space, order=order)
        size, body = plain(data, body, common.encoding, order)
        if common.has_data:
            skipped, body = uleb(data, body)
            body += skipped
        return FunctionEntry(common, start, start + max(0, size), data[body:], address + body)

    def _common(self, address: int) -> CommonEntry:
        found = self._commons.get(address)
        if found is None:
            data, pos, wide = self._entry(address)
            number, pos = self._offset(data, pos, wide=wide)
            if number:
                raise DwarfError("no common unwind entry", where=f"{address:#x}")
            found = self._commons[address] = parse_common(data, pos, address, self._order)
        return found

    def _entry(self, address: int) -> tuple[bytes, int, bool]:
        """Return an entry from its length on, where its CIE pointer lies, and if that is wide."""
        word, double = _WORDS[self._order], _WIDES[self._order]
        head = self._read(address, word.size)
        (size,) = word.unpack(head)
        wide = size == 0xFFFFFFFF
        if wide:
            head += self._read(address + word.size, double.size)
            (size,) = double.unpack_from(head, word.size)
        if not 0 < size <= MAX_ENTRY:
            raise DwarfError(
                "an unwind entry of a size that cannot be",
                where=f"{address:#x}",
                seen=f"{size} bytes",
                expected=f"1 to {MAX_ENTRY}",
            )
        return head + self._read(address + len(head), size), len(head), wide

    def _offset(self, data: bytes, pos: int, *, wide: bool) -> tuple[int, int]:
        layout = (_WIDES if wide else _WORDS)[self._order]
        return layout.unpack_from(data, pos)[0], pos + layout.size

    def _read(self, address: int, size: int) -> bytes:
        return self._space.read(HostAddress(address), size)


def parse_common(data: bytes, pos: int, address: int, order: str) -> CommonEntry:
    version = data[pos]
    end = data.find(0, pos + 1, pos + 2 + MAX_AUGMENTATION)
    if version not in (1, 3, 4) or end < 0:
        raise DwarfError(
            "a common unwind entry of an unknown kind",
            where=f"{address:#x}",
            seen=f"version {version}" + (", no end of its augmentation" if end < 0 else ""),
            expected="version 1, 3 or 4",
        )
    augmentation, pos = data[pos + 1 : end].decode("latin-1"), end + 1
    if augmentation.startswith("eh"):
        # GCC 2's pointer to its exception table.
        augmentation, pos = augmentation[2:], pos + _POINTER_SIZE
    if version == 4:
        pos += 2  # address_size and segment_selector_size
    code_align, pos = uleb(data, pos)
    data_align, pos = sleb(data, pos)
    if version == 1:
        column, pos = data[pos], pos + 1
    else:
        column, pos = uleb(data, pos)
    has_data = augmentation.startswith("z")
    if has_data:
        length, pos = uleb(data, pos)
        encoding, instructions = _encoding(augmentation[1:], data, pos), pos + length
    elif augmentation.strip("SBG"):
        raise DwarfError(
            "a common unwind entry of an unknown kind",
            where=f"{address:#x}",
            seen=f"augmentation {augmentation!r}",
        )
    else:
        encoding, instructions = 0, pos
    return CommonEntry(
        code_align=code_align,
        data_align=data_align,
        return_column=column,
        encoding=encoding,
        signal="S" in augmentation,
        has_data=has_data,
        instructions=data[instructions:],
        address=address + instructions,
        order=order,
    )


def _encoding(letters: str, data: bytes, pos: int) -> int:
    """Return how functions' addresses are written, from augmentation data."""
    for letter in letters:
        if letter == "R":
            return data[pos]
        if letter == "P":
            _, pos = plain(data, pos + 1, data[pos])
        elif letter == "L":
            pos += 1
        # S, B (aarch64: signed with the B key) and G (tagged memory) have no data.
        elif letter not in "SBG":
            break  # What it means is unknown; where the data ends is not.
    return 0
