"""What Linux tells of a running process in /proc, without stopping it (proc(5)).

The directory is opened once and all is read relative to it: should the process end and its number
be given to another, the files here are gone, and not the other's.
"""

from __future__ import annotations

import errno
import os
import sys
from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.notes import AT_NULL
from vringcore.elfcore.slimnote import SyscallFacts, ThreadFacts
from vringcore.errors import (
    CorruptDataError,
    LimitError,
    NoSuchProcessError,
    ProcessAccessError,
    ProcessEndedError,
    ProcessError,
    ProcessKindError,
)
from vringcore.slim.access import access_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

MAX_FILE = 64 << 20
"""Bytes of one file of /proc; a ``maps`` of 65530 rows, the default limit, has 8 MB."""

MAX_SMALL = 1 << 20
MAX_MAPPINGS = 1 << 20
MAX_THREADS = 1 << 16
MAX_DESCRIPTORS = 1 << 16
MAX_FRAMES = 256

_CHUNK = 1 << 16
DEAD = "XxZ"
_VANISHED = (errno.ESRCH, errno.ENOENT)
_REFUSED = (errno.EACCES, errno.EPERM)


class Mapping(msgspec.Struct, frozen=True, gc=False):
    """One row of ``maps``. ``path`` may be a name in brackets, or ""."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str


class Status(msgspec.Struct, frozen=True):
    """From ``status``: numbers of the process, real user and group, and who traces it (0: none)."""

    name: str
    state: str
    tgid: int
    ppid: int
    uid: int
    gid: int
    tracer: int


class ProcessDirectory:
    """/proc/PID, open.

    :ivar pid: the number of the process, that of its main thread
    :raises NoSuchProcessError: if there is no such process
    :raises ProcessAccessError: if the system hides or refuses it
    :raises ProcessKindError: on another system than Linux
    """

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        self.pid = pid
        self.path = f"{proc}/{pid}"
        self._fd = -1
        if not sys.platform.startswith("linux"):
            raise ProcessKindError(
                "a running process is read on Linux only",
                seen=sys.platform,
                hint="give a core instead",
            )
        try:
            if pid <= 0:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _REFUSED:
                raise access_error(pid, self.path, error) from error
            raise NoSuchProcessError(
                "no such process",
                where=self.path,
                seen=error.strerror or "",
                hint="a process of another container has another number here; /proc mounted with"
                " hidepid shows root every process",
            ) from error

    def open(self, name: str) -> int:
        """Return a file descriptor of a file of the directory.

        :raises ProcessError: as :meth:`read` does
        """
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError as error:
            raise self._error(error, name) from error

    def read(self, name: str, limit: int = MAX_SMALL) -> bytes:
        """Return a whole file.

        :raises ProcessAccessError: if the system does not permit it
        :raises ProcessEndedError: if the process has ended
        :raises ProcessError: if it cannot be read for another reason
        :raises LimitError: if it has more than ``limit`` bytes
        """
        fd = self.open(name)
        parts, size = [], 0
        try:
            while part := os.read(fd, _CHUNK):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise LimitError(
                        "a file of /proc is too large",
                        where=f"{self.path}/{name}",
                        seen=f"more than {size} bytes",
                        expected=f"at most {limit}",
                    )
        except OSError as error:
            raise self._error(error, name) from error
        finally:
            os.close(fd)
        return b"".join(parts)

    def text(self, name: str, limit: int = MAX_SMALL) -> str:
        """Return a file as text, bytes that are not UTF-8 as ``\\xNN``; see :meth:`read`."""
        return self.read(name, limit).decode("utf-8", "backslashreplace")

    def link(self, name: str) -> str:
        """Return what a symbolic link names; errors as of :meth:`read`."""
        try:
            return os.readlink(name, dir_fd=self._fd)
        except OSError as error:
            raise self._error(error, name) from error

    def numbers(self, name: str, limit: int) -> list[int]:
        """Return the numbers that name the entries of a directory, sorted, at most ``limit``."""
        found: list[int] = []
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        if len(found) == limit:
                            break
                        if entry.name.isdecimal():
                            found.append(int(entry.name))
            finally:
                os.close(fd)
        except OSError as error:
            raise self._error(error, name) from error
        return sorted(found)

    def ended(self) -> bool:
        """Tell whether the process is gone, or a zombie."""
        try:
            return state_of(self.text("stat")) in DEAD
        except ProcessError:
            return True

    @property
    def closed(self) -> bool:
        """Whether it can no longer be read."""
        return self._fd < 0

    def close(self) -> None:
        """Close the directory."""
        fd, self._fd = self._fd, -1
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

    def _error(self, error: OSError, name: str) -> ProcessError:
        where = f"{self.path}/{name}"
        if error.errno in _REFUSED:
            return access_error(self.pid, where, error)
        if error.errno == errno.ESRCH or not self._has_memory():
            return ProcessEndedError("the process ended while it was read", where=where)
        return ProcessError(
            "a file of /proc cannot be read", where=where, seen=error.strerror or ""
        )

    def _has_memory(self) -> bool:
        """Tell whether it lives: one that is ending gives its memory up before it is a zombie."""
        try:
            fd = os.open("statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                return not os.read(fd, _CHUNK).startswith(b"0 ")
            finally:
                os.close(fd)
        except OSError:
            return False


# The process


def read_status(directory: ProcessDirectory) -> Status:
    """Return the main facts of ``status``."""
    rows = dict(_rows(directory.text("status")))
    try:
        return Status(
            name=_unescaped(rows["Name"]),
            state=rows["State"][:1],
            tgid=int(rows["Tgid"]),
            ppid=int(rows["PPid"]),
            uid=int(rows["Uid"].split()[0]),
            gid=int(rows["Gid"].split()[0]),
            tracer=int(rows["TracerPid"]),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise _not_understood(f"{directory.path}/status", str(error)) from error


def read_maps(directory: ProcessDirectory) -> list[Mapping]:
    """Return the mappings by address; empty where the process has no memory."""
    lines = _lines(directory.text("maps", MAX_FILE))
    if len(lines) > MAX_MAPPINGS:
        raise LimitError(
            "too many mappings",
            where=f"{directory.path}/maps",
            seen=str(len(lines)),
            expected=f"at most {MAX_MAPPINGS}",
        )
    try:
        return [_mapping(line) for line in lines]
    except ValueError as error:
        raise _not_understood(f"{directory.path}/maps", str(error)) from error


def _mapping(line: str) -> Mapping:
    # ADDRESS-ADDRESS PERMISSIONS OFFSET DEVICE INODE, spaces, PATH to the end of the line.
    extent, permissions, offset, _, rest = line.split(" ", 4)
    inode, _, path = rest.partition(" ")
    start, _, end = extent.partition("-")
    return Mapping(
        start=int(start, 16),
        end=int(end, 16),
        permissions=permissions,
        offset=int(offset, 16),
        inode=int(inode),
        path=_unescaped(path.lstrip(" ")),
    )


def read_auxv(directory: ProcessDirectory, word: Struct) -> dict[int, int]:
    """Return the auxiliary vector; ``word`` is the layout of one entry."""
    data = directory.read("auxv")
    found: dict[int, int] = {}
    for key, value in word.iter_unpack(data[: len(data) // word.size * word.size]):
        if key == AT_NULL:
            break
        found[key] = value
    return found


def read_arguments(directory: ProcessDirectory) -> tuple[str, ...]:
    """Return argv as ``cmdline`` has it now, secrets included."""
    text = directory.text("cmdline", MAX_FILE)
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def read_descriptors(directory: ProcessDirectory) -> dict[str, str]:
    """Return what each open file is by its descriptor; one closed meanwhile is left out."""
    found: dict[str, str] = {}
    for number in directory.numbers("fd", MAX_DESCRIPTORS):
        try:
            path = os.fsencode(directory.link(f"fd/{number}"))
        except ProcessAccessError:
            raise
        except ProcessError:
            continue
        found[str(number)] = path.decode("utf-8", "backslashreplace")
    return found


def hugetlb_mounts(directory: ProcessDirectory) -> tuple[str, ...]:
    """Return where the process sees hugetlbfs mounted, each ending in a slash."""
    found = []
    for line in _lines(directory.text("mountinfo", MAX_FILE)):
        # ID PARENT DEVICE ROOT MOUNT-POINT OPTIONS ... - TYPE SOURCE OPTIONS
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.startswith("hugetlbfs ") and len(fields) > 4:
            found.append(_unescaped(fields[4]).rstrip("/") + "/")
    return tuple(found)


# Threads


def read_threads(directory: ProcessDirectory) -> list[ThreadFacts]:
    """Return the threads, the main thread first, then by number; those that end are left out."""
    numbers = thread_numbers(directory)
    return [facts for lwp in numbers if (facts := read_thread(directory, lwp)) is not None]


def thread_numbers(directory: ProcessDirectory) -> list[int]:
    """Return the numbers of the threads, the main thread's first."""
    numbers = directory.numbers("task", MAX_THREADS)
    return sorted(numbers, key=lambda lwp: (lwp != directory.pid, lwp))


