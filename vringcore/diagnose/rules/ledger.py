"""The ledger of elements: taken, in use, given back; what does not add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import counted, device_name, has, queue_name, was
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Line

LEDGER = "every element that QEMU took was given back or is in use"


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
    elements_leaked,
    in_use_count_wrong,
    request_not_returned,
    reset_with_requests_inside,
)
