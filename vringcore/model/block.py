"""The block layer: back-ends, nodes, requests under way, limits, engines, jobs."""

from __future__ import annotations

import msgspec

from vringcore.model.devices import Backend
from vringcore.model.values import Absent, Hex


class BackendState(msgspec.Struct, frozen=True):
    """A BlockBackend and what it is at.

    :param backend: the back-end itself
    :param device: QOM path of the device model that uses it, None for a job's or an export's
    :param event_loop: address of its AioContext
    :param on_read_error: what a failed read does: ``report``, ``ignore``, ``stop``, ``enospc``
    :param queued: coroutines that wait for a drained section to end (``queued_requests``)
    :param queuing_disabled: ``disable_request_queuing`` (of newer QEMU a count): requests pass a
        drained section
    :param throttle_group: name of the group that limits it, None for none
    :param parked: addresses of requests that failed and that the device keeps until the VM goes on
        (``VirtIOBlock.rq``, ``SCSIRequest.retry``); None for a user that keeps none
    """

    backend: Backend
    device: str | Absent | None
    event_loop: Hex | Absent | None
    on_read_error: str | Absent
    on_write_error: str | Absent
    queued: tuple[Hex, ...] | Absent
    queuing_disabled: int | Absent
    throttle_group: str | Absent | None
    parked: tuple[Hex, ...] | Absent | None = None


class TrackedRequest(msgspec.Struct, frozen=True):
    """A request that a node has under way (``BdrvTrackedRequest``).

    :param kind: ``read``, ``write``, ``discard``, ``truncate``
    :param offset: in the node, in bytes
    :param serialising: no request that overlaps it may run beside it
    :param waiting_for: addresses of the requests that it waits for, the next first, the last of
        the chain last; one that is there twice closes a circle
    :param waiters: coroutines that wait for this request to end
    """

    address: Hex
    kind: str
    offset: int
    bytes: int
    serialising: bool | Absent
    coroutine: Hex
    waiting_for: tuple[Hex, ...] = ()
    waiters: tuple[Hex, ...] = ()


class NbdConnection(msgspec.Struct, frozen=True):
    """An NBD client's connection (``BDRVNBDState``).

    :param state: ``connected``, ``connecting-wait`` (requests wait for a new connection),
        ``connecting-nowait`` (they fail), ``quit``
    :param server: where it is connected to
    :param in_flight: requests that hold a slot
    :param slots: coroutines by slot, of the slots that are taken
    :param waiting: coroutines that wait for a free slot
    :param reconnect_expires_ns: when it gives up, on QEMU_CLOCK_REALTIME; None if no timer runs
    """

    address: Hex
    state: str | Absent
    server: str | Absent | None
    in_flight: int | Absent
    slots: tuple[NbdSlot, ...] | Absent
    waiting: tuple[Hex, ...] | Absent
    reconnect_delay: int | Absent | None
    reconnect_expires_ns: int | Absent | None


class NbdSlot(msgspec.Struct, frozen=True):
    """A request that an NBD client has sent, or is about to (``NBDClientRequest``)."""

    slot: int
    coroutine: Hex
    offset: int | Absent
    receiving: bool | Absent


class Node(msgspec.Struct, frozen=True):
    """A node of the block graph (``BlockDriverState``).

    :param in_flight: the requests it has under way; a request may count more than once
    :param quiesce_counter: above 0 inside a drained section
    :param parents: what works on it: back-ends' and nodes' names, as the edges describe them
    :param children: (edge's name, node's name)
    :param tracked: read, write, discard and truncate requests under way
    :param flushes: coroutines that wait for a flush before theirs
    :param flush_active: a flush is under way; the next one waits for it
    :param unknown_members: those of BlockDriverState that no upstream QEMU has
    """

    address: Hex
    name: str
    driver: str | Absent
    file: str | Absent | None
    event_loop: Hex | Absent | None
    in_flight: int | Absent
    quiesce_counter: int | Absent
    parents: tuple[str, ...] | Absent
    children: tuple[tuple[str, ...], ...] | Absent
    tracked: tuple[TrackedRequest, ...] | Absent
    flushes: tuple[Hex, ...] | Absent
    nbd: NbdConnection | Absent | None = None
    unknown_members: tuple[str, ...] = ()
    flush_active: bool | Absent | None = None


