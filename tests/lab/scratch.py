"""A copy of a core that may be cut, written to, and given holes; the lab's own stay untouched."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PT_LOAD, _PT_NOTE = 1, 4
_HEADER_FIELDS = struct.Struct("<16sHHIQQQIHHHHHH")
_ROW = struct.Struct("<IIQQQQQQ")


class ScratchCore:
    """A sparse copy of a 64-bit little-endian core.

    :ivar path: the copy
    :ivar rows: its program headers: type, flags, offset, vaddr, paddr, filesz, memsz, align
    """

    def __init__(self, core: Path, directory: Path) -> None:
        self.path = directory / "core"
        subprocess.run(["cp", "--sparse=always", core, self.path], check=True)
        self.path.chmod(0o600)
        self.size = self.path.stat().st_size
        with self.path.open("rb") as file:
            self._header = _HEADER_FIELDS.unpack(file.read(_HEADER_FIELDS.size))
            file.seek(self._header[5])
            table = file.read(_ROW.size * self._header[10])
        self.rows = list(_ROW.iter_unpack(table))

    @property
    def table_end(self) -> int:
        """Where the program headers end in the file."""
        return int(self._header[5]) + _ROW.size * len(self.rows)

    def cut(self, size: int) -> None:
        """Cut the file for good; only ever to less than before."""
        os.truncate(self.path, size)

    def offset_of(self, address: int) -> int:
        """Return the file offset of an address.

        :raises KeyError: if the core does not hold it
        """
        for kind, _, offset, vaddr, _, filesz, _, _ in self.rows:
            if kind == _PT_LOAD and vaddr <= address < vaddr + filesz:
                return int(offset + address - vaddr)
        raise KeyError(hex(address))

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the process's memory."""
        with self.path.open("rb") as file:
            file.seek(self.offset_of(address))
            return file.read(size)

    @contextmanager
    def written(self, changes: Iterable[tuple[int, bytes]]) -> Iterator[str]:
        """Change bytes at addresses, for a while; yield the path."""
        undo = []
        with self.path.open("r+b", buffering=0) as file:
            for address, data in changes:
                offset = self.offset_of(address)
                undo.append((offset, os.pread(file.fileno(), len(data), offset)))
                os.pwrite(file.fileno(), data, offset)
            try:
                yield str(self.path)
            finally:
                for offset, data in reversed(undo):
                    os.pwrite(file.fileno(), data, offset)

    @contextmanager
    def without(self, holes: Iterable[tuple[int, int]]) -> Iterator[str]:
        """Leave out the memory at ``(start, end)`` addresses, for a while; yield the path.

        The changed program headers go behind the end of the file: ``p_filesz`` is 0 in a hole,
        as where a core's writer left out what was mapped.
        """
        rows = list(self.rows)
        for start, end in holes:
            rows = [part for row in rows for part in _split(row, start, end)]
        header = list(self._header)
        header[5], header[10] = self.size, len(rows)
        with self.path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"".join(_ROW.pack(*row) for row in rows), self.size)
            os.pwrite(file.fileno(), _HEADER_FIELDS.pack(*header), 0)
            try:
                yield str(self.path)
            finally:
                os.pwrite(file.fileno(), _HEADER_FIELDS.pack(*self._header), 0)
                file.truncate(self.size)

    def write_reduced(self, path: Path, kept: Iterable[tuple[int, int]]) -> None:
        """Write a small core: of all memory only some ``(start, end)``, and all notes."""
        rows = [(row, row[2]) for row in self.rows if row[0] == _PT_NOTE]
        for start, end in kept:
            for kind, flags, offset, vaddr, paddr, filesz, _, align in self.rows:
                low, high = max(start, vaddr), min(end, vaddr + filesz)
                if kind == _PT_LOAD and low < high:
                    size = high - low
                    row = (kind, flags, 0, low, paddr, size, size, align)
                    rows.append((row, offset + low - vaddr))
        header = list(self._header)
        header[6], header[10], header[12], header[13] = 0, len(rows), 0, 0  # no sections
        place = _HEADER_FIELDS.size + _ROW.size * len(rows)
        header[5] = _HEADER_FIELDS.size
        table, data = b"", b""
        with self.path.open("rb") as file:
            for row, at in rows:
                table += _ROW.pack(*row[:2], place + len(data), *row[3:])
                file.seek(at)
                data += file.read(row[5])
        path.write_bytes(_HEADER_FIELDS.pack(*header) + table + data)


def _split(row: tuple[int, ...], start: int, end: int) -> Iterator[tuple[int, ...]]:
    """Yield a segment in up to three parts, of which the one in the hole has no bytes."""
    kind, flags, offset, vaddr, paddr, filesz, memsz, align = row
    low, high = max(start, vaddr), min(end, vaddr + memsz)
    if kind != _PT_LOAD or low >= high:
        yield row
        return
    for first, last, there in (
        (vaddr, low, True),
        (low, high, False),
        (high, vaddr + memsz, True),
    ):
        if first < last:
            in_file = max(0, min(last, vaddr + filesz) - first) if there else 0
            yield kind, flags, offset + first - vaddr, first, paddr, in_file, last - first, align
