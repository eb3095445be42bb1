"""A running process read as if it were a core, stopping nothing unless asked to."""

from __future__ import annotations

import os
import time
from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.headers import ET_CORE, read_header
from vringcore.elfcore.image import ProcessImage
from vringcore.elfcore.notes import CoreNotes, FileMapping, ProcessInfo, Thread
from vringcore.elfcore.registers import machine_name
from vringcore.elfcore.slimnote import SlimNote
from vringcore.errors import ProcessEndedError, ProcessError, ProcessKindError
from vringcore.memory.files import FileSource
from vringcore.memory.segments import Segment
from vringcore.slim import procfs
from vringcore.slim.snapshot import MAX_SNAPSHOT, LiveSpace, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vringcore.elfcore.headers import ElfHeader
    from vringcore.elfcore.slimnote import ThreadFacts
    from vringcore.slim.procfs import Mapping, ProcessDirectory, Status
    from vringcore.slim.ptrace import Stopped

PLACE_REGISTERS = {"x86-64": ("rsp", "rip"), "aarch64": ("sp", "pc")}
"""Stack pointer and program counter: what is known of a thread that sleeps and is not stopped."""

_KERNEL_PAGES = ("[vvar", "[vsyscall]")
_DEVICES = ("/dev/", "/sys/", "/proc/", "/dmabuf", "/drm")
_NO_DEVICES = ("/dev/shm/",)  # noqa: S108
_ZEROES = ("/dev/zero", "/dev/zero (deleted)")


