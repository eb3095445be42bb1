"""Packed rings: positions, bits, event suppression, and the end reason of each malformed chain."""

from __future__ import annotations

import pytest

from tests.synth.packed_rings import (
    AT_DESCRIPTOR,
    AVAIL,
    DISABLE,
    USED,
    PackedQueue,
)
from tests.synth.rings import INDIRECT, NEXT, WRITE, Buffer, GuestMemory
from tests.virtio.spaces import GuestSpace, packed_ring_of
from vringcore.errors import CorruptDataError, MemoryFault
from vringcore.virtio.chain import Breach, Chain, ChainEnd
from vringcore.virtio.packed import (
    PackedAddresses,
    PackedChain,
    PackedRing,
    Position,
    available_chains,
    count_available,
    taken_slots,
    walk_packed,
)

HEADER = Buffer(0x50000, 16)
DATA = Buffer(0x60000, 4096)
STATUS = Buffer(0x70000, 1, writable=True)
REQUEST = (HEADER, DATA, STATUS)
START = Position(0, True)


@pytest.fixture
def queue() -> PackedQueue:
    return PackedQueue(GuestMemory(0x100000), 8)


def available(queue: PackedQueue, start: Position = START, limit: int = 0) -> list[PackedChain]:
    space = GuestSpace(queue.memory)
    chains = available_chains(packed_ring_of(queue, space), start, space, limit=limit)
    if not limit:
        assert count_available(packed_ring_of(queue, space), start) == len(chains)
    return chains


def walk(queue: PackedQueue, slot: int = 0, limit: int = 0) -> Chain:
    space = GuestSpace(queue.memory)
    ring = packed_ring_of(queue, space)
    return walk_packed(ring, Position(slot, True), space, limit=limit).chain


def test_chain_of_adjacent_slots_2_8_6(queue: PackedQueue) -> None:
    number = queue.publish(REQUEST)
    (found,) = available(queue)
    assert (found.start, found.count, found.id) == (START, 3, number)
    chain = found.chain
    assert (chain.head, chain.end, chain.remarks, chain.detail) == (0, ChainEnd.COMPLETE, (), "")
    assert [(d.address, d.length, d.flags) for d in chain.descriptors] == [
        (0x50000, 16, NEXT),
        (0x60000, 4096, NEXT),
        (0x70000, 1, WRITE),
    ]
    assert (chain.readable_bytes, chain.writable_bytes) == (4112, 1)


def test_an_indirect_table_is_taken_whole_2_8_7(queue: PackedQueue) -> None:
    number = queue.publish(REQUEST, indirect=True)
    (found,) = available(queue)
    assert (found.count, found.id) == (1, number)
    table = queue.chains[number].table
    assert [(d.index, d.table) for d in found.chain.descriptors] == [
        (0, None),
        (0, table),
        (1, table),
        (2, table),
    ]
    assert (found.chain.readable_bytes, found.chain.writable_bytes) == (4112, 1)


def test_the_buffer_id_is_that_of_the_last_slot(queue: PackedQueue) -> None:
    queue.id_in_all = False
    number = queue.publish(REQUEST)
    (found,) = available(queue)
    assert found.id == number
    assert found.chain.descriptors[0].next != number


def test_a_chain_goes_on_behind_the_end_of_the_ring_with_the_other_bits() -> None:
    queue = PackedQueue(GuestMemory(0x100000), 8, slot=6)
    queue.publish(REQUEST)
    queue.publish(REQUEST)
    first, second = available(queue, Position(6, True))
    assert [d.index for d in first.chain.descriptors] == [6, 7, 0]
    assert (second.start, [d.index for d in second.chain.descriptors]) == (
        Position(1, False),
        [1, 2, 3],
    )
    assert available(queue, Position(6, False)) == []


