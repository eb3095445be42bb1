"""Coroutines by what event loops will enter: scheduled ones, descriptors, timers, work done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.requests import Waiting
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.aio_structs import (
    AioContext,
    LinuxAioRequest,
    LinuxAioState,
    LuringRequest,
    LuringState,
)
from vringcore.qemu.block_engines import waiting_coroutine
from vringcore.qemu.block_structs import Coroutine
from vringcore.qemu.coroutine_contexts import coroutine_at
from vringcore.qemu.coroutine_lead import Lead, waiting_leads
from vringcore.qemu.coroutine_structs import QIOChannel
from vringcore.qemu.engines import pool_elements
from vringcore.qemu.loop_structs import (
    QEMUBH,
    AioHandler,
    EventLoopContext,
    QEMUTimer,
    QEMUTimerList,
)
from vringcore.view.lists import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process

MAX_ITEMS = 10_000
"""Handlers, bottom halves, timers, or requests of one event loop."""

WORDS_BEHIND = 3
"""Pointers at the start of a callback's argument among which a coroutine may be.

``QemuCoSleep.to_wake``, ``BdrvCoDrainData.co`` and others are the first, ``FDYieldUntilData.co``
is the second.
"""

CLOCKS = 4

_IN, _OUT = 1, 4
"""poll(2)'s POLLIN and POLLOUT."""


def leads_in_loop(process: Process, address: int) -> Iterator[Lead]:
    """Yield the leads of one AioContext; what cannot be read is noted in the block layer."""
    keep = process.block.keep
    yield from keep("the coroutines that an event loop is to enter", _scheduled(process, address))
    yield from keep("the handlers of an event loop", _handlers(process, address))
    yield from keep("the bottom halves of an event loop", _bottom_halves(process, address))
    timers = process.views.at(EventLoopContext, address).timers
    yield from keep("the timers of an event loop", leads_in_timers(process, timers))
    yield from keep("the work of a thread pool", _workers(process, address))
    yield from keep("the requests that are not submitted", _not_submitted(process, address))


def _scheduled(process: Process, loop: int) -> Iterator[Lead]:
    views = process.views
    head = views.at(EventLoopContext, loop).scheduled_coroutines
    for co in views.elements(head, Coroutine, "co_scheduled_next", limit=MAX_ITEMS):
        yield from waiting_leads([co.address_], "scheduled", loop, "its event loop is to enter it")


def _handlers(process: Process, loop: int) -> Iterator[Lead]:
    views = process.views
    head = views.at(EventLoopContext, loop).aio_handlers
    for handler in views.elements(head, AioHandler, "node", limit=MAX_ITEMS):
        if handler.deleted or not handler.events:
            continue
        awaited = " or ".join(
            word for bit, word in ((_IN, "read"), (_OUT, "written")) if handler.events & bit
        )
        detail = f"until file descriptor {handler.fd} can be {awaited or 'used'}"
        channel = _channel(process, int(handler.opaque))
        if channel is not None:
            for co in {int(channel.read_coroutine), int(channel.write_coroutine)} - {0}:
                yield from waiting_leads([co], "io-channel", handler.address_, detail)
        else:
            for co in _behind(process, int(handler.opaque)):
                waiting = Waiting("file-descriptor", Address(handler.address_), "", detail)
                yield Lead(co, "file-descriptor", waiting, certain=False)


def _channel(process: Process, opaque: int) -> QIOChannel | None:
    is_channel = attempt(lambda: process.objects.is_a(opaque, "qio-channel"))
    if isinstance(is_channel, Absent) or not is_channel:
        return None
    return process.views.at(QIOChannel, opaque)


def _bottom_halves(process: Process, loop: int) -> Iterator[Lead]:
    views = process.views
    head = views.at(EventLoopContext, loop).bh_list
    for half in views.elements(head, QEMUBH, "next", limit=MAX_ITEMS):
        for co in _behind(process, int(half.opaque)):
            detail = "until its event loop runs a bottom half"
            waiting = Waiting("bottom-half", Address(half.address_), "", detail)
            yield Lead(co, "bottom-half", waiting, certain=False)


def leads_in_timers(process: Process, lists: int) -> Iterator[Lead]:
    """Yield the leads of the timers of a ``QEMUTimerListGroup``."""
    views = process.views
    for clock in range(CLOCKS):
        timers = views.pointer(lists + clock * views.pointer_size)
        if not timers:
            continue
        for address in walk(
            views.at(QEMUTimerList, timers).active_timers,
            lambda timer: views.at(QEMUTimer, timer).next_,
            what="of timers",
            limit=MAX_ITEMS,
        ):
            timer = views.at(QEMUTimer, address)
            for co in _behind(process, int(timer.opaque)):
                detail = f"until a timer expires, at {timer.expire_time} ns of its clock"
                waiting = Waiting("timer", Address(address), "", detail)
                yield Lead(co, "timer", waiting, certain=False)


def _workers(process: Process, loop: int) -> Iterator[Lead]:
    pool = process.views.at(AioContext, loop).thread_pool
    for element, _state in pool_elements(process.views, pool) if pool else ():
        co = waiting_coroutine(process, element)
        if co is not None:
            yield Lead(co, "thread-pool")


def _not_submitted(process: Process, loop: int) -> Iterator[Lead]:
    """Yield those whose requests linux-aio and io_uring keep; the kernel's are in no list."""
    views = process.views
    context = views.at(AioContext, loop)
    if context.linux_aio:
        head = views.at(LinuxAioState, context.linux_aio).pending
        for block in views.elements(head, LinuxAioRequest, "next", limit=MAX_ITEMS):
            yield Lead(int(block.co), "linux-aio")
    if context.linux_io_uring:
        head = views.at(LuringState, context.linux_io_uring).submit_queue
        for request in views.elements(head, LuringRequest, "next", limit=MAX_ITEMS):
            yield Lead(int(request.co), "io-uring")


def _behind(process: Process, opaque: int) -> Iterator[int]:
    """Yield the coroutine that a callback's argument is, or names near its beginning."""
    if not opaque:
        return
    if coroutine_at(process, opaque) is not None:
        yield opaque
        return
    views = process.views
    for number in range(WORDS_BEHIND):
        word = attempt(lambda n=number: int(views.pointer(opaque + n * views.pointer_size)))  # type: ignore[misc]
        if isinstance(word, Absent):
            return
        if word and coroutine_at(process, word) is not None:
            yield word
            return
