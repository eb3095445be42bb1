"""A packed virtqueue: one ring of descriptors with two flag bits (VirtIO 1.3, 2.8).

No index lies in guest memory. Driver and device each keep a position, a slot with a wrap counter
that changes whenever the slot passes the end of the ring. A descriptor is available to a device
whose counter is ``wrap`` where its AVAIL bit equals ``wrap`` and its USED bit does not; it is used
where both are the same. The device writes used descriptors over available ones, in the order of
completion, so of chains that are in flight the ring may hold but a part.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from vringcore import ring_math
from vringcore.errors import AddressOverflowError, CorruptDataError, MemoryFault
from vringcore.virtio import constants as c
from vringcore.virtio.chain import Breach, Chain, ChainBuilder, ChainEnd, Remark
from vringcore.virtio.descriptors import Descriptor
from vringcore.virtio.split import Unreadable, kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.memory.space import AddressSpace

A = TypeVar("A", bound=int)

_DESCRIPTOR = Struct("<QIHH")
_EVENT = Struct("<HH")


class PackedAddresses(msgspec.Struct, frozen=True):
    """Where the parts of a packed ring lie, all in one address space (2.8.10)."""

    descriptors: int
    driver_event: int
    device_event: int


class Position(msgspec.Struct, frozen=True):
    """A place in a packed ring: slot, and the wrap counter of whoever stands there (2.8.1)."""

    slot: int
    wrap: bool

    def since(self, older: Position, size: int) -> int:
        """Return how many descriptors this is ahead of another position, 0 to ``2 * size - 1``.

        Of two positions that are at most one round apart, more than ``size`` says that the other is
        ahead.
        """
        ahead = ring_math.packed_distance(
            self.slot, older.slot, size, wrapped=self.wrap != older.wrap
        )
        return ahead % (2 * size)

    def before(self, count: int, size: int) -> Position:
        """Return the position ``count`` descriptors further back, at most one round."""
        slot = self.slot - count
        return Position(slot + size, not self.wrap) if slot < 0 else Position(slot, self.wrap)

    def advanced(self, count: int, size: int) -> Position:
        """Return the position ``count`` descriptors further on, at most one round."""
        slot = self.slot + count
        return Position(slot - size, not self.wrap) if slot >= size else Position(slot, self.wrap)


class PackedDescriptor(msgspec.Struct, frozen=True, gc=False):
    """One slot of the ring as it is now: written by the driver, or, once used, by the device.

    Of a used descriptor ``id`` names the buffer and ``length`` counts the bytes that were written.
    """

    slot: int
    address: int
    length: int
    id: int
    flags: int

    @property
    def avail(self) -> bool:
        """The AVAIL bit."""
        return bool(self.flags & c.PACKED_F_AVAIL)

    @property
    def used(self) -> bool:
        """The USED bit."""
        return bool(self.flags & c.PACKED_F_USED)

    def is_available(self, wrap: bool) -> bool:
        """Tell whether it is available to a device whose wrap counter is ``wrap`` (2.8.1)."""
        return self.avail == wrap and self.used != wrap

    def is_used(self, wrap: bool) -> bool:
        """Tell whether it is used for a driver whose used wrap counter is ``wrap`` (2.8.1)."""
        return self.avail == self.used == wrap


class EventSuppression(msgspec.Struct, frozen=True):
    """An event suppression structure (2.8.10): ``flags`` 0 enable, 1 disable, 2 at ``position``."""

    off_wrap: int
    flags: int

    @property
    def position(self) -> Position:
        """The position it names; it means something with ``flags`` 2 only."""
        return Position(self.off_wrap & c.EVENT_SLOT_MASK, bool(self.off_wrap & c.EVENT_WRAP))

    @property
    def name(self) -> str:
        """What its flags ask for: ``enable``, ``disable``, ``desc`` or ``reserved``."""
        return ("enable", "disable", "desc", "reserved")[self.flags & 3]


class PackedChain(msgspec.Struct, frozen=True):
    """A chain of a packed ring: its first slot, how many slots it has, and its buffer id.

    ``id`` is that of its last slot, by which the device gives it back (2.8.6); None if the walk did
    not come to that slot, and ``count`` is then what it has at least. The chain's ``head`` is the
    first slot.
    """

    start: Position
    count: int
    id: int | None
    chain: Chain


class PackedRing(Generic[A]):
    """Reads a packed ring; nothing is read before it is asked for.

    :param space: where the ring lies; what its descriptors point to may be in another space
    :param addresses: the three parts in ``space``
    :param size: queue size, 1 to 32768
    :raises CorruptDataError: if ``size`` is outside 1 to 32768
    """

    def __init__(self, space: AddressSpace[A], addresses: PackedAddresses, size: int) -> None:
        if not 1 <= size <= c.MAX_QUEUE_SIZE:
            raise CorruptDataError(
                "a packed virtqueue has an impossible size",
                where=f"the ring at {addresses.descriptors:#x}",
                seen=f"{size} descriptors",
                expected=f"1 to {c.MAX_QUEUE_SIZE}",
            )
        self.space = space
        self.addresses = addresses
        self.size = size
        self._slots: tuple[PackedDescriptor, ...] | Unreadable | None = None

    def descriptors(self) -> tuple[PackedDescriptor, ...]:
        """Return the whole ring, slot 0 first.

        :raises MemoryFault: if a part of it cannot be read
        :raises AddressOverflowError: if it leaves the address space
        """
        return tuple(self._read(0, self.size))

    def descriptor(self, slot: int) -> PackedDescriptor:
        """Return one slot; the others need not be readable.

        :raises MemoryFault: if it cannot be read
        :raises AddressOverflowError: if it leaves the address space
        """
        if self._slots is None:
            self._slots = kept(self.descriptors)
        return self._slots[slot] if isinstance(self._slots, tuple) else self._read(slot, 1)[0]

    def driver_event(self) -> EventSuppression:
        """Return what the driver asks of the device: when to interrupt."""
        return read_event(self.space, self.addresses.driver_event)

    def device_event(self) -> EventSuppression:
        """Return what the device asks of the driver: when to notify."""
        return read_event(self.space, self.addresses.device_event)

    def breaches(self) -> tuple[str, ...]:
        """Return the rules of 2.8 that the addresses break, in words; none stops a read."""
        found = []
        for part, address, alignment in (
            ("descriptor ring", self.addresses.descriptors, c.DESC_ALIGN),
            ("driver event suppression", self.addresses.driver_event, c.EVENT_ALIGN),
            ("device event suppression", self.addresses.device_event, c.EVENT_ALIGN),
        ):
            if address % alignment:
                found.append(f"the {part} at {address:#x} is not aligned to {alignment} bytes")
        return tuple(found)

    def _read(self, first: int, count: int) -> list[PackedDescriptor]:
        address = cast("A", self.addresses.descriptors + first * c.DESC_SIZE)
        data = self.space.read(address, count * c.DESC_SIZE)
        return [
            PackedDescriptor(first + index, *row)
            for index, row in enumerate(_DESCRIPTOR.iter_unpack(data))
        ]


def read_event(space: AddressSpace[Any], address: int) -> EventSuppression:
    """Read an event suppression structure (2.8.14).

    :raises MemoryFault: if it cannot be read
    :raises AddressOverflowError: if it leaves the address space
    """
    return EventSuppression(*_EVENT.unpack(space.read(address, _EVENT.size)))


def available_chains(
    ring: PackedRing[Any], start: Position, space: AddressSpace[Any], *, limit: int = 0
) -> list[PackedChain]:
    """Return the chains that the driver has made available from a position on (2.8.6).

    That position is the device's own: where it will look next. The walk ends at the first slot that
    is not available, behind a chain whose end in the ring cannot be told, or after one round. A
    chain with the buffer id of an earlier one has the remark ``duplicate-id``.

    :param space: where the addresses in descriptors lead
    :param limit: chains after which the walk is cut; 0: no further limit
    """
    chains: list[PackedChain] = []
    seen: set[int] = set()
    position, left = start, ring.size
    while left > 0 and not (limit and len(chains) >= limit):
        if not _is_available(ring, position):
            break
        found = walk_packed(ring, position, space)
        number = found.id
        if number is not None and number in seen:
            remarks = (*found.chain.remarks, Remark(Breach.DUPLICATE_ID, 0))
            chain = msgspec.structs.replace(found.chain, remarks=remarks)
            found = msgspec.structs.replace(found, chain=chain)
        chains.append(found)
        if number is None:
            break
        seen.add(number)
        position, left = position.advanced(found.count, ring.size), left - found.count
    return chains


def count_available(ring: PackedRing[Any], start: Position) -> int:
    """Return how many chains the driver has made available, without a look into their tables.

    As many as :func:`available_chains` returns.

    :raises MemoryFault: if the ring cannot be read
    :raises AddressOverflowError: if it leaves the address space
    """
    slots = ring.descriptors()
    position, chains, inside = start, 0, False
    for _ in range(ring.size):
        slot = slots[position.slot]
        if not slot.is_available(position.wrap):
            break
        chains += not inside
        if slot.flags & c.DESC_F_INDIRECT and (inside or slot.flags & c.DESC_F_NEXT):
            break
        inside = bool(slot.flags & c.DESC_F_NEXT)
        position = position.advanced(1, ring.size)
    return chains


def _is_available(ring: PackedRing[Any], position: Position) -> bool:
    try:
        return ring.descriptor(position.slot).is_available(position.wrap)
    except (MemoryFault, AddressOverflowError):
        return False


def walk_packed(
    ring: PackedRing[Any], start: Position, space: AddressSpace[Any], *, limit: int = 0
) -> PackedChain:
    """Follow a chain from its first slot; nothing in the memory read can make this raise or run on.

    Its descriptors lie in adjacent slots, each with NEXT but the last (2.8.6); an indirect table is
    taken whole and in order (2.8.7).

    :param limit: buffers after which the walk is cut; 0 takes the queue size, at least 1,024
    """
    walk = ChainBuilder(ring.size, space, limit or max(ring.size, c.USUAL_CHAIN_LIMIT))
    position, count = start, 0
    buffer_id: int | None = None
    while True:
        walk.stopped_at = position.slot
        if count >= ring.size:
            end = walk.stop(ChainEnd.LOOP, "the chain has all of the ring, and goes on")
            break
        try:
            slot = ring.descriptor(position.slot)
        except (MemoryFault, AddressOverflowError) as error:
            end = walk.failed(error)
            break
        if walk.buffers >= walk.limit:
            end = walk.too_long()
            break
        if count and not slot.is_available(position.wrap):
            # The driver marks the first slot last: what follows it must be marked already.
            end = walk.stop(ChainEnd.WRAP_BITS, "it is not marked as the first of its chain is")
            break
        count += 1
        done = _take(walk, slot, first=count == 1)
        if not slot.flags & c.DESC_F_NEXT and done is not ChainEnd.INDIRECT_AND_NEXT:
            buffer_id = slot.id
        if done is not None:
            end = done
            break
        position = position.advanced(1, ring.size)
    return PackedChain(start, max(count, 1), buffer_id, walk.result(start.slot, end))


def _take(walk: ChainBuilder, slot: PackedDescriptor, *, first: bool) -> ChainEnd | None:
    """Add a slot to a chain; return how the chain ends if it ends here."""
    flags = slot.flags & (c.DESC_F_NEXT | c.DESC_F_WRITE | c.DESC_F_INDIRECT)
    descriptor = Descriptor(slot.slot, slot.address, slot.length, flags, slot.id)
    if flags & c.DESC_F_INDIRECT:
        walk.descriptors.append(descriptor)
        if not first:
            return walk.stop(
                ChainEnd.INDIRECT_AND_NEXT, "it has a table, and a descriptor with NEXT before it"
            )
        return walk.enter(slot.address, slot.length, flags, packed=True)
    end = walk.take(descriptor)
    if end is not None or flags & c.DESC_F_NEXT:
        return end
    return ChainEnd.COMPLETE


def taken_slots(ring: PackedRing[Any], used: Position, avail: Position) -> Sequence[int]:
    """Return the slots between where the device will write used descriptors and where it will look.

    As many belong to chains that the device has taken and not given back, though, once a chain was
    given back before an older one, not just these.

    :param used: where the device will write the next used descriptor
    :param avail: where it will look for the next available one
    """
    count = min(avail.since(used, ring.size), ring.size)
    return [(used.slot + step) % ring.size for step in range(count)]
