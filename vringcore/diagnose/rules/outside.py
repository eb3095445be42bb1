"""Requests that QEMU has given away, and that have not come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.places import Group, client_of, groups, server_name, server_of
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number, text
from vringcore.diagnose.words import counted, has, thread_name, was
from vringcore.model.findings import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Held

CLEAR = "no request waits for the kernel or a server for long"

SHOWN = 8
"""Requests that are listed as evidence; of more, the oldest."""

KERNEL_ENGINES = {"linux-aio": "linux-aio", "io-uring": "io_uring"}


@rule(CLEAR, needs=("requests",), rank=50)
def request_not_returned_by_kernel(facts: Facts) -> Iterator[Finding]:
    """QEMU gave requests to the host's kernel, and the kernel has not returned them.

    From: the request's coroutine waits for linux-aio or io_uring, whose control block says that it
    was submitted and has no result; or a worker thread of QEMU's is inside the system call that
    serves it.
    Confidence: high once the oldest waits for 30 s, medium from 2 s on; with an age that is not
    known it is a warning only, since any busy disk looks like this for a moment.
    Wrong if: the kernel has returned it and QEMU has not reaped it yet (the ring shared with the
    kernel is usually not in a core), or the storage is merely slow.
    Source: incident "kernel never returned the I/O" of a hung migration; block/linux-aio.c,
    block/io_uring.c, util/thread-pool.c.
    """
    submitted = [
        h for place in KERNEL_ENGINES for h in facts.requests_in(place, having="submitted")
    ]
    submitted = [h for h in submitted if h.last and not h.last.detail.startswith("queued")]
    in_calls = [h for h in facts.requests_in("thread-pool") if _in_call(h)]
    for group in groups(facts, [*submitted, *in_calls]):
        engine = _engine(group)
        yield Finding(
            code=request_not_returned_by_kernel.code,
            severity=group.severity,
            confidence=group.confidence,
            summary=f"{group.what} {was(len(group.old))} given to the kernel ({engine})"
            f"{group.since} and {has(len(group.old))} not been returned{group.unknown_age}",
            device=group.device.index,
            threads=_workers(group),
            evidence=_file(facts, group) + _listed(group) + _kernel_counts(facts, group),
            against=_moving(group),
            refuted_by=(
                "the kernel shows no I/O in flight on the file's device: /sys/block/*/inflight",
                "a second core, seconds later, shows other requests",
            ),
            next_steps=(
                *_ages(group),
                "look at the host's storage under that file: dmesg, iostat, a network's server",
                "on the host, `cat /proc/PID/task/*/stack` shows where the kernel waits",
            ),
        )


def _file(facts: Facts, group: Group) -> tuple[Evidence, ...]:
    node = facts.node(group.node)
    file = "" if node is None else text(node.file)
    return (Evidence(f"file of node {group.node}", file),) if file else ()


def _in_call(held: Held) -> bool:
    last = held.last
    return last is not None and last.thread is not None and last.thread.result is None


def _engine(group: Group) -> str:
    last = group.old[0].last
    if last is None:
        return "unknown"
    if last.thread is None:
        return KERNEL_ENGINES.get(last.place, last.place)
    calls = sorted({h.last.thread.call for h in group.old if h.last and h.last.thread})
    return f"worker threads in {', '.join(calls)}"


def _workers(group: Group) -> tuple[int, ...]:
    return tuple(sorted({h.last.thread.lwp for h in group.old if h.last and h.last.thread}))


def _listed(group: Group) -> tuple[Evidence, ...]:
    oldest = sorted(group.old, key=lambda held: -(held.age or 0))
    return tuple(map(evidence.of_request, oldest[:SHOWN]))


def _kernel_counts(facts: Facts, group: Group) -> tuple[Evidence, ...]:
    kinds = {held.last.place for held in group.old if held.last is not None}
    found = []
    for engine in facts.engines:
        if engine.kind in kinds and number(engine.in_flight):
            c_type = {"linux-aio": "LinuxAioState", "io-uring": "LuringState"}.get(engine.kind)
            what = f"requests that {engine.kind} has submitted"
            if c_type is not None:
                path = "io_q.in_flight"
                found.append(evidence.member(what, engine.in_flight, c_type, engine.address, path))
    return tuple(found)


def _ages(group: Group) -> tuple[str, ...]:
    """Return how to learn how long requests have waited, where the core does not tell."""
    if not group.unknown_age:
        return ()
    return (
        "if the VM is still there: `vringcore capture PID`, and `why` on that tells their ages",
    )


def _moving(group: Group) -> tuple[Evidence, ...]:
    if not group.moves:
        return ()
    what = "requests of the same place that began long after the oldest"
    return (Evidence(what, group.moves),)


@rule(CLEAR, needs=("requests",), rank=50)
def request_not_answered_by_nbd_server(facts: Facts) -> Iterator[Finding]:
    """QEMU sent requests to an NBD server, and their replies have not been dealt with.

    From: the request holds a slot of a connected NBD client, is sent in full, and its coroutine
    waits for the reply.
    Confidence: high once the oldest waits for 30 s, medium from 2 s on; with an age that is not
    known it is a warning only.
    Wrong if: the reply has arrived and waits in QEMU's socket or for the coroutine that reads it
    (``receive_mutex``): then the server did answer. A slow server looks the same for a while.
    Source: incident "live migration hangs, NBD server well by hand tests"; block/nbd.c.
    """
    waiting = facts.requests_in("nbd", having="sent, waits for the reply")
    for group in groups(facts, waiting):
        busy = _reader_is_busy(facts, group)
        place = f"the NBD server {server_name(facts, group.node)}"
        yield Finding(
            code=request_not_answered_by_nbd_server.code,
            severity="note" if busy else group.severity,
            confidence="low" if busy else group.confidence,
            summary=f"{group.what} {was(len(group.old))} sent to {place}{group.since} and"
            + (
                f" no reply has been read: {busy}"
                if busy
                else f" {has(len(group.old))} not been answered{group.unknown_age}"
            ),
            device=group.device.index,
            evidence=_server(facts, group.node) + _listed(group) + _connection(facts, group.node),
            against=_moving(group) + _receiving(facts, group),
            refuted_by=(
                "the server's own record says that it has replied to these offsets",
                "a second core, seconds later, shows other requests",
                "ss -xp or ss -tp shows unread bytes (Recv-Q) in QEMU's socket to the server",
            ),
            next_steps=(
                *_ages(group),
                "ask the server which of these requests it holds, by their offsets",
                "look at the connection on both ends: ss -tpi, Send-Q and Recv-Q",
            ),
        )


def _reader_is_busy(facts: Facts, group: Group) -> str:
    """Return why the thread that would read the replies does not, "" if it does or may."""
    node = facts.node(group.node)
    loop = facts.loop(number(node.event_loop)) if node is not None else None
    thread = facts.thread(loop.lwp) if loop is not None else None
    if thread is None and loop is None and group.device.iothread is None:
        thread = next(iter(facts.with_role("main-loop")), None)
    if thread is None or "aio_poll" in stacks.names(thread):
        return ""
    waits = stacks.blocking(thread)
    return f"the {thread_name(thread)}, which would read it, is blocked in {waits}" if waits else ""


def _server(facts: Facts, name: str) -> tuple[Evidence, ...]:
    server = server_of(facts, name)
    return (Evidence(f"NBD server of node {name}", server),) if server else ()


def _connection(facts: Facts, name: str) -> tuple[Evidence, ...]:
    client = client_of(facts.node(name))
    if client is None or not isinstance(client.state, str):
        return ()
    found = [
        evidence.member(
            f"connection of node {name}", client.state, "BDRVNBDState", client.address, "state"
        )
    ]
    if number(client.in_flight) is not None:
        what = f"requests that hold a slot of node {name}"
        found.append(
            evidence.member(what, client.in_flight, "BDRVNBDState", client.address, "in_flight")
        )
    return tuple(found)


def _receiving(facts: Facts, group: Group) -> tuple[Evidence, ...]:
    client = client_of(facts.node(group.node))
    slots = () if client is None else many(client.slots)
    busy = sum(slot.receiving is True for slot in slots)
    # NBDClientRequest.receiving is set from sending on; that all wait is what is expected.
    if not busy or busy == len(slots):
        return ()
    return (Evidence("slots whose reply is being received", busy),)


@rule("the NBD clients are connected", needs=("block.nodes",), rank=45)
def nbd_connection_lost(facts: Facts) -> Iterator[Finding]:
    """An NBD client has lost its server, and requests wait for it to come back.

    From: the client's state is ``connecting-wait`` while requests hold slots or wait for one.
    Confidence: high.
    Wrong if: the connection was just being made again as the core was taken.
    Source: block/nbd.c (``reconnect-delay``).
    """
    for node in facts.nodes:
        client = client_of(node)
        if client is None or client.state != "connecting-wait":
            continue
        waiting = (number(client.in_flight) or 0) + len(many(client.waiting))
        if not waiting:
            continue
        timer = number(client.reconnect_expires_ns)
        until = (
            "; it gives up when its reconnect timer expires"
            if timer is not None
            else "; no timer ends that"
        )
        yield Finding(
            code=nbd_connection_lost.code,
            severity="stuck",
            confidence="high",
            summary=f"{counted(waiting, 'request')} of node {node.name} {_wait(waiting)} for its"
            f" NBD server to come back{until}",
            evidence=_server(facts, node.name) + _connection(facts, node.name),
            refuted_by=("a second core shows the client connected",),
            next_steps=("start the server again, or look why it cannot be reached",),
        )


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


@rule(
    "no request waits for a slot of a dead NBD connection",
    needs=("block.nodes", "stillness"),
    rank=40,
)
def nbd_waiters_never_woken(facts: Facts) -> Iterator[Finding]:
    """Requests wait for a free slot of an NBD client that will never wake them.

    From: coroutines in ``free_sema`` while the client is not connected and no reconnect timer runs,
    or while it is connected and slots are free.
    Confidence: medium.
    Wrong if: they have been scheduled and not entered yet.
    Source: QEMU commit 6690302b84 ("drain never ends after the NBD server died").
    """
    for node in facts.nodes:
        client = client_of(node)
        if client is None or not many(client.waiting):
            continue
        state, slots = client.state, client.slots
        taken = len(slots) if isinstance(slots, tuple) else None
        dead = state in ("connecting-nowait", "quit") and client.reconnect_expires_ns is None
        if not dead and not (state == "connected" and taken == 0):
            continue
        count = len(many(client.waiting))
        yield Finding(
            code=nbd_waiters_never_woken.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(count, 'request')} of node {node.name} {_wait(count)} for a slot of"
            f" its NBD client, which is {state}, and nothing will wake {_them(count)}",
            evidence=_connection(facts, node.name),
            refuted_by=("those coroutines are in scheduled_coroutines of their event loop",),
            next_steps=("QEMU commit 6690302b84 wakes them: see whether this build has it",),
        )


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


RULES = (
    request_not_returned_by_kernel,
    request_not_answered_by_nbd_server,
    nbd_connection_lost,
    nbd_waiters_never_woken,
)
