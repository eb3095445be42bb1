"""The machine around the devices as text: run state, vCPUs, migrations, interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.report.cells import NOTHING, clean, hexadecimal, seconds
from vringcore.report.page import STAND_OUT, Column, Page, column_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vringcore.model.devices import Device
    from vringcore.model.machine import Interrupts, Machine, Migration, MsixVector, VCpuState


def print_machine(page: Page, machine: Machine) -> None:
    """Print run state, accelerator, migrations, and vCPUs."""
    text = page.notes.text
    page.line()
    page.line("machine", "bold")
    pairs = [
        ("run state", text(machine.run_state)),
        ("accelerator", text(machine.accelerator)),
    ]
    if isinstance(machine.migrations, Absent):
        pairs.append(("migrations", text(machine.migrations)))
    else:
        newest = machine.newest_time_ns
        pairs += [
            (f"{clean(each.direction)} migration", _migration(page, each, newest))
            for each in machine.migrations
        ]
    page.listing(pairs)
    if isinstance(machine.vcpus, Absent):
        page.line(f"  vCPUs: {text(machine.vcpus)}")
    elif machine.vcpus:
        page.table(_vcpus(machine.vcpus))


def _migration(page: Page, migration: Migration, newest: int | Absent) -> str:
    text = page.notes.text
    parts = [text(migration.status)]
    if migration.lwp is not None:
        parts.append(f"thread {text(migration.lwp)}")
    started = migration.started_ns
    if isinstance(started, Absent):
        parts.append(f"began {text(started)}")
    elif started is not None and isinstance(newest, int) and newest >= started:
        parts.append(f"began {seconds(newest - started)} or more ago")
    if migration.vm_was_running is not None:
        parts.append(f"the VM was running before: {text(migration.vm_was_running)}")
    if migration.error is not None:
        parts.append(f"error: {text(migration.error)}")
    return ", ".join(parts)


def _vcpus(vcpus: Sequence[VCpuState]) -> list[Column]:
    columns = [
        column_of("vCPU", [each.index for each in vcpus]),
        column_of("thread", [each.lwp for each in vcpus]),
        column_of("halted", [each.halted for each in vcpus], numeric=False),
        column_of("stop", [each.stop for each in vcpus], numeric=False),
        column_of("stopped", [each.stopped for each in vcpus], numeric=False),
        column_of("created", [each.created for each in vcpus], 2, numeric=False),
        column_of("crashed", [each.crash_occurred for each in vcpus], 1, numeric=False),
    ]
    if any(each.in_guest is not None for each in vcpus):
        columns.insert(2, column_of("in KVM_RUN", [each.in_guest for each in vcpus], numeric=False))
    return columns


def print_interrupts(
    page: Page,
    interrupts: Sequence[Interrupts] | Absent,
    devices: Sequence[Device],
    *,
    detailed: bool,
) -> None:
    """Print how each device interrupts the guest; with ``detailed`` each vector in use."""
    page.line()
    page.line("interrupts", "bold")
    if isinstance(interrupts, Absent):
        page.line(f"  {page.notes.text(interrupts)}")
        return
    names = {device.index: _name(device) for device in devices}
    rows = list(interrupts)
    held = [_held(each) for each in rows]
    if rows:
        page.table(
            [
                column_of("device", [each.device for each in rows]),
                column_of("id", [names.get(each.device, NOTHING) for each in rows], numeric=False),
                column_of("mode", [each.mode for each in rows], numeric=False),
                column_of("vectors", [_count(each) for each in rows]),
                column_of("ISR", [each.isr for each in rows], 1),
                Column("held back", held, foldable=True),
            ],
            [STAND_OUT if isinstance(each, Absent) or each != NOTHING else "" for each in held],
        )
    if detailed:
        _print_vectors(page, rows)


def _name(device: Device) -> str | Absent:
    if isinstance(device.id, Absent):
        return device.id
    return clean(device.id or device.kind)


def _count(interrupts: Interrupts) -> int | Absent | None:
    vectors = interrupts.vectors
    if isinstance(vectors, Absent):
        return vectors
    return len(vectors) if interrupts.mode == "msix" else None


def _held(interrupts: Interrupts) -> str | Absent:
    if isinstance(interrupts.vectors, Absent):
        return interrupts.vectors
    parts = ["all vectors are masked"] if interrupts.function_masked is True else []
    parts += [
        f"vector {each.vector} is {how}"
        for each in interrupts.vectors
        for how, is_so in (("masked", each.masked), ("pending", each.pending))
        if is_so
    ]
    if interrupts.line_disabled is True:
        parts.append("the line is disabled")
    if interrupts.line_raised is True:
        parts.append("the line is up")
    return "; ".join(parts) or NOTHING


def _print_vectors(page: Page, rows: Sequence[Interrupts]) -> None:
    vectors: list[tuple[int, MsixVector]] = [
        (each.device, vector)
        for each in rows
        if not isinstance(each.vectors, Absent)
        for vector in each.vectors
    ]
    if not vectors:
        return
    entries = [vector for _, vector in vectors]
    page.line()
    page.line("MSI-X vectors in use", "bold")
    page.table(
        [
            column_of("device", [device for device, _ in vectors]),
            column_of("vector", [each.vector for each in entries]),
            column_of("address", [hexadecimal(each.address) for each in entries]),
            column_of("data", [hexadecimal(each.data) for each in entries]),
            column_of("masked", [each.masked for each in entries], numeric=False),
            column_of("pending", [each.pending for each in entries], numeric=False),
            column_of("irqfd", [each.irqfd_users for each in entries], 1),
            Column("used by", [_users(each) for each in entries], foldable=True),
        ]
    )


def _users(vector: MsixVector) -> str:
    """Return ``config``, and the queues."""
    queues = [int(each) for each in vector.used_by if each.isdecimal()]
    told = [clean(each) for each in vector.used_by if not each.isdecimal()]
    if queues:
        told.append(("queue " if len(queues) == 1 else "queues ") + spans(queues))
    return ", ".join(told)


def spans(numbers: Iterable[int]) -> str:
    """Return numbers in their order, neighbours as a range: ``0-2, 4``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
