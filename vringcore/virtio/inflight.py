"""The inflight region of a vhost-user back-end: which requests it took and has not given back.

The vhost-user protocol, "Inflight I/O tracking". A back-end keeps the region in memory that it
shares with its front-end, so that after its death another can go on where it was. For each queue
there is a header and then a record for each descriptor, 16 bytes of a split ring, 32 of a packed
one. The region is divided evenly among the queues; all is in the byte order of the host.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore import ring_math
from vringcore.errors import CorruptDataError
from vringcore.virtio.constants import DESC_F_NEXT, MAX_QUEUE_SIZE
from vringcore.virtio.descriptors import Descriptor
from vringcore.virtio.packed import Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.memory.space import AddressSpace
    from vringcore.virtio.packed import PackedRing

VERSION = 1
"""The one version there is; 0 is a region that nothing was written to."""

_SPLIT_HEADER = {False: Struct("<QHHHH"), True: Struct(">QHHHH")}
_SPLIT_STATE = {False: Struct("<B5xHQ"), True: Struct(">B5xHQ")}
_PACKED_HEADER = {False: Struct("<QHHHHHHBB10x"), True: Struct(">QHHHHHHBB10x")}
_PACKED_STATE = {False: Struct("<BxHHHQHHIQ"), True: Struct(">BxHHHQHHIQ")}


class Taken(msgspec.Struct, frozen=True):
    """A chain that the back-end notes as in flight.

    ``head`` is the index of its first descriptor, in a packed ring its buffer id; ``counter``
    tells the order. ``descriptors`` is the back-end's copy, which it keeps of a packed ring alone.
    """

    head: int
    counter: int
    descriptors: tuple[Descriptor, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """What is noted of one queue.

    ``taken`` are the chains in flight, oldest first; ``given_back`` those that are marked as if
    they were and that the used ring has: the back-end was between two steps (see "When
    reconnecting"). ``remark`` says why that could not be told, empty if it could.
    ``last_batch_head`` is None of a packed ring, ``used`` where its device writes next; None of a
    split one, which has ``used_idx`` alone.
    """

    version: int
    desc_num: int
    used_idx: int
    last_batch_head: int | None
    used: Position | None
    taken: tuple[Taken, ...]
    given_back: tuple[int, ...]
    remark: str = ""


def read_split(
    space: AddressSpace[Any], address: Any, size: int, used_idx: int, *, big_endian: bool = False
) -> Record:
    """Read what is noted of a split queue.

    :param address: where the queue's part of the region begins, in ``space``
    :param size: bytes of that part
    :param used_idx: ``used.idx`` of the ring itself
    :param big_endian: the byte order of the host
    :raises CorruptDataError: if it is of an unknown version, or has more records than fit
    :raises MemoryFault: if it cannot be read
    """
    header = _SPLIT_HEADER[big_endian]
    _, version, count, last_batch_head, noted_idx = _header(space, address, size, header)
    if not version:
        return Record(0, count, noted_idx, last_batch_head, None, (), ())
    layout = _SPLIT_STATE[big_endian]
    states = _states(space, address, size, header, layout, version, count)
    marked = {head: row for head, row in enumerate(states) if row[0]}
    batch, remark = _last_batch(states, last_batch_head, ring_math.distance(used_idx, noted_idx))
    given_back = tuple(head for head in batch if head in marked)
    taken = [Taken(head, row[2]) for head, row in marked.items() if head not in given_back]
    return Record(
        version, count, noted_idx, last_batch_head, None, _in_order(taken), given_back, remark
    )


def _last_batch(states: list[tuple[int, ...]], head: int, count: int) -> tuple[list[int], str]:
    """Return the heads that were given back since the back-end last noted ``used.idx``."""
    if count > len(states):
        return [], f"the used ring is {count} ahead of the record, which has room for {len(states)}"
    batch: list[int] = []
    for _ in range(count):
        if head >= len(states) or head in batch:
            return [], f"the list of the last batch leads from {batch[-1:] or 'its head'} to {head}"
        batch.append(head)
        head = states[head][1]
    return batch, ""


def read_packed(
    space: AddressSpace[Any],
    address: Any,
    size: int,
    ring: PackedRing[Any],
    *,
    big_endian: bool = False,
) -> Record:
    """Read what is noted of a packed queue; parameters and errors as :func:`read_split`.

    :param ring: the ring itself: where the back-end was between two steps it tells whether the
        first of what it was giving back is back, and with it the others, or none is
    """
    header = _PACKED_HEADER[big_endian]
    _, version, count, free, old_free, used, old_used, wrap, old_wrap = _header(
        space, address, size, header
    )
    if not version:
        return Record(0, count, old_used, None, None, (), ())
    states = _states(space, address, size, header, _PACKED_STATE[big_endian], version, count)
    position, after, remark = Position(old_used, bool(old_wrap)), Position(used, bool(wrap)), ""
    if position != after:
        if position.slot >= ring.size:
            remark = f"it names used slot {position.slot} of a ring of {ring.size}"
        elif not ring.descriptor(position.slot).is_available(position.wrap):
            position, old_free = after, free
    not_in_use = set(_free_list(states, old_free))
    taken, given_back = [], []
    for first, row in enumerate(states):
        if row[0]:
            chain = tuple(_copies(states, first))
            number = chain[-1].next if chain else row[5]
            if first in not_in_use:
                given_back.append(number)
            else:
                taken.append(Taken(number, row[4], chain))
    return Record(
        version, count, position.slot, None, position, _in_order(taken), tuple(given_back), remark
    )


def _free_list(states: list[tuple[int, ...]], head: int) -> Iterator[int]:
    """Yield the records of the free list; it has no end but its length, and none may repeat."""
    seen: set[int] = set()
    while head < len(states) and head not in seen:
        seen.add(head)
        yield head
        head = states[head][1]


def _copies(states: list[tuple[int, ...]], first: int) -> Iterator[Descriptor]:
    """Yield the back-end's copies of a chain's descriptors, as many as its first record says."""
    at, seen = first, 0
    count = min(states[first][3], len(states))
    while at < len(states) and seen < count:
        _, following, _, _, _, number, flags, length, address = states[at]
        yield Descriptor(at, address, length, flags, number)
        if not flags & DESC_F_NEXT:
            break
        at, seen = following, seen + 1


def _header(space: AddressSpace[Any], address: Any, size: int, header: Struct) -> tuple[Any, ...]:
    if size < header.size:
        raise CorruptDataError(
            "an inflight region has no room for its queues",
            where=f"{address:#x}",
            seen=f"{size} bytes for a queue",
            expected=f"at least {header.size}",
        )
    return header.unpack(space.read(address, header.size))


def _states(
    space: AddressSpace[Any],
    address: Any,
    size: int,
    header: Struct,
    layout: Struct,
    version: int,
    count: int,
) -> list[tuple[int, ...]]:
    """Return the records of all descriptors, once version and number are known to be possible."""
    room = (size - header.size) // layout.size
    if version != VERSION or not 1 <= count <= min(room, MAX_QUEUE_SIZE):
        raise CorruptDataError(
            "an inflight region that is none",
            where=f"{address:#x}",
            seen=f"version {version}, {count} descriptors",
            expected=f"version {VERSION}, 1 to {min(room, MAX_QUEUE_SIZE)} descriptors",
            hint="the back-end may keep it in a form of its own, or had it being set up",
        )
    data = space.read(address + header.size, count * layout.size)
    return list(layout.iter_unpack(data))


def _in_order(taken: list[Taken]) -> tuple[Taken, ...]:
    return tuple(sorted(taken, key=lambda each: (each.counter, each.head)))
