"""Whether an address is a coroutine's, and the search for coroutines by their stacks.

There is no list of all coroutines. Each has a stack of its own, mapped for it alone, and the
function that every coroutine begins with (coroutine_trampoline() in util/coroutine-ucontext.c)
keeps the coroutine's address in its frame, at the very top. What is found there is a coroutine if
its ``stack`` and ``stack_size`` are that mapping's.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import MemoryFault, VringcoreError
from vringcore.qemu.aio_structs import CoroutineUContext
from vringcore.qemu.block_structs import Coroutine
from vringcore.qemu.coroutines import saved_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

MIN_STACK, MAX_STACK = 1 << 14, 1 << 26
"""Bytes of a coroutine's stack; QEMU's are 1 MiB (COROUTINE_STACK_SIZE)."""

USUAL_STACK = 1 << 20

TOP = 512
"""Bytes at the top of a stack that are looked at; the trampoline's frame has some 100."""

MAX_MAPPINGS = 20_000
"""Mappings that may be stacks and are looked at; Linux allows a process 65,530."""


def coroutine_at(process: Process, address: int) -> Coroutine | None:
    """Return the coroutine at an address, None if there is none that can be read.

    It must have a stack of a likely size, and have been left somewhere on it.
    """
    views = process.views
    if not address or address % views.pointer_size:
        return None
    try:
        low, high = _stack_of(process, address)
        if not MIN_STACK <= high - low <= MAX_STACK:
            return None
        if not low <= saved_context(views, process.core, address).sp < high:
            return None
        coroutine = views.at(Coroutine, address)
        views.space.read(HostAddress(address), views.binding(Coroutine).type.size)
    except VringcoreError:
        return None
    return coroutine


def _stack_of(process: Process, address: int) -> tuple[int, int]:
    """Return where the stack of what may be a coroutine begins and ends.

    :raises VringcoreError: if that cannot be read
    """
    views = process.views
    place = address + views.offset(CoroutineUContext.c_type, "stack", CoroutineUContext.unit)
    words = Struct(views.layouts.byteorder + 2 * _code(process))
    low, size = words.unpack(_peeked(process, place, words.size))
    return low, low + size


def _peeked(process: Process, address: int, size: int) -> bytes:
    """Return memory that is only looked at: whether it is needed is not known yet.

    :raises MemoryFault: if it is not all there
    """
    data = b""
    for piece in process.views.space.scan(HostAddress(address), size):
        if piece.gap is not None:
            raise MemoryFault("looking for coroutines", piece.address, piece.gap)
        data += piece.data or b""
    return data


def coroutines_by_stack(process: Process) -> Iterator[int]:
    """Yield the coroutines whose stacks are mapped, running and idle ones too.

    :raises LayoutMissingError: if this QEMU uses another backend than ucontext
    """
    views = process.views
    views.binding(CoroutineUContext)
    probed = 0
    for start, end in _writable(process):
        if end - start < USUAL_STACK:
            continue
        # A mapping that the kernel put beside the stack is one with it.
        for top in {start + USUAL_STACK, end}:
            if probed >= MAX_MAPPINGS:
                return
            probed += 1
            yield from _named_at(process, top)


def _named_at(process: Process, top: int) -> Iterator[int]:
    """Yield the coroutine that the top of its stack names: none if that is no stack's."""
    views = process.views
    for place, value in reversed(list(_words_below(process, top))):
        if value % views.pointer_size or top - USUAL_STACK <= value < top or not value:
            continue
        try:
            if _stack_of(process, value)[1] == top:
                views.pointer(place)  # what told is needed, to be told again
                yield value
                return
        except VringcoreError:
            continue


def _words_below(process: Process, top: int) -> Iterator[tuple[int, int]]:
    """Yield the aligned words below an address, each with its place; gaps are passed over."""
    size = process.views.pointer_size
    word = Struct(process.views.layouts.byteorder + _code(process))
    for piece in process.views.space.scan(HostAddress(top - TOP), TOP):
        data, skip = piece.data or b"", -piece.address % size
        for at in range(skip, len(data) - size + 1, size):
            yield piece.address + at, word.unpack_from(data, at)[0]


def _writable(process: Process) -> Iterator[tuple[int, int]]:
    """Yield ``(start, end)`` of what the process had mapped to write to."""
    slim = process.core.slim
    if slim is not None:  # which holds parts of mappings, and knows the whole ones
        yield from ((each.start, each.end) for each in slim.mapped if "w" in each.rights)
        return
    for part in process.core.memory.ranges():
        if part.writable:
            yield part.address, part.address + part.size


def _code(process: Process) -> str:
    return "Q" if process.views.pointer_size == 8 else "I"
