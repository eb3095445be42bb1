"""The memory of a running process: what was read once stays as it was then."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from vringcore.errors import FileError
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.segments import SegmentSpace
from vringcore.memory.space import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.memory.segments import Segment

BLOCK_SHIFT = 12
BLOCK_SIZE = 1 << BLOCK_SHIFT

MAX_SNAPSHOT = 512 << 20
"""Bytes that are kept; a structure of QEMU's needs a few MiB, the guest's memory is not read."""

WORD = 8
"""What moved is told in words of this size, aligned."""

USER_END = 1 << 63
"""Behind every address of user space."""


class Snapshot:
    """/proc/PID/mem, where the offset of a byte is its address.

    Nothing is stopped, so the process goes on writing. Every block of 4 KiB that was read is kept:
    who asks twice gets the same bytes. Reads may come from several threads at once.

    :ivar ended: the process had ended when it was last read
    """

    what = "process's memory"
    size = USER_END

    def __init__(self, fd: int, path: str, limit: int = MAX_SNAPSHOT) -> None:
        self.path = path
        self.ended = False
        self._fd = fd
        self._limit = limit
        self._blocks: dict[int, bytes | str] = {}
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from an address on.

        :raises FileError: if one of them cannot be read, the process has ended, the snapshot holds
            all that it may, or it is closed
        """
        first, start = offset >> BLOCK_SHIFT, offset & (BLOCK_SIZE - 1)
        if start + size <= BLOCK_SIZE:
            block = self._blocks.get(first)
            if type(block) is bytes:
                return block[start : start + size]
        if size <= 0:
            return b""
        indices = range(first, (offset + size + BLOCK_SIZE - 1) >> BLOCK_SHIFT)
        with self._lock:
            self._load(indices)
            return b"".join(map(self._block, indices))[start : start + size]

    def pread(self, offset: int, size: int) -> bytes:
        """Return bytes as :meth:`read` does: here nothing goes past what was read before."""
        return self.read(offset, size)

    def moved(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """Read again what was read of a range, and yield ``(address, size)`` of what differs.

        In aligned words of :data:`WORD` bytes, cut to the range; those that touch are joined.

        :raises FileError: if the process has ended, or the snapshot is closed
        """
        start, end = 0, 0
        for low, high in self._changed(address, address + size):
            if low > end:
                if end > start:
                    yield start, end - start
                start = low
            end = high
        if end > start:
            yield start, end - start

    def close(self) -> None:
        """Close the file and forget its blocks; reading afterwards is a FileError."""
        with self._lock:
            fd, self._fd = self._fd, -1
            self._blocks.clear()
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def _block(self, index: int) -> bytes:
        block = self._blocks[index]
        if isinstance(block, str):
            where = f"{index << BLOCK_SHIFT:#x}"
            raise FileError(f"the {self.what} cannot be read", where=where, seen=block)
        return block

    def _load(self, indices: range) -> None:
        """Read the blocks that are missing, those that touch at once."""
        blocks, index, end = self._blocks, indices.start, indices.stop
        while index < end:
            if index in blocks:
                index += 1
                continue
            until = index + 1
            while until < end and until not in blocks:
                until += 1
            if len(blocks) + until - index > self._limit >> BLOCK_SHIFT:
                raise FileError(
                    f"no more of the {self.what} is kept",
                    where=f"{index << BLOCK_SHIFT:#x}",
                    seen=f"{len(blocks) << BLOCK_SHIFT} bytes read",
                    expected=f"at most {self._limit} of them",
                )
            index = self._load_run(index, until)

    def _load_run(self, index: int, end: int) -> int:
        """Read blocks that touch, as many as one call gives; return behind the last."""
        try:
            data = self._pread(index << BLOCK_SHIFT, (end - index) << BLOCK_SHIFT)
        except OSError as error:
            self._blocks[index] = error.strerror or "an error"
            return index + 1
        for at in range(0, len(data) - BLOCK_SIZE + 1, BLOCK_SIZE):
            self._blocks[index] = data[at : at + BLOCK_SIZE]
            index += 1
        return index

    def _pread(self, offset: int, size: int) -> bytes:
        """Read at least one block; of a call that ends early the next one says why."""
        if self._fd < 0:
            raise FileError(f"the {self.what} is closed", where=self.path)
        data = os.pread(self._fd, size, offset)
        if not data:
            self.ended = True
            raise FileError("the process ended while it was read", where=self.path)
        if len(data) < BLOCK_SIZE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def _changed(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        for index in range(start >> BLOCK_SHIFT, (end + BLOCK_SIZE - 1) >> BLOCK_SHIFT):
            before = self._blocks.get(index)
            if not isinstance(before, bytes):
                continue
            base = index << BLOCK_SHIFT
            try:
                now = self._pread(base, BLOCK_SIZE)
            except OSError:
                yield max(start, base), min(end, base + BLOCK_SIZE)
                continue
            if now == before:
                continue
            for low, high in _words(max(start, base), min(end, base + BLOCK_SIZE)):
                if before[low - base : high - base] != now[low - base : high - base]:
                    yield low, high


def _words(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a range in aligned words, the first and last cut to it."""
    while start < end:
        until = min(end, (start | (WORD - 1)) + 1)
        yield start, until
        start = until


class LiveSpace(SegmentSpace):
    """The mappings of a running process; what cannot be read of one leaves the rest readable."""

    def _data(self, start: int, end: int, segment: Segment) -> Iterator[Piece]:
        shift = segment.offset - segment.address
        try:
            data = self._source.read(start + shift, end - start)
        except FileError:
            yield from self._in_blocks(start, end, shift)
        else:
            yield Piece(start, len(data), data, None)

    def _in_blocks(self, start: int, end: int, shift: int) -> Iterator[Piece]:
        while start < end:
            until = min(end, (start | (BLOCK_SIZE - 1)) + 1)
            size = until - start
            try:
                data = self._source.read(start + shift, size)
            except FileError as error:
                yield Piece(start, size, None, Gap(GapKind.IO, start, size, str(error)))
            else:
                yield Piece(start, size, data, None)
            start = until
