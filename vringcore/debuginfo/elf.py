"""An executable, library or debug file: its sections and how it points to other files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.elfcore.headers import (
    SHT_NOBITS,
    read_build_id,
    read_header,
    read_section_headers,
)
from vringcore.errors import ElfFormatError
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from vringcore.elfcore.headers import SectionHeader

SHF_ALLOC = 0x2
SHF_TLS = 0x400
SHF_COMPRESSED = 0x800

SHT_SYMTAB = 2
SHT_DYNSYM = 11

MACHINES = {3: "x86", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64",
            183: "aarch64", 243: "riscv", 258: "loongarch"}  # fmt: skip
"""``e_machine`` to the names used for a core's ``machine``."""


class Section:
    """One section's contents, read when asked for and unpacked if compressed."""

    __slots__ = ("_data", "_file", "header", "packed")

    def __init__(self, file: ElfFile, header: SectionHeader) -> None:
        self._file = file
        self._data: bytes | None = None
        self.header = header
        self.packed = bool(header.flags & SHF_COMPRESSED) or header.name.startswith(".zdebug")

    @property
    def size(self) -> int:
        """Bytes of contents; unpacks a compressed section."""
        return len(self.data) if self.packed else self.header.size

    @property
    def data(self) -> bytes:
        """All of it, kept from the first use on.

        :raises ElfFormatError: if it leaves the file or cannot be unpacked
        """
        if self._data is None:
            self._data = self._load()
        return self._data

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of it, fewer where it ends; nothing is kept.

        :raises ElfFormatError: if it leaves the file or cannot be unpacked
        """
        if self._data is None and not self.packed:
            size = min(size, self.header.size - offset)
            return self._file.source.pread(self.header.offset + offset, size)
        return self.data[offset : offset + size]

    def reader(self) -> Callable[[int, int], bytes]:
        """Return what reads as :meth:`read` does, for thousands of reads; errors likewise."""
        if self._data is None and not self.packed:
            return self._file.source.reader(self.header.offset, self.header.size)
        return self.read

    def _load(self) -> bytes:
        header, file = self.header, self._file
        data = file.source.pread(header.offset, header.size)
        if len(data) != header.size:
            raise ElfFormatError(
                f"section {header.name} leaves the {file.source.what}",
                where=file.source.path,
                seen=f"{len(data)} bytes left at offset {header.offset:#x}",
                expected=str(header.size),
                hint="copy the file again",
            )
        if not self.packed:
            return data
        from vringcore.debuginfo.compress import unpack, unpack_zdebug

        if header.flags & SHF_COMPRESSED:
            return unpack(data, file.header, header.name)
        return unpack_zdebug(data, header.name)


class ElfFile:
    """One open ELF file.

    :raises ElfFormatError: if its headers are damaged
    """

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.header = read_header(source)
        self.headers = read_section_headers(source, self.header)
        self._sections: dict[str, Section] = {}
        for header in self.headers:
            if header.type != SHT_NOBITS and header.name:
                name = header.name
                if name.startswith(".zdebug_"):
                    name = ".debug_" + name.removeprefix(".zdebug_")
                self._sections.setdefault(name, Section(self, header))

    @classmethod
    def open(cls, path: str, *, what: str = "executable") -> Self:
        """Open a file by path.

        :raises FileError: if it cannot be read
        :raises ElfFormatError: if it is no ELF file or its headers are damaged
        """
        source = FileSource.open(path, what=what)
        try:
            return cls(source)
        except BaseException:
            source.close()
            raise

    @property
    def path(self) -> str:
        """Where the file lies."""
        return self.source.path

    @property
    def machine(self) -> str:
        """The architecture's name, ``machine N`` for one that has none here."""
        return MACHINES.get(self.header.machine, f"machine {self.header.machine}")

    @property
    def build_id(self) -> str:
        """The GNU build-id in lower-case hex, "" if there is none."""
        return read_build_id(self.source, self.header)

    @property
    def has_dwarf(self) -> bool:
        """Whether the file itself holds debug information entries."""
        return ".debug_info" in self._sections

    def section(self, name: str) -> Section | None:
        """Return the section of that name, ``.zdebug_x`` for ``.debug_x``; None if it is empty."""
        return self._sections.get(name)

    def debug_link(self) -> tuple[str, int] | None:
        """Return the debug file's name and CRC-32 (``.gnu_debuglink``), None if there is none."""
        section = self._sections.get(".gnu_debuglink")
        if section is None:
            return None
        name, _, rest = section.data.partition(b"\0")
        if not name or len(rest) < 4:
            return None
        checksum = struct.unpack(self.header.byteorder + "I", rest[-4:])[0]
        return name.decode("utf-8", "surrogateescape"), checksum

    def alternate_link(self) -> tuple[str, str] | None:
        """Return ``.gnu_debugaltlink``: the path and build-id of dwz's common file."""
        section = self._sections.get(".gnu_debugaltlink")
        if section is None:
            return None
        name, _, build_id = section.data.partition(b"\0")
        return name.decode("utf-8", "surrogateescape"), build_id.hex()

    def close(self) -> None:
        """Close the file."""
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
