"""Walking a descriptor chain, and why the walk ended (VirtIO 1.3, 2.7.5)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.addresses import SPACE_END
from vringcore.errors import AddressOverflowError, MemoryFault
from vringcore.virtio.constants import (
    DESC_F_INDIRECT,
    DESC_F_NEXT,
    DESC_F_WRITE,
    DESC_SIZE,
    MAX_CHAIN_BYTES,
    USUAL_CHAIN_LIMIT,
)
from vringcore.virtio.descriptors import Descriptor, DescriptorTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.memory.space import AddressSpace
    from vringcore.virtio.split import Unreadable


class ChainEnd(Enum):
    """Why a walk ended. All but COMPLETE leave the chain's further descriptors unknown."""

    COMPLETE = "complete"
    """A descriptor without the NEXT flag: the whole chain was seen."""
    LOOP = "loop"
    """``next`` names a descriptor that the chain already has."""
    INDEX_RANGE = "index-range"
    """The head or ``next`` names a descriptor behind the end of its table."""
    NESTED_INDIRECT = "nested-indirect"
    """A descriptor of an indirect table has the INDIRECT flag (2.7.5.3.1)."""
    INDIRECT_AND_NEXT = "indirect-and-next"
    """A descriptor has both the INDIRECT and the NEXT flag (2.7.5.3.1); in a packed ring also one
    with a table behind one with NEXT (2.8.19)."""
    BAD_TABLE_LENGTH = "bad-table-length"
    """The length of an indirect table is not a multiple of 16."""
    EMPTY_TABLE = "empty-table"
    """The length of an indirect table is 0."""
    TOO_LONG = "too-long"
    """More buffers than the walk may take."""
    WRAP_BITS = "wrap-bits"
    """A slot of a packed ring whose AVAIL and USED bits differ from those of its chain (2.8.6)."""
    LENGTH_OVERFLOW = "length-overflow"
    """The buffers add up to more than 2^32 bytes (2.7.5.2)."""
    FAULT = "fault"
    """A descriptor could not be read."""


class Breach(Enum):
    """Rules that a chain broke without ending the walk. Devices differ in what they accept."""

    WRITABLE_BEFORE_READABLE = "writable-before-readable"
    """A device-readable buffer behind a device-writable one (2.7.4.2)."""
    ZERO_LENGTH = "zero-length"
    """A buffer of no bytes; many devices refuse it."""
    ADDRESS_OVERFLOW = "address-overflow"
    """A buffer that reaches behind the 64-bit address space."""
    LONGER_THAN_QUEUE = "longer-than-queue"
    """More buffers than the queue size (2.7.5.3.1); drivers do it with indirect tables."""
    DUPLICATE_HEAD = "duplicate-head"
    """The head was published before, and not given back since (2.7.13)."""
    DUPLICATE_ID = "duplicate-id"
    """In a packed ring: the buffer id of another chain that was not given back (2.8.6)."""


class Remark(msgspec.Struct, frozen=True):
    """A broken rule and its first place, a position in :attr:`Chain.descriptors`."""

    breach: Breach
    position: int


class Chain(msgspec.Struct, frozen=True):
    """A descriptor chain from its head, as far as it could be followed.

    ``descriptors`` are in the order of the walk, those that refer to an indirect table included;
    :meth:`buffers` leaves these out. The byte counts are of the buffers seen.

    ``stopped_at`` is the index of the last descriptor looked at or for: the one that came a second
    time, that does not exist or that could not be read, or else the last of ``descriptors``. It is
    an index into the indirect table at ``stopped_in``, or into the ring's own if that is None.
    ``fault`` is set for FAULT. ``detail`` says in words why the walk ended, empty for COMPLETE.
    """

    head: int
    end: ChainEnd
    descriptors: tuple[Descriptor, ...]
    readable_bytes: int
    writable_bytes: int
    stopped_at: int
    stopped_in: int | None = None
    fault: Unreadable | None = None
    detail: str = ""
    remarks: tuple[Remark, ...] = ()

    def buffers(self, *, writable: bool) -> Iterator[Descriptor]:
        """Yield the buffers that the device may write, or those it may read, in order."""
        wanted = DESC_F_WRITE if writable else 0
        for descriptor in self.descriptors:
            if descriptor.flags & (DESC_F_WRITE | DESC_F_INDIRECT) == wanted:
                yield descriptor


