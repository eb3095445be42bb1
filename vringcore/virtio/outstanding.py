"""What the rings alone tell of chains that were published and not given back.

Whoever runs a ring keeps to itself how far it has taken from it. What lies in guest memory tells
how many chains are with the device or on their way to it, and often which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore import ring_math
from vringcore.errors import CorruptDataError
from vringcore.virtio.packed import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.virtio.packed import PackedDescriptor


def candidates(
    available: Sequence[int], used: Sequence[tuple[int, int]], avail_idx: int, used_idx: int
) -> list[int]:
    """Return the heads of a split ring that may be outstanding, oldest publication first.

    A head was given back if it was used where the device came after its publication. A chain that
    overtook others was used before that place, and stays a candidate; one whose publication was
    overwritten is none. So there may be more or fewer than are outstanding; as many as those is
    what a driver and a device without faults leave almost always.

    :param available: as :meth:`SplitRing.available` returns it
    :param used: as :meth:`SplitRing.used` returns it
    """
    size = len(available)
    count = ring_math.distance(avail_idx, used_idx)
    last_use: dict[int, int] = {}
    for back in range(size, 0, -1):
        head, _ = used[ring_math.slot(ring_math.advance(used_idx, -back), size)]
        last_use[head] = -count - back
    published: dict[int, int] = {}
    for back in range(size, 0, -1):
        published[available[ring_math.slot(ring_math.advance(avail_idx, -back), size)]] = -back
    found = [
        (place, head)
        for head, place in published.items()
        if head not in last_use or last_use[head] < place
    ]
    return [head for _, head in sorted(found)]


class PackedSpan(msgspec.Struct, frozen=True):
    """How many descriptors of a packed ring are outstanding: ``most``, fewer unless ``exact``.

    ``driver`` is where the driver will make the next one available.
    """

    driver: Position
    most: int
    exact: bool


def packed_outstanding(
    slots: Sequence[PackedDescriptor], device_used: Position | None = None
) -> PackedSpan:
    """Return what the two flag bits of a packed ring tell of its descriptors (VirtIO 1.3, 2.8.1).

    The AVAIL bit changes with each round of the driver, and a device writes it as it was; so the
    one place where it changes is the driver's. A device marks the first slot of a chain as used
    and skips as many as the chain has: what follows its last mark may be skipped, or outstanding.

    :param slots: the whole ring, slot 0 first
    :param device_used: where the device will write its next used descriptor, if that is known
    :raises CorruptDataError: if the AVAIL bit changes more than once
    """
    size = len(slots)
    driver = _driver_position(slots)
    if device_used is not None:
        return PackedSpan(driver, min(driver.since(device_used, size), size), True)
    most = 0
    while most < size:
        slot = slots[driver.before(most + 1, size).slot]
        if slot.avail == slot.used:
            break
        most += 1
    return PackedSpan(driver, most, not most)


def _driver_position(slots: Sequence[PackedDescriptor]) -> Position:
    changes = [i for i in range(1, len(slots)) if slots[i].avail != slots[i - 1].avail]
    if not changes:
        # All of one round: the driver is about to begin the next.
        return Position(0, not slots[0].avail)
    if len(changes) > 1:
        raise CorruptDataError(
            "a packed ring with more than one place where the AVAIL bit changes",
            where=f"slots {changes[0]} and {changes[1]}",
            seen=f"{len(changes)} changes",
            expected="at most one: the driver's position",
            hint="the driver may have been writing a chain",
        )
    return Position(changes[0], slots[0].avail)
