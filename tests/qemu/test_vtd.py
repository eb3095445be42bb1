"""VT-d's tables, built here: what was mapped is what is read, and nothing a guest writes harms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.qemu.support import Image
from tests.synth.vtd import LEGACY, SCALABLE, Vtd
from vringcore.addresses import SPACE_END, IoVirtualAddress
from vringcore.errors import MemoryFault
from vringcore.memory.gaps import GapKind
from vringcore.qemu.flat_space import FlatRow, FlatSpace, Region
from vringcore.qemu.iommu_vtd import Regime, VtdDevice, VtdSpace

if TYPE_CHECKING:
    from vringcore.memory.gaps import Gap
    from vringcore.qemu.flat_space import GuestSpace

HOST = 0x7F00_0000_0000
RAM = 1 << 36
"""Guest RAM begins at 0; what of it is not built is not in the core."""
SIZES = {1: 1 << 12, 2: 1 << 21, 3: 1 << 30}
WITH_TABLES = ("legacy", "first", "second", "nested")
INTERRUPTS = range(0xFEE00000, 0xFEF00000)


def guest(tables: Vtd, data: dict[int, bytes] | None = None) -> GuestSpace:
    """Return guest memory that holds the tables and pieces of data."""
    blocks = {HOST + at: bytes(page) for at, page in tables.pages.items()}
    blocks |= {HOST + at: piece for at, piece in (data or {}).items()}
    rows = [FlatRow(0, RAM, 1, 0, False)]
    return FlatSpace(Image(blocks), rows, lambda _: Region(HOST, RAM))


def space_of(
    tables: Vtd, data: dict[int, bytes] | None = None, *, width: int = 48, **device: Any
) -> VtdSpace:
    """Return what the device with the tables sees; by default device 0 of bus 0."""
    place = {"bus": 0, "devfn": 0, "pasid": None} | device
    return VtdSpace(guest(tables, data), VtdDevice(tables.root, tables.scalable, width, **place))


def at(address: int) -> IoVirtualAddress:
    return IoVirtualAddress(address)


def denial(space: VtdSpace, address: int) -> Gap:
    """Return the gap at an address that is not mapped."""
    page = space.mapping(address)
    assert page.physical is None
    assert page.gap is not None
    assert page.start <= address < page.start + page.size
    return page.gap


Page = tuple[int, int, int, bool, bool]
"""IOVA, guest-physical address, level, and whether the device may read and write."""


@st.composite
def mapped(draw: st.DrawFn) -> list[Page]:
    """Pages of all sizes that do not overlap, none of them in the window of interrupts."""
    pages: list[Page] = []
    for _ in range(draw(st.integers(1, 5))):
        level = draw(st.sampled_from([1, 2, 3]))
        size = SIZES[level]
        iova = draw(st.integers(0, (1 << 38) // size - 1)) * size
        physical = draw(st.integers(1, RAM // size - 1)) * size
        read, write = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
        if all(iova + size <= p[0] or p[0] + SIZES[p[2]] <= iova for p in pages):
            in_window = iova < INTERRUPTS.stop and INTERRUPTS.start < iova + size
            if not in_window and physical >= 1 << 21:
                pages.append((iova, physical, level, read, write))
    assume(pages)
    return pages


@given(
    mode=st.sampled_from(WITH_TABLES),
    levels=st.sampled_from([3, 4, 5]),
    bus=st.integers(0, 255),
    devfn=st.integers(0, 255),
    pasid=st.integers(0, (1 << 20) - 1),
    pages=mapped(),
    inside=st.integers(0, (1 << 30) - 1),
)
def test_what_is_mapped_is_what_is_found(
    mode: str, levels: int, bus: int, devfn: int, pasid: int, pages: list[Page], inside: int
) -> None:
    tables = Vtd(
        mode, levels=levels, first_levels=max(levels, 4), bus=bus, devfn=devfn, pasid=pasid
    )
    for iova, physical, level, read, write in pages:
        tables.map(iova, physical, level=level, read=read, write=write)
    space = space_of(tables, bus=bus, devfn=devfn)
    for iova, physical, level, read, write in pages:
        size = SIZES[level]
        for offset in (0, inside % size, size - 1):
            page = space.mapping(iova + offset)
            assert page.physical is not None
            assert page.physical + iova + offset - page.start == physical + offset
            assert page.writable is write
            assert page.readable is (read or mode == "first")
        for neighbour in (iova - 1, iova + size):
            known = any(p[0] <= neighbour < p[0] + SIZES[p[2]] for p in pages)
            if neighbour >= 0 and neighbour not in INTERRUPTS and not known:
                assert denial(space, neighbour).kind is GapKind.UNMAPPED


@given(start=st.integers(0, 8000), size=st.integers(0, 9000))
def test_reads_cross_pages_that_lie_apart(start: int, size: int) -> None:
    tables = Vtd("legacy")
    data = {0x80_0000 - 0x3000 * n: bytes([n + 1]) * 4096 for n in range(3)}
    model = b"".join(data.values())
    for number, physical in enumerate(data):
        tables.map(0x5000 + 4096 * number, physical)
    space = space_of(tables, data)
    end = start + size
    if end <= len(model):
        assert space.read(at(0x5000 + start), size) == model[start:end]
    else:
        with pytest.raises(MemoryFault) as caught:
            space.read(at(0x5000 + start), size)
        assert caught.value.address == 0x5000 + max(start, len(model))


@pytest.mark.parametrize("mode", ["legacy-pass-through", "scalable-pass-through"])
def test_pass_through_leads_to_the_same_address(mode: str) -> None:
    space = space_of(Vtd(mode), {0x5000: b"here"})
    assert space.regime == Regime()
    assert space.read(at(0x5000), 4) == b"here"
    for address in (0, 0x5123, INTERRUPTS.start - 1, INTERRUPTS.stop, SPACE_END - 1):
        page = space.mapping(address)
        assert page.physical == page.start


@pytest.mark.parametrize("mode", [*LEGACY, *SCALABLE])
def test_the_window_of_interrupts_is_no_memory(mode: str) -> None:
    tables = Vtd(mode)
    if "pass" not in mode:
        tables.map(0xFEE00000, 0x20_0000, level=2 if mode == "second" else 1)
    space = space_of(tables)
    for address in (INTERRUPTS.start, INTERRUPTS.stop - 1):
        assert denial(space, address).kind is GapKind.NOT_RAM


@pytest.mark.parametrize("mode", [*LEGACY, *SCALABLE])
def test_the_first_entry_that_is_not_present_is_named(mode: str) -> None:
    for name, address in Vtd(mode).entries.items():
        tables = Vtd(mode)
        tables.set(address, tables.word(address) & ~1)
        space = space_of(tables)
        assert space.regime is None
        gap = denial(space, 0x1234)
        assert gap.kind is GapKind.UNMAPPED
        assert gap.size == SPACE_END
        assert f"the {name} entry at guest-physical {address:#x}" in gap.hint
        assert "not present" in gap.hint


@pytest.mark.parametrize("mode", ["legacy", "first", "second"])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_paging_entry_that_is_not_present_is_named(mode: str, level: int) -> None:
    tables = Vtd(mode)
    tables.map(0x4030_2000, 0x20_0000)
    tree = tables.first or tables.second
    assert tree is not None
    table = tree.table_of(0x4030_2000, level)
    tree.set(table, 0x4030_2000, level, 0)
    gap = denial(space_of(tables), 0x4030_2000)
    place = table + (0x4030_2000 >> (12 + 9 * (level - 1))) % 512 * 8
    assert f"entry of level {level} at guest-physical {place:#x} is 0x0: not present" in gap.hint
    assert gap.size == 1 << (12 + 9 * (level - 1))


@pytest.mark.parametrize("mode", WITH_TABLES)
def test_tables_that_the_core_lacks_say_so(mode: str) -> None:
    tables = Vtd(mode)
    tables.map(0x4030_2000, 0x20_0000)
    for page in list(tables.pages):
        less = Vtd(mode)
        less.map(0x4030_2000, 0x20_0000)
        lost = less.pages.pop(page)
        space = space_of(less)
        if any(lost):
            gap = denial(space, 0x4030_2000)
            assert gap.kind is GapKind.NOT_DUMPED
            assert f"{page >> 12:x}" in gap.hint


def test_a_table_outside_ram_is_said_to_be_that() -> None:
    for name, address in Vtd("second").entries.items():
        tables = Vtd("second")
        tables.map(0x1000, 0x20_0000)
        tables.set(address, tables.word(address) & 0xFFF | 1 << 45)
        gap = denial(space_of(tables), 0x1000)
        assert gap.kind is GapKind.NOT_RAM, name
        assert "cannot be read" in gap.hint


def test_a_page_outside_ram_is_no_ram() -> None:
    tables = Vtd("legacy")
    tables.map(0x1000, 1 << 40)
    space = space_of(tables)
    assert space.mapping(0x1000).physical == 1 << 40
    with pytest.raises(MemoryFault) as caught:
        space.read(at(0x1010), 4)
    assert (caught.value.address, caught.value.gap.kind) == (0x1010, GapKind.NOT_RAM)
    assert "guest-physical 0x10000000010" in caught.value.gap.hint


def test_every_entry_on_the_way_takes_rights() -> None:
    tables = Vtd("legacy")
    tables.map(0x1000, 0x20_0000)
    tree = tables.second
    assert tree is not None
    for level, rights in ((4, 1), (3, 3), (2, 1)):
        table = tree.table_of(0x1000, level)
        tree.set(table, 0x1000, level, tree.word(table, 0x1000, level) & ~3 | rights)
    page = space_of(tables).mapping(0x1000)
    assert (page.readable, page.writable) == (True, False)


@pytest.mark.parametrize(
    ("mode", "level", "bits", "width"),
    [
        ("legacy", 1, 1 << 45, 39),
        ("second", 2, 1 << 40, 39),
        ("first", 1, 1 << 50, 48),
        ("legacy", 4, 0x80, 48),
        ("first", 4, 0x80, 48),
    ],
)
def test_reserved_bits_are_refused(mode: str, level: int, bits: int, width: int) -> None:
    tables = Vtd(mode)
    tables.map(0x1000, 0x20_0000)
    tree = tables.first or tables.second
    assert tree is not None
    table = tree.table_of(0x1000, level)
    tree.set(table, 0x1000, level, tree.word(table, 0x1000, level) | bits)
    gap = denial(space_of(tables, width=width), 0x1000)
    assert gap.kind is GapKind.UNMAPPED
    assert f"reserved bits {bits:#x}" in gap.hint


def test_bits_below_a_large_page_are_reserved() -> None:
    for mode, bit, fine in (("legacy", 12, False), ("first", 12, True), ("first", 13, False)):
        tables = Vtd(mode)
        tables.map(0x40_0000, 0x20_0000 | 1 << bit, level=2)
        page = space_of(tables).mapping(0x40_0000)
        assert (page.physical is not None) is fine
        if fine:
            assert page.physical == 0x20_0000


def test_addresses_beyond_the_tables_are_denied() -> None:
    for levels, width, bits in ((3, 48, 39), (4, 48, 48), (4, 39, 39), (5, 57, 57)):
        tables = Vtd("legacy", levels=levels)
        space = space_of(tables, width=width)
        assert "level" in denial(space, (1 << bits) - 1).hint
        assert f"translate {bits} bits" in denial(space, 1 << bits).hint
        assert denial(space, SPACE_END - 1).kind is GapKind.UNMAPPED


def test_first_level_addresses_are_canonical() -> None:
    tables = Vtd("first")
    tables.map(SPACE_END - 0x1000, 0x20_0000)
    space = space_of(tables)
    assert space.mapping(SPACE_END - 1).physical == 0x20_0000
    assert "no canonical address" in denial(space, 1 << 47).hint


def test_an_entry_for_privileged_requests_is_refused() -> None:
    tables = Vtd("first")
    tables.map(0x1000, 0x20_0000)
    assert tables.first is not None
    table = tables.first.table_of(0x1000, 1)
    tables.first.set(table, 0x1000, 1, tables.first.word(table, 0x1000, 1) & ~4)
    assert "privileged" in denial(space_of(tables), 0x1000).hint


@pytest.mark.parametrize(
    ("mode", "entry", "offset", "bits", "said"),
    [
        ("legacy", "context", 0, 3 << 2, "reserved translation type 3"),
        ("legacy", "context", 8, 7, "reserved address width 7"),
        ("second", "PASID table", 0, 7 << 6, "unknown translation type 7"),
        ("second", "PASID table", 0, 7 << 2, "reserved address width 7"),
        ("first", "PASID table", 16, 3 << 2, "reserved paging mode 3"),
    ],
)
def test_what_the_specification_reserves_is_named(
    mode: str, entry: str, offset: int, bits: int, said: str
) -> None:
    tables = Vtd(mode)
    place = tables.entries[entry] + offset
    tables.set(place, tables.word(place) | bits)
    assert said in denial(space_of(tables), 0x1000).hint


def test_a_request_with_a_pasid_goes_by_its_own_entry() -> None:
    tables = Vtd("second", pasid=70)
    tables.map(0x1000, 0x20_0000)
    context = tables.entries["context"]
    tables.set(context + 8, 0)
    assert space_of(tables, pasid=70).mapping(0x1000).physical == 0x20_0000
    assert "PASID" in denial(space_of(tables), 0x1000).hint


def test_nested_tables_are_denied_by_either_level() -> None:
    tables = Vtd("nested")
    tables.map(0x1000, 0x20_0000)
    tables.map(0x2000, 0x30_0000, write=False)
    assert tables.second is not None
    space = space_of(tables)
    assert space.mapping(0x2000).writable is False
    assert "first-level entry of level 1" in denial(space, 0x3000).hint
    named = tables.named(0x1000)
    tables.second.set(tables.second.table_of(named, 1), named, 1, 0)
    assert "second-level entry of level 1" in denial(space_of(tables), 0x1000).hint


words = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.builds(lambda page, bits: page << 12 | bits, st.integers(0, 80), st.integers(0, 0x1FF)),
)


@settings(max_examples=300)
@given(
    mode=st.sampled_from([*LEGACY, *SCALABLE]),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 511), words), max_size=12),
    addresses=st.lists(st.integers(0, SPACE_END - 1), min_size=1, max_size=5),
    width=st.integers(0, 255),
    size=st.integers(0, 20_000),
)
def test_nothing_in_the_tables_can_raise_or_run_on(
    mode: str,
    changes: list[tuple[int, int, int]],
    addresses: list[int],
    width: int,
    size: int,
) -> None:
    """Loops, pointers to anywhere, reserved bits: an address has an answer, and a range ends."""
    tables = Vtd(mode)
    if "pass" not in mode:
        for address in addresses:
            tables.map(address % (1 << 46) & ~0xFFF, 0x20_0000)
    places = sorted(tables.pages)
    for which, number, word in changes:
        tables.set(places[which % len(places)] + 8 * number, word)
    space = space_of(tables, width=width)
    for address in addresses:
        page = space.mapping(address)
        assert page.start <= address < page.start + page.size <= SPACE_END
        assert (page.physical is None) is (page.gap is not None)
        length = min(size, SPACE_END - address)
        pieces = list(space.pieces(at(address), length))
        assert sum(piece.size for piece in pieces) == length
        assert len(pieces) <= 2 * (length // 4096 + 2)


def test_tables_that_lead_to_themselves_end_at_level_1() -> None:
    tables = Vtd("legacy")
    tree = tables.second
    assert tree is not None
    tree.set(tree.root, 0, 4, tree.root | 3)
    page = space_of(tables).mapping(0)
    assert (page.physical, page.size) == (tree.root, 4096)
