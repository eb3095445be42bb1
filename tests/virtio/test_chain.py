"""Each malformed chain ends with its own reason, and what was seen of it is kept."""

from __future__ import annotations

import pytest

from tests.synth.rings import INDIRECT, NEXT, WRITE, Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, ring_of
from vringcore.errors import AddressOverflowError, MemoryFault
from vringcore.virtio.chain import Breach, Chain, ChainEnd, read_buffers, walk_chain

HEADER = Buffer(0x50000, 16)
DATA = Buffer(0x60000, 4096)
STATUS = Buffer(0x70000, 1, writable=True)
REQUEST = (HEADER, DATA, STATUS)


@pytest.fixture
def memory() -> GuestMemory:
    return GuestMemory(0x100000)


@pytest.fixture
def queue(memory: GuestMemory) -> SplitQueue:
    return SplitQueue(memory, 8)


def walk(queue: SplitQueue, head: int, limit: int = 0) -> Chain:
    space = GuestSpace(queue.memory)
    return walk_chain(ring_of(queue, space).table, head, space, limit=limit)


def indices(chain: Chain) -> list[int]:
    return [descriptor.index for descriptor in chain.descriptors]


def test_direct_chain_2_7_5(queue: SplitQueue) -> None:
    chain = walk(queue, queue.publish(REQUEST))
    assert (chain.end, chain.stopped_at, chain.stopped_in) == (ChainEnd.COMPLETE, 2, None)
    assert [(d.address, d.length, d.flags) for d in chain.descriptors] == [
        (0x50000, 16, NEXT),
        (0x60000, 4096, NEXT),
        (0x70000, 1, WRITE),
    ]
    assert (chain.readable_bytes, chain.writable_bytes) == (4112, 1)
    assert (chain.remarks, chain.detail, chain.fault) == ((), "", None)


def test_indirect_chain_2_7_5_3(queue: SplitQueue) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    chain = walk(queue, head)
    table = queue.tables[head]
    assert chain.end is ChainEnd.COMPLETE
    assert [(d.index, d.table) for d in chain.descriptors] == [
        (head, None),
        (0, table),
        (1, table),
        (2, table),
    ]
    assert (chain.readable_bytes, chain.writable_bytes) == (4112, 1)
    assert (chain.stopped_at, chain.stopped_in) == (2, table)


def test_direct_descriptors_before_an_indirect_table_2_7_5_3_2(queue: SplitQueue) -> None:
    chain = walk(queue, queue.publish(REQUEST, indirect_from=1))
    assert chain.end is ChainEnd.COMPLETE
    assert [d.address for d in chain.buffers(writable=False)] == [0x50000, 0x60000]
    assert [d.address for d in chain.buffers(writable=True)] == [0x70000]


def test_the_write_flag_of_a_reference_to_a_table_is_ignored_2_7_5_3_2(queue: SplitQueue) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    queue.write_descriptor(head, queue.tables[head], 48, INDIRECT | WRITE)
    chain = walk(queue, head)
    assert (chain.end, chain.remarks) == (ChainEnd.COMPLETE, ())
    assert (chain.readable_bytes, chain.writable_bytes) == (4112, 1)


def test_next_without_the_flag_means_nothing(queue: SplitQueue) -> None:
    queue.write_descriptor(3, 0x5000, 16, 0, following=3)
    assert walk(queue, 3).end is ChainEnd.COMPLETE


@pytest.mark.parametrize("back_to", [0, 1, 2])
def test_loop(queue: SplitQueue, back_to: int) -> None:
    head = queue.publish(REQUEST)
    queue.write_descriptor(2, 0x70000, 1, WRITE | NEXT, following=back_to)
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at) == (ChainEnd.LOOP, back_to)
    assert indices(chain) == [0, 1, 2]
    assert chain.detail == f"stopped at descriptor {back_to}: the chain was there before"


def test_loop_in_an_indirect_table(queue: SplitQueue) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    table = queue.tables[head]
    queue.write_descriptor(2, 0x70000, 1, WRITE | NEXT, following=1, table=table)
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at, chain.stopped_in) == (ChainEnd.LOOP, 1, table)
    assert indices(chain) == [head, 0, 1, 2]


