"""Requests that QEMU completed and the guest has not taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import counted, has, queue_name
from vringcore.model.findings import Evidence, Finding
from vringcore.model.queues import PackedGuest, SplitGuest
from vringcore.ring_math import distance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Line
    from vringcore.model.machine import Interrupts

CLEAR = "the guest has seen what QEMU completed"

NO_INTERRUPT = 1
"""VIRTQ_AVAIL_F_NO_INTERRUPT (VirtIO 1.3, 2.7.7)."""

DISKS = ("virtio-blk", "virtio-scsi")
"""Devices whose Linux driver keeps ``used_event`` at what it has consumed while it waits.

Drivers of network devices put it further on (delayed callbacks) or leave it behind (NAPI), and
queues for control are polled: theirs says nothing.
"""

QUEUE_INTERRUPT = 1
"""Bit of the ISR status that stands for the queues (VirtIO 1.3, 4.1.4.5)."""

NO_VECTOR = 0xFFFF
"""VIRTIO_MSI_NO_VECTOR."""


def _unread(facts: Facts) -> Iterator[tuple[Line, int]]:
    """Yield the queues whose driver waits for completions that are there, and how many.

    Not judged is a ``used_event`` of 0, or one that is more than the ring's size behind: a driver
    that does not wait leaves one like that.
    """
    if facts.is_incoming:
        return
    for line in facts.live_lines:
        guest, size = line.queue.guest, number(line.queue.size)
        if line.device.kind not in DISKS or size is None:
            continue
        if line.waits_by_design or line.queue.role == "control":
            continue
        if isinstance(guest, PackedGuest):
            past = line.count("past_used_event") or 0
            if 0 < past <= size:
                yield line, past
            continue
        if not isinstance(guest, SplitGuest):
            continue
        used, event = number(guest.used_idx), number(guest.used_event)
        if used is None or not event:
            continue
        past = distance(used, event)
        if 0 < past <= size:
            yield line, past


def _told(line: Line, unread: int) -> str:
    return (
        f"{counted(unread, 'completion')} of {queue_name(line.device, line.queue)} {has(unread)}"
        " not been consumed by the guest"
    )


def _facts_of(line: Line) -> tuple[Evidence, ...]:
    event = getattr(line.queue.guest, "driver_event", None)
    slot = getattr(event, "slot", None)
    where = queue_name(line.device, line.queue)
    asked = () if slot is None else (Evidence(f"slot of the driver's event, {where}", slot),)
    return (
        *evidence.of_guest(line, "used_idx", "used_event", "avail_flags"),
        *asked,
        *evidence.of_queue(line, "used_idx", "signalled_used", "signalled_used_valid", "vector"),
    )


@rule(CLEAR, needs=("queues", "guest"), rank=20)
def completions_not_signalled(facts: Facts) -> Iterator[Finding]:
    """Completions wait for the guest, and this QEMU has never decided whether to interrupt it.

    From: ``used.idx`` is past ``used_event``, and ``signalled_used_valid`` is false: no decision
    was made since the device was reset or loaded.
    Confidence: medium where nothing is in flight in the queue and no vCPU runs, else low.
    Wrong if: the guest polls, or puts ``used_event`` elsewhere than at what it has consumed.
    Source: guest I/O dead after migration or link flap: the interrupt was owed by the source host,
    or the device was reset; hw/virtio/virtio.c (``virtio_should_notify``).
    """
    for line, unread in _unread(facts):
        if line.queue.signalled_used_valid is not False:
            continue
        yield Finding(
            code=completions_not_signalled.code,
            severity="stuck",
            confidence="low" if line.in_use or facts.guest_works else "medium",
            summary=f"{_told(line, unread)}, and this QEMU never decided whether to interrupt it:"
            " the interrupt was owed before a reset or a migration",
            device=line.device.index,
            queue=line.queue.index,
            evidence=_facts_of(line),
            refuted_by=(
                "the guest's driver has last_used_idx at used.idx: it has seen them",
                "a second core shows used_event moved",
            ),
            next_steps=(
                "any further completion of the queue interrupts the guest: read the disk directly",
                "if the VM was migrated, see what the source did after its last completions",
            ),
        )


@rule(CLEAR, needs=("queues", "guest"), rank=30)
def signal_decision_pending(facts: Facts) -> Iterator[Finding]:
    """Completions were given back, and the decision to interrupt the guest has not been made yet.

    From: ``used.idx`` is past ``used_event``, and ``signalled_used`` is valid and behind
    ``used_idx``.
    Confidence: low: the notification is put off to the end of a burst by design.
    Wrong if: the burst was under way.
    Source: hw/block/virtio-blk.c, util/defer-call.c.
    """
    for line, unread in _unread(facts):
        used, signalled = number(line.queue.used_idx), number(line.queue.signalled_used)
        if line.queue.signalled_used_valid is not True or used is None or signalled is None:
            continue
        if used == signalled:
            continue
        yield Finding(
            code=signal_decision_pending.code,
            severity="note",
            confidence="low",
            summary=f"{_told(line, unread)}, and QEMU has not decided yet whether to interrupt it",
            device=line.device.index,
            queue=line.queue.index,
            evidence=_facts_of(line),
            refuted_by=("a second core shows signalled_used at used_idx",),
            next_steps=("look at the thread that serves the queue",),
        )


@rule(CLEAR, needs=("queues", "guest"), rank=35)
def completions_not_seen_by_driver(facts: Facts) -> Iterator[Finding]:
    """Completions wait for the guest although QEMU decided about the interrupt for all of them.

    From: ``used.idx`` is past ``used_event``, and ``signalled_used`` is valid and equal to
    ``used_idx``.
    Confidence: low. The interrupt was lost behind QEMU (irqfd, KVM, a mask) or the guest has not
    served it; or the driver does not wait. It is a warning only while all vCPUs are idle: a guest
    at work has completions on their way all the time.
    Wrong if: the guest was on its way to them, or was found not to want an interrupt.
    Source: incidents of lost interrupts on arm64; VirtIO 1.3, 2.7.10.
    """
    for line, unread in _unread(facts):
        used = number(line.queue.used_idx)
        if line.queue.signalled_used_valid is not True or used is None or line.in_use:
            continue
        if number(line.queue.signalled_used) != used:
            continue
        yield Finding(
            code=completions_not_seen_by_driver.code,
            severity="warning" if facts.guest_idles else "note",
            confidence="low",
            summary=f"{_told(line, unread)}, and QEMU has done its part: if the guest waits, the"
            " interrupt was lost on its way or the guest did not serve it",
            device=line.device.index,
            queue=line.queue.index,
            evidence=_facts_of(line),
            refuted_by=("a second core shows used_event moved: the guest does see them",),
            next_steps=("in the guest, /proc/interrupts of that vector shows whether it counts",),
        )


@rule(
    "no interrupt of a virtio device is held back",
    needs=("queues", "guest", "machine.interrupts"),
    rank=22,
)
def interrupt_masked(facts: Facts) -> Iterator[Finding]:
    """Completions wait for the guest behind an interrupt that is masked or pending.

    From: ``used.idx`` is past ``used_event``, and the queue's MSI-X entry is masked, all of the
    function is, its bit is set in the pending bit array, or the queue has no vector with MSI-X on;
    or the guest has switched off the line of a device that uses INTx.
    Confidence: medium; a note while a vCPU runs.
    Wrong if: the guest masks for a moment as it moves an interrupt to another processor.
    Source: hw/pci/msix.c; PCI 3.0, 6.8.2.
    """
    of_device = {each.device: each for each in facts.interrupts}
    for line, unread in _unread(facts):
        interrupts = of_device.get(line.device.index)
        reason = "" if interrupts is None else _held_back(interrupts, number(line.queue.vector))
        if reason:
            yield Finding(
                code=interrupt_masked.code,
                severity="note" if facts.guest_works else "stuck",
                confidence="low" if facts.guest_works else "medium",
                summary=f"{_told(line, unread)}: {reason}",
                device=line.device.index,
                queue=line.queue.index,
                evidence=_facts_of(line),
                refuted_by=("a second core shows the interrupt free",),
                next_steps=("look at the guest's interrupt set-up of that device",),
            )


def _held_back(interrupts: Interrupts, vector: int | None) -> str:
    """Return why a queue's interrupt does not reach the guest, "" if nothing shows that."""
    if interrupts.mode == "intx":
        return "the guest has switched INTx off" if interrupts.line_disabled is True else ""
    if interrupts.mode != "msix":
        return ""
    if interrupts.function_masked is True:
        return "all vectors of the device are masked"
    if vector == NO_VECTOR:
        return "the queue has no vector"
    entry = next((each for each in many(interrupts.vectors) if each.vector == vector), None)
    if entry is not None and entry.masked:
        return f"vector {vector} is masked"
    return f"vector {vector} is pending" if entry is not None and entry.pending else ""


