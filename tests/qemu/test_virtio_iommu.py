"""The mappings of virtio-iommu: glib's trees built here, found and not found, torn and hostile."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.support import Image, NoSymbols, views_of
from tests.synth.gtree import Heap
from vringcore.addresses import SPACE_END, IoVirtualAddress
from vringcore.errors import CorruptDataError, MemoryFault
from vringcore.layout.bundle import Bundle, Typed
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Base, Member, Record
from vringcore.memory.gaps import GapKind
from vringcore.qemu.flat_space import FlatRow, FlatSpace, Region
from vringcore.qemu.glib_tree import MAX_HEIGHT, search
from vringcore.qemu.iommu_virtio import VirtioIommuSpace
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable

HOST, RAM = 0x7F00_0000_0000, 1 << 40

U64 = Base(name="uint64_t", size=8, encoding="unsigned")
U32 = Base(name="uint32_t", size=4, encoding="unsigned")


def record(name: str, **members: Base) -> tuple[str, msgspec.Raw]:
    """Return a struct of a layout bundle, its members 8 bytes apart."""
    laid = tuple(Member(each, type_, 8 * n) for n, (each, type_) in enumerate(members.items()))
    typed = Typed(Record(kind="struct", name=name, size=8 * len(laid), members=laid))
    return f"struct {name}", msgspec.Raw(msgspec.json.encode(typed))


LAYOUTS = dict(
    [
        record("VirtIOIOMMUInterval", low=U64, high=U64),
        record("VirtIOIOMMUMapping", phys_addr=U64, flags=U32),
    ]
)


def to_number(wanted: int) -> Callable[[int], int]:
    return lambda key: -1 if wanted < key else int(wanted > key)


@given(
    keys=st.lists(st.integers(1, (1 << 32) - 1), unique=True, max_size=70),
    other=st.integers(1, (1 << 32) - 1),
    order=st.sampled_from("<>"),
    word=st.sampled_from("QI"),
)
def test_a_tree_has_the_keys_that_were_put_in(
    keys: list[int], other: int, order: str, word: str
) -> None:
    keys.sort()
    heap = Heap()
    tree = heap.tree([(key, key ^ 0xFF) for key in keys], order, word)
    views = views_of(
        Image(heap.blocks), big_endian=order == ">", pointer_size=8 if word == "Q" else 4
    )
    for key in [*keys, other]:
        found = search(views, tree, to_number(key))
        if key in keys:
            assert (found.key, found.value) == (key, key ^ 0xFF)
        else:
            assert found.value is None
            assert found.before == max((k for k in keys if k < key), default=None)
            assert found.after == min((k for k in keys if k > key), default=None)


def test_a_tree_that_leads_to_itself_ends() -> None:
    node, tree = 0x1000, 0x2000
    image = Image(
        {
            node: struct.pack("<4QbBB5x", 7, 7, node, node, 0, 1, 1),
            tree: struct.pack("<Q", node),
        }
    )
    with pytest.raises(CorruptDataError, match=f"more than {MAX_HEIGHT} nodes"):
        search(views_of(image), tree, to_number(9))


def space_of(heap: Heap, tree: int, lost: GapKind = GapKind.UNMAPPED) -> VirtioIommuSpace:
    """Return what a device sees through built mappings; all guest RAM is 0x5a."""
    blocks = dict(heap.blocks)
    blocks[HOST] = b"\x5a" * 0x10000
    views = Views(Image(blocks, lost), Layouts(Bundle(types=LAYOUTS)), 0, NoSymbols())
    rows = [FlatRow(0, RAM, 1, 0, False)]
    return VirtioIommuSpace(
        FlatSpace(Image(blocks), rows, lambda _: Region(HOST, RAM)), views, tree
    )


Row = tuple[int, int, int, int]


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Mappings in order, some of them adjacent: low, high, physical address, flags."""
    found: list[Row] = []
    place = draw(st.integers(0, 1 << 40))
    for _ in range(draw(st.integers(0, 12))):
        size = draw(st.integers(1, 1 << 30))
        physical, flags = draw(st.integers(0, RAM)), draw(st.integers(0, 7))
        found.append((place, place + size - 1, physical, flags))
        place += size + draw(st.sampled_from([0, 1, 4096]))
    return found


@given(rows())
def test_every_mapping_and_every_hole_is_found(mapped: list[Row]) -> None:
    heap = Heap()
    space = space_of(heap, heap.mappings(mapped))
    found, place = [], 0
    while place < SPACE_END:
        page = space.mapping(place)
        assert page.start <= place
        if page.physical is None:
            assert page.gap is not None
            assert page.gap.kind is GapKind.UNMAPPED
        else:
            flags = page.readable | page.writable << 1
            found.append((page.start, page.start + page.size - 1, page.physical, flags))
        place = page.start + page.size
    assert found == [(low, high, to, flags & 3) for low, high, to, flags in mapped]


def test_what_contradicts_itself_is_a_gap_that_says_so() -> None:
    for row, said in (
        ((0x5000, 0x4FFF, 0, 3), "ends before it begins"),
        ((0, SPACE_END - 1, 0x1000, 3), "leaves the guest's memory"),
    ):
        heap = Heap()
        space = space_of(heap, heap.mappings([row]))
        with pytest.raises(MemoryFault, match=said) as caught:
            space.read(IoVirtualAddress(0x5000), 8)
        assert caught.value.gap.kind is GapKind.UNTRANSLATABLE


@pytest.mark.parametrize(
    ("lost_as", "kind"),
    [
        (GapKind.UNMAPPED, GapKind.UNTRANSLATABLE),
        (GapKind.NOT_DUMPED, GapKind.NOT_DUMPED),
        (GapKind.OMITTED, GapKind.OMITTED),
    ],
)
def test_mappings_that_the_core_lacks_are_none_that_do_not_exist(
    lost_as: GapKind, kind: GapKind
) -> None:
    heap = Heap()
    tree = heap.mappings([(0x1000, 0x1FFF, 0x2000, 3), (0x3000, 0x3FFF, 0x4000, 3)])
    assert space_of(heap, tree).read(IoVirtualAddress(0x1FF0), 16) == b"\x5a" * 16
    for lost in list(heap.blocks):
        less = Heap()
        less.blocks = {at: data for at, data in heap.blocks.items() if at != lost}
        space = space_of(less, tree, lost_as)
        reached = [space.mapping(place) for place in (0x1000, 0x3000)]
        gaps = [page.gap for page in reached if page.gap is not None]
        assert {gap.kind for gap in gaps} == {kind}
        assert all("cannot be used" in gap.hint for gap in gaps)


@given(
    st.lists(
        st.tuples(st.integers(0), st.integers(0, 47), st.integers(0, 255)), min_size=1, max_size=9
    ),
    st.integers(0, SPACE_END - 1),
)
def test_damaged_trees_have_an_answer(changes: list[tuple[int, int, int]], address: int) -> None:
    heap = Heap()
    tree = heap.mappings([(n << 12, (n << 12) + 4095, n << 13, 3) for n in range(20)])
    places = sorted(heap.blocks)
    for which, at, byte in changes:
        place = places[which % len(places)]
        data = bytearray(heap.blocks[place])
        data[at % len(data)] = byte
        heap.blocks[place] = bytes(data)
    space = space_of(heap, tree)
    for each in (address, address % (20 << 12)):
        page = space.mapping(each)
        assert page.start <= each < page.start + page.size <= SPACE_END
        assert (page.physical is None) is (page.gap is not None)
        size = min(5000, SPACE_END - each)
        assert sum(p.size for p in space.pieces(IoVirtualAddress(each), size)) == size
