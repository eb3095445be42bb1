"""Rings and chains as the model has them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from vringcore.model.queues import SplitGuest
from vringcore.model.requests import Descriptor
from vringcore.model.rings import AvailEntry, Chain, SplitRing, UsedEntry
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.virtqueues import guest_model
from vringcore.ring_math import slot
from vringcore.virtio import split
from vringcore.virtio.chain import Breach, Remark, walk_chain
from vringcore.virtio.constants import desc_flag_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.addresses import GuestAddress, HostAddress
    from vringcore.memory.space import AddressSpace
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.virtio.chain import Chain as RawChain
    from vringcore.virtio.descriptors import Descriptor as RawDescriptor


def descriptor_model(raw: RawDescriptor, *, packed: bool = False) -> Descriptor:
    """Return a descriptor as the model has it."""
    return Descriptor(
        index=raw.index,
        address=Address(raw.address),
        length=raw.length,
        flags=raw.flags,
        next=UNSET if packed else raw.next,
        flag_names=desc_flag_names(raw.flags),
        table=None if raw.table is None else Address(raw.table),
        id=raw.next if packed else UNSET,
    )


def chain_model(raw: RawChain, *, buffer_id: int | None = None) -> Chain:
    """Return a chain as the model has it, with the rules it broke in ``detail``.

    :param buffer_id: of a chain of a packed ring
    """
    remarks = [
        f"{remark.breach.value} at descriptor {raw.descriptors[remark.position].index}"
        for remark in raw.remarks
    ]
    return Chain(
        head=raw.head if buffer_id is None else buffer_id,
        end=raw.end.value,
        descriptors=tuple(
            descriptor_model(d, packed=buffer_id is not None) for d in raw.descriptors
        ),
        readable_bytes=raw.readable_bytes,
        writable_bytes=raw.writable_bytes,
        detail="; ".join([raw.detail, *remarks] if raw.detail else remarks),
    )


def ring_model(
    ring: split.SplitRing[HostAddress], raw: RawQueue, *, stale: bool = False
) -> SplitRing:
    """Return the whole of a split ring, the indices marked at the slots they stand at.

    :param stale: QEMU's own indices say nothing about now, and are not marked
    """
    guest = guest_model(ring.indices())
    avail_marks, used_marks = _marks(None if stale else raw, guest, ring.size)
    heads = attempt(ring.available)
    used = attempt(ring.used)
    table = attempt(ring.descriptors)
    return SplitRing(
        descriptor_address=Address(ring.addresses.descriptors),
        avail_address=Address(ring.addresses.available),
        used_address=Address(ring.addresses.used),
        descriptors=table
        if isinstance(table, Absent)
        else tuple(descriptor_model(d) for d in table),
        available=heads
        if isinstance(heads, Absent)
        else tuple(AvailEntry(i, head, avail_marks.get(i, ())) for i, head in enumerate(heads)),
        used=used
        if isinstance(used, Absent)
        else tuple(UsedEntry(i, *entry, used_marks.get(i, ())) for i, entry in enumerate(used)),
        guest=guest,
    )


def _marks(
    raw: RawQueue | None, guest: SplitGuest, size: int
) -> tuple[dict[int, tuple[str, ...]], dict[int, tuple[str, ...]]]:
    """Return which indices stand at which slot of the available and of the used ring.

    ``avail_event`` is about the available ring although it lies behind the used one, and
    ``used_event`` the other way round (VirtIO 1.3, 2.7.7 and 2.7.10).
    """
    available: dict[str, int | Absent | None] = {}
    used: dict[str, int | Absent | None] = {}
    if raw is not None:
        view = raw.view
        available["last_avail_idx"] = attempt(lambda: view.last_avail_idx)
        used["used_idx"] = attempt(lambda: view.used_idx)
    available |= {"avail.idx": guest.avail_idx, "avail_event": guest.avail_event}
    used |= {"used.idx": guest.used_idx, "used_event": guest.used_event}
    return _by_slot(available, size), _by_slot(used, size)


def _by_slot(indices: dict[str, int | Absent | None], size: int) -> dict[int, tuple[str, ...]]:
    marks: dict[int, tuple[str, ...]] = {}
    for name, index in indices.items():
        if isinstance(index, int):
            at = slot(index, size)
            marks[at] = (*marks.get(at, ()), name)
    return marks


def published_heads(ring: split.SplitRing[HostAddress], raw: RawQueue) -> list[int]:
    """Return the heads that the driver published and the device has not taken."""
    heads = attempt(ring.available)
    last = attempt(lambda: raw.view.last_avail_idx)
    header = attempt(ring.available_header)
    if isinstance(heads, Absent) or isinstance(last, Absent) or isinstance(header, Absent):
        return []
    return [entry.head for entry in split.available_window(heads, last, header[1])]


def chains_of(
    ring: split.SplitRing[HostAddress],
    heads: Iterable[int],
    guest: AddressSpace[GuestAddress],
) -> list[Chain]:
    """Return the chains of some heads, each head once; one that comes again is remarked."""
    times = Counter(heads)
    found = []
    for head, count in times.items():
        chain = walk_chain(ring.table, head, guest)
        if count > 1 and chain.descriptors:
            chain = msgspec.structs.replace(
                chain, remarks=(*chain.remarks, Remark(Breach.DUPLICATE_HEAD, 0))
            )
        found.append(chain_model(chain))
    return found