def read_thread(directory: ProcessDirectory, lwp: int) -> ThreadFacts | None:
    """Return what is known of a thread, None if it has ended.

    Its state, system call and kernel stack are read one after the other while it runs: they belong
    together where it sleeps.
    """
    at = f"task/{lwp}/"
    try:
        state = state_of(directory.text(at + "stat"))
        call = _syscall_of(directory, at)
        name = directory.text(at + "comm").removesuffix("\n")
        stack = _kernel_stack_of(directory, at)
        wchan = _wchan_of(directory, at)
    except ProcessAccessError:
        raise
    except ProcessError:
        return None
    if state in DEAD:
        return None
    return ThreadFacts(
        lwp=lwp,
        name=name,
        state=state,
        registers="none" if call is None else "sp-pc",
        syscall=call,
        kernel_stack=stack,
        wchan=wchan,
    )


def state_of(stat: str) -> str:
    """Return the letter of the state from a ``stat`` file."""
    # PID (NAME) STATE ...: the name may hold anything, parentheses too.
    return stat[stat.rfind(")") + 2 :][:1]


def _syscall_of(directory: ProcessDirectory, at: str) -> SyscallFacts | None:
    """Read ``syscall``: of a running thread nothing is known."""
    try:
        words = directory.text(at + "syscall").split()
    except ProcessError as error:
        if isinstance(error, ProcessEndedError | ProcessAccessError):
            raise
        return None  # a kernel that was built without it
    if len(words) < 3:
        return None
    number, *rest = (int(word, 0) for word in words)
    *arguments, sp, pc = rest
    return SyscallFacts(number, tuple(arguments), sp, pc)


