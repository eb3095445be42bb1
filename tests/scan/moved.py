"""A slim core as it would have been at other addresses: what the system's randomisation changes.

Every address of the process moves by the same distance. A word of memory, of registers or of the
auxiliary vector is taken for an address if it points into what was mapped, or does so once glibc's
mangling is undone (jmp_buf: PTR_MANGLE). 64-bit, little-endian.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator

import msgspec

from vringcore.elfcore import slimnote
from vringcore.elfcore.notes import AT_RANDOM, NT_AUXV, NT_FILE, SLIM_OWNER
from vringcore.elfcore.slimnote import SlimNote

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NHDR = struct.Struct("<III")
_WORD = struct.Struct("<Q")
_PT_LOAD, _PT_NOTE = 1, 4
_X86_64 = 62
_WORDS = (1 << 64) - 1
_TOP = 1 << 63
"""Above it lies nothing that moves: the kernel, vsyscall."""


class Movable:
    """A core and where its addresses are: `words` plain, `mangled` by glibc, `heads` of segments.

    :param data: an unpacked slim core
    :raises ValueError: if it is of another kind
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        ident, _, self._machine, *_ = header = _EHDR.unpack_from(data)
        if ident[4:6] != b"\2\1":
            raise ValueError("neither 64-bit nor little-endian")
        table, count = header[5], header[10]
        self._places = [table + i * _PHDR.size for i in range(count)]
        segments = [_PHDR.unpack_from(data, place) for place in self._places]
        notes = [note for s in segments if s[0] == _PT_NOTE for note in _notes(data, s[2], s[5])]
        self._note_at, size = next(
            (at, size) for owner, kind, at, size in notes
            if owner == SLIM_OWNER and kind == slimnote.NT_SLIM
        )  # fmt: skip
        self._note = slimnote.decode(data[self._note_at : self._note_at + size], "slim core")
        self._note_size = size
        mapped = [(row.start, row.end) for row in self._note.mapped if row.start < _TOP]
        mapped += [(row.start, row.end) for row in self._note.lost if row.start < _TOP]
        # Those without rights, as between the parts of a library, are in this note alone.
        mapped += [r for _, kind, at, _ in notes if kind == NT_FILE for r in _files(data, at)]
        self._starts, self._ends = zip(*_joined(mapped), strict=True)
        self._loads = [(s[3], s[2], s[5]) for s in segments if s[0] == _PT_LOAD]
        self._guard = self._pointer_guard(notes)
        self.words: list[int] = []
        self.mangled: list[int] = []
        for vaddr, offset, filesz in self._loads:
            self._search(offset + -vaddr % 8, offset + filesz)
        for owner, _, at, size in notes:
            if owner != SLIM_OWNER:
                self._search(at, at + size)

    def moved(self, by: int) -> bytes:
        """Return the core with all addresses so many bytes further.

        :param by: whole pages, and not so many that an address takes another number of digits
        """
        data = bytearray(self.data)
        for at in self.words:
            _WORD.pack_into(data, at, _WORD.unpack_from(data, at)[0] + by)
        for at in self.mangled:
            _WORD.pack_into(
                data, at, self._mangle(self._plain(_WORD.unpack_from(data, at)[0]) + by)
            )
        for place in self._places:
            fields = list(_PHDR.unpack_from(data, place))
            if fields[0] == _PT_LOAD and fields[3] < _TOP:
                fields[3] += by
                _PHDR.pack_into(data, place, *fields)
        note = slimnote.encode(_moved_note(self._note, by, self.is_address))
        if len(note) != self._note_size:
            raise ValueError(f"{by} bytes change the length of a note")
        data[self._note_at : self._note_at + len(note)] = note
        return bytes(data)

    def is_address(self, value: int) -> bool:
        """Tell whether a number is an address of what was mapped, or the end of it."""
        index = bisect_right(self._starts, value) - 1
        return index >= 0 and value <= self._ends[index]

    def _search(self, start: int, end: int) -> None:
        for at in range(start, end - 7, 8):
            value = _WORD.unpack_from(self.data, at)[0]
            if value and self.is_address(value):
                self.words.append(at)
            elif self._guard is not None and value and self.is_address(self._plain(value)):
                self.mangled.append(at)

    def _pointer_guard(self, notes: list[tuple[bytes, int, int, int]]) -> int | None:
        """Glibc takes it from the second half of the random bytes that AT_RANDOM points to."""
        at, size = next((at, size) for _, kind, at, size in notes if kind == NT_AUXV)
        pairs = struct.iter_unpack("<QQ", self.data[at : at + size])
        random = next((value for key, value in pairs if key == AT_RANDOM), None)
        for vaddr, offset, filesz in self._loads:
            if random is not None and vaddr <= random + 8 <= vaddr + filesz - 8:
                (guard,) = _WORD.unpack_from(self.data, offset + random + 8 - vaddr)
                return int(guard)
        return None

    def _plain(self, value: int) -> int:
        assert self._guard is not None
        if self._machine == _X86_64:
            value = (value >> 17 | value << 47) & _WORDS
        return value ^ self._guard

    def _mangle(self, value: int) -> int:
        assert self._guard is not None
        value ^= self._guard
        return (value << 17 | value >> 47) & _WORDS if self._machine == _X86_64 else value


def _notes(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yields owner, type, place and size of each note's description."""
    place, end = start, start + size
    while place < end:
        owner_size, desc_size, kind = _NHDR.unpack_from(data, place)
        owner_at = place + _NHDR.size
        desc_at = owner_at + owner_size + -owner_size % 4
        yield data[owner_at : owner_at + owner_size].rstrip(b"\0"), kind, desc_at, desc_size
        place = desc_at + desc_size + -desc_size % 4


def _files(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yields the ranges of NT_FILE: a count and a page's size, then start, end and offset each."""
    (count,) = _WORD.unpack_from(data, at)
    for start, end, _ in struct.iter_unpack("<QQQ", data[at + 16 : at + 16 + 24 * count]):
        yield start, end


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _moved_note(note: SlimNote, by: int, is_address: Callable[[int], bool]) -> SlimNote:
    replace = msgspec.structs.replace

    def further(value: int) -> int:
        return value + by if is_address(value) else value

    threads = []
    for thread in note.threads:
        call = thread.syscall
        if call is not None:
            call = replace(
                call,
                arguments=tuple(map(further, call.arguments)),
                sp=further(call.sp),
                pc=further(call.pc),
            )
        threads.append(replace(thread, syscall=call))
    return replace(
        note,
        mapped=tuple(replace(r, start=further(r.start), end=further(r.end)) for r in note.mapped),
        lost=tuple(replace(r, start=further(r.start), end=further(r.end)) for r in note.lost),
        moved=tuple(replace(r, address=further(r.address)) for r in note.moved),
        threads=tuple(threads),
    )
