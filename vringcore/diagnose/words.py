"""How findings speak: names of devices and queues, counts, times."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.threads import Thread

_ROLES = {
    "main-loop": "main loop",
    "vcpu": "vCPU",
    "iothread": "I/O thread",
    "migration": "migration thread",
    "worker": "worker thread",
    "rcu": "RCU thread",
}


def device_name(device: Device) -> str:
    """Return the name by which ``--device`` finds it, and its kind: ``disk0 (virtio-blk)``."""
    name = device.id if isinstance(device.id, str) and device.id else f"#{device.index}"
    return f"{name} ({device.kind})"


def queue_name(device: Device, queue: Queue) -> str:
    """Return ``queue 3 of disk0 (virtio-blk)``."""
    return f"queue {queue.index} of {device_name(device)}"


def thread_name(thread: Thread) -> str:
    """Return ``I/O thread io0 (20881)``."""
    role = _ROLES.get(thread.role or "", thread.role or "thread")
    name = f" {thread.role_name}" if thread.role_name else ""
    return f"{role}{name} ({thread.lwp})"


def counted(count: int, noun: str) -> str:
    """Return ``1 request``, ``2 requests``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def was(count: int) -> str:
    """Return the verb for so many: ``was`` or ``were``."""
    return "was" if count == 1 else "were"


def has(count: int) -> str:
    """Return the verb for so many: ``has`` or ``have``."""
    return "has" if count == 1 else "have"


def duration(nanoseconds: int) -> str:
    """Return a duration for people: ``850 ms``, ``12.3 s``, ``2 h 05 min``."""
    total = nanoseconds / 1e9
    if total < 1:
        return f"{total * 1e3:.0f} ms"
    if total < 120:
        return f"{total:.1f} s"
    minutes, rest = divmod(round(total), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def joined(words: list[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


LONGEST = 40
"""Characters of a server's name in a sentence."""


def short_server(url: str) -> str:
    """Return a server's name for a sentence: the socket's file name, or host and port.

    The whole of it is for the evidence.
    """
    place, _, query = url.partition("?")
    sockets = [each for each in query.split("&") if each.startswith("socket=")]
    if sockets:
        name = sockets[0].rstrip("/").rpartition("/")[2].removeprefix("socket=")
    else:
        _, colon, rest = place.partition("://")
        name = rest.partition("/")[0] if colon else place.rpartition("/")[2]
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
