"""Requests that QEMU gave to the kernel or to its worker threads: linux-aio, io_uring, thread pool.

A request that linux-aio or io_uring has submitted is in none of QEMU's lists: only the kernel
knows it. Its control block lies on the stack of the coroutine that waits, and is found there.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, MemoryFault
from vringcore.layout.types import Named, Pointer, Record
from vringcore.memory.gaps import GapKind
from vringcore.model.requests import Waiting
from vringcore.model.values import Address
from vringcore.qemu.aio_structs import (
    AioContext,
    CoroutineUContext,
    LinuxAioRequest,
    LinuxAioState,
    LoopRing,
    LuringCoRequest,
    LuringRequest,
    LuringState,
    ThreadPool,
    ThreadPoolAio,
    ThreadPoolCo,
    ThreadPoolElement,
    ThreadPoolElementAio,
)
from vringcore.qemu.block_structs import Coroutine
from vringcore.qemu.enums import enumerator
from vringcore.qemu.workers import node_of, workers_of
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vringcore.qemu.syscalls import Caller
    from vringcore.view.declare import View
    from vringcore.view.views import Views

MAX_ELEMENTS = 100_000

STACK_SEARCHED = 32 * 1024
"""Bytes of a coroutine's stack that are searched, from where it begins."""

EINPROGRESS = 115

_WORKER_STATES = {
    "queued": "queued, no worker thread took it",
    "active": "active in a worker thread",
    "done": "done, its completion has not run",
}
"""``enum ThreadState`` (util/thread-pool.c) in words."""


def in_worker_threads(
    views: Views, context: int, nodes: Mapping[int, str], callers: Callable[[], Sequence[Caller]]
) -> Iterator[tuple[int, Waiting]]:
    """Yield the coroutines that wait for a worker thread of an AioContext, each with its place.

    Those of 9pfs are run by the thread itself: the work's argument is the coroutine.

    :param nodes: names of block nodes by address
    :param callers: gives the threads that are in system calls
    :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: where it cannot be read
    """
    pool = views.at(AioContext, context).thread_pool
    if not pool:
        return
    found, error = collect(each for each in pool_elements(views, pool) if each[0].opaque)
    active = [element for element, state in found if state == "active"]
    threads = workers_of(views, active, callers()) if active else {}
    for element, state in found:
        waiting = Waiting(
            "thread-pool",
            Address(element.address_),
            node_of(views, element, nodes),
            worker_state(state),
            threads.get(element.address_),
        )
        runs = element.opaque == element.argument
        yield element.opaque if runs else views.at(ThreadPoolCo, element.opaque).co, waiting
    if error is not None:
        raise error


def worker_state(state: str) -> str:
    """Return the state of a thread pool's work in words."""
    return _WORKER_STATES.get(state, state)


def thread_pool(views: Views, address: int) -> ThreadPool:
    """Return the thread pool at an address.

    :raises LayoutMissingError, CorruptDataError: if the build has none, or of a kind not known here
    """
    return views.at(_thread_pool_types(views)[0], address)


def pool_elements(views: Views, pool: int) -> Iterator[tuple[ThreadPoolElement, str]]:
    """Yield the work of a thread pool: each element and its state, such as ``active``.

    :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: where it cannot be read
    """
    pool_view, element_view = _thread_pool_types(views)
    head = views.at(pool_view, pool).head
    for element in views.elements(head, element_view, "all", limit=MAX_ELEMENTS):
        yield element, enumerator(views, element_view, "state", element.state, "THREAD_")


