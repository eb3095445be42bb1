"""A walk's cost; the bounds are several times what a slow machine needs."""

from __future__ import annotations

from time import process_time

import pytest

from tests.synth.packed_rings import PackedQueue
from tests.synth.rings import NEXT, Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, packed_ring_of, ring_of
from vringcore.virtio.chain import ChainEnd, walk_chain
from vringcore.virtio.packed import Position, available_chains
from vringcore.virtio.packed_search import ChainFinder

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


def test_1024_packed_chains_of_128_indirect_descriptors_take_well_under_a_second() -> None:
    queue = PackedQueue(GuestMemory(0x400000), 1024, slot=1000)
    for _ in range(1024):
        queue.publish(BUFFERS, indirect=True)
    space = GuestSpace(queue.memory)
    start = process_time()
    chains = available_chains(packed_ring_of(queue, space), Position(1000, True), space)
    spent = process_time() - start
    assert all(found.chain.end is ChainEnd.COMPLETE for found in chains)
    assert sum(len(found.chain.descriptors) for found in chains) == 1024 * 129
    assert spent < 0.8


def test_the_search_for_chains_that_are_not_there_is_bounded() -> None:
    """All slots have the one id that is sought, and are chains of the length that is sought."""
    queue = PackedQueue(GuestMemory(0x400000), 1024, ids=[7] * 1024)
    for _ in range(1024):
        queue.publish(BUFFERS, indirect=True)
    space = GuestSpace(queue.memory)
    finder = ChainFinder(packed_ring_of(queue, space), Position(0, False), space)
    start = process_time()
    assert finder.find(7, 1, [0x1]) is None
    spent = process_time() - start
    assert spent < 0.8
    assert finder.conclusive


def test_a_finder_gives_up_where_every_search_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vringcore.virtio.packed_search.BUDGET", 3000)
    queue = PackedQueue(GuestMemory(0x400000), 64, ids=[7] * 64)
    for _ in range(64):
        queue.publish(BUFFERS, indirect=True)
    space = GuestSpace(queue.memory)
    finder = ChainFinder(packed_ring_of(queue, space), Position(0, False), space)
    assert finder.find(7, 1, [0x1]) is None
    before = space.bytes_read
    assert finder.find(7, 1, [0x1]) is None
    assert space.bytes_read == before
    assert not finder.conclusive
