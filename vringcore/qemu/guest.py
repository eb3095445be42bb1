"""Questions about the guest's memory, each answered as reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from vringcore.addresses import GuestAddress
from vringcore.errors import MemoryFault, VringcoreError
from vringcore.memory.gaps import GapKind
from vringcore.model.memory import MemoryExport, MemoryPiece, MemoryRead, VCpu
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.guestmap import GuestMap
from vringcore.qemu.paging import virtual_space
from vringcore.qemu.vcpus import vcpu, vcpus
from vringcore.qemu.vmcore import (
    cpu_notes,
    present,
    ram_stretches,
    refuse_other_guests,
    write_vmcore,
)
from vringcore.qemu.vmcoreinfo import find_vmcoreinfo, vmcoreinfo_of_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from vringcore.memory.space import AddressSpace, Piece
    from vringcore.qemu.paging import VirtualSpace
    from vringcore.qemu.process import Process
    from vringcore.qemu.vcpus import RawCpu

    Progress = Callable[[int, int], None]

STALE = "registers may be old"
MAX_MISSING = 1000
"""Stretches of missing RAM that a document names."""


def read_guest(
    process: Process,
    address: int,
    size: int,
    *,
    cpu: int | None = None,
    device: int | None = None,
    limits: list[Limitation],
) -> MemoryRead:
    """Return bytes of the guest.

    :param cpu: the vCPU as which to read a guest-virtual address; None for a guest-physical one
    :param device: index of the device as which to read an address; None for a guest-physical one
    :param limits: gets what makes the answer doubtful
    :raises UsageError: if there is no such vCPU, or its page tables cannot be followed
    :raises VringcoreError: if the guest's memory map cannot be read
    """
    if device is not None:
        pieces = _joined(_of_device(process, device).pieces(address, size))
        return MemoryRead("device", None, None, Address(address), size, pieces, device)
    if cpu is None:
        there = _joined(_named(process, process.guest_memory.pieces(GuestAddress(address), size)))
        return MemoryRead("guest-physical", None, None, Address(address), size, there)
    space = _virtual(process, cpu, limits)
    root = None if space.root is None else Address(space.root)
    pieces = _joined(space.pieces(address, size))
    return MemoryRead("guest-virtual", cpu, root, Address(address), size, pieces)


def _named(process: Process, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces; what is no RAM tells what answers there instead."""
    for piece in pieces:
        gap = piece.gap
        if gap is not None and gap.kind is GapKind.NOT_RAM and not gap.hint:
            name = GuestMap(process).name_at(piece.address)
            hint = "nothing answers there" if isinstance(name, Absent) else f"it is {name}"
            yield replace(piece, gap=replace(gap, hint=hint))
        else:
            yield piece


def guest_bytes(
    process: Process, address: int, size: int, *, cpu: int | None = None, device: int | None = None
) -> Iterator[bytes]:
    """Yield bytes of the guest, in bounded chunks.

    :raises MemoryFault: at the first byte that is not there
    :raises VringcoreError: as :func:`read_guest`
    """
    space: AddressSpace[Any] = process.guest_memory
    if device is not None:
        space = _of_device(process, device)
    elif cpu is not None:
        space = _virtual(process, cpu, [])
    for piece in space.pieces(address, size):
        if piece.data is None:
            assert piece.gap is not None
            raise MemoryFault(f"reading {size} bytes of {space.name}", piece.address, piece.gap)
        yield piece.data


def _of_device(process: Process, index: int) -> AddressSpace[Any]:
    from vringcore.qemu.survey import Survey

    survey = Survey(process)
    return survey.memory_of(survey.devices.raw[index])


def _virtual(process: Process, cpu: int, limits: list[Limitation]) -> VirtualSpace:
    chosen = vcpu(process, cpu)
    limits += _doubts([chosen])
    return virtual_space(process.guest_memory, chosen)


def _doubts(cpus: list[RawCpu]) -> list[Limitation]:
    """Return what must be said of registers that QEMU need not have had."""
    stale = [str(each.index) for each in cpus if each.stale is not False]
    if not stale:
        return []
    return [
        Limitation(
            STALE,
            f"of vCPU {', '.join(stale)}: the kernel had them, and QEMU a copy of some time before",
            "page tables of the kernel part are the same for all; the stack pointer is not to be"
            " trusted",
        )
    ]


