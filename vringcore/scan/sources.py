"""Bytes of a core wherever it lies, read at random as a local file is, and counted."""

from __future__ import annotations

from vringcore.memory.files import FileSource

IN_MEMORY = 4 << 20
"""Members of archives up to this many bytes are kept in memory, larger ones in a file."""

NO_FILE = -1


class Part(FileSource):
    """A range of a file, or all of it. ``bytes_read`` counts what the system gave."""

    __slots__ = ("bytes_read",)

    def __init__(self, fd: int, path: str, size: int, what: str, start: int = 0) -> None:
        super().__init__(fd, path, size, what, start)
        self.bytes_read = 0

    @classmethod
    def of(cls, source: FileSource) -> Part:
        """Take over an open file: the other one is closed by that."""
        taken = cls(source._fd, source.path, source.size, source.what, source._start)
        source._fd = NO_FILE
        return taken

    def again(self) -> Part:
        """Return the same file, open once more."""
        return Part.of(self.part(0, self.size, self.path))

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def narrow(self, offset: int, length: int) -> Part:
        """Show ``length`` bytes from ``offset`` on alone; fewer where the file ends."""
        self._start = offset
        self.size = max(0, min(length, self.size - offset))
        return self

    def _pread(self, size: int, offset: int) -> bytes:
        data = super()._pread(size, offset)
        self.bytes_read += len(data)
        return data


class Held(FileSource):
    """A core that is in memory as a whole."""

    __slots__ = ("_data", "bytes_read")

    def __init__(self, data: bytes, path: str) -> None:
        super().__init__(NO_FILE, path, len(data), "core")
        self._data = data
        self.bytes_read = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`FileSource.read` does."""
        return self._data[offset : offset + size]

    pread = read
