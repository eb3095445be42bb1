"""Who moves a device's ring indices: QEMU, or a vhost back-end beside it.

While vhost runs, QEMU's own indices hold the values of the last stop and say nothing about now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.qemu.structs import VHostDev, VHostOps

if TYPE_CHECKING:
    from vringcore.view.views import Views

_BACKENDS = {1: "vhost-kernel", 2: "vhost-user", 3: "vdpa"}
"""``enum VhostBackendType`` (include/hw/virtio/vhost-backend.h)."""

MAX_VHOST_DEVICES = 10_000


def running_vhost(views: Views) -> dict[int, str]:
    """Return the VirtIODevice addresses whose rings vhost runs, with the kind of back-end.

    From ``vhost_devices`` (hw/virtio/vhost.c): those that are ``started`` and know their device.

    :raises LayoutMissingError: if this build has vhost and its types are not known
    """
    head = views.find_address_of("vhost_devices", "hw/virtio/vhost.c")
    if head is None:
        return {}
    owners: dict[int, str] = {}
    if not views.pointer(head):
        return owners
    for device in views.elements(head, VHostDev, "entry", limit=MAX_VHOST_DEVICES):
        if device.started and device.vdev:
            kind = views.at(VHostOps, device.vhost_ops).backend_type if device.vhost_ops else 0
            owners[int(device.vdev)] = _BACKENDS.get(kind, "unknown")
    return owners


def ring_owner(type_name: str, device: int, running: dict[int, str]) -> str:
    """Return who moves the ring indices of a device."""
    if device in running:
        return running[device]
    if type_name.startswith("vhost-user"):
        # QEMU takes the vhost device down when the socket drops; nobody serves the rings then.
        return "vhost-user-disconnected"
    return "qemu"
