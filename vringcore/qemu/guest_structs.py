"""The structures of guest memory and vCPUs that only questions about the guest itself need; as
:mod:`vringcore.qemu.structs`.
"""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    integer_if_any,
    place,
    pointer,
)


class AddressSpaceView(View):
    c_type = "struct AddressSpace"
    unit = ("hw/virtio/virtio.c",)

    name = pointer()
    current_map = pointer()


class FlatView(View):
    c_type = "struct FlatView"
    unit = ("system/memory.c", "softmmu/memory.c")

    ranges = pointer()
    nr = integer()


class FlatRange(View):
    c_type = "struct FlatRange"
    unit = ("system/memory.c", "softmmu/memory.c")

    mr = pointer()
    offset_in_region = integer()
    start = place("addr.start")
    size = place("addr.size")
    readonly = boolean()
    romd_mode = boolean()


class MemoryRegion(View):
    c_type = "struct MemoryRegion"
    unit = ("hw/virtio/virtio.c",)

    ram = boolean()
    ram_device = boolean_if_any()
    is_iommu = boolean()
    ram_block = pointer()
    name = pointer()


class RegionKind(View):
    """include/exec/memory.h (since 10.1 include/system/memory.h): what tells kinds apart."""

    c_type = "struct MemoryRegion"
    unit = ("hw/virtio/virtio.c",)

    ram = boolean()
    rom_device = boolean()
    ram_device = boolean_if_any()
    is_iommu = boolean()
    nonvolatile = boolean_if_any()
    ram_block = pointer()
    name = pointer()


class FlatRangeState(View):
    """What a FlatRange says beside its place."""

    c_type = "struct FlatRange"
    unit = ("system/memory.c", "softmmu/memory.c")

    romd_mode = boolean()
    nonvolatile = boolean_if_any()


class VCpuState(View):
    """include/hw/core/cpu.h."""

    c_type = "struct CPUState"
    unit = ("hw/core/cpu-common.c", "system/cpus.c", "softmmu/cpus.c", "cpus.c")

    cpu_index = integer()
    halted = boolean()
    # kvm_vcpu_dirty up to 2.11
    vcpu_dirty = boolean_if_any("vcpu_dirty", "kvm_vcpu_dirty")


class X86CPU(View):
    """target/i386/cpu.h; a typedef of ``struct ArchCPU`` since 7.0, ``struct X86CPU`` before."""

    c_type = "typedef X86CPU"
    unit = ("target/i386/cpu.c",)

    env = place()


class CPUX86State(View):
    """target/i386/cpu.h. ``eip`` has the width of the target: ``target_ulong``."""

    c_type = "typedef CPUX86State"
    unit = ("target/i386/cpu.c",)

    regs = place()
    eip = integer()
    eflags = integer()
    segs = place()
    ldt = place()
    tr = place()
    gdt = place()
    idt = place()
    cr = place()
    efer = integer_if_any()
    kernelgsbase = integer_if_any()


class SegmentCache(View):
    """target/i386/cpu.h."""

    c_type = "struct SegmentCache"
    unit = ("target/i386/cpu.c",)

    selector = integer()
    base = integer()
    limit = integer()
    flags = integer()


class VMCoreInfoState(View):
    """hw/misc/vmcoreinfo.c; the numbers are little-endian, as the guest wrote them."""

    c_type = "struct VMCoreInfoState"
    unit = ("hw/misc/vmcoreinfo.c", "system/dump.c", "dump/dump.c")

    has_vmcoreinfo = boolean()
    vmcoreinfo = place()
