"""Rings and devices that are wrong in themselves."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from vringcore.diagnose import evidence
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import counted, device_name, queue_name
from vringcore.model.findings import Evidence, Finding
from vringcore.model.queues import SplitGuest
from vringcore.model.values import Absent
from vringcore.ring_math import distance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts

CLEAR = "the rings are well-formed, as far as they are in use"


@rule("no device has stopped for an error", needs=("devices",), rank=15)
def device_broken(facts: Facts) -> Iterator[Finding]:
    """QEMU found an error in what a driver published, and serves the device no more.

    From: ``VirtIODevice.broken``, or DEVICE_NEEDS_RESET in the device status.
    Confidence: high.
    Wrong if: nothing is known to set it otherwise; what was wrong may have changed since.
    Source: hw/virtio/virtio.c (``virtio_error``); virtio-win issue 907.
    """
    for device in facts.devices:
        status = device.status
        needs = not isinstance(status, Absent) and any("NEEDS_RESET" in n for n in status.names)
        if device.broken is not True and not needs:
            continue
        yield Finding(
            code=device_broken.code,
            severity="stuck",
            confidence="high",
            summary=f"{device_name(device)} is broken: QEMU found an error in its rings and serves"
            " it no more until the guest resets it",
            device=device.index,
            evidence=(
                evidence.member(
                    "broken", device.broken is True, "VirtIODevice", device.address, "broken"
                ),
            ),
            refuted_by=(),
            next_steps=(
                "QEMU's log has the reason: the line was printed when it happened",
                "`vringcore ring CORE --device NAME --queue N` shows the rings as they are now",
                "reset the device from the guest: unbind and bind its driver, or reboot",
            ),
        )


@rule(CLEAR, needs=("queues",), rank=20)
def avail_index_corrupt(facts: Facts) -> Iterator[Finding]:
    """The driver's available index is further ahead than the ring is long.

    From: ``avail.idx - last_avail_idx`` is greater than the ring's size.
    Confidence: medium; a core whose memory was copied while the guest ran may mix two moments.
    Wrong if: guest memory in the core is older or newer than QEMU's, or is encrypted: then every
    index of the guest looks wrong.
    Source: hw/virtio/virtio.c ("Guest moved used index"); VirtIO 1.3, 2.7.13.
    """
    for line in facts.own_lines:
        unseen, size = line.count("unseen"), number(line.queue.size)
        if unseen is None or size is None or unseen <= size or not line.is_split:
            continue
        if line.is_scrambled:
            continue
        yield Finding(
            code=avail_index_corrupt.code,
            severity="fault",
            confidence="medium",
            summary=f"avail.idx of {queue_name(line.device, line.queue)} is {unseen} ahead in a"
            f" ring of {size} entries",
            device=line.device.index,
            queue=line.queue.index,
            evidence=evidence.of_guest(line, "avail_idx")
            + evidence.of_queue(line, "last_avail_idx"),
            refuted_by=("the guest's memory is encrypted, or was copied while it ran",),
            next_steps=("look at the guest's driver; QEMU breaks such a device at its next look",),
        )


@rule("the guest's memory can be read", needs=("queues",), rank=92)
def guest_memory_encrypted(facts: Facts) -> Iterator[Finding]:
    """What lies in guest memory where a ring should be is no ring: it seems to be encrypted.

    From: ``avail.idx`` is further ahead than the ring is long, and both flags, of which one bit
    each is defined, have others set. Nothing that guest memory says of the queue is judged then.
    Confidence: high where the command line asks for a confidential guest, else medium.
    Wrong if: the guest wrote over its rings. Rings of confidential guests are usually not encrypted
    themselves, since QEMU could not serve them.
    Source: VirtIO 1.3, 2.7.6 and 2.7.8; target/i386/sev.c.
    """
    for line in facts.own_lines:
        if not line.is_scrambled:
            continue
        asked = facts.confidential
        yield Finding(
            code=guest_memory_encrypted.code,
            severity="note",
            confidence="high" if asked else "medium",
            summary=f"guest memory holds no ring for {queue_name(line.device, line.queue)}: it"
            " seems to be encrypted",
            device=line.device.index,
            queue=line.queue.index,
            evidence=(
                *evidence.of_guest(line, "avail_idx", "avail_flags", "used_flags"),
                *evidence.of_queue(line, "last_avail_idx"),
                *([Evidence("of the command line", asked)] if asked else []),
            ),
            refuted_by=("the bytes of the ring are those of a ring: vringcore ring",),
            next_steps=("QEMU's own side is all that can be judged: requests, threads, disks",),
        )


@rule(CLEAR, needs=("requests",), rank=25)
def chain_malformed(facts: Facts) -> Iterator[Finding]:
    """A request in flight lies in a chain of descriptors that is not well-formed now.

    From: the walk of the chain from a head that QEMU holds ended other than at its last descriptor.
    Confidence: medium: QEMU took it, so it was well-formed once; the driver has written to it
    since.
    Wrong if: the request was completed and its entries are in use again.
    Source: VirtIO 1.3, 2.7.5.
    """
    bad = {"loop", "index-range", "nested-indirect", "indirect-and-next", "bad-table-length"}
    for held in facts.elements:
        end = held.request.chain_end.replace("_", "-")
        if end not in bad or held.request.source != "element":
            continue
        line = held.line
        if line is None:
            continue
        yield Finding(
            code=chain_malformed.code,
            severity="fault",
            confidence="medium",
            summary=f"the descriptors of head {held.request.head} in"
            f" {queue_name(line.device, line.queue)} were overwritten while QEMU has them: {end}",
            device=line.device.index,
            queue=line.queue.index,
            evidence=(evidence.of_request(held),),
            refuted_by=("the request was completed: the head is in the used ring",),
            next_steps=("look at the guest's driver: it wrote to descriptors in flight",),
        )


@rule(CLEAR, needs=("requests",), rank=25)
def descriptor_table_shared(facts: Facts) -> Iterator[Finding]:
    """Two requests in flight use the same head or the same indirect table.

    From: the heads and tables of the elements that QEMU holds.
    Confidence: high: the driver used memory again that it had given to the device.
    Wrong if: one of the two was completed as the core was taken.
    Source: virtio-win issue 907: a driver used a table again after a time-out of its own.
    """
    for line in facts.own_lines:
        users: dict[tuple[str, int], list[int]] = {}
        for request in many(line.queue.in_flight):
            if request.source != "element":
                continue
            tables = {int(d.table) for d in many(request.descriptors) if d.table is not None}
            for table in tables:
                users.setdefault(("indirect table", table), []).append(request.head)
            if line.is_split:
                users.setdefault(("head", request.head), []).append(request.head)
        for (kind, where), heads in users.items():
            if len(heads) < 2:
                continue
            place = f"{where:#x}" if kind == "indirect table" else str(where)
            yield Finding(
                code=descriptor_table_shared.code,
                severity="fault",
                confidence="high",
                summary=f"heads {', '.join(map(str, heads))} of"
                f" {queue_name(line.device, line.queue)} are in flight and share the {kind}"
                f" {place}",
                device=line.device.index,
                queue=line.queue.index,
                evidence=(Evidence(f"{kind} shared by heads", heads),),
                refuted_by=(
                    "one of the requests has been completed: its head is in the used ring",
                ),
                next_steps=("look at the guest's driver: it published memory that is in use",),
            )


@rule(CLEAR, needs=("requests",), rank=80)
def writable_buffers_overlap(facts: Facts) -> Iterator[Finding]:
    """Two requests in flight have a buffer in common that the device may write to.

    From: the descriptors of the elements that QEMU holds, of one device.
    Confidence: low, a note: a driver that lost account of its memory does so, but a program in the
    guest may read into one buffer twice at a time if it likes.
    Wrong if: the guest wants it so; or one of the requests was completed just now.
    Source: VirtIO 1.3, 2.7.4; virtio-win issue 907.
    """
    for device in facts.devices:
        buffers = sorted(
            (int(each.address), int(each.address) + each.length, held.request.head, held.line.key)
            for held in facts.elements
            if held.device.index == device.index and held.line is not None
            if held.request.source == "element"
            for each in many(held.request.descriptors)
            if "write" in each.flag_names and "indirect" not in each.flag_names and each.length
        )
        for before, after in itertools.pairwise(buffers):
            if after[0] < before[1] and before[2:] != after[2:]:
                yield Finding(
                    code=writable_buffers_overlap.code,
                    severity="note",
                    confidence="low",
                    summary=f"heads {before[2]} and {after[2]} of {device_name(device)} are in"
                    f" flight, and both let it write to {after[0]:#x}",
                    device=device.index,
                    evidence=(
                        Evidence(f"buffer of head {before[2]}", f"{before[0]:#x}-{before[1]:#x}"),
                        Evidence(f"buffer of head {after[2]}", f"{after[0]:#x}-{after[1]:#x}"),
                    ),
                    refuted_by=("the guest's program reads into one buffer twice",),
                    next_steps=("look at the guest's driver if the device is broken, too",),
                )
                break


@rule(CLEAR, needs=("queues",), rank=45)
def used_index_differs(facts: Facts) -> Iterator[Finding]:
    """The used index in guest memory is not the one QEMU has written.

    From: ``used.idx`` in guest memory and ``VirtQueue.used_idx`` of a queue that QEMU serves.
    Confidence: low.
    Wrong if: QEMU was between two steps of a completion, or guest memory is of another moment.
    Source: hw/virtio/virtio.c (``virtqueue_split_flush``).
    """
    for line in facts.own_lines:
        guest = line.queue.guest
        if not isinstance(guest, SplitGuest) or line.is_scrambled:
            continue
        ours, theirs = number(line.queue.used_idx), number(guest.used_idx)
        if ours is None or theirs is None or ours == theirs:
            continue
        yield Finding(
            code=used_index_differs.code,
            severity="note",
            confidence="low",
            summary=f"used.idx of {queue_name(line.device, line.queue)} is {theirs} in guest memory"
            f" and {ours} in QEMU",
            device=line.device.index,
            queue=line.queue.index,
            evidence=evidence.of_guest(line, "used_idx") + evidence.of_queue(line, "used_idx"),
            against=(
                Evidence(
                    "entries between them", min(distance(ours, theirs), distance(theirs, ours))
                ),
            ),
            refuted_by=("a second core shows them equal",),
            next_steps=("see who else may write to the ring: vhost, another mapping",),
        )


@rule("every ring can be reached", needs=("queues",), rank=45)
def ring_unreachable(facts: Facts) -> Iterator[Finding]:
    """QEMU has no mapping of a ring that the driver has set up.

    From: the device is ready, the queue has an address, and ``vring.caches`` is null.
    Confidence: medium.
    Wrong if: the mapping was just being made again.
    Source: hw/virtio/virtio.c (``virtio_init_region_cache``); memory unplug, an IOMMU's unmap.
    """
    for line in facts.own_lines:
        guest = line.queue.guest
        if not isinstance(guest, Absent) or guest.reason != "no-ring-caches":
            continue
        yield Finding(
            code=ring_unreachable.code,
            severity="fault",
            confidence="medium",
            summary=f"QEMU has no mapping of the ring of {queue_name(line.device, line.queue)}",
            device=line.device.index,
            queue=line.queue.index,
            evidence=(
                evidence.member("vring.caches", 0, "VirtQueue", line.queue.address, "vring.caches"),
            ),
            refuted_by=("a second core shows the mapping",),
            next_steps=("see whether memory was unplugged or an IOMMU mapping taken away",),
        )


@rule("no request of a disk overlaps another's serialising one", needs=("block.nodes",), rank=90)
def request_waits_for_request(facts: Facts) -> Iterator[Finding]:
    """A request of a block node waits for another that overlaps it.

    From: ``BdrvTrackedRequest.waiting_for``.
    Confidence: high; it explains a wait, and the last of the chain is what to look at.
    Wrong if: the other has just ended.
    Source: block/io.c (``bdrv_wait_serialising_requests_locked``).
    """
    for node in facts.nodes:
        waiting = [request for request in many(node.tracked) if request.waiting_for]
        if waiting:
            yield Finding(
                code=request_waits_for_request.code,
                severity="note",
                confidence="high",
                summary=f"{counted(len(waiting), 'request')} of node {node.name}"
                f" {'waits' if len(waiting) == 1 else 'wait'} for others that overlap",
                evidence=tuple(
                    evidence.member(
                        f"{request.kind} of {request.bytes} bytes at {request.offset} waits for",
                        request.waiting_for[-1],
                        "BdrvTrackedRequest",
                        request.address,
                        "waiting_for",
                    )
                    for request in waiting[:8]
                ),
                refuted_by=("a second core shows them gone",),
                next_steps=("look at the request that the chain ends with",),
            )


RULES = (
    device_broken,
    avail_index_corrupt,
    guest_memory_encrypted,
    chain_malformed,
    descriptor_table_shared,
    writable_buffers_overlap,
    used_index_differs,
    ring_unreachable,
    request_waits_for_request,
)
