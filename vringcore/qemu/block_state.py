"""The block layer as reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vringcore.errors import LimitError
from vringcore.model.block import BackendState, BlockState, Node, TrackedRequest
from vringcore.model.values import Absent, Address
from vringcore.qemu import block_state_structs as structs
from vringcore.qemu.absence import attempt
from vringcore.qemu.block_engines import engines_of
from vringcore.qemu.block_loops import event_loop_addresses
from vringcore.qemu.block_nbd import is_nbd, nbd_connection
from vringcore.qemu.block_parked import parked_requests
from vringcore.qemu.block_structs import BdrvChild, BlockDriverState
from vringcore.qemu.enums import enumerator
from vringcore.qemu.jobs import job_id, jobs, raw_jobs
from vringcore.qemu.throttle import group_name, group_of, throttle_groups
from vringcore.qemu.upstream import unknown_members
from vringcore.qemu.waiting import MAX_WAITERS, waiters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.report import Limitation
    from vringcore.qemu.block import BlockLayer
    from vringcore.qemu.block import Node as RawNode
    from vringcore.qemu.process import Process

T = TypeVar("T")

MAX_EDGES = 10_000

MAX_STEPS = 200_000
"""Requests, and requests and coroutines that wait for them, of all nodes together."""


def block_state(process: Process, limits: list[Limitation]) -> BlockState:
    """Return the whole block layer; what could not be read of its lists is added to ``limits``."""
    layer = process.block
    state, lost = layer.noting(lambda: _State(process).read())
    limits += lost
    return state


class _State:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._views = process.views
        self._layer: BlockLayer = process.block
        self._names: dict[int, str] = {}
        """What back-ends, nodes and jobs are called, by address."""
        self._steps = 0

    def read(self) -> BlockState:
        layer = self._layer
        backends = layer.listed("the back-ends", map(self._backend, self._backend_addresses()))
        nodes = layer.nodes()
        self._name_all(backends, nodes)
        loops = event_loop_addresses(self._process)
        return BlockState(
            backends=self._unless_lost(backends, "the list of block back-ends"),
            nodes=self._unless_lost(
                layer.listed("the block nodes", map(self._node, nodes)), "the list of block nodes"
            ),
            throttle_groups=throttle_groups(layer, self._throttled(nodes)),
            engines=layer.listed("the engines", engines_of(self._process, loops)),
            jobs=self._unless_lost(attempt(lambda: jobs(layer)), "the list of jobs"),
            drain_all_count=attempt(self._drain_all_count),
        )

    def _unless_lost(self, items: tuple[T, ...] | Absent, what: str) -> tuple[T, ...] | Absent:
        """Return a list as it is, but an empty one that could not be read as absent."""
        lost = next((limit for limit in self._layer.limits if limit.what == what), None)
        if lost is None or isinstance(items, Absent) or items:
            return items
        return Absent("not-readable", None, lost.why)

    def _drain_all_count(self) -> int:
        place = self._views.address_of("bdrv_drain_all_count", "block/io.c")
        return self._views.integer(place, 4)

    # Names

    def _name_all(self, backends: tuple[BackendState, ...] | Absent, nodes: list[RawNode]) -> None:
        for state in () if isinstance(backends, Absent) else backends:
            self._names[int(state.backend.address)] = _name_of(state)
        for node in nodes:
            self._names[node.address] = node.name
        for job in raw_jobs(self._layer):
            name = attempt(lambda j=job: job_id(self._layer, j))  # type: ignore[misc]
            self._names[int(job.address_)] = f"job {name}" if isinstance(name, str) else "a job"

    def _throttled(self, nodes: list[RawNode]) -> dict[int, str]:
        """Return who is limited, by the address of its ThrottleGroupMember."""
        users = {}
        for address in self._backend_addresses():
            view = self._views.at(structs.BlockBackendState, address)
            users[int(view.throttle_group_member)] = self._names.get(address, "")
        for node in nodes:
            if node.driver == "throttle" and node.view.opaque:
                users[int(node.view.opaque)] = node.name
        return users

    # Back-ends

    def _backend_addresses(self) -> list[int]:
        return [int(blk.address_) for blk in self._layer.backends()]

    def _backend(self, address: int) -> BackendState:
        views, layer = self._views, self._layer
        blk = views.at(structs.BlockBackendState, address)

        def on_error(member: str, value: int) -> str:
            view = structs.BlockBackendState
            return enumerator(views, view, member, value, "BLOCKDEV_ON_ERROR_")

        def group() -> str | None:
            found = group_of(views, int(blk.throttle_group_member))
            return group_name(views, found) if found else None

        return BackendState(
            backend=layer.backend_of(address),
            device=attempt(lambda: self._process.objects.path(blk.dev) if blk.dev else None),
            event_loop=attempt(lambda: Address(blk.ctx) if blk.ctx else None),
            on_read_error=attempt(lambda: on_error("on_read_error", blk.on_read_error)),
            on_write_error=attempt(lambda: on_error("on_write_error", blk.on_write_error)),
            queued=self._queue(blk.queued_requests),
            queuing_disabled=attempt(lambda: int(blk.disable_request_queuing)),
            throttle_group=attempt(group),
            parked=attempt(lambda: parked_requests(self._process, blk.dev) if blk.dev else None),
        )

    def _queue(self, place: int) -> tuple[Address, ...] | Absent:
        """Return the coroutines in a CoQueue."""
        return self._layer.listed("a queue of coroutines", self._waiters(place))

    def _waiters(self, place: int) -> Iterator[Address]:
        for coroutine in waiters(self._layer, place):
            self._step()
            yield Address(coroutine)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise LimitError("the requests of the block layer", seen=f"more than {MAX_STEPS}")

    # Nodes

    def _node(self, node: RawNode) -> Node:
        layer, view, what = self._layer, node.view, f"node {node.name}"
        return Node(
            address=Address(node.address),
            name=node.name,
            driver=node.driver,
            file=attempt(lambda: layer.file_of(node)),
            event_loop=attempt(lambda: Address(view.aio_context) if view.aio_context else None),
            in_flight=attempt(lambda: view.in_flight),
            quiesce_counter=attempt(lambda: view.quiesce_counter),
            parents=layer.listed(f"the users of {what}", self._parents(node.address)),
            children=layer.listed(f"the children of {what}", self._children(node)),
            tracked=layer.listed(f"the tracked requests of {what}", self._tracked(node)),
            flushes=self._queue(view.flush_queue),
            nbd=attempt(lambda: nbd_connection(layer, node) if is_nbd(node) else None),
            unknown_members=unknown_members(self._views.layouts, BlockDriverState.c_type),
            flush_active=attempt(lambda: view.active_flush_req),
        )

    def _parents(self, node: int) -> Iterator[str]:
        """Yield who works on a node: ``BdrvChild.opaque`` of the edges that lead to it."""
        views = self._views
        head = views.at(structs.BlockDriverStateEdges, node).parents
        for edge in views.elements(head, structs.BdrvChildEdge, "next_parent", limit=MAX_EDGES):
            owner = int(edge.opaque)
            yield self._names.get(owner) or f"the user at {owner:#x}"

    def _children(self, node: RawNode) -> Iterator[tuple[str, str]]:
        views, head = self._views, node.view.children
        for child in views.elements(head, BdrvChild, "next", limit=MAX_EDGES):
            name = views.string_or_none(child.name) or ""
            yield name, self._layer.node(child.bs).name if child.bs else ""

    def _tracked(self, node: RawNode) -> Iterator[TrackedRequest]:
        views, view = self._views, structs.BdrvTrackedRequestState
        for request in views.elements(node.view.tracked_requests, view, "list", limit=MAX_WAITERS):
            self._step()
            yield TrackedRequest(
                address=Address(request.address_),
                kind=enumerator(views, view, "type", request.type_, "BDRV_TRACKED_"),
                offset=request.offset,
                bytes=request.bytes,
                serialising=request.serialising,
                coroutine=Address(request.co),
                waiting_for=tuple(self._chain(request)),
                waiters=tuple(
                    self._layer.keep(
                        "who waits for a request",
                        self._waiters(request.wait_queue),
                    )
                ),
            )

    def _chain(self, request: structs.BdrvTrackedRequestState) -> Iterator[Address]:
        """Yield the requests that one waits for, one by the other; a circle is closed once."""
        seen = {int(request.address_)}
        address = int(request.waiting_for)
        while address:
            self._step()
            yield Address(address)
            if address in seen:
                return
            seen.add(address)
            address = int(self._views.at(structs.BdrvTrackedRequestState, address).waiting_for)


def _name_of(state: BackendState) -> str:
    backend = state.backend
    if isinstance(backend.name, str) and backend.name:
        return backend.name
    if isinstance(state.device, str):
        return state.device
    return f"the back-end at {int(backend.address):#x}"
