"""The file of rows: one JSON line per core, each whole or not there, whatever ends the scan."""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import FileError, UsageError
from vringcore.memory.files import kind_of
from vringcore.model.scan import ScanRow
from vringcore.model.values import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO, Self

    from vringcore.scan.place import Place

SYNC_EVERY = 1.0
"""Seconds after which rows are forced to the disk. The end of a process loses none of them, only
that of the machine does."""

MAX_ROW = 256 << 20


class Done(msgspec.Struct, frozen=True):
    """What a row tells to whoever goes on with a scan."""

    path: str
    member: str
    size: int
    modified: str | None
    error: dict[str, str] | None = None
    schema: str = ""


_done = msgspec.json.Decoder(Done)
_row = msgspec.json.Decoder(ScanRow)


class Journal:
    """A file of rows that is written to. Use it in a ``with`` statement.

    :ivar rows: how many it has
    """

    def __init__(self, path: str, *, resume: bool = False, retry: bool = False) -> None:
        """Open the file, or make it.

        :param resume: go on with what is there: a line that is not whole is dropped
        :param retry: cores with errors count as not done
        :raises UsageError: if rows are there and ``resume`` is not asked for, another scan writes
            to them, or it is no regular file
        :raises FileError: if it cannot be written
        """
        self.path = path = os.path.realpath(path)  # a link to the file stays one
        self.rows = 0
        self._retry = retry
        self._done: dict[tuple[str, str], tuple[int, str | None]] = {}
        self._fd = self._open()
        try:
            if os.fstat(self._fd).st_size:
                if not resume:
                    raise UsageError(
                        "the file of rows is there already",
                        where=path,
                        hint="--resume goes on with it; or name another",
                    )
                self._read()
        except BaseException:
            os.close(self._fd)
            raise
        self._next_sync = time.monotonic() + SYNC_EVERY

    def has(self, place: Place, modified: str | None) -> bool:
        """Tell whether a core has a row, and is still what it was."""
        return self._done.get(place.key) == (place.size, modified)

    def add(self, row: ScanRow) -> None:
        """Append a row, whole.

        :raises FileError: if it cannot be written
        """
        line = memoryview(encode(row) + b"\n")
        try:
            while line:
                line = line[os.write(self._fd, line) :]
            if time.monotonic() >= self._next_sync:
                os.fsync(self._fd)
                self._next_sync = time.monotonic() + SYNC_EVERY
        except OSError as error:
            raise _refused(self.path, error) from error
        self.rows += 1

    def finish(self, is_over: Callable[[str, str, str], bool] | None = None) -> None:
        """Put the rows in the order of path and member, each core once, at one stroke.

        :param is_over: tells of path, member and code of an error that it is over, and that no
            core has this name: the row is left out
        :raises FileError: if that cannot be written; the rows stay as they are then
        """
        places: dict[tuple[str, str], tuple[int, int]] = {}
        ordered = True
        last = ("", "")
        for done, start, size in _lines(self._fd):
            key = (done.path, done.member)
            code = done.error.get("code", "") if done.error else ""
            if code and is_over is not None and is_over(*key, code):
                ordered = False
                continue
            ordered = ordered and last < key
            places[key] = (start, size)
            last = key
        self.rows = len(places)
        # One that a killed scan left behind is written over: whoever writes here has the lock.
        scratch = f"{self.path}.tmp"
        try:
            if not ordered:
                self._write(scratch, [places[key] for key in sorted(places)])
                if sys.platform == "win32":  # does not replace a file that is open
                    self.close()
                os.replace(scratch, self.path)  # noqa: PTH105
            else:
                os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):
                os.unlink(scratch)  # noqa: PTH108
            raise FileError(
                "the rows cannot be put in order",
                where=self.path,
                seen=error.strerror or str(error),
                hint="all of them are there, in the order in which they were finished; --resume"
                " orders them once there is room",
            ) from error

    def _write(self, path: str, places: list[tuple[int, int]]) -> None:
        with _reader(self._fd) as rows, open(path, "wb") as file:  # noqa: PTH123
            for start, size in places:
                rows.seek(start)
                file.write(rows.read(size))
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Force all rows to the disk and close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                os.fsync(fd)
            except OSError as error:
                raise _refused(self.path, error) from error
            finally:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        """Take in what is there, and cut off what is no whole row."""
        end = 0
        for done, start, size in _lines(self._fd):
            end = start + size
            key = (done.path, done.member)
            if self._retry and done.error is not None:
                self._done.pop(key, None)
            else:
                self._done[key] = (done.size, done.modified)
        try:
            left = os.fstat(self._fd).st_size - end
            if left > MAX_ROW or (left and not end):
                raise UsageError(
                    "the file has something else than rows of a scan",
                    where=f"offset {end} of {self.path}",
                    hint="name another file with -o",
                )
            os.ftruncate(self._fd, end)
        except OSError as error:
            raise _refused(self.path, error) from error
        self.rows = len(self._done)

    def _open(self) -> int:
        """Return the file, open and locked.

        A scan that ends puts another file in its place: what was opened before that is no longer
        the file of this name, and its lock says nothing.
        """
        while True:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, 0o666)
            except OSError as error:
                raise _refused(self.path, error) from error
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise UsageError(
                        "rows can be kept in a regular file alone",
                        where=self.path,
                        seen=kind_of(status.st_mode),
                        hint="--json prints them as they come",
                    )
                _lock(fd, self.path)
                if os.path.samestat(status, os.stat(self.path)):  # noqa: PTH116
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)


