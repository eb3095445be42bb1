"""Intel VT-d: a walk of the tables that the guest keeps for its devices.

Intel Virtualization Technology for Directed I/O, Architecture Specification 4.1: root, context and
PASID tables in 3.4 and 9.1 to 9.6. What QEMU holds is where the root table lies and of which kind
it is (hw/i386/intel_iommu.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import SPACE_END
from vringcore.memory.gaps import GapKind
from vringcore.qemu.iommu import NAME, IommuSpace, bus_number, denied
from vringcore.qemu.iommu_structs import IntelIOMMUState, VTDAddressSpace
from vringcore.qemu.iommu_tables import ADDRESS, PRESENT, PageTable, TableReader, WalkRefused
from vringcore.qemu.memory import guest_memory
from vringcore.qemu.paged_space import Mapping

if TYPE_CHECKING:
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.view.views import Views

UNIT = ("hw/i386/intel_iommu.c",)

NO_PASID = (1 << 32) - 1
"""``PCI_NO_PASID``: requests without a process address space id."""

INTERRUPTS = 0xFEE00000, 0xFEF00000
"""Writes to these addresses are interrupts, whatever the tables say (3.14)."""

TRANSLATION_TYPES = {0: "tables", 1: "tables", 2: "pass-through"}
"""Of a legacy context entry (9.3); with type 1 the device may cache translations."""
FIRST, SECOND, NESTED, PASS_THROUGH = 1, 2, 3, 4
"""PGTT of a PASID entry (9.6)."""


class VtdDevice(msgspec.Struct, frozen=True):
    """A device as VT-d knows it.

    :param root: guest-physical address of the root table
    :param scalable: whether that table is one of scalable mode
    :param width: bits of a guest-physical address, and of a device's at most (``aw_bits``)
    :param pasid: of its requests; None if they have none
    """

    root: int
    scalable: bool
    width: int
    bus: int
    devfn: int
    pasid: int | None = None


class Regime(msgspec.Struct, frozen=True):
    """How a device's addresses are translated: by neither table they are guest-physical."""

    first: PageTable | None = None
    second: PageTable | None = None


class VtdSpace(IommuSpace):
    """What a device sees through VT-d.

    QEMU's cache of translations (``iotlb``) is not asked: the tables are what the guest last wrote.
    """

    def __init__(self, memory: GuestSpace, device: VtdDevice) -> None:
        super().__init__(memory, NAME)
        self._device = device
        self._regime: Regime | WalkRefused | None = None
        self._tables = TableReader(memory, device.width)

    @property
    def regime(self) -> Regime | None:
        """How the device's addresses are translated; None if the tables deny all of them."""
        regime = self._found_regime()
        return regime if isinstance(regime, Regime) else None

    def look_up(self, address: int) -> Mapping:
        """Return the page that an address lies in, or the stretch that the same entry denies."""
        start, end = INTERRUPTS
        if start <= address < end:
            return denied(start, end - start, GapKind.NOT_RAM, "the window of interrupts")
        regime = self._found_regime()
        if isinstance(regime, WalkRefused):
            return denied(0, SPACE_END, regime.kind, regime.why)
        if regime.first is not None:
            return self._tables.page(regime.first, address, regime.second)
        if regime.second is not None:
            return self._tables.page(regime.second, address)
        low = 0 if address < start else end
        return Mapping(low, (start if address < start else SPACE_END) - low, low)

    # Which tables

    def _found_regime(self) -> Regime | WalkRefused:
        if self._regime is None:
            try:
                find = self._scalable if self._device.scalable else self._legacy
                self._regime = find()
            except WalkRefused as refused:
                self._regime = refused
        return self._regime

    def _legacy(self) -> Regime:
        device = self._device
        (low, _), _ = self._words("root", device.root + 16 * device.bus, 2)
        (low, high), where = self._words("context", (low & ADDRESS) + 16 * device.devfn, 2)
        kind = TRANSLATION_TYPES.get(low >> 2 & 3)
        if kind is None:
            raise WalkRefused(GapKind.UNMAPPED, f"{where} has the reserved translation type 3")
        if kind == "pass-through":
            return Regime()
        return Regime(second=_second_level(low, high & 7, where))

    def _scalable(self) -> Regime:
        device = self._device
        # A root entry has one half for the devices below 16, another for those from there on.
        half = device.devfn >> 7
        (low,), _ = self._words("root", device.root + 16 * device.bus + 8 * half, 1)
        at = (low & ADDRESS) + 32 * (device.devfn & 0x7F)
        (low, high), _ = self._words("context", at, 2)
        pasid = high & 0xFFFFF if device.pasid is None else device.pasid
        at = (low & ADDRESS) + 8 * (pasid >> 6)
        (low,), _ = self._words("PASID directory", at, 1)
        at = (low & ADDRESS) + 64 * (pasid & 63)
        (low, _, third), where = self._words("PASID table", at, 3)
        kind = low >> 6 & 7
        if kind not in (FIRST, SECOND, NESTED, PASS_THROUGH):
            raise WalkRefused(GapKind.UNMAPPED, f"{where} has the unknown translation type {kind}")
        first = second = None
        if kind in (FIRST, NESTED):
            mode = third >> 2 & 3
            if mode > 1:
                raise WalkRefused(GapKind.UNMAPPED, f"{where} has the reserved paging mode {mode}")
            first = PageTable(third & ADDRESS, 4 + mode, first=True)
        if kind in (SECOND, NESTED):
            second = _second_level(low, low >> 2 & 7, where)
        return Regime(first, second)

    def _words(self, name: str, address: int, count: int) -> tuple[tuple[int, ...], str]:
        """Return an entry that is present, and its name with its place."""
        where = f"the {name} entry at guest-physical {address:#x}"
        words = self._tables.words(address, count, where)
        if not words[0] & PRESENT:
            raise WalkRefused(GapKind.UNMAPPED, f"{where} is {words[0]:#x}: not present")
        return words, where


_WIDTHS = {1: 3, 2: 4, 3: 5}
"""Levels by the address width (AW) of a context or PASID entry."""


def _second_level(low: int, width: int, where: str) -> PageTable:
    levels = _WIDTHS.get(width)
    if levels is None:
        raise WalkRefused(GapKind.UNMAPPED, f"{where} has the reserved address width {width}")
    return PageTable(low & ADDRESS, levels, first=False)


def vtd_space(views: Views, region: int) -> VtdSpace:
    """Return what a device sees, from the MemoryRegion in its ``VTDAddressSpace``.

    :raises LayoutMissingError: if the build does not define the structures
    :raises VringcoreError: if they, or the guest's memory map, cannot be read
    """
    at = region - views.offset(VTDAddressSpace.c_type, "iommu", UNIT)
    device = views.at(VTDAddressSpace, at)
    unit = views.at(IntelIOMMUState, device.iommu_state)
    pasid = device.pasid
    return VtdSpace(
        guest_memory(views),
        VtdDevice(
            root=unit.root,
            scalable=bool(unit.root_scalable),
            width=unit.aw_bits,
            bus=bus_number(views, device.bus),
            devfn=device.devfn,
            pasid=None if pasid is None or pasid == NO_PASID else pasid & 0xFFFFF,
        ),
    )
