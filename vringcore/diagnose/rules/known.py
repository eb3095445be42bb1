"""Known defects of QEMU that look like what was found: hints, with the commit that mended each.

Whether a build has the commit cannot be told from a version number: distributions carry fixes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import stacks
from vringcore.diagnose.rule import Rule, rule
from vringcore.diagnose.rules import inside, kicks, ledger, outside, waiting
from vringcore.diagnose.values import number
from vringcore.diagnose.waits import wait_graph
from vringcore.diagnose.words import queue_name
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.threads import Thread

CLEAR = "nothing looks like a known defect of QEMU"


def _hint(facts: Facts, of: Rule, like: str, fix: str, *proof: Evidence) -> Finding:
    version = facts.report.qemu.version
    told = () if isinstance(version, Absent) else (Evidence("QEMU's version", version),)
    return Finding(
        code=of.code,
        severity="note",
        confidence="medium",
        summary=f"this looks like a known defect: {like}; mended by {fix}",
        evidence=(*proof, *told),
        refuted_by=("this build has that change",),
        next_steps=(f"see whether the build has {fix}",),
    )


def _in_cycles(facts: Facts) -> Iterator[list[Thread]]:
    """Yield the threads of each circle of waits."""
    for cycle in wait_graph(facts).cycles:
        lwps = (int(each.partition(":")[2]) for each in cycle if each.startswith("thread:"))
        yield [thread for thread in map(facts.thread, lwps) if thread is not None]


@rule(CLEAR, needs=("locks", "threads"), rank=99)
def known_defect_interrupt_from_iothread(facts: Facts) -> Iterator[Finding]:
    """An I/O thread interrupts the guest by a memory access, and needs the big lock for it.

    From: a deadlock in which an I/O thread is in ``prepare_mmio_access`` on its way from a
    completed request.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: QEMU commit bfa36802d1, "virtio-blk: avoid using ioeventfd state in irqfd conditional"
    (February 2024), RHEL-15394: the flag that allows irqfd was cleared while requests were still
    being completed.
    """
    for threads in _in_cycles(facts):
        for thread in threads:
            names = stacks.names(thread)
            if thread.role == "iothread" and "prepare_mmio_access" in names:
                like = "an I/O thread delivers an interrupt by MMIO while the device is stopped"
                fix = "QEMU commit bfa36802d1"
                yield _hint(facts, known_defect_interrupt_from_iothread, like, fix)


@rule(CLEAR, needs=("locks", "threads"), rank=99)
def known_defect_throttle_lock_taken_twice(facts: Facts) -> Iterator[Finding]:
    """A thread waits for the lock of a throttle group that it holds itself.

    From: a circle of one thread whose stack is in throttle-groups.c.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: gitlab.com/qemu-project/qemu issue 3144; "block/throttle-groups: fix deadlock with
    iolimits and muliple iothreads" (December 2025): a coroutine is left with the lock held.
    """
    for threads in _in_cycles(facts):
        if len(threads) == 1 and any("throttle_group" in n for n in stacks.names(threads[0])):
            like = "a throttle group's lock is taken twice by one thread"
            fix = '"block/throttle-groups: fix deadlock with iolimits" (QEMU issue 3144)'
            yield _hint(facts, known_defect_throttle_lock_taken_twice, like, fix)


@rule(CLEAR, needs=("locks", "threads"), rank=99)
def known_defect_scsi_cancel_lock(facts: Facts) -> Iterator[Finding]:
    """A thread that cancels SCSI requests waits for the lock of their list, which it holds.

    From: a circle of one thread whose stack is in a SCSI task management function.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: "hw/scsi: avoid deadlock upon TMF request cancelling with VirtIO" (October 2025), QEMU
    commit 7d80d6d82d, which mends da6eebb33b; Proxmox bug 6810, pve-qemu 005898a.
    """
    for threads in _in_cycles(facts):
        names = stacks.names(threads[0]) if len(threads) == 1 else []
        if any("scsi" in name and ("tmf" in name or "cancel" in name) for name in names):
            like = "the list of SCSI requests is locked twice while they are cancelled"
            fix = "QEMU commit 7d80d6d82d (pve-qemu 005898a)"
            yield _hint(facts, known_defect_scsi_cancel_lock, like, fix)


@rule(CLEAR, needs=("locks", "threads"), rank=99)
def known_defect_flush_under_big_lock(facts: Facts) -> Iterator[Finding]:
    """The migration flushes disks with the big lock held, and the main loop must run for that.

    From: a circle of the migration thread, inside ``bdrv_flush``, and the main loop.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: gitlab.com/qemu-project/qemu issue 780: the migration, in ``blk_set_aio_context``, comes
    to run the end of a mirror job (``job_exit``), which flushes.
    """
    for threads in _in_cycles(facts):
        roles = {thread.role: stacks.names(thread) for thread in threads}
        flushes = any("bdrv_flush" in name for name in roles.get("migration", []))
        if flushes and "main-loop" in roles:
            like = "the migration waits in bdrv_flush() for the main loop, which waits for it"
            fix = "the change for issue 780 of gitlab.com/qemu-project/qemu"
            yield _hint(facts, known_defect_flush_under_big_lock, like, fix)


@rule(CLEAR, needs=("queues", "event-loops"), rank=99)
def known_defect_notifications_after_drain(facts: Facts) -> Iterator[Finding]:
    """Notifications of a queue stay off after a drained section that came while it was polled.

    From: `queue-notifications-left-off` of a device with an I/O thread.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: "virtio: Re-enable notifications after drain" (February 2024), QEMU commit 5bdbaebcce;
    RHEL-3934; pve-qemu 6b7c181, 2a49e66, 4ff04bd.
    """
    found = kicks.queue_notifications_left_off.check(facts)
    if any(_has_iothread(facts, each.device) for each in found):
        like = "busy polling had switched notifications off when a drained section began"
        fix = "QEMU commit 5bdbaebcce (RHEL-3934, pve-qemu 4ff04bd)"
        yield _hint(facts, known_defect_notifications_after_drain, like, fix)


def _has_iothread(facts: Facts, index: int | None) -> bool:
    device = facts.device(index)
    return device is not None and isinstance(device.iothread, str)


@rule(CLEAR, needs=("event-loops", "threads", "stillness"), rank=99)
def known_defect_missing_barrier(facts: Facts) -> Iterator[Finding]:
    """A wake-up of an event loop was lost between two processors.

    From: `wakeup-lost`, or `completion-not-run`.
    Confidence: medium.
    Wrong if: the build has the change. The defect shows on arm64, hardly on x86.
    Source: QEMU commit 5710a3e09f, "async: use explicit memory barriers" (April 2020), and
    7455ff1aa0, "aio_wait_kick: add missing memory barrier" (June 2022); Launchpad bug 1805256.
    """
    rules = (waiting.wakeup_lost, inside.completion_not_run)
    if any(True for each in rules for _ in each.check(facts)):
        like = "aio_notify() was skipped for want of a memory barrier"
        yield _hint(
            facts, known_defect_missing_barrier, like, "QEMU commits 5710a3e09f and 7455ff1aa0"
        )


@rule(CLEAR, needs=("queues",), rank=99)
def known_defect_serial_discards_element(facts: Facts) -> Iterator[Finding]:
    """A virtio-serial port that was closed dropped the element it had put aside.

    From: `elements-leaked` of a virtio-serial device.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: qemu-devel, 10 October 2023, "virtio-serial-bus: Discard throttled VirtQueueElement
    when virtio-serial closed".
    """
    for finding in ledger.elements_leaked.check(facts):
        device = facts.device(finding.device)
        if device is not None and device.kind == "virtio-serial":
            like = "a closed virtio-serial port drops the element it had put aside"
            fix = "the change to virtio-serial-bus of October 2023"
            yield _hint(facts, known_defect_serial_discards_element, like, fix)


@rule(CLEAR, needs=("block.engines", "stillness"), rank=99)
def known_defect_short_read_not_submitted(facts: Facts) -> Iterator[Finding]:
    """A short read of io_uring was queued again, and nothing submits it.

    From: `submission-orphaned` of io_uring.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: "block/io_uring: avoid potentially getting stuck after resubmit at the end of
    ioq_submit()" (November 2025), QEMU commits eb3e5de450 (10.0.7) and 2bb0153cd8 (10.1.3); mended
    otherwise by 047dabef97 in master; pve-qemu 3edf740, forum.proxmox.com thread 170045.
    """
    orphaned = any(True for _ in inside.submission_orphaned.check(facts))
    kinds = {e.kind for e in facts.engines if number(e.in_queue) and e.in_flight == 0}
    if orphaned and "io-uring" in kinds:
        like = "a short read of io_uring is queued again and not submitted"
        fix = (
            "QEMU commits eb3e5de450 (10.0.7), 2bb0153cd8 (10.1.3) or 047dabef97, pve-qemu 3edf740"
        )
        yield _hint(facts, known_defect_short_read_not_submitted, like, fix)


@rule(CLEAR, needs=("block.nodes", "stillness"), rank=99)
def known_defect_nbd_waiters(facts: Facts) -> Iterator[Finding]:
    """Requests beyond an NBD client's slots are not woken when the server dies.

    From: `nbd-waiters-never-woken`.
    Confidence: medium.
    Wrong if: the build has the change.
    Source: QEMU commit 6690302b84, "block/nbd.c: Fixed IO request coroutine not being wakeup when
    kill NBD server" (March 2022).
    """
    if any(True for _ in outside.nbd_waiters_never_woken.check(facts)):
        like = "requests that wait for a slot are not woken once the NBD server is gone"
        yield _hint(facts, known_defect_nbd_waiters, like, "QEMU commit 6690302b84")


@rule(CLEAR, needs=("queues",), rank=99)
def known_defect_packed_signal_wrap(facts: Facts) -> Iterator[Finding]:
    """A packed ring's used index went round once between two interrupts, and one was not sent.

    From: the driver asks for an interrupt at a descriptor that was passed, and ``signalled_used``
    is valid and equal to ``used_idx``.
    Confidence: medium.
    Wrong if: the build has the change, or the interrupt is on its way.
    Source: QEMU commit 750539c4c4, "virtio: signal after wrapping packed used_idx" (January 2022):
    the index is modulo the ring's size, not 65536.
    """
    for line in facts.live_lines:
        past, used = line.count("past_used_event"), number(line.queue.used_idx)
        if line.queue.ring != "packed" or not past or used is None:
            continue
        if line.queue.signalled_used_valid is not True or line.queue.signalled_used != used:
            continue
        if line.waits_by_design or not facts.guest_idles:
            continue
        like = f"an interrupt of {queue_name(line.device, line.queue)} was left out"
        yield _hint(facts, known_defect_packed_signal_wrap, like, "QEMU commit 750539c4c4")


RULES = (
    known_defect_interrupt_from_iothread,
    known_defect_throttle_lock_taken_twice,
    known_defect_scsi_cancel_lock,
    known_defect_flush_under_big_lock,
    known_defect_notifications_after_drain,
    known_defect_missing_barrier,
    known_defect_serial_discards_element,
    known_defect_short_read_not_submitted,
    known_defect_nbd_waiters,
    known_defect_packed_signal_wrap,
)
