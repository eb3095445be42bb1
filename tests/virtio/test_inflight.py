"""What a back-end notes of its requests is what is read, wherever between two steps it died."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synth.inflight import LAST_STEP, PackedRecord, SplitRecord
from tests.synth.packed_rings import PackedQueue
from tests.synth.rings import Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, packed_ring_of, ring_of
from vringcore.addresses import GuestAddress
from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.virtio.inflight import Record, read_packed, read_split
from vringcore.virtio.outstanding import candidates, packed_outstanding
from vringcore.virtio.packed import Position

SIZE = 8

STEPS = st.lists(st.sampled_from(["publish", "take", "complete", "reclaim"]), max_size=60)
BUFFERS = [Buffer(0x5000, 16), Buffer(0x6000, 512, writable=True), Buffer(0x7000, 1, True)]


def read(record: SplitRecord) -> Record:
    space = GuestSpace(record.memory)
    used_idx = ring_of(record.queue, space).used_header()[1]
    return read_split(space, GuestAddress(record.address), record.size, used_idx)


def read_of_packed(record: PackedRecord) -> Record:
    space = GuestSpace(record.memory)
    ring = packed_ring_of(record.queue, space)
    return read_packed(space, GuestAddress(record.address), record.size, ring)


def heads(record: Record) -> list[int]:
    return [taken.head for taken in record.taken]


@settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    start=st.sampled_from([0, 65530]),
    picks=st.randoms(use_true_random=False),
    died_at=st.integers(0, LAST_STEP),
)
def test_a_split_record(steps: list[str], start: int, picks: object, died_at: int) -> None:
    memory = GuestMemory(0x100000)
    queue = SplitQueue(memory, SIZE, start_idx=start)
    record = SplitRecord(memory, queue)
    held: list[int] = []
    outstanding = 0
    for step in steps:
        if step == "publish" and len(queue.free) >= 2:
            queue.publish(BUFFERS[:2])
            outstanding += 1
        elif step == "take" and queue.last_avail_idx != queue.avail_idx:
            held.append(record.take())
        elif step == "complete" and held:
            batch = picks.sample(held, picks.randint(1, len(held)))  # type: ignore[attr-defined]
            record.complete(batch)
            held = [head for head in held if head not in batch]
            outstanding -= len(batch)
        elif step == "reclaim":
            queue.reclaim()
    found = read(record)
    assert heads(found) == held
    assert (found.version, found.desc_num, found.given_back, found.remark) == (1, SIZE, (), "")
    ring = ring_of(queue, GuestSpace(memory))
    maybe = candidates(ring.available(), ring.used(), queue.avail_idx, queue.used_idx)
    assert len(maybe) >= outstanding
    assert set(held) <= set(maybe)
    if held:
        _dies_with(record, held, died_at)


def _dies_with(record: SplitRecord, held: list[int], died_at: int) -> None:
    batch = held[: len(held) // 2 + 1]
    record.complete(batch, died_at)
    found = read(record)
    left = held if not died_at else held[len(batch) :]
    assert heads(found) == left
    assert set(found.given_back) == (set(batch) if died_at == 1 else set())


@settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    rounds=st.integers(0, 1),
    slot=st.integers(0, SIZE - 1),
    picks=st.randoms(use_true_random=False),
    died_at=st.integers(0, LAST_STEP),
)
def test_a_packed_record(
    steps: list[str], rounds: int, slot: int, picks: object, died_at: int
) -> None:
    memory = GuestMemory(0x100000)
    queue = PackedQueue(memory, SIZE, rounds=rounds, slot=slot)
    record = PackedRecord(memory, queue)
    held: list[int] = []
    waiting: list[int] = []
    for step in steps:
        choose = picks.choice  # type: ignore[attr-defined]
        if step == "publish" and queue.free >= 3:
            count = choose([1, 2, 3])
            waiting.append(queue.publish(BUFFERS[:count], indirect=choose([False, True])))
        elif step == "take" and waiting:
            assert record.take() == waiting[0]
            held.append(waiting.pop(0))
        elif step == "complete" and held:
            number = choose(held)
            record.complete(number)
            held.remove(number)
        elif step == "reclaim":
            queue.reclaim()
    found = read_of_packed(record)
    assert heads(found) == held
    for taken in found.taken:
        assert len(taken.descriptors) == queue.chains[taken.head].count
    assert found.used == Position(queue.used.slot, queue.used.wrap)
    _outstanding(queue, found, held + waiting)
    if held:
        record.complete(held[0], died_at)
        found = read_of_packed(record)
        assert heads(found) == (held[1:] if died_at else held)
        assert set(found.given_back) == ({held[0]} if died_at == 1 else set())


def _outstanding(queue: PackedQueue, found: Record, ids: list[int]) -> None:
    slots = packed_ring_of(queue, GuestSpace(queue.memory)).descriptors()
    count = sum(queue.chains[number].count for number in ids)
    known = packed_outstanding(slots, found.used)
    assert (known.most, known.exact) == (count, True)
    span = packed_outstanding(slots)
    assert span.driver == Position(queue.avail.slot, queue.avail.wrap)
    assert span.most >= count
    assert not span.exact or not count


# Records that are none


@pytest.fixture
def record() -> SplitRecord:
    memory = GuestMemory(0x100000)
    queue = SplitQueue(memory, SIZE)
    queue.publish(BUFFERS)
    found = SplitRecord(memory, queue)
    found.take()
    return found


def test_a_record_that_was_not_begun_is_empty(record: SplitRecord) -> None:
    record.memory.write(record.address, bytes(record.size))
    found = read(record)
    assert (found.version, found.taken) == (0, ())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("version", "count"), [(2, SIZE), (1, 0), (1, SIZE + 1), (1, 0xFFFF)])
def test_a_record_of_another_form_is_refused(
    record: SplitRecord, version: int, count: int, packed: bool
) -> None:
    address = GuestAddress(record.address)
    record.memory.write(record.address + 8, struct.pack("<HH", version, count))
    space = GuestSpace(record.memory)
    ring = packed_ring_of(PackedQueue(GuestMemory(0x100000), SIZE), space)

    def read_it() -> Record:
        if packed:
            return read_packed(space, address, record.size, ring)
        return read_split(space, address, record.size, 0)

    with pytest.raises(CorruptDataError, match="inflight region that is none"):
        read_it()


def test_a_region_without_room_is_refused(record: SplitRecord) -> None:
    with pytest.raises(CorruptDataError, match="no room"):
        read_split(GuestSpace(record.memory), GuestAddress(record.address), 15, 0)


@pytest.mark.parametrize("used_idx", [65535, SIZE + 1])
def test_a_used_index_that_cannot_be_is_told(record: SplitRecord, used_idx: int) -> None:
    found = read_split(
        GuestSpace(record.memory), GuestAddress(record.address), record.size, used_idx
    )
    assert "ahead of the record" in found.remark
    assert heads(found) == [0]


def test_a_last_batch_in_a_circle_is_told(record: SplitRecord) -> None:
    found = read_split(GuestSpace(record.memory), GuestAddress(record.address), record.size, 2)
    assert "the list of the last batch" in found.remark
    assert heads(found) == [0]


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(min_size=16 + 32 * SIZE, max_size=32 + 32 * SIZE),
    version=st.sampled_from([0, 1]),
    count=st.integers(0, SIZE),
    used_idx=st.integers(0, 65535),
)
def test_any_bytes_are_a_record_or_refused(
    data: bytes, version: int, count: int, used_idx: int
) -> None:
    memory = GuestMemory(0x100000)
    queue = PackedQueue(memory, SIZE)
    address = GuestAddress(memory.allocate(len(data), 64))
    memory.write(address, data[:8] + struct.pack("<HH", version, count) + data[12:])
    space = GuestSpace(memory)
    found = []
    with suppress(VringcoreError):
        found.append(read_split(space, address, len(data), used_idx))
    with suppress(VringcoreError):
        found.append(read_packed(space, address, len(data), packed_ring_of(queue, space)))
    for record in found:
        assert len(record.taken) + len(record.given_back) <= SIZE
        for taken in record.taken:
            assert len(taken.descriptors) <= SIZE


def test_a_ring_with_two_changes_of_its_avail_bit_is_told() -> None:
    queue = PackedQueue(GuestMemory(0x100000), SIZE)
    queue.write_descriptor(3, 0, 0, 0, 1 << 7)
    slots = packed_ring_of(queue, GuestSpace(queue.memory)).descriptors()
    with pytest.raises(CorruptDataError, match="AVAIL bit changes"):
        packed_outstanding(slots)
