"""What the guest's driver waits for, where that is, and the block layer's request behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore import ring_math
from vringcore.errors import CorruptDataError
from vringcore.layout.types import Enum
from vringcore.model.driver import DriverRequest
from vringcore.model.rings import PackedRing, SplitRing
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.driver_search import UPPER_HALF, last_used
from vringcore.qemu.driver_structs import (
    ENUMS,
    DescState,
    DescStatePacked,
    DescStateSplit,
    Request,
    VirtioScsiCmd,
)
from vringcore.virtio.constants import ID_BLOCK, ID_SCSI

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vringcore.model.queues import Queue
    from vringcore.qemu.driver_structs import VringVirtqueue
    from vringcore.view.views import Views

REQ_OP_MASK = 0xFF
"""include/linux/blk_types.h: the bits of ``cmd_flags`` that are the operation."""

FIRST_SCSI_REQUESTS = 2
"""VirtIO 1.3, 5.6.2: before it the queues for control and for events."""

NO_TAG = 0xFFFFFFFF
"""BLK_MQ_NO_TAG, as a member of type int shows it in 32 bits."""

STATES = 3
"""include/linux/blk-mq.h: idle, in flight, complete."""


class Side(msgspec.Struct, frozen=True):
    """The two sides of one queue.

    :param ring: Absent where it could not be read
    """

    device_id: int
    queue: Queue
    size: int
    ring: SplitRing | PackedRing | Absent
    driver: VringVirtqueue
    packed: bool


def requests_of(views: Views, side: Side) -> Iterator[DriverRequest]:
    """Yield what the driver waits for, in the order of heads.

    :raises VringcoreError: if the driver's list of it cannot be read
    """
    tokens = dict(_tokens(views, side))
    places = _places(side, {head: descriptors for head, (_, descriptors) in tokens.items()})
    for head, (token, _) in tokens.items():
        yield _request(views, side, head, token, places[head])


def _tokens(views: Views, side: Side) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield heads with what the driver knows each by, and the descriptors that it takes."""
    start = side.driver.packed_desc_state if side.packed else side.driver.desc_state
    if not start:
        raise CorruptDataError("the driver keeps no list of what it waits for", seen=f"{start}")
    kind = _state_type(views, packed=side.packed)
    step = views.binding(kind).type.size
    for head in range(side.size):
        state = views.at(kind, start + head * step)
        if state.data:
            yield head, (int(state.data), state.num if isinstance(state, DescStatePacked) else 1)


def _state_type(
    views: Views, *, packed: bool
) -> type[DescStateSplit | DescStatePacked | DescState]:
    if packed:
        return DescStatePacked
    known = views.layouts.find_definition(DescStateSplit.c_type)
    return DescState if known is None else DescStateSplit


def _places(side: Side, waiting: Mapping[int, int]) -> dict[int, str]:
    """Return where each head is that the driver waits for.

    :param waiting: heads, with the number of descriptors that each takes
    """
    queue = side.queue
    in_qemu = {each.head for each in queue.in_flight or ()}
    completed, unseen = _completed(side, waiting), _unseen(side)
    # Of devices whose elements are not all looked for, what is in use may be any of the rest.
    counts = queue.counts or None
    known = counts is not None and counts.unidentified == 0
    known = known and not isinstance(side.ring, Absent) and unseen is not None
    ordered = (
        {}
        if isinstance(queue.in_order, Absent)
        else {each.head: each.filled for each in queue.in_order or ()}
    )
    known = known and not isinstance(queue.in_order, Absent)
    rest = "nowhere" if known and completed is not None else "not-known"
    if queue.ring_owner != "qemu":
        rest = "not-known" if completed is None else "with-vhost"

    def place(head: int) -> str:
        if head in (completed or ()):
            return "completed"
        if head in (unseen or ()):
            return "unseen"
        if queue.ring_owner != "qemu":
            return rest
        if ordered.get(head):
            return "held-in-order"
        return "in-qemu" if head in in_qemu or head in ordered else rest

    return {head: place(head) for head in waiting}


def _completed(side: Side, waiting: Mapping[int, int]) -> set[int] | None:
    """Return the heads that were given back and that the driver has not read, None if unknown."""
    queue, ring, size = side.queue, side.ring, side.size
    if isinstance(ring, SplitRing) and not isinstance(ring.used, Absent):
        slots = _window(side.driver.last_used_idx, ring.guest.used_idx, size)
        ids = {entry.slot: entry.id for entry in ring.used}
        return None if slots is None else {ids[slot] for slot in slots if slot in ids}
    if not isinstance(ring, PackedRing) or isinstance(ring.descriptors, Absent):
        return None
    slot, wrap = last_used(side.driver)
    left = packed_distance((queue.used_idx, queue.used_wrap_counter), (slot, wrap), size)
    if not isinstance(left, int):
        return None
    found = set()
    by_slot = {each.slot: each.id for each in ring.descriptors}
    while left > 0:
        head = by_slot.get(slot, -1)
        if head not in waiting:
            return None
        found.add(head)
        # As the driver does it: a chain takes as many descriptors as it was published with.
        step = max(waiting[head], 1)
        slot, left = (slot + step) % size, left - step
    return found


