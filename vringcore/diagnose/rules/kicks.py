"""Requests that the guest published and QEMU has not taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import number
from vringcore.diagnose.words import counted, device_name, has, queue_name, thread_name
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Line
    from vringcore.model.loops import EventLoop, Handler
    from vringcore.model.threads import Thread

CLEAR = "QEMU has taken what the guest published"

HOLDS_OFF = ("virtio-net", "virtio-crypto")
"""Models that switch a queue's notifications off by design, until a timer or bottom half runs."""


def _unseen(facts: Facts) -> Iterator[tuple[Line, int]]:
    """Yield the queues with elements published that QEMU should have taken, and how many."""
    if facts.is_incoming:
        return
    for line in facts.live_lines:
        unseen, size = line.count("unseen"), number(line.queue.size)
        if not unseen or line.waits_by_design or line.device.broken is True:
            continue
        if line.is_held_back:
            continue
        if size is not None and unseen <= size:
            yield line, unseen


def _home(facts: Facts, line: Line) -> tuple[EventLoop, Handler, Thread | None] | None:
    """Return what watches the kicks of a queue: a live handler, its loop, and the loop's thread."""
    for loop, handler in facts.handlers.get(line.key, []):
        if handler.live:
            return loop, handler, facts.thread(loop.lwp)
    return None


def _published(line: Line, unseen: int) -> str:
    what = "chain" if line.queue.ring == "packed" else "request"
    return (
        f"the guest has published {counted(unseen, what)} in"
        f" {queue_name(line.device, line.queue)} that QEMU has not taken"
    )


def _indices(line: Line) -> tuple[Evidence, ...]:
    return evidence.of_guest(line, "avail_idx", "avail_event") + evidence.of_queue(
        line, "last_avail_idx", "shadow_avail_idx", "notification"
    )


@rule(CLEAR, needs=("queues", "guest", "event-loops"), rank=20)
def queue_notifications_left_off(facts: Facts) -> Iterator[Finding]:
    """The guest was told not to kick, nobody polls the queue, and requests wait in it.

    From: ``VirtQueue.notification`` is false, the event loop of the queue does not poll busily,
    and ``avail.idx`` is ahead of ``last_avail_idx``.
    Confidence: high where the loop's thread is known to sleep, else medium.
    Wrong if: the queue's handler was running. virtio-net switches notifications off by design
    while a transmit timer or bottom half runs, so it is not judged.
    Source: RHEL-3934, pve-qemu 6b7c181, 2a49e66 and 4ff04bd: guest I/O stops after backup, mirror
    or hotplug with an I/O thread; stop and cont cures it.
    """
    for line, unseen in _unseen(facts):
        if line.queue.notification is not False or line.device.kind in HOLDS_OFF:
            continue
        watched = facts.handlers.get(line.key, [])
        if any(loop.polling is not False for loop, _ in watched):
            continue  # it polls, or nobody knows
        home = _home(facts, line)
        thread = home[2] if home is not None else None
        if thread is not None and not stacks.sleeps(thread):
            continue
        yield Finding(
            code=queue_notifications_left_off.code,
            severity="stuck",
            confidence="high" if thread is not None else "medium",
            summary=f"{_published(line, unseen)}: notifications of the queue are switched off, and"
            " nothing polls it",
            device=line.device.index,
            queue=line.queue.index,
            threads=(thread.lwp,) if thread is not None else (),
            evidence=_indices(line)
            + tuple(
                evidence.member(
                    "the event loop polls", False, "AioContext", loop.address, "poll_started"
                )
                for loop, _ in watched[:1]
            ),
            refuted_by=("a second core, seconds later, shows last_avail_idx moved",),
            next_steps=("`stop` and `cont` in the monitor bring such a queue back",),
        )


@rule(CLEAR, needs=("queues", "guest", "event-loops", "threads"), rank=25)
def kick_not_seen(facts: Facts) -> Iterator[Finding]:
    """Requests wait in a queue that QEMU is ready to serve: the kick did not reach it.

    From: ``avail.idx`` is ahead of ``last_avail_idx``, notifications are on, a live handler watches
    the queue's ioeventfd, and the thread of its event loop sleeps.
    Confidence: medium while all vCPUs are idle; a warning where that is not known, a note while
    one runs: a busy guest has just published something in most cores.
    Wrong if: the kick is under way: the counter of the eventfd is in the kernel, and no core has
    it.
    Source: virtio-win issues 623 and 756, pull request 1150 (a driver that did not kick); KVM's
    ioeventfd.
    """
    for line, unseen in _unseen(facts):
        home = _home(facts, line)
        if line.queue.notification is not True or home is None:
            continue
        _, handler, thread = home
        if thread is None or not stacks.sleeps(thread):
            continue
        motion = facts.motion_in(line.device)
        if facts.guest_works:
            motion = motion or "a vCPU runs: the kick may be on its way"
        yield Finding(
            code=kick_not_seen.code,
            severity="note" if motion else "stuck" if facts.guest_idles else "warning",
            confidence="medium" if facts.guest_idles and not motion else "low",
            summary=f"{_published(line, unseen)}: QEMU waits for a kick that the guest did not"
            " give, or that was lost on the way",
            device=line.device.index,
            queue=line.queue.index,
            threads=(thread.lwp,),
            evidence=(
                *_indices(line),
                Evidence("file descriptor of its ioeventfd, watched", handler.fd),
                evidence.of_thread(thread),
            ),
            against=(Evidence("what may have been changing it", motion),) if motion else (),
            refuted_by=(
                "/proc/PID/fdinfo of that descriptor shows eventfd-count above 0: it is there",
            ),
            next_steps=(
                "look at the guest's driver: what it last wrote to avail.idx, and when it notifies",
            ),
        )