def test_nothing_is_available_in_a_new_or_a_used_ring(queue: PackedQueue) -> None:
    assert available(queue) == []
    number = queue.publish(REQUEST)
    queue.take()
    queue.complete(number, 1)
    assert available(queue, Position(3, True)) == []
    used = packed_ring_of(queue, GuestSpace(queue.memory)).descriptor(0)
    assert (used.is_used(True), used.is_used(False), used.is_available(True)) == (
        True,
        False,
        False,
    )
    assert (used.id, used.length) == (number, 1)


def test_the_ring_may_be_full() -> None:
    queue = PackedQueue(GuestMemory(0x100000), 8, slot=3, rounds=1)
    numbers = [queue.publish([DATA]) for _ in range(8)]
    assert [found.id for found in available(queue, Position(3, False))] == numbers
    assert [found.id for found in available(queue, Position(3, False), limit=5)] == numbers[:5]


def test_positions() -> None:
    assert Position(6, True).advanced(3, 8) == Position(1, False)
    assert Position(6, False).advanced(2, 8) == Position(0, True)
    assert Position(1, False).since(Position(6, True), 8) == 3
    assert Position(6, True).since(Position(6, True), 8) == 0
    assert Position(6, False).since(Position(6, True), 8) == 8
    assert Position(6, True).since(Position(1, False), 8) == 13  # the other is ahead, by 3


def test_taken_slots(queue: PackedQueue) -> None:
    ring = packed_ring_of(queue, GuestSpace(queue.memory))
    assert taken_slots(ring, Position(6, True), Position(1, False)) == [6, 7, 0]
    assert taken_slots(ring, Position(6, True), Position(6, True)) == []
    assert len(taken_slots(ring, Position(6, True), Position(6, False))) == 8


def test_event_suppression_2_8_10(queue: PackedQueue) -> None:
    ring = packed_ring_of(queue, GuestSpace(queue.memory))
    assert ring.driver_event().name == ring.device_event().name == "enable"
    queue.ask_interrupt(AT_DESCRIPTOR, 5, wrap=True)
    queue.ask_kick(DISABLE)
    assert (ring.driver_event().name, ring.driver_event().position) == ("desc", Position(5, True))
    assert ring.driver_event().off_wrap == 0x8005
    assert ring.device_event().name == "disable"
    queue.ask_kick(3)
    assert ring.device_event().name == "reserved"


@pytest.mark.parametrize("size", [0, 32769])
def test_impossible_sizes(size: int) -> None:
    with pytest.raises(CorruptDataError):
        PackedRing(GuestSpace(GuestMemory(0x1000)), PackedAddresses(0, 0, 0), size)


def test_breaches() -> None:
    ring = PackedRing(GuestSpace(GuestMemory(0x1000)), PackedAddresses(8, 6, 4), 5)
    assert ring.breaches() == (
        "the descriptor ring at 0x8 is not aligned to 16 bytes",
        "the driver event suppression at 0x6 is not aligned to 4 bytes",
    )


# Malformed chains


def mark(queue: PackedQueue, slot: int, flags: int) -> None:
    """Rewrite the flags of a slot, available in the first round."""
    address, length, number, _ = queue.read_descriptor(slot)
    queue.write_descriptor(slot, address, length, number, flags)


def test_a_chain_longer_than_the_ring(queue: PackedQueue) -> None:
    for slot in range(8):
        queue.write_descriptor(slot, 0x5000, 16, 0, NEXT | AVAIL)
    (found,) = available(queue)
    assert (found.chain.end, found.id, found.count) == (ChainEnd.LOOP, None, 8)
    assert len(found.chain.descriptors) == 8
    assert "the chain has all of the ring, and goes on" in found.chain.detail


@pytest.mark.parametrize("flags", [0, USED, AVAIL | USED])
def test_inconsistent_wrap_bits(queue: PackedQueue, flags: int) -> None:
    queue.publish(REQUEST)
    mark(queue, 1, NEXT | flags)
    (found,) = available(queue)
    assert (found.chain.end, found.chain.stopped_at) == (ChainEnd.WRAP_BITS, 1)
    assert (found.id, found.count) == (None, 1)


