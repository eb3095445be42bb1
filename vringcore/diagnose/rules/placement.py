"""Queues whose kicks go somewhere else, or were owed by somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.disks import disks
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many
from vringcore.diagnose.words import queue_name
from vringcore.model.findings import Evidence, Finding
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Line
    from vringcore.model.block import BackendState
    from vringcore.model.loops import EventLoop


@rule(
    "each queue is served in the event loop of its disk",
    needs=("queues", "event-loops", "block.backends"),
    rank=46,
)
def queue_in_another_loop(facts: Facts) -> Iterator[Finding]:
    """The kicks of a queue are served in another event loop than that of its disk.

    From: the event loop with the live handler of the queue's ioeventfd, and the one that the
    disk's back-end belongs to. Queues that were given I/O threads of their own
    (``iothread-vq-mapping``) are not judged, nor are devices with several disks.
    Confidence: medium in a build whose block layer needs both to be the same (it keeps
    ``external_disable_cnt``); else low, and a note: newer ones allow it.
    Wrong if: the disk was just being moved from one event loop to the other.
    Source: hw/block/dataplane/virtio-blk.c, block/block-backend.c (``blk_set_aio_context``).
    """
    backends = {int(each.backend.address): each for each in facts.backends}
    for line in facts.own_lines:
        backend = _only_backend(facts, line, backends)
        if backend is None or not line.queue.role.startswith("request"):
            continue
        home = backend.event_loop
        live = [loop for loop, handler in facts.handlers.get(line.key, []) if handler.live]
        if home is None or isinstance(home, Absent) or len(live) != 1:
            continue
        loop = live[0]
        if int(loop.address) == int(home):
            continue
        old = loop.external_disabled is not None
        name = queue_name(line.device, line.queue)
        yield Finding(
            code=queue_in_another_loop.code,
            severity="warning" if old else "note",
            confidence="medium" if old else "low",
            summary=f"the kicks of {name} are served in event loop {_name(loop)}, its disk belongs"
            f" to {_name(facts.loop(int(home)))}",
            device=line.device.index,
            queue=line.queue.index,
            evidence=(
                Evidence(f"event loop that watches the kicks of {name}", loop.address),
                evidence.member(
                    "event loop of the disk", home, "BlockBackend", backend.backend.address, "ctx"
                ),
            ),
            refuted_by=("a second core shows both in one event loop",),
            next_steps=("see which command moved the disk, or gave it a second user: a job",),
        )


def _only_backend(
    facts: Facts, line: Line, backends: dict[int, BackendState]
) -> BackendState | None:
    """Return the back-end of a device's only disk, None if there are more or its queues differ."""
    if many(line.device.queue_iothreads):
        return None
    own = [
        disk.backend
        for disk in disks(facts)
        if disk.device.index == line.device.index and disk.backend is not None
    ]
    return backends.get(int(own[0].address)) if len(own) == 1 else None


def _name(loop: EventLoop | None) -> str:
    if loop is None:
        return "one that was not found"
    return loop.name if isinstance(loop.name, str) else f"{int(loop.address):#x}"


@rule("QEMU has taken what the guest published", needs=("queues", "guest", "machine"), rank=24)
def kick_owed_since_load(facts: Facts) -> Iterator[Finding]:
    """Requests wait in a queue since the VM was moved here: the kick was given on the other host.

    From: an incoming migration that has completed; ``avail.idx`` is ahead of ``last_avail_idx``;
    QEMU has given nothing back in this queue since it was loaded (no decision about an interrupt
    was made) and holds nothing of it.
    Confidence: low: QEMU looks into every queue by itself when a VM starts.
    Wrong if: the guest has published them since, as in `kick-not-seen`.
    Source: hw/virtio/virtio.c (``virtio_load``, ``virtio_device_start_ioeventfd_impl``);
    cloud-hypervisor pull request 138 of cyberus-technology, where a restored VM had the same.
    """
    arrived = [m for m in facts.migrations if m.direction == "incoming" and m.status == "completed"]
    if not arrived:
        return
    for line in facts.live_lines:
        unseen = line.count("unseen")
        if not unseen or line.in_use or line.waits_by_design or facts.guest_works:
            continue
        watched = facts.handlers.get(line.key, [])
        threads = [facts.thread(loop.lwp) for loop, handler in watched if handler.live]
        asleep = any(thread is not None and stacks.sleeps(thread) for thread in threads)
        if line.queue.signalled_used_valid is not False or not asleep:
            continue
        yield Finding(
            code=kick_owed_since_load.code,
            severity="warning",
            confidence="low",
            summary=f"{unseen} published in {queue_name(line.device, line.queue)} wait, and nothing"
            " was done in it since the VM was moved here: the kick was given on the source",
            device=line.device.index,
            queue=line.queue.index,
            evidence=(
                *evidence.of_guest(line, "avail_idx"),
                *evidence.of_queue(line, "last_avail_idx", "signalled_used_valid", "inuse"),
                Evidence("status of the incoming migration", "completed"),
            ),
            refuted_by=("a second core shows last_avail_idx moved",),
            next_steps=("`stop` and `cont` in the monitor make QEMU look into its queues",),
        )


RULES = (queue_in_another_loop, kick_owed_since_load)
