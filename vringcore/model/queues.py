"""A virtqueue: QEMU's VirtQueue and the ring in guest memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.values import Absent, Fields, Hex

if TYPE_CHECKING:  # queues are often asked for without them
    from vringcore.model.requests import InFlight


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
