"""Threads that wait: for requests to end, for locks, for each other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.drains import Drain, drains, in_use_of, requests_of
from vringcore.diagnose.facts import SLOW_NS
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number
from vringcore.diagnose.waits import wait_graph
from vringcore.diagnose.words import counted, device_name, thread_name
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.threads import Thread

DRAINS = "no thread waits for a drain"
LOCKS = "no thread waits for another in a circle"
BIG_LOCK = "the main loop serves the monitor"


def _inside(facts: Facts, drain: Drain) -> int:
    """Return how many requests a drain waits for, as far as it is known."""
    found = sum(len(requests_of(facts, disk)) for disk in drain.disks)
    if found:
        return found
    inside = sum(disk.in_flight or 0 for disk in drain.disks)
    return inside or sum(in_use_of(facts, disk) for disk in drain.disks)


def _summary(facts: Facts, drain: Drain) -> str:
    purpose = f", {drain.purpose}," if drain.purpose else ""
    whom = drain.whom
    count = _inside(facts, drain)
    if not whom:
        return f"the {thread_name(drain.thread)}{purpose} waits in {drain.function}() for requests"
    what = f": {counted(count, 'request')} inside" if count else ""
    return f"the {thread_name(drain.thread)}{purpose} waits for the drain of {whom}{what}"


def _drained(facts: Facts, drain: Drain) -> tuple[Evidence, ...]:
    found = [evidence.of_thread(drain.thread, *stacks.DRAINS, *dict(stacks.PURPOSES))]
    for disk in drain.disks:
        if disk.backend is None:
            found += [
                each
                for line in facts.lines
                if line.device.index == disk.device.index and line.in_use
                for each in evidence.of_queue(line, "inuse", "last_avail_idx", "used_idx")
            ]
            continue
        for name, c_name in (("in_flight", "in_flight"), ("quiesce_counter", "quiesce_counter")):
            value = number(getattr(disk.backend, name))
            if value is not None:
                what = f"{name} of the back-end of {device_name(disk.device)}"
                found.append(
                    evidence.member(what, value, "BlockBackend", disk.backend.address, c_name)
                )
    return tuple(found)


def _status(facts: Facts) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(f"status of the {each.direction} migration", each.status)
        for each in facts.migrations
        if isinstance(each.status, str)
    )


def _sure(facts: Facts, drain: Drain) -> str:
    """Return the confidence: by whether the disk is known, and how long its requests wait."""
    ages = [h.age or 0 for disk in drain.disks for h in requests_of(facts, disk)]
    sure = drain.certain and drain.function in stacks.DRAINS
    return "high" if sure and ages and max(ages) >= SLOW_NS else "medium"


def _of_migration(drain: Drain) -> bool:
    return drain.thread.role == "migration"


@rule(DRAINS, needs=("threads",), rank=10)
def migration_waits_for_drain(facts: Facts) -> Iterator[Finding]:
    """The migration does not end because a disk's requests do not.

    From: the migration thread is in a drain; the disks are those that are drained and have
    requests in flight.
    Confidence: high where one disk is drained and its oldest request has waited for 2 s; else
    medium, since a drain that goes on looks the same for a moment, as it does where the program is
    stripped and the function that drains has no name.
    Wrong if: the drain was about to end, or waits for something else than a guest's requests: a
    job, an export.
    Source: incident "live migration hangs in bdrv_drained_begin, from virtio_blk_data_plane_stop".
    """
    for drain in drains(facts):
        if _of_migration(drain):
            yield Finding(
                code=migration_waits_for_drain.code,
                severity="stuck",
                confidence=_sure(facts, drain),
                summary=_summary(facts, drain),
                device=drain.disks[0].device.index if len(drain.disks) == 1 else None,
                threads=(drain.thread.lwp,),
                evidence=(*_drained(facts, drain), *_status(facts)),
                refuted_by=("a second core shows the migration thread elsewhere",),
                next_steps=(
                    "free the requests at the back-end, and the migration goes on by itself",
                    "if that cannot be done, make the back-end fail them: close its connection",
                ),
            )


@rule(DRAINS, needs=("threads",), rank=12)
def drain_waits_for_requests(facts: Facts) -> Iterator[Finding]:
    """A thread other than the migration's waits until a disk's requests have ended.

    From: as in `migration-waits-for-drain`.
    Confidence: as there.
    Wrong if: the drain was about to end.
    Source: qemu-devel, April 2020, "bdrv_drained_begin deadlock with io-threads"; QEMU commit
    6690302b84.
    """
    for drain in drains(facts):
        if not _of_migration(drain):
            yield Finding(
                code=drain_waits_for_requests.code,
                severity="stuck",
                confidence=_sure(facts, drain),
                summary=_summary(facts, drain),
                device=drain.disks[0].device.index if len(drain.disks) == 1 else None,
                threads=(drain.thread.lwp,),
                evidence=_drained(facts, drain),
                refuted_by=("a second core shows that thread elsewhere",),
                next_steps=("free the requests at the back-end, and the drain ends by itself",),
            )


@rule(LOCKS, needs=("locks",), rank=1)
def deadlock(facts: Facts) -> Iterator[Finding]:
    """Threads, coroutines or locks wait for each other in a circle.

    From: the wait-for graph: owners of locks from the locks themselves, waiters from their stacks.
    Confidence: high.
    Wrong if: an owner noted in a lock is out of date: it was being unlocked.
    Source: incidents of a migration that hangs with the monitor dead (AioContext lock and BQL);
    gitlab.com/qemu-project/qemu issues 780 and 3144; Proxmox bug 6810.
    """
    graph = wait_graph(facts)
    labels = {node.id: node.label for node in graph.nodes}
    for cycle in graph.cycles:
        edges = list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))
        proof = [
            each
            for edge in graph.edges
            if (edge.waiter, edge.waits_for) in edges
            for each in edge.evidence
        ]
        lwps = [int(each.partition(":")[2]) for each in cycle if each.startswith("thread:")]
        stacks_ = [evidence.of_thread(t) for t in map(facts.thread, lwps) if t is not None]
        yield Finding(
            code=deadlock.code,
            severity="stuck",
            confidence="high",
            summary=f"deadlock: {_round(cycle, labels)}",
            threads=tuple(lwps),
            evidence=(*proof, *stacks_),
            refuted_by=("a second core shows one of them elsewhere",),
            next_steps=(
                "it does not end by itself: the VM must be killed; keep this core for the defect",
            ),
        )


def _round(cycle: tuple[str, ...], labels: dict[str, str]) -> str:
    """Return a circle in words, from a thread on: ``a waits for x, held by b, which waits …``."""
    start = next((i for i, each in enumerate(cycle) if each.startswith("thread:")), 0)
    ids = (*cycle[start:], *cycle[:start], cycle[start])
    text = labels.get(ids[0], ids[0])
    for before, each in itertools.pairwise(ids):
        label = labels.get(each, each)
        if before.startswith("lock:"):
            text += f", held by {label}"
        else:
            text += f"{'' if before == ids[0] else ', which'} waits for {label}"
    return text


@rule(BIG_LOCK, needs=("threads",), rank=14)
def main_loop_blocked_with_bql(facts: Facts) -> Iterator[Finding]:
    """The main loop is blocked inside a call while it holds QEMU's big lock.

    From: the stack of the main loop: not in its own wait, and blocked in a system call, a nested
    loop, or a lock other than the big one. It runs callbacks with the big lock held.
    Confidence: medium where others wait for the big lock, or all vCPUs are idle; else a warning:
    callbacks read files and take locks all the time, if only for a moment.
    Wrong if: the call was about to return.
    Source: util/main-loop.c; incidents of monitors that no longer answer.
    """
    lock = facts.big_lock()
    for thread in facts.with_role("main-loop"):
        if stacks.sleeps(thread) or stacks.waits_for_big_lock(thread, lock):
            continue
        waits = stacks.blocking(thread)
        owner = None if lock is None else number(lock.owner)
        if not waits or stacks.drain_of(thread) or owner not in (None, thread.lwp):
            continue
        if lock is not None and lock.owner is None:
            continue  # nobody holds it
        waited_for = facts.guest_idles or (lock is not None and bool(lock.waiters))
        yield Finding(
            code=main_loop_blocked_with_bql.code,
            severity="stuck" if waited_for else "note" if facts.is_moving else "warning",
            confidence="medium" if waited_for else "low",
            summary=f"the main loop ({thread.lwp}) is blocked in {waits} with QEMU's big lock held:"
            " the monitor, and devices without I/O threads, are not served",
            threads=(thread.lwp,),
            evidence=(evidence.of_thread(thread), *_call(thread), *_owner(facts)),
            refuted_by=("a second core shows the main loop elsewhere",),
            next_steps=(
                f"`vringcore backtrace CORE --thread {thread.lwp}` shows that call's arguments",
                "then look at what is behind it: a file's storage, a server, a lock",
            ),
        )


def _call(thread: Thread) -> tuple[Evidence, ...]:
    call = thread.system_call
    if call is None or isinstance(call, Absent) or call.name is None:
        return ()
    return (Evidence(f"system call of thread {thread.lwp}", call.name),)


def _owner(facts: Facts) -> tuple[Evidence, ...]:
    lock = facts.big_lock()
    if lock is None or number(lock.owner) is None:
        return ()
    path = "__data.__owner"
    return (
        evidence.member("owner of the big lock", lock.owner, "pthread_mutex_t", lock.address, path),
    )


@rule(BIG_LOCK, needs=("threads",), rank=25, effect=True)
def main_loop_waits_for_bql(facts: Facts) -> Iterator[Finding]:
    """The main loop waits for QEMU's big lock: the monitor does not answer.

    From: the main loop's system call is a futex wait for the big lock.
    Confidence: high where the lock's owner is blocked itself; low else, and a note where the owner
    is known to be at work, since the lock changes hands all the time.
    Wrong if: the owner was about to let it go.
    Source: incidents of monitors that no longer answer while a migration drains disks.
    """
    lock = facts.big_lock()
    owner = facts.thread(number(lock.owner)) if lock is not None else None
    if owner is None:
        holders = [d.thread for d in drains(facts) if d.thread.role == "migration"]
        owner = holders[0] if len(holders) == 1 and lock is None else None
    for thread in facts.with_role("main-loop"):
        if not stacks.waits_for_big_lock(thread, lock):
            continue
        waits = stacks.blocking(owner) if owner is not None else ""
        by = f", which the {thread_name(owner)} holds" if owner is not None and lock else ""
        where = f", blocked in {waits}" if by and waits else ""
        yield Finding(
            code=main_loop_waits_for_bql.code,
            severity="stuck" if waits else "note" if by or facts.is_moving else "warning",
            confidence="high" if waits and lock else "medium" if waits else "low",
            summary=f"the main loop ({thread.lwp}) waits for QEMU's big lock{by}{where}: the"
            " monitor does not answer",
            threads=(thread.lwp,) + ((owner.lwp,) if owner is not None else ()),
            evidence=(evidence.of_thread(thread), *_call(thread), *_owner(facts)),
            refuted_by=("a second core shows the main loop elsewhere",),
            next_steps=("see what the owner of the lock waits for",),
        )


@rule(
    "every coroutine that was scheduled is entered",
    needs=("event-loops", "threads", "stillness"),
    rank=30,
)
def wakeup_lost(facts: Facts) -> Iterator[Finding]:
    """An event loop has something to run, and its thread sleeps without a time-out.

    From: a bottom half that is scheduled, or a coroutine that is to be entered, in an event loop
    whose thread is in its own wait and was not told of it (``notified`` is false).
    Confidence: medium.
    Wrong if: the eventfd was written and the thread had not run yet.
    Source: Launchpad bug 1805256, QEMU commit 5710a3e09f (barriers missing in aio_notify()).
    """
    for loop in facts.loops:
        thread = facts.thread(loop.lwp)
        if thread is None or not stacks.sleeps(thread) or loop.notified is not False:
            continue
        halves = [
            half
            for half in many(loop.bottom_halves)
            if "scheduled" in half.flags and not {"idle", "deleted"} & set(half.flags)
        ]
        entered = many(loop.scheduled)
        if not halves and not entered:
            continue
        name = loop.name if isinstance(loop.name, str) else f"{int(loop.address):#x}"
        yield Finding(
            code=wakeup_lost.code,
            severity="stuck",
            confidence="medium",
            summary=f"event loop {name} has {counted(len(halves) + len(entered), 'callback')} to"
            f" run, and its thread ({thread.lwp}) sleeps and was not woken",
            threads=(thread.lwp,),
            evidence=(
                *(
                    evidence.member("flags", " ".join(h.flags), "QEMUBH", h.address, "flags")
                    for h in halves[:4]
                ),
                evidence.member("notified", False, "AioContext", loop.address, "notified"),
                evidence.of_thread(thread),
            ),
            refuted_by=("the eventfd of that loop has a counter above 0 (/proc/PID/fdinfo)",),
            next_steps=("anything that wakes the loop frees it: a monitor command, a new request",),
        )


RULES = (
    migration_waits_for_drain,
    drain_waits_for_requests,
    deadlock,
    main_loop_blocked_with_bql,
    main_loop_waits_for_bql,
    wakeup_lost,
)
