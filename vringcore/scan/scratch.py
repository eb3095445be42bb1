"""What this process unpacked for its workers: files without a name, so that none is left behind.

A worker opens such a file by the descriptor that this process holds (``/proc/PID/fd/N``). Where the
system has no such place the file has a name, and is removed when its core is finished.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from vringcore.errors import FileError

if TYPE_CHECKING:
    from vringcore.scan.sources import Part

_PIECE = 1 << 16

_held: dict[str, Part] = {}
"""Open for workers: by the path that they open."""


def share(whole: Part, directory: str | None) -> str:
    """Return a path by which other processes open an unpacked file, which this takes over.

    :raises FileError: if it must be copied and there is no room
    """
    path = f"/proc/{os.getpid()}/fd/{whole.fileno()}"
    if os.path.exists(path):  # noqa: PTH110
        _held[path] = whole
        return path
    with whole:
        return _copied(whole, directory)


def forget(path: str) -> None:
    """Let go of a file that :func:`share` gave a path to; of no file for ""."""
    held = _held.pop(path, None)
    if held is not None:
        held.close()
    elif path:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108


def _copied(whole: Part, directory: str | None) -> str:
    fd, path = tempfile.mkstemp(prefix="vringcore-", dir=directory)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123
            for at in range(0, whole.size, _PIECE):
                piece = whole.pread(at, _PIECE)
                if piece.strip(b"\0"):
                    file.seek(at)
                    file.write(piece)
            file.truncate(whole.size)
    except OSError as error:
        os.unlink(path)  # noqa: PTH108
        raise FileError(
            "there is no room for a member of the archive",
            where=whole.path,
            seen=error.strerror or str(error),
            hint="choose a directory with room by --tmpdir",
        ) from error
    return path