def _lock(fd: int, path: str) -> None:
    """Keep other scans from writing to the file.

    :raises UsageError: if one does
    """
    try:
        import fcntl
    except ImportError:  # not Unix
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError("another scan writes to this file", where=path) from error
    except OSError:
        return  # a file system without locks


def _reader(fd: int) -> BinaryIO:
    return open(os.dup(fd), "rb")  # noqa: PTH123


def _lines(fd: int) -> Iterator[tuple[Done, int, int]]:
    """Yield each row with its offset and size, up to what is no row."""
    offset = 0
    with _reader(fd) as file:
        file.seek(0)
        while line := file.readline(MAX_ROW):
            try:
                done = _done.decode(line) if line.endswith(b"\n") else None
            except msgspec.DecodeError:
                done = None
            if done is None or not done.schema.startswith("vringcore/scan-row/"):
                return
            yield done, offset, len(line)
            offset += len(line)


def read_lines(path: str) -> tuple[list[bytes], int]:
    """Return the lines of a file of rows, each core's last, and the bytes that are no whole row.

    :raises FileError: if it cannot be read
    :raises UsageError: if it has no rows
    """
    try:
        fd = os.open(path, os.O_RDONLY | _BINARY)
        try:
            found = {(d.path, d.member): (start, size) for d, start, size in _lines(fd)}
            size = os.fstat(fd).st_size
            end = max((start + length for start, length in found.values()), default=0)
            lines = []
            with _reader(fd) as rows:
                for start, length in found.values():
                    rows.seek(start)
                    lines.append(rows.read(length))
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError(
            "the rows cannot be read", where=path, seen=error.strerror or str(error)
        ) from error
    if size and not lines:
        raise UsageError(
            "the file has no rows of a scan", where=path, hint="`vringcore scan -o` writes such"
        )
    return lines, size - end


_BINARY = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FLAGS = _BINARY | getattr(os, "O_NONBLOCK", 0)
"""A FIFO without a reader must not keep us waiting."""


def _refused(path: str, error: OSError) -> FileError:
    return FileError(
        "the rows cannot be written",
        where=path,
        seen=error.strerror or str(error),
        hint="what was written before stands; --resume goes on with it",
    )


def read_rows(path: str) -> Iterator[ScanRow]:
    """Yield the rows of a file, each core's last one, in the file's order.

    :raises FileError: if it cannot be read
    :raises UsageError: if it has no rows
    """
    for line in read_lines(path)[0]:
        yield row_of(line, path)


def row_of(line: bytes, path: str) -> ScanRow:
    """Return a row from its JSON.

    :raises UsageError: if it is none
    """
    try:
        return _row.decode(line)
    except msgspec.DecodeError as error:
        raise UsageError(
            "a row of the scan cannot be understood",
            where=path,
            seen=str(error),
            hint="another version of vringcore may have written it",
        ) from error
