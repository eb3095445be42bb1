"""Who moves a device's ring indices: QEMU, or a vhost back-end beside it.

While vhost runs, QEMU's own indices hold the values of the last stop and say nothing about now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.qemu.structs import VHostDev, VHostOps
from vringcore.view.lists import collect
from vringcore.virtio.constants import STATUS_DRIVER_OK

if TYPE_CHECKING:
    from vringcore.qemu.structs import VirtIODevice
    from vringcore.view.views import Views

_BACKENDS = {1: "vhost-kernel", 2: "vhost-user", 3: "vdpa"}
"""``enum VhostBackendType`` (include/hw/virtio/vhost-backend.h)."""

MAX_VHOST_DEVICES = 10_000


class Vhost:
    """Which devices' rings vhost runs, from ``vhost_devices`` (hw/virtio/vhost.c).

    :ivar error: why not all of its devices could be read, None if all could
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._owners: dict[int, str] = {}
        self.error: VringcoreError | None = None
        try:
            self._read()
        except VringcoreError as error:
            self.error = error

    def owner(self, device: VirtIODevice, type_name: str) -> str:
        """Return who moves the ring indices of a device; see the model's ``ring_owner``."""
        owner = self._owners.get(int(device.address_))
        if owner is not None:
            return owner
        if self.error is not None:
            return "unknown"
        if not type_name.startswith("vhost-user"):
            return "qemu"
        try:
            wanted = device.vm_running and device.status & STATUS_DRIVER_OK
        except VringcoreError:
            return "unknown"
        # QEMU takes the vhost device down when the socket drops; nobody serves the rings then. It
        # does the same, and takes the indices back, while the VM stands still or has no driver.
        return "vhost-user-disconnected" if wanted else "qemu"

    def _read(self) -> None:
        views = self._views
        head = views.find_address_of("vhost_devices", "hw/virtio/vhost.c")
        if head is None or not views.pointer(head):
            return
        devices, self.error = collect(
            views.elements(head, VHostDev, "entry", limit=MAX_VHOST_DEVICES)
        )
        for device in devices:
            try:
                if device.started and device.vdev:
                    self._owners[int(device.vdev)] = self._kind(device)
            except VringcoreError as error:
                self.error = self.error or error

    def _kind(self, device: VHostDev) -> str:
        """Return the kind of back-end; ``unknown`` where only that cannot be read."""
        try:
            ops = device.vhost_ops
            number = self._views.at(VHostOps, ops).backend_type if ops else 0
        except VringcoreError as error:
            self.error = self.error or error
            return "unknown"
        return _BACKENDS.get(number, "unknown")
