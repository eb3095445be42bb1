"""Requests that QEMU itself holds: limits, drained sections, errors, engines, and lost ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.facts import RUNNING, SLOW_NS
from vringcore.diagnose.places import Group, groups
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import counted, device_name, has, queue_name, was
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Line
    from vringcore.model.block import Engine, ThrottleGroup

LEDGER = "every element that QEMU took was given back or is in use"
ENGINES = "QEMU's own queues of requests are served"
RATES = ("-total", "-read", "-write")
"""How the names of the limits end that count a second's requests or bytes."""

LIMITS = "no limit holds requests back for long"


@rule(LIMITS, needs=("requests",), rank=60)
def throttled(facts: Facts) -> Iterator[Finding]:
    """Requests are held back by an I/O limit that was set for the disk.

    From: their coroutines are in a throttle group's queue.
    Confidence: high. It is ``stuck`` only where the oldest has waited for 2 s, or the limit is so
    low that they need as long: below, this is what limits are for.
    Wrong if: the timer that lets the next one pass is lost (see `throttle-timer-lost`).
    Source: block/throttle-groups.c.
    """
    for group in groups(facts, facts.requests_in("throttle")):
        limits = _limits_of(facts, group)
        slow = max(group.oldest or 0, _needed_ns(group, limits)) >= SLOW_NS
        told = _told(limits)
        node = f" of node {group.node}" if group.node else ""
        yield Finding(
            code=throttled.code,
            severity="stuck" if slow else "note" if limits else group.severity,
            confidence="high" if slow or limits else group.confidence,
            summary=f"{group.what} {_is(len(group.old))} held back by the I/O limit{node}{told}"
            + (f"; the oldest began{group.since}" if group.since else ""),
            device=group.device.index,
            evidence=(
                *map(evidence.of_request, group.old[:8]),
                *(Evidence(f"limit {name}, a second", limits[name]) for name in limits),
            ),
            refuted_by=("no limit is set: query-block, or the options of the throttle node",),
            next_steps=("raise the limit if that is not wanted: block_set_io_throttle, qom-set",),
        )


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _told(limits: dict[str, int]) -> str:
    told = [f"{name} {value}" for name, value in limits.items() if name.endswith(RATES)]
    return f" ({', '.join(told)} a second)" if told else ""


def _limits_of(facts: Facts, group: Group) -> dict[str, int]:
    """Return the limits that hold a group's requests back; none where that cannot be read."""
    members = {int(h.last.address) for h in group.requests if h.last is not None}
    limits: dict[str, int] = {}
    for each in facts.throttle_groups:
        named = members & {int(member.address) for member in each.members}
        if named and not isinstance(each.limits, Absent):
            limits.update(each.limits)
    return limits


def _needed_ns(group: Group, limits: dict[str, int]) -> int:
    """Return how long the requests of a group need to pass limits on reads and writes together."""
    sizes = [h.request.request.length for h in group.requests if h.request.request is not None]
    total = sum(size for size in sizes if isinstance(size, int))
    needs = [
        (total if name.startswith("bps") else len(group.requests)) / limit
        for name, limit in limits.items()
        if limit > 0 and name.endswith("total")
    ]
    return int(min(max(needs, default=0.0), 1e9) * 1e9)


@rule(LIMITS, needs=("block.throttle_groups",), rank=40)
def throttle_timer_lost(facts: Facts) -> Iterator[Finding]:
    """Requests are held back by a limit, and no timer is armed that would let them pass.

    From: a throttle group has pending requests of a direction, and none of its members has a timer
    of that direction armed.
    Confidence: medium.
    Wrong if: the timer has fired and its callback was about to run, or the group's lock is held by
    a thread that is arming it.
    Source: block/throttle-groups.c; lock-ups of throttled disks (gitlab.com/qemu-project/qemu
    issue 3144).
    """
    for group in facts.throttle_groups:
        for number_of, direction in enumerate(("read", "write")):
            pending = sum(_pending(member.pending, number_of) for member in group.members)
            if pending and _no_timer(group, direction):
                name = group.name if isinstance(group.name, str) else f"at {int(group.address):#x}"
                yield Finding(
                    code=throttle_timer_lost.code,
                    severity="stuck",
                    confidence="medium",
                    summary=f"{counted(pending, direction)} {was(pending)} held back by throttle"
                    f" group {name}, and no timer is armed to let {_them(pending)} pass",
                    evidence=tuple(
                        evidence.member(
                            f"pending {direction}s of {member.user}",
                            _pending(member.pending, number_of),
                            "ThrottleGroupMember",
                            member.address,
                            f"pending_reqs[{number_of}]",
                        )
                        for member in group.members
                    ),
                    refuted_by=("the timer's bottom half is scheduled in the disk's event loop",),
                    next_steps=("setting the limits again restarts the group's queues",),
                )


