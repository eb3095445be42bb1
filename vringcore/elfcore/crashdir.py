"""A directory that ABRT made for a crash: the core, and small files that tell of it.

Only these are read: ``pid``, ``global_pid``, ``uid``, ``time``, ``executable``, ``package``. What
may hold secrets (``environ``, ``cmdline``, ``open_fds`` …) never is.
"""

from __future__ import annotations

import os

from vringcore.elfcore.naming import ABRT, SUFFIXES, SavedAs
from vringcore.errors import FileError, VringcoreError
from vringcore.memory.files import FileSource

CORE = "coredump"
_SMALL = 4096


def core_in(directory: str) -> str:
    """Return the path of the core in a directory of ABRT.

    :raises FileError: if it has none
    """
    for name in (CORE, *(CORE + suffix for suffix in SUFFIXES)):
        path = f"{directory}/{name}"
        if os.path.isfile(path):  # noqa: PTH113 - pathlib costs an import
            return path
    raise FileError(
        "the directory has no core",
        where=directory,
        expected=f"a core, or a directory of ABRT with a file {CORE}",
        hint="name the core itself; `vringcore scan` reads all cores of a directory",
    )


def read_around(core: str) -> SavedAs | None:
    """Return what the files beside a core tell, None if ABRT did not write them.

    :param core: its path; it is ABRT's if it is called ``coredump``
    """
    directory, name = os.path.split(core)
    if name.partition(".")[0] != CORE:
        return None
    found = {name: _small(f"{directory}/{name}") for name in _NAMES}
    if found["executable"] is None and found["pid"] is None and found["time"] is None:
        return None
    executable = found["executable"]
    return SavedAs(
        ABRT,
        executable.rpartition("/")[2] if executable else None,
        _number(found["uid"]),
        _number(found["global_pid"]) or _number(found["pid"]),
        _number(found["time"]),
        executable,
        found["package"],
    )


_NAMES = ("pid", "global_pid", "uid", "time", "executable", "package")


def _small(path: str) -> str | None:
    if not os.path.exists(path):  # noqa: PTH110
        return None
    try:
        with FileSource.open(path, what="file of the crash") as source:
            line = source.read(0, _SMALL).split(b"\n", 1)[0]
    except VringcoreError:
        return None
    return line.decode("utf-8", "backslashreplace").strip() or None


def _number(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > 20:
        return None
    return int(text)
