"""Requests of a virtio-9p device: the messages that its file server has taken and not answered.

A message is a V9fsPDU; the element it came in lies at the same place of ``V9fsVirtioState.elems``.
A coroutine serves it (``pdu_submit()``, hw/9pfs/9p.c). For each call that may block, the coroutine
leaves the main loop and goes on in a worker thread, on its own stack (``v9fs_co_run_in_worker()``,
hw/9pfs/coth.h).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.requests import Waiting
from vringcore.model.values import Address
from vringcore.qemu.aio_structs import AioContext
from vringcore.qemu.coroutine_contexts import coroutine_at
from vringcore.qemu.element_structs import V9fsPDU, V9fsVirtioState
from vringcore.qemu.engines import pool_elements, worker_state
from vringcore.qemu.requests_held import MAIN_LOOP, Held
from vringcore.qemu.workers import workers_of
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.aio_structs import ThreadPoolElement
    from vringcore.qemu.process import Process

PDUS = 128
"""Messages that a 9P device works on (``MAX_REQ``, hw/9pfs/9p.h)."""


def messages(process: Process, device: int) -> Iterator[Held]:
    """Yield the messages that a 9P device works on, each with its worker thread, if it has one.

    :raises VringcoreError: after what there is, if the work of threads could not be read whole
    """
    views = process.views
    state = views.at(V9fsVirtioState, device)
    size = views.binding(V9fsPDU).type.size
    work, error = collect(_work(process))
    in_threads = _in_threads(process, work)
    for index in range(PDUS):
        element = views.pointer(state.elems + index * views.pointer_size)
        if not element:
            continue
        pdu = views.at(V9fsPDU, state.pdus + index * size)
        place = Waiting("plan9", Address(pdu.address_), detail="the file server works on it")
        yield Held(
            element,
            state.vq,
            pdu.address_,
            "V9fsPDU",
            {"size": pdu.size, "tag": pdu.tag, "id": pdu.id_, "cancelled": pdu.cancelled},
            (place, *in_threads.get(pdu.address_, ())),
        )
    if error is not None:
        raise error


def _work(process: Process) -> Iterator[tuple[ThreadPoolElement, str, int]]:
    """Yield what worker threads do for coroutines that they run, its state, and the V9fsPDU."""
    views = process.views
    context = views.pointer(views.address_of(*MAIN_LOOP))
    pool = views.at(AioContext, context).thread_pool
    for element, state in pool_elements(views, pool) if pool else ():
        if element.argument == element.opaque:
            coroutine = coroutine_at(process, element.argument)
            if coroutine is not None:
                yield element, state, coroutine.entry_arg


def _in_threads(
    process: Process, work: list[tuple[ThreadPoolElement, str, int]]
) -> dict[int, tuple[Waiting]]:
    """Return where messages wait for a worker thread, by their V9fsPDU."""
    active = [element for element, state, _ in work if state == "active"]
    threads = workers_of(process.views, active, process.block.callers()) if active else {}
    return {
        pdu: (
            Waiting(
                "thread-pool",
                Address(element.address_),
                detail=worker_state(state),
                thread=threads.get(element.address_),
            ),
        )
        for element, state, pdu in work
    }