def _joined(pieces: Iterator[Piece]) -> tuple[MemoryPiece, ...]:
    """Return the pieces, neighbours of one kind as one."""
    found: list[MemoryPiece] = []
    data: list[bytes] = []

    def flush() -> None:
        if data:
            whole = b"".join(data)
            found.append(MemoryPiece(Address(reach - len(whole)), len(whole), whole.hex()))
            data.clear()

    reach = 0
    for piece in pieces:
        if piece.data is not None:
            data.append(piece.data)
            reach = piece.address + piece.size
            continue
        flush()
        assert piece.gap is not None
        absent = Absent(piece.gap.kind.value, None, piece.gap.hint)
        before = found[-1] if found else None
        if before is not None and before.data == absent:
            found[-1] = MemoryPiece(before.address, before.size + piece.size, absent)
        else:
            found.append(MemoryPiece(Address(piece.address), piece.size, absent))
    flush()
    return tuple(found)


def vcpu_models(cpus: list[RawCpu]) -> tuple[VCpu, ...]:
    """Return vCPUs as reports show them."""
    return tuple(
        VCpu(
            cpu.index,
            cpu.stale,
            cpu.halted,
            cpu.x86 if isinstance(cpu.x86, Absent) else cpu.x86.named(),
        )
        for cpu in cpus
    )


def export_guest(
    process: Process,
    out: BinaryIO,
    path: str,
    *,
    limits: list[Limitation],
    find_note: bool = False,
    progress: Progress | None = None,
    search_progress: Progress | None = None,
) -> MemoryExport:
    """Write a core of the guest; see :mod:`vringcore.qemu.vmcore`.

    :param out: a file open for writing, at its start; ``path`` is its name in the answer
    :param limits: gets what the file lacks
    :param find_note: look for VMCOREINFO in guest RAM where the guest gave QEMU none
    :raises UsageError: if the guest is no x86-64, or the core is a slim one
    :raises VringcoreError: if the guest's memory map cannot be read
    """
    refuse_other_guests(process)
    space = process.views.space
    stretches, missing = present(space, ram_stretches(GuestMap(process).regions()))
    cpus = _cpus(process, limits)
    note: bytes | Absent = vmcoreinfo_of_device(process)
    source: str | Absent = note if isinstance(note, Absent) else "device"
    if find_note and isinstance(note, Absent):
        note = find_vmcoreinfo(process, search_progress)
        source = note if isinstance(note, Absent) else "search"
    notes = cpu_notes([] if isinstance(cpus, Absent) else cpus)
    notes += b"" if isinstance(note, Absent) else note
    segments, size, written = write_vmcore(out, space, stretches, notes, progress)
    if missing:
        limits.append(_missing(process, sum(each.size for each in missing)))
    return MemoryExport(
        path=path,
        size=size,
        written=written,
        segments=segments,
        missing=tuple(missing[:MAX_MISSING]),
        vcpus=cpus if isinstance(cpus, Absent) else vcpu_models(cpus),
        vmcoreinfo=source,
    )


def _cpus(process: Process, limits: list[Limitation]) -> list[RawCpu] | Absent:
    try:
        cpus, error = vcpus(process)
    except VringcoreError as failure:
        return absence_of(failure)
    if error is not None:
        limits.append(Limitation("vCPUs are missing", str(error)))
    unknown = [str(cpu.index) for cpu in cpus if isinstance(cpu.x86, Absent)]
    if unknown:
        limits.append(
            Limitation("registers are missing", f"of vCPU {', '.join(unknown)}: it has no notes")
        )
    limits += _doubts(cpus)
    return cpus


def _missing(process: Process, size: int) -> Limitation:
    why = f"{size} bytes of it are not in the core, and in no PT_LOAD of the file"
    state = attempt(lambda: process.core_info.guest_ram)
    return Limitation("guest RAM is missing", why, state if isinstance(state, str) else "")
