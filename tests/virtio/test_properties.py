"""What a driver and a device put into a ring is what is read back from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.synth.rings import INDIRECT, WRITE, Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, ring_of
from vringcore.errors import MemoryFault
from vringcore.virtio import counts
from vringcore.virtio.chain import Breach, ChainEnd, walk_chain
from vringcore.virtio.split import available_window, used_window

if TYPE_CHECKING:
    from vringcore.virtio.chain import Chain

buffers = st.builds(
    Buffer, st.integers(0, (1 << 64) - (1 << 16)), st.integers(1, 1 << 16), st.booleans()
)


@dataclass
class History:
    """A queue, and what was done with it, as the one who did it remembers it."""

    queue: SplitQueue
    requests: dict[int, list[Buffer]] = field(default_factory=dict)
    published: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    completed: list[tuple[int, int]] = field(default_factory=list)
    reclaimed: int = 0


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Any work on any queue: both layouts of chains, completions out of order, wrap-around."""
    size = draw(st.sampled_from([1, 2, 4, 8, 16, 64]))  # always a power of 2 (2.7)
    queue = SplitQueue(
        GuestMemory(0x40000),
        size,
        event_idx=draw(st.booleans()),
        big_endian=draw(st.booleans()),
        start_idx=draw(st.integers(65500, 65535) | st.integers(0, 65535)),
        order=draw(st.permutations(range(size))),
    )
    history = History(queue)
    for action in draw(st.lists(st.sampled_from("ppptttccr"), max_size=120)):
        if action == "p" and queue.free:
            _publish(draw, history)
        elif action == "t" and len(history.taken) < len(history.published):
            history.taken.append(queue.take())
        elif action == "c" and _held(history):
            head, written = draw(st.sampled_from(_held(history))), draw(st.integers(0, 2**32 - 1))
            queue.complete(head, written)
            history.completed.append((head, written))
        elif action == "r":
            history.reclaimed += len(queue.reclaim())
    return history


def _publish(draw: st.DrawFn, history: History) -> None:
    queue = history.queue
    indirect = draw(st.booleans())
    request = draw(st.lists(buffers, min_size=1, max_size=6 if indirect else len(queue.free)))
    direct = draw(st.integers(0, min(len(request), len(queue.free)) - 1)) if indirect else None
    head = queue.publish(request, indirect_from=direct)
    history.requests[head] = request
    history.published.append(head)


def _held(history: History) -> list[int]:
    """Return the heads that the device took and has not completed."""
    held = list(history.taken)
    for head, _ in history.completed:
        held.remove(head)
    return held


def _walk(queue: SplitQueue, space: GuestSpace, head: int) -> Chain:
    return walk_chain(ring_of(queue, space).table, head, space)


@given(histories())
def test_indices_and_counts_are_the_numbers_of_what_was_done(history: History) -> None:
    queue = history.queue
    indices = ring_of(queue, GuestSpace(queue.memory)).indices()
    assert isinstance(indices.avail_idx, int)
    assert isinstance(indices.used_idx, int)
    published, taken = len(history.published), len(history.taken)
    completed = len(history.completed)
    assert counts.unseen(indices.avail_idx, queue.last_avail_idx) == published - taken
    popped = counts.popped(queue.last_avail_idx, indices.used_idx)
    assert popped == taken - completed == len(_held(history))
    assert counts.leaked(popped, len(_held(history))) == 0
    unread = counts.past_used_event(indices.used_idx, queue.last_used_idx)
    assert unread == completed - history.reclaimed


@given(histories())
def test_windows_hold_what_was_published_and_completed(history: History) -> None:
    queue = history.queue
    ring = ring_of(queue, GuestSpace(queue.memory))
    unseen = available_window(ring.available(), queue.last_avail_idx, queue.avail_idx)
    assert [entry.head for entry in unseen] == history.published[len(history.taken) :]
    unread = used_window(ring.used(), queue.last_used_idx, queue.used_idx)
    assert [(e.id, e.length) for e in unread] == history.completed[history.reclaimed :]


@given(histories())
def test_every_chain_in_use_is_walked_to_its_end(history: History) -> None:
    queue, space = history.queue, GuestSpace(history.queue.memory)
    for head in queue.chains:
        request, chain = history.requests[head], _walk(history.queue, space, head)
        assert chain.end is ChainEnd.COMPLETE
        seen = [d for d in chain.descriptors if not d.flags & INDIRECT]
        assert [Buffer(d.address, d.length, bool(d.flags & WRITE)) for d in seen] == request
        assert [d.index for d in chain.descriptors if d.table is None] == queue.chains[head]
        assert chain.readable_bytes == sum(b.length for b in request if not b.writable)
        assert chain.writable_bytes == sum(b.length for b in request if b.writable)
        order = [b.writable for b in request]
        remarked = {remark.breach for remark in chain.remarks}
        assert (Breach.WRITABLE_BEFORE_READABLE in remarked) == (order != sorted(order))
        assert (Breach.LONGER_THAN_QUEUE in remarked) == (len(request) > queue.size)


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
    for head in range(queue.size + 1):
        chain = _walk(queue, space, head)
        assert len(chain.descriptors) <= 1025
        assert (chain.end is ChainEnd.COMPLETE) == (not chain.detail)
        assert (chain.end is ChainEnd.FAULT) == isinstance(chain.fault, Exception)


@given(st.data())
def test_each_word_is_its_value_or_a_fault_that_names_the_hole(data: st.DataObject) -> None:
    history = data.draw(histories())
    queue = history.queue
    space = GuestSpace(queue.memory)
    whole = ring_of(queue, space).indices()
    start = queue.descriptors + data.draw(st.integers(0, 26 * queue.size + 20))
    size = data.draw(st.integers(1, 64))
    queue.memory.remove(start, size)
    holed = ring_of(queue, space).indices()
    for name in whole.__struct_fields__:
        word = getattr(holed, name)
        if isinstance(word, MemoryFault):
            assert start <= word.address < start + size
        else:
            assert word == getattr(whole, name)
