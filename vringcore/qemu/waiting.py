"""Where coroutines wait in the block layer: what QEMU's own lists say, from the outermost inwards.

Flushes are in no list of tracked requests; they are found in ``flush_queue`` or where the driver
below keeps the coroutine (:mod:`vringcore.qemu.engines`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.model.requests import Waiting
from vringcore.model.values import Address
from vringcore.qemu import engines, nbd
from vringcore.qemu.block_structs import (
    BdrvTrackedRequest,
    BlockBackend,
    Coroutine,
    ThrottleGroupMember,
)
from vringcore.qemu.enums import enumerator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vringcore.qemu.block import BlockLayer, Node

MAX_WAITERS = 10_000
MAX_PLACES = 100_000
"""Below one back-end; a disk has no more requests than its queues have entries."""

# Order among the places of one node; a back-end comes before all nodes, an event loop after them.
_TRACKED, _THROTTLE, _FLUSH, _DRIVER = range(4)
_BACKEND_DEPTH = -1
_INNERMOST = (1 << 30, 0)


class Place(msgspec.Struct, frozen=True):
    """A coroutine, the place where it waits, and how far inwards that lies."""

    coroutine: int
    rank: tuple[int, int]
    waiting: Waiting


def places_below(layer: BlockLayer, backend: int) -> list[Place]:
    """Return every place below a back-end where a coroutine waits.

    One coroutine is usually in several: a request on its way to the disk is tracked by each node
    it passes. What could not be read is noted in the layer's limits.
    """
    places = places_at_backend(layer, backend)
    for node in layer.graph_of(backend):
        add_places_of_node(layer, node, places)
    return places


def places_at_backend(layer: BlockLayer, backend: int) -> list[Place]:
    """Return the places of a back-end itself, above all nodes."""
    return layer.keep(f"the queues of the back-end at {backend:#x}", _of_backend(layer, backend))


def add_places_of_node(layer: BlockLayer, node: Node, places: list[Place]) -> None:
    """Add the places of one node, as long as there are no more than :data:`MAX_PLACES`."""
    for what, walk in (
        ("the tracked requests", _tracked(layer, node)),
        ("the throttled requests", _throttle_node(layer, node)),
        ("the waiting flushes", _flushes(layer, node)),
        ("the requests of the driver", _driver(layer, node)),
    ):
        if len(places) < MAX_PLACES:
            places += layer.keep(f"{what} of node {node.name}", walk)
        else:
            layer.limit(f"{what} of node {node.name}", f"more than {MAX_PLACES} before them")


def _of_backend(layer: BlockLayer, address: int) -> Iterator[Place]:
    blk = layer.views.at(BlockBackend, address)
    for co in waiters(layer, blk.queued_requests):
        waiting = Waiting("drain-queue", Address(address), detail="until the drained section ends")
        yield Place(co, (_BACKEND_DEPTH, _TRACKED), waiting)
    yield from _throttled(layer, blk.throttle_group_member, "", (_BACKEND_DEPTH, _THROTTLE))


def _tracked(layer: BlockLayer, node: Node) -> Iterator[Place]:
    head = node.view.tracked_requests
    for request in layer.views.elements(head, BdrvTrackedRequest, "list", limit=MAX_WAITERS):
        kind = enumerator(layer.views, BdrvTrackedRequest, "type", request.type_, "BDRV_TRACKED_")
        detail = f"{kind} of {request.bytes} bytes at {request.offset}"
        if request.waiting_for:
            other = layer.views.at(BdrvTrackedRequest, request.waiting_for)
            detail += f"; waits for the request at {other.offset} that it overlaps"
        waiting = Waiting("tracked-request", Address(request.address_), node.name, detail)
        yield Place(request.co, (node.depth, _TRACKED), waiting)


def _throttle_node(layer: BlockLayer, node: Node) -> Iterator[Place]:
    if node.driver == "throttle" and node.view.opaque:
        yield from _throttled(layer, node.view.opaque, node.name, (node.depth, _THROTTLE))


def _throttled(layer: BlockLayer, member: int, name: str, rank: tuple[int, int]) -> Iterator[Place]:
    view = layer.views.at(ThrottleGroupMember, member)
    queues = (("reads", view.throttled_reads), ("writes", view.throttled_writes))
    for direction, queue in queues:
        for co in waiters(layer, queue):
            detail = f"among the {direction} that a limit holds back"
            yield Place(co, rank, Waiting("throttle", Address(member), name, detail))


def _flushes(layer: BlockLayer, node: Node) -> Iterator[Place]:
    for co in waiters(layer, node.view.flush_queue):
        detail = "a flush that waits for the one before it"
        waiting = Waiting("flush-queue", Address(node.address), node.name, detail)
        yield Place(co, (node.depth, _FLUSH), waiting)


def _driver(layer: BlockLayer, node: Node) -> Iterator[Place]:
    if isinstance(node.driver, str) and node.driver.startswith("nbd") and node.view.opaque:
        for co, waiting in nbd.waiting(layer.views, node.view.opaque, node.name):
            yield Place(co, (node.depth, _DRIVER), waiting)


def waiters(layer: BlockLayer, queue: int) -> Iterator[int]:
    """Yield the coroutines in a CoQueue, the one that waits longest first."""
    for co in layer.views.elements(queue, Coroutine, "co_queue_next", limit=MAX_WAITERS):
        yield co.address_


def places_in_loops(layer: BlockLayer, backend: int, coroutines: Sequence[int]) -> list[Place]:
    """Return the places in the engines of the event loops that work for a back-end.

    Worker threads are asked by event loop, which finds flushes too; the kernel's queues by
    coroutine.

    :param coroutines: those known to work for the back-end
    """
    places = []
    kernel = engines.KernelEngines(layer.views)
    for co in coroutines:
        found = layer.keep("requests in linux-aio and io_uring", kernel.waiting(co))
        places += [Place(co, _INNERMOST, waiting) for waiting in found]
    loops = set(layer.keep("the event loops of requests", _loops(layer, backend, coroutines)))
    names = {int(node.address): node.name for node in layer.graph_of(backend)}
    for loop in sorted(loops):
        workers = engines.in_worker_threads(layer.views, loop, names, layer.callers)
        pairs = layer.keep("requests in worker threads", workers)
        places += [Place(co, _INNERMOST, waiting) for co, waiting in pairs]
    return places


def _loops(layer: BlockLayer, backend: int, coroutines: Iterable[int]) -> Iterator[int]:
    for node in layer.graph_of(backend):
        if node.view.aio_context:
            yield node.view.aio_context
    for co in coroutines:
        loop = layer.views.at(Coroutine, co).ctx
        if loop:
            yield loop