def _pending(pending: tuple[int, ...] | Absent, index: int) -> int:
    return pending[index] if isinstance(pending, tuple) and len(pending) > index else 0


def _no_timer(group: ThrottleGroup, direction: str) -> bool:
    """Tell whether it is known that no member's timer of a direction runs."""
    timers = [member.timers for member in group.members]
    if any(isinstance(each, Absent) for each in timers):
        return False
    armed = [t for each in timers for t in many(each) if t.direction.startswith(direction)]
    return bool(armed) and all(timer.expires_ns is None for timer in armed)


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


@rule("no request is held back by a drained section", needs=("requests",), rank=70, effect=True)
def request_held_by_drain(facts: Facts) -> Iterator[Finding]:
    """Requests wait until a drained section of their disk ends.

    From: their coroutines are in ``BlockBackend.queued_requests``.
    Confidence: high.
    Wrong if: the section had just ended and they were about to be resumed.
    Source: block/block-backend.c (``blk_wait_while_drained``).
    """
    for group in groups(facts, facts.requests_in("drain-queue")):
        yield Finding(
            code=request_held_by_drain.code,
            severity="stuck",
            confidence="high" if (group.oldest or 0) >= SLOW_NS else "low",
            summary=f"{group.what} {_wait(len(group.old))} until a drained section of the disk"
            " ends",
            device=group.device.index,
            evidence=tuple(map(evidence.of_request, group.old[:8])),
            refuted_by=("BlockBackend.quiesce_counter is 0",),
            next_steps=("see who drains: a job, a snapshot, a stop of the VM",),
        )


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


@rule("no request is parked after an error", needs=("requests",), rank=55)
def request_parked_after_error(facts: Facts) -> Iterator[Finding]:
    """Requests failed and are kept for another try, though the VM runs.

    From: they are in ``VirtIOBlock.rq`` while the run state is ``running``.
    Confidence: medium.
    Wrong if: the bottom half that tries them again was about to run. A build that tries again by
    a timer of its own (openEuler's ``retry_interval``) parks them so by design.
    Source: hw/block/virtio-blk.c.
    """
    if facts.run_state != RUNNING:
        return
    for group in groups(facts, facts.requests_in("retry-list")):
        yield Finding(
            code=request_parked_after_error.code,
            severity="stuck",
            confidence="medium",
            summary=f"{group.what} failed and {was(len(group.old))} kept for another try, though"
            " the VM runs",
            device=group.device.index,
            evidence=tuple(map(evidence.of_request, group.old[:8])),
            refuted_by=("a second core shows them gone",),
            next_steps=("look for the error in QEMU's log and on the host's storage",),
        )


@rule(ENGINES, needs=("block.engines",), rank=40)
def submission_orphaned(facts: Facts) -> Iterator[Finding]:
    """QEMU keeps requests for linux-aio or io_uring that nothing will submit.

    From: the engine has requests in its queue and none in flight, is not blocked and not plugged,
    and its event loop has no bottom half scheduled while its thread sleeps.
    Confidence: medium.
    Wrong if: a submission was put off by a section that is still on a running stack.
    Source: pve-qemu 3edf740 (short read re-queued, never submitted); QEMU commit f387cac5af.
    """
    for engine in facts.engines:
        queued = number(engine.in_queue)
        if engine.kind == "thread-pool" or not queued or engine.in_flight != 0:
            continue
        if engine.blocked is True or number(engine.plugged) or not _loop_sleeps(facts, engine):
            continue
        c_type = "LinuxAioState" if engine.kind == "linux-aio" else "LuringState"
        yield Finding(
            code=submission_orphaned.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(queued, 'request')} {was(queued)} left in QEMU's queue for"
            f" {engine.kind} with none in flight: nothing will submit {_them(queued)}",
            evidence=(
                evidence.member("queued", queued, c_type, engine.address, "io_q.in_queue"),
                evidence.member("in flight", 0, c_type, engine.address, "io_q.in_flight"),
            ),
            refuted_by=("a bottom half of that engine is scheduled",),
            next_steps=("any new request of the same event loop submits it, too",),
        )


def _loop_sleeps(facts: Facts, engine: Engine) -> bool:
    """Tell whether it is known that an engine's loop sleeps with nothing scheduled."""
    loop = facts.loop(engine.event_loop)
    if loop is None or isinstance(loop.bottom_halves, Absent):
        return False
    thread = facts.thread(loop.lwp)
    scheduled = any("scheduled" in half.flags for half in loop.bottom_halves)
    return thread is not None and stacks.sleeps(thread) and not scheduled


