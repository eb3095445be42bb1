"""The parts of a split ring, each readable on its own."""

from __future__ import annotations

import gc
import weakref

import pytest

from tests.synth.rings import Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, ring_of
from vringcore.errors import AddressOverflowError, CorruptDataError, MemoryFault
from vringcore.virtio.split import (
    AvailEntry,
    RingAddresses,
    SplitRing,
    UsedEntry,
    available_window,
    kept,
    used_window,
)

REQUEST = [Buffer(0x50000, 16), Buffer(0x60000, 512, writable=True)]


def build(size: int = 8, *, event_idx: bool = True, big_endian: bool = False) -> SplitQueue:
    """A queue after four requests, of which the device took three and completed two."""
    queue = SplitQueue(
        GuestMemory(0x100000), size, event_idx=event_idx, big_endian=big_endian, start_idx=65534
    )
    heads = [queue.publish(REQUEST, indirect_from=0) for _ in range(4)]
    for _ in range(3):
        queue.take()
    queue.complete(heads[2], 300)
    queue.complete(heads[0], 513)
    queue.ask_interrupt_at(65535)
    queue.ask_kick_at(1)
    return queue


@pytest.mark.parametrize("big_endian", [False, True])
def test_words_and_entries_in_both_byte_orders(*, big_endian: bool) -> None:
    queue = build(big_endian=big_endian)
    queue.write_header(queue.available, 0x0102, queue.avail_idx)
    queue.write_header(queue.used, 0x0304, queue.used_idx)
    ring = ring_of(queue, GuestSpace(queue.memory))
    indices = ring.indices()
    assert (indices.avail_flags, indices.avail_idx, indices.used_event) == (0x0102, 2, 65535)
    assert (indices.used_flags, indices.used_idx, indices.avail_event) == (0x0304, 0, 1)
    assert ring.available() == (2, 3, 0, 0, 0, 0, 0, 1)
    assert ring.used()[6:] == ((2, 300), (0, 513))
    table = ring.descriptors()
    assert len(table) == 8
    assert [d.address for d in table[:4]] == [queue.tables[head] for head in range(4)]
    assert [(d.length, d.flags, d.index, d.table) for d in table[:2]] == [
        (32, 4, 0, None),
        (32, 4, 1, None),
    ]


def test_without_event_idx_there_are_no_event_words_2_7_7() -> None:
    queue = build(event_idx=False)
    indices = ring_of(queue, GuestSpace(queue.memory)).indices()
    assert (indices.used_event, indices.avail_event) == (None, None)


def test_no_byte_behind_a_part_is_read() -> None:
    queue = build()
    for part, size in ((queue.descriptors, 128), (queue.available, 22), (queue.used, 70)):
        queue.memory.remove(part + size, 1)
    ring = ring_of(queue, GuestSpace(queue.memory))
    assert ring.indices().avail_event == 1
    assert (len(ring.available()), len(ring.used()), len(ring.descriptors())) == (8, 8, 8)


def test_a_missing_part_does_not_hide_the_others() -> None:
    queue = build()
    queue.memory.remove(queue.used, 70)
    ring = ring_of(queue, GuestSpace(queue.memory))
    indices = ring.indices()
    assert (indices.avail_idx, indices.used_event) == (2, 65535)
    for word, address in (
        (indices.used_flags, queue.used),
        (indices.used_idx, queue.used),
        (indices.avail_event, queue.used + 68),
    ):
        assert isinstance(word, MemoryFault)
        assert word.address == address
    assert len(ring.available()) == 8
    with pytest.raises(MemoryFault):
        ring.used()


def test_a_missing_event_word_does_not_hide_the_index_before_it() -> None:
    queue = build()
    queue.memory.remove(queue.available + 20, 2)
    indices = ring_of(queue, GuestSpace(queue.memory)).indices()
    assert indices.avail_idx == 2
    assert isinstance(indices.used_event, MemoryFault)


