"""What stands in the way of a core: limits, where it would go, threads that cannot be stopped."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import ProcessError
from vringcore.model.precheck import Advice
from vringcore.model.values import Absent
from vringcore.slim import procfs

if TYPE_CHECKING:
    from vringcore.model.precheck import CheckedProcess
    from vringcore.slim.procfs import ProcessDirectory

PATTERN = "/proc/sys/kernel/core_pattern"
SYSTEMD_STORE = "/var/lib/systemd/coredump"
_LIMIT_ROW = "Max core file size"
_SMALL = 4096


class Destination(msgspec.Struct, frozen=True):
    """Where the kernel would write a core to: a directory, or a program that it is piped to."""

    pattern: str | Absent
    place: str | Absent
    free: int | Absent


def thread_states(directory: ProcessDirectory) -> dict[int, str]:
    """Return the state's letter of each thread; those that end meanwhile are left out."""
    found = {}
    for lwp in procfs.thread_numbers(directory):
        try:
            found[lwp] = procfs.state_of(directory.text(f"task/{lwp}/stat"))
        except ProcessError:
            continue
    return found


def coredump_filter(directory: ProcessDirectory) -> int | Absent:
    """Return coredump_filter."""
    try:
        return int(directory.text("coredump_filter"), 16)
    except (ProcessError, ValueError) as error:
        return Absent("refused", None, f"coredump_filter: {error}")


def core_limit(directory: ProcessDirectory) -> int | Absent | None:
    """Return the soft limit on the size of cores in bytes, None for none."""
    try:
        rows = directory.text("limits").split("\n")
        [row] = [row for row in rows if row.startswith(_LIMIT_ROW)]
        soft = row.removeprefix(_LIMIT_ROW).split()[0]
        return None if soft == "unlimited" else int(soft)
    except (ProcessError, ValueError, IndexError) as error:
        return Absent("refused", None, f"limits: {error}")


def is_dumpable(directory: ProcessDirectory) -> bool:
    """Tell whether the kernel dumps it at all: it gives the files of one that it does not to root.

    A program that changed its user, or runs by a set-user-ID bit, is not dumped (prctl(2)).
    """
    try:
        owner = os.stat(directory.path).st_uid  # noqa: PTH116
    except OSError:
        return True
    rows = directory.text("status").split("\n")
    uids = next((row.split()[1:] for row in rows if row.startswith("Uid:")), [])
    return not uids or str(owner) == uids[1]  # the effective one


def destination(directory: ProcessDirectory) -> Destination:
    """Return where a core would be written, and how much room is there."""
    try:
        with open(PATTERN, encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
            pattern = file.read(_SMALL).strip()
    except OSError as error:
        unknown = Absent("refused", None, f"{PATTERN}: {error.strerror}")
        return Destination(unknown, unknown, unknown)
    if pattern.startswith("|"):
        place = SYSTEMD_STORE if "systemd-coredump" in pattern else ""
        if not place:
            what = Absent("unknown", None, "core_pattern pipes cores to a program")
            return Destination(pattern, pattern, what)
        return Destination(pattern, place, _free(place))
    place = os.path.dirname(pattern)  # noqa: PTH120
    if not place.startswith("/"):
        try:
            place = f"{directory.link('cwd')}/{place}".rstrip("/") or "/"
        except ProcessError as error:
            absent = Absent("refused", None, f"cwd: {error.seen}; {error.hint}")
            return Destination(pattern, absent, absent)
        free = _free(f"{directory.path}/cwd")
    else:
        free = _free(f"{directory.path}/root{place}")
    return Destination(pattern, place, free)


def _free(place: str) -> int | Absent:
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        return Absent("refused", None, f"{place}: {error.strerror}")


def advice(process: CheckedProcess, *, dumpable: bool) -> tuple[Advice, ...]:
    """Return what would keep a core from being written, and what to do."""
    found = []
    pid = process.pid
    if process.threads_in_d:
        numbers = ", ".join(map(str, process.threads_in_d[:4]))
        found.append(
            Advice(
                "do not use gcore",
                f"thread {numbers} sleeps uninterruptibly (state D): gcore would stop the others"
                " and wait for it for ever",
                f"vringcore capture {pid} -o vm.core",
            )
        )
    piped = isinstance(process.core_pattern, str) and process.core_pattern.startswith("|")
    if not dumpable:
        found.append(
            Advice(
                "the kernel writes no core of it",
                "it changed its user or privileges (prctl PR_SET_DUMPABLE is 0)",
                "sysctl fs.suid_dumpable=2, or gcore as root",
            )
        )
    size = process.core_apparent if isinstance(process.core_apparent, int) else 0
    if not piped and isinstance(process.core_limit, int) and process.core_limit <= size:
        found.append(
            Advice(
                "raise the limit on core size",
                f"the kernel would write {process.core_limit} of {size} bytes",
                f"prlimit --pid {pid} --core=unlimited; LimitCORE=infinity in the unit",
            )
        )
    if piped and "systemd-coredump" in str(process.core_pattern):
        found.append(
            Advice(
                "let systemd-coredump keep it whole",
                f"it keeps no more than ProcessSizeMax= and ExternalSizeMax= of {size} bytes",
                "ProcessSizeMax=infinity and ExternalSizeMax=infinity in"
                " /etc/systemd/coredump.conf",
            )
        )
    free, needed = process.free_space, process.core_stored
    if isinstance(free, int) and isinstance(needed, int) and free < needed:
        found.append(
            Advice(
                "make room, or let the core go elsewhere",
                f"it takes about {needed} bytes where {free} are free",
                f"vringcore capture {pid} -o vm.core takes less than a megabyte",
            )
        )
    if process.executable_deleted is True:
        found.append(
            Advice(
                "keep the program's file",
                "it was deleted or replaced since it was started: a core alone will not find it",
                f"cp /proc/{pid}/exe qemu-that-ran",
            )
        )
    return tuple(found)
