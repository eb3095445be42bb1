"""What each slot of a virtqueue's ring holds, and which indices stand at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.model.rings import PackedRing, SplitRing
from vringcore.report.queues import filled_by_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vringcore.model.report import RingDocument
    from vringcore.model.rings import AvailEntry

IN_FLIGHT = "in-flight"
TAKEN = "taken"
UNSEEN = "unseen"
FREE = "free"
CANDIDATE = "candidate"

WORDS = {
    IN_FLIGHT: "in flight: the device took it and has not given it back",
    TAKEN: "taken by the device, no request of QEMU's was found for it",
    UNSEEN: "published by the driver, not yet seen by the device",
    CANDIDATE: "not given back; whether the back-end has taken it, it alone knows",
}
"""What the states of a slot mean, in the order in which a legend has them."""

BRIEF = {
    IN_FLIGHT: "in flight",
    TAKEN: "taken",
    UNSEEN: "unseen",
    CANDIDATE: "outstanding",
    FREE: "",
}
"""The same in a word or two."""


class SlotCell(msgspec.Struct, frozen=True):
    """A slot in the strip: what it holds, in which state, and which indices stand at it."""

    slot: int
    text: str
    state: str
    marks: tuple[str, ...]


def slots_of(document: RingDocument) -> list[SlotCell]:
    """Return the slots of a queue's ring, none where there is none or it cannot be read."""
    split, packed = document.split, document.packed
    if isinstance(split, SplitRing) and isinstance(split.available, tuple):
        return _split_slots(document, split.available, _used_marks(split))
    return _packed_slots(document, packed) if isinstance(packed, PackedRing) else []


def _used_marks(split: SplitRing) -> dict[int, tuple[str, ...]]:
    """Return the indices of the used ring by slot: both rings number their slots alike."""
    used = split.used if isinstance(split.used, tuple) else ()
    return {entry.slot: entry.marks for entry in used if entry.marks}


def _split_slots(
    document: RingDocument, entries: Sequence[AvailEntry], used: Mapping[int, tuple[str, ...]]
) -> list[SlotCell]:
    """Return the slots of the available ring.

    A head in flight is in the slot in which it was published last: the first that has it, from
    where the driver publishes next, backwards.
    """
    size = len(entries)
    marks = {entry.slot: (*entry.marks, *used.get(entry.slot, ())) for entry in entries}
    unseen = _count(document, "unseen")
    published = _marked(entries, "avail.idx")
    state: dict[int, str] = {}
    if published is not None:
        wanted = {
            each.head: CANDIDATE if each.source == "ring" else IN_FLIGHT
            for each in document.queue.in_flight or ()
        }
        for back in range(1, size + 1):
            at = (published - back) % size
            if back <= unseen:
                state[at] = UNSEEN
            elif entries[at].head in wanted:
                state[at] = wanted.pop(entries[at].head)
    return [
        SlotCell(entry.slot, f"head {entry.head}", state.get(entry.slot, FREE), marks[entry.slot])
        for entry in entries
    ]


def _count(document: RingDocument, name: str) -> int:
    counts = document.queue.counts
    value = getattr(counts, name, None) if counts else None
    return value if isinstance(value, int) else 0


def _marked(entries: Iterable[AvailEntry], name: str) -> int | None:
    return next((entry.slot for entry in entries if name in entry.marks), None)


def _packed_slots(document: RingDocument, ring: PackedRing) -> list[SlotCell]:
    """Return the slots of a packed ring; those of chains in flight that are still in it as such."""
    descriptors = ring.descriptors if isinstance(ring.descriptors, tuple) else ()
    heads = {each.head for each in document.queue.in_flight or () if each.chain_end == "complete"}
    held = {
        descriptor.index
        for chain in document.chains
        if chain.head in heads
        for descriptor in chain.descriptors
        if descriptor.table is None
    }
    found = []
    for each in descriptors:
        state = {"taken": TAKEN, "available": UNSEEN}.get(each.state, FREE)
        if state == TAKEN and each.slot in held:
            state = IN_FLIGHT
        text = f"id {each.id}" if each.state != "left-over" else "left over"
        found.append(SlotCell(each.slot, text, state, each.marks))
    return found


def caption(document: RingDocument) -> str:
    """Return what is to be said beside a ring so that it alarms nobody without need."""
    if filled_by_device(document.queue.role):
        return "The driver keeps buffers here for the device to use later: that is normal."
    if document.queue.stale:
        return f"{document.queue.ring_owner} runs this ring: QEMU's own indices are stale."
    return ""
