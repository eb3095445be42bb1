"""What a driver and a device put into a packed ring is what is read back from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synth.packed_rings import PackedQueue, Place, Published
from tests.synth.rings import INDIRECT, WRITE, Buffer, GuestMemory
from tests.virtio.spaces import GuestSpace, packed_ring_of
from tests.virtio.test_properties import buffers
from vringcore.virtio.chain import ChainEnd
from vringcore.virtio.packed import (
    PackedChain,
    Position,
    available_chains,
    count_available,
    taken_slots,
    walk_packed,
)
from vringcore.virtio.packed_search import ChainFinder


@dataclass
class History:
    """A queue, and what was done with it, as the one who did it remembers it.

    ``requests`` and ``chains`` are by number of publication: a buffer id is used again.
    """

    queue: PackedQueue
    in_order: bool
    requests: list[list[Buffer]] = field(default_factory=list)
    chains: list[Published] = field(default_factory=list)
    taken: int = 0
    held: list[int] = field(default_factory=list)
    completed: list[tuple[int, int]] = field(default_factory=list)
    reclaimed: list[tuple[int, int]] = field(default_factory=list)
    overwritten: set[int] = field(default_factory=set)
    """Slots whose descriptors a used descriptor took the place of."""


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Any work on any queue: both layouts of chains, any order of completions, wrap-around."""
    size = draw(st.sampled_from([1, 2, 4, 8, 16, 64]) | st.integers(1, 40))
    queue = PackedQueue(
        GuestMemory(0x80000),
        size,
        rounds=draw(st.integers(0, 1)),
        slot=draw(st.integers(0, size - 1)),
        id_in_all=draw(st.booleans()),
        ids=draw(st.permutations(range(size))),
    )
    history = History(queue, in_order=draw(st.booleans()))
    for action in draw(st.lists(st.sampled_from("ppptttccr"), max_size=120)):
        if action == "p" and queue.free:
            _publish(draw, history)
        elif action == "t" and history.taken < len(history.chains):
            assert queue.take() == history.chains[history.taken].number
            history.held.append(history.taken)
            history.taken += 1
        elif action == "c" and history.held:
            _complete(draw, history)
        elif action == "r":
            history.reclaimed += queue.reclaim()
    return history


def _publish(draw: st.DrawFn, history: History) -> None:
    queue = history.queue
    indirect = draw(st.booleans())
    request = draw(st.lists(buffers, min_size=1, max_size=6 if indirect else queue.free))
    number = queue.publish(request, indirect=indirect)
    history.requests.append(request)
    chain = queue.chains[number]
    history.chains.append(chain)
    history.overwritten -= set(_slots(chain, queue.size))


def _complete(draw: st.DrawFn, history: History) -> None:
    queue = history.queue
    publication = history.held[0] if history.in_order else draw(st.sampled_from(history.held))
    history.held.remove(publication)
    number, written = history.chains[publication].number, draw(st.integers(0, 2**32 - 1))
    history.overwritten.add(queue.used.slot)
    queue.complete(number, written)
    history.completed.append((number, written))


def _slots(chain: Published, size: int) -> list[int]:
    return [(chain.slot + step) % size for step in range(chain.count)]


def _position(place: Place) -> Position:
    return Position(place.slot, place.wrap)


def _is(found: PackedChain, request: list[Buffer], published: Published, size: int) -> None:
    assert (found.id, found.count) == (published.number, published.count)
    assert found.start == Position(published.slot, published.wrap)
    assert found.chain.end is ChainEnd.COMPLETE
    seen = [d for d in found.chain.descriptors if not d.flags & INDIRECT]
    assert [Buffer(d.address, d.length, bool(d.flags & WRITE)) for d in seen] == request
    ring = [d.index for d in found.chain.descriptors if d.table is None]
    assert ring == _slots(published, size)
    assert found.chain.readable_bytes == sum(b.length for b in request if not b.writable)
    assert found.chain.writable_bytes == sum(b.length for b in request if b.writable)


@given(histories())
def test_available_chains_are_those_that_were_published_and_not_taken(history: History) -> None:
    queue, space = history.queue, GuestSpace(history.queue.memory)
    ring = packed_ring_of(queue, space)
    found = available_chains(ring, _position(queue.taken), space)
    assert len(found) == len(history.chains) - history.taken
    assert count_available(ring, _position(queue.taken)) == len(found)
    for number, chain in enumerate(found, history.taken):
        _is(chain, history.requests[number], history.chains[number], queue.size)
        assert chain.chain.remarks == () or chain.id is not None


@given(histories())
def test_positions_count_the_descriptors_of_chains_that_are_held(history: History) -> None:
    queue = history.queue
    ring = packed_ring_of(queue, GuestSpace(queue.memory))
    held = sum(history.chains[number].count for number in history.held)
    used, taken = _position(queue.used), _position(queue.taken)
    assert taken.since(used, queue.size) == held
    slots = taken_slots(ring, used, taken)
    assert len(slots) == held
    if history.in_order:
        theirs = [s for n in history.held for s in _slots(history.chains[n], queue.size)]
        assert slots == theirs


