"""Walks of page tables that were built here: what was mapped is what is read, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.support import Image
from vringcore.errors import UsageError
from vringcore.memory.gaps import GapKind
from vringcore.model.values import Absent
from vringcore.qemu.flat_space import FlatRow, FlatSpace, Region
from vringcore.qemu.paging import virtual_space
from vringcore.qemu.vcpus import RawCpu, X86Registers

if TYPE_CHECKING:
    from vringcore.qemu.flat_space import GuestSpace
    from vringcore.qemu.paging import VirtualSpace

HOST = 0x7F0000000000
RAM = 1 << 31
SIZES = {1: 1 << 12, 2: 1 << 21, 3: 1 << 30}
UPPER = 0xFFFF << 48


class Tables:
    """Page tables in guest memory, from physical address 0x1000 on, by `levels`."""

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.pages: dict[int, bytearray] = {}
        self.root = self._new()

    def _new(self) -> int:
        address = 0x1000 * (len(self.pages) + 1)
        self.pages[address] = bytearray(4096)
        return address

    def map(self, virtual: int, physical: int, level: int, extra: int = 0) -> None:
        """Map one page of the level's size; other tables on the way are made."""
        table = self.root
        for each in range(self.levels, level, -1):
            at = self._slot(virtual, each)
            entry = int.from_bytes(self.pages[table][at : at + 8], "little")
            if not entry:
                entry = self._new() | 0x67
                self.pages[table][at : at + 8] = entry.to_bytes(8, "little")
            table = entry & ~0xFFF
        at = self._slot(virtual, level)
        entry = physical | 0x63 | (0x80 if level > 1 else 0) | extra
        self.pages[table][at : at + 8] = entry.to_bytes(8, "little")

    def _slot(self, virtual: int, level: int) -> int:
        return (virtual >> (12 + 9 * (level - 1))) % 512 * 8

    def memory(self, data: dict[int, bytes] | None = None) -> GuestSpace:
        """Return guest memory that holds the tables and pieces of data, and lacks the rest."""
        blocks = {HOST + at: bytes(page) for at, page in self.pages.items()}
        blocks |= {HOST + at: piece for at, piece in (data or {}).items()}
        rows = [FlatRow(0, RAM, 1, 0, False)]
        return FlatSpace(Image(blocks), rows, lambda _: Region(HOST, RAM))

    def space(self, data: dict[int, bytes] | None = None, *, noise: int = 0) -> VirtualSpace:
        return virtual_space(self.memory(data), cpu(self.root | noise, self.levels))


def cpu(
    root: int, levels: int, *, cr0: int = 0x80050033, efer: int = 0xD01, index: int = 0
) -> RawCpu:
    cr4 = 0x6B0 | (0x1000 if levels == 5 else 0)
    return RawCpu(index, False, False, X86Registers({}, {}, (cr0, 0, 0, root, cr4), efer, 0))


@given(
    levels=st.sampled_from([4, 5]),
    level=st.sampled_from([1, 2, 3]),
    page=st.integers(0, (1 << 14) - 1),
    upper=st.booleans(),
    inside=st.integers(0, (1 << 30) - 16),
    extra=st.sampled_from([0, 1 << 63, 1 << 62 | 1 << 52, 0x1C]),
)
def test_what_was_mapped_is_read(
    levels: int, level: int, page: int, upper: bool, inside: int, extra: int
) -> None:
    size = SIZES[level]
    inside %= size - 16
    virtual = page * size + (((1 << 64) - (1 << 47)) if upper else 0)
    tables = Tables(levels)
    physical = size if size > 1 << 22 else 1 << 22
    tables.map(virtual, physical, level, extra)
    space = tables.space({physical + inside: b"sixteen bytes ok"}, noise=0xFFF)
    assert space.read(virtual + inside, 16) == b"sixteen bytes ok"
    assert space.root == tables.root
    mapping = space.mapping(virtual + inside)
    assert (mapping.start, mapping.size, mapping.physical) == (virtual, size, physical)


def test_pages_side_by_side_are_read_as_one() -> None:
    tables = Tables(4)
    tables.map(UPPER | 0x9000_0000_1000, 0x800000, 1)
    tables.map(UPPER | 0x9000_0000_2000, 0x600000, 1)
    space = tables.space({0x800FFC: b"left", 0x600000: b"right"})
    assert space.read((UPPER | 0x9000_0000_2000) - 4, 9) == b"leftright"


@pytest.mark.parametrize(
    ("address", "named"),
    [
        (0x7FFF_FFFF_F000, "PML4"),
        (0x4000_0000, "page-directory-pointer"),
        (0x20_0000, "page-directory"),
        (0x2000, "page-table"),
    ],
)
def test_an_absent_page_names_the_entry(address: int, named: str) -> None:
    tables = Tables(4)
    tables.map(0x1000, 0x800000, 1)
    [piece] = tables.space().pieces(address, 16)
    assert piece.gap is not None
    assert (piece.address, piece.size) == (address, 16)
    assert piece.gap.kind is GapKind.UNMAPPED
    assert piece.gap.hint.startswith(f"the {named} entry at guest-physical 0x")
    assert piece.gap.hint.endswith("is 0x0: not present")


def test_a_page_that_the_core_lacks_is_another_absence() -> None:
    tables = Tables(4)
    tables.map(0x1000, 0x800000, 1)
    [piece] = tables.space().pieces(0x1000, 16)
    assert piece.gap is not None
    assert piece.gap.kind is GapKind.NOT_DUMPED
    assert piece.gap.address == 0x1000


@pytest.mark.parametrize(("root", "kind"), [(0x700000, "not-dumped"), (1 << 40, "not-ram")])
def test_a_table_that_is_not_there_is_named(root: int, kind: str) -> None:
    space = virtual_space(Tables(4).memory(), cpu(root, 4))
    [piece] = space.pieces(0x1000, 16)
    assert piece.gap is not None
    assert piece.gap.kind.value == kind
    assert f"the PML4 entry at guest-physical {root:#x} cannot be read" in piece.gap.hint


def test_a_table_that_leads_to_itself_ends() -> None:
    tables = Tables(5)
    tables.pages[tables.root][:8] = (tables.root | 3).to_bytes(8, "little")
    assert tables.space().read(0, 8) == (tables.root | 3).to_bytes(8, "little")


@pytest.mark.parametrize(("levels", "last"), [(4, 1 << 47), (5, 1 << 56)])
def test_addresses_that_are_not_canonical(levels: int, last: int) -> None:
    tables = Tables(levels)
    pieces = list(tables.space().pieces(last - 4, 8))
    assert [piece.size for piece in pieces] == [4, 4]
    assert pieces[0].gap is not None
    assert "not present" in pieces[0].gap.hint
    assert pieces[1].gap is not None
    assert "no canonical address" in pieces[1].gap.hint


def test_without_paging_addresses_are_physical() -> None:
    space = virtual_space(Tables(4).memory({0x500000: b"real"}), cpu(0, 4, cr0=0x33))
    assert space.root is None
    assert space.read(0x500000, 4) == b"real"


def test_other_modes_are_refused() -> None:
    with pytest.raises(UsageError, match="PAE paging, which is not followed"):
        virtual_space(Tables(4).memory(), cpu(0x1000, 4, efer=0))
    lost = RawCpu(3, False, None, Absent("not-in-this-build", None, "x86-64 only"))
    with pytest.raises(UsageError, match="vCPU 3 are not known"):
        virtual_space(Tables(4).memory(), lost)