@pytest.mark.parametrize("head", [8, 9, 65535])
def test_head_behind_the_table(queue: SplitQueue, head: int) -> None:
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at) == (ChainEnd.INDEX_RANGE, head)
    assert chain.descriptors == ()


def test_next_behind_the_table(queue: SplitQueue) -> None:
    head = queue.publish(REQUEST)
    queue.write_descriptor(1, 0x60000, 4096, NEXT, following=8)
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at) == (ChainEnd.INDEX_RANGE, 8)
    assert indices(chain) == [0, 1]
    assert chain.detail == "stopped at descriptor 8: the table has 8 descriptors"


def test_next_behind_an_indirect_table(queue: SplitQueue) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    table = queue.tables[head]
    queue.write_descriptor(1, 0x60000, 4096, NEXT, following=3, table=table)
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at, chain.stopped_in) == (ChainEnd.INDEX_RANGE, 3, table)
    assert f"of the indirect table at {table:#x}" in chain.detail


@pytest.mark.parametrize("flags", [INDIRECT, INDIRECT | NEXT])
def test_nested_indirect(queue: SplitQueue, flags: int) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    table = queue.tables[head]
    queue.write_descriptor(1, table, 48, flags, following=2, table=table)
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at) == (ChainEnd.NESTED_INDIRECT, 1)
    assert indices(chain) == [head, 0, 1]
    assert (chain.readable_bytes, chain.writable_bytes) == (16, 0)


def test_indirect_and_next(queue: SplitQueue) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    queue.write_descriptor(head, queue.tables[head], 48, INDIRECT | NEXT, following=1)
    chain = walk(queue, head)
    assert (chain.end, indices(chain)) == (ChainEnd.INDIRECT_AND_NEXT, [head])


@pytest.mark.parametrize(
    ("length", "end"),
    [
        (0, ChainEnd.EMPTY_TABLE),
        (1, ChainEnd.BAD_TABLE_LENGTH),
        (15, ChainEnd.BAD_TABLE_LENGTH),
        (47, ChainEnd.BAD_TABLE_LENGTH),
        (0xFFFFFFFF, ChainEnd.BAD_TABLE_LENGTH),
    ],
)
def test_table_length(queue: SplitQueue, length: int, end: ChainEnd) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    queue.write_descriptor(head, queue.tables[head], length, INDIRECT)
    chain = walk(queue, head)
    assert (chain.end, indices(chain)) == (end, [head])


def test_a_table_that_claims_too_much_is_read_no_further_than_the_chain_goes() -> None:
    memory = GuestMemory(0x100000)
    queue = SplitQueue(memory, 8)
    head = queue.publish(REQUEST, indirect_from=0)
    queue.write_descriptor(head, queue.tables[head], 0xFFFFFFF0, INDIRECT)
    space = GuestSpace(memory)
    chain = walk_chain(ring_of(queue, space).table, head, space)
    assert chain.end is ChainEnd.COMPLETE
    assert len(chain.descriptors) == 4
    assert space.bytes_read < 8192


def test_too_long(queue: SplitQueue) -> None:
    head = queue.publish([DATA] * 8)
    chain = walk(queue, head, limit=5)
    assert (chain.end, len(chain.descriptors)) == (ChainEnd.TOO_LONG, 5)
    assert walk(queue, head, limit=8).end is ChainEnd.COMPLETE


def test_the_usual_limit_is_1024_buffers(queue: SplitQueue) -> None:
    assert walk(queue, queue.publish([DATA] * 1024, indirect_from=0)).end is ChainEnd.COMPLETE
    chain = walk(queue, queue.publish([DATA] * 1025, indirect_from=0))
    assert (chain.end, len(chain.descriptors)) == (ChainEnd.TOO_LONG, 1025)


def test_longer_than_the_queue_is_remarked_and_walked_2_7_5_3_1(queue: SplitQueue) -> None:
    chain = walk(queue, queue.publish([DATA] * 9, indirect_from=0))
    assert (chain.end, len(chain.descriptors)) == (ChainEnd.COMPLETE, 10)
    assert [(r.breach, r.position) for r in chain.remarks] == [(Breach.LONGER_THAN_QUEUE, 9)]


