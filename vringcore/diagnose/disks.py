"""The disks behind devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose.values import many, number, text
from vringcore.diagnose.words import device_name
from vringcore.model.devices import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.devices import Device

BY_DEVICE = {"virtio_blk": "virtio-blk", "virtio_scsi": "virtio-scsi"}
"""Functions of a device model on the stack tell which kind of device is drained."""


class Disk:
    """A disk behind a device: of virtio-scsi there may be many."""

    __slots__ = ("backend", "device")

    def __init__(self, device: Device, backend: Backend | None) -> None:
        self.device = device
        self.backend = backend

    @property
    def node(self) -> str:
        """Name of its root node, "" if it is not known."""
        return "" if self.backend is None else text(self.backend.node)

    @property
    def name(self) -> str:
        """Device, kind and node: ``disk0 (virtio-blk), node nbd0``."""
        return device_name(self.device) + (f", node {self.node}" if self.node else "")

    @property
    def in_flight(self) -> int | None:
        """What the back-end counts as in flight."""
        return None if self.backend is None else number(self.backend.in_flight)


def disks(facts: Facts) -> Iterator[Disk]:
    """Yield every disk of every device."""
    for device in facts.devices:
        if isinstance(device.backend, Backend):
            yield Disk(device, device.backend)
        elif many(device.disks):
            for disk in many(device.disks):
                if isinstance(disk.backend, Backend):
                    yield Disk(device, disk.backend)
        elif device.kind in BY_DEVICE.values():
            yield Disk(device, None)
