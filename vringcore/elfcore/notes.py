"""The notes of a core: threads, process, auxiliary vector, mapped files; the rest kept raw.

Structures as Linux writes them (``include/linux/elfcore.h``, ``fs/binfmt_elf.c``): C layout of
the core's own class, so the offsets below are those of 32-bit and of 64-bit C.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.headers import Note, iterate_notes
from vringcore.elfcore.registers import NAMES, THREAD_POINTERS
from vringcore.errors import CoreFormatError, ElfFormatError
from vringcore.memory.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vringcore.elfcore.headers import ElfHeader

NT_PRSTATUS = 1
NT_FPREGSET = 2
NT_PRPSINFO = 3
NT_AUXV = 6
NT_X86_XSTATE = 0x202
NT_ARM_TLS = 0x401
NT_ARM_PAC_MASK = 0x406
NT_SIGINFO = 0x53494749
NT_FILE = 0x46494C45

AT_NULL = 0
AT_PHDR = 3
AT_PHNUM = 5
AT_PAGESZ = 6
AT_BASE = 7
AT_ENTRY = 9
AT_RANDOM = 25
AT_EXECFN = 31
AT_SYSINFO_EHDR = 33

GDB_OWNER = b"GDB"
SLIM_OWNER = b"VRINGCORE"

_MAX_NOTES = 1 << 17
_MAX_AUXV = 1 << 10
_MAX_MAPPINGS = 1 << 20

# elf_prstatus up to the four process numbers; four timevals; then the registers.
_STATUS = {32: "iiih2xIIiiii", 64: "iiih2xQQiiii"}
_STATUS_TIMES = {32: 32, 64: 64}
_WORD = {32: "I", 64: "Q"}
# elf_prpsinfo by its size: i386 and arm have 16-bit user numbers, other 32-bit machines do not.
_PSINFO = {124: "4xIHHiiii16s80s", 128: "4xIIIiiii16s80s", 136: "4x4xQIIiiii16s80s"}


class Thread(msgspec.Struct):
    """One thread as NT_PRSTATUS and the notes after it describe it.

    :param lwp: the thread's number as the core's writer saw it, not always that of its namespace
    :param registers: by name; empty for an architecture without names here
    :param raw_registers: ``pr_reg`` as it lies in the core
    :param fs_base: the thread pointer: ``fs_base`` on x86-64, ``tpidr_el0`` on aarch64 …, None
        where the core does not hold it
    :param signal: the signal being delivered (``pr_cursig``), 0 for none
    :param pending: bit mask of pending signals (``pr_sigpend``)
    :param blocked: bit mask of blocked signals (``pr_sighold``)
    :param notes: this thread's other notes (NT_FPREGSET, NT_X86_XSTATE, NT_SIGINFO …), raw
    """

    lwp: int
    registers: dict[str, int]
    raw_registers: bytes
    fs_base: int | None
    signal: int
    pending: int
    blocked: int
    notes: list[Note]


class ProcessInfo(msgspec.Struct, frozen=True):
    """NT_PRPSINFO: ``fname`` is cut at 15 or 16 bytes, ``psargs`` at 79 or 80."""

    pid: int
    ppid: int
    uid: int
    gid: int
    fname: str
    psargs: str


class FileMapping(msgspec.Struct, frozen=True, gc=False):
    """One row of NT_FILE: ``[start, end)`` maps ``path`` from byte ``file_offset`` on."""

    start: int
    end: int
    file_offset: int
    path: str


class CoreNotes(msgspec.Struct):
    """What all note segments together say, in the core's own order.

    ``problems`` holds an error for each note that could not be read; the others stand.
    """

    threads: list[Thread] = []
    prpsinfo: ProcessInfo | None = None
    siginfo: bytes = b""
    auxv: dict[int, int] = {}
    files: list[FileMapping] = []
    raw: list[Note] = []
    order: list[tuple[bytes, int]] = []
    problems: list[CoreFormatError] = []


class NoteSegment(msgspec.Struct, frozen=True):
    """The bytes of one PT_NOTE, as far as the file holds them.

    ``missing`` is how many bytes the file ends too early.
    """

    data: bytes
    offset: int
    align: int
    missing: int = 0


class _Reader:
    """Collects notes; each parser takes one note's cursor and fills ``found``."""

    def __init__(self, header: ElfHeader, machine: str) -> None:
        self.found = CoreNotes()
        self._thread: Thread | None = None
        self._class = header.elf_class
        self._order = header.byteorder
        self._names = NAMES.get(machine, ())
        self._pointer = THREAD_POINTERS.get(machine, "")
        self._status = Struct(self._order + _STATUS[self._class])
        self._words = Struct(f"{self._order}{len(self._names)}{_WORD[self._class]}")
        self._parsers: dict[int, tuple[str, Callable[[Cursor], None]]] = {
            NT_PRSTATUS: ("NT_PRSTATUS", self._status_of_thread),
            NT_PRPSINFO: ("NT_PRPSINFO", self._process_info),
            NT_AUXV: ("NT_AUXV", self._auxiliary_vector),
            NT_FILE: ("NT_FILE", self._mapped_files),
        }

    def take(self, note: Note, base: int, path: str) -> None:
        """File one note; a damaged one becomes a problem and is kept raw."""
        self.found.order.append((note.owner, note.type))
        parser = self._parsers.get(note.type) if note.owner == b"CORE" else None
        if parser is None:
            self._keep(note)
            return
        name, parse = parser
        try:
            parse(Cursor(note.desc, f"{name} of {path}", base=base + note.offset))
        except CoreFormatError as problem:
            self.found.problems.append(problem)
            self.found.raw.append(note)

    def _keep(self, note: Note) -> None:
        found = self.found
        if note.type == NT_SIGINFO and not found.siginfo:
            found.siginfo = note.desc
        thread = self._thread
        if thread is None or note.owner not in (b"CORE", b"LINUX"):
            found.raw.append(note)
            return
        thread.notes.append(note)
        if note.type == NT_ARM_TLS and len(note.desc) >= 8:
            (thread.fs_base,) = Struct(self._order + "Q").unpack_from(note.desc)

    def _status_of_thread(self, cursor: Cursor) -> None:
        # A damaged thread must not leave its other notes to the thread before it.
        self._thread = None
        _, _, _, signal, pending, blocked, lwp, _, _, _ = cursor.take(self._status, "elf_prstatus")
        cursor.take_bytes(_STATUS_TIMES[self._class], "the times of elf_prstatus")
        # The last word of elf_prstatus is pr_fpvalid, an int, padded to the alignment of a long.
        raw = cursor.take_bytes(max(0, cursor.left - self._class // 8), "pr_reg")
        registers = self._registers(raw, cursor)
        fs_base = registers.get(self._pointer)
        self._thread = Thread(lwp, registers, raw, fs_base, signal, pending, blocked, [])
        self.found.threads.append(self._thread)

    def _registers(self, raw: bytes, cursor: Cursor) -> dict[str, int]:
        """Return the registers that are there.

        gdb-multiarch writes those of some machines with room for x86-64's alone: the last are lost.
        """
        if len(raw) >= self._words.size:
            return dict(zip(self._names, self._words.unpack_from(raw), strict=True))
        word = Struct(self._order + _WORD[self._class])
        count = len(raw) // word.size
        self.found.problems.append(
            CoreFormatError(
                f"{cursor.what} lacks registers",
                where=f"file offset {cursor.base:#x}",
                seen=f"{count} of {len(self._names)} registers",
                hint="take the core with another gdb; stacks may be known in part alone",
            )
        )
        values = (value for (value,) in word.iter_unpack(raw[: count * word.size]))
        return dict(zip(self._names, values, strict=False))

    def _process_info(self, cursor: Cursor) -> None:
        size = cursor.left if cursor.left in _PSINFO else {32: 124, 64: 136}[self._class]
        layout = Struct(self._order + _PSINFO[size])
        _, uid, gid, pid, ppid, _, _, fname, psargs = cursor.take(layout, "elf_prpsinfo")
        self.found.prpsinfo = ProcessInfo(pid, ppid, uid, gid, _text(fname), _text(psargs))

    def _auxiliary_vector(self, cursor: Cursor) -> None:
        layout = Struct(self._order + 2 * _WORD[self._class])
        count = min(cursor.left // layout.size, _MAX_AUXV)
        for key, value in cursor.take_rows(layout, count, "entries"):
            if key == AT_NULL:
                break
            self.found.auxv[key] = value

    def _mapped_files(self, cursor: Cursor) -> None:
        word = _WORD[self._class]
        count, page_size = cursor.take(Struct(self._order + 2 * word), "the count and page size")
        if count > _MAX_MAPPINGS:
            raise CoreFormatError(
                f"{cursor.what} claims too many mappings",
                where=f"file offset {cursor.base:#x}",
                seen=str(count),
                expected=f"at most {_MAX_MAPPINGS}",
            )
        rows = list(cursor.take_rows(Struct(self._order + 3 * word), count, "mappings"))
        names = cursor.take_strings(count)
        decoded = {name: _path(name) for name in set(names)}
        # A file offset of the note counts in its own page size (1 where gdb wrote it).
        self.found.files.extend(
            FileMapping(start, end, offset * page_size, decoded[name])
            for (start, end, offset), name in zip(rows, names, strict=False)
            if start < end
        )
        if len(names) < count:
            raise CoreFormatError(
                f"{cursor.what} ends among its file names",
                where=f"file offset {cursor.base + cursor.place:#x}",
                seen=f"{len(names)} names",
                expected=str(count),
            )


def parse_notes(
    segments: Iterable[NoteSegment], header: ElfHeader, machine: str, path: str
) -> CoreNotes:
    """Read the notes of a core. Damage is recorded in ``problems``; nothing is raised."""
    reader = _Reader(header, machine)
    for segment in segments:
        try:
            for note in iterate_notes(segment.data, header.byteorder, segment.align):
                if len(reader.found.order) >= _MAX_NOTES:
                    reader.found.problems.append(_too_many(path))
                    return reader.found
                reader.take(note, segment.offset, path)
        except ElfFormatError as error:
            reader.found.problems.append(_damage(segment, error, path))
        else:
            if segment.missing:
                reader.found.problems.append(_damage(segment, None, path))
    return reader.found


def _too_many(path: str) -> CoreFormatError:
    return CoreFormatError(
        "the core has too many notes, the rest is left unread",
        where=path,
        expected=f"at most {_MAX_NOTES}",
    )


def _damage(segment: NoteSegment, error: ElfFormatError | None, path: str) -> CoreFormatError:
    if segment.missing:
        return CoreFormatError(
            "the core is cut inside its notes",
            where=path,
            seen=f"{len(segment.data)} bytes at offset {segment.offset:#x}",
            expected=f"{segment.missing} more",
            hint="threads or mapped files may be missing; copy the core again",
        )
    problem = CoreFormatError(
        "the core's notes are damaged, those after the damage are lost",
        where=f"notes at file offset {segment.offset:#x} of {path}",
        seen=str(error),
    )
    problem.__cause__ = error
    return problem


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _path(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
