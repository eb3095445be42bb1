"""A split virtqueue: descriptor table, available ring, used ring (VirtIO 1.3, 2.7)."""

from __future__ import annotations

from functools import cached_property
from struct import Struct
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import msgspec

from vringcore import ring_math
from vringcore.errors import AddressOverflowError, CorruptDataError, MemoryFault
from vringcore.virtio import constants as c

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vringcore.memory.space import AddressSpace
    from vringcore.virtio.descriptors import Descriptor, DescriptorTable

A = TypeVar("A", bound=int)
T = TypeVar("T")

Unreadable = MemoryFault | AddressOverflowError
"""What a part that could not be read leaves in place of its value."""

_UINT16 = {False: Struct("<H"), True: Struct(">H")}
_HEADER = {False: Struct("<HH"), True: Struct(">HH")}
_USED_ENTRY = {False: Struct("<II"), True: Struct(">II")}


class RingAddresses(msgspec.Struct, frozen=True):
    """Where the three parts of a split ring lie, all in one address space."""

    descriptors: int
    available: int
    used: int


class Indices(msgspec.Struct, frozen=True):
    """The shared words of a split ring; each is there, or the error says why it is not.

    ``used_event`` and ``avail_event`` are None unless VIRTIO_F_EVENT_IDX was negotiated.
    """

    avail_flags: int | Unreadable
    avail_idx: int | Unreadable
    used_event: int | Unreadable | None
    used_flags: int | Unreadable
    used_idx: int | Unreadable
    avail_event: int | Unreadable | None


class AvailEntry(msgspec.Struct, frozen=True, gc=False):
    """A published chain: free-running index, slot of the available ring, head it holds."""

    idx: int
    slot: int
    head: int


class UsedEntry(msgspec.Struct, frozen=True, gc=False):
    """A completion: free-running index, slot of the used ring, head, bytes the device wrote."""

    idx: int
    slot: int
    id: int
    length: int


