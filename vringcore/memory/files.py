"""A regular file read at random, by pread through a small block cache.

No mapping: a file that shrinks while mapped kills the process that reads it, and a core may lie on
a file system that somebody else writes to.
"""

from __future__ import annotations

import os
import stat
from _thread import allocate_lock  # `threading` is a costly import
from typing import TYPE_CHECKING

from vringcore.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

BLOCK_SHIFT = 11
"""Blocks of 2 KiB: of the sizes from 1 to 64 KiB the fastest for structures spread over a heap.

What costs is fresh memory for the block more than the call (the queues of a QEMU core: 2.3 ms,
against 2.4 with 1 KiB, 2.5 with 4, 3.6 with 16, 5.8 with 64)."""

BLOCK_SIZE = 1 << BLOCK_SHIFT
MAX_BLOCKS = 2048
"""4 MiB of cache for each file."""

_PREAD: Callable[[int, int, int], bytes] | None = getattr(os, "pread", None)
"""What POSIX systems have."""

_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


class FileSource:
    """One open regular file. Reads may come from several threads at once.

    ``size`` is the size when the file was opened; what is appended later is not seen, and what is
    cut off later reads short.
    """

    __slots__ = ("_blocks", "_fd", "_lock", "_start", "path", "size", "what")

    def __init__(self, fd: int, path: str, size: int, what: str, start: int = 0) -> None:
        """Take over an open file, or its part of ``size`` bytes from ``start`` on."""
        self._fd = fd
        self._start = start
        self._blocks: dict[int, bytes] = {}
        self._lock = allocate_lock()
        self.path = path
        self.size = size
        self.what = what

    @classmethod
    def open(cls, path: str, *, what: str = "file") -> Self:
        """Open a regular file; ``what`` names its part in messages ("core", "executable").

        :raises FileError: if it cannot be opened, is not a regular file, or is on another host
        """
        if path.startswith(("//", "\\\\")):
            raise FileError(
                f"the {what} is named by a network path",
                where=path,
                expected="a path of this machine",
                hint="copy the file here, or write the path with one slash",
            )
        try:
            # Non-blocking, because a core can name a FIFO where a library is expected.
            fd = os.open(path, _OPEN_FLAGS)
        except (OSError, ValueError) as error:
            raise _file_error(f"the {what} cannot be opened", path, error) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise FileError(
                f"the {what} cannot be read",
                where=path,
                seen=kind_of(status.st_mode),
                expected="a regular file",
            )
        return cls(fd, path, status.st_size, what)

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only where the file ends.

        :raises FileError: if the system refuses the read, or the source is closed
        """
        start = offset & (BLOCK_SIZE - 1)
        end = start + size
        if end <= BLOCK_SIZE:
            index = offset >> BLOCK_SHIFT
            block = self._blocks.get(index)
            if block is None:
                block = self._load(index)
            return block[start:end]
        if size <= BLOCK_SIZE:
            head = self.read(offset, BLOCK_SIZE - start)
            return head + self.read(offset + BLOCK_SIZE - start, end - BLOCK_SIZE)
        return self.pread(offset, size)

    def part(self, offset: int, size: int, path: str) -> FileSource:
        """Return a part of the file as a file of its own, which may outlive this one.

        :param path: what it is called in messages
        """
        size = max(0, min(size, self.size - offset))
        return FileSource(os.dup(self._fd), path, size, self.what, self._start + offset)

    def close(self) -> None:
        """Close the file and forget its blocks; reading afterwards is a :class:`FileError`."""
        with self._lock:
            fd, self._fd = self._fd, -1
            self._blocks.clear()
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FileSource({self.path!r}, size={self.size})"

    def _load(self, index: int) -> bytes:
        offset, block = index << BLOCK_SHIFT, b""
        if _PREAD is not None and offset + BLOCK_SIZE <= self.size:
            # A whole block in one call, as nearly always; what goes wrong goes wrong again below.
            try:
                block = _PREAD(self._fd, BLOCK_SIZE, self._start + offset)
            except OSError:
                block = b""
        if len(block) != BLOCK_SIZE:
            block = self.pread(offset, BLOCK_SIZE)
        with self._lock:
            blocks = self._blocks
            if len(blocks) >= MAX_BLOCKS:
                del blocks[next(iter(blocks))]
            blocks[index] = block
        return block

    def pread(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`read` does, past the cache: for what is read once, in passing."""
        # Bounded by the file before the system allocates anything for us.
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        place = self._start + offset
        try:
            data = self._pread(size, place)
            while data and len(data) < size:  # the system may give less than it could
                part = self._pread(size - len(data), place + len(data))
                if not part:
                    break
                data += part
        except OSError as error:
            where = f"offset {offset:#x} of {self.path}"
            raise _file_error(f"the {self.what} cannot be read", where, error) from error
        return data

    def reader(self, start: int, size: int) -> Callable[[int, int], bytes]:
        """Return what reads bytes of a stretch as :meth:`pread` does, for thousands of reads."""
        size = max(0, min(size, self.size - start))
        place = self._start + start

        def read(offset: int, count: int) -> bytes:
            if _PREAD is not None and offset >= 0 and 0 <= count <= size - offset:
                try:
                    data = _PREAD(self._fd, count, place + offset)
                except OSError:
                    data = b""
                if len(data) == count:
                    return data
            return self.pread(start + offset, min(count, size - offset))

        return read

    if hasattr(os, "pread"):

        def _pread(self, size: int, offset: int) -> bytes:
            return os.pread(self._fd, size, offset)

    else:  # Windows: whoever reads must not find the place moved

        def _pread(self, size: int, offset: int) -> bytes:
            with self._lock:
                os.lseek(self._fd, offset, os.SEEK_SET)
                return os.read(self._fd, size)


def _file_error(doing: str, where: str, error: OSError | ValueError) -> FileError:
    seen = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileError(doing, where=where, seen=seen)


def kind_of(mode: int) -> str:
    """Return what a file of a mode (``st_mode``) is that is not a regular one, in words."""
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    )
    return next((name for test, name in kinds if test(mode)), "a special file")