class LiveProcess(ProcessImage):
    """A running process; see :class:`~vringcore.elfcore.image.ProcessImage`.

    It goes on running, so what is read at one moment need not fit what is read at another:
    :meth:`moved` tells what has changed since. Each byte is read once.

    :ivar pid: its number, that of the main thread
    :ivar captured_at: seconds since 1970 when it was opened
    :ivar arguments: argv as /proc has it, secrets included: never to be shown
    :ivar descriptors: what its open files are, by descriptor
    :ivar executable_file: a file that is the very program, even if its own path names another by
        now: where it is deleted or replaced, ``/proc/PID/exe``
    :ivar sysroot: where its paths are found if it lives in a container, None if it does not
    :ivar stopped: the threads that were stopped, None if that was not asked for
    """

    def __init__(
        self,
        directory: ProcessDirectory,
        snapshot: Snapshot,
        header: ElfHeader,
        memory: LiveSpace,
        notes: CoreNotes,
        facts: SlimNote,
        stopped: Stopped | None,
    ) -> None:
        self._directory = directory
        self._snapshot = snapshot
        self._ended = False
        self.pid = directory.pid
        self.captured_at = facts.captured_at
        self.descriptors = facts.files
        self.arguments = procfs.read_arguments(directory)
        self.executable_file = _executable_file(directory)
        self.sysroot = _sysroot(directory)
        self.stopped = stopped
        readable = sum(known.readable for known in memory.ranges())
        super().__init__(directory, header, memory, notes, kind="live", size=readable, slim=facts)

    @property
    def ended(self) -> bool:
        """Whether the process has ended since it was opened; once closed, what was known then."""
        if not self._directory.closed:
            self._ended = self._snapshot.ended or self._directory.ended()
        return self._ended

    def moved(self, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Read again what was read of some ranges, and return what differs now.

        :param ranges: ``(address, size)`` each
        :return: ``(address, size)`` of aligned words, those that touch joined; memory that can no
            longer be read differs. What had not been read yet is left out
        :raises FileError: if the process has ended
        """
        return [row for address, size in ranges for row in self._snapshot.moved(address, size)]

    def resume(self) -> None:
        """Let every stopped thread run again. Nothing happens where none is stopped."""
        if self.stopped is not None:
            self.stopped.resume()

    def close(self) -> None:
        """Let every stopped thread run again, and forget the memory."""
        self.resume()
        self._ended = self.ended
        self._snapshot.close()
        super().close()


def open_live(
    pid: int, *, stop: float | None = None, max_snapshot: int = MAX_SNAPSHOT
) -> LiveProcess:
    """Open a running process of this machine. Linux only.

    Where the kernel itself holds the process's memory map locked (a thread that maps memory waits
    for one whose page fault a dead file server does not answer), this waits as ``ps`` does.

    :param pid: the number of the process, or of one of its threads
    :param stop: stop its threads for at most so many seconds, so that their registers are known and
        its memory stands still; by default nothing is ever stopped. A thread in an uninterruptible
        sleep does not stop and hinders nothing. The threads run again when the process is closed,
        when the time is over, or when this program ends, whatever ends it
    :param max_snapshot: the most bytes of its memory that are kept
    :raises NoSuchProcessError: if there is no such process
    :raises ProcessAccessError: if the system does not permit it; the message says what would
    :raises ProcessKindError: if it is a zombie, a kernel thread or a 32-bit process, or the system
        is not Linux
    :raises ProcessEndedError: if it ends meanwhile
    """
    directory = procfs.ProcessDirectory(pid)
    snapshot = None
    stopped = None
    try:
        status = procfs.read_status(directory)
        if status.tgid != pid:
            directory.close()
            directory = procfs.ProcessDirectory(status.tgid)
        _check_state(directory, status)
        snapshot = Snapshot(directory.open("mem"), f"{directory.path}/mem", max_snapshot)
        header = _header(directory)
        captured_at = time.time()
        clock_ns = _clock(directory)
        # What /proc says of a thread is asked before it is stopped: then it would tell of the stop.
        threads = procfs.read_threads(directory)
        if stop is not None:
            from vringcore.slim.ptrace import stop_threads

            stopped = stop_threads(directory, stop, machine_name(header.machine))
        mappings = procfs.read_maps(directory)
        if not mappings:
            raise ProcessEndedError("the process ended while it was read", where=directory.path)
        memory = LiveSpace(
            snapshot,
            live_segments(mappings, procfs.hugetlb_mounts(directory)),
            name="the process's memory",
        )
        notes = CoreNotes(
            threads=[_thread(facts, header, stopped) for facts in threads],
            prpsinfo=_process_info(directory, status),
            auxv=procfs.read_auxv(directory, Struct(header.byteorder + "QQ")),
            files=[
                FileMapping(m.start, m.end, m.offset, m.path)
                for m in mappings
                if m.path and not m.path.startswith("[")
            ],
        )
        facts = SlimNote(
            of="live",
            captured_at=captured_at,
            clock_ns=clock_ns,
            threads=tuple(_with_registers(each, stopped) for each in threads),
            files=procfs.read_descriptors(directory),
        )
        return LiveProcess(directory, snapshot, header, memory, notes, facts, stopped)
    except BaseException:
        if stopped is not None:
            stopped.resume()
        if snapshot is not None:
            snapshot.close()
        directory.close()
        raise


def _clock(directory: ProcessDirectory) -> int | None:
    """Return CLOCK_MONOTONIC as a process has it now; None if its time namespace is another."""
    try:
        same = directory.link("ns/time") == os.readlink("/proc/self/ns/time")  # noqa: PTH115
    except (OSError, ProcessError):
        # Kernels before 5.6 have one clock for all; where /proc refuses, nobody knows.
        same = not os.path.exists("/proc/self/ns/time")  # noqa: PTH110
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) if same else None


def _check_state(directory: ProcessDirectory, status: Status) -> None:
    if status.state in procfs.DEAD:
        raise ProcessKindError(
            "the process has ended and is a zombie",
            where=directory.path,
            seen=f"{status.name}, state {status.state}",
            expected="a process that has memory",
            hint=f"its parent, process {status.ppid}, has not waited for it",
        )
    if not directory.read("maps", procfs.MAX_FILE):
        raise ProcessKindError(
            "a process without memory of its own",
            where=directory.path,
            seen=f"{status.name}, no mappings",
            expected="a process that runs a program",
            hint="it is a thread of the kernel, or is just ending",
        )


def _header(directory: ProcessDirectory) -> ElfHeader:
    """Return the ELF header that a core of the process would have."""
    fd = directory.open("exe")
    with FileSource(fd, f"{directory.path}/exe", os.fstat(fd).st_size, "executable") as source:
        header = read_header(source)
    if header.elf_class != 64:
        raise ProcessKindError(
            "a 32-bit process cannot be read while it runs",
            where=directory.path,
            seen=f"a {header.elf_class}-bit program",
            expected="a 64-bit program",
            hint="take a core of it with gcore",
        )
    return msgspec.structs.replace(
        header, type=ET_CORE, entry=0, phoff=0, shoff=0, phnum=0, shnum=0, shstrndx=0
    )


def live_segments(mappings: Iterable[Mapping], hugetlb: Sequence[str]) -> Iterator[Segment]:
    """Yield a segment for each mapping; one that is not read has no bytes, and tells why.

    :param hugetlb: where hugetlbfs is mounted, each ending in a slash
    """
    memory = ("[", *_NO_DEVICES, *hugetlb)
    for each in mappings:
        hint = _why_not(each, memory)
        yield Segment(
            each.start,
            each.end,
            each.start if hint else each.end,
            each.start,
            "w" in each.permissions,
            "x" in each.permissions,
            hint,
        )


def _why_not(mapping: Mapping, memory: tuple[str, ...]) -> str:
    """Return why a mapping is left alone, "" if it is read.

    A device's registers may change by being read (clear on read, a FIFO), so every mapping that
    could be a device's counts as one: the flags that would tell for sure are in ``smaps``, which
    counts all pages of the guest's memory before it answers.
    """
    path = mapping.path
    if not mapping.permissions.startswith("r"):
        return "the process itself may not read it: a guard page, or memory kept free"
    if path.startswith(_KERNEL_PAGES):
        return "a page of the kernel's"
    if not path or path in _ZEROES or path.startswith(memory):
        return ""
    if path.startswith(_DEVICES) or not path.startswith("/"):
        return f"it may be a device's memory ({path}), which is never read"
    return ""


def _thread(facts: ThreadFacts, header: ElfHeader, stopped: Stopped | None) -> Thread:
    known = stopped.registers.get(facts.lwp) if stopped is not None else None
    if known is not None:
        return known
    registers: dict[str, int] = {}
    if facts.syscall is not None:
        names = PLACE_REGISTERS.get(machine_name(header.machine), ())
        registers = dict(zip(names, (facts.syscall.sp, facts.syscall.pc), strict=False))
    return Thread(facts.lwp, registers, b"", None, 0, 0, 0, [])


def _with_registers(facts: ThreadFacts, stopped: Stopped | None) -> ThreadFacts:
    if stopped is None or facts.lwp not in stopped.registers:
        return facts
    return msgspec.structs.replace(facts, registers="all")


def _process_info(directory: ProcessDirectory, status: Status) -> ProcessInfo:
    return ProcessInfo(
        pid=status.tgid,
        ppid=status.ppid,
        uid=status.uid,
        gid=status.gid,
        fname=status.name,
        psargs=" ".join(procfs.read_arguments(directory)),
    )


def _executable_file(directory: ProcessDirectory) -> str:
    """Return the program's own path if it still names the file that runs, else the kernel's."""
    link = f"{directory.path}/exe"
    path = directory.link("exe")
    try:
        return path if os.path.samefile(path, link) else link  # noqa: PTH121
    except (OSError, ValueError):
        return link


def _sysroot(directory: ProcessDirectory) -> str | None:
    """Return where its paths are found, if it has a mount namespace of its own."""
    try:
        if directory.link("ns/mnt") == _own_mounts():
            return None
    except ProcessError:
        return None
    return f"{directory.path}/root"


def _own_mounts() -> str:
    try:
        return os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    except OSError:
        return ""
