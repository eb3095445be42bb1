"""The files a process had mapped, and what the core itself tells of them: build-id, load bias."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.elfcore.headers import (
    ELF_MAGIC,
    PT_LOAD,
    build_id_of_segments,
    read_header,
    read_program_headers,
)
from vringcore.errors import VringcoreError
from vringcore.memory.gaps import Gap, GapKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.elfcore.headers import ElfHeader, ProgramHeader, Source
    from vringcore.elfcore.notes import FileMapping
    from vringcore.memory.segments import SegmentSpace

    Identity = tuple[ElfHeader | None, list[ProgramHeader], str, int | None]
    Headers = tuple[ElfHeader | None, tuple[ProgramHeader, ...], str]

START = 1024
"""Bytes of a file in which its headers and its build-id nearly always end."""

_DELETED = " (deleted)"
_NO_FILE = ("/memfd:", "/dev/", "/SYSV", "/anon_hugepage")

_SHARED_HINT = (
    "shared memory that the core's writer left out; take the core after"
    " `echo 0x7f > /proc/PID/coredump_filter`"
)


class Module:
    """One mapped file. What must be read from memory is read when first asked for.

    :ivar path: as the kernel named it, without the mark of a deleted file
    :ivar deleted: whether the file had been removed or replaced when the core was taken
    :ivar start: the lowest address that maps it
    :ivar end: behind the highest
    :ivar mappings: by address
    :param identity: header, program headers, build-id and load bias, where the file and not the
        core tells them
    """

    __slots__ = (
        "_identity",
        "_memory",
        "deleted",
        "end",
        "is_executable",
        "mappings",
        "path",
        "start",
    )

    def __init__(
        self,
        path: str,
        mappings: list[FileMapping],
        memory: SegmentSpace,
        identity: Identity | None = None,
    ) -> None:
        self.deleted = path.endswith(_DELETED)
        self.path = path.removesuffix(_DELETED)
        self.mappings = mappings
        self.start = mappings[0].start
        self.end = max(mapping.end for mapping in mappings)
        self.is_executable = False
        self._memory = memory
        self._identity = identity

    @property
    def header(self) -> ElfHeader | None:
        """Its ELF header as it lies in the core, None if it is not there or not ELF."""
        return self._identify()[0]

    @property
    def program_headers(self) -> list[ProgramHeader]:
        """Its program headers as they lie in the core; empty if they are not there."""
        return self._identify()[1]

    @property
    def build_id(self) -> str:
        """Its build-id as hex, read from the core; "" if the page is not there or has none."""
        return self._identify()[2]

    @property
    def load_bias(self) -> int | None:
        """What to add to an address of the file to get one of the process.

        None if the page with its ELF header is not in the core: then :meth:`bias_by` takes the
        program headers of the file.
        """
        return self._identify()[3]

    def bias_by(self, program_headers: Iterable[ProgramHeader]) -> int | None:
        """Return the load bias from the program headers of the file itself, None if none fits."""
        for segment in program_headers:
            if segment.type != PT_LOAD:
                continue
            for mapping in self.mappings:
                if (
                    mapping.file_offset
                    <= segment.offset
                    < mapping.file_offset + (mapping.end - mapping.start)
                ):
                    loaded_at = mapping.start + segment.offset - mapping.file_offset
                    return loaded_at - segment.vaddr
        return None

    def missing(self, address: int, size: int, file_offset: int) -> Gap:
        """Return the gap for pages of this file that neither the core nor a given file holds."""
        if self.path.startswith(_NO_FILE) or (self._is_shared_data(address)):
            return Gap(GapKind.NOT_DUMPED, address, size, _SHARED_HINT)
        build = f" of build-id {self.build_id}" if self.build_id else ""
        if self.is_executable:
            hint = f"give the executable{build} with -e PATH"
        else:
            hint = f"put the file{build} below a directory given with --sysroot"
        return Gap(
            GapKind.FILE_NEEDED,
            address,
            size,
            hint,
            file=self.path,
            file_offset=file_offset,
            build_id=self.build_id,
        )

    def __repr__(self) -> str:
        return f"Module({self.path!r}, {self.start:#x}-{self.end:#x})"

    def _is_shared_data(self, address: int) -> bool:
        """Tell guest RAM backed by a file from a program's pages: it is writable and no ELF."""
        segment = self._memory.segment_at(address)
        return segment is not None and segment.writable and self.header is None

    def _identify(self) -> Identity:
        if self._identity is None:
            self._identity = self._read_identity()
        return self._identity

    def _read_identity(self) -> Identity:
        image = _Image(self, self._memory)
        start = image.read(0, START)
        # Most mapped files of a desktop-like process are no ELF files.
        if start[: len(ELF_MAGIC)] != ELF_MAGIC:
            return None, [], "", None
        header, segments, build_id = _headers_in(start, image.size) or _headers_of(image)
        if header is None:
            return None, [], "", None
        return header, list(segments), build_id, self.bias_by(segments)


def _headers_of(source: Source) -> Headers:
    """Return a file's header, program headers and build-id."""
    try:
        header = read_header(source)
    except VringcoreError:
        return None, (), ""
    segments = tuple(read_program_headers(source, header))
    return header, segments, build_id_of_segments(source, header, segments)


@lru_cache(maxsize=256)
def _headers_in(start: bytes, size: int) -> Headers | None:
    """Return the same by a file's first bytes alone, None if it takes more than those.

    Of each library once: every core of a build maps the same ones.

    :param size: the size of the file
    """
    source = _Start(start, size)
    found = _headers_of(source)
    return None if source.left else found


class _Start:
    """The first bytes of a file, which notes when it is asked for others."""

    what = "module"
    path = ""

    def __init__(self, data: bytes, size: int) -> None:
        self.size = size
        self.left = False
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        self.left |= offset + size > len(self._data)
        return self._data[offset : offset + size]


class _Image:
    """An ELF file as far as it lies in memory, for the reader of ELF headers."""

    what = "module"

    def __init__(self, module: Module, memory: SegmentSpace) -> None:
        self.path = module.path
        self._memory = memory
        self._mappings = module.mappings
        self.size = max(m.file_offset + m.end - m.start for m in module.mappings)

    def read(self, offset: int, size: int) -> bytes:
        for mapping in self._mappings:
            inside = offset - mapping.file_offset
            if 0 <= inside < mapping.end - mapping.start:
                break
        else:
            return b""
        address = HostAddress(mapping.start + inside)
        size = min(size, mapping.end - address)
        found = self._memory.find(address, size)
        if found is not None:
            return found
        parts = []
        for piece in self._memory.pieces(address, size):
            if piece.data is None:
                break
            parts.append(piece.data)
        return b"".join(parts)


def group_by_file(mappings: Iterable[FileMapping], memory: SegmentSpace) -> list[Module]:
    """Return one module for each file, in the order of their first mappings."""
    by_path: dict[str, list[FileMapping]] = {}
    for mapping in mappings:
        by_path.setdefault(mapping.path, []).append(mapping)
    return [Module(path, rows, memory) for path, rows in by_path.items()]
