"""What the tests need to read a built ring with the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import GuestAddress, end_of
from vringcore.errors import MemoryFault
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, Piece, Range
from vringcore.virtio.packed import PackedAddresses, PackedRing
from vringcore.virtio.split import RingAddresses, SplitRing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.synth.packed_rings import PackedQueue
    from tests.synth.rings import GuestMemory, SplitQueue


class GuestSpace(AddressSpace[GuestAddress]):
    """Built memory as an address space; counts the bytes that were read of it."""

    name = "guest memory"

    def __init__(self, memory: GuestMemory) -> None:
        self.memory = memory
        self.bytes_read = 0

    def read(self, address: GuestAddress, size: int) -> bytes:
        end_of(address, size)
        missing = self.memory.missing_from(address, size)
        if missing is not None:
            gap = Gap(GapKind.NOT_DUMPED, missing, address + size - missing)
            raise MemoryFault(f"reading {size} bytes of {self.name}", missing, gap)
        self.bytes_read += size
        offset = address - self.memory.base
        return bytes(self.memory.data[offset : offset + size])

    def pieces(self, address: GuestAddress, size: int) -> Iterator[Piece]:
        yield Piece(address, size, self.read(address, size), None)

    def ranges(self) -> Sequence[Range]:
        size = len(self.memory.data)
        return [Range(self.memory.base, size, size)]


def ring_of(queue: SplitQueue, space: AddressSpace[GuestAddress]) -> SplitRing[GuestAddress]:
    """Return the library's reader of a built queue."""
    return SplitRing(
        space,
        RingAddresses(queue.descriptors, queue.available, queue.used),
        queue.size,
        event_idx=queue.event_idx,
        big_endian=queue.big_endian,
    )


def packed_ring_of(
    queue: PackedQueue, space: AddressSpace[GuestAddress]
) -> PackedRing[GuestAddress]:
    """Return the library's reader of a built packed queue."""
    addresses = PackedAddresses(queue.descriptors, queue.driver_event, queue.device_event)
    return PackedRing(space, addresses, queue.size)