def _unseen(side: Side) -> set[int] | None:
    """Return the heads that were published and that the device has not taken, None if unknown."""
    queue, ring, driver, size = side.queue, side.ring, side.driver, side.size
    if "last_avail_idx" in queue.stale:
        return _untaken(side)
    if isinstance(ring, SplitRing) and not isinstance(ring.available, Absent):
        slots = _window(queue.last_avail_idx, driver.avail_idx_shadow, size)
        if slots is None and _window(driver.avail_idx_shadow, queue.last_avail_idx, size):
            return set()  # QEMU has taken more than the driver published
        heads = {entry.slot: entry.head for entry in ring.available}
        return None if slots is None else {heads[slot] for slot in slots if slot in heads}
    if not isinstance(ring, PackedRing) or isinstance(ring.descriptors, Absent):
        return None
    start = (queue.last_avail_idx, queue.last_avail_wrap_counter)
    count = packed_distance((driver.next_avail_idx, driver.avail_wrap_counter), start, size)
    if not isinstance(count, int) or not isinstance(queue.last_avail_idx, int):
        return None
    published = {(queue.last_avail_idx + step) % size for step in range(count)}
    return {each.id for each in ring.descriptors if each.slot in published}


def _untaken(side: Side) -> set[int] | None:
    """Return what a back-end beside QEMU has noted not to have taken, None without such notes."""
    record, ring = side.queue.inflight_record, side.ring
    if not record or isinstance(record, Absent) or not isinstance(ring, SplitRing):
        return None
    slots = _window(ring.guest.used_idx, side.driver.avail_idx_shadow, side.size)
    if slots is None or isinstance(ring.available, Absent) or not record.version:
        return None
    taken = set(record.heads)
    return {e.head for e in ring.available if e.slot in slots and e.head not in taken}


def _window(start: int | Absent | None, end: int | Absent | None, size: int) -> set[int] | None:
    """Return the slots from one free-running index up to another, None if they make no sense."""
    if not isinstance(start, int) or not isinstance(end, int):
        return None
    count = ring_math.distance(end, start)
    if count > size:
        return None
    return {ring_math.slot(ring_math.advance(start, step), size) for step in range(count)}


def packed_distance(newer: Sequence[object], older: Sequence[object], size: int) -> int | None:
    """Return how far one position is ahead of another in a packed ring, None if it is unknown.

    :param newer: slot and wrap counter, each possibly Absent
    """
    (new, new_wrap), (old, old_wrap) = newer, older
    if not isinstance(new, int) or not isinstance(old, int):
        return None
    if not isinstance(new_wrap, bool) or not isinstance(old_wrap, bool):
        return None
    count = ring_math.packed_distance(new, old, size, wrapped=new_wrap != old_wrap)
    return count if 0 <= count <= size else None


def _request(views: Views, side: Side, head: int, token: int, place: str) -> DriverRequest:
    plain = DriverRequest(head, Address(token), place)
    if side.device_id == ID_SCSI:
        if side.queue.index < FIRST_SCSI_REQUESTS:
            return plain
        command = attempt(lambda: int(views.at(VirtioScsiCmd, token).sc))
        if isinstance(command, Absent):
            return msgspec.structs.replace(plain, tag=command)
        if not command:
            return plain  # task management
        token = command
    elif side.device_id != ID_BLOCK:
        return plain
    return _with_block_layer(views, plain, token)


def _with_block_layer(views: Views, plain: DriverRequest, behind: int) -> DriverRequest:
    """Return a request with what blk-mq says of it; what is missing says why.

    :param behind: what its driver adds to a request, which lies behind it (``blk_mq_rq_from_pdu``)
    """
    found = attempt(lambda: _block_request(views, behind))
    if isinstance(found, Absent):
        return msgspec.structs.replace(plain, tag=found)
    tag = attempt(lambda: found.tag)
    return msgspec.structs.replace(
        plain,
        tag=None if tag in (-1, NO_TAG) else tag,
        operation=attempt(lambda: _operation(views, found.cmd_flags)),
        state=attempt(lambda: _named(views, ENUMS[:1], found.state, "MQ_RQ_")),
        sector=attempt(lambda: found.sector),
        length=attempt(lambda: found.data_len),
        started_ns=attempt(lambda: found.start_time_ns),
    )


def _block_request(views: Views, behind: int) -> Request:
    found = views.at(Request, behind - views.binding(Request).type.size)
    state = found.state
    if found.q < UPPER_HALF or (state is not None and state >= STATES):
        raise CorruptDataError(
            "no request of the block layer lies before what its driver knows it by",
            where=f"{found.address_:#x}",
            seen=f"q {found.q:#x}, state {state}",
            expected="a struct request",
            hint="are the types given those of this guest's kernel?",
        )
    return found


def _operation(views: Views, flags: int) -> str:
    number = flags & REQ_OP_MASK
    return _named(views, ENUMS[1:], number, "REQ_OP_") or str(number)


def _named(views: Views, enums: Sequence[str], value: int | None, prefix: str) -> str | None:
    for key in enums:
        found = views.layouts.find_definition(key)
        if isinstance(found, Enum):
            for name, number in found.enumerators.items():
                if number == value and name.startswith(prefix):
                    return name.removeprefix(prefix).lower().replace("_", "-")
    return None if value is None else str(value)
