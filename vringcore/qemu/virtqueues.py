"""QEMU's VirtQueue structures (hw/virtio/virtio.c) and where their rings lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.model.queues import Counts, Queue, SplitGuest
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import NOT_IN_THIS_BUILD, absence_of, attempt
from vringcore.qemu.structs import VirtQueue, VRingMemoryRegionCaches
from vringcore.virtio import counts
from vringcore.virtio.features import RING_PACKED, has_feature
from vringcore.virtio.roles import queue_role
from vringcore.virtio.split import Indices, RingAddresses, SplitRing, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from vringcore.addresses import HostAddress, IoVirtualAddress
    from vringcore.qemu.flat_space import DmaSpace
    from vringcore.view.views import Views

VIRTIO_QUEUE_MAX = 1024
"""Length of ``VirtIODevice.vq`` (include/hw/virtio/virtio.h)."""

MAX_HOLES = 8
"""How many unused queues in a row are passed over before the search for more ends."""

MAX_LOST = 128
"""How many queues in a row may be unreadable before the search for more ends."""

ALL_FEATURES = (1 << 128) - 1

BEHIND_IOMMU = "behind-iommu"

NOT_SET_UP = Absent("ring-not-set-up", None, "the driver has not given this queue a ring")


class RingPlace(msgspec.Struct, frozen=True):
    """Where the three parts of a ring lie in QEMU's memory, or in ``space``.

    For a packed ring ``avail`` is the driver's event suppression structure and ``used`` the
    device's (VirtIO 1.3, 2.8.10). A part is Absent if it cannot be reached.

    :param space: what the device sees, of a ring behind an IOMMU
    """

    desc: HostAddress | IoVirtualAddress | Absent
    avail: HostAddress | IoVirtualAddress | Absent
    used: HostAddress | IoVirtualAddress | Absent
    space: DmaSpace | None = None

    @property
    def missing(self) -> Absent | None:
        """The first part that cannot be reached, None if all three can."""
        for part in (self.desc, self.avail, self.used):
            if isinstance(part, Absent):
                return part
        return None

    @property
    def state(self) -> str:
        """``ready``, or why the ring cannot be read, as in the model's ``ring_state``."""
        if self.missing is None:
            return "ready"
        return {"ring-not-set-up": "not-set-up", BEHIND_IOMMU: "untranslatable"}.get(
            self.missing.reason, "unreadable"
        )


class RawQueue(msgspec.Struct, frozen=True):
    """A VirtQueue that exists: its index, its view, and where its ring lies."""

    index: int
    view: VirtQueue
    place: RingPlace


def read_queues(views: Views, vq: int, device: int) -> tuple[list[RawQueue], list[Limitation]]:
    """Return the queues of a device: those of the array at ``vq`` that have a size.

    A queue that cannot be read, or is no queue of this device, does not hide those after it.

    :param device: the VirtIODevice's address, against which ``VirtQueue.vdev`` is checked
    """
    size = views.binding(VirtQueue).type.size
    queues: list[RawQueue] = []
    lost: list[_Lost] = []
    holes = 0
    for index in range(VIRTIO_QUEUE_MAX):
        view = views.at(VirtQueue, vq + index * size)
        try:
            if not view.num and not view.num_default:
                holes += 1
                if holes > MAX_HOLES:
                    break
                continue
            _check_owner(view, index, device)
        except VringcoreError as error:
            if lost and lost[-1].last == index - 1:
                lost[-1].last = index
            else:
                lost.append(_Lost(index, index, str(error)))
            if lost[-1].last - lost[-1].first < MAX_LOST:
                continue
            lost[-1].last = VIRTIO_QUEUE_MAX - 1
            break
        holes = 0
        queues.append(RawQueue(index, view, ring_place(views, view)))
    if any(queue.place.state == "untranslatable" for queue in queues):
        from vringcore.qemu.iommu_rings import translated

        queues = translated(views, queues, device)
    return queues, [Limitation(f"{each.name} not shown", each.why) for each in lost]


class _Lost(msgspec.Struct):
    """A run of the array that cannot be shown, and why its first queue cannot."""

    first: int
    last: int
    why: str

    @property
    def name(self) -> str:
        if self.first == self.last:
            return f"queue {self.first} is"
        if self.last == VIRTIO_QUEUE_MAX - 1:
            return f"queue {self.first} and those after it are"
        return f"queues {self.first} to {self.last} are"


