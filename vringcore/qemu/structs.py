"""Every QEMU structure that is read by name, and where its definition lies.

This is the file that a change in QEMU touches. A member lists older names after its newest one;
``*_if_any`` marks what only some releases have, with the releases in a comment. ``unit`` names the
source files that define the type, newest place first: a hint for finding it fast, never trusted.
"""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    place,
    place_if_any,
    pointer,
    text,
)

# Objects (qom/object.c, include/qom/object.h) and devices (include/hw/qdev-core.h)


class Object(View):
    c_type = "struct Object"
    unit = ("hw/virtio/virtio.c",)

    class_ = pointer("class")
    properties = pointer()
    parent = pointer()


class ObjectClass(View):
    c_type = "struct ObjectClass"
    unit = ("hw/virtio/virtio.c",)

    type_ = pointer("type")


class TypeImpl(View):
    c_type = "struct TypeImpl"
    unit = ("qom/object.c",)

    name = pointer()
    instance_size = integer()
    parent = pointer()
    parent_type = pointer()
    class_ = pointer("class")


class ObjectProperty(View):
    c_type = "struct ObjectProperty"
    unit = ("qom/object.c",)

    name = pointer()
    type_ = pointer("type")
    opaque = pointer()


class DeviceState(View):
    c_type = "struct DeviceState"
    unit = ("hw/virtio/virtio.c",)

    id_ = pointer("id")
    canonical_path = pointer()
    realized = boolean()
    parent_bus = pointer()
    child_bus = place()
    first_bus = pointer("child_bus.lh_first")


class BusState(View):
    c_type = "struct BusState"
    unit = ("hw/virtio/virtio.c",)

    parent = pointer()
    name = pointer()
    children = place()
    next_ = pointer("sibling.le_next")  # read along: a walk over the list needs it next


class BusChild(View):
    c_type = "struct BusChild"
    unit = ("hw/virtio/virtio.c",)

    child = pointer()
    index = integer()
    next_ = pointer("sibling.tqe_next")  # likewise


class PCIDevice(View):
    c_type = "struct PCIDevice"
    unit = ("hw/virtio/virtio-pci.c",)

    devfn = integer()
    config = pointer()


class PCIBus(View):
    c_type = "struct PCIBus"
    unit = ("hw/virtio/virtio-pci.c", "hw/pci/pci.c")

    parent_dev = pointer()


class PXBDev(View):
    c_type = "struct PXBDev"
    unit = ("hw/pci-bridge/pci_expander_bridge.c",)

    bus_nr = integer()


# Virtio (hw/virtio/virtio.c, include/hw/virtio/virtio.h)


class VMChangeStateEntry(View):
    c_type = "struct VMChangeStateEntry"
    # softmmu/vl.c in 5.2, softmmu/runstate.c up to 8.2, system/runstate.c since 9.0
    unit = ("system/runstate.c", "softmmu/runstate.c", "softmmu/vl.c")

    opaque = pointer()
    next_ = pointer("entries.tqe_next")  # likewise


class VirtIODevice(View):
    c_type = "struct VirtIODevice"
    unit = ("hw/virtio/virtio.c",)

    name = pointer()
    status = integer()
    isr = integer()
    guest_features = integer()
    host_features = integer()
    # Since 10.2 a feature word is a union with the 128-bit form X_ex[2].
    guest_features_ex = place_if_any()
    host_features_ex = place_if_any()
    vq = pointer()
    device_id = integer()
    vm_running = boolean()
    broken = boolean()
    disabled = boolean_if_any()
    started = boolean_if_any()
    use_started = boolean_if_any()
    vmstate = pointer()
    device_endian = integer()
    dma_as = pointer()
    vhost_started = boolean_if_any()  # since 7.1


class VirtQueue(View):
    c_type = "struct VirtQueue"
    unit = ("hw/virtio/virtio.c",)

    num = integer("vring.num")
    num_default = integer("vring.num_default")
    desc = integer("vring.desc")
    avail = integer("vring.avail")
    used = integer("vring.used")
    caches = pointer("vring.caches")
    last_avail_idx = integer()
    last_avail_wrap_counter = boolean_if_any()  # since 4.2
    shadow_avail_idx = integer()
    used_idx = integer()
    used_wrap_counter = boolean_if_any()  # since 4.2
    signalled_used = integer()
    signalled_used_valid = boolean()
    notification = boolean()
    queue_index = integer()
    inuse = integer()
    vector = integer()
    handle_output = pointer()
    vdev = pointer()


class VRingMemoryRegionCaches(View):
    c_type = "struct VRingMemoryRegionCaches"
    unit = ("hw/virtio/virtio.c",)

    desc_ptr = pointer("desc.ptr")
    desc_xlat = integer("desc.xlat")
    avail_ptr = pointer("avail.ptr")
    avail_xlat = integer("avail.xlat")
    used_ptr = pointer("used.ptr")
    used_xlat = integer("used.xlat")


# Memory (include/exec/memory.h, ramblock.h; system/physmem.c)


class RAMList(View):
    c_type = "struct RAMList"
    unit = ("system/physmem.c", "softmmu/physmem.c", "exec.c")

    blocks = place()


class RAMBlock(View):
    c_type = "struct RAMBlock"
    unit = ("system/physmem.c", "softmmu/physmem.c", "exec.c")

    host = pointer()
    offset = integer()
    used_length = integer()
    max_length = integer()
    flags = integer()
    idstr = text()
    fd = integer()
    page_size = integer()


# Machine and run state (hw/core/machine.c; system/runstate.c; migration/migration.c)


class MachineState(View):
    c_type = "struct MachineState"
    unit = ("hw/core/machine.c",)

    ram_size = integer()
    accelerator = pointer()
    dump_guest_core = boolean()


class MachineClass(View):
    c_type = "struct MachineClass"
    unit = ("hw/core/machine.c",)

    name = pointer()


class MigrationState(View):
    c_type = "struct MigrationState"
    unit = ("migration/migration.c",)

    state = integer()
    # Milliseconds of QEMU_CLOCK_REALTIME, 0 until the event
    start_time = integer()
    iteration_start_time = integer()
    downtime_start = integer()


class QEnumLookup(View):
    c_type = "struct QEnumLookup"
    unit = ("qapi/qapi-types-run-state.c", "hw/core/machine.c")

    array = pointer()
    size = integer()


VARIABLES: dict[str, tuple[str, ...]] = {
    "main_system_bus": ("hw/core/sysbus.c",),
    "vm_change_state_head": ("system/runstate.c", "softmmu/runstate.c", "softmmu/vl.c"),
    "vhost_devices": ("hw/virtio/vhost.c",),
    "address_space_memory": ("system/physmem.c", "softmmu/physmem.c", "exec.c"),
    "ram_list": ("system/physmem.c", "softmmu/physmem.c", "exec.c"),
    "current_machine": ("hw/core/machine.c", "softmmu/vl.c"),
    "current_run_state": ("system/runstate.c", "softmmu/runstate.c", "softmmu/vl.c"),
    "current_migration": ("migration/migration.c",),
    "qemu_name": ("system/globals.c", "softmmu/globals.c", "softmmu/vl.c"),
    "qemu_uuid": ("system/globals.c", "softmmu/globals.c", "softmmu/vl.c"),
}
"""Global and static variables that every question needs, and the files that define them."""

ENUMS: dict[str, tuple[str, ...]] = {
    "enum RunState": ("system/runstate.c", "softmmu/runstate.c", "softmmu/vl.c"),
    "enum MigrationStatus": ("migration/migration.c",),
}
"""Enumerations whose names are shown."""
