"""``vringcore ring`` as text: a ring with the pointers marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import UNSET

from vringcore.model.rings import PackedRing, SplitRing
from vringcore.model.values import Absent
from vringcore.report.cells import NOTHING, clean, hexadecimal
from vringcore.report.in_order import print_in_order
from vringcore.report.packed_ring import print_positions, print_slots
from vringcore.report.page import ALARM, FAINT, STAND_OUT, Column, Page, column_of
from vringcore.report.pointers import AROUND, DISTANCES, print_pointers
from vringcore.report.queues import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.queues import Queue, SplitGuest
    from vringcore.model.report import RingDocument
    from vringcore.model.requests import Descriptor
    from vringcore.model.rings import AvailEntry, Chain, UsedEntry

MEANINGS = {
    "avail.idx": "the driver has published up to here",
    "shadow_avail_idx": "what QEMU last read of avail.idx",
    "last_avail_idx": "the device has taken up to here",
    "used_idx": "the device has given back up to here",
    "used.idx": "the driver has been shown completions up to here",
    "signalled_used": "used_idx when QEMU last decided whether to interrupt",
    "used_event": "the driver wants an interrupt once used.idx passes this",
    "avail_event": "the device wants a kick once avail.idx passes this",
    "inuse": "taken and not given back, as QEMU counts it",
    "outstanding": "avail.idx - used.idx: published, not yet given back",
    "unseen": "avail.idx - last_avail_idx: published, not yet taken",
    "popped": "last_avail_idx - used_idx: taken, not yet given back",
    "leaked": "popped - inuse: taken, and no longer known to the device",
    "past_used_event": "used.idx - used_event: completions past the wished interrupt",
    "notification": "whether the device listens for kicks",
}


Entry = TypeVar("Entry", "AvailEntry", "UsedEntry")


def print_ring(page: Page, document: RingDocument, *, detailed: bool) -> None:
    """Print one queue's ring; all of its slots only with ``detailed``."""
    queue, notes = document.queue, page.notes
    known = isinstance(document.device_id, str) and document.device_id
    name = known or notes.text(document.qom_path)
    page.line(
        f"{clean(name)} queue {queue.index} ({clean(queue.role)}): {notes.text(queue.ring)} ring,"
        f" {notes.text(queue.size)} slots, {clean(queue.ring_state)}",
        "bold",
    )
    page.line()
    packed = document.packed if isinstance(document.packed, PackedRing) else None
    split = document.split if isinstance(document.split, SplitRing) else None
    if queue.ring == "packed":
        print_positions(page, queue, packed)
    else:
        _print_positions(page, queue, None if split is None else split.guest)
    if packed is not None:
        _print_chains(page, document.chains)
        print_in_order(page, queue)
        places = _places(page, queue, packed)
        print_slots(page, queue, packed, places, detailed=detailed)
    elif split is not None:
        _print_chains(page, document.chains)
        print_in_order(page, queue)
        if detailed:
            _print_descriptor_table(page, queue, split, document.chains)
        _print_available(page, queue, split, detailed=detailed)
        _print_used(page, queue, split, detailed=detailed)
    else:
        lost = document.packed if isinstance(document.packed, Absent) else document.split
        page.line()
        page.line(f"The ring cannot be shown: {notes.text(lost)}", ALARM)
    if not detailed and (packed is not None or split is not None):
        page.line()
        whole = "every descriptor" if packed else "the whole descriptor table and every slot"
        page.line(f"-v shows {whole} of {'the ring' if packed else 'both rings'}", FAINT)
    page.close(document.limits)


def _places(page: Page, queue: Queue, packed: PackedRing) -> list[str]:
    """Return where the parts of a packed ring lie: for the guest by ``VRing``, and in QEMU."""
    return [
        _place(page, queue, "desc", packed.descriptor_address),
        _place(page, queue, "avail", packed.driver_event_address),
        _place(page, queue, "used", packed.device_event_address),
    ]


def _print_positions(page: Page, queue: Queue, guest: SplitGuest | None) -> None:
    """Print the pointers in the order in which a request passes them, then the distances."""
    values: dict[str, Any] = {}
    if guest is not None:
        values["avail.idx"] = guest.avail_idx
    for name in ("shadow_avail_idx", "last_avail_idx", "used_idx"):
        values[name] = shown(queue, name)
    if guest is not None:
        values["used.idx"] = guest.used_idx
    values["signalled_used"] = shown(queue, "signalled_used")
    if guest is not None:
        values["used_event"] = guest.used_event
        values["avail_event"] = guest.avail_event
    distances = ("outstanding", *DISTANCES) if queue.stale else DISTANCES
    print_pointers(page, queue, values, MEANINGS, distances)


def _print_chains(page: Page, chains: Sequence[Chain]) -> None:
    page.line()
    if not chains:
        page.line("No chain is in flight, or published and not yet taken.")
        return
    page.line("Chains in flight, or published and not yet taken", "bold")
    page.table(
        [
            Column("head", [str(chain.head) for chain in chains], numeric=True),
            Column("descriptors", [str(len(chain.descriptors)) for chain in chains], numeric=True),
            Column("readable bytes", [str(chain.readable_bytes) for chain in chains], numeric=True),
            Column("writable bytes", [str(chain.writable_bytes) for chain in chains], numeric=True),
            Column("end", [clean(chain.end) for chain in chains]),
            Column("detail", [clean(chain.detail) for chain in chains], foldable=True),
        ],
        ["" if chain.end == "complete" else ALARM for chain in chains],
    )
    members = [(chain.head, each) for chain in chains for each in chain.descriptors]
    if not members:
        return
    page.line()
    page.line("Their descriptors (table: guest address of an indirect table)", "bold")
    page.table(
        [
            Column("head", [str(head) for head, _ in members], numeric=True),
            *_descriptor_columns([each for _, each in members]),
            Column("table", [_table(each) for _, each in members]),
        ]
    )


