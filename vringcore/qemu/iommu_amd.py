"""AMD's IOMMU: its tables are not followed, but as long as the guest leaves it off it does nothing.

QEMU may have the IOMMU's memory region in force then, too (7.2 and 10.0, hw/i386/amd_iommu.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.qemu.iommu import AMD, LET_THROUGH, IommuSpace, UniformSpace, not_followed
from vringcore.qemu.iommu_structs import AMDVIAddressSpace, AMDVIState
from vringcore.qemu.memory import guest_memory

if TYPE_CHECKING:
    from vringcore.view.views import Views

UNIT = ("hw/i386/amd_iommu.c",)


def amd_space(views: Views, region: int) -> IommuSpace:
    """Return what a device sees, from the MemoryRegion in its ``AMDVIAddressSpace``.

    :raises LayoutMissingError: if the build does not define the structures
    :raises VringcoreError: if they, or the guest's memory map, cannot be read
    """
    at = region - views.offset(AMDVIAddressSpace.c_type, "iommu", UNIT)
    unit = views.at(AMDVIState, views.at(AMDVIAddressSpace, at).iommu_state)
    if unit.enabled:
        return not_followed(views, AMD)
    return UniformSpace(guest_memory(views), LET_THROUGH)
