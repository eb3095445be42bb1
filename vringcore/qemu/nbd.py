"""Requests of QEMU's NBD client (block/nbd.c): which slot, and how far they got."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.layout.types import Array, Record
from vringcore.model.requests import Waiting
from vringcore.model.values import Address
from vringcore.qemu.aio_structs import BDRVNBDState, CoMutex, CoWaitRecord, NBDClientRequest
from vringcore.qemu.block_structs import Coroutine
from vringcore.qemu.enums import enumerator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.view.views import Views

MAX_SLOTS = 1024
"""QEMU has 16."""

MAX_WAITERS = 10_000


def waiting(views: Views, state: int, node: str) -> Iterator[tuple[int, Waiting]]:
    """Yield the coroutines that wait in an NBD client, each with its place.

    :param state: address of the node's ``BDRVNBDState``
    :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: where it cannot be read
    """
    client = views.at(BDRVNBDState, state)
    connection = enumerator(views, BDRVNBDState, "state", client.state, "NBD_CLIENT_")
    to_send = _holder_and_waiters(views, client.send_mutex)
    receive_mutex = client.receive_mutex
    to_receive = set() if receive_mutex is None else _holder_and_waiters(views, receive_mutex)
    for number, slot in enumerate(slots(views, client)):
        co = slot.coroutine
        if not co:
            continue
        if co in to_send:
            progress = "; not sent in full"
        elif slot.receiving or co in to_receive:
            progress = "; sent, waits for the reply"
        else:
            progress = ""
        detail = f"slot {number}, client {connection}{progress}"
        yield co, Waiting("nbd", Address(slot.address_), node, detail)
    for record in views.elements(client.free_sema, Coroutine, "co_queue_next", limit=MAX_WAITERS):
        detail = f"waits for a free slot, client {connection}"
        yield record.address_, Waiting("nbd", Address(state), node, detail)


def slots(views: Views, client: BDRVNBDState) -> Iterator[NBDClientRequest]:
    """Yield all slots of a client, free ones too; errors as :func:`waiting`."""
    layouts = views.layouts
    record = layouts.resolve(layouts.definition(client.c_type, client.unit))
    found = layouts.member(record, "requests") if isinstance(record, Record) else None
    array = layouts.resolve(found[1]) if found else None
    count = array.count or 0 if isinstance(array, Array) else 0
    size = views.binding(NBDClientRequest).type.size
    for number in range(min(count, MAX_SLOTS)):
        yield views.at(NBDClientRequest, client.requests + number * size)


def _holder_and_waiters(views: Views, address: int) -> set[int]:
    holder, waiters = co_mutex(views, address)
    return {holder, *waiters} - {0}


def co_mutex(views: Views, address: int) -> tuple[int, list[int]]:
    """Return the coroutine that holds a CoMutex, 0 for none, and those that wait for it.

    The first in line comes first: those of ``to_pop``, then of ``from_push`` the last pushed last
    (util/qemu-coroutine-lock.c, move_waiters()). Errors as :func:`waiting`.
    """
    mutex = views.at(CoMutex, address)
    waiters: list[int] = []
    for head, newest_first in ((mutex.to_pop, False), (mutex.from_push, True)):
        records = views.elements(head, CoWaitRecord, "next", limit=MAX_WAITERS)
        found = [int(record.co) for record in records]
        waiters += reversed(found) if newest_first else found
    return int(mutex.holder), waiters
