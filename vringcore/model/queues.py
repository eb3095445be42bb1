"""A virtqueue: QEMU's VirtQueue and the ring in guest memory."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.requests import Descriptor, InFlight
from vringcore.model.values import Absent, Fields, Hex


class SplitGuest(msgspec.Struct, frozen=True):
    """What lies in guest memory for a split ring (VirtIO 1.3, 2.7.6 and 2.7.8).

    ``used_event`` and ``avail_event`` are None unless VIRTIO_F_EVENT_IDX was negotiated.
    """

    avail_idx: int | Absent
    avail_flags: int | Absent
    used_idx: int | Absent
    used_flags: int | Absent
    used_event: int | Absent | None
    avail_event: int | Absent | None


class EventSuppression(msgspec.Struct, frozen=True):
    """An event suppression structure (VirtIO 1.3, 2.8.14).

    ``name`` is what ``flags`` asks for: ``enable``, ``disable``, ``desc`` (an event at the
    descriptor of ``slot`` and ``wrap``, which mean nothing otherwise) or ``reserved``. ``slot`` and
    ``wrap`` are the two parts of ``off_wrap``.
    """

    off_wrap: int
    slot: int
    wrap: bool
    flags: int
    name: str


class PackedGuest(msgspec.Struct, frozen=True):
    """What lies in guest memory for a packed ring beside its descriptors (VirtIO 1.3, 2.8.10).

    ``driver_event`` tells the device when to interrupt, ``device_event`` the driver when to notify.
    """

    driver_event: EventSuppression | Absent
    device_event: EventSuppression | Absent


class Counts(msgspec.Struct, frozen=True):
    """The three questions in numbers.

    - ``unseen``: published by the driver, not yet taken by the device (``avail.idx -
      last_avail_idx``)
    - ``popped``: taken and not yet given back (``last_avail_idx - used_idx``)
    - ``in_use``: QEMU's own count of the same, ``VirtQueue.inuse``
    - ``unidentified``: in use, and no structure of QEMU's was found for it; None if not looked for
    - ``leaked``: taken, and neither in use nor given back (``popped - in_use``)
    - ``past_used_event``: completions beyond the point at which the driver asked for an interrupt
      (``used.idx - used_event``); a hint, None without VIRTIO_F_EVENT_IDX
    - ``outstanding``: published and not given back, by what lies in guest memory alone
      (``avail.idx - used.idx``), so it holds whoever runs the ring; left out of a packed ring that
      QEMU runs

    Where vhost runs the ring, ``last_avail_idx``, ``used_idx`` and ``inuse`` say nothing about now.
    ``popped`` and ``unseen`` are then what the back-end noted in its inflight region, and Absent
    without one.

    In a packed ring no index of the driver's exists: ``unseen`` counts the chains that descriptors
    from ``last_avail_idx`` on show as available. The others count descriptors there, and
    ``past_used_event`` is None unless the driver asks for an interrupt at a descriptor.
    """

    unseen: int | Absent
    popped: int | Absent
    in_use: int | Absent
    unidentified: int | Absent | None
    leaked: int | Absent
    past_used_event: int | Absent | None
    outstanding: int | Absent | UnsetType = UNSET


class InflightRecord(msgspec.Struct, frozen=True):
    """What a vhost-user back-end notes of one queue in memory that QEMU shares with it.

    The vhost-user protocol, "Inflight I/O tracking". ``address`` is in QEMU's own memory;
    ``version`` 0 says that nothing was noted yet. ``heads`` are the chains that the back-end took
    and has not given back, in the order in which it took them (buffer ids in a packed ring).
    ``given_back`` are those still marked that the used ring has already: the back-end was between
    two steps, and whoever goes on from here must not do them again. ``used_idx`` is the back-end's
    note of ``used.idx`` (of a packed ring the slot), ``last_batch_head`` begins the list of what it
    gave back last; null in a packed ring.
    """

    address: Hex
    version: int
    desc_num: int
    used_idx: int
    last_batch_head: int | None
    heads: tuple[int, ...]
    given_back: tuple[int, ...]


class Ordered(msgspec.Struct, frozen=True):
    """A chain that QEMU took from a ring with VIRTIO_F_IN_ORDER (an entry of ``used_elems``).

    ``filled``: the device model is done with it. It is given back once all chains before it are,
    too: the first that is not filled holds back the others. ``ndescs`` counts the ring's own
    descriptors, ``written`` the bytes in its buffers that the device has filled, null before.
    """

    head: int
    ndescs: int
    filled: bool
    written: int | None


class Queue(msgspec.Struct, frozen=True):
    """One virtqueue.

    ``role`` is what the device uses it for (``requests``, ``rx0``, ``control`` …). ``ring_state``
    is ``ready``, ``not-set-up``, ``unreadable`` or ``untranslatable``. ``fields`` is the whole
    ``struct VirtQueue``; the attributes before it are members every QEMU has, ``unknown_members``
    those of a fork. Where there are such, ``fields`` is always given.

    ``ring_owner`` tells who moves the ring's indices, as a device's does: the control queue of a
    virtio-net device may be QEMU's where the others are not. ``stale`` names the attributes that
    say nothing about now for that reason: QEMU's copies have the values of the last time that it
    ran the ring itself. ``inflight_record`` is what a vhost-user back-end noted of the queue, left
    out where there is no such region.

    ``last_avail_idx`` and ``used_idx`` are slots in a packed ring, each with a wrap counter, which
    is left out for other rings. ``in_order`` are the chains in flight of a ring with
    VIRTIO_F_IN_ORDER, oldest first; it is left out of others, and where QEMU keeps no record.
    """

    index: int
    address: Hex
    role: str
    ring: Literal["split", "packed"] | Absent
    ring_state: str
    size: int | Absent
    last_avail_idx: int | Absent
    shadow_avail_idx: int | Absent
    used_idx: int | Absent
    signalled_used: int | Absent
    signalled_used_valid: bool | Absent
    notification: bool | Absent
    in_use: int | Absent
    vector: int | Absent
    handle_output: str | Absent
    fields: Fields | Absent | UnsetType = UNSET
    guest: SplitGuest | PackedGuest | Absent | UnsetType = UNSET
    counts: Counts | UnsetType = UNSET
    in_flight: tuple[InFlight, ...] | UnsetType = UNSET
    in_order: tuple[Ordered, ...] | Absent | UnsetType = UNSET
    last_avail_wrap_counter: bool | Absent | UnsetType = UNSET
    used_wrap_counter: bool | Absent | UnsetType = UNSET
    unknown_members: tuple[str, ...] = ()
    ring_owner: str = "qemu"
    stale: tuple[str, ...] = ()
    inflight_record: InflightRecord | Absent | UnsetType = UNSET


class AvailEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A slot of the available ring: the head it holds and the pointers that stand at it."""

    slot: int
    head: int
    marks: tuple[str, ...] = ()


class UsedEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A slot of the used ring: head, bytes written, and the pointers that stand at it."""

    slot: int
    id: int
    length: int
    marks: tuple[str, ...] = ()


class SplitRing(msgspec.Struct, frozen=True):
    """The whole of a split ring. A part that cannot be read is Absent.

    The three addresses are where QEMU has the parts mapped; the driver's addresses of them are in
    the queue's ``fields["vring"]``. Behind an IOMMU QEMU maps no ring as a whole: then they are
    where the first byte of each part lies in its memory, and further pages may lie elsewhere.
    """

    descriptor_address: Hex | Absent
    avail_address: Hex | Absent
    used_address: Hex | Absent
    descriptors: tuple[Descriptor, ...] | Absent
    available: tuple[AvailEntry, ...] | Absent
    used: tuple[UsedEntry, ...] | Absent
    guest: SplitGuest


class PackedSlot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A descriptor of a packed ring as it is now (VirtIO 1.3, 2.8.13).

    Of a used one ``id`` names the chain and ``length`` counts the bytes written. ``flag_names``
    has ``avail`` and ``used`` for the two bits that tell the driver's from the device's.

    ``state`` is ``taken`` between ``used_idx`` and ``last_avail_idx``; elsewhere ``available``,
    ``used``, or ``left-over``: part of a chain that was given back by another slot. Empty if it
    cannot be told. Once chains were given back out of order, a slot that is ``taken`` may hold
    what is left of another chain, too.
    """

    slot: int
    address: Hex
    length: int
    id: int
    flags: int
    flag_names: tuple[str, ...] = ()
    state: str = ""
    marks: tuple[str, ...] = ()


class PackedRing(msgspec.Struct, frozen=True):
    """The whole of a packed ring. A part that cannot be read is Absent.

    The three addresses are where QEMU has the parts mapped; behind an IOMMU as in
    :class:`SplitRing`.
    """

    descriptor_address: Hex | Absent
    driver_event_address: Hex | Absent
    device_event_address: Hex | Absent
    descriptors: tuple[PackedSlot, ...] | Absent
    guest: PackedGuest


class Chain(msgspec.Struct, frozen=True):
    """A descriptor chain, and why the walk ended.

    ``head`` is the index of its first descriptor, in a packed ring its buffer id.
    """

    head: int
    end: str
    descriptors: tuple[Descriptor, ...]
    readable_bytes: int
    writable_bytes: int
    detail: str = ""
