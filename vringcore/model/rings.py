"""The rings themselves: every slot, and the chains in them."""

from __future__ import annotations

import msgspec

from vringcore.model.queues import PackedGuest, SplitGuest
from vringcore.model.requests import Descriptor
from vringcore.model.values import Absent, Hex


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