def test_indirect_and_next(queue: PackedQueue) -> None:
    queue.publish(REQUEST, indirect=True)
    mark(queue, 0, INDIRECT | NEXT | AVAIL)
    assert walk(queue).end is ChainEnd.INDIRECT_AND_NEXT
    assert available(queue)[0].id is None


def test_a_table_behind_a_descriptor_with_next_2_8_19(queue: PackedQueue) -> None:
    number = queue.publish(REQUEST, indirect=True)
    table = queue.chains[number].table
    assert table is not None
    queue.write_descriptor(0, 0x50000, 16, 0, NEXT | AVAIL)
    queue.write_descriptor(1, table, 48, 0, INDIRECT | AVAIL)
    chain = walk(queue)
    assert (chain.end, chain.stopped_at) == (ChainEnd.INDIRECT_AND_NEXT, 1)
    assert (chain.readable_bytes, chain.writable_bytes) == (16, 0)
    assert len(available(queue)) == 1


def test_nested_indirect(queue: PackedQueue) -> None:
    number = queue.publish(REQUEST, indirect=True)
    table = queue.chains[number].table
    queue.write_descriptor(1, 0x9000, 48, 0, INDIRECT, table=table)
    (found,) = available(queue)
    assert (found.chain.end, found.chain.stopped_at) == (ChainEnd.NESTED_INDIRECT, 1)
    assert found.chain.stopped_in == table
    assert (found.chain.readable_bytes, found.id) == (16, number)


@pytest.mark.parametrize(
    ("length", "end"),
    [
        (0, ChainEnd.EMPTY_TABLE),
        (1, ChainEnd.BAD_TABLE_LENGTH),
        (47, ChainEnd.BAD_TABLE_LENGTH),
        (0xFFFFFFF0, ChainEnd.FAULT),
    ],
)
def test_table_lengths(queue: PackedQueue, length: int, end: ChainEnd) -> None:
    number = queue.publish(REQUEST, indirect=True)
    table = queue.chains[number].table
    assert table is not None
    queue.memory.remove(table + 48, 1 << 20)
    queue.write_descriptor(0, table, length, number, INDIRECT | AVAIL)
    queue.publish([DATA])
    damaged, sound = available(queue)
    assert damaged.chain.end is end
    assert sound.chain.end is ChainEnd.COMPLETE


def test_a_table_may_not_be_endless(queue: PackedQueue) -> None:
    number = queue.publish([DATA] * 1025, indirect=True)
    chain = walk(queue)
    assert (chain.end, len(chain.descriptors)) == (ChainEnd.TOO_LONG, 1025)
    assert walk(queue, limit=1025).end is ChainEnd.COMPLETE
    assert available(queue)[0].id == number


def test_a_table_outside_memory(queue: PackedQueue) -> None:
    queue.write_descriptor(0, 1 << 40, 48, 5, INDIRECT | AVAIL)
    (found,) = available(queue)
    assert found.chain.end is ChainEnd.FAULT
    assert isinstance(found.chain.fault, MemoryFault)
    assert found.chain.fault.address == 1 << 40


def test_the_length_overflows(queue: PackedQueue) -> None:
    queue.publish([Buffer(0x1000, 0xFFFFFFFF), Buffer(0x1000, 2)])
    assert walk(queue).end is ChainEnd.LENGTH_OVERFLOW


def test_a_ring_that_ends_in_a_hole(queue: PackedQueue) -> None:
    queue.publish(REQUEST)
    queue.memory.remove(queue.descriptors + 16, 256)
    chain = walk(queue)
    assert (chain.end, chain.stopped_at) == (ChainEnd.FAULT, 1)
    assert [d.index for d in chain.descriptors] == [0]


def test_a_buffer_id_that_is_there_twice(queue: PackedQueue) -> None:
    first = queue.publish(REQUEST)
    queue.ids.insert(0, first)
    queue.publish(REQUEST)
    one, other = available(queue)
    assert one.chain.remarks == ()
    assert [remark.breach for remark in other.chain.remarks] == [Breach.DUPLICATE_ID]
