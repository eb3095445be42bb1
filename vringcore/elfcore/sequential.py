"""What is unpacked on the way, as a file that is read forwards."""

from __future__ import annotations

import io
import os
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vringcore.errors import CoreFormatError, LimitError
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_HEADER = 8 << 20
"""Bytes that all headers of one member of an archive may take."""

_PIECE = 1 << 18
_BACK = 1 << 20
"""Bytes behind the reading place that can be read again."""


class Forward(io.RawIOBase):
    """Pieces of bytes as a file: seeking goes forwards, and back as far as :data:`_BACK`.

    What a library reads to understand a header is measured, for a header may ask for anything.
    """

    def __init__(
        self, pieces: Iterator[bytes] | FileSource, progress: Callable[[int, int], None] | None
    ) -> None:
        self._source = pieces if isinstance(pieces, FileSource) else None
        self._pieces = iter(()) if isinstance(pieces, FileSource) else pieces
        self._progress = progress
        self._held: deque[bytes] = deque()
        self._start = self._end = 0
        self._at = 0
        self._left: int | None = None

    @contextmanager
    def measured(self, limit: int) -> Iterator[None]:
        """Let no more than ``limit`` bytes be read within the block.

        :raises LimitError: where more are asked for
        """
        self._left = limit
        try:
            yield
        finally:
            self._left = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        target = offset + (self._at if whence == os.SEEK_CUR else 0)
        if whence == os.SEEK_END or target < self._start:
            raise CoreFormatError("an archive that is read forwards cannot be read backwards")
        if self._source is not None:  # nothing between is read
            if not self._start <= target <= self._end:
                self._held.clear()
                self._start = self._end = target
        else:
            while target > self._end and self._advance():
                pass
        self._at = target
        return target

    def read(self, size: int = -1) -> bytes:
        if self._left is not None:
            if not 0 <= size <= self._left:
                raise LimitError(
                    "a header of the archive is too large",
                    seen=f"{size} bytes" if size >= 0 else "all that is left",
                    expected=f"at most {self._left}",
                )
            self._left -= size
        parts = []
        while size > 0:
            part = self._piece_at(self._at)[:size]
            if not part and not self._advance():
                break
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def _piece_at(self, place: int) -> bytes:
        """Return what is held from a place on, as far as one piece goes; b"" if nothing is."""
        start = self._end
        for piece in reversed(self._held):
            start -= len(piece)
            if start <= place:
                return piece[place - start :]
        return b""

    def _advance(self) -> bool:
        """Take the next piece; the last bytes before it are kept."""
        if self._source is not None:
            piece = self._source.pread(self._end, _PIECE)
            if self._progress is not None:
                self._progress(self._end + len(piece), self._source.size)
        else:
            # A decompressor may take in much before it gives any.
            piece = next(filter(None, self._pieces), b"")
        if not piece:
            return False
        while self._held and self._end - self._start - len(self._held[0]) >= _BACK:
            self._start += len(self._held.popleft())
        self._held.append(piece)
        self._end += len(piece)
        return True
