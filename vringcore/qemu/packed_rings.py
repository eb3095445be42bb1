"""Packed rings and their chains as the model has them, and requests joined to their descriptors."""

from __future__ import annotations

from struct import iter_unpack
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.rings import PackedRing, PackedSlot
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.element_structs import Element
from vringcore.qemu.packed import available_position, packed_guest, used_position
from vringcore.qemu.rings import chain_model, descriptor_model
from vringcore.virtio import packed
from vringcore.virtio.constants import EVENT_DESC, packed_flag_names
from vringcore.virtio.packed_search import ChainFinder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.memory.space import AddressSpace
    from vringcore.model.queues import PackedGuest
    from vringcore.model.requests import InFlight
    from vringcore.model.rings import Chain
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views
    from vringcore.virtio.packed import PackedChain, PackedDescriptor, Position

MAX_ADDRESSES = 1024
"""Buffers of an element: QEMU's VIRTQUEUE_MAX_SIZE."""

NOT_KNOWN = Absent("run-by-vhost")

OVERWRITTEN = "overwritten"
"""``chain_end`` of a request whose descriptors are no longer in the ring."""


def ring_model(
    views: Views, ring: packed.PackedRing[HostAddress], raw: RawQueue, *, stale: bool = False
) -> PackedRing:
    """Return the whole of a packed ring, the positions marked at the slots they stand at.

    :param stale: QEMU's own positions say nothing about now: none is marked, no state told
    """
    guest = packed_guest(views, raw)
    slots = attempt(ring.descriptors)
    used: Position | Absent = NOT_KNOWN
    avail: Position | Absent = NOT_KNOWN
    if not stale:
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
    """Finds the descriptors of requests in a packed ring, by what their elements have mapped.

    QEMU 7.2 takes the buffer id of a chain's first slot for the element's index, 10.0 that of its
    last.

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
        self._finder = ChainFinder(ring, avail, memory)

    def joined(self, request: InFlight) -> InFlight:
        """Return a request with its descriptors, or told that the ring has them no more."""
        addresses = self._addresses(request)
        if addresses is None:
            return request
        found = self._finder.find(request.head, request.ndescs, addresses)
        if found is None and not self._finder.conclusive:
            return request
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
        if addresses is None:
            return None
        return self._finder.find(request.head, request.ndescs, addresses)

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