def _kernel_stack_of(directory: ProcessDirectory, at: str) -> tuple[str, ...] | str:
    try:
        lines = _lines(directory.text(at + "stack"))[:MAX_FRAMES]
    except ProcessAccessError:
        return "only root is told the kernel's stack"
    except ProcessEndedError:
        raise
    except ProcessError as error:
        return f"this kernel does not tell it: {error.seen}"
    # "[<0>] function+0x12/0x34 [module]": the address is always hidden.
    frames = tuple(line.partition("] ")[2] or line for line in lines)
    return frames or "the thread was not in the kernel, or ran while it was looked at"


def _wchan_of(directory: ProcessDirectory, at: str) -> str:
    try:
        name = directory.text(at + "wchan").strip()
    except ProcessEndedError:
        raise
    except ProcessError:
        return ""
    return "" if name == "0" else name


# Texts


def _lines(text: str) -> list[str]:
    """Return the lines; what else ends a line for Python may stand in a file's name."""
    return text.removesuffix("\n").split("\n") if text else []


def _rows(text: str) -> Iterator[tuple[str, str]]:
    for line in _lines(text):
        name, _, value = line.partition(":")
        yield name, value.strip()


def _unescaped(text: str) -> str:
    """Undo the escapes of /proc: a backslash and three octal digits."""
    if "\\" not in text:
        return text
    first, *parts = text.split("\\")
    found = [first]
    for part in parts:
        digits = part[:3]
        is_octal = len(digits) == 3 and all(d in "01234567" for d in digits)
        found.append(chr(int(digits, 8)) + part[3:] if is_octal else "\\" + part)
    return "".join(found)


def _not_understood(where: str, seen: str) -> CorruptDataError:
    return CorruptDataError("a file of /proc that is not understood", where=where, seen=seen)
