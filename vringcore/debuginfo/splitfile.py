"""Files that ``-gsplit-dwarf`` makes: ``.dwo``, and ``.dwp`` with many of them (DWARF 5, 7.3).

Their sections are shown under the names that they have elsewhere, those of a package as the parts
that belong to one unit, so that the readers need not tell them from others.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.debuginfo.elf import ElfFile, Section
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SUFFIX = ".dwo"

_COLUMNS = {
    2: {1: "info", 2: "types", 3: "abbrev", 4: "line", 5: "loc", 6: "str_offsets"},
    5: {1: "info", 3: "abbrev", 4: "line", 5: "loclists", 6: "str_offsets", 8: "rnglists"},
}
"""Sections by number (DW_SECT) in an index of GNU's version 2, for DWARF 4, and of DWARF 5."""

MAX_ROWS = 1 << 20


class _Part(Section):
    """A part of a section that belongs to one unit."""

    __slots__ = ("_length", "_offset", "_whole")

    def __init__(self, file: ElfFile, whole: Section, offset: int, length: int) -> None:
        super().__init__(file, whole.header)
        self.packed = False
        self._whole = whole
        self._offset = offset
        self._length = length

    @property
    def size(self) -> int:
        return self._length

    def read(self, offset: int, size: int) -> bytes:
        return self._whole.read(self._offset + offset, max(0, min(size, self._length - offset)))

    def reader(self) -> Callable[[int, int], bytes]:
        return self.read

    def _load(self) -> bytes:
        return self.read(0, self._length)


class SplitFile(ElfFile):
    """The sections of a ``.dwo``, or those of one unit of a ``.dwp``, under their usual names.

    :param parts: offset and size by section, as ``.debug_info``; all of what is not among them
    """

    def __init__(self, elf: ElfFile, parts: Mapping[str, tuple[int, int]] | None = None) -> None:
        self.source = elf.source
        self.header = elf.header
        self.headers = elf.headers
        self._sections: dict[str, Section] = {}
        for header in elf.headers:
            whole = elf.section(header.name)
            if whole is None or not header.name.endswith(_SUFFIX):
                continue
            name = header.name.removesuffix(_SUFFIX)
            if parts is None or name == ".debug_str":
                self._sections[name] = whole
            elif name in parts:
                self._sections[name] = _Part(self, whole, *parts[name])
            elif name == ".debug_info":
                # Of a type unit of DWARF 4, which lies in .debug_types.
                self._sections[name] = _Part(self, whole, 0, 0)

    @classmethod
    def whole(cls, path: str) -> SplitFile:
        """Read a ``.dwo`` into memory: a program has more of them than files can be open.

        :raises FileError: if it cannot be read
        :raises ElfFormatError: if it is damaged
        """
        with ElfFile.open(path, what="file of split debug information") as elf:
            made = cls(elf)
            for section in made._sections.values():
                section.data  # noqa: B018 - kept from now on
            return made


class PackageIndex:
    """``.debug_cu_index`` or ``.debug_tu_index``: the parts of a unit by its number.

    :raises DwarfError: if it is damaged
    """

    def __init__(self, data: bytes, order: str) -> None:
        version = struct.unpack_from(order + "H", data)[0]
        if version != 5:
            version = struct.unpack_from(order + "I", data)[0]
        columns, units, slots = struct.unpack_from(order + "III", data, 4)
        names = _COLUMNS.get(version)
        size = 16 + 12 * slots + 4 * columns + 8 * columns * units
        if names is None or max(columns, units, slots) > MAX_ROWS or size > len(data):
            raise DwarfError(
                "an index of a package of split debug information makes no sense",
                seen=f"version {version}, {columns} x {units} parts, {slots} slots",
                expected=f"version 2 or 5, in {len(data)} bytes",
            )
        self._rows = dict(
            zip(
                struct.unpack_from(f"{order}{slots}Q", data, 16),
                struct.unpack_from(f"{order}{slots}I", data, 16 + 8 * slots),
                strict=True,
            )
        )
        at = 16 + 12 * slots
        numbers = struct.unpack_from(f"{order}{columns}I", data, at)
        self._names = [f".debug_{names[n]}" if n in names else "" for n in numbers]
        self._row = struct.Struct(f"{order}{columns}I")
        self._data = data
        self._offsets = at + 4 * columns
        self._sizes = self._offsets + self._row.size * units
        self._units = units

    def parts(self, number: int) -> dict[str, tuple[int, int]] | None:
        """Return offset and size of the unit's part of each section, None if it is not there.

        :param number: of a unit its DWO id, of a type unit its signature
        """
        row = self._rows.get(number, 0)
        if not 1 <= row <= self._units:
            return None
        step = (row - 1) * self._row.size
        offsets = self._row.unpack_from(self._data, self._offsets + step)
        sizes = self._row.unpack_from(self._data, self._sizes + step)
        places = zip(offsets, sizes, strict=True)
        return {name: at for name, at in zip(self._names, places, strict=True) if name}