def test_writable_before_readable_2_7_4_2(queue: SplitQueue) -> None:
    chain = walk(queue, queue.publish([HEADER, STATUS, DATA, DATA]))
    assert chain.end is ChainEnd.COMPLETE
    assert [(r.breach, r.position) for r in chain.remarks] == [(Breach.WRITABLE_BEFORE_READABLE, 2)]


def test_zero_length(queue: SplitQueue) -> None:
    empty = Buffer(0x60000, 0, writable=True)
    chain = walk(queue, queue.publish([HEADER, empty, STATUS]))
    assert chain.end is ChainEnd.COMPLETE
    assert [(r.breach, r.position) for r in chain.remarks] == [(Breach.ZERO_LENGTH, 1)]


@pytest.mark.parametrize(("length", "remarks"), [(16, ()), (17, (Breach.ADDRESS_OVERFLOW,))])
def test_buffer_behind_the_address_space(
    queue: SplitQueue, length: int, remarks: tuple[Breach, ...]
) -> None:
    chain = walk(queue, queue.publish([Buffer((1 << 64) - 16, length)]))
    assert chain.end is ChainEnd.COMPLETE
    assert tuple(remark.breach for remark in chain.remarks) == remarks


def test_length_overflow_2_7_5_2(queue: SplitQueue) -> None:
    half = Buffer(0x50000, 1 << 31)
    assert walk(queue, queue.publish([half, half])).end is ChainEnd.COMPLETE
    chain = walk(queue, queue.publish([half, half, STATUS, STATUS]))
    assert (chain.end, len(chain.descriptors)) == (ChainEnd.LENGTH_OVERFLOW, 3)


def test_fault_in_the_ring_keeps_what_was_read(memory: GuestMemory, queue: SplitQueue) -> None:
    head = queue.publish(REQUEST)
    memory.remove(queue.descriptors + 2 * 16, 6 * 16)
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at, indices(chain)) == (ChainEnd.FAULT, 2, [0, 1])
    assert isinstance(chain.fault, MemoryFault)
    assert chain.fault.address == queue.descriptors + 2 * 16
    assert chain.fault.__traceback__ is None
    assert "memory that the core does not hold" in chain.detail


def test_a_hole_beside_the_chain_does_not_matter(memory: GuestMemory, queue: SplitQueue) -> None:
    head = queue.publish(REQUEST)
    memory.remove(queue.descriptors + 3 * 16, 5 * 16)
    assert walk(queue, head).end is ChainEnd.COMPLETE


def test_fault_in_an_indirect_table(memory: GuestMemory, queue: SplitQueue) -> None:
    head = queue.publish(REQUEST, indirect_from=0)
    table = queue.tables[head]
    memory.remove(table + 16, 32)
    chain = walk(queue, head)
    assert (chain.end, chain.stopped_at, chain.stopped_in) == (ChainEnd.FAULT, 1, table)
    assert indices(chain) == [head, 0]


def test_an_indirect_table_behind_the_address_space(queue: SplitQueue) -> None:
    queue.write_descriptor(0, (1 << 64) - 8, 48, INDIRECT)
    chain = walk(queue, 0)
    assert (chain.end, indices(chain)) == (ChainEnd.FAULT, [0])
    assert isinstance(chain.fault, AddressOverflowError)


def test_a_header_may_lie_in_several_buffers_2_7_4(memory: GuestMemory, queue: SplitQueue) -> None:
    memory.write(0x50000, b"0123456789")
    memory.write(0x60000, b"abcdefghij")
    head = queue.publish([Buffer(0x50000, 4), Buffer(0x60000, 4), Buffer(0x70000, 4, True)])
    chain, space = walk(queue, head), GuestSpace(memory)
    assert read_buffers(chain, space, 6) == b"0123ab"
    assert read_buffers(chain, space, 100) == b"0123abcd"
    assert read_buffers(chain, space, 100, writable=True) == bytes(4)
