"""A walk's cost; the bounds are several times what a slow machine needs."""

from __future__ import annotations

from time import process_time

from tests.synth.rings import NEXT, Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, ring_of
from vringcore.virtio.chain import ChainEnd, walk_chain

BUFFERS = [Buffer(0x50000 + 4096 * n, 4096) for n in range(128)]


def test_1024_chains_of_128_indirect_descriptors_take_well_under_a_second() -> None:
    queue = SplitQueue(GuestMemory(0x400000), 1024)
    for _ in range(1024):
        queue.publish(BUFFERS, indirect_from=0)
    space = GuestSpace(queue.memory)
    start = process_time()
    table = ring_of(queue, space).table
    chains = [walk_chain(table, head, space) for head in range(1024)]
    spent = process_time() - start
    assert all(chain.end is ChainEnd.COMPLETE for chain in chains)
    assert sum(len(chain.descriptors) for chain in chains) == 1024 * 129
    assert spent < 0.8


def test_the_most_expensive_damage_is_bounded() -> None:
    """Every head of a queue of 1,024 starts the longest chain there can be."""
    queue = SplitQueue(GuestMemory(0x400000), 1024)
    for index in range(1024):
        queue.write_descriptor(index, 0x5000, 16, NEXT, (index + 1) % 1024)
    space = GuestSpace(queue.memory)
    start = process_time()
    table = ring_of(queue, space).table
    chains = [walk_chain(table, head, space) for head in range(0, 1024, 8)]
    spent = process_time() - start
    assert {(chain.end, len(chain.descriptors)) for chain in chains} == {(ChainEnd.LOOP, 1024)}
    assert spent < 0.8
