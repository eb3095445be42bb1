"""Code made at run time, with the unwind entries that its maker told debuggers of.

gdb's manual, "JIT Compilation Interface": ``__jit_debug_descriptor`` leads to a list of ELF files
in memory. QEMU's TCG makes one for all the code it will make (tcg/tcg.c, tcg_register_jit_int).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.debuginfo.damage import ours
from vringcore.elfcore.headers import ElfHeader, read_header, read_section_headers
from vringcore.errors import DwarfError, LimitError, MemoryFault, VringcoreError
from vringcore.unwind.ehframe import FunctionEntry, parse_common

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.elfcore.headers import SectionHeader
    from vringcore.memory.space import HostSpace

DESCRIPTOR = "__jit_debug_descriptor"

VERSION = 1
MAX_FILES = 64
MAX_FILE = 1 << 20
"""Bytes of one file; TCG's has some 800."""

MAX_ENTRIES = 4096

_SHT_SYMTAB = 2
_STT_FUNC = 2
_COMMON = 0xFFFFFFFF
_WIDE = 0xFFFFFFFF


class GeneratedFunction(msgspec.Struct, frozen=True):
    """A symbol of generated code, run-time addresses."""

    name: str
    start: int
    end: int


class GeneratedCode(msgspec.Struct, frozen=True):
    """What one of those ELF files tells."""

    entries: tuple[FunctionEntry, ...]
    functions: tuple[GeneratedFunction, ...]

    def entry_at(self, address: int) -> FunctionEntry | None:
        """Return the unwind entry around an address."""
        return next((e for e in self.entries if e.start <= address < e.end), None)

    def function_at(self, address: int) -> GeneratedFunction | None:
        """Return the function around an address."""
        return next((f for f in self.functions if f.start <= address < f.end), None)


class _File:
    """An ELF file that lies in a process's memory whole."""

    what = "ELF file of generated code"

    def __init__(self, space: HostSpace, address: int, size: int) -> None:
        self.path = f"memory at {address:#x}"
        self.size = size
        self._data = space.read(HostAddress(address), size)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


def generated_code(space: HostSpace, descriptor: int, order: str) -> tuple[GeneratedCode, ...]:
    """Return what is registered; files that are damaged or not in the core are left out.

    :param descriptor: address of ``__jit_debug_descriptor``
    :param order: of bytes, as :mod:`struct` has it
    :raises MemoryFault: if the descriptor is not in the core
    :raises DwarfError: if it is of another version
    """
    found = []
    for address, size in _files(space, descriptor, order):
        try:
            found.append(_read(_File(space, address, size)))
        except VringcoreError:
            continue
    return tuple(found)


def _files(space: HostSpace, descriptor: int, order: str) -> Iterator[tuple[int, int]]:
    """Yield address and size of each file of the list."""
    head = Struct(order + "IIQQ")
    version, _, _, entry = head.unpack(space.read(HostAddress(descriptor), head.size))
    if version != VERSION:
        raise DwarfError("generated code is told of in another way", seen=f"version {version}")
    row = Struct(order + "QQQQ")
    for _ in range(MAX_FILES):
        if not entry:
            return
        try:
            entry, _, address, size = row.unpack(space.read(HostAddress(entry), row.size))
        except MemoryFault:
            return
        if 0 < size <= MAX_FILE:
            yield address, size


@ours
def _read(file: _File) -> GeneratedCode:
    header = read_header(file)
    sections = read_section_headers(file, header)
    frames = next((s for s in sections if s.name == ".debug_frame"), None)
    entries = () if frames is None else tuple(_entries(_data(file, frames), header.byteorder))
    return GeneratedCode(entries, tuple(_functions(file, header, sections)))


def _data(file: _File, section: SectionHeader) -> bytes:
    return file.read(section.offset, section.size)


def _entries(data: bytes, order: str) -> Iterator[FunctionEntry]:
    """Yield the entries of ``.debug_frame`` (DWARF 5, 6.4.1), whose addresses are plain."""
    word, extent = Struct(order + "I"), Struct(order + "QQ")
    pos = 0
    for _ in range(MAX_ENTRIES):
        if pos >= len(data):
            return
        (size,) = word.unpack_from(data, pos)
        if size == _WIDE:
            raise DwarfError("unwind entries of 64-bit DWARF in generated code")
        body, pos = pos + word.size, pos + word.size + size
        (common,) = word.unpack_from(data, body)
        if common == _COMMON:
            continue
        (length,) = word.unpack_from(data, common)
        described = data[common : common + word.size + length]
        if word.unpack_from(described, word.size) != (_COMMON,):
            raise DwarfError("no common unwind entry in generated code", seen=f"offset {common}")
        shared = parse_common(described, 2 * word.size, 0, order)
        start, size = extent.unpack_from(data, body + word.size)
        first = body + word.size + extent.size
        yield FunctionEntry(shared, start, start + size, data[first:pos], 0)
    raise LimitError("generated code was left off", seen=f"{MAX_ENTRIES} unwind entries")


def _functions(
    file: _File, header: ElfHeader, sections: Sequence[SectionHeader]
) -> Iterator[GeneratedFunction]:
    """Yield the functions of the symbol table; their addresses are those of the code itself."""
    symbol = Struct(header.byteorder + "IBBHQQ")
    for table in sections:
        if table.type != _SHT_SYMTAB or table.link >= len(sections):
            continue
        names, rows = _data(file, sections[table.link]), _data(file, table)
        for row in symbol.iter_unpack(rows[: len(rows) - len(rows) % symbol.size]):
            name, kind, _, _, value, size = row
            if kind & 0xF == _STT_FUNC and size:
                text = names[name : names.index(b"\0", name)].decode("utf-8", "replace")
                yield GeneratedFunction(text, value, value + size)
