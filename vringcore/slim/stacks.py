"""Where the stacks of threads and of sleeping coroutines lie, as far as they are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.elfcore.notes import AT_RANDOM
from vringcore.errors import CorruptDataError
from vringcore.qemu.aio_structs import CoroutineUContext
from vringcore.qemu.coroutines import saved_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

STACK_POINTER = {"x86-64": "rsp", "aarch64": "sp", "i386": "esp"}

RED_ZONE = 128
"""Bytes below the stack pointer that a leaf function may use (x86-64 psABI, 3.2.2)."""

THREAD_BLOCK = 0x1000
"""Bytes above the thread pointer that glibc's ``struct pthread`` may take, and below it the
variables of the modules loaded at the start."""

MAX_STACK = 256 * 1024
"""Of one thread; what is deeper than this is left out."""

AT_RANDOM_SIZE = 16


def thread_stacks(process: Process) -> Iterator[tuple[int, int]]:
    """Yield ``(start, end)`` of each thread's stack, from below its stack pointer up.

    A thread's stack ends with its thread-local variables and ``struct pthread``. The main thread's
    ends before the strings of argv and of the environment, which the kernel put at its top.
    """
    core = process.core
    name = STACK_POINTER.get(core.machine, "")
    anchor = core.auxv.get(AT_RANDOM, 0)
    for thread in core.threads:
        pointer = thread.registers.get(name, 0)
        segment = core.memory.segment_at(pointer) if pointer else None
        if segment is None:
            continue
        end = min(segment.end, pointer + MAX_STACK)
        block = thread.fs_base or 0
        if pointer < block < segment.end:
            end = min(end, block + THREAD_BLOCK)
        if pointer < anchor < segment.end:
            end = min(end, anchor + AT_RANDOM_SIZE)
        yield max(segment.address, pointer - RED_ZONE), end
        if block and not pointer < block < end:
            # The main thread's variables, and those of a thread that runs on another stack.
            yield block - THREAD_BLOCK, block + THREAD_BLOCK


def coroutine_stack(process: Process, address: int) -> tuple[int, int]:
    """Return ``(start, end)`` of a sleeping coroutine's stack, from its saved stack pointer up.

    Below that is nothing: the function that was left had called sigsetjmp(), and has no red zone.

    :raises CorruptDataError: if what is saved there is not a place on its own stack
    :raises VringcoreError: if the structure is not there, or QEMU was built with another kind of
        coroutine
    """
    coroutine = process.views.at(CoroutineUContext, address)
    low, high = coroutine.stack, coroutine.stack + coroutine.stack_size
    pointer = saved_context(process.views, process.core, address).sp
    if not low <= pointer < high:
        raise CorruptDataError(
            "a coroutine whose saved stack pointer is not on its stack",
            where=f"{address:#x}",
            seen=f"{pointer:#x}",
            expected=f"{low:#x} to {high:#x}",
        )
    return pointer, min(high, pointer + MAX_STACK)