@rule(ENGINES, needs=("block.engines", "threads"), rank=35)
def completion_not_run(facts: Facts) -> Iterator[Finding]:
    """A worker thread has done its work, and the request's completion was never run.

    From: an element of a thread pool is ``done`` while the thread of its event loop sleeps.
    Confidence: medium; a wake-up on its way takes microseconds.
    Wrong if: the completion was landing just then.
    Source: qemu-devel, April 2020, "bdrv_drained_begin deadlock with io-threads"; barriers missing
    in the AIO code (QEMU commit 5710a3e09f).
    """
    for engine in facts.engines:
        done = [element for element in engine.elements if element.state == "done"]
        loop = facts.loop(engine.event_loop)
        thread = None if loop is None else facts.thread(loop.lwp)
        if not done or thread is None or not stacks.sleeps(thread):
            continue
        yield Finding(
            code=completion_not_run.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(len(done), 'request')} {was(len(done))} done by worker threads, and"
            f" thread {thread.lwp}, which should complete {_them(len(done))}, sleeps",
            threads=(thread.lwp,),
            evidence=(
                *(
                    evidence.member("state", "done", "ThreadPoolElement", e.address, "state")
                    for e in done[:8]
                ),
                evidence.of_thread(thread),
            ),
            refuted_by=("a second core shows the element gone",),
            next_steps=("any event in that loop wakes it: a monitor command, a new request",),
        )


@rule(ENGINES, needs=("block.engines",), rank=40)
def worker_not_woken(facts: Facts) -> Iterator[Finding]:
    """Work waits in a thread pool although worker threads are idle.

    From: elements are ``queued`` while ``idle_threads`` is above 0 and no element is active.
    Confidence: medium.
    Wrong if: a worker was just waking up.
    Source: util/thread-pool.c.
    """
    for engine in facts.engines:
        queued = [element for element in engine.elements if element.state == "queued"]
        active = any(element.state == "active" for element in engine.elements)
        idle = number(engine.idle_threads)
        if not queued or not idle or active:
            continue
        yield Finding(
            code=worker_not_woken.code,
            severity="stuck",
            confidence="medium",
            summary=f"{counted(len(queued), 'request')} {_wait(len(queued))} for a worker thread,"
            f" although {idle} {'is' if idle == 1 else 'are'} idle",
            evidence=tuple(
                evidence.member("state", "queued", "ThreadPoolElement", e.address, "state")
                for e in queued[:8]
            ),
            refuted_by=("a second core shows the work under way",),
            next_steps=("a new request of the same event loop wakes a worker",),
        )


@rule(LEDGER, needs=("queues",), rank=30)
def elements_leaked(facts: Facts) -> Iterator[Finding]:
    """QEMU took elements from a queue and dropped them: they will never be given back.

    From: ``last_avail_idx - used_idx`` is greater than ``inuse``. If it is the ring's size, the
    guest has no entry left and is stuck.
    Confidence: high in a split ring that QEMU serves; a thread in the device's code lowers it.
    Wrong if: the core was taken between two steps of one operation. Packed rings count
    descriptors, and vhost leaves QEMU's indices stale: neither is judged.
    Source: qemu-devel, 10 October 2023, "virtio-serial-bus: Discard throttled VirtQueueElement".
    """
    for line in facts.own_lines:
        leaked, popped = line.count("leaked"), line.count("popped")
        size = number(line.queue.size)
        if not leaked or popped is None or not line.is_split or size is None or popped > size:
            continue
        if line.device.broken is True:
            continue  # its indices are what was found wrong
        if isinstance(line.queue.in_order, tuple):
            continue  # finished ones wait in used_elems for those before them
        full = popped == size
        motion = facts.motion_in(line.device)
        yield Finding(
            code=elements_leaked.code,
            severity="stuck" if full else "fault",
            confidence="medium" if motion else "high",
            summary=f"{counted(leaked, 'element')} of {queue_name(line.device, line.queue)}"
            f" {was(leaked)} taken and dropped"
            + ("; the ring is full, and the guest waits for good" if full else ""),
            device=line.device.index,
            queue=line.queue.index,
            evidence=evidence.of_queue(line, "last_avail_idx", "used_idx", "inuse"),
            against=_motion(motion),
            refuted_by=("a second core of the same process shows other numbers",),
            next_steps=("a reset of the device by the guest gives the entries back",),
        )


def _motion(motion: str) -> tuple[Evidence, ...]:
    return (Evidence("what may have been changing it", motion),) if motion else ()


