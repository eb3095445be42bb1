"""The structures of IOMMUs that QEMU emulates; as :mod:`vringcore.qemu.structs`."""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    integer_if_any,
    pointer,
)


class VTDAddressSpace(View):
    """include/hw/i386/intel_iommu.h: a device behind intel-iommu."""

    c_type = "struct VTDAddressSpace"
    unit = ("hw/i386/intel_iommu.c",)

    bus = pointer()
    devfn = integer()
    pasid = integer_if_any()  # since 7.2
    iommu_state = pointer()


class IntelIOMMUState(View):
    """include/hw/i386/intel_iommu.h. ``root`` is the address of the root table alone."""

    c_type = "struct IntelIOMMUState"
    unit = ("hw/i386/intel_iommu.c",)

    root = integer()
    root_scalable = boolean_if_any()  # since 4.1
    aw_bits = integer()


class AMDVIAddressSpace(View):
    """hw/i386/amd_iommu.c: a device behind amd-iommu."""

    c_type = "struct AMDVIAddressSpace"
    unit = ("hw/i386/amd_iommu.c",)

    iommu_state = pointer()


class AMDVIState(View):
    """hw/i386/amd_iommu.h."""

    c_type = "struct AMDVIState"
    unit = ("hw/i386/amd_iommu.c",)

    enabled = boolean()


class IOMMUDevice(View):
    """include/hw/virtio/virtio-iommu.h: a device behind virtio-iommu."""

    c_type = "struct IOMMUDevice"
    unit = ("hw/virtio/virtio-iommu.c",)

    viommu = pointer()
    bus = pointer()
    devfn = integer()


class VirtIOIOMMU(View):
    """include/hw/virtio/virtio-iommu.h. Up to 6.2 a feature bit says what ``bypass`` says."""

    c_type = "struct VirtIOIOMMU"
    unit = ("hw/virtio/virtio-iommu.c",)

    endpoints = pointer()
    bypass = integer_if_any("config.bypass")
    guest_features = integer("parent_obj.guest_features")


class VirtIOIOMMUEndpoint(View):
    """hw/virtio/virtio-iommu.c."""

    c_type = "struct VirtIOIOMMUEndpoint"
    unit = ("hw/virtio/virtio-iommu.c",)

    domain = pointer()


class VirtIOIOMMUDomain(View):
    """hw/virtio/virtio-iommu.c. ``mappings`` is a GTree of intervals and mappings."""

    c_type = "struct VirtIOIOMMUDomain"
    unit = ("hw/virtio/virtio-iommu.c",)

    bypass = boolean_if_any()  # since 7.0
    mappings = pointer()


class VirtIOIOMMUInterval(View):
    """hw/virtio/virtio-iommu.c: addresses from ``low`` to ``high``, both included."""

    c_type = "struct VirtIOIOMMUInterval"
    unit = ("hw/virtio/virtio-iommu.c",)

    low = integer()
    high = integer()


class VirtIOIOMMUMapping(View):
    """hw/virtio/virtio-iommu.c."""

    c_type = "struct VirtIOIOMMUMapping"
    unit = ("hw/virtio/virtio-iommu.c",)

    phys_addr = integer()
    flags = integer()
