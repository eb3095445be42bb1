"""Declared views: bound once, read at once, missing members named."""

from __future__ import annotations

import pytest

from tests.view.memory import Memory, views_of, word
from vringcore.addresses import HostAddress
from vringcore.errors import LayoutMissingError, MemoryFault
from vringcore.layout.types import Array, Base, Member, Named, Pointer, Record, Void
from vringcore.memory.space import AddressSpace
from vringcore.view.declare import (
    View,
    boolean,
    integer,
    integer_if_any,
    place,
    pointer,
    pointer_if_any,
    text,
)

U16 = Base("unsigned short", 2, "unsigned")
S32 = Base("int", 4, "signed")
BOOL = Base("_Bool", 1, "bool")
CHAR = Base("char", 1, "char")

RING = Record("struct", "Ring", 8, (Member("num", S32, 0), Member("align", S32, 4)))
QUEUE = Record(
    "struct",
    "Queue",
    64,
    (
        Member("ring", Named("struct", "Ring"), 0),
        Member("index", U16, 8),
        Member("running", BOOL, 10),
        Member("owner", Pointer(Void()), 16),
        Member("name", Array(CHAR, 8), 24),
        Member(None, Record("union", None, 8, (Member("features", S32, 0),)), 32),
        Member("renamed", U16, 40),
    ),
)


class Queue(View):
    c_type = "struct Queue"

    num = integer("ring.num")
    index = integer()
    running = boolean()
    owner = pointer()
    name = text()
    features = integer()
    ring = place()
    newer = integer("brand_new", "renamed")
    extra = integer_if_any()
    other = pointer_if_any()


class Wrong(View):
    c_type = "struct Queue"

    index = integer()
    gone = integer("gone")
    lost = pointer("lost.member")


def filled() -> Memory:
    memory = Memory()
    memory.put(0x1000, bytes(64))
    memory.put(0x1000, (-3).to_bytes(4, "little", signed=True))
    memory.put(0x1008, (65535).to_bytes(2, "little"))
    memory.put(0x100A, b"\x01")
    memory.put(0x1010, word(0xFFFF_8000_0000_1234))
    memory.put(0x1018, b"disk0\0zz")
    memory.put(0x1020, (77).to_bytes(4, "little"))
    memory.put(0x1028, (9).to_bytes(2, "little"))
    return memory


def test_members_have_their_values_and_signs() -> None:
    queue = views_of(filled(), [QUEUE, RING]).at(Queue, 0x1000)
    assert queue.num == -3
    assert queue.index == 65535
    assert queue.running is True
    assert queue.owner == 0xFFFF_8000_0000_1234
    assert queue.name == "disk0"
    assert queue.features == 77
    assert queue.ring == 0x1000


def test_an_older_name_serves_where_the_newer_is_not_there() -> None:
    assert views_of(filled(), [QUEUE, RING]).at(Queue, 0x1000).newer == 9


def test_what_not_every_build_has_is_none() -> None:
    queue = views_of(filled(), [QUEUE, RING]).at(Queue, 0x1000)
    assert queue.extra is None
    assert queue.other is None


def test_all_missing_members_are_in_one_error() -> None:
    views = views_of(filled(), [QUEUE, RING])
    wrong = views.at(Wrong, 0x1000)
    assert wrong.index == 65535
    with pytest.raises(LayoutMissingError) as caught:
        _ = wrong.gone
    message = str(caught.value)
    assert "struct Queue has no member gone" in message
    assert "lost.member" in message
    assert "ab" * 20 in message


def test_a_type_that_is_not_known_is_an_error() -> None:
    with pytest.raises(LayoutMissingError, match="struct Queue"):
        views_of(filled(), [RING]).at(Queue, 0x1000)