@rule(CLEAR, needs=("queues", "guest", "event-loops", "stillness"), rank=25)
def queue_not_watched(facts: Facts) -> Iterator[Finding]:
    """Requests wait in a queue whose kicks no event loop watches for.

    From: ``avail.idx`` is ahead of ``last_avail_idx``, ``host_notifier_enabled`` is set, and there
    is no live handler for the queue's ioeventfd.
    Confidence: medium; low while the disk is in a drained section, which takes the handlers away
    for as long as it lasts.
    Wrong if: the device is being stopped, or the handler was about to be attached again.
    Source: hw/virtio/virtio.c, util/aio-posix.c; a race in the list of handlers (QEMU commit
    e62da98527).
    """
    known = any(not isinstance(loop.handlers, Absent) for loop in facts.loops)
    for line, unseen in _unseen(facts):
        fields = line.queue.fields
        enabled = fields.get("host_notifier_enabled") if isinstance(fields, dict) else None
        if not known or _home(facts, line) is not None or enabled is False:
            continue
        if enabled is None and not facts.handlers.get(line.key):
            continue  # a queue whose kicks are not ioeventfds has no handler by design
        drained = number(getattr(line.device.backend, "quiesce_counter", None))
        yield Finding(
            code=queue_not_watched.code,
            severity="stuck",
            confidence="low" if drained else "medium",
            summary=f"{_published(line, unseen)}: no event loop watches for its kicks"
            + ("; its disk is in a drained section" if drained else ""),
            device=line.device.index,
            queue=line.queue.index,
            evidence=_indices(line),
            refuted_by=("a second core shows a handler for the queue's ioeventfd",),
            next_steps=("see what stopped or drained the device, and whether that has ended",),
        )


@rule(CLEAR, needs=("queues", "guest", "event-loops", "threads"), rank=35, effect=True)
def queue_thread_blocked(facts: Facts) -> Iterator[Finding]:
    """Requests wait in queues whose thread is busy elsewhere.

    From: ``avail.idx`` is ahead of ``last_avail_idx``, and the thread of the event loop that
    watches the queue's kicks is not in that loop's own wait, but inside a call.
    Confidence: medium where the thread waits for a lock, a drain or the kernel; low else.
    Wrong if: the thread was at work and would have come to the queue next.
    Source: QEMU serves queues from one thread at a time (docs/devel/multiple-iothreads).
    """
    blocked: dict[tuple[int, int], list[tuple[Line, int]]] = {}
    for line, unseen in _unseen(facts):
        home = _home(facts, line)
        if home is not None and home[2] is not None and not stacks.sleeps(home[2]):
            blocked.setdefault((home[2].lwp, line.device.index), []).append((line, unseen))
    for (lwp, _), lines in blocked.items():
        thread = facts.thread(lwp)
        if thread is None:
            continue
        device = lines[0][0].device
        total = sum(unseen for _, unseen in lines)
        waits = stacks.blocking(thread)
        yield Finding(
            code=queue_thread_blocked.code,
            severity="stuck" if waits else "note",
            confidence="medium" if waits else "low",
            summary=f"{counted(total, 'request')} of {device_name(device)} {has(total)} not been"
            f" taken: the {thread_name(thread)} that serves"
            f" {'its queue' if len(lines) == 1 else 'its queues'} is"
            f" {f'blocked in {waits}' if waits else 'at work elsewhere'}",
            device=device.index,
            threads=(lwp,),
            evidence=(
                *(e for line, _ in lines[:4] for e in _indices(line)),
                evidence.of_thread(thread),
            ),
            refuted_by=("a second core shows that thread elsewhere",),
            next_steps=(f"`vringcore backtrace CORE --thread {lwp}` shows what it waits for",),
        )


RULES = (queue_notifications_left_off, kick_not_seen, queue_not_watched, queue_thread_blocked)
