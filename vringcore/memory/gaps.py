"""Why an address cannot be read."""

from __future__ import annotations

from enum import Enum

import msgspec


class GapKind(Enum):
    """The kinds of hole in an address space. They never merge, and none of them means zero."""

    UNMAPPED = "unmapped"
    """The process had nothing mapped there."""
    NOT_DUMPED = "not-dumped"
    """Mapped, and left out of the core by its writer."""
    OMITTED = "omitted"
    """Left out on purpose by a slim core."""
    TRUNCATED = "truncated"
    """The core's headers promise it, and the file ends before it."""
    FILE_NEEDED = "file-needed"
    """A page of a mapped file that the core left out; the file is not at hand."""
    NOT_RAM = "not-ram"
    """A guest address that no RAM answers."""
    UNTRANSLATABLE = "untranslatable"
    """A guest address, where the guest's memory map cannot be used."""
    IO = "io"
    """The file could not be read there."""


class Gap(msgspec.Struct, frozen=True):
    """A hole: its kind, its extent, and what would fill it.

    ``file``, ``file_offset`` and ``build_id`` are set for FILE_NEEDED.
    """

    kind: GapKind
    address: int
    size: int
    hint: str = ""
    file: str = ""
    file_offset: int = 0
    build_id: str = ""

    def describe(self) -> str:
        """Return the gap in words, for messages."""
        match self.kind:
            case GapKind.UNMAPPED:
                return "no memory mapped there"
            case GapKind.NOT_DUMPED:
                return "memory that the core does not hold"
            case GapKind.OMITTED:
                return "memory that this slim core left out"
            case GapKind.TRUNCATED:
                return "memory beyond the end of the truncated core"
            case GapKind.FILE_NEEDED:
                return f"a page of {self.file} (offset {self.file_offset:#x}) not in the core"
            case GapKind.NOT_RAM:
                return "a guest address that is not RAM"
            case GapKind.UNTRANSLATABLE:
                return "a guest address, and no memory map to look it up in"
            case GapKind.IO:
                return "a read error"
