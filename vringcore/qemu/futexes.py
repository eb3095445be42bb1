"""What threads wait for in futex(): a mutex, a condition variable, an event, ...

The call alone tells its word in memory; what that word belongs to, the functions that called tell,
and where their names are not known the operation and the value waited on (glibc's nptl/, QEMU's
util/qemu-thread-posix.c and include/qemu/futex.h).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from vringcore.model.threads import SystemCall
from vringcore.model.values import Pointer
from vringcore.qemu.blocked import blocked_call
from vringcore.qemu.threads import known_registers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.elfcore.notes import Thread
    from vringcore.elfcore.slimnote import ThreadFacts
    from vringcore.qemu.process import Process

MUTEX = "mutex"
LOW_LEVEL = "low-level-lock"
RWLOCK = "reader-writer-lock"
CONDITION = "condition-variable"
SEMAPHORE = "semaphore"
EVENT = "event"
THREAD = "thread"
UNKNOWN = "futex"

_CALLERS = (
    ("__lll_lock_wait_private", LOW_LEVEL),
    ("cond_", CONDITION),
    ("rwlock", RWLOCK),
    ("sem_", SEMAPHORE),
    ("join", THREAD),
    ("mutex", MUTEX),
    ("lll_lock", MUTEX),
    ("qemu_event_wait", EVENT),
)
"""What waits by a part of the name of one of the functions around the call."""

_NEAR = 6
"""Functions above the call among which is the one that tells."""

_LOCKED_WITH_WAITERS = 2
_EV_BUSY = 0xFFFF_FFFF


class FutexWait(msgspec.Struct, frozen=True):
    """A thread in a futex() that waits.

    :param word: the address that it waits on
    :param what: ``mutex``, ``low-level-lock`` (one of the C library's own), ``reader-writer-lock``,
        ``condition-variable``, ``semaphore``, ``event`` (QemuEvent), ``thread`` (its end),
        ``futex`` if it is not known
    :param writes: it waits to write, of a reader-writer lock
    """

    lwp: int
    word: int
    what: str
    writes: bool = False


def futex_waits(process: Process) -> Iterator[FutexWait]:
    """Yield the threads that wait in futex()."""
    slim = process.core.slim
    facts = {} if slim is None else {each.lwp: each for each in slim.threads}
    for thread in process.core.threads:
        told = facts.get(thread.lwp)
        call = blocked_call(process, thread, told, process.backtraces.space)
        if not isinstance(call, SystemCall) or call.name != "futex" or call.result is not None:
            continue
        word = call.arguments.get("address")
        operation = str(call.arguments.get("operation"))
        if not isinstance(word, Pointer) or not _waits(operation):
            continue
        names = list(islice(_callers(process, thread, told), _NEAR))
        what = _by_names(names) or _by_operation(operation, call.arguments.get("value"))
        yield FutexWait(
            thread.lwp, int(word.address), what, any("wrlock" in name for name in names)
        )


def _waits(operation: str) -> bool:
    name = operation.partition("|")[0]
    return name in ("FUTEX_WAIT", "FUTEX_WAIT_BITSET", "FUTEX_LOCK_PI", "FUTEX_LOCK_PI2")


def _callers(process: Process, thread: Thread, told: ThreadFacts | None) -> Iterator[str]:
    """Yield the names of the functions around the call, innermost first."""
    backtrace = process.backtraces.of(known_registers(thread, told))
    for frame in backtrace.frames[:_NEAR]:
        symbol = process.symbols.lookup(frame.code_address)
        if symbol is not None:
            yield symbol[0]


def _by_names(names: list[str]) -> str | None:
    for name in names:
        what = next((what for part, what in _CALLERS if part in name), None)
        if what is not None:
            return what
    return None


def _by_operation(operation: str, value: object) -> str:
    parts = operation.split("|")
    if "LOCK_PI" in parts[0]:
        return MUTEX
    if parts[0] == "FUTEX_WAIT" and value == _LOCKED_WITH_WAITERS:
        return MUTEX
    if parts == ["FUTEX_WAIT"] and value == _EV_BUSY:
        return EVENT
    return UNKNOWN
