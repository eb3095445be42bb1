"""``vringcore ring`` as text: a split ring with the pointers marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.model.queues import Counts
from vringcore.model.values import Absent
from vringcore.report.cells import clean, hexadecimal, size
from vringcore.report.page import ALARM, FAINT, STAND_OUT, Column, Page, column_of
from vringcore.report.queues import outstanding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.queues import (
        AvailEntry,
        Chain,
        Queue,
        SplitGuest,
        SplitRing,
        UsedEntry,
    )
    from vringcore.model.report import RingDocument
    from vringcore.model.requests import Descriptor

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
    "unseen": "avail.idx - last_avail_idx: published, not yet taken",
    "popped": "last_avail_idx - used_idx: taken, not yet given back",
    "leaked": "popped - inuse: taken, and no longer known to the device",
    "past_used_event": "used.idx - used_event: completions past the wished interrupt",
    "notification": "whether the device listens for kicks",
}


def print_ring(page: Page, document: RingDocument, *, detailed: bool) -> None:
    """Print one queue's ring; runs of unused slots are one line unless ``detailed``."""
    queue, split, notes = document.queue, document.split, page.notes
    name = document.device_id or notes.text(document.qom_path)
    page.line(
        f"{clean(name)} queue {queue.index} ({clean(queue.role)}): {queue.ring} ring,"
        f" {notes.text(queue.size)} slots, {clean(queue.ring_state)}",
        "bold",
    )
    page.line()
    _print_pointers(page, queue, None if isinstance(split, Absent) else split.guest)
    if isinstance(split, Absent):
        page.line()
        page.line(f"The ring cannot be shown: {notes.text(split)}", ALARM)
    else:
        _print_chains(page, document.chains)
        _print_descriptors(page, split, document.chains, detailed=detailed)
        _print_available(page, split, detailed=detailed)
        _print_used(page, split, detailed=detailed)
    page.close(document.limits)


def _print_pointers(page: Page, queue: Queue, guest: SplitGuest | None) -> None:
    """Print the pointers in the order in which a request passes them, then the distances."""
    values: dict[str, Any] = {}
    if guest is not None:
        values["avail.idx"] = guest.avail_idx
    values["shadow_avail_idx"] = queue.shadow_avail_idx
    values["last_avail_idx"] = queue.last_avail_idx
    values["used_idx"] = queue.used_idx
    if guest is not None:
        values["used.idx"] = guest.used_idx
    values["signalled_used"] = queue.signalled_used
    if guest is not None:
        values["used_event"] = guest.used_event
        values["avail_event"] = guest.avail_event
    values["inuse"] = queue.in_use
    if isinstance(queue.counts, Counts):
        for name in ("unseen", "popped", "leaked", "past_used_event"):
            values[name] = getattr(queue.counts, name)
    values["notification"] = queue.notification
    busy = outstanding(queue)
    page.table(
        [
            Column("pointer", list(values)),
            column_of("value", values.values()),
            Column("meaning", [MEANINGS[name] for name in values], foldable=True),
        ],
        [
            STAND_OUT if busy and name in ("inuse", "unseen") and value != 0 else ""
            for name, value in values.items()
        ],
    )


def _print_chains(page: Page, chains: Sequence[Chain]) -> None:
    page.line()
    if not chains:
        page.line("No chain is published and not taken, or in flight.")
        return
    page.line("Chains in flight, or published and not yet taken", "bold")
    page.table(
        [
            Column("head", [str(chain.head) for chain in chains], numeric=True),
            Column("end", [clean(chain.end) for chain in chains]),
            Column("descriptors", [_members(chain) for chain in chains], foldable=True),
            Column("readable", [size(chain.readable_bytes) for chain in chains], numeric=True),
            Column("writable", [size(chain.writable_bytes) for chain in chains], numeric=True),
            Column("detail", [clean(chain.detail) for chain in chains], foldable=True),
        ],
        ["" if chain.end == "complete" else ALARM for chain in chains],
    )


def _members(chain: Chain) -> str:
    """Return a chain's descriptors: ``12>13>14``, an indirect table's as ``12>[0>1>2]``."""
    text, inside = "", False
    for descriptor in chain.descriptors:
        indirect = descriptor.table is not None
        if text:
            text += ">"
        if indirect and not inside:
            text += "["
        text += str(descriptor.index)
        inside = indirect
    return text + ("]" if inside else "")