def _check_owner(queue: VirtQueue, index: int, device: int) -> None:
    owner = attempt(lambda: queue.vdev)
    # An owner that is not in the core says nothing against the queue.
    if not isinstance(owner, Absent) and owner != device:
        raise CorruptDataError(
            "a VirtQueue that names another device",
            where=f"VirtQueue.vdev of queue {index}, {queue.address_:#x}",
            seen=f"{owner:#x}",
            expected=f"{device:#x}",
        )


def ring_place(views: Views, queue: VirtQueue) -> RingPlace:
    """Return where a queue's ring lies in QEMU's memory, from ``vring.caches``."""
    try:
        if not queue.desc:
            return RingPlace(NOT_SET_UP, NOT_SET_UP, NOT_SET_UP)
        if not queue.caches:
            gone = Absent("no-ring-caches", None, "QEMU holds no mapping of the ring")
            return RingPlace(gone, gone, gone)
        caches = views.at(VRingMemoryRegionCaches, queue.caches)
    except VringcoreError as error:
        absent = absence_of(error)
        return RingPlace(absent, absent, absent)
    return RingPlace(
        _part(lambda: caches.desc_ptr, lambda: caches.desc_xlat),
        _part(lambda: caches.avail_ptr, lambda: caches.avail_xlat),
        _part(lambda: caches.used_ptr, lambda: caches.used_xlat),
    )


def _part(pointer: Callable[[], HostAddress], xlat: Callable[[], int]) -> HostAddress | Absent:
    try:
        address = pointer()
        if address:
            return address
        # MemoryRegionCache.ptr is NULL where the region is not plain RAM: behind an IOMMU, xlat
        # is the I/O virtual address.
        return Absent(BEHIND_IOMMU, Address(xlat()), "the ring lies behind an IOMMU")
    except VringcoreError as error:
        return absence_of(error)


class RingRules(msgspec.Struct, frozen=True):
    """What the features of a device say of its rings.

    :param packed: VIRTIO_F_RING_PACKED was negotiated
    :param event_idx: VIRTIO_F_EVENT_IDX was negotiated
    :param big_endian: a legacy driver of a big-endian guest writes them (VirtIO 1.3, 2.7.3)
    :param in_order: VIRTIO_F_IN_ORDER was negotiated
    """

    packed: bool
    event_idx: bool
    big_endian: bool
    in_order: bool


def split_ring(views: Views, raw: RawQueue, rules: RingRules) -> SplitRing[Any]:
    """Return the reader of a split ring through QEMU's own mapping of it, or through an IOMMU.

    :param raw: a queue whose ring is ``ready``
    :raises CorruptDataError: if ``vring.num`` is impossible
    :raises MemoryFault: if the VirtQueue itself is not in the core
    """
    place = raw.place
    assert not isinstance(place.desc, Absent)
    assert not isinstance(place.avail, Absent)
    assert not isinstance(place.used, Absent)
    addresses = RingAddresses(place.desc, place.avail, place.used)
    return SplitRing(
        views.space if place.space is None else place.space,
        addresses,
        raw.view.num,
        event_idx=rules.event_idx,
        big_endian=rules.big_endian,
    )


def split_guest(views: Views, raw: RawQueue, rules: RingRules) -> SplitGuest | Absent:
    """Read the indices and flags that lie in guest memory for a split ring."""
    missing = raw.place.missing
    if missing is not None:
        return missing
    try:
        indices = split_ring(views, raw, rules).indices()
    except VringcoreError as error:
        return absence_of(error)
    return guest_model(indices)


def guest_model(indices: Indices) -> SplitGuest:
    """Return a ring's shared words as the model has them."""
    return SplitGuest(
        avail_idx=_there(indices.avail_idx),
        avail_flags=_there(indices.avail_flags),
        used_idx=_there(indices.used_idx),
        used_flags=_there(indices.used_flags),
        used_event=None if indices.used_event is None else _there(indices.used_event),
        avail_event=None if indices.avail_event is None else _there(indices.avail_event),
    )


def _there(value: int | Unreadable) -> int | Absent:
    return absence_of(value) if isinstance(value, VringcoreError) else value


