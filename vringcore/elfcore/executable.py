"""What must be known of an executable file to match it with a core and lay it under its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.headers import (
    ET_CORE,
    ET_DYN,
    ET_EXEC,
    PF_W,
    PT_LOAD,
    PT_PHDR,
    read_build_id,
    read_header,
    read_program_headers,
)
from vringcore.errors import ElfFormatError

if TYPE_CHECKING:
    from vringcore.elfcore.headers import ElfHeader, ProgramHeader
    from vringcore.memory.files import FileSource


class Executable(msgspec.Struct, frozen=True):
    """An executable or library file: its headers and its build-id ("" if it has none)."""

    source: FileSource
    header: ElfHeader
    program_headers: list[ProgramHeader]
    build_id: str

    @property
    def phdr_vaddr(self) -> int | None:
        """The link address of its program headers (PT_PHDR), None if it does not say."""
        return next((p.vaddr for p in self.program_headers if p.type == PT_PHDR), None)

    @property
    def constant_segments(self) -> list[ProgramHeader]:
        """Its segments that no process can have changed: text and read-only data."""
        return [p for p in self.program_headers if p.type == PT_LOAD and not p.flags & PF_W]


def read_executable(source: FileSource) -> Executable:
    """Read what identifies an executable or library.

    :raises ElfFormatError: if it is no ELF executable, or its headers are damaged
    """
    header = read_header(source)
    if header.type not in (ET_EXEC, ET_DYN):
        raise ElfFormatError(
            f"the {source.what} is not an executable",
            where=source.path,
            seen="a core" if header.type == ET_CORE else f"ELF type {header.type}",
            expected="an executable or shared object (ELF type 2 or 3)",
            hint="the core comes first, the executable after -e",
        )
    segments = read_program_headers(source, header)
    return Executable(source, header, segments, read_build_id(source, header))
