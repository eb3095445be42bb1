"""Finding chains that a device has taken in a packed ring that may have lost them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.errors import AddressOverflowError, MemoryFault
from vringcore.virtio.chain import ChainEnd
from vringcore.virtio.constants import DESC_F_INDIRECT, DESC_F_NEXT
from vringcore.virtio.packed import walk_packed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.memory.space import AddressSpace
    from vringcore.virtio.packed import PackedChain, PackedDescriptor, PackedRing, Position


BUDGET = 1 << 22
"""Descriptors and places that one finder looks at; a sound ring needs a fraction of it."""


class ChainFinder:
    """Finds chains by what a device knows of them.

    After completions out of order they lie anywhere, and used descriptors or new chains may have
    taken their slots; what is left of former chains lies there, too. So the whole ring is searched,
    from the newest descriptor to the oldest.

    :param avail: where the device will look for the next available descriptor
    :param space: where the addresses in descriptors lead
    """

    def __init__(self, ring: PackedRing[Any], avail: Position, space: AddressSpace[Any]) -> None:
        self._ring = ring
        self._avail = avail
        self._space = space
        self._left = BUDGET
        self._by_id: dict[int, list[int]] = {}
        self._slots: tuple[PackedDescriptor, ...] = ()
        try:
            self._slots = ring.descriptors()
        except (MemoryFault, AddressOverflowError):
            return
        for back in range(1, ring.size + 1):
            slot = self._slots[avail.before(back, ring.size).slot]
            self._by_id.setdefault(slot.id, []).append(back)

    @property
    def conclusive(self) -> bool:
        """Whether a chain that was not found is not there.

        It is not so where the ring cannot be read, or is made to cost more than :data:`BUDGET`.
        """
        return bool(self._slots) and self._left > 0

    def find(self, number: int, count: int, addresses: Sequence[int]) -> PackedChain | None:
        """Return a chain, None if it was not found: the ring has it no more (:attr:`conclusive`).

        It is one of which the first or the last slot has the id, with as many slots, whose bits are
        those of the round that they were published in, and with these buffers.

        :param number: its buffer id, as the first or the last slot has it
        :param count: how many slots it takes
        :param addresses: of its buffers, in order; there may be some between them: devices map a
            buffer in pieces
        """
        for back in self._candidates(number, count):
            if self._left <= 0:
                break
            self._left -= 1
            start = self._avail.before(back, self._ring.size)
            if self._is_chain(start, count):
                found = walk_packed(self._ring, start, self._space)
                self._left -= len(found.chain.descriptors)
                if _fits(found, addresses):
                    return found
        return None

    def _candidates(self, number: int, count: int) -> Iterator[int]:
        """Yield how far back the chain may begin: a slot with its id may be its first or last."""
        for back in self._by_id.get(number, ()):
            if back >= count:
                yield back
            if count > 1 and back + count - 1 <= self._ring.size:
                yield back + count - 1

    def _is_chain(self, start: Position, count: int) -> bool:
        position = start
        for step in range(count):
            slot = self._slots[position.slot]
            goes_on = bool(slot.flags & DESC_F_NEXT)
            if not slot.is_available(position.wrap) or goes_on != (step < count - 1):
                return False
            position = position.advanced(1, self._ring.size)
        return True


def _fits(found: PackedChain, addresses: Sequence[int]) -> bool:
    """Tell whether a chain's buffers are these; where a table cannot be read, what comes before."""
    if found.chain.end not in (ChainEnd.COMPLETE, ChainEnd.FAULT):
        return False
    known = iter(addresses)
    return all(
        each.address in known
        for each in found.chain.descriptors
        if not each.flags & DESC_F_INDIRECT
    )
