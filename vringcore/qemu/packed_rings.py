"""Packed rings and their chains as the model has them, and requests joined to their descriptors."""

from __future__ import annotations

from struct import iter_unpack
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.queues import PackedRing, PackedSlot
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.element_structs import Element
from vringcore.qemu.packed import available_position, packed_guest, used_position
from vringcore.qemu.rings import chain_model, descriptor_model
from vringcore.virtio import packed
from vringcore.virtio.chain import ChainEnd
from vringcore.virtio.constants import DESC_F_INDIRECT, DESC_F_NEXT, EVENT_DESC, packed_flag_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.memory.space import AddressSpace
    from vringcore.model.queues import Chain, PackedGuest
    from vringcore.model.requests import InFlight
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views
    from vringcore.virtio.packed import PackedChain, PackedDescriptor, Position

MAX_ADDRESSES = 1024
"""Buffers of an element: QEMU's VIRTQUEUE_MAX_SIZE."""

OVERWRITTEN = "overwritten"
"""``chain_end`` of a request whose descriptors are no longer in the ring."""


def ring_model(views: Views, ring: packed.PackedRing[HostAddress], raw: RawQueue) -> PackedRing:
    """Return the whole of a packed ring, the positions marked at the slots they stand at."""
    guest = packed_guest(views, raw)
    slots = attempt(ring.descriptors)
    used, avail = attempt(lambda: used_position(raw)), attempt(lambda: available_position(raw))
    states: dict[int, str] = {}
    if not isinstance(slots, Absent) and not isinstance(used, Absent):
        states = _states(slots, used, avail, ring.size) if not isinstance(avail, Absent) else {}
    marks = _marks(guest, used, avail, ring.size)
    return PackedRing(
        descriptor_address=Address(ring.addresses.descriptors),
        driver_event_address=Address(ring.addresses.driver_event),
        device_event_address=Address(ring.addresses.device_event),
        descriptors=slots
        if isinstance(slots, Absent)
        else tuple(
            PackedSlot(
                slot=each.slot,
                address=Address(each.address),
                length=each.length,
                id=each.id,
                flags=each.flags,
                flag_names=packed_flag_names(each.flags),
                state=states.get(each.slot, ""),
                marks=marks.get(each.slot, ()),
            )
            for each in slots
        ),
        guest=guest,
    )


def _states(
    slots: tuple[PackedDescriptor, ...], used: Position, avail: Position, size: int
) -> dict[int, str]:
    """Return what each slot is, by its bits and by where the device stands."""
    taken = avail.since(used, size)
    if taken > size:
        return {}  # positions that cannot both be true say nothing of any slot
    states = {}
    position = used
    for step in range(size):
        slot = slots[position.slot]
        if step < taken:
            state = "taken"
        elif slot.is_available(position.wrap):
            state = "available"
        elif slot.is_used(not position.wrap):
            state = "used"
        else:
            state = "left-over"
        states[position.slot] = state
        position = position.advanced(1, size)
    return states


def _marks(
    guest: PackedGuest, used: Position | Absent, avail: Position | Absent, size: int
) -> dict[int, tuple[str, ...]]:
    places: dict[str, int] = {}
    if not isinstance(avail, Absent):
        places["last_avail_idx"] = avail.slot
    if not isinstance(used, Absent):
        places["used_idx"] = used.slot
    for name in ("driver_event", "device_event"):
        event = getattr(guest, name)
        if not isinstance(event, Absent) and event.flags == EVENT_DESC and event.slot < size:
            places[name] = event.slot
    marks: dict[int, tuple[str, ...]] = {}
    for name, slot in places.items():
        marks[slot] = (*marks.get(slot, ()), name)
    return marks


def chains_of(
    ring: packed.PackedRing[HostAddress],
    raw: RawQueue,
    in_flight: Iterable[InFlight],
    views: Views,
    memory: AddressSpace[Any],
) -> list[Chain]:
    """Return the chains that are available to QEMU, and those in flight that the ring still has."""
    avail = attempt(lambda: available_position(raw))
    if isinstance(avail, Absent):
        return []
    found = packed.available_chains(ring, avail, memory)
    joiner = Joiner(views, ring, avail, memory)
    found += [chain for each in in_flight if (chain := joiner.chain_of(each)) is not None]
    return [chain_model(each.chain, buffer_id=_number(each)) for each in found]


