"""What checks of another build's types read of QEMU's structures beside what answers do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import GuestAddress
from vringcore.qemu.guest_structs import AddressSpaceView
from vringcore.qemu.qom import MAX_DEPTH, MAX_NAME
from vringcore.qemu.structs import ObjectClass, RAMList, TypeImpl, VMChangeStateEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.addresses import HostAddress
    from vringcore.view.views import Views

INSTANCES = {
    "object": "struct Object",
    "device": "struct DeviceState",
    "bus": "struct BusState",
    "machine": "struct MachineState",
    "cpu": "struct CPUState",
    "iothread": "struct IOThread",
    "migration": "struct MigrationState",
    "pci-device": "struct PCIDevice",
    "PCI": "struct PCIBus",
    "virtio-pci": "struct VirtIOPCIProxy",
    "virtio-mmio": "struct VirtIOMMIOProxy",
    "virtio-bus": "struct VirtioBusState",
    "virtio-device": "struct VirtIODevice",
    "virtio-blk-device": "struct VirtIOBlock",
    "virtio-net-device": "struct VirtIONet",
    "virtio-scsi-common": "struct VirtIOSCSICommon",
    "virtio-scsi-device": "struct VirtIOSCSI",
    "virtio-serial-device": "struct VirtIOSerial",
    "virtio-balloon-device": "struct VirtIOBalloon",
    "virtio-rng-device": "struct VirtIORNG",
    "virtio-gpu-device": "struct VirtIOGPU",
    "virtio-iommu-device": "struct VirtIOIOMMU",
    "intel-iommu": "struct IntelIOMMUState",
    "memory-region": "struct MemoryRegion",
    "scsi-device": "struct SCSIDevice",
}
"""QOM types and the structures of their instances."""


def instance_sizes(views: Views, class_: int) -> Iterator[tuple[str, int]]:
    """Yield name and ``instance_size`` of a class's type and its parents (qom/object.c).

    The size is 0 for a type of which there never was an object.
    """
    address: int = views.at(ObjectClass, class_).type_
    for _ in range(MAX_DEPTH):
        if not address:
            return
        type_ = views.at(TypeImpl, address)
        yield views.string(type_.name, MAX_NAME), type_.instance_size
        address = type_.parent_type


def handler_entry(views: Views, address: int) -> VMChangeStateEntry:
    """Return the entry that a device has registered for changes of the run state."""
    return views.at(VMChangeStateEntry, address)


def ram_list_head(views: Views) -> HostAddress:
    """Return the head of the list of RAM blocks."""
    return views.at(RAMList, views.address_of("ram_list")).blocks


def name_of_address_space(views: Views, address: int) -> str | None:
    """Return ``AddressSpace.name``."""
    return views.string_or_none(views.at(AddressSpaceView, address).name, MAX_NAME)


def guest_address(value: int) -> GuestAddress:
    """Return a number of a ring as the guest-physical address that it is without an IOMMU."""
    return GuestAddress(value)
