"""What is left out of a verdict on purpose, and why: no alarm where nothing can be known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose.facts import QEMU, is_ready
from vringcore.diagnose.values import many
from vringcore.diagnose.words import counted, device_name, joined
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Line
    from vringcore.model.devices import Device

NAMED = 4
"""Devices that are named in one sentence; of more, their number is given."""


def left_out(facts: Facts) -> tuple[str, ...]:
    """Return what was not judged, a sentence each."""
    return tuple(_left_out(facts))


def _left_out(facts: Facts) -> Iterator[str]:
    others = [device for device in facts.devices if device.ring_owner != QEMU]
    for owner in sorted({device.ring_owner for device in others}):
        whom = _names([device for device in others if device.ring_owner == owner])
        yield f"the indices of {whom} in QEMU: the rings are moved by {owner}"
    idle = [d for d in facts.devices if d.ring_owner == QEMU and not is_ready(d)]
    if idle:
        yield f"{_names(idle)}: no driver is ready there"
    moved = facts.moved_lines
    if moved:
        whom = _names(list({line.device.index: line.device for line in moved}.values()))
        yield f"{counted(len(moved), 'queue')} of {whom}: at work while the process was captured"
    hidden = hidden_lines(facts)
    if hidden:
        devices = {line.device.index: line.device for line in hidden}
        yield (
            f"what the guest published in {counted(len(hidden), 'queue')} of"
            f" {_names(list(devices.values()))}: {_why(hidden[0])}"
        )


def hidden_lines(facts: Facts) -> list[Line]:
    """Return the queues that QEMU serves and whose rings cannot be read."""
    return [
        line for line in facts.own_lines if line.queue.ring_state != "ready" or line.is_scrambled
    ]


def _why(line: Line) -> str:
    if line.is_scrambled:
        return "what lies there is no ring: the guest's memory seems to be encrypted"
    guest = line.queue.guest
    reason = guest.describe() if isinstance(guest, Absent) else line.queue.ring_state
    return f"the ring is {reason}" if reason == line.queue.ring_state else reason


def _names(devices: list[Device]) -> str:
    if len(devices) > NAMED:
        return counted(len(devices), "device")
    return joined([device_name(device) for device in devices])


def looked_at(facts: Facts) -> str:
    """Return how much was looked at, for a sentence."""
    parts = [counted(len(facts.devices), "device"), counted(len(facts.lines), "queue")]
    parts.append(f"{counted(len(facts.requests), 'request')} in flight")
    if many(facts.threads):
        parts.append(counted(len(facts.threads), "thread"))
    return ", ".join(parts)
