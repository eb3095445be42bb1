"""Builds split virtqueues as a driver and a device would, from the specification alone.

Nothing of vringcore is imported here, so a wrong number in the library cannot hide. One builder
serves unit tests, properties, fuzz seeds and benchmarks::

    memory = GuestMemory(0x100000)
    queue = SplitQueue(memory, 8, event_idx=True)
    head = queue.publish([Buffer(0x5000, 16), Buffer(0x6000, 512, writable=True)])
    queue.take()
    queue.complete(head, 512)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NEXT = 1
WRITE = 2
INDIRECT = 4


class GuestMemory:
    """Bytes from address ``base`` on, in which ranges can be missing."""

    def __init__(self, size: int, *, base: int = 0) -> None:
        self.base = base
        self.data = bytearray(size)
        self.holes: list[tuple[int, int]] = []
        self._free = base + 0x1000

    @property
    def end(self) -> int:
        return self.base + len(self.data)

    def allocate(self, size: int, alignment: int = 16) -> int:
        """Return the address of ``size`` unused bytes."""
        address = -(-self._free // alignment) * alignment
        self._free = address + size
        assert self._free <= self.end, "the memory is too small for what is built in it"
        return address

    def write(self, address: int, data: bytes) -> None:
        assert self.base <= address <= self.end - len(data)
        self.data[address - self.base : address - self.base + len(data)] = data

    def remove(self, address: int, size: int) -> None:
        """Make a range unreadable."""
        self.holes.append((address, address + size))

    def missing_from(self, address: int, size: int) -> int | None:
        """Return the first address of a range that cannot be read, None if all of it can."""
        outside = [(0, self.base), (self.end, 1 << 64)]
        starts = (
            max(start, address)
            for start, end in self.holes + outside
            if start < address + size and address < end
        )
        return min(starts, default=None)


@dataclass(frozen=True)
class Buffer:
    """A buffer of a request: where it lies, its length, and whether the device may write it."""

    address: int
    length: int
    writable: bool = False


class SplitQueue:
    """A split virtqueue in ``memory``, with the driver's and the device's private state.

    :param order: in which order descriptors are taken from the free list
    :param start_idx: the value of all indices at the beginning; 0 after a reset, anything later
    """

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        *,
        event_idx: bool = False,
        big_endian: bool = False,
        start_idx: int = 0,
        order: Sequence[int] | None = None,
    ) -> None:
        self.memory = memory
        self.size = size
        self.event_idx = event_idx
        self.big_endian = big_endian
        self.descriptors = memory.allocate(16 * size, 16)
        self.available = memory.allocate(6 + 2 * size, 2)
        self.used = memory.allocate(6 + 8 * size, 4)
        self.free = list(range(size) if order is None else order)
        self.chains: dict[int, list[int]] = {}
        self.tables: dict[int, int] = {}
        self.avail_idx = self.used_idx = start_idx
        self.last_avail_idx = start_idx
        self.last_used_idx = start_idx
        self.write_header(self.available, 0, start_idx)
        self.write_header(self.used, 0, start_idx)

    # The driver

    def publish(self, buffers: Sequence[Buffer], *, indirect_from: int | None = None) -> int:
        """Put a chain into the table and its head into the available ring; return the head.

        :param indirect_from: buffers from this position on go into an indirect table
        """
        direct = buffers[:indirect_from]
        tail = [] if indirect_from is None else buffers[indirect_from:]
        table = self._write_table(tail) if tail else None
        entries = [(b.address, b.length, WRITE if b.writable else 0) for b in direct]
        if table is not None:
            entries.append((table, 16 * len(tail), INDIRECT))
        assert entries, "a chain has at least one descriptor"
        assert len(entries) <= len(self.free), "the descriptor table is full"
        indices = [self.free.pop(0) for _ in entries]
        for place, (index, (address, length, flags)) in enumerate(
            zip(indices, entries, strict=True)
        ):
            last = place == len(entries) - 1
            following = 0 if last else indices[place + 1]
            self.write_descriptor(index, address, length, flags | (0 if last else NEXT), following)
        head = indices[0]
        self.chains[head] = indices
        if table is not None:
            self.tables[head] = table
        self.publish_head(head)
        return head

    def publish_head(self, head: int) -> None:
        """Put any number into the next slot of the available ring."""
        self.write16(self.available + 4 + 2 * (self.avail_idx % self.size), head)
        self.avail_idx = (self.avail_idx + 1) % 65536
        self.write16(self.available + 2, self.avail_idx)

    def reclaim(self) -> list[int]:
        """Consume all completions, free their descriptors, return their heads."""
        heads = []
        while self.last_used_idx != self.used_idx:
            head = self.read32(self.used + 4 + 8 * (self.last_used_idx % self.size))
            self.free += self.chains.pop(head)
            self.tables.pop(head, None)
            heads.append(head)
            self.last_used_idx = (self.last_used_idx + 1) % 65536
        return heads

    def ask_interrupt_at(self, idx: int) -> None:
        """Set ``used_event``."""
        self.write16(self.available + 4 + 2 * self.size, idx)

    # The device

    def take(self) -> int:
        """Take the next published chain; return its head."""
        assert self.last_avail_idx != self.avail_idx, "nothing was published"
        head = self.read16(self.available + 4 + 2 * (self.last_avail_idx % self.size))
        self.last_avail_idx = (self.last_avail_idx + 1) % 65536
        return head

    def complete(self, head: int, written: int) -> None:
        """Put a chain into the used ring."""
        slot = self.used + 4 + 8 * (self.used_idx % self.size)
        self.memory.write(slot, struct.pack(f"{self._order}II", head, written))
        self.used_idx = (self.used_idx + 1) % 65536
        self.write16(self.used + 2, self.used_idx)

    def ask_kick_at(self, idx: int) -> None:
        """Set ``avail_event``."""
        self.write16(self.used + 4 + 8 * self.size, idx)

    # Bytes

    def write_descriptor(
        self,
        index: int,
        address: int,
        length: int,
        flags: int,
        following: int = 0,
        *,
        table: int | None = None,
    ) -> None:
        """Write one descriptor of the ring's table, or of the indirect one at ``table``."""
        place = (self.descriptors if table is None else table) + 16 * index
        self.memory.write(
            place, struct.pack(f"{self._order}QIHH", address, length, flags, following)
        )

    def write_header(self, ring: int, flags: int, idx: int) -> None:
        """Write ``flags`` and ``idx`` of the available or used ring."""
        self.memory.write(ring, struct.pack(f"{self._order}HH", flags, idx))

    def write16(self, address: int, value: int) -> None:
        self.memory.write(address, struct.pack(f"{self._order}H", value))

    def read16(self, address: int) -> int:
        return self._read("H", address)

    def read32(self, address: int) -> int:
        return self._read("I", address)

    def _read(self, code: str, address: int) -> int:
        offset = address - self.memory.base
        (value,) = struct.unpack_from(self._order + code, self.memory.data, offset)
        assert isinstance(value, int)
        return value

    def _write_table(self, buffers: Sequence[Buffer]) -> int:
        table = self.memory.allocate(16 * len(buffers), 16)
        for place, buffer in enumerate(buffers):
            last = place == len(buffers) - 1
            flags = (WRITE if buffer.writable else 0) | (0 if last else NEXT)
            following = 0 if last else place + 1
            self.write_descriptor(
                place, buffer.address, buffer.length, flags, following, table=table
            )
        return table

    @property
    def _order(self) -> str:
        return ">" if self.big_endian else "<"