@given(histories())
def test_every_chain_in_use_is_walked_to_its_end_while_its_slots_are_there(
    history: History,
) -> None:
    queue, space = history.queue, GuestSpace(history.queue.memory)
    ring = packed_ring_of(queue, space)
    for number in history.held:
        chain = history.chains[number]
        if _taken_from(history, number) & set(_slots(chain, queue.size)):
            assert not history.in_order  # completions out of order gave its slots away
            continue
        found = walk_packed(ring, Position(chain.slot, chain.wrap), space)
        _is(found, history.requests[number], chain, queue.size)


@given(histories())
def test_chains_in_use_are_found_wherever_they_lie_or_told_to_be_gone(history: History) -> None:
    queue, space = history.queue, GuestSpace(history.queue.memory)
    finder = ChainFinder(packed_ring_of(queue, space), _position(queue.taken), space)
    assert finder.conclusive
    for number in history.held:
        chain, request = history.chains[number], history.requests[number]
        found = finder.find(chain.number, chain.count, [b.address for b in request])
        gone = set(_slots(chain, queue.size)) & _taken_from(history, number)
        if not gone:
            assert found is not None
        if found is not None:  # what is left of a former chain may be the same, byte for byte
            walked = [d for d in found.chain.descriptors if not d.flags & INDIRECT]
            assert [d.address for d in walked] == [b.address for b in request]
            assert found.count == chain.count
        if not gone and len({b.address for b in request}) == len(request):
            assert found is not None
            assert found.chain.end is ChainEnd.COMPLETE


def _taken_from(history: History, number: int) -> set[int]:
    """Return the slots that something else was written into since a chain was published."""
    size = history.queue.size
    later = {s for chain in history.chains[number + 1 :] for s in _slots(chain, size)}
    return history.overwritten | later


@given(histories())
def test_used_descriptors_say_what_was_completed(history: History) -> None:
    queue = history.queue
    ring = packed_ring_of(queue, GuestSpace(queue.memory))
    position = _position(queue.used_seen)
    counts = {chain.number: chain.count for chain in history.chains}
    unread = history.completed[len(history.reclaimed) :]
    for number, written in unread:
        used = ring.descriptor(position.slot)
        assert used.is_used(position.wrap)
        assert (used.id, used.length) == (number, written)
        position = position.advanced(queue.chains[number].count, queue.size)
    assert position == _position(queue.used)
    assert set(counts) >= {number for number, _ in unread}
    assert history.reclaimed == history.completed[: len(history.reclaimed)]


@given(st.data())
def test_a_batch_in_order_has_one_used_descriptor_2_8_8(data: st.DataObject) -> None:
    queue = PackedQueue(GuestMemory(0x40000), 16, slot=data.draw(st.integers(0, 15)))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    numbers = [queue.publish([Buffer(0x5000, 8)] * size) for size in sizes]
    for _ in numbers:
        queue.take()
    at = _position(queue.used)
    queue.complete_batch(numbers, 7)
    used = packed_ring_of(queue, GuestSpace(queue.memory)).descriptor(at.slot)
    assert used.is_used(at.wrap)
    assert used.id == numbers[-1]
    assert _position(queue.used) == _position(queue.taken) == at.advanced(sum(sizes), 16)


@settings(max_examples=300)
@given(st.data())
def test_damaged_memory_ends_every_walk_with_a_reason_and_within_bounds(
    data: st.DataObject,
) -> None:
    history = data.draw(histories())
    queue, memory = history.queue, history.queue.memory
    for _ in range(data.draw(st.integers(1, 8))):
        index = data.draw(st.integers(0, queue.size - 1))
        place = queue.descriptors + 16 * index + data.draw(st.integers(0, 15))
        memory.write(place, bytes([data.draw(st.integers(0, 255))]))
    if data.draw(st.booleans()):
        memory.remove(queue.descriptors + data.draw(st.integers(0, 16 * queue.size - 1)), 64)
    space = GuestSpace(memory)
    for slot in range(queue.size):
        for wrap in (False, True):
            position = Position(slot, wrap)
            ring = packed_ring_of(queue, space)
            found = walk_packed(ring, position, space)
            chain = found.chain
            assert 1 <= found.count <= queue.size
            assert len(chain.descriptors) <= 1025
            assert (chain.end is ChainEnd.COMPLETE) == (not chain.detail)
            assert (chain.end is ChainEnd.FAULT) == isinstance(chain.fault, Exception)
            chains = available_chains(ring, position, space)
            assert sum(each.count for each in chains) <= queue.size
            assert all(each.id is not None for each in chains[:-1])
            if not memory.holes:
                assert count_available(ring, position) == len(chains)