class KernelEngines:
    """linux-aio and io_uring of all event loops; a loop's own queue is walked once."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._loops: dict[int, AioContext] = {}
        self._queued: dict[int, set[int]] = {}

    def waiting(self, coroutine: int) -> Iterator[Waiting]:
        """Yield the places where a coroutine waits for the kernel.

        :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: where it cannot be
            read
        """
        views = self._views
        address = views.at(Coroutine, coroutine).ctx
        if not address:
            return
        loop = self._loops.get(address)
        if loop is None:
            loop = self._loops[address] = views.at(AioContext, address)
        if loop.linux_aio:
            yield from self._linux_aio(coroutine, loop.linux_aio)
        if loop.linux_io_uring:
            yield from self._io_uring(coroutine, loop.linux_io_uring)
        elif loop.linux_io_uring is None:
            yield from self._own_io_uring(coroutine, address)

    def _linux_aio(self, coroutine: int, address: int) -> Iterator[Waiting]:
        state = self._views.at(LinuxAioState, address)
        if not state.in_flight and not state.in_queue:
            return
        for at in _on_stack(self._views, coroutine, LinuxAioRequest.c_type):
            request = self._views.at(LinuxAioRequest, at)
            if request.ctx == address and request.ret == -EINPROGRESS:
                queued = at in self._queue(address, state.pending, LinuxAioRequest)
                yield Waiting("linux-aio", Address(at), detail=_progress(state, queued))

    def _io_uring(self, coroutine: int, address: int) -> Iterator[Waiting]:
        state = self._views.at(LuringState, address)
        if not state.in_flight and not state.in_queue:
            return
        for at in _on_stack(self._views, coroutine, LuringRequest.c_type):
            request = self._views.at(LuringRequest, at)
            if request.user_data == at and request.ret == -EINPROGRESS:
                queued = at in self._queue(address, state.submit_queue, LuringRequest)
                yield Waiting("io-uring", Address(at), detail=_progress(state, queued))

    def _own_io_uring(self, coroutine: int, loop: int) -> Iterator[Waiting]:
        """Since 10.2 io_uring is the event loop's own, and has no list of requests."""
        view = LuringCoRequest
        if self._views.layouts.find_definition(view.c_type, view.unit) is None:
            return
        for at in _on_stack(self._views, coroutine, view.c_type, view.unit):
            if self._views.at(view, at).ret == -EINPROGRESS:
                yield Waiting("io-uring", Address(at), detail=self._ring_state(loop))

    def _ring_state(self, loop: int) -> str:
        ring = self._views.at(LoopRing, loop)
        if ring.sqe_head is None or ring.sqe_tail is None:
            return "given to its event loop's io_uring"
        left = (ring.sqe_tail - ring.sqe_head) & 0xFFFF_FFFF
        if left:
            return f"given to its event loop's io_uring, which has {left} entries to submit"
        return "submitted to the kernel; its event loop has nothing left to submit"

    def _queue(self, state: int, head: int, view: type[View]) -> set[int]:
        """Return the requests that an engine has not given to the kernel yet."""
        queued = self._queued.get(state)
        if queued is None:
            walk = self._views.elements(head, view, "next", limit=MAX_ELEMENTS)
            queued = self._queued[state] = {int(request.address_) for request in walk}
        return queued


def _progress(state: LinuxAioState | LuringState, queued: bool) -> str:
    told = "queued in QEMU, not submitted" if queued else "submitted to the kernel"
    return f"{told}; its event loop has {state.in_flight} submitted and {state.in_queue} queued"


def _on_stack(
    views: Views, coroutine: int, c_type: str, unit: tuple[str, ...] = ()
) -> Iterator[int]:
    """Yield where on a coroutine's stack a structure may lie whose ``co`` is the coroutine.

    :raises MemoryFault: at a part of the stack that is lost; what a small core left out holds none
    """
    stack = views.at(CoroutineUContext, coroutine)
    size = min(stack.stack_size, STACK_SEARCHED)
    start = HostAddress(stack.stack + stack.stack_size - size)
    order = ">" if views.layouts.big_endian else "<"
    needle = struct.pack(order + ("Q" if views.pointer_size == 8 else "I"), coroutine)
    co = views.offset(c_type, "co", unit)
    for piece in views.space.scan(start, size):
        data, place = piece.data or b"", int(piece.address)
        at = data.find(needle)
        while at >= 0:
            if (place + at) % views.pointer_size == 0 and place + at >= start + co:
                yield place + at - co
            at = data.find(needle, at + 1)
        if piece.gap is not None and piece.gap.kind is not GapKind.OMITTED:
            raise MemoryFault("reading a coroutine's stack", piece.address, piece.gap)


def _thread_pool_types(views: Views) -> tuple[type[ThreadPool], type[ThreadPoolElement]]:
    # ThreadPool became ThreadPoolAio in 10.0, which has another ThreadPool beside it.
    layouts = views.layouts
    record = layouts.resolve(layouts.definition(AioContext.c_type, AioContext.unit))
    found = layouts.member(record, "thread_pool") if isinstance(record, Record) else None
    match found[1] if found else None:
        case Pointer(to=Named(name="ThreadPoolAio")):
            return ThreadPoolAio, ThreadPoolElementAio
        case Pointer(to=Named(name="ThreadPool")):
            return ThreadPool, ThreadPoolElement
    raise CorruptDataError("AioContext.thread_pool points to something else than a thread pool")
