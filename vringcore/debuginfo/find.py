"""Finding a module's file and its debug information, each checked by build-id.

A core names files, and whoever wrote the core chose the names: what is opened is a regular file of
this machine, inside the sysroot if one was given, and of the very build that the core ran.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.executable import read_executable
from vringcore.errors import DebugInfoMissingError, ExecutableMismatchError, VringcoreError
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.debuginfo.elf import ElfFile

NETWORK = ("//", "\\\\")
"""How a path of another machine begins, on Windows: looking whether it exists asks that machine."""

SYSTEM_DEBUG_DIR = "/usr/lib/debug"

_MISSING = (
    "install its debug package, or name the file or its directory (--debug-file, --debug-dir)"
)
_OTHER_BUILD = (
    "the program was upgraded after it was started: give the file that ran with -e, from"
    " /proc/PID/exe while such a process lives or from the package of the old version, and its"
    " debug package of that version (--debug-file, --debug-dir)"
)

_MAX_NAME = 4096
_MAX_LINKS = 40


class FoundFiles:
    """The files of one module.

    :ivar build_id: the module's; "" takes a file by name alone
    :ivar executable: the module's own file, "" if it was not found
    :ivar log: every place that was tried for the executable, and why it was refused
    """

    def __init__(
        self,
        build_id: str,
        executable: str,
        *,
        name: str = "",
        debug_files: Sequence[str] = (),
        debug_dirs: Sequence[str] = (),
        sysroot: str | None = None,
        log: Sequence[str] = (),
    ) -> None:
        self.build_id = build_id
        self.executable = executable
        self.log = list(log)
        self._name = name or executable
        self._debug_files = tuple(debug_files)
        self.debug_dirs = tuple(debug_dirs)
        self.sysroot = sysroot
        self._debug: Found | None = None

    def debug_file(self) -> str:
        """Return the file with the debug information: a separate one or the module itself.

        It is searched for when this is first called: a run that finds everything in the cache
        never needs it.

        :raises DebugInfoMissingError: if there is none; the message lists the places
        """
        if self._debug is None:
            self._debug = find_debug_file(
                self.build_id,
                self.executable,
                debug_files=self._debug_files,
                debug_dirs=self.debug_dirs,
                sysroot=self.sysroot,
            )
        if not self._debug.path:
            log = [*self.log, *self._debug.log]
            raise DebugInfoMissingError(
                f"no debug information for {self._name or 'the program'}",
                where=f"build-id {self.build_id or 'unknown'}",
                seen="; ".join(log) or "no place to look in",
                hint=_OTHER_BUILD if any(", not " in line for line in self.log) else _MISSING,
            )
        return self._debug.path


def find_files(
    build_id: str,
    path: str,
    *,
    executable: str | None = None,
    debug_files: Sequence[str] = (),
    debug_dirs: Sequence[str] = (),
    sysroot: str | None = None,
    beside: str = "",
) -> FoundFiles:
    """Find the file of a module that a core names; see :func:`find_executable`.

    :param beside: the core's own path: the file may lie with it
    :raises ExecutableMismatchError: if ``executable`` is another build
    :raises FileError, ElfFormatError: if ``executable`` cannot be read
    """
    found = find_executable(
        build_id,
        path,
        given=executable,
        debug_dirs=debug_dirs,
        sysroot=sysroot,
        beside=os.path.dirname(beside) if beside else None,  # noqa: PTH120
    )
    return FoundFiles(
        build_id,
        found.path,
        name=path,
        debug_files=debug_files,
        debug_dirs=debug_dirs,
        sysroot=sysroot,
        log=found.log,
    )


class Found(msgspec.Struct, frozen=True):
    """A file that was looked for: its path, "" if there is none, and every place that was tried."""

    path: str
    log: tuple[str, ...]


def find_executable(
    build_id: str,
    path: str,
    *,
    given: str | None = None,
    debug_dirs: Sequence[str] = (),
    sysroot: str | None = None,
    beside: str | None = None,
) -> Found:
    """Find the file of a module: the user's, the one that the core names, one by build-id.

    :param build_id: the module's, as the core has it; "" if it does not: then names decide
    :param path: the path in the core
    :param given: the file that the user gave for it
    :param debug_dirs: directories with ``.build-id`` trees, before the system's, and debuginfod
        servers (``http://``, ``https://``), asked last
    :param sysroot: where the core's paths are looked up instead of at the root
    :param beside: a directory that may hold the file, by its name; "" is the current one
    :raises ExecutableMismatchError: if ``given`` is another build
    :raises FileError, ElfFormatError: if ``given`` cannot be read
    """
    if given is not None:
        with FileSource.open(given, what="executable") as source:
            found = read_executable(source).build_id
        if build_id and found != build_id:
            raise ExecutableMismatchError(
                "the executable is another build than the one that ran",
                where=given,
                seen=f"build-id {found or 'none'}",
                expected=f"build-id {build_id}",
                hint="give the file of the very package that was running",
            )
        return Found(given, ())
    places = []
    # A core's paths are those of Linux, wherever it is looked at.
    if len(path) < _MAX_NAME and path.startswith("/"):
        places.append(in_sysroot(path, sysroot))
    places += _by_build_id(build_id, _directories(debug_dirs, sysroot), "")
    name = path.rpartition("/")[2]
    if beside is not None and build_id and name not in ("", ".", "..") and len(path) < _MAX_NAME:
        places.append(os.path.join(beside, name))  # noqa: PTH118
    log = [] if build_id else ["the core does not tell the build-id: the file is taken by name"]
    found = next((p for p in places if p and _is_it(p, build_id, log)), "")
    return Found(found or _fetched(build_id, "executable", debug_dirs, log), tuple(log))


def find_debug_file(
    build_id: str,
    executable: str,
    *,
    debug_files: Sequence[str] = (),
    debug_dirs: Sequence[str] = (),
    sysroot: str | None = None,
) -> Found:
    """Find a module's debug information: the user's files, its own, by build-id, by debug link.

    :param build_id: the module's, "" if it has none
    :param executable: the module's own file, "" if it was not found
    :param debug_files: files that the user gave, of any module
    :param debug_dirs: directories with ``.build-id`` trees, before the system's, and debuginfod
        servers (``http://``, ``https://``), asked last
    """
    log: list[str] = []
    directories = _directories(debug_dirs, sysroot)
    places: list[tuple[str, int | None]] = [(path, None) for path in debug_files]
    places += [(executable, None)] if executable else []
    places += [(path, None) for path in _by_build_id(build_id, directories, ".debug")]
    for path, checksum in places:
        if _is_it(path, build_id, log, dwarf=True, checksum=checksum):
            return Found(path, tuple(log))
    for path, checksum in _by_link(executable, directories, log):
        if _is_it(path, build_id, log, dwarf=True, checksum=checksum):
            return Found(path, tuple(log))
    return Found(_fetched(build_id, "debuginfo", debug_dirs, log, dwarf=True), tuple(log))


def find_alternate_file(elf: ElfFile, *, debug_dirs: Sequence[str] = ()) -> Found:
    """Find the common file of dwz that ``.gnu_debugaltlink`` of a debug file names."""
    link = elf.alternate_link()
    if link is None:
        return Found("", ("no .gnu_debugaltlink",))
    name, build_id = link
    beside = os.path.dirname(elf.path) or "."  # noqa: PTH120
    directories = _directories(debug_dirs, None)
    places = [os.path.join(beside, name)]  # noqa: PTH118
    last = name.rpartition("/")[2]
    places += [f"{beside}/{last}"]  # Where all of it was copied elsewhere.
    places += [
        f"{directory}/{part}" for directory in directories for part in (f".dwz/{last}", last)
    ]
    places += _by_build_id(build_id, directories, ".debug")
    log: list[str] = []
    found = next((p for p in places if _is_it(p, build_id, log, dwarf=True)), "")
    return Found(found or _fetched(build_id, "debuginfo", debug_dirs, log, dwarf=True), tuple(log))


def _fetched(
    build_id: str, kind: str, places: Sequence[str], log: list[str], *, dwarf: bool = False
) -> str:
    """Return a file from the debuginfod servers among the places, "" if there are none."""
    servers = [place for place in places if "://" in place]
    if not servers or not _is_build_id(build_id):
        return ""
    from vringcore.debuginfo.debuginfod import fetch

    path = fetch(servers, build_id, kind, log)
    return path if path and _is_it(path, build_id, log, dwarf=dwarf) else ""


def _directories(debug_dirs: Sequence[str], sysroot: str | None) -> list[str]:
    system = in_sysroot(SYSTEM_DEBUG_DIR, sysroot)
    directories = local(debug_dirs)
    return [*directories, system] if system else directories


def local(places: Sequence[str]) -> list[str]:
    """Return the directories among places to look in, which may be debuginfod servers, too."""
    return [place for place in places if "://" not in place]


def cache_directory() -> str:
    """Return where clients of debuginfod keep what they fetched, as elfutils finds it."""
    given = os.environ.get("DEBUGINFOD_CACHE_PATH")
    if given:
        return given
    former = os.path.expanduser("~/.debuginfod_client_cache")  # noqa: PTH111
    if os.path.isdir(former):  # noqa: PTH112
        return former
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return f"{caches}/debuginfod_client"


def _is_build_id(text: str) -> bool:
    return len(text) >= 4 and all(c in "0123456789abcdef" for c in text)


def _by_build_id(build_id: str, directories: list[str], suffix: str) -> list[str]:
    if not _is_build_id(build_id):
        return []
    name = f".build-id/{build_id[:2]}/{build_id[2:]}{suffix}"
    kept = f"{cache_directory()}/{build_id}/{'debuginfo' if suffix else 'executable'}"
    return [*(f"{directory}/{name}" for directory in directories), kept]


def _by_link(
    executable: str, directories: list[str], log: list[str]
) -> Iterator[tuple[str, int | None]]:
    if not executable:
        return
    from vringcore.debuginfo.elf import ElfFile

    try:
        with ElfFile.open(executable) as elf:
            link = elf.debug_link()
    except VringcoreError as error:
        log.append(str(error))
        return
    if link is None or "/" in link[0] or link[0] in (".", ".."):
        return
    name, checksum = link
    beside = os.path.dirname(os.path.abspath(executable))  # noqa: PTH100, PTH120
    yield f"{beside}/{name}", checksum
    yield f"{beside}/.debug/{name}", checksum
    for directory in directories:
        yield f"{directory}{beside}/{name}", checksum


def _is_it(
    path: str, build_id: str, log: list[str], *, dwarf: bool = False, checksum: int | None = None
) -> bool:
    """Tell whether a file is of the build, and log why not."""
    if path.startswith(NETWORK) or "\0" in path:
        log.append(f"{path}: no path of this machine")
        return False
    if not os.path.exists(path):  # noqa: PTH110
        log.append(f"{path}: not there")
        return False
    from vringcore.debuginfo.elf import ElfFile

    try:
        with ElfFile.open(path, what="debug file" if dwarf else "executable") as elf:
            reason = _why_not(elf, build_id, dwarf, checksum)
    except VringcoreError as error:
        reason = str(error)
    if reason:
        log.append(f"{path}: {reason}")
    return not reason


def _why_not(elf: ElfFile, build_id: str, dwarf: bool, checksum: int | None) -> str:
    found = elf.build_id
    if build_id and found != build_id and (found or checksum is None):
        return f"build-id {found or 'none'}, not {build_id}"
    if not found and checksum is not None and _crc32(elf) != checksum:
        return "its checksum is not the one in .gnu_debuglink"
    return "no debug information in it" if dwarf and not elf.has_dwarf else ""


def in_sysroot(path: str, sysroot: str | None) -> str:
    """Return a path of the core below the sysroot; "" if it leads out of it.

    Symbolic links are followed, since a container's tree is full of them, and judged by where
    they end.
    """
    if sysroot is None:
        return path
    if sysroot.startswith("/proc/"):
        return _in_root_of_process(path, sysroot)
    root = os.path.realpath(sysroot)
    full = os.path.realpath(root + "/" + path.lstrip("/"))
    return full if full == root or full.startswith(root.rstrip("/") + "/") else ""


def _in_root_of_process(path: str, root: str) -> str:
    """Return a path below ``/proc/PID/root``; "" if its symbolic links go round in a circle.

    The text of that link is a path of the process's own mount namespace, so it cannot be resolved
    here; the links below it are followed as the process itself would.
    """
    waiting, place, links = path.split("/")[::-1], root, 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            place = place.rpartition("/")[0] if place != root else root
        elif part not in ("", "."):
            try:
                link = os.readlink(f"{place}/{part}")  # noqa: PTH115
            except OSError:
                place = f"{place}/{part}"
                continue
            links += 1
            if links > _MAX_LINKS:
                return ""
            place = root if link.startswith("/") else place
            waiting += link.split("/")[::-1]
    return place


def _crc32(elf: ElfFile) -> int:
    from zlib import crc32

    value, step = 0, 1 << 20
    for offset in range(0, elf.source.size, step):
        value = crc32(elf.source.pread(offset, step), value)
    return value
