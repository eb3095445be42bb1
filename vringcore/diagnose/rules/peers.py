"""Requests that wait for what is behind a device that is no disk: a network, a character device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence
from vringcore.diagnose.held import BACK_PRESSURE
from vringcore.diagnose.places import groups
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import number
from vringcore.diagnose.words import counted, device_name
from vringcore.model.findings import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.places import Group

PEERS = {
    "net-peer": "the network back-end takes no more packets",
    "chardev": "the host's end of the port takes no more: nobody reads there",
    "plan9": "the file server is at work on them",
    "gpu-commands": "the display device has not carried them out",
    "gpu-fences": "the renderer has not come to their fences",
    "crypto-backend": "the cryptography back-end holds them back by its limit",
}
"""What requests of such devices wait for, by the place where they are kept."""

NEXT = {
    "net-peer": "look at the network back-end on the host: its tap, bridge, or its peer process",
    "chardev": "see who reads the other end of that port: a socket, a pipe, a log",
}


@rule(
    "the back-ends of devices that are no disks take what they are given",
    needs=("requests",),
    rank=52,
)
def request_held_by_peer(facts: Facts) -> Iterator[Finding]:
    """What is behind a network, serial or other device takes no more from it.

    From: QEMU keeps an element of its queue until the network back-end, the character device, the
    file server or the renderer goes on; it takes no others from that queue meanwhile.
    Confidence: low; medium where the queue behind it is full: then the guest waits, too. ``stuck``
    for a network device with more than half of its queue waiting; a warning for a serial port that
    is full, since ports that nobody reads are common; else a note.
    Wrong if: the back-end was about to go on: packets and lines wait for a moment all the time.
    Source: hw/net/virtio-net.c (``async_tx``), hw/char/virtio-serial-bus.c (``throttled``),
    hw/9pfs, hw/display/virtio-gpu.c.
    """
    held = [each for place in PEERS for each in facts.requests_in(place)]
    for group in groups(facts, held):
        first = group.requests[0]
        place = "" if first.last is None else first.last.place
        behind, size = _behind(group)
        full = bool(size) and behind + len(group.requests) >= size
        yield Finding(
            code=request_held_by_peer.code,
            severity=_severity(facts, place, full=full, half=bool(size) and 2 * behind >= size),
            confidence="medium" if full and not facts.guest_works else "low",
            summary=f"{counted(len(group.requests), 'request')} of {device_name(group.device)}"
            f" {'waits' if len(group.requests) == 1 else 'wait'}, with {behind} more in the queue:"
            f" {PEERS.get(place, place)}",
            device=group.device.index,
            queue=None if first.line is None else first.line.queue.index,
            evidence=(
                *map(evidence.of_request, group.requests[:4]),
                Evidence("published behind them, not taken", behind),
            ),
            refuted_by=("a second core shows other requests, or none",),
            next_steps=(NEXT[place],) if place in NEXT else (),
        )


def _behind(group: Group) -> tuple[int, int]:
    """Return how many requests are published behind a group's, and the size of its queues."""
    lines = {held.line.key: held.line for held in group.requests if held.line is not None}
    behind = sum(line.count("unseen") or 0 for line in lines.values())
    return behind, sum(number(line.queue.size) or 0 for line in lines.values())


def _severity(facts: Facts, place: str, *, full: bool, half: bool) -> str:
    if facts.guest_works or place not in BACK_PRESSURE:
        return "note"
    if place == "net-peer" and half:
        return "stuck"
    return "warning" if full else "note"


RULES = (request_held_by_peer,)
