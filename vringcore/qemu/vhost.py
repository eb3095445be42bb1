"""Who moves a device's ring indices: QEMU, or a vhost back-end beside it.

While vhost runs, QEMU's own indices hold the values of the last stop and say nothing about now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import VringcoreError
from vringcore.virtio.constants import STATUS_DRIVER_OK

if TYPE_CHECKING:
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.vhost_structs import VHostDev
    from vringcore.view.views import Views

BACKENDS = {1: "kernel", 2: "user", 3: "vdpa"}
"""``enum VhostBackendType`` (include/hw/virtio/vhost-backend.h)."""

QEMU = "qemu"
SHADOW = "shadow-vq"
GONE = "vhost-user-disconnected"

_OWNERS = {1: "vhost-kernel", 2: "vhost-user", 3: "vdpa"}

MAX_VHOST_DEVICES = 10_000


class Run(msgspec.Struct, frozen=True):
    """Queues that somebody else runs: ``count`` of them from ``first`` on, None for all.

    ``address`` is that of the ``vhost_dev`` that says so, 0 where there is none any more.
    """

    owner: str
    address: int
    first: int = 0
    count: int | None = None

    def has(self, index: int) -> bool:
        """Tell whether a queue is among them."""
        return self.first <= index and (self.count is None or index < self.first + self.count)


class Vhost:
    """Which devices' rings vhost runs, from ``vhost_devices`` (hw/virtio/vhost.c).

    :ivar error: why not all of its devices could be read, None if all could
    :ivar idle: the addresses of those that are not started
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self._runs: dict[int, list[Run]] = {}
        self.error: VringcoreError | None = None
        self.idle: set[int] = set()
        try:
            self._read()
        except VringcoreError as error:
            self.error = error

    def owner(self, device: RawDevice) -> str:
        """Return who moves the ring indices of a device; see the model's ``ring_owner``."""
        runs = self.runs(device)
        if runs:
            return runs[0].owner
        return QEMU if self.error is None else "unknown"

    def run_of(self, device: RawDevice, queue: int) -> Run | None:
        """Return who runs a queue; None for QEMU, and where nobody can tell."""
        return next((run for run in self.runs(device) if run.has(queue)), None)

    def runs(self, device: RawDevice) -> list[Run]:
        """Return who runs queues of a device, the first queues first; empty for QEMU."""
        runs = self._runs.get(device.address)
        if runs is None:
            found = self._unlisted(device) if self.error else self._without(device)
            runs = self._runs[device.address] = found
        return runs

    def queue_owner(self, device: RawDevice, queue: int) -> str:
        """Return who moves the indices of a queue's ring."""
        run = self.run_of(device, queue)
        if run is not None:
            return run.owner
        return QEMU if self.error is None else "unknown"

    def _unlisted(self, device: RawDevice) -> list[Run]:
        """Return who runs the queues of a device where the list of vhost devices is damaged."""
        try:
            return [Run("unknown", 0)] if device.view.vhost_started else []
        except VringcoreError:
            return []

    def _without(self, device: RawDevice) -> list[Run]:
        """Return who runs the queues of a device that no ``vhost_dev`` names.

        QEMU takes the vhost device down when the socket drops; nobody serves the rings then. It
        does the same, and takes the indices back, while the VM stands still or has no driver.
        """
        name = device.type_name
        if not name.startswith("vhost-") and not (self.idle and name == "virtio-net-device"):
            return []
        view = device.view
        try:
            if not (view.vm_running and view.status & STATUS_DRIVER_OK):
                return []
        except VringcoreError:
            return [Run("unknown", 0)]
        if name.startswith("vhost-"):
            # The kernel's cannot go away; that it was not started has a reason of its own.
            return [Run(GONE if name.startswith("vhost-user") else "unknown", 0)]
        from vringcore.qemu.vhost_net import disconnected

        return disconnected(self._views, device)

    def _read(self) -> None:
        head = self._views.find_address_of("vhost_devices", "hw/virtio/vhost.c")
        if head is None or not self._views.pointer(head):
            return
        from vringcore.qemu.vhost_structs import VHostDev
        from vringcore.view.lists import collect

        devices, self.error = collect(
            self._views.elements(head, VHostDev, "entry", limit=MAX_VHOST_DEVICES)
        )
        for device in devices:
            try:
                if device.started and device.vdev:
                    self._runs.setdefault(int(device.vdev), []).append(self._run(device))
                else:
                    self.idle.add(int(device.address_))
            except VringcoreError as error:
                self.error = self.error or error
        for runs in self._runs.values():
            runs.sort(key=lambda run: run.first)

    def _run(self, device: VHostDev) -> Run:
        """Return what a started ``vhost_dev`` runs; ``unknown`` where only who cannot be read."""
        from vringcore.qemu.vhost_structs import VHostOps

        first, count = device.vq_index, device.nvqs
        owner = "unknown"
        try:
            ops = device.vhost_ops
            number = self._views.at(VHostOps, ops).backend_type if ops else 0
            owner = _OWNERS.get(number, "unknown")
            if owner == "vdpa" and self._is_shadowed(device):
                owner = SHADOW
        except VringcoreError as error:
            self.error = self.error or error
        return Run(owner, int(device.address_), first, count)

    def _is_shadowed(self, device: VHostDev) -> bool:
        from vringcore.qemu.vhost_structs import VhostVdpa

        return bool(device.opaque and self._views.at(VhostVdpa, device.opaque).shadow_vqs_enabled)
