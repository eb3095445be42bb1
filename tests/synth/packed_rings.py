"""Builds packed virtqueues as a driver and a device would, from the specification alone.

As tests/synth/rings.py, of VirtIO 1.3, 2.8; nothing of vringcore is imported here::

    memory = GuestMemory(0x100000)
    queue = PackedQueue(memory, 8)
    number = queue.publish([Buffer(0x5000, 16), Buffer(0x6000, 512, writable=True)])
    queue.take()
    queue.complete(number, 512)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.synth.rings import INDIRECT, NEXT, WRITE, Buffer, GuestMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

AVAIL = 1 << 7
USED = 1 << 15

ENABLE, DISABLE, AT_DESCRIPTOR = 0, 1, 2


@dataclass
class Place:
    """A slot of a ring and the wrap counter of whoever stands there."""

    slot: int
    wrap: bool

    def move(self, count: int, size: int) -> None:
        """Go ``count`` slots on, at most one round."""
        self.slot += count
        if self.slot >= size:
            self.slot -= size
            self.wrap = not self.wrap


@dataclass(frozen=True)
class Published:
    """A chain as its driver remembers it: buffer id, first slot, slots it takes, its table."""

    number: int
    slot: int
    wrap: bool
    count: int
    table: int | None


class PackedQueue:
    """A packed virtqueue in ``memory``, with the driver's and the device's private state.

    :param rounds: how often both have gone around the ring before; odd: wrap counters are False
    :param slot: where both stand in it
    :param id_in_all: whether all descriptors of a chain have its buffer id, or the last alone
    """

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        *,
        rounds: int = 0,
        slot: int = 0,
        id_in_all: bool = True,
        ids: Sequence[int] | None = None,
    ) -> None:
        self.memory = memory
        self.size = size
        self.id_in_all = id_in_all
        self.descriptors = memory.allocate(16 * size, 16)
        self.driver_event = memory.allocate(4, 4)
        self.device_event = memory.allocate(4, 4)
        self.ids = list(range(size) if ids is None else ids)
        self.free = size
        self.chains: dict[int, Published] = {}
        wrap = rounds % 2 == 0
        self.avail, self.used_seen = Place(slot, wrap), Place(slot, wrap)  # the driver's
        self.taken, self.used = Place(slot, wrap), Place(slot, wrap)  # the device's
        for place in range(size):
            # Whoever has been around the ring has left all of it used.
            bits = (wrap if place < slot else not wrap) and AVAIL | USED
            self.write_descriptor(place, 0, 0, 0, int(bits))

    # The driver

    def publish(self, buffers: Sequence[Buffer], *, indirect: bool = False) -> int:
        """Make a chain available; return its buffer id."""
        table = self._write_table(buffers) if indirect else None
        entries = [(b.address, b.length, WRITE if b.writable else 0) for b in buffers]
        if table is not None:
            entries = [(table, 16 * len(buffers), INDIRECT)]
        assert entries, "a chain has at least one descriptor"
        assert len(entries) <= self.free, "the ring is full"
        number = self.ids.pop(0)
        chain = Published(number, self.avail.slot, self.avail.wrap, len(entries), table)
        for place, (address, length, flags) in enumerate(entries):
            last = place == len(entries) - 1
            self.write_descriptor(
                self.avail.slot,
                address,
                length,
                number if last or self.id_in_all else 0xABCD,
                flags | (0 if last else NEXT) | (AVAIL if self.avail.wrap else USED),
            )
            self.avail.move(1, self.size)
        self.free -= len(entries)
        self.chains[number] = chain
        return number

    def reclaim(self) -> list[tuple[int, int]]:
        """Consume all used descriptors, free their chains; return their ids and lengths.

        Only without batches: of one that a device completes in order this sees the last.
        """
        found: list[tuple[int, int]] = []
        while True:
            _, length, number, flags = self.read_descriptor(self.used_seen.slot)
            if {bool(flags & AVAIL), bool(flags & USED)} != {self.used_seen.wrap}:
                return found
            chain = self.chains.pop(number)
            self.ids.append(number)
            self.free += chain.count
            self.used_seen.move(chain.count, self.size)
            found.append((number, length))

    def ask_interrupt(self, flags: int, slot: int = 0, *, wrap: bool = False) -> None:
        """Write the driver's event suppression structure."""
        self._write_event(self.driver_event, flags, slot, wrap=wrap)

    # The device

    def take(self) -> int:
        """Take the next chain that is available; return its buffer id, as its last slot has it."""
        count = 0
        while True:
            _, _, number, flags = self.read_descriptor(self.taken.slot)
            assert bool(flags & AVAIL) == self.taken.wrap != bool(flags & USED), "nothing is there"
            self.taken.move(1, self.size)
            count += 1
            if flags & INDIRECT or not flags & NEXT:
                assert self.chains[number].count == count
                return number

    def complete(self, number: int, written: int) -> None:
        """Write the used descriptor of a chain."""
        bits = AVAIL | USED if self.used.wrap else 0
        flags = bits | (WRITE if written else 0)
        self.write_descriptor(self.used.slot, 0, written, number, flags)
        self.used.move(self.chains[number].count, self.size)

    def complete_batch(self, numbers: Sequence[int], written: int) -> None:
        """Write one used descriptor, of the last of chains that are completed in order (2.8.8)."""
        bits = AVAIL | USED if self.used.wrap else 0
        self.write_descriptor(self.used.slot, 0, written, numbers[-1], bits)
        for number in numbers:
            self.used.move(self.chains[number].count, self.size)

    def ask_kick(self, flags: int, slot: int = 0, *, wrap: bool = False) -> None:
        """Write the device's event suppression structure."""
        self._write_event(self.device_event, flags, slot, wrap=wrap)

    # Bytes

    def write_descriptor(
        self,
        slot: int,
        address: int,
        length: int,
        number: int,
        flags: int,
        *,
        table: int | None = None,
    ) -> None:
        """Write one descriptor of the ring, or of the indirect table at ``table``."""
        place = (self.descriptors if table is None else table) + 16 * slot
        self.memory.write(place, struct.pack("<QIHH", address, length, number, flags))

    def read_descriptor(self, slot: int) -> tuple[int, int, int, int]:
        """Return address, length, id and flags of a slot."""
        at = self.descriptors + 16 * slot - self.memory.base
        address, length, number, flags = struct.unpack_from("<QIHH", self.memory.data, at)
        return address, length, number, flags

    def _write_event(self, address: int, flags: int, slot: int, *, wrap: bool) -> None:
        self.memory.write(address, struct.pack("<HH", slot | wrap << 15, flags))

    def _write_table(self, buffers: Sequence[Buffer]) -> int:
        table = self.memory.allocate(16 * len(buffers), 16)
        for place, buffer in enumerate(buffers):
            flags = WRITE if buffer.writable else 0
            self.write_descriptor(place, buffer.address, buffer.length, 0, flags, table=table)
        return table