def walk_chain(
    table: DescriptorTable[Any], head: int, space: AddressSpace[Any], *, limit: int = 0
) -> Chain:
    """Follow a chain from ``head``. Nothing in the memory read can make this raise or run on.

    :param table: the ring's own descriptors (:attr:`SplitRing.table`)
    :param head: index of the first descriptor, as the available ring holds it
    :param space: where the addresses in descriptors lead: the guest's memory as the device sees it
    :param limit: buffers after which the walk is cut; 0 takes the queue size, at least 1,024
    """
    walk = ChainBuilder(
        table.count,
        space,
        limit or max(table.count, USUAL_CHAIN_LIMIT),
        big_endian=table.big_endian,
    )
    return walk.result(head, walk.follow(table, head, None))


def read_buffers(
    chain: Chain, space: AddressSpace[Any], size: int, *, writable: bool = False
) -> bytes:
    """Return the first ``size`` bytes of a chain's device-readable (or writable) buffers.

    Framing is the driver's choice (2.7.4), so a header may lie in several buffers. Returns fewer
    bytes if the buffers hold fewer.

    :raises MemoryFault: if a byte is not there
    :raises AddressOverflowError: if a buffer leaves the address space
    """
    data = b""
    for buffer in chain.buffers(writable=writable):
        if len(data) == size:
            break
        data += space.read(buffer.address, min(buffer.length, size - len(data)))
    return data