@rule(LEDGER, needs=("queues",), rank=30)
def in_use_count_wrong(facts: Facts) -> Iterator[Finding]:
    """QEMU's count of elements in use cannot be true: more than were taken, or than the ring holds.

    From: ``inuse`` is greater than the ring's size or than ``last_avail_idx - used_idx``.
    Confidence: high; a thread in the device's code lowers it.
    Wrong if: the core was taken between two steps of one operation.
    Source: hw/virtio/virtio.c: the next element then ends in "Virtqueue size exceeded".
    """
    for line in facts.own_lines:
        popped, size = line.count("popped"), number(line.queue.size)
        if not line.is_split or popped is None or size is None:
            continue
        if line.in_use <= min(popped, size):
            continue
        motion = facts.motion_in(line.device)
        yield Finding(
            code=in_use_count_wrong.code,
            severity="fault",
            confidence="low" if motion else "high",
            summary=f"{queue_name(line.device, line.queue)} counts {line.in_use} elements in use,"
            f" but {popped} {was(popped)} taken and not given back",
            device=line.device.index,
            queue=line.queue.index,
            evidence=evidence.of_queue(line, "inuse", "last_avail_idx", "used_idx"),
            against=_motion(motion),
            refuted_by=("a second core of the same process shows other numbers",),
            next_steps=("look for a device model that gave an element back twice",),
        )


@rule(LEDGER, needs=("queues",), rank=65)
def request_not_returned(facts: Facts) -> Iterator[Finding]:
    """QEMU holds elements of a queue, and where they wait could not be found.

    From: ``inuse`` is above 0, equal to what was taken and not given back, and no structure of
    QEMU's that holds them was identified.
    Confidence: low: for how long is not known. While the guest works on the device it is a note.
    Wrong if: they were about to be completed; or the device keeps them by design.
    Source: hw/virtio/virtio.c.
    """
    for line in facts.own_lines:
        if any(held.line is None and held.device is line.device for held in facts.requests):
            continue  # they are known by their coroutines
        held = line.in_use - len(many(line.queue.in_flight))
        unknown = line.count("unidentified")
        held = unknown if unknown is not None else held
        if held <= 0 or line.waits_by_design or not line.is_split:
            continue
        popped = line.count("popped")
        if popped is None or popped < line.in_use:
            continue
        yield Finding(
            code=request_not_returned.code,
            severity="note" if facts.moves(line.device) else "warning",
            confidence="low",
            summary=f"{counted(held, 'request')} of {queue_name(line.device, line.queue)}"
            f" {was(held)} given to the back-end and {has(held)} not returned; where"
            f" {'it waits' if held == 1 else 'they wait'} was not found",
            device=line.device.index,
            queue=line.queue.index,
            evidence=evidence.of_queue(line, "inuse", "last_avail_idx", "used_idx")
            + _fork_counts(line),
            refuted_by=("a second core shows the queue empty or other indices",),
            next_steps=("`vringcore requests CORE --deep` searches QEMU's heap for them",),
        )


def _fork_counts(line: Line) -> tuple[Evidence, ...]:
    """Return a fork's own counters of requests and responses, where its VirtQueue has them."""
    fields = line.queue.fields
    if not isinstance(fields, dict):
        return ()
    names = [name for name in line.queue.unknown_members if isinstance(fields.get(name), int)]
    return tuple(
        evidence.member(
            f"{name} (a member of this build) of {queue_name(line.device, line.queue)}",
            fields[name],
            "VirtQueue",
            line.queue.address,
            name,
        )
        for name in names
    )


@rule("no device was reset with requests inside", needs=("queues",), rank=45)
def reset_with_requests_inside(facts: Facts) -> Iterator[Finding]:
    """The guest has reset a device that still holds requests.

    From: the device status is 0 while a queue has elements in use or the back-end requests in
    flight.
    Confidence: low: a reset waits for them, which takes milliseconds.
    Wrong if: the reset was under way, and went on.
    Source: hw/virtio/virtio.c (``virtio_reset``); hw/block/virtio-blk.c drains the disk first.
    """
    for device in facts.devices:
        status = device.status
        if isinstance(status, Absent) or int(status.value) != 0:
            continue
        lines = [line for line in facts.lines if line.device.index == device.index and line.in_use]
        inside = sum(line.in_use for line in lines)
        in_flight = number(getattr(device.backend, "in_flight", None)) or 0
        if device.ring_owner == "qemu" and (inside or in_flight):
            yield Finding(
                code=reset_with_requests_inside.code,
                severity="stuck",
                confidence="low",
                summary=f"{device_name(device)} was reset while"
                f" {counted(inside or in_flight, 'request')} {was(inside or in_flight)} inside",
                device=device.index,
                evidence=(
                    evidence.member("device status", 0, "VirtIODevice", device.address, "status"),
                    *(e for line in lines for e in evidence.of_queue(line, "inuse")),
                ),
                refuted_by=("a second core shows the reset done",),
                next_steps=("see which thread drains the disk, and for what",),
            )


RULES = (
    throttled,
    throttle_timer_lost,
    request_held_by_drain,
    request_parked_after_error,
    submission_orphaned,
    completion_not_run,
    worker_not_woken,
    elements_leaked,
    in_use_count_wrong,
    request_not_returned,
    reset_with_requests_inside,
)
