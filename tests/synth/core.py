"""Builds ELF cores from descriptions, from the gABI and the kernel's headers alone.

Nothing of vringcore is imported here, so a wrong number in the library cannot hide::

    core = CoreBuilder()
    core.thread(1234, rip=0x401000, fs_base=0x7f0000001000)
    core.auxv({9: 0x401000})
    core.segment(0x10000, b"data", memory_size=0x1000)
    path.write_bytes(core.build())
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

READ, WRITE, EXECUTE = 4, 2, 1

X86_64_REGISTERS = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
    "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds",
    "es", "fs", "gs",
]  # fmt: skip
I386_REGISTERS = [
    "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip",
    "cs", "eflags", "esp", "ss",
]  # fmt: skip
AARCH64_REGISTERS = [*(f"x{number}" for number in range(31)), "sp", "pc", "pstate"]
ARM_REGISTERS = [
    *(f"r{number}" for number in range(11)), "fp", "ip", "sp", "lr", "pc", "cpsr", "orig_r0",
]  # fmt: skip

REGISTERS = {62: X86_64_REGISTERS, 3: I386_REGISTERS, 183: AARCH64_REGISTERS, 40: ARM_REGISTERS}


@dataclass
class Segment:
    """A PT_LOAD; ``file_size`` beyond ``data`` is a hole of zeros in the file."""

    address: int
    data: bytes
    file_size: int
    memory_size: int
    flags: int


@dataclass
class CoreBuilder:
    """A core being described; ``build`` and ``write`` may be called as often as wanted."""

    elf_class: int = 64
    big_endian: bool = False
    machine: int = 62
    notes_last: bool = False
    note_alignment: int = 4
    split_notes: bool = False
    extended_count: bool = False
    section_headers: int = 0
    elf_type: int = 4
    segments: list[Segment] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)

    @property
    def order(self) -> str:
        return ">" if self.big_endian else "<"

    @property
    def word(self) -> str:
        return "Q" if self.elf_class == 64 else "I"

    def segment(
        self,
        address: int,
        data: bytes = b"",
        *,
        file_size: int | None = None,
        memory_size: int | None = None,
        flags: int = READ | WRITE,
    ) -> None:
        in_file = len(data) if file_size is None else file_size
        in_memory = in_file if memory_size is None else memory_size
        self.segments.append(Segment(address, data, in_file, in_memory, flags))

    def note(self, owner: bytes, kind: int, description: bytes) -> None:
        name = owner + b"\0"
        step = self.note_alignment
        raw = struct.pack(self.order + "III", len(name), len(description), kind) + name
        raw += bytes(-len(raw) % step) + description
        self.notes.append(raw + bytes(-len(raw) % step))

    def thread(self, lwp: int, *, signal: int = 0, **registers: int) -> None:
        names = REGISTERS[self.machine]
        values = [registers.get(name, 0) for name in names]
        long = self.word
        status = struct.pack(self.order + "iiihxx", signal, 0, 0, signal)
        status += struct.pack(f"{self.order}2{long}4i", 0, 0, lwp, 1, lwp, lwp)
        status += bytes(8 * struct.calcsize("=" + long))
        status += struct.pack(f"{self.order}{len(values)}{long}", *values)
        status += struct.pack(self.order + "i", 1)
        status += bytes(-len(status) % struct.calcsize("=" + long))
        self.note(b"CORE", 1, status)

    def process(self, pid: int, name: bytes, arguments: bytes, *, ppid: int = 1) -> None:
        head = struct.pack("cccc", b"\0", b"R", b"\0", b"\0")
        if self.elf_class == 64:
            head += struct.pack(self.order + "4xQII", 0, 1000, 1001)
        else:
            head += struct.pack(self.order + "IHH", 0, 1000, 1001)
        head += struct.pack(self.order + "iiii", pid, ppid, pid, pid)
        self.note(b"CORE", 3, head + name.ljust(16, b"\0") + arguments.ljust(80, b"\0"))

    def auxv(self, entries: Mapping[int, int]) -> None:
        pairs = [number for entry in entries.items() for number in entry] + [0, 0]
        self.note(b"CORE", 6, struct.pack(f"{self.order}{len(pairs)}{self.word}", *pairs))

    def files(
        self, mappings: Sequence[tuple[int, int, int, bytes]], *, page_size: int = 4096
    ) -> None:
        """Add NT_FILE; a mapping is start, end, file offset in bytes, path."""
        numbers = [len(mappings), page_size]
        for start, end, offset, _ in mappings:
            numbers += [start, end, offset // page_size]
        description = struct.pack(f"{self.order}{len(numbers)}{self.word}", *numbers)
        description += b"".join(path + b"\0" for _, _, _, path in mappings)
        self.note(b"CORE", 0x46494C45, description)

    def build(self) -> bytes:
        """Return the whole file; not for cores with large holes."""
        parts, size = self._parts()
        image = bytearray(size)
        for offset, data in parts:
            image[offset : offset + len(data)] = data
        return bytes(image)

    def write(self, path: Path) -> None:
        """Write the file, leaving holes where segments have no data."""
        parts, size = self._parts()
        with path.open("wb") as out:
            for offset, data in parts:
                out.seek(offset)
                out.write(data)
            out.truncate(size)

    def offset_of(self, index: int) -> int:
        """Return the file offset of a segment's data."""
        return self._plan()[1][index]

    def _plan(self) -> tuple[list[tuple[int, bytes]], list[int], int]:
        """Return the note segments and the offsets of the others, and where the file ends."""
        groups = self.notes if self.split_notes else ([b"".join(self.notes)] if self.notes else [])
        ehdr, phdr = (64, 56) if self.elf_class == 64 else (52, 32)
        place = ehdr + phdr * (len(groups) + len(self.segments))
        notes: list[tuple[int, bytes]] = []
        offsets: list[int] = []
        for turn in ("notes", "segments") if not self.notes_last else ("segments", "notes"):
            if turn == "notes":
                for group in groups:
                    notes.append((place, group))
                    place += len(group)
            else:
                for segment in self.segments:
                    offsets.append(place)
                    place += segment.file_size
        return notes, offsets, place

    def _parts(self) -> tuple[list[tuple[int, bytes]], int]:
        notes, offsets, end = self._plan()
        headers = [
            self._program_header(4, READ, place, 0, len(data), 0, self.note_alignment)
            for place, data in notes
        ]
        headers += [
            self._program_header(1, s.flags, place, s.address, s.file_size, s.memory_size, 1)
            for place, s in zip(offsets, self.segments, strict=True)
        ]
        extended = self.extended_count or len(headers) >= 0xFFFF
        sections = max(self.section_headers, int(extended))
        table = [self._section_header(len(headers) if extended else 0, sections)]
        table += [self._section_header(0, 0)] * (sections - 1)
        start = self._elf_header(len(headers), extended, end if sections else 0, sections)
        parts = [(0, start + b"".join(headers)), *notes]
        parts += [(place, s.data) for place, s in zip(offsets, self.segments, strict=True)]
        if sections:
            parts.append((end, b"".join(table)))
            end += len(parts[-1][1])
        return parts, end

    def _elf_header(self, count: int, extended: bool, sections_at: int, sections: int) -> bytes:
        ident = b"\x7fELF" + bytes([self.elf_class // 32, 2 if self.big_endian else 1, 1, 0])
        long = self.word
        ehdr, phdr, shdr = (64, 56, 64) if self.elf_class == 64 else (52, 32, 40)
        return ident.ljust(16, b"\0") + struct.pack(
            f"{self.order}HHI{long}{long}{long}IHHHHHH",
            self.elf_type, self.machine, 1, 0, ehdr, sections_at, 0, ehdr, phdr,
            0xFFFF if extended else count, shdr, sections, 0,
        )  # fmt: skip

    def _program_header(
        self, kind: int, flags: int, offset: int, vaddr: int, filesz: int, memsz: int, align: int
    ) -> bytes:
        if self.elf_class == 64:
            numbers = (kind, flags, offset, vaddr, 0, filesz, memsz, align)
            return struct.pack(self.order + "IIQQQQQQ", *numbers)
        numbers = (kind, offset, vaddr, 0, filesz, memsz, flags, align)
        return struct.pack(self.order + "IIIIIIII", *numbers)

    def _section_header(self, info: int, size: int) -> bytes:
        form = "IIQQQQIIQQ" if self.elf_class == 64 else "IIIIIIIIII"
        return struct.pack(self.order + form, 0, 0, 0, 0, 0, size, 0, info, 0, 0)


def elf_image(
    *,
    build_id: bytes = b"",
    entry: int = 0x1040,
    vaddr: int = 0,
    size: int = 0x1000,
    writable: tuple[int, int] = (0, 0),
) -> bytes:
    """Return the first page of a 64-bit little-endian shared object, as a loader would map it.

    It has PT_PHDR, one PT_LOAD of file offset 0 and ``size`` bytes at ``vaddr``, a PT_NOTE with
    the build-id, and a writable PT_LOAD of an address and size.
    """
    note = struct.pack("<III4s", 4, len(build_id), 3, b"GNU\0") + build_id if build_id else b""
    note_at = 64 + 4 * 56
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, vaddr + entry, 64, 0, 0, 64, 56, 4, 64, 0, 0
    )
    rows = [
        (6, 4, 64, vaddr + 64, 0, 224, 224, 8),
        (1, 5, 0, vaddr, 0, size, size, 0x1000),
        (4, 4, note_at, vaddr + note_at, 0, len(note), len(note), 4),
        (1, 6, writable[0], vaddr + writable[0], 0, writable[1], writable[1], 0x1000),
    ]
    table = b"".join(struct.pack("<IIQQQQQQ", *row) for row in rows)
    return (header + table + note).ljust(0x1000, b"\0")