class ThrottleTimer(msgspec.Struct, frozen=True):
    """The timer that lets the next request of one direction (``reads``, ``writes``) pass.

    ``expires_ns`` is on the group's clock, QEMU_CLOCK_REALTIME; None: it is not armed.
    """

    direction: str
    expires_ns: int | None


class ThrottleMember(msgspec.Struct, frozen=True):
    """A disk in a throttle group (``ThrottleGroupMember``).

    :param user: the back-end's or the filter node's name
    :param pending: requests held back, reads and writes (``pending_reqs``)
    :param limits_disabled: above 0: limits do not hold, as in a drained section
    """

    address: Hex
    user: str
    pending: tuple[int, ...] | Absent
    limits_disabled: int | Absent
    timers: tuple[ThrottleTimer, ...] | Absent


class ThrottleGroup(msgspec.Struct, frozen=True):
    """A throttle group (``ThrottleGroup``).

    :param any_timer_armed: for reads and writes: a member's timer is meant to run
    :param tokens: names of the members whose turn it is, for reads and writes
    :param limits: those that are set, by QMP's names (``bps-total``, ``iops-write-max`` …): bytes
        or requests a second; ``iops-size`` in bytes, ``…-max-length`` in seconds
    """

    address: Hex
    name: str | Absent | None
    any_timer_armed: tuple[bool, ...] | Absent
    tokens: tuple[str, ...] | Absent
    limits: dict[str, int] | Absent
    members: tuple[ThrottleMember, ...]


class PoolElement(msgspec.Struct, frozen=True):
    """Work given to a thread pool (``ThreadPoolElement``).

    :param state: ``queued``, ``active`` or ``done`` (its completion has not run)
    :param lwp: the worker thread that is at it, None where none was found
    """

    address: Hex
    state: str
    coroutine: Hex | None
    function: str | Absent
    lwp: int | None = None


class Engine(msgspec.Struct, frozen=True):
    """What an event loop gives its requests to.

    :param kind: ``linux-aio``, ``io-uring`` or ``thread-pool``
    :param in_flight: submitted to the kernel and not returned; of a thread pool: being worked at
    :param in_queue: kept by QEMU, not submitted
    :param blocked: the kernel would take no more
    :param plugged: submission is put off, a count; None where the build keeps none
    :param elements: a thread pool's work
    :param idle_threads: of a thread pool; ``total_threads`` counts them too
    :param unprocessed: completions that QEMU took from the kernel and has not handed on
        (linux-aio's ``event_max - event_idx``)
    """

    kind: str
    address: Hex
    event_loop: Hex
    in_flight: int | Absent
    in_queue: int | Absent
    blocked: bool | Absent | None = None
    plugged: int | Absent | None = None
    elements: tuple[PoolElement, ...] = ()
    idle_threads: int | Absent | None = None
    total_threads: int | Absent | None = None
    unprocessed: int | Absent | None = None


class Job(msgspec.Struct, frozen=True):
    """A job (``struct Job``): a backup, mirror, commit or stream.

    :param status: ``running``, ``paused``, ``ready``, ``standby`` … (QAPI's JobStatus)
    :param pause_count: above 0: asked to pause
    :param busy: its coroutine runs, or waits for what is not the job's own timer
    :param nodes: of a block job: the nodes that it uses
    :param timer_expires_ns: when its own timer wakes it; None if that is not armed
    """

    id: str | Absent | None
    kind: str | Absent
    address: Hex
    status: str | Absent
    coroutine: Hex | Absent | None
    pause_count: int | Absent
    paused: bool | Absent
    busy: bool | Absent
    cancelled: bool | Absent
    nodes: tuple[str, ...] | Absent
    timer_expires_ns: int | Absent | None = None


class BlockState(msgspec.Struct, frozen=True):
    """The whole block layer.

    :param drain_all_count: above 0 while every node is drained (``bdrv_drain_all_count``)
    """

    backends: tuple[BackendState, ...] | Absent
    nodes: tuple[Node, ...] | Absent
    throttle_groups: tuple[ThrottleGroup, ...] | Absent
    engines: tuple[Engine, ...] | Absent
    jobs: tuple[Job, ...] | Absent
    drain_all_count: int | Absent
