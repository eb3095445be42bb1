"""The headers of an ELF file: both classes, both byte orders, extended counts (gABI, chapter 4)."""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import ElfFormatError, VringcoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    class Source(Protocol):
        """Bytes with a name: a file, or an ELF image as it lies in a process's memory."""

        @property
        def path(self) -> str: ...
        @property
        def size(self) -> int: ...
        @property
        def what(self) -> str: ...
        def read(self, offset: int, size: int) -> bytes: ...


ELF_MAGIC = b"\x7fELF"

ET_EXEC = 2
ET_DYN = 3
ET_CORE = 4

PT_LOAD = 1
PT_NOTE = 4
PT_PHDR = 6

PF_X = 1
PF_W = 2

SHT_STRTAB = 3
SHT_NOTE = 7
SHT_NOBITS = 8

NT_GNU_BUILD_ID = 3

_PN_XNUM = 0xFFFF
_SHN_XINDEX = 0xFFFF
_IDENT_SIZE = 16
_MAX_HEADERS = 1 << 20
"""More program or section headers than this are a lie, and a sparse file can make room for it."""

_MAX_STRING_TABLE = 16 << 20
_MAX_NOTES = 4 << 20

# Everything after e_ident; then one program header, one section header.
_EHDR = {32: "HHIIIIIHHHHHH", 64: "HHIQQQIHHHHHH"}
_PHDR = {32: "IIIIIIII", 64: "IIQQQQQQ"}
_SHDR = {32: "IIIIIIIIII", 64: "IIQQQQIIQQ"}

ElfError = type[VringcoreError]

_struct = cache(struct.Struct)
"""Of each format once: a core of many libraries has as many headers of the same."""


class ElfHeader(msgspec.Struct, frozen=True):
    """The ELF header with its counts resolved: PN_XNUM and its kin never show."""

    elf_class: int
    big_endian: bool
    type: int
    machine: int
    entry: int
    phoff: int
    shoff: int
    phnum: int
    shnum: int
    shstrndx: int
    flags: int
    phentsize: int
    shentsize: int

    @property
    def byteorder(self) -> str:
        """The byte order as :mod:`struct` writes it: ``<`` or ``>``."""
        return ">" if self.big_endian else "<"

    @property
    def pointer_size(self) -> int:
        """Bytes in an address: 4 or 8."""
        return self.elf_class // 8