def split_counts(raw: RawQueue, guest: SplitGuest | Absent, identified: int | None) -> Counts:
    """Return the counts of a split queue.

    :param identified: how many of the requests in use were found; None if they were not looked for
    """
    last_avail = attempt(lambda: raw.view.last_avail_idx)
    used = attempt(lambda: raw.view.used_idx)
    in_use = attempt(lambda: raw.view.inuse)
    popped = both(last_avail, used, counts.popped)
    if isinstance(guest, Absent):
        unseen: int | Absent = guest
        past: int | Absent | None = guest
        outstanding: int | Absent = guest
    else:
        unseen = both(guest.avail_idx, last_avail, counts.unseen)
        outstanding = both(guest.avail_idx, guest.used_idx, counts.outstanding)
        past = None
        if guest.used_event is not None:
            past = both(guest.used_idx, guest.used_event, counts.past_used_event)
    return Counts(
        unseen=unseen,
        popped=popped,
        in_use=in_use,
        unidentified=unidentified(in_use, identified),
        leaked=both(popped, in_use, counts.leaked),
        past_used_event=past,
        outstanding=outstanding,
    )


def unknown_counts(raw: RawQueue, why: Absent, identified: int | None) -> Counts:
    """Return the counts of a queue of which nobody can tell whether it is split or packed."""
    return Counts(
        unseen=why,
        popped=why,
        in_use=attempt(lambda: raw.view.inuse),
        unidentified=None if identified is None else why,
        leaked=why,
        past_used_event=why,
    )


def unidentified(in_use: int | Absent, identified: int | None) -> int | Absent | None:
    """Return how many of those in use were not found; None if they were not looked for."""
    if identified is None or isinstance(in_use, Absent):
        return None if identified is None else in_use
    return max(in_use - identified, 0)


def both(a: int | Absent, b: int | Absent, count: Callable[[int, int], int]) -> int | Absent:
    """Return a count of two numbers, or the reason why one of them is not there."""
    if isinstance(a, Absent):
        return a
    return b if isinstance(b, Absent) else count(a, b)


def queue_model(
    views: Views,
    raw: RawQueue,
    *,
    device_id: int,
    features: int | Absent,
    total: int | None,
    fields: bool,
) -> Queue:
    """Return the model of a queue: QEMU's side of it, with the whole structure if asked for."""
    view = raw.view
    handler = attempt(lambda: view.handle_output)
    model = Queue(
        index=raw.index,
        address=Address(view.address_),
        role=_role(device_id, raw.index, total, features),
        ring=features if isinstance(features, Absent) else _ring_kind(features),
        ring_state=raw.place.state,
        size=attempt(lambda: view.num),
        last_avail_idx=attempt(lambda: view.last_avail_idx),
        shadow_avail_idx=attempt(lambda: view.shadow_avail_idx),
        used_idx=attempt(lambda: view.used_idx),
        signalled_used=attempt(lambda: view.signalled_used),
        signalled_used_valid=attempt(lambda: view.signalled_used_valid),
        notification=attempt(lambda: view.notification),
        in_use=attempt(lambda: view.inuse),
        vector=attempt(lambda: view.vector),
        handle_output=handler if isinstance(handler, Absent) else _function(views, handler),
    )
    if model.ring == "packed":
        model = msgspec.structs.replace(
            model,
            last_avail_wrap_counter=attempt(lambda: _counter(view.last_avail_wrap_counter)),
            used_wrap_counter=attempt(lambda: _counter(view.used_wrap_counter)),
        )
    if fields:
        type_ = views.layouts.named(VirtQueue.c_type)
        model = msgspec.structs.replace(
            model, fields=attempt(lambda: views.value(type_, view.address_).read())
        )
    return model


def _counter(value: bool | None) -> bool | Absent:
    return Absent(NOT_IN_THIS_BUILD) if value is None else value


def _ring_kind(features: int) -> Literal["split", "packed"]:
    return "packed" if has_feature(features, RING_PACKED) else "split"


def _role(device_id: int, index: int, total: int | None, features: int | Absent) -> str:
    if not isinstance(features, Absent):
        return queue_role(device_id, index, total, features)
    # Features that are not known tell nothing: a role that would depend on them is not told.
    possible = {queue_role(device_id, index, total, word) for word in (0, ALL_FEATURES)}
    return possible.pop() if len(possible) == 1 else f"queue {index}"


def _function(views: Views, address: int) -> str:
    symbol = views.symbols.lookup(address) if address else None
    if symbol is None:
        return f"{address:#x}"
    return symbol[0] if not symbol[1] else f"{symbol[0]}+{symbol[1]}"
