"""The threads of the process: what each one is, where it is, and who called it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.values import Absent, Fields, Hex


class SystemCall(msgspec.Struct, frozen=True):
    """The system call that a thread was in.

    :param number: the machine's own number
    :param name: None where this library does not know the number
    :param arguments: by the names of its manual page; ``arg0`` to ``arg5`` of an unknown one.
        Addresses are hex strings, a futex's with its symbol; ``length`` of preadv and its kin is
        the sum of their buffers, in bytes
    :param result: what it had just returned, None while the kernel had it
    :param file: what the descriptor in ``fd`` was, of a process that was captured live
    """

    number: int
    name: str | None
    arguments: Fields
    result: int | None = None
    file: str | None = None


class Variable(msgspec.Struct, frozen=True):
    """An argument or a local variable of a function.

    :param type: as C spells it
    :param value: as :data:`~vringcore.model.values.Fields` has such; Absent with the reason
        ``optimized-out`` where the code keeps it no longer or in a register that was used again
        since, ``aggregate`` for a structure, union or array, with its address
    """

    name: str
    type: str
    value: Any


class Frame(msgspec.Struct, frozen=True):
    """One function of a stack: of the frames of inlined functions only the last has code.

    :param pc: where it goes on when what it called returns
    :param function: None where no symbol covers it
    :param file: its source file as the compiler was given it, None where no line is known
    :param line: in it: where it is, or calls the frame before
    :param inlined: it has no stack frame of its own: the next that is not inlined has
    :param module: path of the file mapped there, ``[vdso]``, or "" for generated code
    :param how: how it was found: ``registers`` (the innermost), ``cfi``, ``signal`` (it was
        interrupted by one), ``tail-call`` (it had left by a jump to the frame before, as the only
        way there) or ``heuristic``: a guess, which may be wrong
    :param cfa: the stack pointer before it was called, None where that is not known
    :param arguments: in the order of the source; empty too where no debug information tells them
    :param locals: its other variables in force, with the part ``locals``
    """

    pc: Hex
    function: str | None
    file: str | None
    line: int | None
    inlined: bool
    module: str
    how: str
    cfa: Hex | None = None
    arguments: tuple[Variable, ...] = ()
    locals: tuple[Variable, ...] | UnsetType = UNSET


class Thread(msgspec.Struct, frozen=True):
    """One thread.

    :param lwp: its number as the core's writer saw it
    :param pthread: its ``pthread_t``, the thread pointer; None where the core does not hold it
    :param name: the kernel's name of it
    :param state: the kernel's letter: R runs, S sleeps, D waits uninterruptibly, T stopped
    :param role: ``main-loop``, ``vcpu``, ``iothread``, ``migration``, ``rcu``, ``worker`` … by the
        function that it began with; None where that is not known
    :param role_name: which one: the vCPU's index, the I/O thread's id
    :param signal: the signal that was being delivered, 0 for none
    :param system_call: None if it was in none
    :param kernel_stack: the kernel's own frames, innermost first
    :param frames: innermost first
    :param frames_end: why there are no more: ``outermost`` if that is all of them; else
        ``no-unwind-information``, ``stack-not-readable``, ``stack-not-rising``, ``not-code``,
        ``loop``, ``limit`` …
    :param frames_end_detail: of that, in words
    """

    lwp: int
    pthread: Hex | None
    name: str | Absent
    state: str | Absent
    role: str | None
    role_name: str | None
    signal: int
    system_call: SystemCall | Absent | None
    kernel_stack: tuple[str, ...] | Absent
    frames: tuple[Frame, ...]
    frames_end: str
    frames_end_detail: str = ""
