"""virtio-iommu: the mappings that QEMU keeps for the guest (hw/virtio/virtio-iommu.c).

The guest attaches each device (an endpoint) to a domain; a domain has mappings of its own, or lets
all addresses through (VirtIO 1.3, 5.13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import SPACE_END
from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.memory.gaps import GapKind
from vringcore.qemu.glib_tree import search
from vringcore.qemu.iommu import (
    LET_THROUGH,
    NAME,
    IommuSpace,
    UniformSpace,
    bus_number,
    denied,
    kind_of,
)
from vringcore.qemu.iommu_structs import (
    IOMMUDevice,
    VirtIOIOMMU,
    VirtIOIOMMUDomain,
    VirtIOIOMMUEndpoint,
    VirtIOIOMMUInterval,
    VirtIOIOMMUMapping,
)
from vringcore.qemu.memory import guest_memory
from vringcore.qemu.paged_space import Mapping
from vringcore.virtio.features import has_feature

if TYPE_CHECKING:
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.view.views import Views

UNIT = ("hw/virtio/virtio-iommu.c",)

F_BYPASS = 3
"""VIRTIO_IOMMU_F_BYPASS: endpoints without a domain are let through (5.13.3)."""
MAP_READ, MAP_WRITE = 1 << 0, 1 << 1
"""Flags of a mapping (5.13.6.5)."""


class VirtioIommuSpace(IommuSpace):
    """What a device sees through the mappings of its domain.

    :param mappings: address of the domain's ``GTree``
    """

    def __init__(self, memory: GuestSpace, views: Views, mappings: int) -> None:
        super().__init__(memory, NAME)
        self._views = views
        self._mappings = mappings

    def look_up(self, address: int) -> Mapping:
        """Return the mapping that an address lies in, or the stretch between two."""
        tree = f"the mappings at {self._mappings:#x}"
        try:
            found = search(self._views, self._mappings, lambda key: self._compare(key, address))
            if found.value is None:
                start = 0 if found.before is None else self._interval(found.before)[1] + 1
                end = SPACE_END if found.after is None else self._interval(found.after)[0]
                if not start <= address < end:
                    start, end = address, address + 1  # keys out of order: nothing is said
                why = f"none of {tree} of the device's domain has it"
                return denied(start, end - start, GapKind.UNMAPPED, why)
            return self._mapping(found.key, found.value)
        except VringcoreError as error:
            return denied(address, 1, kind_of(error), f"{tree} cannot be used: {error}")

    def _mapping(self, key: int, value: int) -> Mapping:
        low, high = self._interval(key)
        view = self._views.at(VirtIOIOMMUMapping, value)
        physical, flags, size = view.phys_addr, view.flags, high - low + 1
        if physical + size > SPACE_END:
            raise CorruptDataError(
                "a mapping that leaves the guest's memory",
                where=f"VirtIOIOMMUMapping at {value:#x}",
                seen=f"phys_addr {physical:#x} for {size:#x} bytes",
            )
        return Mapping(low, size, physical, None, bool(flags & MAP_READ), bool(flags & MAP_WRITE))

    def _compare(self, key: int, address: int) -> int:
        low, high = self._interval(key)
        return -1 if address < low else int(address > high)

    def _interval(self, key: int) -> tuple[int, int]:
        view = self._views.at(VirtIOIOMMUInterval, key)
        low, high = view.low, view.high
        if low > high:
            raise CorruptDataError(
                "an interval that ends before it begins",
                where=f"VirtIOIOMMUInterval at {key:#x}",
                seen=f"low {low:#x}, high {high:#x}",
            )
        return low, high


DETACHED = denied(
    0,
    SPACE_END,
    GapKind.UNMAPPED,
    "virtio-iommu has the device in no domain, and lets nothing through",
)


def virtio_iommu_space(views: Views, region: int) -> IommuSpace:
    """Return what a device sees, from the MemoryRegion in its ``IOMMUDevice``.

    :raises LayoutMissingError: if the build does not define the structures
    :raises VringcoreError: if they, or the guest's memory map, cannot be read
    """
    device = views.at(IOMMUDevice, region - views.offset(IOMMUDevice.c_type, "iommu_mr", UNIT))
    unit = views.at(VirtIOIOMMU, device.viommu)
    endpoint = _endpoint(views, unit, bus_number(views, device.bus) << 8 | device.devfn & 0xFF)
    domain = views.at(VirtIOIOMMUEndpoint, endpoint).domain if endpoint else 0
    memory = guest_memory(views)
    if not domain:
        return UniformSpace(memory, LET_THROUGH if _lets_through(unit) else DETACHED)
    its = views.at(VirtIOIOMMUDomain, domain)
    if its.bypass:
        return UniformSpace(memory, LET_THROUGH)
    return VirtioIommuSpace(memory, views, its.mappings)


def _endpoint(views: Views, unit: VirtIOIOMMU, requester: int) -> int:
    """Return the address of an endpoint, 0 if the guest has not attached it."""

    def compare(key: int) -> int:
        number = key & 0xFFFFFFFF
        return -1 if requester < number else int(requester > number)

    return search(views, unit.endpoints, compare).value or 0 if unit.endpoints else 0


def _lets_through(unit: VirtIOIOMMU) -> bool:
    if unit.bypass is not None:
        return bool(unit.bypass)
    return has_feature(unit.guest_features, F_BYPASS)
