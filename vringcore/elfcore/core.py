"""An open ELF core of a Linux process."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.elfcore.headers import (
    ELF_MAGIC,
    ET_CORE,
    ET_DYN,
    ET_EXEC,
    PF_W,
    PF_X,
    PT_LOAD,
    PT_NOTE,
    read_header,
    read_program_headers,
)
from vringcore.elfcore.modules import Module, group_by_file
from vringcore.elfcore.notes import (
    AT_ENTRY,
    AT_EXECFN,
    AT_PHDR,
    GDB_OWNER,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
    SLIM_OWNER,
    FileMapping,
    NoteSegment,
    parse_notes,
)
from vringcore.elfcore.registers import machine_name
from vringcore.errors import CoreFormatError
from vringcore.memory.files import FileSource
from vringcore.memory.overlay import FilePages, OverlaySpace
from vringcore.memory.segments import Segment, SegmentSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from vringcore.elfcore.executable import Executable
    from vringcore.elfcore.headers import ElfHeader, ProgramHeader

    Progress = Callable[[int, int], None]

_MAX_NOTES = 256 << 20
_MAX_STRING = 4096


class ElfCore:
    """A core file: its memory with typed gaps, its threads, and the files it had mapped.

    Close it, or use it in a ``with`` statement. What was read stays valid after that; memory does
    not. Damage that leaves the rest usable is in ``problems``, not raised.

    :ivar path: the file that was opened (the compressed one, if it was compressed)
    :ivar size: bytes of the ELF file itself
    :ivar truncated: the file ends before its headers say
    :ivar kind: who wrote it: ``gcore`` (gdb), ``kernel``, ``slim``, or ``unknown``
    :ivar machine: ``x86-64``, ``aarch64`` …
    :ivar auxv: the auxiliary vector by ``AT_`` number
    :ivar modules: mapped files, by NT_FILE; empty where the core has no such note
    :ivar executable: the module that AT_PHDR or AT_ENTRY lies in, None if none does
    :ivar raw_notes: notes that belong to no thread and are not decoded here
    """

    def __init__(self, source: FileSource, problems: list[CoreFormatError] | None = None) -> None:
        self.source = source
        self.path = source.path
        self.size = source.size
        self.header = _read_core_header(source)
        self.machine = machine_name(self.header.machine)
        headers = read_program_headers(source, self.header)
        _check_whole(source, self.header, headers)

        loads = [p for p in headers if p.type == PT_LOAD]
        self.memory = SegmentSpace(source, map(_segment, loads), name="the process's memory")
        segments = _note_segments(source, headers)
        notes = parse_notes(segments, self.header, self.machine, self.path)
        self.truncated = _sections_end(self.header) > source.size or any(
            p.filesz and p.offset + p.filesz > source.size
            for p in headers
            if p.type in (PT_LOAD, PT_NOTE)
        )
        if self.truncated:
            _check_memory_left(source, loads)
        self.threads = notes.threads
        self.auxv = notes.auxv
        self.prpsinfo = notes.prpsinfo
        self.siginfo = notes.siginfo
        self.raw_notes = notes.raw
        self.problems = [*(problems or ()), *notes.problems]
        self.kind = _recognise(self.header, notes.order)
        self.modules = group_by_file(notes.files, self.memory)
        self._mapped = sorted(
            ((mapping, module) for module in self.modules for mapping in module.mappings),
            key=lambda row: row[0].start,
        )
        self._mapped_starts = [mapping.start for mapping, _ in self._mapped]
        self.executable = self._find_executable()

    def module_at(self, address: int) -> Module | None:
        """Return the mapped file that an address lies in."""
        index = bisect_right(self._mapped_starts, address) - 1
        if index < 0 or address >= self._mapped[index][0].end:
            return None
        return self._mapped[index][1]

    @property
    def executable_path(self) -> str:
        """The executable's path by NT_FILE, else as it was called (AT_EXECFN), "" if unknown."""
        return self.executable.path if self.executable else self.string_at(self.auxv.get(AT_EXECFN))

    def executable_bias(self, entry: int, build_id: str = "") -> int:
        """Return the executable's load bias: AT_ENTRY minus its ``e_entry``.

        Where the core's notes are lost (gdb writes them last), the first page of the executable
        tells, if it is found in memory by its build-id.

        :param entry: ``e_entry`` of the executable file
        :param build_id: its build-id
        :raises CoreFormatError: if nothing in the core tells
        """
        if AT_ENTRY in self.auxv:
            return self.auxv[AT_ENTRY] - entry
        image = self.executable or self.image_of(build_id)
        if image is not None and image.load_bias is not None:
            return image.load_bias
        raise CoreFormatError(
            "the core does not tell where its executable was loaded",
            where=self.path,
            seen="no AT_ENTRY in its notes" if self.auxv else "no NT_AUXV among its notes",
            hint=str(self.problems[0]) if self.problems else "it was not written by Linux or gdb",
        )

    def image_of(self, build_id: str) -> Module | None:
        """Return the ELF file of a build-id by its first page in memory, without any note.

        It has no path; None if no segment begins with it.
        """
        for known in self.memory.ranges() if build_id else ():
            if self.memory.find(known.address, len(ELF_MAGIC)) == ELF_MAGIC:
                mapping = FileMapping(known.address, known.address + known.size, 0, "")
                module = Module("", [mapping], self.memory)
                if module.build_id == build_id:
                    return module
        return None

    def string_at(self, address: int | None) -> str:
        """Return a NUL-terminated string of at most 4096 bytes, "" if it cannot be read."""
        if not address or address >= 1 << 64:
            return ""
        text = b""
        size = min(_MAX_STRING, (1 << 64) - address)
        for piece in self.memory.pieces(HostAddress(address), size):
            if piece.data is None:
                break
            text += piece.data
        return text.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")

    def with_files(
        self, files: Mapping[str, FileSource], executable: Executable | None = None
    ) -> OverlaySpace:
        """Return the memory with mapped files beneath it: the core's own bytes win.

        :param files: by module path; the caller has checked that they are the mapped ones
        :param executable: laid under by its load bias where NT_FILE does not name it
        :raises CoreFormatError: if ``executable`` is needed and its load bias is unknown
        """
        modules, files = list(self.modules), dict(files)
        if executable is not None and self.executable is None:
            modules.append(self._module_of(executable))
            files[executable.source.path] = executable.source
        return OverlaySpace(
            self.memory,
            [
                FilePages(m.start, m.end, m.file_offset, files.get(module.path), module.missing)
                for module in modules
                for m in module.mappings
                if not self._is_writable(m, executable if module is self.executable else None)
            ],
        )

    def close(self) -> None:
        """Close the file; a temporary unpacked one is gone with it."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _find_executable(self) -> Module | None:
        for key in (AT_PHDR, AT_ENTRY):
            module = self.module_at(self.auxv.get(key, 0))
            if module is not None:
                module.is_executable = True
                return module
        return None

    def _is_writable(self, mapping: FileMapping, executable: Executable | None) -> bool:
        """Tell whether the process may have changed its own copy of a file's pages.

        The file's bytes say nothing of them then. Pages that are read-only after relocation were
        writable before; only the program's headers tell.
        """
        segment = self.memory.segment_at(mapping.start)
        if segment is not None and segment.writable:
            return True
        if executable is None:
            return False
        bias = self.executable_bias(executable.header.entry, executable.build_id)
        return any(
            p.vaddr + bias < mapping.end and mapping.start < p.vaddr + p.memsz + bias
            for p in executable.program_headers
            if p.type == PT_LOAD and p.flags & PF_W
        )

    def _module_of(self, executable: Executable) -> Module:
        bias = self.executable_bias(executable.header.entry, executable.build_id)
        path = executable.source.path
        mappings = [
            FileMapping(p.vaddr + bias, p.vaddr + bias + p.filesz, p.offset, path)
            for p in executable.constant_segments
        ]
        module = Module(path, mappings, self.memory)
        module.is_executable = True
        return module


def open_elf_core(
    path: str,
    *,
    tmpdir: str | None = None,
    max_unpacked: int | None = None,
    progress: Progress | None = None,
) -> ElfCore:
    """Open a core, unpacking it first if it is compressed (zstd, lz4, xz, gzip, bzip2).

    :param tmpdir: where a compressed core is unpacked to; by default ``$TMPDIR``, then /var/tmp
    :param max_unpacked: the most bytes that unpacking may yield, holes counted
    :param progress: called while unpacking with the bytes read of the compressed file, and its size
    :raises FileError: if the file cannot be opened or read, or there is no room to unpack it
    :raises CoreFormatError: if it is not an ELF core, or too little of it is left
    :raises LimitError: if it unpacks to more than ``max_unpacked``
    """
    source = FileSource.open(path, what="core")
    problems: list[CoreFormatError] = []
    try:
        if source.read(0, len(ELF_MAGIC)) != ELF_MAGIC:
            from vringcore.elfcore.compressed import unpack

            source, problems = unpack(
                source, tmpdir=tmpdir, max_unpacked=max_unpacked, progress=progress
            )
        return ElfCore(source, problems)
    except BaseException:
        source.close()
        raise


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


def _segment(header: ProgramHeader) -> Segment:
    return Segment(
        header.vaddr,
        header.vaddr + max(header.memsz, header.filesz),
        header.vaddr + header.filesz,
        header.offset,
        bool(header.flags & PF_W),
        bool(header.flags & PF_X),
    )


def _note_segments(source: FileSource, headers: list[ProgramHeader]) -> Iterator[NoteSegment]:
    """Yield the note segments, all together at most :data:`_MAX_NOTES` bytes of them."""
    room = _MAX_NOTES
    for header in headers:
        if header.type == PT_NOTE:
            data = source.read(header.offset, min(header.filesz, room))
            room -= len(data)
            yield NoteSegment(data, header.offset, header.align, header.filesz - len(data))


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
