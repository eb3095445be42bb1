"""Queues that another process or the kernel serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence
from vringcore.diagnose.facts import RUNNING, SLOW_NS, is_gone, is_ready
from vringcore.diagnose.places import groups
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import counted, device_name, has, was
from vringcore.model.findings import Evidence, Finding
from vringcore.model.queues import SplitGuest
from vringcore.model.vhost import Chardev
from vringcore.ring_math import distance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Line
    from vringcore.model.devices import Device

CLEAR = "no request waits for a vhost back-end"

OWNERS = {
    "vhost-user": "its vhost-user back-end, another process",
    "vhost-kernel": "the host's kernel (vhost)",
    "vdpa": "its vDPA device",
}


@rule("vhost-user back-ends are connected", needs=("devices",), rank=15)
def vhost_backend_gone(facts: Facts) -> Iterator[Finding]:
    """The process that serves a vhost-user device has gone away.

    From: the driver is ready and the VM runs, and QEMU has taken the vhost device down, as it does
    when its socket closes.
    Confidence: high.
    Wrong if: the back-end was being connected again as the core was taken.
    Source: hw/block/vhost-user-blk.c; QEMU commit f02a4b8e64 for a reconnect that is lost.
    """
    for device in facts.devices:
        if not is_gone(device) or not is_ready(device):
            continue
        waiting = sum(count for _, count in _outstanding(facts, device))
        yield Finding(
            code=vhost_backend_gone.code,
            severity="stuck",
            confidence="high",
            summary=f"the vhost-user back-end of {device_name(device)} is gone: nobody serves its"
            " queues" + (f"; {_waits(waiting)}" if waiting else "") + _return(device),
            device=device.index,
            evidence=(
                Evidence("who moves the ring indices", device.ring_owner),
                *_indices(facts, device),
            ),
            refuted_by=("a second core shows the device served again",),
            next_steps=("start the back-end again; with `reconnect` QEMU connects by itself",),
        )


def _return(device: Device) -> str:
    """Return whether QEMU will take the back-end up again, as far as it is known."""
    sockets = [v.chardev for v in many(device.vhost) if isinstance(v.chardev, Chardev)]
    if not sockets:
        return ""
    if any(each.reconnect_armed is True for each in sockets):
        return "; QEMU tries to connect again"
    if all(each.handler is None for each in sockets):
        return "; nothing waits for it to connect again"
    return ""


def _waits(count: int) -> str:
    return f"{counted(count, 'request')} of the guest {'waits' if count == 1 else 'wait'}"


def _outstanding(facts: Facts, device: Device) -> Iterator[tuple[Line, int]]:
    """Yield how many requests of each queue the guest has published and not got back.

    Both indices lie in guest memory, so they hold whoever serves the ring.
    """
    for line in facts.lines:
        guest, size = line.queue.guest, number(line.queue.size)
        if line.device.index != device.index or line.waits_by_design or size is None:
            continue
        count = line.count("outstanding")
        if count is None and isinstance(guest, SplitGuest):
            avail, used = number(guest.avail_idx), number(guest.used_idx)
            count = None if avail is None or used is None else distance(avail, used)
        if count and count <= size:
            yield line, count


def _indices(facts: Facts, device: Device) -> Iterator[Evidence]:
    for line, _ in _outstanding(facts, device):
        yield from evidence.of_guest(line, "avail_idx", "used_idx")


@rule(CLEAR, needs=("queues",), rank=50)
def request_not_completed_by_vhost_backend(facts: Facts) -> Iterator[Finding]:
    """The guest waits for requests that a vhost back-end has not completed.

    From: ``avail.idx`` is ahead of ``used.idx`` in guest memory, in a ring that vhost serves;
    where a vhost-user back-end keeps its requests in a region shared with QEMU, from that.
    Confidence: low: for how long is not known, and a busy device looks the same. Medium where the
    shared region tells that a request was taken and not completed while others were. It is stuck,
    at low confidence, while all vCPUs are idle: then the guest does nothing but wait.
    Wrong if: the back-end was at work. QEMU's own indices of such a ring are stale and say nothing.
    Source: vhost-user protocol, "Inflight I/O tracking"; qemu-devel 2021, kick and call of a
    stopped vhost-scsi.
    """
    for device in facts.devices:
        owner = OWNERS.get(device.ring_owner)
        if owner is None or facts.run_state != RUNNING or device.kind.endswith("-net"):
            continue
        regions = [h for h in facts.elements if h.device.index == device.index]
        outstanding = list(_outstanding(facts, device))
        count = sum(number_of for _, number_of in outstanding) or len(regions)
        if not count:
            continue
        old = [each for each in groups(facts, regions) if (each.oldest or 0) >= SLOW_NS]
        yield Finding(
            code=request_not_completed_by_vhost_backend.code,
            severity="stuck" if old or facts.guest_idles else "warning",
            confidence="medium" if old else "low",
            summary=f"{counted(count, 'request')} of {device_name(device)} {was(count)} published"
            f" by the guest and {has(count)} not been completed by {owner}; for how long, this"
            " core does not tell",
            device=device.index,
            evidence=(*map(evidence.of_request, regions[:8]), *_indices(facts, device)),
            refuted_by=("a second core, seconds later, shows used.idx moved",),
            next_steps=(
                "look at the back-end itself: its own record of requests, its threads' stacks",
                "take a core of the back-end process, too",
            ),
        )


RULES = (vhost_backend_gone, request_not_completed_by_vhost_backend)
