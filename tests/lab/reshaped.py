"""Real cores as other writers, kernels and accidents would have left them.

A copy of a core whose program headers and notes are replaced; memory stays where it lies. What is
new stands behind the end of the file. Nothing of vringcore is used.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PRSTATUS, AUXV, FILE = 1, 6, 0x46494C45
LOAD, NOTE = 1, 4
_XNUM = 0xFFFF
_PHDR = struct.Struct("<IIQQQQQQ")

Note = tuple[bytes, int, bytes]
Header = tuple[int, ...]


class Reshaped:
    """A copy of a core (64-bit, little-endian) that can be given another form time after time."""

    def __init__(self, core: Path, directory: Path) -> None:
        self.path = directory / "core"
        subprocess.run(["cp", "--sparse=always", core, self.path], check=True)
        self.path.chmod(0o600)
        with self.path.open("rb") as file:
            self._ehdr = file.read(64)
            offset, count = struct.unpack_from("<Q", self._ehdr, 32)[0], self._short(56)
            file.seek(offset)
            self._headers: list[Header] = [_PHDR.unpack(file.read(56)) for _ in range(count)]
            self.notes: list[Note] = []
            for header in self._headers:
                if header[0] == NOTE:
                    file.seek(header[2])
                    self.notes += _notes(file.read(header[5]))
        self._end = self.path.stat().st_size

    def write(
        self,
        notes: Iterable[Note] | None,
        *,
        more: int = 0,
        sections: bool = True,
    ) -> Path:
        """Give the copy these notes, None for no PT_NOTE at all, and ``more`` empty segments.

        :param sections: keep the section headers; a kernel writes none
        """
        loads = [header for header in self._headers if header[0] != NOTE]
        top = max(header[3] + header[6] for header in loads if header[3] < 1 << 47)
        first = (top + (1 << 21)) & ~0xFFF
        loads += [(LOAD, 4, 0, first + index * 0x2000, 0, 0, 0x1000, 1) for index in range(more)]
        data = b"" if notes is None else b"".join(map(_packed, notes))
        if notes is not None:
            loads.insert(0, (NOTE, 4, self._end, 0, 0, len(data), len(data), 4))
        table_at = self._end + len(data)
        ehdr = bytearray(self._ehdr)
        struct.pack_into("<Q", ehdr, 32, table_at)
        struct.pack_into("<H", ehdr, 56, min(len(loads), _XNUM))
        table = b"".join(_PHDR.pack(*header) for header in loads)
        if len(loads) >= _XNUM:  # section header 0 carries the number
            struct.pack_into("<Q", ehdr, 40, table_at + len(table))
            struct.pack_into("<HHH", ehdr, 58, 64, 1, 0)
            table += struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, len(loads), 0, 0)
        elif not sections:
            struct.pack_into("<Q", ehdr, 40, 0)
            struct.pack_into("<HHH", ehdr, 58, 0, 0, 0)
        with self.path.open("r+b") as file:
            file.write(ehdr)
            file.seek(self._end)
            file.write(data + table)
            file.truncate()
        return self.path

    def without(self, *kinds: int) -> list[Note]:
        """The notes but for those of some types."""
        return [note for note in self.notes if note[1] not in kinds]

    def renamed(self, rename: Callable[[bytes], bytes]) -> list[Note]:
        """The notes, the files in NT_FILE under other names."""
        return [
            (owner, kind, _renamed(desc, rename) if kind == FILE else desc)
            for owner, kind, desc in self.notes
        ]

    def _short(self, at: int) -> int:
        return int.from_bytes(self._ehdr[at : at + 2], "little")


def _notes(data: bytes) -> Iterator[Note]:
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        name_at = at + 12
        desc_at = name_at + (name_size + 3 & ~3)
        yield (
            data[name_at : name_at + name_size].rstrip(b"\0"),
            kind,
            data[desc_at : desc_at + size],
        )
        at = desc_at + (size + 3 & ~3)


def _packed(note: Note) -> bytes:
    owner, kind, desc = note
    name = owner + b"\0"
    head = struct.pack("<III", len(name), len(desc), kind)
    return head + name + bytes(-len(name) % 4) + desc + bytes(-len(desc) % 4)


def _renamed(desc: bytes, rename: Callable[[bytes], bytes]) -> bytes:
    (count,) = struct.unpack_from("<Q", desc)
    names_at = 16 + 24 * count
    names = desc[names_at:].split(b"\0")[:count]
    return desc[:names_at] + b"".join(rename(name) + b"\0" for name in names)
