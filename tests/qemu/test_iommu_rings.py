"""Rings in pages that VT-d scatters over guest memory are the rings that were built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.test_vtd import space_of
from tests.synth.packed_rings import PackedQueue
from tests.synth.rings import Buffer, GuestMemory, SplitQueue
from tests.synth.vtd import Vtd
from tests.virtio.spaces import GuestSpace, packed_ring_of, ring_of
from vringcore.virtio.chain import ChainEnd, walk_chain
from vringcore.virtio.packed import Position, available_chains

if TYPE_CHECKING:
    from vringcore.qemu.iommu_vtd import VtdSpace

PAGE = 4096
PAGES = 24
BASE = 0x4000_0000
"""Where guest memory has the pages of what the device sees, in another order, with gaps."""

modes = st.sampled_from(["legacy", "first", "second", "nested"])
orders = st.permutations(range(PAGES))
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def scattered(memory: GuestMemory, order: list[int], mode: str) -> VtdSpace:
    """Return a device's view of memory whose pages lie elsewhere, in an order."""
    tables, data = Vtd(mode), {}
    for number, place in enumerate(order):
        at = BASE + 3 * PAGE * place
        tables.map(memory.base + PAGE * number, at)
        data[at] = bytes(memory.data[PAGE * number : PAGE * (number + 1)])
    return space_of(tables, data)


def buffers(count: int) -> list[Buffer]:
    """Return a chain: all but the last are read by the device."""
    return [Buffer(0x1000 * n, 64 + n, writable=n == count - 1) for n in range(count)]


@given(mode=modes, order=orders, chains=lengths, start=st.integers(0, 65535))
def test_a_split_ring(mode: str, order: list[int], chains: list[int], start: int) -> None:
    memory = GuestMemory(PAGES * PAGE)
    memory.allocate(PAGE - 40, 1)  # the descriptor table crosses a page
    queue = SplitQueue(memory, 256, event_idx=True, start_idx=start)
    heads = [queue.publish(buffers(count), indirect_from=count // 2) for count in chains]
    flat, space = GuestSpace(memory), scattered(memory, order, mode)
    expected, ring = ring_of(queue, flat), ring_of(queue, space)  # type: ignore[arg-type]
    assert ring.indices() == expected.indices()
    assert ring.descriptors() == expected.descriptors()
    assert (ring.available(), ring.used()) == (expected.available(), expected.used())
    for head in heads:
        chain = walk_chain(ring.table, head, space)
        assert chain == walk_chain(expected.table, head, flat)
        assert chain.end is ChainEnd.COMPLETE


@given(mode=modes, order=orders, chains=lengths, rounds=st.integers(0, 3))
def test_a_packed_ring(mode: str, order: list[int], chains: list[int], rounds: int) -> None:
    memory = GuestMemory(PAGES * PAGE)
    memory.allocate(PAGE - 40, 1)
    queue = PackedQueue(memory, 256, rounds=rounds)
    for count in chains:
        queue.publish(buffers(count), indirect=count > 3)
    flat, space = GuestSpace(memory), scattered(memory, order, mode)
    expected, ring = packed_ring_of(queue, flat), packed_ring_of(queue, space)  # type: ignore[arg-type]
    assert ring.descriptors() == expected.descriptors()
    assert ring.driver_event() == expected.driver_event()
    position = Position(0, not rounds % 2)
    found = available_chains(ring, position, space)
    assert found == available_chains(expected, position, flat)
    assert len(found) == len(chains)
