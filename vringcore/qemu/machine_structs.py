"""The structures of the machine around the devices; as :mod:`vringcore.qemu.structs`."""

from __future__ import annotations

from vringcore.view.declare import (
    View,
    boolean,
    boolean_if_any,
    integer,
    integer_if_any,
    pointer,
)


class CPURunState(View):
    """include/hw/core/cpu.h."""

    c_type = "struct CPUState"
    unit = ("hw/core/cpu-common.c", "system/cpus.c", "softmmu/cpus.c", "cpus.c")

    thread = pointer()
    thread_id = integer()
    cpu_index = integer()
    halted = boolean()
    created = boolean()
    stop = boolean()
    stopped = boolean()
    crash_occurred = boolean()


# Migration (migration/migration.h, util/error.c)


class OutgoingMigration(View):
    c_type = "struct MigrationState"
    unit = ("migration/migration.c",)

    state = integer()
    thread = integer("thread.thread")
    migration_thread_running = boolean_if_any()
    start_time = integer()  # milliseconds of QEMU_CLOCK_REALTIME, 0 until it begins
    vm_was_running = boolean_if_any()  # until 8.2
    vm_old_state = integer_if_any()  # since 9.0: a RunState, -1 until the VM is stopped
    error = pointer()


class IncomingMigration(View):
    c_type = "struct MigrationIncomingState"
    unit = ("migration/migration.c",)

    state = integer()
    have_listen_thread = boolean()
    listen_thread = integer("listen_thread.thread")


class Error(View):
    c_type = "struct Error"
    unit = ("util/error.c",)

    msg = pointer()


# Interrupts (include/hw/pci/pci_device.h, hw/virtio/virtio-pci.h, hw/virtio/virtio.c)


class PCIInterrupts(View):
    c_type = "struct PCIDevice"
    unit = ("hw/virtio/virtio-pci.c",)

    config = pointer()
    irq_state = integer()
    msix_cap = integer()
    msix_entries_nr = integer()
    msix_table = pointer()
    msix_pba = pointer()
    msix_function_masked = boolean()


class VirtIOPCIVectors(View):
    c_type = "struct VirtIOPCIProxy"
    unit = ("hw/virtio/virtio-pci.c",)

    vector_irqfd = pointer()
    nvqs_with_notifiers = integer()


class VirtIOIRQFD(View):
    c_type = "typedef VirtIOIRQFD"
    unit = ("hw/virtio/virtio-pci.c",)

    virq = integer()
    users = integer()


class DeviceInterrupts(View):
    c_type = "struct VirtIODevice"
    unit = ("hw/virtio/virtio.c",)

    isr = integer()
    config_vector = integer()
