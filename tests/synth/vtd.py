"""Builds the tables that a guest keeps for Intel VT-d, from the specification alone.

Nothing of vringcore is imported here. All tables are pages of 4 KiB in guest-physical memory::

    tables = Vtd("legacy", levels=4, bus=0, devfn=0x18)
    tables.map(0xFFFF_F000, 0x20_0000, read=True, write=False)
    tables.root, tables.pages

Intel Virtualization Technology for Directed I/O: root entries 9.1 and 9.2, context entries 9.3 and
9.4, the PASID directory and table 9.5 and 9.6, paging entries 9.7 and 9.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 4096
LEGACY = ("legacy", "legacy-pass-through")
SCALABLE = ("first", "second", "nested", "scalable-pass-through")
_KINDS = {"first": 1, "second": 2, "nested": 3, "scalable-pass-through": 4}

_APART = 1 << 36
"""How far from its page a first-level table of nested translation is, as it is named."""


class Tree:
    """Paging structures; `place` makes a page for a table, and tells its name and its contents."""

    def __init__(self, levels: int, place: Callable[[], tuple[int, bytearray]]) -> None:
        self.levels = levels
        self._place = place
        self._tables: dict[int, bytearray] = {}
        self.root = self._new()

    def map(self, address: int, physical: int, level: int, bits: int, upper: int) -> None:
        """Map a page; `upper` are the bits of the entries above, those on the way before stay."""
        table = self.root
        for each in range(self.levels, level, -1):
            entry = self.word(table, address, each)
            if not entry:
                entry = self._new() | upper
                self.set(table, address, each, entry)
            table = entry & 0xF_FFFF_FFFF_F000
        self.set(table, address, level, physical | bits | (0x80 if level > 1 else 0))

    def table_of(self, address: int, level: int) -> int:
        """Return the table of a level that an address leads to."""
        table = self.root
        for each in range(self.levels, level, -1):
            table = self.word(table, address, each) & 0xF_FFFF_FFFF_F000
        return table

    def word(self, table: int, address: int, level: int) -> int:
        at = slot(address, level)
        return int.from_bytes(self._tables[table][at : at + 8], "little")

    def set(self, table: int, address: int, level: int, entry: int) -> None:
        at = slot(address, level)
        self._tables[table][at : at + 8] = entry.to_bytes(8, "little")

    def _new(self) -> int:
        name, page = self._place()
        self._tables[name] = page
        return name


def slot(address: int, level: int) -> int:
    """Return the byte offset of an address's entry in a table of a level."""
    return (address >> (12 + 9 * (level - 1))) % 512 * 8


class Vtd:
    """One device's tables.

    :param mode: one of :data:`LEGACY` or :data:`SCALABLE`
    :param base: where in guest-physical memory the first table lies
    :ivar pages: the pages that hold tables, by address
    :ivar entries: the address of the entry of each table above the paging structures
    """

    def __init__(
        self,
        mode: str,
        *,
        levels: int = 4,
        bus: int = 0,
        devfn: int = 0,
        pasid: int = 0,
        base: int = 0x10000,
        first_levels: int = 4,
    ) -> None:
        self.mode = mode
        self.scalable = mode in SCALABLE
        self.pages: dict[int, bytearray] = {}
        self._next = base
        self.root = self._page()
        self.entries: dict[str, int] = {}
        self.second: Tree | None = None
        self.first: Tree | None = None
        if mode in ("legacy", "second", "nested"):
            self.second = Tree(levels, self._physical)
        if mode in ("first", "nested"):
            place = self._through_second if mode == "nested" else self._physical
            self.first = Tree(first_levels, place)
        if self.scalable:
            self._scalable(bus, devfn, pasid)
        else:
            self._legacy(bus, devfn)

    def map(
        self, iova: int, physical: int, *, level: int = 1, read: bool = True, write: bool = True
    ) -> None:
        """Map a page of 4 KiB, 2 MiB or 1 GiB by its level.

        With nested tables the first level names an address that the second one maps with a page of
        the same size.
        """
        if self.first is None:
            assert self.second is not None
            self.second.map(iova, physical, level, read | write << 1, 3)
            return
        named = physical if self.second is None else self.named(iova)
        self.first.map(iova, named, level, 5 | write << 1, 7)
        if self.second is not None:
            self.second.map(named, physical, level, read | write << 1, 3)

    def named(self, iova: int) -> int:
        """Return what the first level of nested tables makes of an address."""
        return iova + (1 << 38)

    def word(self, address: int) -> int:
        at = address % PAGE
        return int.from_bytes(self.pages[address - at][at : at + 8], "little")

    def set(self, address: int, value: int) -> None:
        at = address % PAGE
        self.pages[address - at][at : at + 8] = value.to_bytes(8, "little")

    def _page(self) -> int:
        address = self._next
        self._next += PAGE
        self.pages[address] = bytearray(PAGE)
        return address

    def _physical(self) -> tuple[int, bytearray]:
        address = self._page()
        return address, self.pages[address]

    def _through_second(self) -> tuple[int, bytearray]:
        assert self.second is not None
        address = self._page()
        self.second.map(address + _APART, address, 1, 3, 3)
        return address + _APART, self.pages[address]

    def _enter(self, name: str, address: int, *words: int) -> None:
        self.entries[name] = address
        for number, word in enumerate(words):
            self.set(address + 8 * number, word)

    def _legacy(self, bus: int, devfn: int) -> None:
        contexts = self._page()
        self._enter("root", self.root + 16 * bus, contexts | 1)
        low, high = 1 | 2 << 2, 2
        if self.second is not None:
            low, high = 1 | self.second.root, self.second.levels - 2
        self._enter("context", contexts + 16 * devfn, low, high | 7 << 8)

    def _scalable(self, bus: int, devfn: int, pasid: int) -> None:
        contexts, table = self._page(), self._page()
        directory, *_ = [self._page() for _ in range(32)]  # 2^14 entries of 8 bytes
        self._enter("root", self.root + 16 * bus + 8 * (devfn >= 0x80), contexts | 1)
        self._enter("context", contexts + 32 * (devfn % 0x80), directory | 1, pasid)
        self._enter("PASID directory", directory + 8 * (pasid // 64), table | 1)
        low, third = 1 | _KINDS[self.mode] << 6, 0
        if self.second is not None:
            low |= self.second.root | (self.second.levels - 2) << 2
        if self.first is not None:
            third = self.first.root | (self.first.levels - 4) << 2
        self._enter("PASID table", table + 64 * (pasid % 64), low, 0, third)
