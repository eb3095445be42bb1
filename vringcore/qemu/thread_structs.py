"""The structures that tell what a thread is; as :mod:`vringcore.qemu.structs`."""

from __future__ import annotations

from vringcore.view.declare import View, integer, pointer


class QemuThread(View):
    """include/qemu/thread-posix.h."""

    c_type = "struct QemuThread"
    unit = ("util/qemu-thread-posix.c",)

    thread = integer()


class CPUState(View):
    """include/hw/core/cpu.h."""

    c_type = "struct CPUState"
    unit = ("hw/core/cpu-common.c", "system/cpus.c", "softmmu/cpus.c", "cpus.c")

    thread = pointer()
    thread_id = integer()
    cpu_index = integer()


class IOThread(View):
    """include/system/iothread.h, its QemuThread."""

    c_type = "struct IOThread"
    unit = ("iothread.c",)

    thread = integer("thread.thread")
    thread_id = integer()


class MigrationThread(View):
    """migration/migration.h: the outgoing migration's QemuThread."""

    c_type = "struct MigrationState"
    unit = ("migration/migration.c",)

    thread = integer("thread.thread")


CPUS = {"cpus_queue": "cpu-common.c", "cpus": "cpus-common.c"}
"""The list of CPUStates and the file that defines it; its first name since QEMU 8.1."""
