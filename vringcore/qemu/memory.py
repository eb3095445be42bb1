"""Guest memory: RAM blocks, flat views of address spaces, guest-physical addresses to host ones.

QEMU keeps for each address space a ``FlatView`` (system/memory.c): sorted, disjoint ranges with
all aliases resolved. It is read in one go; what a range leads to is asked when somebody reads it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import SPACE_END
from vringcore.errors import CorruptDataError, LimitError
from vringcore.qemu.flat_space import (
    DmaSpace,
    FlatRow,
    FlatSpace,
    GuestSpace,
    Region,
)
from vringcore.qemu.guest_structs import AddressSpaceView, FlatRange, FlatView, MemoryRegion
from vringcore.qemu.structs import RAMBlock

if TYPE_CHECKING:
    from vringcore.view.views import Views

MAX_RANGES = 1 << 16


class MappedRange(msgspec.Struct, frozen=True):
    """A range of an address space and what answers there.

    :param host: address in the QEMU process, None if no RAM answers
    :param name: the MemoryRegion's name
    """

    start: int
    size: int
    name: str
    host: int | None
    readonly: bool
    is_iommu: bool


def guest_memory(views: Views) -> GuestSpace:
    """Return guest-physical memory: QEMU's ``address_space_memory`` (system/physmem.c).

    :raises LayoutMissingError: if it is not known where that is
    :raises CorruptDataError, LimitError, MemoryFault: if its flat view cannot be used
    """
    rows = flat_rows(views, views.address_of("address_space_memory"))
    return FlatSpace(views.space, rows, Regions(views))


def dma_space(views: Views, address: int) -> DmaSpace:
    """Return what a device sees through the ``AddressSpace`` at an address (``vdev->dma_as``)."""
    name = views.string_or_none(views.at(AddressSpaceView, address).name)
    rows = flat_rows(views, address)
    return FlatSpace(views.space, rows, Regions(views), f"the address space {name}")


def flat_ranges(views: Views, address: int) -> list[MappedRange]:
    """Return the ranges of the ``AddressSpace`` at an address, with what answers in each.

    An IOMMU is in force for a device only if a range of its ``dma_as`` says so.

    :raises CorruptDataError, LimitError, MemoryFault: if they cannot be read
    """
    region_of = Regions(views)
    found = []
    for row in flat_rows(views, address):
        region = region_of(row.region)
        found.append(
            MappedRange(
                row.start,
                row.end - row.start,
                views.string_or_none(views.at(MemoryRegion, row.region).name) or "",
                None if region.host is None else region.host + row.offset,
                row.readonly,
                region.iommu is not None,
            )
        )
    return found


class Regions:
    """Looks MemoryRegions up, each once."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._known: dict[int, Region] = {}

    def __call__(self, address: int) -> Region:
        """Return the MemoryRegion at an address.

        :raises MemoryFault: if it or its RAMBlock is not there
        """
        region = self._known.get(address)
        if region is None:
            region = self._known[address] = self._read(address)
        return region

    def _read(self, address: int) -> Region:
        view = self._views.at(MemoryRegion, address)
        if view.is_iommu:
            from vringcore.qemu.iommu import iommu_space

            return Region(None, 0, iommu_space(self._views, address))
        if not view.ram_block or view.ram_device:
            return Region(None, 0)
        block = self._views.at(RAMBlock, view.ram_block)
        return Region(block.host, block.max_length)


def flat_rows(views: Views, address: int) -> list[FlatRow]:
    """Return the ranges of the ``AddressSpace`` at an address: one read of ``FlatView.ranges``.

    :raises CorruptDataError: if they are not sorted, disjoint ranges
    :raises LimitError: if there are more than :data:`MAX_RANGES`
    :raises MemoryFault: if they are not there
    """
    flat = views.at(FlatView, views.at(AddressSpaceView, address).current_map)
    count = flat.nr
    if count > MAX_RANGES:
        raise LimitError(
            "a flat view too large to be read",
            where=f"FlatView.nr, {flat.address_:#x}",
            seen=f"{count} ranges",
            expected=f"at most {MAX_RANGES}",
        )
    if not count:
        return []
    layout, order = _row_layout(views)
    data = views.space.read(flat.ranges, count * layout.size)
    rows: list[FlatRow] = []
    reach = 0
    for values in layout.iter_unpack(data):
        region, offset, readonly, low, high, size_low, size_high = (values[i] for i in order)
        start, end = high << 64 | low, (high << 64 | low) + (size_high << 64 | size_low)
        if not reach <= start < end <= SPACE_END:
            raise CorruptDataError(
                "the ranges of a flat view are damaged",
                where=f"FlatView.ranges[{len(rows)}], {flat.ranges:#x}",
                seen=f"[{start:#x}, {end:#x})",
                expected=f"a range from {reach:#x} on",
                hint="the core may have been taken while the memory map was changed",
            )
        reach = end
        rows.append(FlatRow(start, end, region, offset, readonly))
    return rows


def _row_layout(views: Views) -> tuple[Struct, tuple[int, ...]]:
    """Return the unpacker of one ``FlatRange``, and where in its values each of ours lies.

    ``Int128`` (include/qemu/int128.h) is read as two 64-bit words.
    """
    bound = views.binding(FlatRange).type
    known = views.layouts.derived.get(_row_layout)
    if isinstance(known, tuple):
        return known
    pointer = "Q" if views.pointer_size == 8 else "I"
    words = (8, 0) if views.layouts.big_endian else (0, 8)
    places: list[tuple[int, str, int]] = []
    for name, code, at in (
        ("mr", pointer, 0),
        ("offset_in_region", "Q", 0),
        ("readonly", "?", 0),
        ("start", "Q", words[0]),
        ("start", "Q", words[1]),
        ("size", "Q", words[0]),
        ("size", "Q", words[1]),
    ):
        slot = bound.slots[name]
        if slot is None:
            raise bound.refuse(name)
        places.append((slot.offset + at, code, len(places)))
    text, end = ">" if views.layouts.big_endian else "<", 0
    order = [0] * len(places)
    for position, (offset, code, wanted) in enumerate(sorted(places)):
        text += f"{offset - end}x{code}"
        end = offset + Struct(f"<{code}").size
        order[wanted] = position
    result = Struct(f"{text}{bound.size - end}x"), tuple(order)
    views.layouts.derived[_row_layout] = result
    return result
