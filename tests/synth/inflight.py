"""Keeps the record of requests in flight as a vhost-user back-end does, step by step.

From the vhost-user protocol, "Inflight I/O tracking", alone; nothing of vringcore is imported. A
back-end can die between any two steps: ``complete(..., steps=N)`` takes the first N of them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.synth.packed_rings import PackedQueue
    from tests.synth.rings import GuestMemory, SplitQueue

SPLIT_HEADER, SPLIT_STATE = "<QHHHH", "<B5xHQ"
PACKED_HEADER, PACKED_STATE = "<QHHHHHHBB10x", "<BxHHHQHHIQ"
HEADER_SIZE = {"split": 16, "packed": 32}
STATE_SIZE = {"split": 16, "packed": 32}

LAST_STEP = 3


class SplitRecord:
    """The record of a split queue, in ``memory`` of the back-end's own."""

    def __init__(self, memory: GuestMemory, queue: SplitQueue) -> None:
        self.queue = queue
        self.memory = memory
        self.size = HEADER_SIZE["split"] + STATE_SIZE["split"] * queue.size
        self.address = memory.allocate(self.size, 64)
        self.states = [[0, 0, 0] for _ in range(queue.size)]
        self.last_batch_head = 0
        self.used_idx = queue.used_idx
        self.counter = 0
        self.write()

    def take(self) -> int:
        """Take the next chain and note it."""
        head = self.queue.take()
        self.states[head][2] = self.counter
        self.counter += 1
        self.states[head][0] = 1
        self.write()
        return head

    def complete(self, heads: Sequence[int], steps: int = LAST_STEP) -> None:
        """Give a batch back: list it, move ``used.idx`` (1), unmark it (2), note the index (3)."""
        for head in heads:
            self.states[head][1] = self.last_batch_head
            self.last_batch_head = head
        if steps >= 1:
            for head in heads:
                self.queue.complete(head, 0)
        if steps >= 2:
            for head in heads:
                self.states[head][0] = 0
        if steps >= LAST_STEP:
            self.used_idx = self.queue.used_idx
        self.write()

    def write(self) -> None:
        data = struct.pack(
            SPLIT_HEADER, 0, 1, self.queue.size, self.last_batch_head, self.used_idx
        ) + b"".join(struct.pack(SPLIT_STATE, *state) for state in self.states)
        self.memory.write(self.address, data)


class PackedRecord:
    """The record of a packed queue; its entries hold copies of the ring's descriptors."""

    def __init__(self, memory: GuestMemory, queue: PackedQueue) -> None:
        self.queue = queue
        self.memory = memory
        self.size = HEADER_SIZE["packed"] + STATE_SIZE["packed"] * queue.size
        self.address = memory.allocate(self.size, 64)
        # inflight, next, last, num, counter, id, flags, len, addr
        self.states = [[0, at + 1, 0, 0, 0, 0, 0, 0, 0] for at in range(queue.size)]
        self.free_head = self.old_free_head = 0
        self.used = self.old_used = (queue.used.slot, queue.used.wrap)
        self.counter = 0
        self.entries: dict[int, int] = {}
        self.write()

    def take(self) -> int:
        """Take the next chain and copy its descriptors; return its buffer id."""
        slot = self.queue.taken.slot
        number = self.queue.take()
        count = self.queue.chains[number].count
        first = self.old_free_head
        state = self.states[first]
        state[3], state[4], state[0] = 0, self.counter, 1
        self.counter += 1
        for step in range(count):
            descriptor = self.queue.read_descriptor((slot + step) % self.queue.size)
            address, length, buffer_id, flags = descriptor
            at = self.free_head
            if step == count - 1:
                state[2] = at
            state[3] += 1
            self.states[at][5:] = [buffer_id, flags, length, address]
            self.free_head = self.states[at][1]
        self.old_free_head = self.free_head
        self.entries[number] = first
        self.write()
        return number

    def complete(self, number: int, steps: int = LAST_STEP) -> None:
        """Give a chain back: note it (0), mark it in the ring (1), unmark it (2), settle (3)."""
        first = self.entries.pop(number)
        state = self.states[first]
        self.states[state[2]][1] = self.free_head
        self.free_head = first
        count = self.queue.chains[number].count
        slot, wrap = self.used
        slot += count
        self.used = (slot - self.queue.size, not wrap) if slot >= self.queue.size else (slot, wrap)
        if steps >= 1:
            self.queue.complete(number, 0)
        if steps >= 2:
            state[0] = 0
        if steps >= LAST_STEP:
            self.old_free_head, self.old_used = self.free_head, self.used
        self.write()

    def write(self) -> None:
        data = struct.pack(
            PACKED_HEADER,
            0,
            1,
            self.queue.size,
            self.free_head,
            self.old_free_head,
            self.used[0],
            self.old_used[0],
            self.used[1],
            self.old_used[1],
        ) + b"".join(struct.pack(PACKED_STATE, *state) for state in self.states)
        self.memory.write(self.address, data)
