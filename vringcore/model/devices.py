"""A virtio device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.values import Absent, Fields, Flags, Hex

if TYPE_CHECKING:  # not every question is about them
    from vringcore.model.queues import Queue
    from vringcore.model.vhost import Vhost


class Backend(msgspec.Struct, frozen=True, omit_defaults=True):
    """The block back-end of a disk: BlockBackend, its root node and that node's file.

    ``in_flight`` counts AIO requests; ``quiesce_counter`` above 0 means inside a drained section.
    ``unknown_members`` are those of BlockBackend that no upstream QEMU has.
    """

    address: Hex
    name: str | Absent | None
    node: str | Absent | None
    driver: str | Absent | None
    file: str | Absent | None
    in_flight: int | Absent
    quiesce_counter: int | Absent
    io_status: str | Absent | None = None
    unknown_members: tuple[str, ...] = ()


class Disk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A disk behind a virtio-scsi adapter; ``unit`` is its ``channel:target:lun``."""

    unit: str
    id: str | Absent | None
    serial: str | Absent | None
    backend: Backend | Absent | None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One virtio device.

    ``id`` is the user's (``-device ...,id=``) and may be None; ``qom_path`` is the key. ``kind``
    is the device type's name in words (``virtio-blk``), ``type_name`` the QOM type. ``transport``
    is ``pci``, ``mmio``, ``ccw`` or ``unknown``. ``ring_owner`` tells who moves the ring indices:
    ``qemu``, ``vhost-kernel``, ``vhost-user``, ``vhost-user-disconnected``, ``vdpa``,
    ``shadow-vq``, ``unknown``; where queues differ, it is who runs those that QEMU does not, and
    each queue has its own. ``vhost`` is what QEMU knows of that back-end. ``found_by`` lists the
    independent ways that led to it.
    ``unknown_members`` are those of VirtIODevice that no upstream QEMU has, and those of the
    device's own structure by their path in it (``VirtIOBlock.conf.conf.retry_interval``).

    ``serial``, ``iothread``, ``queue_iothreads``, ``backend``, ``disks``, ``vhost`` and the unknown
    members of the device's own structure come with the part ``devices`` of a report, not with
    queues alone.
    """

    index: int
    id: str | Absent | None
    kind: str
    type_name: str
    qom_path: str | Absent
    address: Hex
    transport: str
    pci_address: str | Absent | None
    serial: str | Absent | UnsetType | None = UNSET
    device_id: int | Absent
    status: Flags | Absent
    host_features: Flags | Absent
    guest_features: Flags | Absent
    broken: bool | Absent
    vm_running: bool | Absent
    ring_owner: str
    iothread: str | Absent | UnsetType | None = UNSET
    queue_iothreads: tuple[str | Absent, ...] | UnsetType = UNSET
    backend: Backend | Absent | UnsetType | None = UNSET
    disks: tuple[Disk, ...] | UnsetType = UNSET
    found_by: tuple[str, ...]
    fields: Fields | Absent | UnsetType = UNSET
    unknown_members: tuple[str, ...] = ()
    queues: tuple[Queue, ...] | UnsetType = UNSET
    vhost: tuple[Vhost, ...] | UnsetType = UNSET
