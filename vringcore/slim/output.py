"""Output files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, cast

from vringcore.errors import FileError
from vringcore.memory.files import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKED = ".zst"
"""An output of this name is packed with zstandard, as `open_core` reads it."""

PACK_LEVEL = 19

_HERE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags of which each system has the one it needs."""


@contextmanager
def whole_file(
    path: str, what: str = "the small core", *, sources: Iterable[str] = ()
) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name when the block ends well, and never before.

    Until then it has no name at all where the file system can do that (``O_TMPFILE``), so that not
    even a kill leaves a part of it behind. Others may not read it: mode 0600.

    :param sources: files that are being read, which must not be replaced
    :raises FileError: if it cannot be written, or would replace a source or no regular file
    """
    check_output(path, what, sources)
    directory = os.path.dirname(path) or "."  # noqa: PTH120
    scratch = os.path.join(directory, f".{os.path.basename(path)}.{os.getpid()}.tmp")  # noqa: PTH118, PTH119
    try:
        fd, named = _open_unnamed(directory, scratch)
    except OSError as error:
        raise _refused(path, what, error) from error
    try:
        with os.fdopen(fd, "w+b") as file:
            yield cast("BinaryIO", file)
            file.flush()
            if path.endswith(PACKED):
                _pack(file)
            if not named:
                # With a directory given, although unused, Python calls linkat(), which alone
                # follows the link to a file without a name.
                os.link(f"/proc/self/fd/{fd}", scratch, src_dir_fd=fd, follow_symlinks=True)
                named = True
        os.replace(scratch, path)  # noqa: PTH105
    except BaseException as error:
        if named:
            with suppress(OSError):
                os.unlink(scratch)  # noqa: PTH108
        if isinstance(error, OSError):
            raise _refused(path, what, error) from error
        raise


def check_output(path: str, what: str, sources: Iterable[str] = ()) -> None:
    """Refuse an output whose name belongs to a file that is no output.

    :raises FileError: if there is something else than a regular file, or one of the sources
    """
    try:
        there = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return  # nothing there, or opening it will tell what is wrong
    if not stat.S_ISREG(there.st_mode):
        raise FileError(
            f"{what} cannot be written",
            where=path,
            seen=kind_of(there.st_mode),
            expected="a new file, or a regular one to replace",
        )
    for source in sources:
        if _same(source, there):
            raise FileError(
                f"{what} cannot be written",
                where=path,
                seen="the very file that is read",
                expected="another file",
                hint="give another name with -o",
            )


def _same(path: str, there: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), there)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _open_unnamed(directory: str, scratch: str) -> tuple[int, bool]:
    """Return a file descriptor, and whether the file has its scratch name already."""
    flag = getattr(os, "O_TMPFILE", 0)
    if flag and os.path.isdir("/proc/self/fd"):  # noqa: PTH112
        with suppress(OSError):
            return os.open(directory, flag | os.O_RDWR | os.O_CLOEXEC, 0o600), False
    return os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_RDWR | _HERE, 0o600), True


def _pack(file: BinaryIO) -> None:
    import zstandard

    file.seek(0)
    data = file.read()
    packed = zstandard.ZstdCompressor(level=PACK_LEVEL, write_content_size=True).compress(data)
    file.seek(0)
    file.truncate()
    file.write(packed)
    file.flush()


def _refused(path: str, what: str, error: OSError) -> FileError:
    return FileError(f"{what} cannot be written", where=path, seen=error.strerror or str(error))
