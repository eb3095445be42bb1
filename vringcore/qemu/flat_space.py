"""An address space of the guest, read through the memory of the QEMU process."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from vringcore.addresses import SPACE_END, GuestAddress, HostAddress, IoVirtualAddress, end_of
from vringcore.errors import MemoryFault
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, Coverage, Piece, Range
from vringcore.qemu.ramblocks import NOT_DUMPED_HINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vringcore.errors import VringcoreError
    from vringcore.memory.space import HostSpace
    from vringcore.qemu.iommu import IommuSpace
    from vringcore.qemu.paged_space import Mapping

A = TypeVar("A", bound=int)


class Region(msgspec.Struct, frozen=True):
    """What a ``MemoryRegion`` is, as far as a reader of memory needs it.

    :param host: ``ram_block->host``; None for a region without RAM behind it: MMIO, an IOMMU, and
        the memory of a passed-through device (``ram_device``)
    :param length: bytes that are valid there (``ram_block->max_length``)
    :param iommu: what a device sees through an IOMMU, from the region's first byte on
    """

    host: int | None
    length: int
    iommu: IommuSpace | None = None


class FlatRow(msgspec.Struct, frozen=True, gc=False):
    """One ``FlatRange``: addresses ``[start, end)`` show a MemoryRegion from ``offset`` on."""

    start: int
    end: int
    region: int
    offset: int
    readonly: bool


class FlatSpace(AddressSpace[A], Generic[A]):
    """An address space of the guest, read through the QEMU process's memory.

    What is not backed by RAM is a NOT_RAM gap; where an IOMMU translates, its tables tell. RAM
    that the core lacks is a gap of the kind the core gives it; where the core has no trace of the
    mapping at all it is NOT_DUMPED, since QEMU's own tables say that it was mapped.

    :param host: memory of the QEMU process
    :param rows: its ranges, sorted and disjoint
    :param region_of: what the MemoryRegion at an address is
    """

    def __init__(
        self,
        host: HostSpace,
        rows: Sequence[FlatRow],
        region_of: Callable[[int], Region],
        name: str = "guest memory",
    ) -> None:
        self.name = name
        self._host = host
        self._rows = rows
        self._starts = [row.start for row in rows]
        self._region_of = region_of

    def read(self, address: A, size: int) -> bytes:
        """Return exactly ``size`` bytes; they may lie in several ranges.

        :raises MemoryFault: at the first byte that is not RAM, or not in the core
        :raises AddressOverflowError: if the range leaves the address space
        """
        row = self._row_at(address)
        if row is not None and size >= 0 and address + size <= row.end:
            try:
                return self._host.read(self._host_of(row, address, size), size)
            except MemoryFault:
                pass  # told below in guest addresses
        return super().read(address, size)

    def pieces(self, address: A, size: int) -> Iterator[Piece]:
        """Yield the range as data and gaps, in guest addresses."""
        place, end = int(address), end_of(address, size)
        index = bisect_right(self._starts, place) - 1
        while place < end:
            row = self._rows[index] if index >= 0 else None
            if row is None or place >= row.end:
                index += 1
                until = min(end, self._starts[index] if index < len(self._starts) else SPACE_END)
                if until > place:
                    yield _no_ram(place, until)
            else:
                until = min(end, row.end)
                yield from self._pieces_of(row, place, until)
            place = until

    def ranges(self) -> Sequence[Range]:
        """Return the ranges that are RAM; ``readable`` is what the core has of each."""
        known = Coverage(self._host)
        found = []
        for row in self._rows:
            region = self._region_of(row.region)
            if region.host is not None:
                size = row.end - row.start
                first = known.prefix(region.host + row.offset, size)
                found.append(Range(row.start, size, first, writable=not row.readonly))
        return found

    def host_address(self, address: A) -> HostAddress:
        """Return where in the QEMU process a guest address lies.

        :raises MemoryFault: NOT_RAM, if it is MMIO or nothing; or that no table maps it
        """
        row = self._row_at(address)
        if row is None:
            gap = _no_ram(address, address + 1).gap
            assert gap is not None
            raise MemoryFault(f"translating an address of {self.name}", address, gap)
        iommu = self._region_of(row.region).iommu
        if iommu is not None:
            return iommu.host_address(IoVirtualAddress(row.offset + address - row.start))
        return self._host_of(row, address, 1)

    def mapping(self, address: A) -> Mapping | None:
        """Return what an IOMMU makes of an address; None where none is in force.

        An IOMMU is in force where the flat view says so (``MemoryRegion.is_iommu``).

        :raises MemoryFault: if the MemoryRegion is not in the core
        """
        row = self._row_at(address)
        iommu = None if row is None else self._region_of(row.region).iommu
        if row is None or iommu is None:
            return None
        page = iommu.mapping(row.offset + address - row.start)
        return msgspec.structs.replace(page, start=page.start + row.start - row.offset)

    def _row_at(self, address: int) -> FlatRow | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._rows[index].end:
            return None
        return self._rows[index]

    def _host_of(self, row: FlatRow, address: int, size: int) -> HostAddress:
        region = self._region_of(row.region)
        inside = row.offset + address - row.start
        if region.host is None or inside + size > region.length:
            gap = Gap(GapKind.NOT_RAM, address, size)
            raise MemoryFault(f"translating an address of {self.name}", address, gap)
        return HostAddress(region.host + inside)

    def _pieces_of(self, row: FlatRow, start: int, end: int) -> Iterator[Piece]:
        try:
            region = self._region_of(row.region)
        except MemoryFault as fault:
            gap = msgspec.structs.replace(fault.gap, address=start, size=end - start)
            yield Piece(start, end - start, None, gap)
            return
        inside = row.offset + start - row.start
        if region.iommu is not None:
            from vringcore.qemu.paged_space import shifted

            for piece in region.iommu.pieces(IoVirtualAddress(inside), end - start):
                yield shifted(piece, start - inside)
            return
        if region.host is None:
            yield _no_ram(start, end)
            return
        backed = max(0, min(end - start, region.length - inside))
        host = region.host + inside
        for piece in self._host.pieces(HostAddress(host), backed):
            yield _moved(piece, start - host)
        if start + backed < end:
            yield _no_ram(start + backed, end)


GuestSpace = FlatSpace[GuestAddress]
"""What the vCPUs see as physical memory."""

DmaSpace = FlatSpace[IoVirtualAddress]
"""What a device sees; the same as guest-physical memory unless an IOMMU lies between."""


class UnmappedSpace(AddressSpace[A], Generic[A]):
    """An address space of which nothing is known: every address is a gap that says why.

    :param why: what stands in the way of its memory map
    """

    name = "guest memory"

    def __init__(self, why: VringcoreError) -> None:
        self._hint = str(why)

    def pieces(self, address: A, size: int) -> Iterator[Piece]:
        """Yield the range as one gap."""
        end = end_of(address, size)
        gap = Gap(GapKind.UNTRANSLATABLE, address, size, self._hint)
        if address < end:
            yield Piece(address, size, None, gap)

    def ranges(self) -> Sequence[Range]:
        """Return nothing: no range is known."""
        return ()


def _no_ram(start: int, end: int) -> Piece:
    return Piece(start, end - start, None, Gap(GapKind.NOT_RAM, start, end - start))


def _moved(piece: Piece, by: int) -> Piece:
    """Return a piece of the process's memory as one of the guest's."""
    gap = piece.gap
    address = piece.address + by
    if gap is not None:
        gap = msgspec.structs.replace(gap, address=gap.address + by)
        if gap.kind in (GapKind.UNMAPPED, GapKind.NOT_DUMPED):
            gap = Gap(GapKind.NOT_DUMPED, gap.address, gap.size, NOT_DUMPED_HINT)
    return Piece(address, piece.size, piece.data, gap)
