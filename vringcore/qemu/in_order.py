"""Chains in flight of a ring with VIRTIO_F_IN_ORDER, as QEMU records them.

With that feature ``VirtQueue.used_elems`` has an entry for each chain that was taken, at the slot
of the first index (split) or descriptor (packed) that it takes. A chain that the device model is
done with is marked there, and given back once all before it are (hw/virtio/virtio.c). Without the
feature that array is scratch memory and says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore import ring_math
from vringcore.errors import CorruptDataError
from vringcore.model.queues import Ordered
from vringcore.model.values import Absent
from vringcore.qemu.absence import attempt
from vringcore.qemu.element_structs import Element, UsedElements

if TYPE_CHECKING:
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views


def ordered(views: Views, raw: RawQueue, *, packed: bool) -> tuple[Ordered, ...] | Absent | None:
    """Return what QEMU has taken and not given back, oldest first; None if it keeps no record.

    10.0 does, 7.2 does not.

    :param raw: a queue of a device whose driver accepted VIRTIO_F_IN_ORDER
    """
    return attempt(lambda: _walk(views, raw, packed=packed))


def _walk(views: Views, raw: RawQueue, *, packed: bool) -> tuple[Ordered, ...] | None:
    queue = raw.view
    size, elements = queue.num, views.at(UsedElements, queue.address_).used_elems
    if views.at(Element, elements).in_order_filled is None:
        return None
    stride = views.binding(Element).type.size
    left = _in_flight(raw, packed=packed)
    slot = ring_math.slot(queue.used_idx, size) if size else 0
    found = []
    while left > 0:
        element = views.at(Element, elements + slot * stride)
        count = element.ndescs
        if not 1 <= count <= left:
            raise CorruptDataError(
                "the record of chains that were taken in order",
                where=f"VirtQueue.used_elems[{slot}] at {element.address_:#x}",
                seen=f"{count} descriptors",
                expected=f"1 to {left}, which is what is in flight from there on",
            )
        filled = bool(element.in_order_filled)
        written = element.len_ if filled else None
        found.append(Ordered(element.index, count, filled, written))
        left -= count
        slot = ring_math.slot(slot + count, size)
    return tuple(found)


def _in_flight(raw: RawQueue, *, packed: bool) -> int:
    """Return how many descriptors (split: chains, each with one in ``ndescs``) are in flight."""
    if packed:
        from vringcore.qemu.packed import popped

        return popped(raw)
    queue = raw.view
    count = ring_math.distance(queue.last_avail_idx, queue.used_idx)
    if count > queue.num:
        raise CorruptDataError(
            "the indices of a ring",
            where=f"VirtQueue at {queue.address_:#x}",
            seen=f"last_avail_idx {queue.last_avail_idx}, used_idx {queue.used_idx}",
            expected=f"at most {queue.num} chains between them",
        )
    return count


def done(entries: tuple[Ordered, ...] | Absent | None) -> int:
    """Return how many descriptors the device model is done with, of chains not given back."""
    if not isinstance(entries, tuple):
        return 0
    return sum(entry.ndescs for entry in entries if entry.filled)