def test_ring_addresses_at_the_end_of_the_address_space() -> None:
    queue = build()
    addresses = RingAddresses(queue.descriptors, (1 << 64) - 2, queue.used)
    ring = SplitRing(GuestSpace(queue.memory), addresses, 8, event_idx=True)
    indices = ring.indices()
    assert isinstance(indices.avail_idx, AddressOverflowError)
    assert indices.used_idx == 0


def test_a_kept_error_keeps_no_frames_alive() -> None:
    class Big:
        pass

    def read() -> int:
        big = Big()
        seen.append(weakref.ref(big))
        return ring.available()[0]

    seen: list[weakref.ref[Big]] = []
    queue = build()
    queue.memory.remove(queue.available, 4096)
    ring = ring_of(queue, GuestSpace(queue.memory))
    fault = kept(read)
    gc.collect()
    assert isinstance(fault, MemoryFault)
    assert seen[0]() is None


@pytest.mark.parametrize("size", [0, -1, 32769, 0xFFFFFFFF])
def test_an_impossible_queue_size_is_refused_2_7(size: int) -> None:
    space = GuestSpace(GuestMemory(0x1000))
    with pytest.raises(CorruptDataError, match=r"impossible size.*expected 1 to 32768"):
        SplitRing(space, RingAddresses(0, 0, 0), size, event_idx=False)


def test_broken_rules_are_reported_and_stop_nothing_2_7() -> None:
    queue = SplitQueue(GuestMemory(0x100000), 12)
    queue.publish(REQUEST)
    addresses = RingAddresses(queue.descriptors + 8, queue.available + 1, queue.used + 2)
    ring = SplitRing(GuestSpace(queue.memory), addresses, 12, event_idx=False)
    assert ring.breaches() == (
        "the queue size 12 is not a power of 2",
        f"the descriptor table at {queue.descriptors + 8:#x} is not aligned to 16 bytes",
        f"the available ring at {queue.available + 1:#x} is not aligned to 2 bytes",
        f"the used ring at {queue.used + 2:#x} is not aligned to 4 bytes",
    )
    sound = ring_of(queue, GuestSpace(queue.memory))
    assert sound.breaches() == ("the queue size 12 is not a power of 2",)
    assert sound.indices().avail_idx == 1


def test_the_largest_queue_is_read_2_7() -> None:
    queue = SplitQueue(GuestMemory(0x200000), 32768, event_idx=True, start_idx=40000)
    head = queue.publish(REQUEST)
    ring = ring_of(queue, GuestSpace(queue.memory))
    assert ring.breaches() == ()
    assert len(ring.descriptors()) == 32768
    assert available_window(ring.available(), 40000, 40001) == [
        AvailEntry(40000, 40000 - 32768, head)
    ]


def test_window_across_65535() -> None:
    queue = build()
    ring = ring_of(queue, GuestSpace(queue.memory))
    assert available_window(ring.available(), 65534, 2) == [
        AvailEntry(65534, 6, 0),
        AvailEntry(65535, 7, 1),
        AvailEntry(0, 0, 2),
        AvailEntry(1, 1, 3),
    ]
    assert available_window(ring.available(), queue.last_avail_idx, queue.avail_idx) == [
        AvailEntry(1, 1, 3)
    ]
    assert used_window(ring.used(), 65535, 0) == [UsedEntry(65535, 7, 0, 513)]


def test_an_empty_window() -> None:
    assert available_window((5, 6, 7, 8), 65535, 65535) == []
    assert used_window(((5, 1), (6, 2)), 0, 0) == []


def test_a_window_larger_than_the_ring_shows_what_is_left_of_it() -> None:
    window = available_window((10, 11, 12, 13), 100, 202)
    assert window == [
        AvailEntry(198, 2, 12),
        AvailEntry(199, 3, 13),
        AvailEntry(200, 0, 10),
        AvailEntry(201, 1, 11),
    ]
