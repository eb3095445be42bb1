"""What an IOMMU does to the addresses of a device: from its memory region to a space to read.

QEMU gives each device behind an IOMMU a memory region of its own (``MemoryRegion.is_iommu``), which
is embedded in the structure that knows the device. The region's QOM type tells the IOMMU's kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import SPACE_END, IoVirtualAddress
from vringcore.errors import MemoryFault, VringcoreError
from vringcore.memory.gaps import Gap, GapKind
from vringcore.qemu.flat_space import FlatSpace
from vringcore.qemu.memory import Regions
from vringcore.qemu.paged_space import Mapping, PagedSpace
from vringcore.qemu.pci import PCI_SECONDARY_BUS
from vringcore.qemu.structs import Object, ObjectClass, PCIBus, PCIDevice, PXBDev, TypeImpl

if TYPE_CHECKING:
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.view.views import Views

IommuSpace = PagedSpace[IoVirtualAddress]
"""The addresses of a device behind an IOMMU."""

NAME = "memory as the device sees it"

NOT_FOLLOWED = (
    "the tables of this IOMMU are not followed (memory region of type {}); requests that QEMU has "
    "taken hold their own addresses in its memory, and while it answers, QMP's "
    "x-query-virtio-queue-element shows its rings"
)

INTEL = "intel-iommu-iommu-memory-region"
VIRTIO = "virtio-iommu-memory-region"
AMD = "amd-iommu-iommu-memory-region"

LET_THROUGH = Mapping(0, SPACE_END, 0)
"""What an IOMMU answers that lets a device's addresses through as they are."""

_EXTRA_ROOT_BUSES = ("pxb-bus", "pxb-pcie-bus", "pxb-cxl-bus")
_MAX_NAME = 256


class UniformSpace(IommuSpace):
    """The addresses of a device of which all have the same answer.

    :param answer: a mapping of everything, or a denial
    """

    def __init__(self, memory: GuestSpace, answer: Mapping) -> None:
        super().__init__(memory, NAME)
        self._answer = answer

    def look_up(self, _address: int) -> Mapping:
        """Return the answer."""
        return self._answer


def denied(start: int, size: int, kind: GapKind, why: str) -> Mapping:
    """Return a stretch that leads nowhere."""
    return Mapping(start, size, None, Gap(kind, start, size, why))


def iommu_space(views: Views, region: int) -> IommuSpace:
    """Return what a device sees through the IOMMU whose MemoryRegion lies at an address.

    Whatever hinders a translation is a gap of that space.
    """
    try:
        kind = type_name(views, region)
        if kind == INTEL:
            from vringcore.qemu.iommu_vtd import vtd_space

            return vtd_space(views, region)
        if kind == VIRTIO:
            from vringcore.qemu.iommu_virtio import virtio_iommu_space

            return virtio_iommu_space(views, region)
        if kind == AMD:
            from vringcore.qemu.iommu_amd import amd_space

            return amd_space(views, region)
    except VringcoreError as error:
        why = f"the state of the IOMMU cannot be read: {error}"
        return _unfollowed(views, why, kind_of(error))
    return not_followed(views, kind)


def not_followed(views: Views, kind: str) -> IommuSpace:
    """Return what can be told of a device whose IOMMU's tables are not known here."""
    return _unfollowed(views, NOT_FOLLOWED.format(kind), GapKind.UNTRANSLATABLE)


def _unfollowed(views: Views, why: str, kind: GapKind) -> IommuSpace:
    nothing: GuestSpace = FlatSpace(views.space, (), Regions(views))
    return UniformSpace(nothing, denied(0, SPACE_END, kind, why))


def kind_of(failure: VringcoreError) -> GapKind:
    """Return the kind of the gap where QEMU's own record of a device's mappings cannot be used.

    A pointer to nowhere says nothing of the mappings: UNMAPPED is kept for what they do not have.
    """
    if isinstance(failure, MemoryFault) and failure.gap.kind is not GapKind.UNMAPPED:
        return failure.gap.kind
    return GapKind.UNTRANSLATABLE


def type_name(views: Views, address: int) -> str:
    """Return the name of an object's QOM type.

    :raises MemoryFault: if the way there is not in the core
    """
    class_ = views.at(Object, address).class_
    return views.string(views.at(TypeImpl, views.at(ObjectClass, class_).type_).name, _MAX_NAME)


def bus_number(views: Views, bus: int) -> int:
    """Return the number of a ``PCIBus`` as the guest knows it (``pci_bus_num()``).

    :raises MemoryFault: if what tells it is not in the core
    """
    bridge = views.at(PCIBus, bus).parent_dev
    if not bridge:
        return 0
    if type_name(views, bus) in _EXTRA_ROOT_BUSES:
        return views.at(PXBDev, bridge).bus_nr & 0xFF
    return views.integer(views.at(PCIDevice, bridge).config + PCI_SECONDARY_BUS, 1)