@rule(
    "no interrupt of a virtio device is held back",
    needs=("queues", "guest", "machine.interrupts"),
    rank=34,
)
def interrupt_line_not_served(facts: Facts) -> Iterator[Finding]:
    """Completions wait for the guest, and the device's interrupt line is up: it is not served.

    From: ``used.idx`` is past ``used_event`` of a device that interrupts by INTx, whose line is
    raised and whose ISR bit says that a queue has something.
    Confidence: low: a guest at work is about to serve it. A warning while all vCPUs are idle.
    Wrong if: the guest was on its way to it; lines are shared, and wait for their turn.
    Source: hw/virtio/virtio-pci.c (``virtio_pci_notify``), VirtIO 1.3, 4.1.4.5.
    """
    of_device = {each.device: each for each in facts.interrupts}
    for line, unread in _unread(facts):
        found = of_device.get(line.device.index)
        if found is None or found.mode != "intx" or found.line_disabled is True:
            continue
        isr = number(found.isr)
        if found.line_raised is not True or isr is None or not isr & QUEUE_INTERRUPT:
            continue
        yield Finding(
            code=interrupt_line_not_served.code,
            severity="warning" if facts.guest_idles else "note",
            confidence="low",
            summary=f"{_told(line, unread)}: its interrupt line is raised, and the guest does not"
            " serve it",
            device=line.device.index,
            queue=line.queue.index,
            evidence=(
                *_facts_of(line),
                evidence.member("isr", isr, "VirtIODevice", line.device.address, "isr"),
            ),
            refuted_by=("a second core shows the line down, or the ISR bit read",),
            next_steps=("in the guest: /proc/interrupts, and messages of `irq N: nobody cared`",),
        )


RULES = (
    completions_not_signalled,
    signal_decision_pending,
    completions_not_seen_by_driver,
    interrupt_masked,
    interrupt_line_not_served,
)
