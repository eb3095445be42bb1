"""What event loops give their requests to: linux-aio, io_uring, worker threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.block import Engine, PoolElement
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.aio_structs import (
    AioContext,
    LinuxAioState,
    LuringState,
    ThreadPoolCo,
)
from vringcore.qemu.coroutine_contexts import coroutine_at
from vringcore.qemu.engines import pool_elements, thread_pool
from vringcore.qemu.workers import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.qemu.aio_structs import ThreadPoolElement
    from vringcore.qemu.process import Process


def engines_of(process: Process, loops: Iterable[int]) -> Iterator[Engine]:
    """Yield the engines of event loops, each loop's in the order linux-aio, io_uring, threads.

    :param loops: addresses of AioContexts
    :raises LayoutMissingError, MemoryFault: where an event loop cannot be read
    """
    views = process.views
    for address in loops:
        loop = views.at(AioContext, address)
        if loop.linux_aio:
            yield _kernel(address, "linux-aio", views.at(LinuxAioState, loop.linux_aio))
        if loop.linux_io_uring:
            yield _kernel(address, "io-uring", views.at(LuringState, loop.linux_io_uring))
        if loop.thread_pool:
            yield _threads(process, address, int(loop.thread_pool))


def _kernel(loop: int, kind: str, state: LinuxAioState | LuringState) -> Engine:
    def unprocessed() -> int | None:
        if isinstance(state, LinuxAioState):
            return max(0, state.event_max - state.event_index)
        return None

    return Engine(
        kind=kind,
        address=Address(state.address_),
        event_loop=Address(loop),
        in_flight=attempt(lambda: state.in_flight),
        in_queue=attempt(lambda: state.in_queue),
        blocked=attempt(lambda: state.blocked),
        plugged=attempt(lambda: state.plugged),
        unprocessed=attempt(unprocessed),
    )


def _threads(process: Process, loop: int, address: int) -> Engine:
    views, layer = process.views, process.block
    found = layer.keep("the work of a thread pool", pool_elements(views, address))
    active = [element for element, state in found if state == "active"]
    served = workers_of(views, active, layer.callers()) if active else {}
    elements = tuple(
        PoolElement(
            address=Address(element.address_),
            state=state,
            coroutine=waiting_coroutine(process, element),
            function=attempt(lambda e=element: function_name(process, e.func)),  # type: ignore[misc]
            lwp=served[element.address_].lwp if element.address_ in served else None,
        )
        for element, state in found
    )
    return Engine(
        kind="thread-pool",
        address=Address(address),
        event_loop=Address(loop),
        in_flight=sum(element.state == "active" for element in elements),
        in_queue=sum(element.state == "queued" for element in elements),
        elements=elements,
        idle_threads=attempt(lambda: thread_pool(views, address).idle_threads),
        total_threads=attempt(lambda: thread_pool(views, address).cur_threads),
    )


def waiting_coroutine(process: Process, element: ThreadPoolElement) -> Address | None:
    """Return the coroutine that waits for an element's work, None if no coroutine does.

    It is the callback's argument (9pfs), or what that begins with (``ThreadPoolCo``).
    """
    opaque = attempt(lambda: int(element.opaque))
    if isinstance(opaque, Absent) or not opaque:
        return None
    named = attempt(lambda: int(process.views.at(ThreadPoolCo, opaque).co))
    for address in (named, opaque):
        if isinstance(address, int) and coroutine_at(process, address) is not None:
            return Address(address)
    return None


def function_name(process: Process, address: int) -> str | Absent:
    """Return the name of the function at an address."""
    symbol = process.symbols.lookup(address) if address else None
    return Absent("no-symbol", Address(address)) if symbol is None else symbol[0]
