"""The system call that a thread sits in: by its registers in a core, or as /proc told of it.

Numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h
(aarch64). Arguments: the manual pages of the calls; 64-bit kernels take a whole offset in one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.notes import Thread
    from vringcore.elfcore.slimnote import ThreadFacts

_CALLS = """
0 63 read fd buffer count
1 64 write fd buffer count
3 57 close fd
7 - poll fds count timeout
8 62 lseek fd offset whence
16 29 ioctl fd request argument
17 67 pread64 fd buffer count offset
18 68 pwrite64 fd buffer count offset
19 65 readv fd iov count
20 66 writev fd iov count
23 - select count readable writable exceptional timeout
34 - pause
35 101 nanosleep duration remaining
42 203 connect fd address length
43 202 accept fd address length
44 206 sendto fd buffer count flags address length
45 207 recvfrom fd buffer count flags address length
46 211 sendmsg fd message flags
47 212 recvmsg fd message flags
61 260 wait4 pid status options usage
72 25 fcntl fd command argument
73 32 flock fd operation
74 82 fsync fd
75 83 fdatasync fd
76 45 truncate path length
77 46 ftruncate fd length
128 137 rt_sigtimedwait signals information timeout size
130 133 rt_sigsuspend signals size
202 98 futex address operation value timeout second_address third_value
208 4 io_getevents context least most events timeout
209 2 io_submit context count requests
219 128 restart_syscall
230 115 clock_nanosleep clock flags duration remaining
232 - epoll_wait fd events most timeout
247 95 waitid kind pid information options usage
257 56 openat directory path flags mode
270 72 pselect6 count readable writable exceptional timeout signals
271 73 ppoll fds count timeout signals size
277 84 sync_file_range fd offset length flags
281 22 epoll_pwait fd events most timeout signals size
285 47 fallocate fd mode offset length
288 242 accept4 fd address length flags
295 69 preadv fd iov count offset
296 70 pwritev fd iov count offset
326 285 copy_file_range fd offset_pointer out_fd out_offset_pointer length flags
327 286 preadv2 fd iov count offset unused flags
328 287 pwritev2 fd iov count offset unused flags
333 292 io_pgetevents context least most events timeout signals
426 426 io_uring_enter fd submit least flags
441 441 epoll_pwait2 fd events most timeout signals size
"""
"""Those that QEMU's threads wait in: number on x86-64, on aarch64 (``-``: none), name, arguments.
"""

_COLUMNS = {"x86-64": 0, "aarch64": 1}
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")

_NOT_RETURNED = frozenset({-4, -38, -512, -513, -514, -516})
"""What stands in the result's register while the kernel has the call.

-ENOSYS from its entry on; -ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND and
-ERESTART_RESTARTBLOCK (include/linux/errno.h) where it waited until a signal, or the taking of the
core, interrupted it; and -EINTR of those that are not taken up again.
"""


class SystemCall(msgspec.Struct, frozen=True):
    """A system call that a thread is in.

    :ivar number: the machine's own
    :ivar name: ``preadv`` …, ``system call 999`` for one that is not known here
    :ivar values: the six arguments as the kernel got them
    :ivar arguments: those that the call has, by what they are; ``fd``, ``offset``, ``iov`` …
    :ivar result: what it has just returned, None while the kernel has it
    """

    number: int
    name: str
    values: tuple[int, ...]
    arguments: dict[str, int]
    result: int | None = None

    @property
    def fd(self) -> int | None:
        """The file that it works on, None if on none."""
        number = self.arguments.get("fd")
        return None if number is None else _signed(number, 32)

    @property
    def offset(self) -> int | None:
        """Where in the file, in bytes, None if the call does not say."""
        offset = self.arguments.get("offset")
        return None if offset is None else _signed(offset, 64)


class Caller(msgspec.Struct, frozen=True):
    """A thread in a system call.

    :ivar sp: its stack pointer
    :ivar name: the thread's name, "" where only a core is known
    :ivar state: the letter of /proc/PID/task/TID/stat, "" where only a core is known
    :ivar file: the path of the file it works on, "" if not known
    """

    lwp: int
    sp: int
    call: SystemCall
    name: str = ""
    state: str = ""
    file: str = ""


def callers(image: ProcessImage) -> Iterator[Caller]:
    """Yield the threads of a process that are in a system call."""
    note = image.slim
    facts = {each.lwp: each for each in note.threads} if note is not None else {}
    for thread in image.threads:
        told = facts.get(thread.lwp)
        call = call_of(image.machine, thread, told)
        if call is None:
            continue
        sp = thread.registers.get("rsp", thread.registers.get("sp", 0))
        if told is None:
            yield Caller(thread.lwp, sp, call)
        else:
            if told.syscall is not None:
                sp = told.syscall.sp
            file = note.files.get(str(call.fd), "") if note is not None else ""
            yield Caller(thread.lwp, sp, call, told.name, told.state, file)


def call_of(machine: str, thread: Thread, told: ThreadFacts | None = None) -> SystemCall | None:
    """Return the system call that a thread is in, None if it is in none or that is not known.

    What /proc told goes before the registers: those may have been taken later, or not at all. From
    registers alone it is known on x86-64 only; aarch64 keeps no sign of being in a call.

    :param machine: as :mod:`vringcore.elfcore.registers` names it
    :param told: what /proc told of the thread, of a captured process
    """
    if told is not None and told.syscall is not None:
        return system_call(machine, told.syscall.number, told.syscall.arguments)
    if told is not None and told.registers != "all":
        return None
    registers = thread.registers
    number = _signed(registers.get("orig_rax", -1), 64)
    if number < 0 or any(name not in registers for name in ("rax", *_ARGUMENTS)):
        return None
    result = _signed(registers["rax"], 64)
    return system_call(
        machine,
        number,
        tuple(registers[name] for name in _ARGUMENTS),
        None if result in _NOT_RETURNED else result,
    )


def system_call(
    machine: str, number: int, values: tuple[int, ...], result: int | None = None
) -> SystemCall | None:
    """Return a system call by its number, None for a number below 0: in none."""
    if number < 0:
        return None
    name, *names = _table(machine).get(number, (f"system call {number}",))
    return SystemCall(number, name, values, dict(zip(names, values, strict=False)), result)


@cache
def _table(machine: str) -> dict[int, list[str]]:
    """Return name and names of arguments by number; empty for a machine not known here."""
    column = _COLUMNS.get(machine)
    if column is None:
        return {}
    rows = (line.split() for line in _CALLS.split("\n") if line)
    return {int(row[column]): row[2:] for row in rows if row[column] != "-"}


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
