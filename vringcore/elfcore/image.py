"""A process as far as it is known: memory with typed gaps, threads, and the files it had mapped."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.elfcore.headers import ELF_MAGIC, PF_W, PT_LOAD
from vringcore.elfcore.modules import Module, group_by_file
from vringcore.elfcore.notes import AT_ENTRY, AT_EXECFN, AT_PHDR, SLIM_OWNER, FileMapping
from vringcore.elfcore.registers import machine_name
from vringcore.errors import CoreFormatError
from vringcore.memory.overlay import FilePages, OverlaySpace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Protocol, Self

    from vringcore.elfcore.executable import Executable
    from vringcore.elfcore.headers import ElfHeader, Note
    from vringcore.elfcore.notes import CoreNotes
    from vringcore.elfcore.slimnote import SlimNote
    from vringcore.memory.files import FileSource
    from vringcore.memory.segments import SegmentSpace

    class Closeable(Protocol):
        """Where the memory comes from: a file, or a process."""

        @property
        def path(self) -> str: ...
        def close(self) -> None: ...


_MAX_STRING = 4096
_LARGE = 1 << 24


class ProcessImage:
    """A process, from a core or alive: its memory, its threads, and the files it had mapped.

    Close it, or use it in a ``with`` statement. What was read stays valid after that; memory does
    not. Damage that leaves the rest usable is in ``problems``, not raised.

    :ivar path: the file that was opened (the compressed one, if it was compressed), or /proc/PID
    :ivar size: bytes of the ELF file itself; of a running process, those of its memory
    :ivar truncated: the file ends before its headers say
    :ivar kind: who wrote it: ``gcore`` (gdb), ``kernel``, ``slim``, ``unknown``; ``live`` for a
        running process
    :ivar machine: ``x86-64``, ``aarch64`` …
    :ivar auxv: the auxiliary vector by ``AT_`` number
    :ivar modules: mapped files, by NT_FILE; where the core has no such note, what
        :meth:`adopt` was given
    :ivar executable: the module that AT_PHDR or AT_ENTRY lies in, None if none does
    :ivar raw_notes: notes that belong to no thread and are not decoded here
    :ivar shared: files of shared memory that the core left out, to lay under it
    :ivar slim: what a slim core says of itself, or /proc of a running process; None for any other
    """

    def __init__(
        self,
        source: Closeable,
        header: ElfHeader,
        memory: SegmentSpace,
        notes: CoreNotes,
        *,
        kind: str,
        size: int,
        truncated: bool = False,
        slim: SlimNote | None = None,
    ) -> None:
        self._closeable = source
        self.path = source.path
        self.size = size
        self.header = header
        self.machine = machine_name(header.machine)
        self.memory = memory
        self.kind = kind
        self.slim = slim
        self.truncated = truncated
        self.threads = notes.threads
        self.auxv = notes.auxv
        self.prpsinfo = notes.prpsinfo
        self.siginfo = notes.siginfo
        self.raw_notes = notes.raw
        self.problems = list(notes.problems)
        self.shared: list[FilePages] = []
        self.adopt(group_by_file(notes.files, memory))

    def adopt(self, modules: list[Module]) -> None:
        """Take modules for those of the process."""
        self.modules = modules
        self._mapped = sorted(
            ((mapping, module) for module in modules for mapping in module.mappings),
            key=lambda row: row[0].start,
        )
        self._mapped_starts = [mapping.start for mapping, _ in self._mapped]
        self.executable = self._find_executable()

    def notes(self) -> list[Note] | None:
        """Return all notes as they lie in a core file; None where there is no such file."""
        return None

    def slim_layouts(self) -> list[bytes]:
        """Return the layout bundles that a slim core brings along, as JSON.

        The program's types come first; names of addresses follow, of the program and its libraries.

        :raises CoreFormatError: if they are damaged
        """
        if self.slim is None:
            return []
        from vringcore.elfcore import slimnote

        return [
            slimnote.unpack(note.desc, self.path)
            for kind in (slimnote.NT_SLIM_LAYOUTS, slimnote.NT_SLIM_NAMES)
            for note in self.raw_notes
            if note.owner == SLIM_OWNER and note.type == kind
        ]

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

    @property
    def names_unread_files(self) -> bool:
        """Whether it names a large file of which it holds not even the first byte: shared RAM."""
        return any(
            mapping.end - mapping.start >= _LARGE and not self.memory.holds(mapping.start, 1)
            for mapping, _ in self._mapped
            if mapping.file_offset == 0
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
        space = OverlaySpace(
            self.memory,
            [
                FilePages(m.start, m.end, m.file_offset, files.get(module.path), module.missing)
                for module in modules
                for m in module.mappings
                if not self._is_writable(m, executable if module is self.executable else None)
            ],
        )
        if self.shared:
            space.lay(self.shared)
        return space

    def close(self) -> None:
        """Close what the memory is read from; a temporary unpacked file is gone with it."""
        self._closeable.close()

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
