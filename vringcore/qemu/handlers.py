"""What an event loop watches, and what it has yet to run (util/aio-posix.c, util/async.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.loops import BottomHalf, Handler
from vringcore.model.values import Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.loop_structs import QEMUBH, AioHandler, BHListSlice
from vringcore.qemu.loops_words import BH_FLAGS, POLL_EVENTS, function_name, names_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.loop_structs import EventLoopContext
    from vringcore.qemu.loops_owners import Owners
    from vringcore.qemu.process import Process

MAX_HANDLERS = 10_000
MAX_BOTTOM_HALVES = 10_000


def handlers(process: Process, loop: EventLoopContext, owners: Owners) -> Iterator[Handler]:
    """Yield the handlers of an event loop in its order, the latest first.

    :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: where it ends early
    """
    held_back = bool(loop.external_disable_cnt)
    views = process.views
    for each in views.elements(loop.aio_handlers, AioHandler, "node", limit=MAX_HANDLERS):
        read = function_name(process, each.io_read)
        owner, queue = owners.of(each, read)
        external = each.is_external
        yield Handler(
            address=Address(each.address_),
            fd=each.fd,
            events=names_of(each.events, POLL_EVENTS),
            read=read,
            write=function_name(process, each.io_write),
            poll=function_name(process, each.io_poll),
            opaque=Address(each.opaque),
            live=bool(each.events) and not each.deleted and not (external and held_back),
            polled=bool(each.polled),
            external=external,
            owner=owner,
            queue=queue,
        )


def bottom_halves(process: Process, loop: EventLoopContext) -> Iterator[BottomHalf]:
    """Yield the bottom halves of an event loop: those in its list, then those it took from there.

    :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: where it ends early
    """
    yield from _listed(process, loop.bh_list, taken=False)
    slices = process.views.elements(
        loop.bh_slice_list, BHListSlice, "next", limit=MAX_BOTTOM_HALVES
    )
    for each in slices:
        yield from _listed(process, each.bh_list, taken=True)


def _listed(process: Process, head: int, *, taken: bool) -> Iterator[BottomHalf]:
    views = process.views
    for each in views.elements(head, QEMUBH, "next", limit=MAX_BOTTOM_HALVES):
        name = each.name
        yield BottomHalf(
            address=Address(each.address_),
            name=attempt(lambda n=name: views.string(n)) if name else None,  # type: ignore[misc]
            callback=function_name(process, each.cb),
            opaque=Address(each.opaque),
            flags=names_of(each.flags, BH_FLAGS),
            taken=taken,
        )
