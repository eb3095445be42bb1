"""The guest's vCPUs: the registers that QEMU holds of each, and whether they can be current."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import LayoutMissingError, UsageError, VringcoreError
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import NOT_IN_THIS_BUILD, absence_of, attempt
from vringcore.qemu.guest_structs import X86CPU, CPUX86State, SegmentCache, VCpuState
from vringcore.qemu.machine import accelerator
from vringcore.qemu.thread_structs import CPUS
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.addresses import HostAddress
    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

GENERAL = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
"""``CPUX86State.regs`` in its order: the numbers that instructions have for them."""

SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
"""``CPUX86State.segs`` in its order."""

TABLES = ("ldt", "tr", "gdt", "idt")
CONTROL = 5
WORD = 8

MAX_CPUS = 1 << 16

OTHER_GUEST = Absent(NOT_IN_THIS_BUILD, None, "registers are read of x86-64 guests only")
LEFT_OUT = Absent("omitted", None, "a slim core has no vCPU's registers; ask the full core")


class Segment(msgspec.Struct, frozen=True):
    """A segment register or descriptor table with what the CPU has cached of it."""

    selector: int
    base: int
    limit: int
    flags: int


class X86Registers(msgspec.Struct, frozen=True):
    """The registers of an x86-64 vCPU.

    :param general: :data:`GENERAL`, ``rip`` and ``rflags``. Under TCG the arithmetic flags may be
        kept elsewhere (``cc_op``) while a vCPU runs.
    """

    general: dict[str, int]
    segments: dict[str, Segment]
    control: tuple[int, ...]
    efer: int
    kernel_gs_base: int

    def named(self) -> dict[str, int]:
        """Return what ``info registers`` shows of them, by name."""
        found: dict[str, int] = {name: Address(value) for name, value in self.general.items()}
        found |= {name: Address(each.selector) for name, each in self.segments.items()}
        found |= {
            f"{name}_base": Address(self.segments[name].base) for name in ("fs", "gs", *TABLES)
        }
        found |= {f"cr{number}": Address(self.control[number]) for number in (0, 2, 3, 4)}
        found["efer"] = Address(self.efer)
        found["kernel_gs_base"] = Address(self.kernel_gs_base)
        return found


class RawCpu(msgspec.Struct, frozen=True):
    """A vCPU.

    :param stale: True if the accelerator had the registers; None if nobody can tell
    :param x86: its registers, or why they cannot be had
    """

    index: int
    halted: bool | Absent
    stale: bool | None
    x86: X86Registers | Absent


def vcpus(process: Process) -> tuple[list[RawCpu], VringcoreError | None]:
    """Return the vCPUs in the order of QEMU's list, and what ended that list early, if anything.

    :raises LayoutMissingError: if it is not known where the list is
    """
    views = process.views
    places = (views.find_address_of(name, unit) for name, unit in CPUS.items())
    head = next((place for place in places if place is not None), None)
    if head is None:
        raise LayoutMissingError("no list of vCPUs in this program", seen=f"none of {list(CPUS)}")
    name = accelerator(views, process.objects)
    found, error = collect(views.elements(head, VCpuState, "node", limit=MAX_CPUS))
    other = OTHER_GUEST if process.core.slim is None else LEFT_OUT
    cpus, lost = collect(_cpu(views, each, name, other) for each in found)
    return cpus, error or lost


def vcpu(process: Process, index: int) -> RawCpu:
    """Return the vCPU of an index.

    :raises UsageError: if there is none
    """
    found, error = vcpus(process)
    for each in found:
        if each.index == index:
            return each
    if error is not None:
        raise error
    there = ", ".join(str(each.index) for each in found) or "none"
    raise UsageError(f"the guest has no vCPU {index}", seen=there, hint="choose one of these")


def _cpu(views: Views, cpu: VCpuState, name: str | Absent, other: Absent) -> RawCpu:
    halted = attempt(lambda: cpu.halted)
    return RawCpu(cpu.cpu_index, halted, _is_stale(cpu, name), _registers(views, cpu, other))


def _is_stale(cpu: VCpuState, name: str | Absent) -> bool | None:
    """Tell whether the registers were elsewhere: with an accelerator that is not QEMU itself.

    ``vcpu_dirty`` says that QEMU has fetched them and not yet given them back.
    """
    if isinstance(name, Absent):
        return None
    if name in ("tcg", "qtest"):
        return False
    dirty = attempt(lambda: cpu.vcpu_dirty)
    return None if dirty is None or isinstance(dirty, Absent) else not dirty


def _registers(views: Views, cpu: VCpuState, other: Absent) -> X86Registers | Absent:
    try:
        if views.layouts.find_definition(X86CPU.c_type, X86CPU.unit) is None:
            return other
        return _read(views, views.at(X86CPU, cpu.address_).env)
    except VringcoreError as error:
        return absence_of(error)


def _read(views: Views, env: HostAddress) -> X86Registers | Absent:
    state = views.at(CPUX86State, env)
    slot = views.binding(CPUX86State).type.slots["eip"]
    if slot is None or slot.size != WORD:
        return OTHER_GUEST
    general = _words(views, state.regs, GENERAL)
    general |= {"rip": state.eip, "rflags": state.eflags}
    step = views.binding(SegmentCache).type.size
    segments = {
        name: _segment(views, state.segs + number * step) for number, name in enumerate(SEGMENTS)
    }
    segments |= {name: _segment(views, getattr(state, name)) for name in TABLES}
    control = _words(views, state.cr, [str(number) for number in range(CONTROL)])
    return X86Registers(
        general, segments, tuple(control.values()), state.efer or 0, state.kernelgsbase or 0
    )


def _words(views: Views, address: int, names: Iterable[str]) -> dict[str, int]:
    return {name: views.integer(address + WORD * i, WORD) for i, name in enumerate(names)}


def _segment(views: Views, address: int) -> Segment:
    view = views.at(SegmentCache, address)
    return Segment(view.selector, view.base, view.limit, view.flags)