def _table(descriptor: Descriptor) -> str:
    return "the ring's" if descriptor.table is None else hexadecimal(descriptor.table)


def _descriptor_columns(descriptors: Sequence[Descriptor]) -> list[Column]:
    columns = [
        Column("index", [str(each.index) for each in descriptors], numeric=True),
        Column("address", [hexadecimal(each.address) for each in descriptors], numeric=True),
        Column("length", [str(each.length) for each in descriptors], numeric=True),
        Column("flags", [_flags(each) for each in descriptors]),
    ]
    if any(each.guest_address is not None for each in descriptors):
        columns.insert(2, column_of("guest-physical", [_physical(each) for each in descriptors], 1))
    if any(each.next is UNSET for each in descriptors):
        return [*columns, Column("id", [_id(each) for each in descriptors], numeric=True)]
    return [*columns, Column("next", [_next(each) for each in descriptors], numeric=True)]


def _physical(descriptor: Descriptor) -> str | Absent | None:
    """Return what an IOMMU makes of a descriptor's address."""
    found = descriptor.guest_address
    return found if found is None or isinstance(found, Absent) else hexadecimal(found)


def _id(descriptor: Descriptor) -> str:
    """Return the buffer id; in an indirect table that word means nothing."""
    return str(descriptor.id) if descriptor.table is None else f"({descriptor.id})"


def _next(descriptor: Descriptor) -> str:
    """Return the index of the next descriptor; without the flag that number means nothing."""
    return str(descriptor.next) if "next" in descriptor.flag_names else f"({descriptor.next})"


def _print_descriptor_table(
    page: Page, queue: Queue, split: SplitRing, chains: Sequence[Chain]
) -> None:
    owner = {
        each.index: chain.head for chain in chains for each in chain.descriptors if not each.table
    }
    _heading(page, "Descriptor table", queue, "desc", split.descriptor_address)
    if isinstance(split.descriptors, Absent):
        page.line(page.notes.text(split.descriptors), ALARM)
        return
    owners = [str(owner.get(each.index, NOTHING)) for each in split.descriptors]
    page.table(
        [
            *_descriptor_columns(split.descriptors),
            Column("chain of head", owners, numeric=True),
        ],
        [STAND_OUT if each.index in owner else "" for each in split.descriptors],
    )


def _flags(descriptor: Descriptor) -> str:
    return "|".join(map(clean, descriptor.flag_names)) or str(descriptor.flags)


def _print_available(page: Page, queue: Queue, split: SplitRing, *, detailed: bool) -> None:
    flags = page.notes.text(split.guest.avail_flags)
    _heading(page, f"Available ring (flags {flags})", queue, "avail", split.avail_address)
    if isinstance(split.available, Absent):
        page.line(page.notes.text(split.available), ALARM)
        return
    kept = _window(split.available, detailed=detailed)
    page.table(
        [
            Column("slot", [str(each.slot) for each in kept], numeric=True),
            Column("head", [str(each.head) for each in kept], numeric=True),
            Column("pointers", [_marks(each) for each in kept], foldable=True),
        ],
        [STAND_OUT if each.marks else "" for each in kept],
    )


def _print_used(page: Page, queue: Queue, split: SplitRing, *, detailed: bool) -> None:
    flags = page.notes.text(split.guest.used_flags)
    _heading(page, f"Used ring (flags {flags})", queue, "used", split.used_address)
    if isinstance(split.used, Absent):
        page.line(page.notes.text(split.used), ALARM)
        return
    kept = _window(split.used, detailed=detailed)
    page.table(
        [
            Column("slot", [str(each.slot) for each in kept], numeric=True),
            Column("id", [str(each.id) for each in kept], numeric=True),
            Column("length", [str(each.length) for each in kept], numeric=True),
            Column("pointers", [_marks(each) for each in kept], foldable=True),
        ],
        [STAND_OUT if each.marks else "" for each in kept],
    )


def _marks(entry: AvailEntry | UsedEntry) -> str:
    return "<- " + ", ".join(map(clean, entry.marks)) if entry.marks else ""


def _window(entries: Sequence[Entry], *, detailed: bool) -> list[Entry]:
    """Return the slots around those where a pointer stands, across the ring's end; or all."""
    if detailed:
        return list(entries)
    count = len(entries)
    marked = [at for at, entry in enumerate(entries) if entry.marks]
    near = {(at + step) % count for at in marked for step in range(-AROUND, AROUND + 1)}
    return [entry for at, entry in enumerate(entries) if at in near]


def _heading(page: Page, title: str, queue: Queue, member: str, address: int | Absent) -> None:
    """Print a part's title and where it lies: for the guest by ``VRing``, and in QEMU's memory."""
    page.line()
    page.line(f"{title}: {_place(page, queue, member, address)}", "bold")


def _place(page: Page, queue: Queue, member: str, address: int | Absent) -> str:
    places = []
    vring = queue.fields.get("vring") if isinstance(queue.fields, dict) else None
    if isinstance(vring, dict) and member in vring:
        places.append(f"guest address {page.notes.text(vring[member])}")
    place = page.notes.text(address) if isinstance(address, Absent) else hexadecimal(address)
    places.append(f"{place} in QEMU")
    return ", ".join(places)
