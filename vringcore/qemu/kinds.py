"""What a device type's own structure adds: block back-end, serial, I/O threads, LUNs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.device_structs import (
    IOThread,
    SCSIDevice,
    SCSIDiskState,
    VirtIOBlock,
    VirtIOSCSI,
    VirtIOSCSICommon,
)
from vringcore.qemu.structs import BusChild, BusState, DeviceState
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vringcore.qemu.qom import ObjectModel
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views

MAX_LUNS = 16_384


class Disk(msgspec.Struct, frozen=True):
    """A disk behind a device: where it is addressed, and the BlockBackend's address (0: none)."""

    blk: int | Absent
    serial: str | Absent | None
    unit: str = ""
    id: str | Absent | None = None


class Own(msgspec.Struct, frozen=True):
    """What a device's own structure says beside VirtIODevice; ``limits`` is what it did not.

    ``c_type`` is that structure, "" where none was read.
    """

    disks: tuple[Disk, ...] = ()
    iothread: str | Absent | None = None
    queue_iothreads: tuple[str | Absent, ...] = ()
    c_type: str = ""
    limits: tuple[Limitation, ...] = ()


def own_facts(
    views: Views, objects: ObjectModel, device: HostAddress, queues: Sequence[RawQueue]
) -> Own:
    """Return what the type of the device adds; empty for types without such facts."""
    if objects.is_a(device, "virtio-blk-device"):
        return _blk(views, objects, device, queues)
    if objects.is_a(device, "virtio-scsi-common"):
        return _scsi(views, objects, device, queues)
    return Own()


def _blk(
    views: Views, objects: ObjectModel, device: HostAddress, queues: Sequence[RawQueue]
) -> Own:
    block = views.at(VirtIOBlock, device)
    disk = Disk(
        blk=attempt(lambda: int(block.blk)),
        serial=attempt(lambda: views.string_or_none(block.serial)),
    )
    return Own(
        disks=(disk,),
        iothread=_iothread(objects, lambda: block.iothread),
        queue_iothreads=_mapped_iothreads(
            views,
            objects,
            attempt(lambda: block.iothread_vq_mapping_list),
            attempt(lambda: block.vq_aio_context),
            queues,
        ),
        c_type=VirtIOBlock.c_type,
    )


def _iothread(objects: ObjectModel, read: Callable[[], HostAddress]) -> str | Absent | None:
    """Return the id of the IOThread that a member points to, None if that is NULL."""
    address = attempt(read)
    if isinstance(address, Absent):
        return address
    return _iothread_id(objects, address) if address else None


def _mapped_iothreads(
    views: Views,
    objects: ObjectModel,
    mapping: int | Absent | None,
    contexts: int | Absent | None,
    queues: Sequence[RawQueue],
) -> tuple[str | Absent, ...]:
    """Return the I/O thread of each queue (``iothread-vq-mapping``); empty without.

    :param mapping: the device's list of such mappings
    :param contexts: its ``vq_aio_context``, which has an AioContext for each queue; a context
        belongs to the IOThread whose ``ctx`` it is, and to the main loop otherwise
    """
    for pointer in (mapping, contexts):
        if isinstance(pointer, Absent):
            return tuple(pointer for _ in queues)
    if not mapping or not contexts:
        return ()
    names, lost = _iothreads_by_context(views, objects)
    # A context of which the I/O thread was not found is the main loop's only if all were found.
    other = "main" if lost is None else lost
    size = views.pointer_size
    found: list[str | Absent] = []
    for queue in queues:
        context = _pointer_at(views, contexts + queue.index * size)
        found.append(context if isinstance(context, Absent) else names.get(context, other))
    return tuple(found)


def _pointer_at(views: Views, address: int) -> int | Absent:
    return attempt(lambda: int(views.pointer(address)))


def _iothreads_by_context(
    views: Views, objects: ObjectModel
) -> tuple[dict[int, str | Absent], Absent | None]:
    """Return the ids of the I/O threads by their ``ctx``, and why some are missing, if so."""
    threads, error = collect(objects.instances("iothread", "/objects"))
    lost = None if error is None else absence_of(error)
    names: dict[int, str | Absent] = {}
    for thread in threads:
        try:
            context = int(views.at(IOThread, thread).ctx)
        except VringcoreError as problem:
            lost = absence_of(problem)
        else:
            names[context] = _iothread_id(objects, thread)
    return names, lost


def _iothread_id(objects: ObjectModel, thread: HostAddress) -> str | Absent:
    """Return an IOThread's id: the last part of its path below /objects."""
    return attempt(lambda: objects.path(thread).rsplit("/", 1)[-1])


def _scsi(
    views: Views, objects: ObjectModel, device: HostAddress, queues: Sequence[RawQueue]
) -> Own:
    disks: list[Disk] = []
    errors = []
    device_state = views.at(DeviceState, device)
    buses, error = collect(views.elements(device_state.child_bus, BusState, "sibling"))
    errors.append(error)
    for bus in buses:
        children, error = collect(views.elements(bus.children, BusChild, "sibling", limit=MAX_LUNS))
        errors.append(error)
        disks += [
            _lun(views, objects, child.child)
            for child in reversed(children)
            if objects.is_a(child.child, "scsi-device")
        ]
    common = views.at(VirtIOSCSICommon, device)
    return Own(
        disks=tuple(disks),
        iothread=_iothread(objects, lambda: common.iothread),
        queue_iothreads=_scsi_iothreads(views, objects, common, queues),
        limits=tuple(
            Limitation("not all disks of the SCSI adapter are shown", str(error), error.hint)
            for error in errors
            if error is not None
        ),
    )


def _scsi_iothreads(
    views: Views, objects: ObjectModel, common: VirtIOSCSICommon, queues: Sequence[RawQueue]
) -> tuple[str | Absent, ...]:
    # vhost-scsi shares the common part and is no VirtIOSCSI.
    if not objects.is_a(common.address_, "virtio-scsi-device"):
        return ()
    mapping = attempt(lambda: common.iothread_vq_mapping_list)
    if mapping is None:
        return ()
    contexts = attempt(lambda: views.at(VirtIOSCSI, common.address_).vq_aio_context)
    return _mapped_iothreads(views, objects, mapping, contexts, queues)


def _lun(views: Views, objects: ObjectModel, address: HostAddress) -> Disk:
    scsi = views.at(SCSIDevice, address)
    unit = attempt(lambda: f"{scsi.channel}:{scsi.id}:{scsi.lun}")
    return Disk(
        blk=attempt(lambda: int(scsi.conf_blk)),
        # Of the SCSI devices only disks and CD-ROMs have a serial (hw/scsi/scsi-disk.c).
        serial=attempt(lambda: views.string_or_none(views.at(SCSIDiskState, address).serial))
        if objects.is_a(address, "scsi-disk-base")
        else None,
        unit=unit if isinstance(unit, str) else "?",
        id=attempt(lambda: views.string_or_none(views.at(DeviceState, address).id_)),
    )
