"""vhost: what QEMU knows of a back-end that runs a device's rings in its stead."""

from __future__ import annotations

import msgspec

from vringcore.model.values import Absent, Flags, Hex


class Chardev(msgspec.Struct, frozen=True):
    """The character device through which a vhost-user back-end is reached.

    ``connected`` tells whether it is open, ``state`` that of its socket (``disconnected``,
    ``connecting``, ``connected``), null for what is no socket. ``reconnect_ms`` is after how many
    milliseconds QEMU tries again, 0 for never, ``reconnect_armed`` whether a timer runs for that.
    ``handler`` is the function that will hear of the connection, null if none is set: then nothing
    takes the back-end up again.
    """

    label: str | Absent | None
    address: Hex
    file: str | Absent | None
    connected: bool | Absent
    state: str | Absent | None
    reconnect_ms: int | Absent | None
    reconnect_armed: bool | Absent | None
    handler: str | Absent | None


class VhostQueue(msgspec.Struct, frozen=True):
    """A queue of a vhost device: ``struct vhost_virtqueue``, and its file descriptors.

    ``kick_fd`` is the eventfd by which the driver's notifications reach the back-end, ``call_fd``
    the one for its interrupts, ``masked_fd`` takes the latter's place while the vector is masked.
    """

    index: int
    address: Hex
    num: int | Absent
    kick_fd: int | Absent
    call_fd: int | Absent
    masked_fd: int | Absent


class InflightRegion(msgspec.Struct, frozen=True):
    """The memory in which a vhost-user back-end notes its requests (``struct vhost_inflight``)."""

    address: Hex
    size: int
    offset: int
    fd: int
    queue_size: int


class ShadowQueue(msgspec.Struct, frozen=True):
    """A ring of QEMU's own between the guest's and a vDPA device (VhostShadowVirtqueue).

    ``heads`` are the guest's heads of what the device has and has not given back. Indices and
    ``num_free`` are QEMU's of the shadow ring; ``num_free`` is null in builds without it.
    """

    index: int
    address: Hex
    num: int | Absent
    shadow_avail_idx: int | Absent
    last_used_idx: int | Absent
    num_free: int | Absent | None
    heads: tuple[int, ...] | Absent


class Vhost(msgspec.Struct, frozen=True):
    """A ``struct vhost_dev``; a virtio-net device has one for each pair of queues.

    ``backend`` is ``kernel``, ``user``, ``vdpa`` or, of one that was taken down, null. It serves
    the device's queues from ``vq_index`` on, ``nvqs`` of them. ``netdev`` is the id of the network
    back-end, null for other devices.
    """

    address: Hex
    backend: str | Absent | None
    started: bool | Absent
    vq_index: int | Absent
    nvqs: int | Absent
    features: Flags | Absent
    acked_features: Flags | Absent
    protocol_features: Flags | Absent
    log_enabled: bool | Absent
    netdev: str | Absent | None
    chardev: Chardev | Absent | None
    inflight: InflightRegion | Absent | None
    queues: tuple[VhostQueue, ...] | Absent
    shadow: tuple[ShadowQueue, ...] | Absent = ()
