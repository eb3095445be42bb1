"""The guest's physical memory map and its RAM blocks, as reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.memory.space import Coverage
from vringcore.model.memory import GuestBlock, GuestRegion
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.guest_structs import (
    AddressSpaceView,
    FlatRange,
    FlatRangeState,
    FlatView,
    RegionKind,
)
from vringcore.qemu.memory import flat_rows
from vringcore.qemu.ramblocks import ram_blocks
from vringcore.qemu.structs import RAMBlock
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.model.report import Limitation
    from vringcore.qemu.flat_space import FlatRow
    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

RAM_SHARED = 1 << 1
"""A flag of a RAMBlock (include/exec/cpu-common.h)."""


class GuestMap:
    """What lies where in guest-physical memory.

    :raises LayoutMissingError, CorruptDataError, LimitError, MemoryFault: if the flat view of
        ``address_space_memory`` cannot be read
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._views = process.views
        self._coverage = Coverage(self._views.space)
        place = self._views.address_of("address_space_memory")
        self.rows = flat_rows(self._views, place)
        flat = self._views.at(FlatView, self._views.at(AddressSpaceView, place).current_map)
        self._ranges, self._step = flat.ranges, self._views.binding(FlatRange).type.size

    def regions(self) -> tuple[GuestRegion, ...]:
        """Return every range in the order of addresses."""
        return tuple(self._region(index, row) for index, row in enumerate(self.rows))

    def name_at(self, address: int) -> str | Absent:
        """Return the name of the MemoryRegion that a guest-physical address lies in."""
        row = next((row for row in self.rows if row.start <= address < row.end), None)
        return Absent("not-ram") if row is None else self._name(row)

    def _name(self, row: FlatRow) -> str | Absent:
        views = self._views
        return attempt(lambda: views.string_or_none(views.at(RegionKind, row.region).name) or "")

    def _region(self, index: int, row: FlatRow) -> GuestRegion:
        views, size = self._views, row.end - row.start
        state = views.at(FlatRangeState, self._ranges + index * self._step)
        region = views.at(RegionKind, row.region)
        block = attempt(lambda: region.ram_block)
        name = attempt(lambda: views.at(RAMBlock, block).idstr) if block else None
        host: Address | Absent | None = None
        if block:
            host = attempt(lambda: Address(views.at(RAMBlock, block).host + row.offset))
        there = isinstance(host, Address)
        return GuestRegion(
            start=Address(row.start),
            end=Address(row.end),
            size=size,
            kind=attempt(lambda: _kind(region, state, row)),
            name=self._name(row),
            offset=Address(row.offset),
            block=name,
            host=host,
            file_offset=self._process.core.memory.file_offset_of(host) if there else None,  # type: ignore[arg-type]
            in_core=self._coverage.total(host, size) if there else None,  # type: ignore[arg-type]
        )


def _kind(region: RegionKind, state: FlatRangeState, row: FlatRow) -> str:
    """Return what a range is, as QEMU tells them apart (memory_region_type(), system/memory.c)."""
    if region.is_iommu:
        return "iommu"
    if region.ram_device:
        return "ram-device"
    if region.rom_device:
        return "rom-device" if state.romd_mode else "mmio"
    if not region.ram:
        return "mmio"
    return "rom" if row.readonly else "ram"


def guest_blocks(process: Process, limits: list[Limitation]) -> tuple[GuestBlock, ...] | Absent:
    """Return every RAMBlock, largest first, as QEMU sorts them.

    :param limits: gets what ended the list early
    """
    from vringcore.model.report import Limitation

    blocks, error = collect(_all_blocks(process.views))
    if error is not None and not blocks:
        return absence_of(error)
    if error is not None:
        limits.append(Limitation("RAM blocks are missing", str(error)))
    coverage, found = Coverage(process.views.space), []
    for block in blocks:
        host, size = block.host, block.used_length
        found.append(
            GuestBlock(
                id=block.idstr,
                host=Address(host),
                ram_address=Address(block.offset),
                used_length=size,
                max_length=block.max_length,
                page_size=block.page_size,
                shared=bool(block.flags & RAM_SHARED),
                file_offset=process.core.memory.file_offset_of(host),
                in_core=coverage.total(host, size),
            )
        )
    return tuple(found)


def _all_blocks(views: Views) -> Iterator[RAMBlock]:
    """Yield the blocks; also an unknown place of the list is an end of it."""
    yield from ram_blocks(views)