class ProgramHeader(msgspec.Struct, frozen=True, gc=False):
    """One program header (``Elf64_Phdr``)."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class SectionHeader(msgspec.Struct, frozen=True):
    """One section header (``Elf64_Shdr``) with its name looked up."""

    index: int
    name: str
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int


class Note(msgspec.Struct, frozen=True):
    """One note: owner without its NUL, type, description, and where the description starts.

    ``offset`` counts from the start of the bytes that were searched.
    """

    owner: bytes
    type: int
    offset: int
    desc: bytes


def read_header(source: Source, error: ElfError = ElfFormatError) -> ElfHeader:
    """Read and check the ELF header.

    :param error: the class to raise, so that a core's damage is a CoreFormatError
    :raises VringcoreError: of that class: no ELF file, an unknown class or byte order, a header
        that is cut short, entries of a size that its class does not have, a count that lies in
        section header 0 where there is none, or one that cannot be true
    """
    ident = source.read(0, _IDENT_SIZE)
    if ident[:4] != ELF_MAGIC:
        raise error(
            f"the {source.what} is not an ELF file",
            where=source.path,
            seen=_what_instead(ident, source.size),
            expected="the bytes 7f 45 4c 46 at its start",
        )
    elf_class = {1: 32, 2: 64}.get(ident[4]) if len(ident) == _IDENT_SIZE else None
    order = {1: "<", 2: ">"}.get(ident[5]) if elf_class else None
    if elf_class is None or order is None:
        raise error(
            f"the {source.what} has a damaged ELF identification",
            where=f"offset 4 of {source.path}",
            seen=ident[4:6].hex(" ") or "the end of the file",
            expected="a class (01 or 02) and a byte order (01 or 02)",
        )
    layout = _struct(order + _EHDR[elf_class])
    raw = source.read(_IDENT_SIZE, layout.size)
    if len(raw) < layout.size:
        raise error(
            f"the {source.what} is cut inside its ELF header",
            where=source.path,
            seen=f"{source.size} bytes",
            expected=f"at least {_IDENT_SIZE + layout.size}",
            hint="copy the file again",
        )
    (
        kind,
        machine,
        _,
        entry,
        phoff,
        shoff,
        flags,
        _,
        phentsize,
        phnum,
        shentsize,
        shnum,
        shstrndx,
    ) = layout.unpack(raw)
    header = ElfHeader(
        elf_class, order == ">", kind, machine, entry, phoff, shoff, phnum, shnum, shstrndx, flags,
        phentsize, shentsize,
    )  # fmt: skip
    _check_entry_sizes(source, header, error)
    if phnum == _PN_XNUM or (shoff and shnum == 0) or shstrndx == _SHN_XINDEX:
        header = _with_extended_counts(source, header, error)
        _check_count(source, "program", header.phnum, error)
    return header


def read_program_headers(source: Source, header: ElfHeader) -> list[ProgramHeader]:
    """Return the program headers; fewer than ``header.phnum`` where the file ends before them."""
    layout = _struct(header.byteorder + _PHDR[header.elf_class])
    room = max(0, source.size - header.phoff) // layout.size
    raw = source.read(header.phoff, min(header.phnum, room) * layout.size)
    raw = raw[: len(raw) - len(raw) % layout.size]
    rows = layout.iter_unpack(raw)
    if header.elf_class == 64:
        return [ProgramHeader(*fields) for fields in rows]
    return [
        ProgramHeader(kind, flags, offset, vaddr, paddr, filesz, memsz, align)
        for kind, offset, vaddr, paddr, filesz, memsz, flags, align in rows
    ]


def read_section_headers(
    source: Source, header: ElfHeader, error: ElfError = ElfFormatError
) -> list[SectionHeader]:
    """Return the section headers, names looked up; an empty list where the file has none.

    :raises VringcoreError: of class ``error`` if the table or the names' table leaves the file, or
        the count cannot be true
    """
    rows = _section_rows(source, header, error)
    names = _section_names(source, header, rows, error) if rows else b""
    return [SectionHeader(i, _string_at(names, row[0]), *row[1:]) for i, row in enumerate(rows)]


def _section_rows(
    source: Source, header: ElfHeader, error: ElfError = ElfFormatError
) -> list[tuple[int, ...]]:
    """Return the section headers as they lie in the file."""
    if not header.shoff or not header.shnum:
        return []
    _check_count(source, "section", header.shnum, error)
    layout = _struct(header.byteorder + _SHDR[header.elf_class])
    size = header.shnum * layout.size
    if header.shoff + size > source.size:
        raise error(
            f"the {source.what} is cut before the end of its section headers",
            where=source.path,
            seen=f"a file of {source.size} bytes",
            expected=f"{header.shnum} section headers at offset {header.shoff:#x}",
            hint="copy the file again",
        )
    return list(layout.iter_unpack(source.read(header.shoff, size)))


def iterate_notes(data: bytes, byteorder: str, align: int = 4) -> Iterator[Note]:
    """Yield the notes of a note segment or section, in order.

    :param align: the segment's ``p_align``: names and descriptions are padded to 8 bytes when it
        is 8, to 4 otherwise (what binutils and elfutils do; the gABI's 8 for ELF64 is used by none)
    :raises ElfFormatError: at a note that does not fit, after those that did
    """
    pad = 7 if align == 8 else 3
    head = _struct(byteorder + "III")
    place, end = 0, len(data)
    while place < end:
        if end - place < head.size:
            raise _note_error(place, f"{end - place} bytes", f"a note header of {head.size} bytes")
        owner_size, desc_size, kind = head.unpack_from(data, place)
        if not (owner_size or desc_size or kind):
            return  # Zeros pad the segment.
        owner_at = place + head.size
        desc_at = owner_at + owner_size + (place - owner_at - owner_size & pad)
        if desc_at + desc_size > end:
            seen = f"a name of {owner_size} and a description of {desc_size} bytes"
            raise _note_error(place, seen, f"at most {end - owner_at} bytes")
        owner = data[owner_at : owner_at + owner_size].rstrip(b"\0")
        yield Note(owner, kind, desc_at, data[desc_at : desc_at + desc_size])
        place = desc_at + desc_size + (place - desc_at - desc_size & pad)


def find_build_id(data: bytes, byteorder: str, align: int = 4) -> str:
    """Return the GNU build-id among notes as lower-case hex, "" if it is not there."""
    try:
        for note in iterate_notes(data, byteorder, align):
            if note.type == NT_GNU_BUILD_ID and note.owner == b"GNU":
                return note.desc.hex()
    except ElfFormatError:
        pass  # What comes after damage is unknown, and so is the build-id.
    return ""


def read_build_id(source: Source, header: ElfHeader) -> str:
    """Return the GNU build-id of an executable, library or debug file, "" if it has none.

    Sections first: in a split debug file the program headers name offsets of the original.

    :raises ElfFormatError: if the section headers leave the file
    """
    sections = _section_rows(source, header)
    if not sections:
        return build_id_of_segments(source, header, read_program_headers(source, header))
    # Offset, size and alignment; no name is needed.
    places = [(row[4], row[5], row[8]) for row in sections if row[1] == SHT_NOTE]
    return _build_id_at(source, header, places)


def build_id_of_segments(
    source: Source, header: ElfHeader, segments: Iterable[ProgramHeader]
) -> str:
    """Return the GNU build-id that PT_NOTE segments hold, "" if none does."""
    places = [(p.offset, p.filesz, p.align) for p in segments if p.type == PT_NOTE]
    return _build_id_at(source, header, places)


def _build_id_at(source: Source, header: ElfHeader, places: list[tuple[int, int, int]]) -> str:
    for offset, size, align in places:
        data = source.read(offset, min(size, _MAX_NOTES))
        if found := find_build_id(data, header.byteorder, align):
            return found
    return ""


def _what_instead(ident: bytes, size: int) -> str:
    if not size:
        return "an empty file"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in ident):
        return f"text ({ident.decode('ascii')!r})"
    return f"the bytes {ident[:8].hex(' ')}"


def _check_entry_sizes(source: Source, header: ElfHeader, error: ElfError) -> None:
    tables = (
        ("program", header.phnum, header.phentsize, struct.calcsize("=" + _PHDR[header.elf_class])),
        ("section", header.shoff, header.shentsize, struct.calcsize("=" + _SHDR[header.elf_class])),
    )
    for name, used, size, expected in tables:
        if used and size != expected:
            raise error(
                f"the {source.what} has {name} headers of an unknown size",
                where=source.path,
                seen=f"{size} bytes",
                expected=f"{expected} for ELF{header.elf_class}",
            )


def _check_count(source: Source, name: str, count: int, error: ElfError) -> None:
    if count > _MAX_HEADERS:
        raise error(
            f"the {source.what} claims too many {name} headers",
            where=source.path,
            seen=str(count),
            expected=f"at most {_MAX_HEADERS}",
        )


def _with_extended_counts(source: Source, header: ElfHeader, error: ElfError) -> ElfHeader:
    layout = _struct(header.byteorder + _SHDR[header.elf_class])
    raw = source.read(header.shoff, layout.size) if header.shoff else b""
    if len(raw) == layout.size:
        row = layout.unpack(raw)
        phnum = row[7] if header.phnum == _PN_XNUM else header.phnum
        shnum = header.shnum or row[5]
        shstrndx = row[6] if header.shstrndx == _SHN_XINDEX else header.shstrndx
        return msgspec.structs.replace(header, phnum=phnum, shnum=shnum, shstrndx=shstrndx)
    if header.phnum != _PN_XNUM:
        return msgspec.structs.replace(header, shnum=0, shstrndx=0)
    phnum = _count_by_first_note(source, header) if header.shoff else 0
    if not phnum:
        raise error(
            f"the {source.what} has 65535 or more segments and does not say how many",
            where=source.path,
            seen=f"section header 0 at offset {header.shoff:#x} of {source.size} bytes"
            if header.shoff
            else "no section headers",
            expected="the number of program headers in section header 0 (PN_XNUM)",
            hint="copy the file again" if header.shoff else "the writer of this file is at fault",
        )
    return msgspec.structs.replace(header, phnum=phnum, shnum=0, shstrndx=0)


def _count_by_first_note(source: Source, header: ElfHeader) -> int:
    """Count the program headers of a core that was cut before section header 0, at its very end.

    The kernel lays the note segment directly behind the program headers and names it first.
    """
    first = read_program_headers(source, msgspec.structs.replace(header, phnum=1))
    if not first or first[0].type != PT_NOTE:
        return 0
    count, rest = divmod(first[0].offset - header.phoff, header.phentsize)
    return count if count >= _PN_XNUM and not rest else 0


def _section_names(
    source: Source, header: ElfHeader, rows: list[tuple[int, ...]], error: ElfError
) -> bytes:
    if header.shstrndx >= len(rows) or rows[header.shstrndx][1] != SHT_STRTAB:
        return b""
    offset, size = rows[header.shstrndx][4:6]
    if offset + size > source.size or size > _MAX_STRING_TABLE:
        raise error(
            f"the {source.what} has no room for its section names",
            where=source.path,
            seen=f"{size} bytes at offset {offset:#x}",
            expected=f"at most {_MAX_STRING_TABLE} bytes within {source.size}",
        )
    return source.read(offset, size)


def _string_at(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset)
    return table[offset : end if end >= 0 else len(table)].decode("utf-8", "backslashreplace")


def _note_error(place: int, seen: str, expected: str) -> ElfFormatError:
    return ElfFormatError(
        "a note does not fit", where=f"offset {place:#x} of the notes", seen=seen, expected=expected
    )
