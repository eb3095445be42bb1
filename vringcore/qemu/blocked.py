"""The system call that a thread was in, as reports show it: arguments decoded, a file's path."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.threads import SystemCall
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of
from vringcore.qemu.syscalls import call_of, system_call

if TYPE_CHECKING:
    from vringcore.elfcore.notes import Thread
    from vringcore.elfcore.slimnote import ThreadFacts
    from vringcore.memory.space import HostSpace
    from vringcore.qemu.process import Process
    from vringcore.qemu.syscalls import SystemCall as Call

MAX_BUFFERS = 1024
"""UIO_MAXIOV: the kernel takes no more in one call."""

_POINTERS = frozenset(
    [
        "buffer",
        "iov",
        "fds",
        "message",
        "address",
        "events",
        "path",
        "duration",
        "remaining",
        "options",
        "usage",
        "readable",
        "writable",
        "exceptional",
        "signals",
        "information",
        "requests",
        "second_address",
        "argument",
        "timeout",
        "offset_pointer",
        "out_offset_pointer",
    ]
)
_DESCRIPTORS = frozenset(("fd", "out_fd", "directory"))
_MILLISECONDS = frozenset(("poll", "epoll_wait", "epoll_pwait"))
"""Calls whose ``timeout`` is a number, -1 for none; of the others it points to a timespec."""

_IOVEC = Struct("<QQ")
_SVC = b"\x01\x00\x00\xd4"
_NO_ARGUMENTS = (0,) * 6

FUTEX_COMMANDS = [
    "WAIT",
    "WAKE",
    "FD",
    "REQUEUE",
    "CMP_REQUEUE",
    "WAKE_OP",
    "LOCK_PI",
    "UNLOCK_PI",
    "TRYLOCK_PI",
    "WAIT_BITSET",
    "WAKE_BITSET",
    "WAIT_REQUEUE_PI",
    "CMP_REQUEUE_PI",
    "LOCK_PI2",
]


def blocked_call(
    process: Process, thread: Thread, facts: ThreadFacts | None, space: HostSpace
) -> SystemCall | Absent | None:
    """Return the system call that a thread was in, None if it was in none.

    :param facts: what /proc said of it
    """
    machine = process.core.machine
    if facts is not None and facts.registers != "all" and facts.syscall is None:
        return None if facts.state == "R" else Absent("not-recorded", None, "the kernel was silent")
    if facts is None and not thread.registers:
        return Absent("not-recorded", None, "the thread's registers are not in the core")
    call = call_of(machine, thread, facts)
    if call is None and machine == "aarch64" and (facts is None or facts.syscall is None):
        call = _interrupted_arm_call(thread, space)
    return None if call is None else _model(process, call, space)


def futex_operation(op: int) -> str:
    """Return ``FUTEX_WAIT|FUTEX_PRIVATE_FLAG`` for a futex's operation (linux/futex.h)."""
    command = op & 0x7F
    known = command < len(FUTEX_COMMANDS)
    names = ["FUTEX_" + FUTEX_COMMANDS[command] if known else str(command)]
    names += ["FUTEX_PRIVATE_FLAG"] if op & 0x80 else []
    names += ["FUTEX_CLOCK_REALTIME"] if op & 0x100 else []
    return "|".join(names)


def _interrupted_arm_call(thread: Thread, space: HostSpace) -> Call | None:
    """Return the call that an aarch64 thread is about to repeat.

    Linux takes it back to the instruction that enters the kernel, its first argument restored,
    before a debugger or a core's writer sees it (arch/arm64/kernel/signal.c, do_signal()).
    """
    registers = thread.registers
    try:
        if space.read(HostAddress(registers["pc"]), len(_SVC)) != _SVC:
            return None
    except (KeyError, VringcoreError):
        return None
    arguments = tuple(registers.get(f"x{n}", 0) for n in range(len(_NO_ARGUMENTS)))
    return system_call("aarch64", registers.get("x8", 0) & 0xFFFFFFFF, arguments)


def _model(process: Process, call: Call, space: HostSpace) -> SystemCall:
    known = bool(call.arguments) or not call.name.startswith("system call ")
    if not known:
        raw = {f"arg{n}": Address(value) for n, value in enumerate(call.values)}
        return SystemCall(call.number, None, raw, call.result)
    arguments = {
        name: _argument(process, call.name, name, value) for name, value in call.arguments.items()
    }
    if "iov" in arguments:
        arguments["length"] = _length(space, call.arguments["iov"], call.arguments["count"])
    slim = process.core.slim
    file = None if slim is None or call.fd is None else slim.files.get(str(call.fd))
    return SystemCall(call.number, call.name, arguments, call.result, file)


def _argument(process: Process, call: str, name: str, value: int) -> Any:
    if call == "futex":
        if name in ("address", "second_address"):
            return process.views.pointer_value(value)
        if name == "operation":
            return futex_operation(value)
        if name == "value":
            return value & 0xFFFFFFFF
    if name in _DESCRIPTORS or (name == "timeout" and call in _MILLISECONDS):
        low = value & 0xFFFFFFFF
        return low - (1 << 32) if low >> 31 else low
    return Address(value) if name in _POINTERS else value


def _length(space: HostSpace, address: int, count: int) -> int | Absent:
    """Return the bytes in the buffers of an iovec."""
    try:
        data = space.read(HostAddress(address), _IOVEC.size * min(count, MAX_BUFFERS))
    except VringcoreError as error:
        return absence_of(error)
    lengths: list[int] = [length for _, length in _IOVEC.iter_unpack(data)]
    return sum(lengths)