class SplitRing(Generic[A]):
    """Reads a split ring; nothing is read before it is asked for, and nothing is kept but the
    descriptor table.

    :param space: where the ring lies; what its descriptors point to may be in another space
    :param addresses: the three parts in ``space``
    :param size: queue size, 1 to 32768
    :param event_idx: whether VIRTIO_F_EVENT_IDX was negotiated
    :param big_endian: as a legacy driver of a big-endian guest writes (2.7.3)
    :raises CorruptDataError: if ``size`` is outside 1 to 32768
    """

    def __init__(
        self,
        space: AddressSpace[A],
        addresses: RingAddresses,
        size: int,
        *,
        event_idx: bool,
        big_endian: bool = False,
    ) -> None:
        if not 1 <= size <= c.MAX_QUEUE_SIZE:
            raise CorruptDataError(
                "a split virtqueue has an impossible size",
                where=f"the ring at {addresses.descriptors:#x}",
                seen=f"{size} descriptors",
                expected=f"1 to {c.MAX_QUEUE_SIZE}",
            )
        self.space = space
        self.addresses = addresses
        self.size = size
        self.event_idx = event_idx
        self.big_endian = big_endian

    @cached_property
    def table(self) -> DescriptorTable[A]:
        """The descriptor table."""
        from vringcore.virtio.descriptors import DescriptorTable

        return DescriptorTable(
            self.space,
            cast("A", self.addresses.descriptors),
            self.size,
            big_endian=self.big_endian,
        )

    def available_header(self) -> tuple[int, int]:
        """Return ``flags`` and ``idx`` of the available ring (2.7.6)."""
        return self._header(self.addresses.available)

    def used_header(self) -> tuple[int, int]:
        """Return ``flags`` and ``idx`` of the used ring (2.7.8)."""
        return self._header(self.addresses.used)

    def used_event(self) -> int:
        """Return ``used_event``, the driver's word behind the available ring (2.7.7)."""
        return self._uint16(self.addresses.available, self.size * c.AVAIL_ENTRY_SIZE)

    def avail_event(self) -> int:
        """Return ``avail_event``, the device's word behind the used ring (2.7.10)."""
        return self._uint16(self.addresses.used, self.size * c.USED_ENTRY_SIZE)

    def available(self) -> tuple[int, ...]:
        """Return the heads in the slots of the available ring, slot 0 first."""
        data = self._read(
            self.addresses.available + c.RING_HEADER_SIZE, self.size * c.AVAIL_ENTRY_SIZE
        )
        return tuple(head for (head,) in _UINT16[self.big_endian].iter_unpack(data))

    def used(self) -> tuple[tuple[int, int], ...]:
        """Return the slots of the used ring as (head, bytes written), slot 0 first."""
        data = self._read(self.addresses.used + c.RING_HEADER_SIZE, self.size * c.USED_ENTRY_SIZE)
        return tuple(_USED_ENTRY[self.big_endian].iter_unpack(data))

    def descriptors(self) -> tuple[Descriptor, ...]:
        """Return the whole descriptor table."""
        return self.table.descriptors()

    def indices(self) -> Indices:
        """Return the shared words; one that cannot be read does not hide the others."""
        avail_flags, avail_idx = self._kept_header(self.available_header)
        used_flags, used_idx = self._kept_header(self.used_header)
        return Indices(
            avail_flags=avail_flags,
            avail_idx=avail_idx,
            used_event=kept(self.used_event) if self.event_idx else None,
            used_flags=used_flags,
            used_idx=used_idx,
            avail_event=kept(self.avail_event) if self.event_idx else None,
        )

    def breaches(self) -> tuple[str, ...]:
        """Return the rules of 2.7 that size and addresses break, in words.

        A device may work all the same; none of these stops a read.
        """
        found = []
        if self.size & (self.size - 1):
            found.append(f"the queue size {self.size} is not a power of 2")
        for part, address, alignment in (
            ("descriptor table", self.addresses.descriptors, c.DESC_ALIGN),
            ("available ring", self.addresses.available, c.AVAIL_ALIGN),
            ("used ring", self.addresses.used, c.USED_ALIGN),
        ):
            if address % alignment:
                found.append(f"the {part} at {address:#x} is not aligned to {alignment} bytes")
        return tuple(found)

    def _header(self, ring: int) -> tuple[int, int]:
        flags, idx = _HEADER[self.big_endian].unpack(self._read(ring, c.RING_HEADER_SIZE))
        return flags, idx

    @staticmethod
    def _kept_header(
        read: Callable[[], tuple[int, int]],
    ) -> tuple[int | Unreadable, int | Unreadable]:
        header = kept(read)
        return header if isinstance(header, tuple) else (header, header)

    def _uint16(self, ring: int, entries_size: int) -> int:
        data = self._read(ring + c.RING_HEADER_SIZE + entries_size, c.EVENT_SIZE)
        return int.from_bytes(data, "big" if self.big_endian else "little")

    def _read(self, address: int, size: int) -> bytes:
        return self.space.read(cast("A", address), size)


def kept(read: Callable[[], T]) -> T | Unreadable:
    """Return what ``read`` returns, or the error that says why it cannot be read."""
    try:
        return read()
    except (MemoryFault, AddressOverflowError) as error:
        return error.with_traceback(None)  # a kept traceback would keep its frames alive


def available_window(ring: Sequence[int], start_idx: int, stop_idx: int) -> list[AvailEntry]:
    """Return the entries of the available ring from ``start_idx`` up to ``stop_idx``.

    :param ring: as :meth:`SplitRing.available` returns it
    :param start_idx: free-running index of the first entry, such as the device's
        ``last_avail_idx``
    :param stop_idx: free-running index behind the last entry, such as ``avail.idx``
    :returns: oldest first; of a distance larger than the ring only the newest entries, the others
        are overwritten
    """
    return [AvailEntry(idx, slot, ring[slot]) for idx, slot in _window(ring, start_idx, stop_idx)]


def used_window(ring: Sequence[tuple[int, int]], start_idx: int, stop_idx: int) -> list[UsedEntry]:
    """Return the entries of the used ring from ``start_idx`` up to ``stop_idx``.

    As :func:`available_window`, of what :meth:`SplitRing.used` returns; ``used.idx`` and
    ``used_event`` are the usual ends.
    """
    return [UsedEntry(idx, slot, *ring[slot]) for idx, slot in _window(ring, start_idx, stop_idx)]


def _window(ring: Sequence[object], start_idx: int, stop_idx: int) -> list[tuple[int, int]]:
    size = len(ring)
    steps = min(ring_math.distance(stop_idx, start_idx), size)
    indices = (ring_math.advance(stop_idx, -back) for back in range(steps, 0, -1))
    return [(idx, ring_math.slot(idx, size)) for idx in indices]
