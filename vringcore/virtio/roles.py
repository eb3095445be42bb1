"""What each virtqueue of a device type is for, by its index (VirtIO 1.3, chapter 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BALLOON = 5

FREE_PAGE_HINT = 3
"""VIRTIO_BALLOON_F_FREE_PAGE_HINT, a feature bit (5.5.3)."""

_FIXED: dict[int, tuple[str, ...]] = {
    4: ("requests",),  # entropy, 5.4.2
    5: ("inflate", "deflate", "stats", "free-page", "reporting"),  # balloon, 5.5.2
    9: ("requests",),  # 9P transport
    16: ("control", "cursor"),  # GPU, 5.7.2
    18: ("event", "status"),  # input, 5.8.2
    19: ("rx", "tx", "event"),  # socket, 5.10.2
    23: ("request", "event"),  # IOMMU, 5.13.2
    24: ("request",),  # memory, 5.15.2
    25: ("control", "event", "tx", "rx"),  # sound, 5.14.2
    27: ("request",),  # persistent memory, 5.19.2
    34: ("request",),  # I2C adapter, 5.16.2
    32: ("command", "event"),  # SCMI, 5.17.2
    41: ("request", "event"),  # GPIO, 5.18.2
}


def queue_role(device_id: int, index: int, count: int | None, features: int = 0) -> str:
    """Return the role of queue ``index`` of a device with ``count`` queues.

    Queues of the same role carry their number (``rx0``, ``request3``). Devices that this table
    does not know give ``queue N``.

    :param count: None if it is not known; then so is the role of a queue that could be the last
    :param features: the negotiated feature word; a balloon's queues depend on it
    """
    numbered = _NUMBERED.get(device_id)
    role = numbered(index, count) if numbered is not None else None
    if device_id == BALLOON and index == 3 and not features >> FREE_PAGE_HINT & 1:
        # 5.5.2: without free page hints the fourth queue is the reporting one.
        role = "reporting"
    if role is None:
        names = _FIXED.get(device_id, ())
        role = names[index] if index < len(names) else f"queue {index}"
    return role


def _net(index: int, count: int | None) -> str | None:
    """5.1.2: pairs of receive and transmit, then control where there is an odd one."""
    if count is None and index and not index % 2:
        return None
    if index + 1 == count and count % 2:
        return "control"
    return f"{'tx' if index % 2 else 'rx'}{index // 2}"


def _block(index: int, count: int | None) -> str:
    """5.2.2: request queues."""
    return "requests" if index == 0 and count in (None, 1) else f"requests{index}"


def _console(index: int, _count: int | None) -> str:
    """5.3.2: port 0, control, then the other ports."""
    if index in (2, 3):
        return ("control-rx", "control-tx")[index - 2]
    port = 0 if index < 2 else index // 2 - 1
    return f"{'tx' if index % 2 else 'rx'}{port}"


def _scsi(index: int, _count: int | None) -> str:
    """5.6.2: control, event, then request queues."""
    return ("control", "event")[index] if index < 2 else f"request{index - 2}"


def _crypto(index: int, count: int | None) -> str | None:
    """5.9.2: data queues, then control."""
    if count is None:
        return None
    return "control" if index + 1 == count else f"data{index}"


def _file_system(index: int, _count: int | None) -> str:
    """5.11.2: one for urgent requests, then request queues; QEMU offers no notification queue."""
    return "high-priority" if index == 0 else f"request{index - 1}"


_NUMBERED: dict[int, Callable[[int, int | None], str | None]] = {
    1: _net,
    2: _block,
    3: _console,
    8: _scsi,
    20: _crypto,
    26: _file_system,
}
