"""What a device type's own structure adds: block back-end, serial, I/O threads, LUNs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu.absence import attempt
from vringcore.qemu.structs import (
    BusChild,
    BusState,
    DeviceState,
    IOThread,
    SCSIDevice,
    SCSIDiskState,
    VirtIOBlock,
    VirtIOSCSICommon,
)
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from vringcore.qemu.qom import ObjectModel
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
    queue_iothreads: tuple[str, ...] = ()
    c_type: str = ""
    limits: tuple[Limitation, ...] = ()


def own_facts(views: Views, objects: ObjectModel, device: HostAddress, queues: int) -> Own:
    """Return what the type of the device adds; empty for types without such facts."""
    if objects.is_a(device, "virtio-blk-device"):
        return _blk(views, objects, device, queues)
    if objects.is_a(device, "virtio-scsi-common"):
        return _scsi(views, objects, device)
    return Own()


def _blk(views: Views, objects: ObjectModel, device: HostAddress, queues: int) -> Own:
    block = views.at(VirtIOBlock, device)
    disk = Disk(
        blk=attempt(lambda: int(block.blk)),
        serial=attempt(lambda: views.string_or_none(block.serial)),
    )
    return Own(
        disks=(disk,),
        iothread=attempt(lambda: _iothread(objects, block.iothread)),
        queue_iothreads=_mapped_iothreads(views, objects, block, queues),
        c_type=VirtIOBlock.c_type,
    )


def _iothread(objects: ObjectModel, address: int) -> str | None:
    """Return an IOThread's id: the last part of its path below /objects."""
    return objects.path(address).rsplit("/", 1)[-1] if address else None


def _mapped_iothreads(
    views: Views, objects: ObjectModel, block: VirtIOBlock, queues: int
) -> tuple[str, ...]:
    """Return the I/O thread of each queue (``iothread-vq-mapping``, since 9.0); empty without.

    ``VirtIOBlock.vq_aio_context`` holds a context for each queue; a context belongs to the IOThread
    whose ``ctx`` it is, and to the main loop otherwise.
    """
    if not queues or not _has_mapping(block):
        return ()
    contexts = block.vq_aio_context
    if not contexts:
        return ()
    threads, _error = collect(objects.instances("iothread", "/objects"))
    names = {}
    for thread in threads:
        context = attempt(lambda t=thread: int(views.at(IOThread, t).ctx))  # type: ignore[misc]
        if not isinstance(context, Absent):
            names[context] = objects.path(thread).rsplit("/", 1)[-1]
    found = []
    for index in range(queues):
        context = attempt(lambda i=index: int(views.pointer(contexts + i * views.pointer_size)))  # type: ignore[misc]
        found.append("?" if isinstance(context, Absent) else names.get(context, "main"))
    return tuple(found)


def _has_mapping(block: VirtIOBlock) -> bool:
    mapping = attempt(lambda: block.iothread_vq_mapping_list)
    return bool(mapping) if not isinstance(mapping, Absent) else False


def _scsi(views: Views, objects: ObjectModel, device: HostAddress) -> Own:
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
        iothread=attempt(lambda: _iothread(objects, common.iothread)),
        limits=tuple(
            Limitation("not all disks of the SCSI adapter are shown", str(error), error.hint)
            for error in errors
            if error is not None
        ),
    )


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
