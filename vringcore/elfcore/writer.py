"""Writes an ordinary ELF core: chosen ranges of an address space, and notes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.elfcore.headers import ELF_MAGIC, ET_CORE, PF_W, PF_X, PT_LOAD, PT_NOTE
from vringcore.errors import MemoryFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import BinaryIO

    from vringcore.elfcore.headers import ElfHeader
    from vringcore.memory.space import HostSpace, Range

_PF_R = 4
_PN_XNUM = 0xFFFF
_IDENT_SIZE = 16
_EHDR = {32: "HHIIIIIHHHHHH", 64: "HHIQQQIHHHHHH"}
_PHDR = {32: "IIIIIIII", 64: "IIQQQQQQ"}
_SHDR = {32: "IIIIIIIIII", 64: "IIQQQQIIQQ"}


def write_core(
    out: BinaryIO,
    space: HostSpace,
    ranges: Sequence[Range],
    notes: Iterable[tuple[bytes, int, bytes]],
    like: ElfHeader,
) -> int:
    """Write a core and return its size in bytes.

    Segments lie one behind the other without padding (``p_align`` 1), since a small core is the
    purpose. Memory is streamed, never held whole.

    :param out: a file open for writing, at its start
    :param space: where the bytes come from
    :param ranges: what becomes PT_LOAD: of each the first ``readable`` bytes are copied, the rest
        is a segment's tail that the file does not hold
    :param notes: owner, type and description, in the order they shall have
    :param like: class, byte order, machine and flags are taken from this header
    :raises MemoryFault: if bytes that a range calls readable are not
    """
    layout = _Layout(like)
    note_data = b"".join(layout.note(*note) for note in notes)
    count = len(ranges) + 1
    note_at = layout.header_size + count * layout.phdr.size
    place = note_at + len(note_data)
    out.seek(note_at)
    out.write(note_data)
    headers = [layout.program_header(PT_NOTE, _PF_R, note_at, 0, len(note_data), 0, 4)]
    for part in ranges:
        flags = _PF_R | PF_W * part.writable | PF_X * part.executable
        headers.append(
            layout.program_header(PT_LOAD, flags, place, part.address, part.readable, part.size, 1)
        )
        _copy(out, space, part)
        place += part.readable
    table = layout.section_zero(count) if count >= _PN_XNUM else b""
    out.write(table)
    out.seek(0)
    out.write(layout.header(count, place if table else 0))
    out.write(b"".join(headers))
    return place + len(table)


class _Layout:
    """The records of one ELF class and byte order."""

    def __init__(self, like: ElfHeader) -> None:
        self._like = like
        order, size = like.byteorder, like.elf_class
        self._order = order
        self._ehdr = struct.Struct(order + _EHDR[size])
        self.phdr = struct.Struct(order + _PHDR[size])
        self._shdr = struct.Struct(order + _SHDR[size])
        self.header_size = _IDENT_SIZE + self._ehdr.size

    def header(self, count: int, sections_at: int) -> bytes:
        like = self._like
        ident = ELF_MAGIC + bytes([like.elf_class // 32, 1 + like.big_endian, 1])
        # e_shnum is 1 only where section header 0 carries the number of program headers.
        return ident.ljust(_IDENT_SIZE, b"\0") + self._ehdr.pack(
            ET_CORE, like.machine, 1, 0, self.header_size, sections_at, like.flags,
            self.header_size, self.phdr.size, min(count, _PN_XNUM),
            self._shdr.size if sections_at else 0, 1 if sections_at else 0, 0,
        )  # fmt: skip

    def program_header(
        self, kind: int, flags: int, offset: int, vaddr: int, filesz: int, memsz: int, align: int
    ) -> bytes:
        if self._like.elf_class == 64:
            return self.phdr.pack(kind, flags, offset, vaddr, 0, filesz, memsz, align)
        return self.phdr.pack(kind, offset, vaddr, 0, filesz, memsz, flags, align)

    def section_zero(self, count: int) -> bytes:
        return self._shdr.pack(0, 0, 0, 0, 0, 1, 0, count, 0, 0)

    def note(self, owner: bytes, kind: int, desc: bytes) -> bytes:
        name = owner + b"\0"
        head = struct.pack(self._order + "III", len(name), len(desc), kind)
        return head + _padded(name) + _padded(desc)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _copy(out: BinaryIO, space: HostSpace, part: Range) -> None:
    for piece in space.pieces(HostAddress(part.address), part.readable):
        if piece.gap is not None:
            raise MemoryFault("copying memory into a core", piece.address, piece.gap)
        assert piece.data is not None
        out.write(piece.data)
