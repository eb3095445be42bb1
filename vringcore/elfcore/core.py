"""An open ELF core of a Linux process."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from vringcore.elfcore.headers import (
    ELF_MAGIC,
    ET_CORE,
    ET_DYN,
    ET_EXEC,
    PF_W,
    PF_X,
    PT_LOAD,
    PT_NOTE,
    iterate_notes,
    read_header,
    read_program_headers,
)
from vringcore.elfcore.image import ProcessImage
from vringcore.elfcore.notes import (
    GDB_OWNER,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
    SLIM_OWNER,
    NoteSegment,
    parse_notes,
)
from vringcore.elfcore.registers import machine_name
from vringcore.errors import CoreFormatError, ElfFormatError
from vringcore.memory.files import FileSource
from vringcore.memory.segments import Segment, SegmentSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vringcore.elfcore.headers import ElfHeader, Note, ProgramHeader
    from vringcore.elfcore.notes import CoreNotes
    from vringcore.elfcore.slimnote import SlimNote

    Progress = Callable[[int, int], None]

_MAX_NOTES = 256 << 20
_PLACE_REGISTERS = ("rsp", "rip", "sp", "pc")


class ElfCore(ProcessImage):
    """A core file; see :class:`~vringcore.elfcore.image.ProcessImage`.

    :ivar source: the file, unpacked
    """

    def __init__(self, source: FileSource, problems: list[CoreFormatError] | None = None) -> None:
        self.source = source
        header = _read_core_header(source)
        headers = read_program_headers(source, header)
        _check_whole(source, header, headers)

        loads = [p for p in headers if p.type == PT_LOAD]
        # Thousands of mappings are many: a comprehension, and no call for each.
        mapped = [
            Segment(
                p.vaddr,
                p.vaddr + (p.memsz if p.memsz > p.filesz else p.filesz),
                p.vaddr + p.filesz,
                p.offset,
                p.flags & PF_W != 0,
                p.flags & PF_X != 0,
            )
            for p in loads
        ]
        self._note_headers = [p for p in headers if p.type == PT_NOTE]
        segments = _note_segments(source, self._note_headers)
        notes = parse_notes(segments, header, machine_name(header.machine), source.path)
        kind = _recognise(header, notes.order)
        slim = _slim_note(notes, source.path) if kind == "slim" else None
        memory = _open_memory(source, mapped, slim)
        reach = max(
            [p.offset + p.filesz for p in (*loads, *self._note_headers) if p.filesz], default=0
        )
        truncated = max(reach, _sections_end(header)) > source.size
        if truncated:
            _check_memory_left(source, loads)
        notes.problems[:0] = problems or ()
        super().__init__(
            source,
            header,
            memory,
            notes,
            kind=kind,
            size=source.size,
            truncated=truncated,
            slim=slim,
        )

    def notes(self) -> list[Note] | None:
        """Return all notes as they lie in the file; None where there is no such file."""
        found: list[Note] = []
        for segment in _note_segments(self.source, self._note_headers):
            # What is damaged has been told; the notes before it stand.
            with suppress(ElfFormatError):
                found += iterate_notes(segment.data, self.header.byteorder, segment.align)
        return found


def open_elf_core(
    path: str,
    *,
    member: str | None = None,
    tmpdir: str | None = None,
    max_unpacked: int | None = None,
    progress: Progress | None = None,
) -> ElfCore:
    """Open a core, unpacking it first if it is compressed (zstd, lz4, xz, gzip, bzip2).

    :param path: the core, ``ARCHIVE:MEMBER`` of a tar archive, or a directory of ABRT
    :param member: the core in a tar archive; without it, the only one in it
    :param tmpdir: where a compressed core is unpacked to; by default ``$TMPDIR``, then /var/tmp
    :param max_unpacked: the most bytes that unpacking may yield, holes counted
    :param progress: called while unpacking with the bytes read of the compressed file, and its size
    :raises FileError: if the file cannot be opened or read, or there is no room to unpack it
    :raises CoreFormatError: if it is not an ELF core, or too little of it is left
    :raises LimitError: if it unpacks to more than ``max_unpacked``
    """
    source = FileSource.open(path, what="core") if os.path.isfile(path) else None  # noqa: PTH113
    problems: list[CoreFormatError] = []
    try:
        if source is None or member is not None or source.read(0, len(ELF_MAGIC)) != ELF_MAGIC:
            from vringcore.elfcore.archive import open_packed

            if source is not None:
                source.close()
            source, problems = open_packed(
                path, member=member, tmpdir=tmpdir, max_unpacked=max_unpacked, progress=progress
            )
            given = os.path.getsize(path) if os.path.isfile(path) else 0  # noqa: PTH113, PTH202
            if given and not source.size:
                raise nothing_unpacked(path, given, problems)
        return ElfCore(source, problems)
    except BaseException:
        if source is not None:
            source.close()
        raise


def nothing_unpacked(path: str, size: int, problems: list[CoreFormatError]) -> CoreFormatError:
    """Return what to say of a packed core of ``size`` bytes of which nothing could be unpacked."""
    return CoreFormatError(
        "the compressed core is cut before its first byte could be unpacked",
        where=path,
        seen=problems[0].seen if problems else f"{size} bytes",
        hint="copy it again",
    )


def _read_core_header(source: FileSource) -> ElfHeader:
    header = read_header(source, CoreFormatError)
    if header.type != ET_CORE:
        program = header.type in (ET_EXEC, ET_DYN)
        raise CoreFormatError(
            "the file given as core is an ELF file of another kind",
            where=source.path,
            seen="an executable or shared library" if program else f"ELF type {header.type}",
            expected="a core (ELF type 4)",
            hint="the core comes first, the executable after -e" if program else "",
        )
    if not header.phnum:
        raise CoreFormatError(
            "the core has no program headers",
            where=source.path,
            hint="its writer was interrupted, or the file is damaged; take or copy it again",
        )
    return header


def _check_whole(source: FileSource, header: ElfHeader, headers: list[ProgramHeader]) -> None:
    if len(headers) < header.phnum:
        raise CoreFormatError(
            "the core is cut inside its program headers",
            where=source.path,
            seen=f"{source.size} bytes, {len(headers)} program headers",
            expected=f"{header.phnum} from offset {header.phoff:#x} on",
            hint="copy the core again",
        )


def _sections_end(header: ElfHeader) -> int:
    """Return where the section headers end, which gdb writes last; 0 if there are none."""
    return header.shoff and header.shoff + header.shnum * header.shentsize


def _check_memory_left(source: FileSource, loads: list[ProgramHeader]) -> None:
    starts = [p.offset for p in loads if p.filesz]
    if starts and min(starts) >= source.size:
        raise CoreFormatError(
            "the core is cut before the first byte of its memory",
            where=source.path,
            seen=f"{source.size} bytes",
            expected=f"memory from offset {min(starts):#x} on",
            hint="copy the core again",
        )


def _note_segments(source: FileSource, headers: list[ProgramHeader]) -> Iterator[NoteSegment]:
    """Yield the note segments, all together at most :data:`_MAX_NOTES` bytes of them."""
    room = _MAX_NOTES
    for header in headers:
        if header.type == PT_NOTE:
            data = source.read(header.offset, min(header.filesz, room))
            room -= len(data)
            yield NoteSegment(data, header.offset, header.align, header.filesz - len(data))


def _open_memory(
    source: FileSource, segments: Iterable[Segment], slim: SlimNote | None
) -> SegmentSpace:
    name = "the process's memory"
    if slim is None:
        return SegmentSpace(source, segments, name=name)
    from vringcore.elfcore.slimspace import SlimSpace

    return SlimSpace(source, segments, slim.mapped, slim.lost, name=name)


def _slim_note(notes: CoreNotes, path: str) -> SlimNote | None:
    """Return what a slim core says of itself; its damage is added to the problems.

    Of a process that was never stopped, only some registers are known.
    """
    from vringcore.elfcore import slimnote

    data = slimnote.find(notes.raw, SLIM_OWNER, slimnote.NT_SLIM)
    if data is None:
        return None
    try:
        slim = slimnote.decode(data, path)
    except CoreFormatError as problem:
        notes.problems.append(problem)
        return None
    facts = {each.lwp: each.registers for each in slim.threads}
    for thread in notes.threads:
        known = facts.get(thread.lwp, "all")
        if known != "all":
            names = _PLACE_REGISTERS if known == "sp-pc" else ()
            thread.registers = {n: thread.registers[n] for n in names if n in thread.registers}
            thread.fs_base = None
    return slim


def _recognise(header: ElfHeader, order: list[tuple[bytes, int]]) -> str:
    """Tell who wrote the core by marks that only one writer makes.

    gdb lets BFD write the file, so it has section headers, and begins with the process, then the
    threads. The kernel writes section headers never but for PN_XNUM, and the first thread, the
    process and the signal in this order (``fill_note_info``).
    """
    owners = {owner for owner, _ in order}
    if SLIM_OWNER in owners:
        return "slim"
    types = [kind for owner, kind in order if owner == b"CORE"]
    if header.shnum > 1 and (GDB_OWNER in owners or types[:2] == [NT_PRPSINFO, NT_PRSTATUS]):
        return "gcore"
    if header.shnum <= 1 and types[:3] == [NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO]:
        return "kernel"
    return "unknown"