def _number(found: PackedChain) -> int:
    """Return a chain's buffer id; of one whose end was not found, its first slot's."""
    if found.id is not None or not found.chain.descriptors:
        return found.id or 0
    return found.chain.descriptors[0].next


class Joiner:
    """Finds the descriptors of requests in a packed ring.

    A chain is that of an element if its first or its last slot has the element's index (QEMU 7.2
    takes the id of the first, 10.0 that of the last), if it has as many slots, if their bits are
    those of the round they were published in, and if its buffers are the ones the element has
    mapped. The ring is searched from the newest descriptor to the oldest: after completions out of
    order chains in flight lie anywhere.

    :param avail: where QEMU will look next
    :param memory: where the addresses in descriptors lead
    """

    def __init__(
        self,
        views: Views,
        ring: packed.PackedRing[HostAddress],
        avail: Position,
        memory: AddressSpace[Any],
    ) -> None:
        self._views = views
        self._ring = ring
        self._avail = avail
        self._memory = memory
        self._by_id: dict[int, list[int]] = {}
        slots = attempt(ring.descriptors)
        self._slots = () if isinstance(slots, Absent) else slots
        for back in range(1, len(self._slots) + 1):
            slot = self._slots[avail.before(back, ring.size).slot]
            self._by_id.setdefault(slot.id, []).append(back)

    def joined(self, request: InFlight) -> InFlight:
        """Return a request with its descriptors, or told that the ring has them no more."""
        addresses = self._addresses(request)
        if not self._slots or addresses is None:
            return request
        found = self._find(request, addresses)
        if found is None:
            return msgspec.structs.replace(request, chain_end=OVERWRITTEN)
        return msgspec.structs.replace(
            request,
            chain_end=found.chain.end.value,
            descriptors=tuple(descriptor_model(d, packed=True) for d in found.chain.descriptors),
        )

    def chain_of(self, request: InFlight) -> PackedChain | None:
        """Return a request's chain, None if the ring has it no more."""
        addresses = self._addresses(request)
        return None if addresses is None else self._find(request, addresses)

    def _find(self, request: InFlight, addresses: list[int]) -> PackedChain | None:
        for back in self._candidates(request.head, request.ndescs):
            start = self._avail.before(back, self._ring.size)
            if self._is_chain(start, request.ndescs):
                found = packed.walk_packed(self._ring, start, self._memory)
                if _fits(found, addresses):
                    return found
        return None

    def _candidates(self, index: int, count: int) -> Iterator[int]:
        """Yield how far back a chain of an element may begin: each slot with its id may end it."""
        size = self._ring.size
        for back in self._by_id.get(index, ()):
            if back >= count:
                yield back
            if count > 1 and back + count - 1 <= size:
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

    def _addresses(self, request: InFlight) -> list[int] | None:
        """Return where the buffers of a request's element lie as its driver gave them.

        Those that QEMU may read come first, as in the chain. None if no element is known.
        """
        if request.request is None:
            return None
        # The element is the first member of the request of every device.
        element = self._views.at(Element, request.request.address)
        try:
            if (element.index, element.ndescs) != (request.head, request.ndescs):
                return None
            counts = element.out_num, element.in_num
            if max(counts) > MAX_ADDRESSES:
                return None
            form = ">Q" if self._views.layouts.big_endian else "<Q"
            return [
                address
                for count, array in zip(counts, (element.out_addr, element.in_addr), strict=True)
                for (address,) in iter_unpack(form, self._views.space.read(array, 8 * count))
            ]
        except VringcoreError:
            return None


def _fits(found: PackedChain, addresses: list[int]) -> bool:
    """Tell whether a chain's buffers are among those that an element has mapped, in order.

    An element has more than one for a buffer that does not lie in one piece of QEMU's memory. Where
    an indirect table cannot be read, what comes before it must do.
    """
    if found.chain.end not in (ChainEnd.COMPLETE, ChainEnd.FAULT):
        return False
    mapped = iter(addresses)
    return all(
        each.address in mapped
        for each in found.chain.descriptors
        if not each.flags & DESC_F_INDIRECT
    )
