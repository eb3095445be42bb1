"""Coroutines by the structures of the block layer: requests, queues, locks, jobs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from vringcore.layout.types import Record
from vringcore.qemu.aio_structs import BDRVNBDState
from vringcore.qemu.block_nbd import is_nbd
from vringcore.qemu.block_state_structs import BdrvTrackedRequestState, ThrottleGroupMemberState
from vringcore.qemu.coroutine_lead import OUTERMOST, Lead, waiting_leads
from vringcore.qemu.coroutine_structs import BDRVQcow2State, NodeLocks, QCowL2Meta
from vringcore.qemu.jobs import raw_jobs
from vringcore.qemu.nbd import co_mutex
from vringcore.qemu.waiting import MAX_WAITERS, add_places_of_node, places_at_backend, waiters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.block import BlockLayer, Node
    from vringcore.qemu.waiting import Place

MAX_ALLOCATIONS = 10_000


def leads_in_block_layer(layer: BlockLayer) -> Iterator[Lead]:
    """Yield the leads of all back-ends, nodes and jobs, of the lock of the block graph last."""
    nodes = layer.keep("the block nodes", _by_depth(layer))
    places: list[Place] = []
    for blk in layer.backends():
        places += places_at_backend(layer, blk.address_)
    for node in nodes:
        add_places_of_node(layer, node, places)
    for place in places:
        yield Lead(place.coroutine, place.waiting.place, place.waiting, place.rank)
    for blk in layer.backends():
        lock = _throttled(layer, blk.throttle_group_member, "")
        yield from layer.keep("the lock of a throttled back-end", lock)
    for node in nodes:
        walk = islice(_of_node(layer, node), MAX_WAITERS)
        yield from layer.keep(f"the queues of node {node.name}", walk)
    yield from layer.keep("the coroutines of jobs", _jobs(layer))
    yield from layer.keep("the lock of the block graph", _graph_lock(layer))


def _jobs(layer: BlockLayer) -> Iterator[Lead]:
    for job in raw_jobs(layer):
        if job.co:
            yield Lead(int(job.co), "job", rank=OUTERMOST)


def _by_depth(layer: BlockLayer) -> Iterator[Node]:
    """Yield all nodes, each with its greatest distance from a back-end."""
    depths: dict[int, int] = {}
    for blk in layer.backends():
        for node in layer.graph_of(blk.address_):
            depths[node.address] = max(node.depth, depths.get(node.address, 0))
    for node in layer.nodes():
        yield layer.node(node.address, depths.get(node.address, 0))


def _of_node(layer: BlockLayer, node: Node) -> Iterator[Lead]:
    views, name = layer.views, node.name
    head = node.view.tracked_requests
    for request in views.elements(head, BdrvTrackedRequestState, "list", limit=MAX_WAITERS):
        detail = f"until the request at {request.offset} of {request.bytes} bytes has ended"
        waiting = waiters(layer, request.wait_queue)
        yield from waiting_leads(waiting, "co-queue", request.address_, detail, name)
    locks = views.at(NodeLocks, node.address)
    if _is_co_mutex(layer, "reqs_lock"):
        yield from _co_mutex(layer, locks.reqs_lock, "reqs_lock", name)
    if locks.bsc_modify_lock is not None:
        yield from _co_mutex(layer, locks.bsc_modify_lock, "bsc_modify_lock", name)
    if is_nbd(node):
        client = views.at(BDRVNBDState, node.view.opaque)
        yield from _co_mutex(layer, client.send_mutex, "send_mutex", name)
        if client.receive_mutex is not None:
            yield from _co_mutex(layer, client.receive_mutex, "receive_mutex", name)
        if client.connection_co:
            yield Lead(int(client.connection_co), "nbd", rank=OUTERMOST)
    elif node.driver == "throttle" and node.view.opaque:
        yield from _throttled(layer, int(node.view.opaque), name)
    elif node.driver == "qcow2" and node.view.opaque:
        yield from _qcow2(layer, int(node.view.opaque), name)


def _throttled(layer: BlockLayer, member: int, name: str) -> Iterator[Lead]:
    lock = layer.views.at(ThrottleGroupMemberState, member).throttled_reqs_lock
    if lock is not None:
        yield from _co_mutex(layer, lock, "throttled_reqs_lock", name)


def _qcow2(layer: BlockLayer, state: int, name: str) -> Iterator[Lead]:
    image = layer.views.at(BDRVQcow2State, state)
    yield from _co_mutex(layer, image.lock, "the image's lock", name)
    queue = image.thread_task_queue
    detail = "for a worker thread, all of which are taken"
    yield from waiting_leads(waiters(layer, queue), "co-queue", queue, detail, name)
    for allocation in layer.views.elements(
        image.cluster_allocs, QCowL2Meta, "next_in_flight", limit=MAX_ALLOCATIONS
    ):
        queue = allocation.dependent_requests
        detail = f"until the clusters at {allocation.offset} are allocated"
        yield from waiting_leads(waiters(layer, queue), "co-queue", queue, detail, name)


def _co_mutex(layer: BlockLayer, address: int, what: str, node: str) -> Iterator[Lead]:
    holder, waiting = co_mutex(layer.views, address)
    if holder:
        yield Lead(holder, "co-mutex")
    held = f", which the coroutine at {holder:#x} holds" if holder else ""
    yield from waiting_leads(waiting, "co-mutex", address, f"for {what}{held}", node)


def _is_co_mutex(layer: BlockLayer, member: str) -> bool:
    """Tell whether a lock of a node is one of coroutines; ``reqs_lock`` is until 8.0."""
    layouts = layer.views.layouts
    record = layouts.resolve(layouts.definition(NodeLocks.c_type, NodeLocks.unit))
    found = layouts.member(record, member) if isinstance(record, Record) else None
    type_ = layouts.resolve(found[1]) if found else None
    return isinstance(type_, Record) and type_.name == "CoMutex"


def _graph_lock(layer: BlockLayer) -> Iterator[Lead]:
    """Yield the readers that wait for a writer of the block graph (since 8.0)."""
    queue = layer.views.find_address_of("reader_queue", "block/graph-lock.c")
    if queue is not None:
        detail = "until the block graph has been changed"
        yield from waiting_leads(waiters(layer, queue), "graph-lock", queue, detail)
