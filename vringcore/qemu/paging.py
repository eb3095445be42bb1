"""Guest-virtual memory: a walk of an x86-64 vCPU's page tables in guest RAM.

Intel SDM volume 3, chapter 4 (4-level and 5-level paging).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import GuestAddress
from vringcore.errors import MemoryFault, UsageError
from vringcore.memory.gaps import Gap, GapKind
from vringcore.model.values import Absent
from vringcore.qemu.paged_space import PAGE_BITS, Mapping, PagedSpace

if TYPE_CHECKING:
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.qemu.vcpus import RawCpu, X86Registers

CR0_PG = 1 << 31
CR4_LA57 = 1 << 12
EFER_LMA = 1 << 10

PRESENT = 1 << 0
LARGE = 1 << 7
ADDRESS = (1 << 52) - (1 << 12)
"""Bits 51:12 of an entry and of CR3; what lies above is not of the address."""

INDEX_BITS = 9
LARGEST_LEAF = 3
"""A table of level 3 may map pages of 1 GiB, one of level 2 pages of 2 MiB."""

NAMES = {5: "PML5", 4: "PML4", 3: "page-directory-pointer", 2: "page-directory", 1: "page-table"}


class VirtualSpace(PagedSpace[int]):
    """What a vCPU sees: guest-physical memory through its page tables.

    :ivar root: guest-physical address of the first table; None where paging is off
    """

    def __init__(self, memory: GuestSpace, root: int | None, levels: int, name: str) -> None:
        super().__init__(memory, name)
        self.root = root
        self._levels = levels

    def look_up(self, address: int) -> Mapping:
        """Return the page that an address lies in, or the stretch that the same entry denies."""
        if self.root is None:
            start = address & -(1 << PAGE_BITS)
            return Mapping(start, 1 << PAGE_BITS, start)
        width = PAGE_BITS + INDEX_BITS * self._levels
        half = 1 << (width - 1)
        if half <= address < (1 << 64) - half:
            gap = Gap(GapKind.UNMAPPED, address, 1, f"no canonical address of {width} bits")
            return Mapping(half, (1 << 64) - 2 * half, None, gap)
        table = self.root
        for level in range(self._levels, 0, -1):
            shift = PAGE_BITS + INDEX_BITS * (level - 1)
            size = 1 << shift
            start = address & -size
            place = table + 8 * (address >> shift & ((1 << INDEX_BITS) - 1))
            where = f"the {NAMES[level]} entry at guest-physical {place:#x}"
            try:
                entry = int.from_bytes(self._memory.read(GuestAddress(place), 8), "little")
            except MemoryFault as fault:
                hint = f"{where} cannot be read: {fault.gap.describe()}"
                return Mapping(start, size, None, Gap(fault.gap.kind, start, size, hint))
            if not entry & PRESENT:
                hint = f"{where} is {entry:#x}: not present"
                return Mapping(start, size, None, Gap(GapKind.UNMAPPED, start, size, hint))
            if level == 1 or (level <= LARGEST_LEAF and entry & LARGE):
                return Mapping(start, size, entry & ADDRESS & -size)
            table = entry & ADDRESS
        raise AssertionError("a walk ends at level 1")


def virtual_space(memory: GuestSpace, cpu: RawCpu) -> VirtualSpace:
    """Return what a vCPU sees.

    :raises UsageError: if its registers are not known, or its paging mode is none of x86-64
    """
    registers = cpu.x86
    if isinstance(registers, Absent):
        raise UsageError(
            f"the page tables of vCPU {cpu.index} are not known",
            seen=registers.describe(),
            hint="guest-physical addresses can be read: leave --cpu out",
        )
    name = f"guest-virtual memory of vCPU {cpu.index}"
    if not registers.control[0] & CR0_PG:
        return VirtualSpace(memory, None, 0, name)
    if not registers.efer & EFER_LMA:
        raise UsageError(
            f"vCPU {cpu.index} uses 32-bit or PAE paging, which is not followed",
            seen=f"EFER {registers.efer:#x}, CR4 {registers.control[4]:#x}",
            expected="long mode (EFER.LMA)",
        )
    return VirtualSpace(memory, registers.control[3] & ADDRESS, _levels(registers), name)


def _levels(registers: X86Registers) -> int:
    return 5 if registers.control[4] & CR4_LA57 else 4
