"""The machine around the devices: run state, vCPUs, migration, interrupts."""

from __future__ import annotations

import msgspec

from vringcore.model.values import Absent, Hex


class VCpuState(msgspec.Struct, frozen=True):
    """A vCPU thread's state (``CPUState``).

    :param lwp: its thread, None where none could be joined; vCPUs may share one (TCG, round-robin)
    :param halted: the guest's processor waits for an interrupt; under KVM the kernel may know
        better
    :param stop: it was asked to stop
    :param stopped: it stands still
    :param created: its thread has begun
    :param in_guest: its thread is in KVM_RUN: the guest runs on it, or the kernel waits with it;
        None where the accelerator is not KVM
    :param crash_occurred: the guest said on it that it had panicked
    """

    index: int
    lwp: int | None
    halted: bool | Absent
    stop: bool | Absent
    stopped: bool | Absent
    created: bool | Absent
    in_guest: bool | Absent | None
    crash_occurred: bool | Absent


class Migration(msgspec.Struct, frozen=True):
    """An outgoing or incoming migration (``MigrationState``, ``MigrationIncomingState``).

    :param direction: ``outgoing`` or ``incoming``
    :param status: QAPI's MigrationStatus: ``active``, ``device``, ``completed`` …
    :param lwp: the thread that carries it out, None where there is none: an incoming one is a
        coroutine of the main loop, until postcopy
    :param started_ns: when it began, on QEMU_CLOCK_REALTIME; None before that, and of an incoming
        one
    :param vm_was_running: the VM ran before it was stopped for the last phase; None where it was
        not stopped yet, as far as the build keeps apart the two; None of an incoming one
    :param error: what went wrong, in QEMU's words
    """

    direction: str
    status: str | Absent
    lwp: int | Absent | None
    started_ns: int | Absent | None
    vm_was_running: bool | Absent | None
    error: str | Absent | None = None


class MsixVector(msgspec.Struct, frozen=True):
    """One entry of an MSI-X table (PCI 3.0, 6.8.2).

    :param masked: by its own mask bit
    :param pending: its bit in the pending bit array: an interrupt that waits for the mask to go
    :param used_by: ``config`` or a virtqueue's number, for each user
    :param irqfd_users: how many of them have KVM inject it without QEMU (``vector_irqfd``)
    """

    vector: int
    address: Hex
    data: int
    masked: bool
    pending: bool
    used_by: tuple[str, ...] = ()
    irqfd_users: int | Absent = 0


class Interrupts(msgspec.Struct, frozen=True):
    """How a virtio device interrupts the guest.

    :param device: its index
    :param mode: ``msix`` or ``intx``, by what the guest switched on; ``mmio``, ``ccw``
    :param function_masked: all its vectors are masked; None without MSI-X
    :param line_raised: of INTx, the line is up
    :param line_disabled: of INTx, the guest has switched it off (Interrupt Disable)
    :param isr: VirtIODevice.isr: 1 a queue, 2 the configuration. With MSI-X it means nothing
    :param config_vector: of configuration changes; 65535 for none
    :param vectors: those that somebody uses
    """

    device: int
    mode: str | Absent
    function_masked: bool | Absent | None
    isr: int | Absent
    vectors: tuple[MsixVector, ...] | Absent
    config_vector: int | Absent | None = None
    line_raised: bool | Absent | None = None
    line_disabled: bool | Absent | None = None


class Machine(msgspec.Struct, frozen=True):
    """What decides whether queues may move at all.

    :param run_state: QAPI's RunState: ``running``, ``paused``, ``io-error``, ``finish-migrate`` …
    :param accelerator: ``kvm``, ``tcg`` …
    :param migrations: that there are or were; none that never began
    :param newest_time_ns: the newest value of QEMU_CLOCK_REALTIME found in the core: it was taken
        then or later
    """

    run_state: str | Absent
    accelerator: str | Absent
    vcpus: tuple[VCpuState, ...] | Absent
    migrations: tuple[Migration, ...] | Absent
    interrupts: tuple[Interrupts, ...] | Absent
    newest_time_ns: int | Absent