def _print_descriptors(
    page: Page, split: SplitRing, chains: Sequence[Chain], *, detailed: bool
) -> None:
    owner = {
        descriptor.index: chain.head
        for chain in chains
        for descriptor in chain.descriptors
        if descriptor.table is None
    }
    _heading(page, "Descriptor table", split.descriptor_address)
    if isinstance(split.descriptors, Absent):
        page.line(page.notes.text(split.descriptors), ALARM)
        return
    kept, left_out = _used_slots(split.descriptors, _is_blank_descriptor, detailed=detailed)
    page.table(
        [
            Column("index", [str(each.index) for each in kept], numeric=True),
            Column("address", [hexadecimal(each.address) for each in kept], numeric=True),
            Column("length", [str(each.length) for each in kept], numeric=True),
            Column("flags", [_flags(each) for each in kept]),
            Column(
                "next", [str(each.next) if each.flags & 1 else "-" for each in kept], numeric=True
            ),
            Column(
                "chain of head", [str(owner.get(each.index, "-")) for each in kept], numeric=True
            ),
        ],
        [STAND_OUT if each.index in owner else "" for each in kept],
    )
    _blank(page, left_out, "descriptor", "all zero")


def _is_blank_descriptor(descriptor: Descriptor) -> bool:
    return not (descriptor.address or descriptor.length or descriptor.flags or descriptor.next)


def _flags(descriptor: Descriptor) -> str:
    return "|".join(map(clean, descriptor.flag_names)) or str(descriptor.flags)


def _print_available(page: Page, split: SplitRing, *, detailed: bool) -> None:
    flags = page.notes.text(split.guest.avail_flags)
    _heading(page, f"Available ring (flags {flags})", split.avail_address)
    if isinstance(split.available, Absent):
        page.line(page.notes.text(split.available), ALARM)
        return
    kept, left_out = _used_slots(
        split.available, lambda each: not (each.head or each.marks), detailed=detailed
    )
    page.table(
        [
            Column("slot", [str(each.slot) for each in kept], numeric=True),
            Column("head", [str(each.head) for each in kept], numeric=True),
            Column("pointers", [_marks(each) for each in kept], foldable=True),
        ],
        [STAND_OUT if each.marks else "" for each in kept],
    )
    _blank(page, left_out, "slot", "head 0, no pointer")


def _print_used(page: Page, split: SplitRing, *, detailed: bool) -> None:
    flags = page.notes.text(split.guest.used_flags)
    _heading(page, f"Used ring (flags {flags})", split.used_address)
    if isinstance(split.used, Absent):
        page.line(page.notes.text(split.used), ALARM)
        return
    kept, left_out = _used_slots(
        split.used, lambda each: not (each.id or each.length or each.marks), detailed=detailed
    )
    page.table(
        [
            Column("slot", [str(each.slot) for each in kept], numeric=True),
            Column("id", [str(each.id) for each in kept], numeric=True),
            Column("length", [str(each.length) for each in kept], numeric=True),
            Column("pointers", [_marks(each) for each in kept], foldable=True),
        ],
        [STAND_OUT if each.marks else "" for each in kept],
    )
    _blank(page, left_out, "slot", "id 0, length 0, no pointer")


def _marks(entry: AvailEntry | UsedEntry) -> str:
    return "<- " + ", ".join(map(clean, entry.marks)) if entry.marks else ""


def _used_slots(entries: Sequence[Any], blank: Any, *, detailed: bool) -> tuple[list[Any], int]:
    """Return the entries worth a line, and how many were left out."""
    kept = [each for each in entries if detailed or not blank(each)]
    return kept, len(entries) - len(kept)


def _heading(page: Page, title: str, address: int | Absent) -> None:
    page.line()
    place = page.notes.text(address) if isinstance(address, Absent) else hexadecimal(address)
    page.line(f"{title} at guest address {place}", "bold")


def _blank(page: Page, count: int, what: str, why: str) -> None:
    if count:
        plural = "" if count == 1 else "s"
        page.line(f"{count} {what}{plural} not shown: {why} (-v shows all)", FAINT)