class ChainBuilder:
    """The state of one walk, in a split or a packed ring.

    :param size: the queue size
    :param space: where the addresses in descriptors lead
    :param limit: buffers after which the walk is cut
    :param big_endian: the byte order of indirect tables
    """

    def __init__(
        self, size: int, space: AddressSpace[Any], limit: int, *, big_endian: bool = False
    ) -> None:
        self.size = size
        self.space = space
        self.limit = limit
        self.big_endian = big_endian
        self.descriptors: list[Descriptor] = []
        self.readable_bytes = 0
        self.writable_bytes = 0
        self.buffers = 0
        self.write_seen = False
        self.stopped_at = 0
        self.stopped_in: int | None = None
        self.fault: Unreadable | None = None
        self.detail = ""
        self.remarks: dict[Breach, int] = {}

    def follow(self, table: DescriptorTable[Any], index: int, where: int | None) -> ChainEnd:
        """Walk ``table`` from ``index``; ``where`` is its address if it is an indirect one."""
        self.stopped_in = where
        seen: set[int] = set()
        while True:
            self.stopped_at = index
            if index >= table.count:
                return self.stop(ChainEnd.INDEX_RANGE, f"the table has {table.count} descriptors")
            if index in seen:
                return self.stop(ChainEnd.LOOP, "the chain was there before")
            if self.buffers >= self.limit:
                return self.too_long()
            try:
                address, length, flags, following = table[index]
            except (MemoryFault, AddressOverflowError) as error:
                return self.failed(error)
            seen.add(index)
            descriptor = Descriptor(index, address, length, flags, following, where)
            if flags & DESC_F_INDIRECT:
                self.descriptors.append(descriptor)
                return self.enter(address, length, flags)
            end = self.take(descriptor)
            if end is not None or not flags & DESC_F_NEXT:
                return end or ChainEnd.COMPLETE
            index = following

    def follow_all(self, table: DescriptorTable[Any], where: int) -> ChainEnd:
        """Take an indirect table of a packed ring: all of it, in its order (2.8.7)."""
        self.stopped_in = where
        for index in range(table.count):
            self.stopped_at = index
            if self.buffers >= self.limit:
                return self.too_long()
            try:
                address, length, number, flags = table[index]
            except (MemoryFault, AddressOverflowError) as error:
                return self.failed(error)
            # Its words lie as in the ring: the buffer id comes before the flags.
            descriptor = Descriptor(index, address, length, flags, number, where)
            if flags & DESC_F_INDIRECT:
                self.descriptors.append(descriptor)
                return self.stop(ChainEnd.NESTED_INDIRECT, "it refers to a further indirect table")
            end = self.take(descriptor)
            if end is not None:
                return end
        return ChainEnd.COMPLETE

    def take(self, descriptor: Descriptor) -> ChainEnd | None:
        """Add a buffer; return how the walk ends if it cannot go on after it."""
        self.descriptors.append(descriptor)
        self.add_buffer(descriptor.address, descriptor.length, descriptor.flags)
        if self.readable_bytes + self.writable_bytes > MAX_CHAIN_BYTES:
            return self.stop(ChainEnd.LENGTH_OVERFLOW, "the buffers exceed 2^32 bytes")
        return None

    def too_long(self) -> ChainEnd:
        """End the walk at its limit."""
        return self.stop(ChainEnd.TOO_LONG, f"the limit is {self.limit} buffers")

    def failed(self, error: Unreadable) -> ChainEnd:
        """End the walk where a descriptor cannot be read."""
        self.fault = error.with_traceback(None)  # or it would keep our frames alive
        return self.stop(ChainEnd.FAULT, str(error))

    def add_buffer(self, address: int, length: int, flags: int) -> None:
        """Count the buffer just appended, and note what is wrong with it."""
        self.buffers += 1
        if flags & DESC_F_WRITE:
            self.writable_bytes += length
            self.write_seen = True
        else:
            self.readable_bytes += length
            if self.write_seen:
                self.remark(Breach.WRITABLE_BEFORE_READABLE)
        if not length:
            self.remark(Breach.ZERO_LENGTH)
        if address + length > SPACE_END:
            self.remark(Breach.ADDRESS_OVERFLOW)
        if self.buffers > self.size:
            self.remark(Breach.LONGER_THAN_QUEUE)

    def enter(self, address: int, length: int, flags: int, *, packed: bool = False) -> ChainEnd:
        """Go on in the indirect table that the descriptor just appended refers to."""
        if self.stopped_in is not None:
            return self.stop(ChainEnd.NESTED_INDIRECT, "it refers to a further indirect table")
        if flags & DESC_F_NEXT:
            return self.stop(ChainEnd.INDIRECT_AND_NEXT, "it has both flags")
        if not length:
            return self.stop(ChainEnd.EMPTY_TABLE, "its indirect table has no bytes")
        if length % DESC_SIZE:
            return self.stop(
                ChainEnd.BAD_TABLE_LENGTH,
                f"its indirect table has {length} bytes, not a multiple of {DESC_SIZE}",
            )
        count = length // DESC_SIZE
        table = DescriptorTable(self.space, address, count, big_endian=self.big_endian)
        return self.follow_all(table, address) if packed else self.follow(table, 0, address)

    def remark(self, breach: Breach) -> None:
        """Note the first descriptor that breaks a rule: the one just appended."""
        self.remarks.setdefault(breach, len(self.descriptors) - 1)

    def stop(self, end: ChainEnd, reason: str) -> ChainEnd:
        """Keep in words why the walk ends here."""
        place = "" if self.stopped_in is None else f" of the indirect table at {self.stopped_in:#x}"
        self.detail = f"stopped at descriptor {self.stopped_at}{place}: {reason}"
        return end

    def result(self, head: int, end: ChainEnd) -> Chain:
        return Chain(
            head=head,
            end=end,
            descriptors=tuple(self.descriptors),
            readable_bytes=self.readable_bytes,
            writable_bytes=self.writable_bytes,
            stopped_at=self.stopped_at,
            stopped_in=self.stopped_in,
            fault=self.fault,
            detail=self.detail,
            remarks=tuple(Remark(breach, position) for breach, position in self.remarks.items()),
        )
