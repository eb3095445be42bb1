"""The paging structures of Intel VT-d: from an address of a device to guest-physical memory.

Intel Virtualization Technology for Directed I/O, Architecture Specification 4.1, 3.6, 3.7, 9.7 and
9.8: first-level tables are those of x86-64 paging, second-level ones have permissions instead of a
present bit, and with nested translation the former are themselves seen through the latter.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import SPACE_END, GuestAddress
from vringcore.errors import AddressOverflowError, MemoryFault
from vringcore.memory.gaps import GapKind
from vringcore.qemu.iommu import denied
from vringcore.qemu.paged_space import MAX_KEPT, PAGE_BITS, Mapping

if TYPE_CHECKING:
    from vringcore.qemu.flat_space import GuestSpace

ADDRESS = (1 << 52) - (1 << PAGE_BITS)
"""Bits 51:12 of every entry."""
PRESENT = 1 << 0

INDEX_BITS = 9
LARGE = 1 << 7
LARGEST_LEAF = 3
"""Level 3 may map pages of 1 GiB, level 2 pages of 2 MiB."""
READ, WRITE = 1 << 0, 1 << 1
"""Of a second-level entry (9.8); bit 1 allows writes in a first-level entry, too (9.7)."""
USER = 1 << 2
ATTRIBUTE = 1 << 12
"""Of a first-level entry that maps a large page: PAT, where an address has bit 12."""

_ROWS = {count: Struct(f"<{count}Q") for count in (1, 2, 3)}


class PageTable(msgspec.Struct, frozen=True):
    """The first of a tree of tables: a first-level one, or a second-level one."""

    root: int
    levels: int
    first: bool

    @property
    def name(self) -> str:
        """What the specification calls it."""
        return "first-level" if self.first else "second-level"


class _Step(msgspec.Struct, frozen=True):
    """A table on the way down, and what the entries above it allow."""

    table: int
    readable: bool
    writable: bool


class WalkRefused(Exception):  # noqa: N818 - no failure of ours, but what the tables say
    """A walk that ended early: why an address leads nowhere, without the stretch it is so for."""

    def __init__(self, kind: GapKind, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


class TableReader:
    """Reads tables in the guest's memory.

    :param width: bits of a guest-physical address, and of a device's at most (QEMU's ``aw_bits``)
    """

    def __init__(self, memory: GuestSpace, width: int) -> None:
        self._memory = memory
        self._width = max(width, PAGE_BITS)
        self._steps: dict[tuple[bool, int], _Step] = {}

    def words(self, address: int, count: int, where: str) -> tuple[int, ...]:
        """Return the first words of an entry, 64 bits each.

        :param where: the entry's name
        :raises WalkRefused: if they cannot be read
        """
        row = _ROWS[count]
        try:
            return row.unpack(self._memory.read(GuestAddress(address), row.size))
        except MemoryFault as fault:
            why = f"{where} cannot be read: {fault.gap.describe()}"
            raise WalkRefused(fault.gap.kind, why) from fault
        except AddressOverflowError as error:
            raise WalkRefused(GapKind.NOT_RAM, f"{where} cannot be read: {error}") from error

    def page(self, table: PageTable, address: int, below: PageTable | None = None) -> Mapping:
        """Return the page that an address lies in, or the stretch that the same entry denies.

        :param below: the second-level table through which ``table`` itself is seen (nested)
        """
        outside = self._outside(table, address)
        if outside is not None:
            return outside
        leaf = INDEX_BITS + PAGE_BITS
        step = self._steps.get((table.first, address >> leaf))
        level = 1 if step is not None else table.levels
        step = step or _Step(table.root, readable=True, writable=True)
        while True:
            shift = PAGE_BITS + INDEX_BITS * (level - 1)
            size = 1 << shift
            start = address & -size
            place = step.table + 8 * (address >> shift & ((1 << INDEX_BITS) - 1))
            try:
                if below is not None:
                    place = self._below(below, place, f"the first-level entry at {place:#x}")
                where = f"the {table.name} entry of level {level} at guest-physical {place:#x}"
                (entry,) = self.words(place, 1, where)
                step = self._checked(table, entry, level, step, where)
            except WalkRefused as refused:
                return denied(start, size, refused.kind, refused.why)
            if level == 1 or entry & LARGE:
                page = Mapping(start, size, step.table & -size, None, step.readable, step.writable)
                return page if below is None else self._through(below, page, address)
            level -= 1
            if level == 1:
                if len(self._steps) >= MAX_KEPT:
                    self._steps.clear()
                self._steps[table.first, address >> leaf] = step

    def _outside(self, table: PageTable, address: int) -> Mapping | None:
        """Return what lies around an address that the tables are too small for."""
        width = PAGE_BITS + INDEX_BITS * table.levels
        if table.first:
            half = 1 << (width - 1)
            if half <= address < SPACE_END - half:
                why = f"no canonical address of {width} bits"
                return denied(half, SPACE_END - 2 * half, GapKind.UNMAPPED, why)
            return None
        width = min(width, self._width)
        if address >> width:
            why = f"the second-level tables translate {width} bits"
            return denied(1 << width, SPACE_END - (1 << width), GapKind.UNMAPPED, why)
        return None

    def _checked(self, table: PageTable, entry: int, level: int, step: _Step, where: str) -> _Step:
        """Return where an entry leads, and what it and those above it allow.

        :raises WalkRefused: if it leads nowhere
        """
        present = entry & PRESENT if table.first else entry & (READ | WRITE)
        if not present:
            raise WalkRefused(GapKind.UNMAPPED, f"{where} is {entry:#x}: not present")
        reserved = entry & self._reserved(table, entry, level)
        if reserved:
            why = f"{where} is {entry:#x}: reserved bits {reserved:#x} are set"
            raise WalkRefused(GapKind.UNMAPPED, why)
        if table.first and not entry & USER:
            why = f"{where} is {entry:#x}: for privileged requests alone"
            raise WalkRefused(GapKind.UNMAPPED, why)
        readable = step.readable and (table.first or bool(entry & READ))
        writable = step.writable and bool(entry & WRITE)
        return _Step(entry & ADDRESS, readable, writable)

    def _reserved(self, table: PageTable, entry: int, level: int) -> int:
        """Return the bits that have to be 0, as far as QEMU checks them in every release."""
        reserved = ADDRESS & -(1 << self._width)
        if level > LARGEST_LEAF:
            return reserved | LARGE
        if level > 1 and entry & LARGE:
            low = ADDRESS & ((1 << (PAGE_BITS + INDEX_BITS * (level - 1))) - 1)
            reserved |= low & ~ATTRIBUTE if table.first else low
        return reserved

    # Nested tables

    def _below(self, table: PageTable, address: int, where: str) -> int:
        page = self.page(table, address)
        if page.physical is None:
            assert page.gap is not None
            raise WalkRefused(page.gap.kind, f"{where} is not mapped: {page.gap.hint}")
        return page.physical + address - page.start

    def _through(self, table: PageTable, page: Mapping, address: int) -> Mapping:
        """Return the part of a first-level page that one second-level page shows."""
        assert page.physical is not None
        to_inner = page.physical - page.start
        inner = self.page(table, address + to_inner)
        start = max(page.start, inner.start - to_inner)
        end = min(page.start + page.size, inner.start + inner.size - to_inner)
        if inner.physical is None:
            assert inner.gap is not None
            return denied(start, end - start, inner.gap.kind, inner.gap.hint)
        return Mapping(
            start,
            end - start,
            inner.physical + start + to_inner - inner.start,
            None,
            page.readable and inner.readable,
            page.writable and inner.writable,
        )
