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


class PackedGuest(msgspec.Struct, frozen=True):
    """The event suppression structures of a packed ring, ``off_wrap | flags << 16`` each."""

    driver_event: int | Absent
    device_event: int | Absent


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
    """

    unseen: int | Absent
    popped: int | Absent
    in_use: int | Absent
    unidentified: int | Absent | None
    leaked: int | Absent
    past_used_event: int | Absent | None


class Queue(msgspec.Struct, frozen=True):
    """One virtqueue.

    ``role`` is what the device uses it for (``requests``, ``rx0``, ``control`` …). ``ring_state``
    is ``ready``, ``not-set-up``, ``unreadable`` or ``untranslatable``. ``fields`` is the whole
    ``struct VirtQueue``; the attributes before it are members every QEMU has, ``unknown_members``
    those of a fork. Where there are such, ``fields`` is always given.
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
    unknown_members: tuple[str, ...] = ()


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
    the queue's ``fields["vring"]``.
    """

    descriptor_address: Hex | Absent
    avail_address: Hex | Absent
    used_address: Hex | Absent
    descriptors: tuple[Descriptor, ...] | Absent
    available: tuple[AvailEntry, ...] | Absent
    used: tuple[UsedEntry, ...] | Absent
    guest: SplitGuest


class Chain(msgspec.Struct, frozen=True):
    """A descriptor chain from its head, and why the walk ended."""

    head: int
    end: str
    descriptors: tuple[Descriptor, ...]
    readable_bytes: int
    writable_bytes: int
    detail: str = ""
