"""The machine around the devices as reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.model.machine import Interrupts, Machine, VCpuState
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu.absence import NOT_IN_THIS_BUILD, absence_of, attempt
from vringcore.qemu.clock import newest_stamp
from vringcore.qemu.loops_places import Threads
from vringcore.qemu.machine import accelerator, run_state
from vringcore.qemu.machine_structs import CPURunState
from vringcore.qemu.migration import migrations
from vringcore.qemu.msix import interrupts
from vringcore.qemu.syscalls import call_of
from vringcore.qemu.thread_structs import CPUS, QemuThread
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process

MAX_CPUS = 1 << 16

KVM_RUN = 0xAE80
"""``_IO(KVMIO, 0x80)`` (Linux, include/uapi/linux/kvm.h)."""


def machine_state(
    process: Process, devices: Sequence[RawDevice], limits: list[Limitation]
) -> Machine:
    """Return run state, vCPUs, migrations, and how the devices interrupt the guest.

    :param limits: is added to: what could not be had
    """
    views = process.views
    threads = Threads(process)
    kind = accelerator(views, process.objects)
    return Machine(
        run_state=run_state(views),
        accelerator=kind,
        vcpus=_vcpus(process, threads, kind, limits),
        migrations=migrations(process, threads),
        interrupts=_interrupts(process, devices, limits),
        newest_time_ns=_newest(process),
    )


def _interrupts(
    process: Process, devices: Sequence[RawDevice], limits: list[Limitation]
) -> tuple[Interrupts, ...] | Absent:
    try:
        return tuple(
            interrupts(process, index, device, limits) for index, device in enumerate(devices)
        )
    except VringcoreError as error:
        return absence_of(error)


def _newest(process: Process) -> int | Absent:
    layer = process.block
    stamp = attempt(lambda: layer.noting(lambda: newest_stamp(layer))[0])
    if isinstance(stamp, Absent) or stamp:
        return stamp
    return Absent("not-found", None, "nothing that QEMU stamped with the time was found")


def _vcpus(
    process: Process, threads: Threads, kind: str | Absent, limits: list[Limitation]
) -> tuple[VCpuState, ...] | Absent:
    views = process.views
    try:
        places = (views.find_address_of(name, unit) for name, unit in CPUS.items())
        head = next((place for place in places if place is not None), None)
        if head is None:
            return Absent(NOT_IN_THIS_BUILD, None, f"none of {', '.join(CPUS)}")
        in_kvm_run = _in_kvm_run(process) if kind == "kvm" else None
        walk = views.elements(head, CPURunState, "node", limit=MAX_CPUS)
        found, error = collect(_vcpu(process, cpu, threads, in_kvm_run) for cpu in walk)
    except VringcoreError as problem:
        return absence_of(problem)
    if error is None:
        return tuple(found)
    limits.append(Limitation("not all vCPUs are shown", str(error), error.hint))
    return tuple(found) or absence_of(error)


def _vcpu(
    process: Process, cpu: CPURunState, threads: Threads, in_kvm_run: dict[int, bool] | None
) -> VCpuState:
    """Return a vCPU.

    :raises MemoryFault: if there is none: not even its index can be read
    """
    lwp = attempt(
        lambda: threads.lwp_of(process.views.at(QemuThread, cpu.thread).thread, cpu.thread_id)
    )
    joined = None if isinstance(lwp, Absent) else lwp
    in_guest: bool | Absent | None = None
    if in_kvm_run is not None:
        unknown = Absent("not-recorded", None, "nothing tells whether its thread is in a call")
        in_guest = unknown if joined is None else in_kvm_run.get(joined, unknown)
    return VCpuState(
        index=cpu.cpu_index,
        lwp=joined,
        halted=attempt(lambda: cpu.halted),
        stop=attempt(lambda: cpu.stop),
        stopped=attempt(lambda: cpu.stopped),
        created=attempt(lambda: cpu.created),
        in_guest=in_guest,
        crash_occurred=attempt(lambda: cpu.crash_occurred),
    )


def _in_kvm_run(process: Process) -> dict[int, bool]:
    """Tell of each thread whether the kernel has it in KVM_RUN, as far as that can be told."""
    core = process.core
    facts = {} if core.slim is None else {each.lwp: each for each in core.slim.threads}
    found = {}
    for thread in core.threads:
        told = facts.get(thread.lwp)
        if "orig_rax" not in thread.registers and (told is None or told.syscall is None):
            continue
        call = call_of(core.machine, thread, told)
        found[thread.lwp] = (
            call is not None
            and call.name == "ioctl"
            and call.result is None
            and call.arguments["request"] & 0xFFFFFFFF == KVM_RUN
        )
    return found
