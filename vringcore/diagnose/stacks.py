"""What a thread's stack says: where it sleeps, which drain it waits in, and for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent, Pointer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.model.locks import Lock
    from vringcore.model.threads import Thread

LOOPS = {
    "main_loop_wait",
    "os_host_main_loop_wait",
    "iothread_run",
    "g_main_loop_run",
    "g_main_context_iteration",
}
"""Functions of QEMU's event loops: what is called from them next is the wait, or the work."""

WAITS = ("ppoll", "poll", "fdmon_", "qemu_poll_ns", "epoll_", "io_uring", "syscall", "aio_poll")
"""How the functions begin that an event loop sleeps in."""

DRAINS = (
    "bdrv_do_drained_begin",
    "bdrv_drained_begin",
    "bdrv_drain_all_begin",
    "bdrv_drain_all",
    "bdrv_drain",
    "blk_drain_all",
    "blk_drain",
)
"""Functions that return once no request is left (block/io.c, block/block-backend.c)."""

POLL = "aio_poll"
"""What a drain calls until no request is left (util/aio-posix.c)."""

ENDING = "to end QEMU"

PURPOSES = (
    ("qemu_cleanup", ENDING),  # by `quit`, a signal, or the guest
    ("vm_stop", "to stop the VM (vm_stop)"),
    ("do_vm_stop", "to stop the VM (vm_stop)"),
    ("vm_stop_force_state", "to stop the VM (vm_stop)"),
    ("qemu_system_reset", "to reset the machine"),
    ("virtio_scsi_do_tmf", "to end SCSI requests as the guest asked"),
    ("virtio_pci_common_write", "to reset a device as the guest asked"),
    ("virtio_ioport_write", "to reset a device as the guest asked"),
    ("virtio_mmio_write", "to reset a device as the guest asked"),
    ("virtio_reset", "to reset a device (virtio_reset)"),
    ("virtio_pci_reset", "to reset a device (virtio_reset)"),
    ("qmp_transaction", "for a transaction of the monitor"),
    ("job_finish_sync", "to end a job"),
    ("bdrv_close_all", "to close all disks"),
    ("hmp_drain", "for a command of the monitor"),
    ("hmp_qemu_io", "for a command of the monitor (qemu-io)"),
    ("blk_set_aio_context", "to move a disk to another event loop"),
    ("bdrv_try_change_aio_context", "to move a disk to another event loop"),
)
"""Why a thread drains, by a function on its stack; what an operator knows comes first."""


PLUMBING = (
    *("ppoll", "poll", "fdmon_", "futex", "lll_", "pthread_", "syscall", "qemu_poll_ns"),
    *("qemu_mutex_lock", "qemu_cond_wait", "aio_poll", "g_"),
)
"""How the functions begin that every wait is made of."""


def names(thread: Thread) -> list[str]:
    """Return the functions of a stack, innermost first, without the compiler's own suffixes."""
    return [plain(frame.function) for frame in thread.frames if frame.function]


def path(thread: Thread) -> list[str]:
    """Return the functions of a stack that say what a thread is at, innermost first.

    A function and the clone of it that the compiler made are one.
    """
    return list(dict.fromkeys(name for name in names(thread) if not name.startswith(PLUMBING)))


def plain(function: str) -> str:
    """Return a function's name without what the compiler or the library adds to it."""
    return function.partition(".")[0].removeprefix("__GI_").lstrip("_")


def sleeps(thread: Thread) -> bool:
    """Tell whether a thread sleeps in its own event loop, with nothing in hand."""
    for name in names(thread):
        if name in LOOPS:
            return True
        if not name.startswith(WAITS) and not name.startswith("g_"):
            return False
    return False


def waits_for_lock(thread: Thread) -> bool:
    """Tell whether the innermost thing that a thread does is to wait for a mutex."""
    return any(name in ("lll_lock_wait", "pthread_mutex_lock") for name in names(thread)[:4])


def pointers(thread: Thread) -> set[int]:
    """Return the addresses that are arguments of the functions on a stack."""
    values = (each.value for frame in thread.frames for each in frame.arguments)
    return {int(value.address) for value in values if isinstance(value, Pointer) and value.address}


def drain_of(thread: Thread) -> str:
    """Return the function in which a thread waits until requests have ended, "" for none.

    That is ``aio_poll`` where the drain itself has no name, as in a stripped program: one without
    a name polls, on behalf of one that is known to drain.
    """
    found = names(thread)
    drain = next((name for name in found if name in DRAINS), "")
    if not drain:
        return POLL if _polls_for_the_nameless(thread) else ""
    inner = found[: found.index(drain)]
    return drain if any(name in ("aio_poll", "main_loop_wait") for name in inner) else ""


def _polls_for_the_nameless(thread: Thread) -> bool:
    path = [plain(frame.function or "") for frame in thread.frames]
    if POLL not in path:
        return False
    callers = path[path.index(POLL) + 1 :]
    return callers[:1] == [""] and bool(purpose_of(callers))


def purpose_of(functions: Iterable[str]) -> str:
    """Return what a drain is for, in words; "" if no function tells."""
    found = set(functions)
    return next((words for name, words in PURPOSES if name in found), "")


def waits_for_big_lock(thread: Thread, lock: Lock | None) -> bool:
    """Tell whether a thread waits for QEMU's big lock, by the address of its futex.

    :param lock: the big lock, None where it is not known: then the address must have its name
    """
    call = thread.system_call
    if call is None or isinstance(call, Absent):
        return False
    place = call.arguments.get("address")
    # Its name since 9.0, and before (system/cpus.c).
    if not isinstance(place, Pointer):
        return False
    is_it = place.symbol in ("bql", "qemu_global_mutex")
    if lock is not None and place.symbol is None:
        is_it = int(place.address) == int(lock.address)
    return is_it and "mutex" in " ".join(names(thread)[:6])


BLOCKING = {
    "aio_poll": "a nested event loop",
    "lll_lock_wait": "a lock",
    "pthread_mutex_lock": "a lock",
    "pthread_cond_wait": "a condition variable",
    "qemu_cond_wait_impl": "a condition variable",
    "qemu_event_wait": "an event",
    "qemu_sem_wait": "a semaphore",
    "pthread_join": "the end of another thread",
}
"""What a thread waits for, by a function on its stack."""

COMPUTES = {"sched_yield", "madvise", "munmap", "mmap", "mprotect", "futex", "write", "read"}
"""System calls that say nothing of a wait by themselves."""


def blocking(thread: Thread) -> str:
    """Return what a thread is blocked in, in words; "" if it is at work or in its own loop."""
    if sleeps(thread):
        return ""
    found = names(thread)
    drain = drain_of(thread)
    if drain:
        return f"{drain}()"
    for name in found[:8]:
        if name in BLOCKING:
            return BLOCKING[name]
    call = thread.system_call
    if call is None or isinstance(call, Absent) or call.name is None or call.result is not None:
        return ""
    return "" if call.name in COMPUTES else f"the system call {call.name}()"
