"""The machine around the devices: run state, vCPUs, migration, interrupts."""

from __future__ import annotations

import msgspec

from vringcore.model.values import Absent, Hex


class VCpuState(msgspec.Struct, frozen=True):
    """A vCPU thread's state (``CPUState``).

    :param lwp: its thread, None where none could be joined
    :param halted: the guest's processor waits for an interrupt
    :param stop: it was asked to stop
    :param stopped: it stands still
    :param in_guest: its thread is in KVM_RUN; None where the accelerator is not KVM
    """

    index: int
    lwp: int | None
    halted: bool | Absent
    stop: bool | Absent
    stopped: bool | Absent
    created: bool | Absent
    in_guest: bool | None
    crash_occurred: bool | Absent


class Migration(msgspec.Struct, frozen=True):
    """An outgoing or incoming migration (``MigrationState``, ``MigrationIncomingState``).

    :param direction: ``outgoing`` or ``incoming``
    :param status: QAPI's MigrationStatus: ``active``, ``device``, ``completed`` …
    :param lwp: the thread that carries it out, None where there is none
    :param started_ns: when it began, on QEMU_CLOCK_REALTIME
    :param vm_was_running: the VM ran before it was stopped for the last phase
    """

    direction: str
    status: str | Absent
    lwp: int | None
    started_ns: int | Absent | None
    vm_was_running: bool | Absent | None
    error: str | Absent | None = None


class MsixVector(msgspec.Struct, frozen=True):
    """One entry of an MSI-X table (PCI 3.0, 6.8.2).

    :param used_by: ``config`` or a virtqueue's number, for each user
    """

    vector: int
    address: Hex
    data: int
    masked: bool
    pending: bool
    used_by: tuple[str, ...] = ()


class Interrupts(msgspec.Struct, frozen=True):
    """How a virtio device interrupts the guest.

    :param device: its index
    :param mode: ``msix``, ``intx``, ``mmio``
    :param function_masked: all its vectors are masked
    :param isr: VirtIODevice.isr
    :param vectors: those that somebody uses
    """

    device: int
    mode: str | Absent
    function_masked: bool | Absent | None
    isr: int | Absent
    vectors: tuple[MsixVector, ...] | Absent


class Machine(msgspec.Struct, frozen=True):
    """What decides whether queues may move at all.

    :param run_state: QAPI's RunState: ``running``, ``paused``, ``io-error``, ``finish-migrate`` …
    :param newest_time_ns: the newest value of QEMU_CLOCK_REALTIME found in the core
    """

    run_state: str | Absent
    accelerator: str | Absent
    vcpus: tuple[VCpuState, ...] | Absent
    migrations: tuple[Migration, ...] | Absent
    interrupts: tuple[Interrupts, ...] | Absent