def test_members_are_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = filled()
    reads: list[tuple[int, int]] = []
    original = AddressSpace[HostAddress].read

    def counted(self: Memory, address: HostAddress, size: int) -> bytes:
        reads.append((address, size))
        return original(self, address, size)

    monkeypatch.setattr(Memory, "read", counted)
    queue = views_of(memory, [QUEUE, RING]).at(Queue, 0x1000)
    memory.put(0x1008, b"\0\0")
    assert queue.index == 65535, "a later change is not mixed into the snapshot"
    assert (queue.num, queue.running) == (-3, True)
    assert len(reads) == 1


def test_a_hole_hides_only_the_member_in_it() -> None:
    memory = filled()
    memory.take(0x1011, 1)
    queue = views_of(memory, [QUEUE, RING]).at(Queue, 0x1000)
    assert queue.index == 65535
    with pytest.raises(MemoryFault) as caught:
        _ = queue.owner
    assert caught.value.address == 0x1011
    assert "dump it" in str(caught.value)


def test_a_repr_reads_nothing() -> None:
    assert repr(views_of(Memory(), [QUEUE, RING]).at(Queue, 0x9000)) == "<struct Queue at 0x9000>"


def test_bindings_are_shared_by_all_cores_of_a_build() -> None:
    views = views_of(filled(), [QUEUE, RING])
    other = type(views)(Memory(), views.layouts, 0, views.symbols)
    assert views.binding(Queue).type is other.binding(Queue).type


def test_variables_are_moved_by_the_load_bias() -> None:
    views = views_of(Memory(), [QUEUE, RING], bias=0x5000_0000)
    assert views.address_of("head") == 0x5000_0100
    assert views.find_address_of("tail") is None
    with pytest.raises(LayoutMissingError, match="tail"):
        views.address_of("tail")


def test_strings_end_at_their_nul_or_are_refused() -> None:
    memory = Memory()
    memory.put(0x20F0, b"virtio-blk\0")
    views = views_of(memory, [])
    with pytest.raises(MemoryFault):
        views.string(0x3000)
    memory.put(0x2000, b"x" * 0x400)
    with pytest.raises(Exception, match="a string without an end"):
        views.string(0x2000, limit=64)
    memory.put(0x20F0, b"virtio-blk\0")
    assert views.string(0x20F0) == "virtio-blk"
    assert views.string_or_none(0) is None


class Flags(View):
    c_type = "struct Flags"

    started = boolean()
    count = integer()


@pytest.mark.parametrize("big_endian", [False, True])
def test_a_bit_field_is_its_bits_alone(big_endian: bool) -> None:
    flags = Record(
        "struct",
        "Flags",
        4,
        (
            Member("other", BOOL, 0, 1, 0),
            Member("started", BOOL, 0, 1, 1),
            Member("count", S32, 0, 4, 2),
        ),
    )
    # other = 1, started = 0, count = -3 (1101)
    byte = 0b10_1101_00 if big_endian else 0b00_1101_01
    memory = Memory()
    memory.put(0x1000, bytes([byte, 0xFF, 0xFF, 0xFF]))
    found = views_of(memory, [flags], big_endian=big_endian).at(Flags, 0x1000)
    assert found.started is False
    assert found.count == -3


class Ratio(View):
    c_type = "struct Ratio"

    ratio = integer()


class Beyond(View):
    c_type = "struct Holder"

    known = integer()
    inner = integer("unknown.num", "known")
    lost = integer_if_any("unknown.num")


def test_a_floating_number_is_no_integer() -> None:
    record = Record("struct", "Ratio", 8, (Member("ratio", Base("double", 8, "float"), 0),))
    with pytest.raises(LayoutMissingError, match="ratio"):
        _ = views_of(Memory(), [record]).at(Ratio, 0x100).ratio


def test_a_struct_that_is_not_known_hides_only_its_own_members() -> None:
    holder = Record(
        "struct",
        "Holder",
        16,
        (Member("unknown", Named("struct", "Lost"), 0), Member("known", S32, 8)),
    )
    memory = Memory()
    memory.put(0x108, (7).to_bytes(4, "little"))
    view = views_of(memory, [holder]).at(Beyond, 0x100)
    assert (view.known, view.inner, view.lost) == (7, 7, None)
