"""Packed rings as QEMU has them: positions, event suppression, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.model.queues import Counts, EventSuppression, PackedGuest
from vringcore.model.values import Absent
from vringcore.qemu.absence import CORRUPT, absence_of, attempt
from vringcore.qemu.virtqueues import both, unidentified
from vringcore.virtio import counts
from vringcore.virtio.constants import EVENT_DESC
from vringcore.virtio.packed import (
    PackedAddresses,
    PackedRing,
    Position,
    count_available,
    read_event,
)

if TYPE_CHECKING:
    from vringcore.memory.space import AddressSpace
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views


def packed_ring(views: Views, raw: RawQueue) -> PackedRing[Any]:
    """Return the reader of a packed ring through QEMU's own mapping of it, or through an IOMMU.

    :param raw: a queue whose ring is ``ready``
    :raises CorruptDataError: if ``vring.num`` is impossible
    :raises MemoryFault: if the VirtQueue itself is not in the core
    """
    place = raw.place
    assert not isinstance(place.desc, Absent)
    assert not isinstance(place.avail, Absent)
    assert not isinstance(place.used, Absent)
    return PackedRing(
        views.space if place.space is None else place.space,
        PackedAddresses(place.desc, place.avail, place.used),
        raw.view.num,
    )


def available_position(raw: RawQueue) -> Position:
    """Return where QEMU will look for the next available descriptor.

    :raises CorruptDataError: if that is behind the end of the ring
    :raises LayoutMissingError: if this build knows no packed rings
    """
    view = raw.view
    return _position(raw, "last_avail_idx", view.last_avail_idx, wrap=view.last_avail_wrap_counter)


def used_position(raw: RawQueue) -> Position:
    """Return where QEMU will write the next used descriptor.

    :raises CorruptDataError: if that is behind the end of the ring
    :raises LayoutMissingError: if this build knows no packed rings
    """
    return _position(raw, "used_idx", raw.view.used_idx, wrap=raw.view.used_wrap_counter)


def _position(raw: RawQueue, name: str, slot: int, *, wrap: bool | None) -> Position:
    size = raw.view.num
    if wrap is None or slot >= max(size, 1):
        raise CorruptDataError(
            "a position in a packed ring",
            where=f"VirtQueue.{name} at {raw.view.address_:#x}",
            seen=f"slot {slot}" if wrap is not None else "no wrap counter in this build",
            expected=f"a slot below {size}, with a wrap counter",
        )
    return Position(slot, wrap)


def popped(raw: RawQueue) -> int:
    """Return how many descriptors QEMU took and has not given back.

    :raises CorruptDataError: if the two positions cannot both be true
    """
    size = raw.view.num
    if not size:
        return 0
    ahead = available_position(raw).since(used_position(raw), size)
    if ahead > size:
        raise CorruptDataError(
            "the positions of a packed ring",
            where=f"VirtQueue at {raw.view.address_:#x}",
            seen=f"last_avail_idx {raw.view.last_avail_idx}, used_idx {raw.view.used_idx}",
            expected=f"at most {size} descriptors between them",
        )
    return ahead


def packed_guest(views: Views, raw: RawQueue) -> PackedGuest:
    """Read the event suppression structures, each on its own."""

    space: AddressSpace[Any] = views.space if raw.place.space is None else raw.place.space

    def event(base: int | Absent) -> EventSuppression | Absent:
        if isinstance(base, Absent):
            return base
        found = attempt(lambda: read_event(space, base))
        if isinstance(found, Absent):
            return found
        at = found.position
        return EventSuppression(found.off_wrap, at.slot, at.wrap, found.flags, found.name)

    return PackedGuest(event(raw.place.avail), event(raw.place.used))


def packed_counts(
    views: Views, raw: RawQueue, guest: PackedGuest, identified: int | None
) -> Counts:
    """Return the counts of a packed queue: ``unseen`` in chains, the others in descriptors.

    :param identified: how many of the descriptors in use belong to requests that were found; None
        if they were not looked for
    """
    in_use = attempt(lambda: raw.view.inuse)
    count = attempt(lambda: popped(raw))
    return Counts(
        unseen=_unseen(views, raw),
        popped=count,
        in_use=in_use,
        unidentified=unidentified(in_use, identified),
        leaked=both(count, in_use, counts.leaked),
        past_used_event=_past_used_event(raw, guest.driver_event),
    )


def _unseen(views: Views, raw: RawQueue) -> int | Absent:
    if raw.place.missing is not None:
        return raw.place.missing
    try:
        return count_available(packed_ring(views, raw), available_position(raw))
    except VringcoreError as error:
        return absence_of(error)


def _past_used_event(raw: RawQueue, event: EventSuppression | Absent) -> int | Absent | None:
    """Return how far QEMU is past the descriptor at which the driver wants an interrupt."""
    if isinstance(event, Absent):
        return event
    if event.flags != EVENT_DESC:
        return None
    size = attempt(lambda: raw.view.num)
    if isinstance(size, Absent):
        return size
    if event.slot >= size:
        return Absent(CORRUPT, None, f"the driver asks for an event at slot {event.slot} of {size}")
    used = attempt(lambda: used_position(raw))
    if isinstance(used, Absent):
        return used
    ahead = used.since(Position(event.slot, event.wrap), size)
    return ahead if ahead <= size else 0  # the driver may ask for an interrupt further on
