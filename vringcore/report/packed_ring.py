"""``vringcore ring`` as text: a packed ring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.model.values import Absent
from vringcore.report.cells import NOTHING, clean, hexadecimal
from vringcore.report.page import ALARM, FAINT, STAND_OUT, Column
from vringcore.report.pointers import AROUND, print_pointers
from vringcore.report.queues import event_cell, last_avail, shown, used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.queues import Queue
    from vringcore.model.rings import PackedRing, PackedSlot
    from vringcore.report.page import Page

MEANINGS = {
    "last_avail_idx": "slot, wrap counter: where the device looks for the next chain",
    "used_idx": "slot, wrap counter: where the device gives the next chain back",
    "signalled_used": "used_idx when QEMU last decided whether to interrupt",
    "driver_event": "when the driver wants an interrupt",
    "device_event": "when the device wants a kick",
    "inuse": "descriptors taken and not given back, as QEMU counts them",
    "unseen": "chains that are available from last_avail_idx on: not yet taken",
    "popped": "descriptors from used_idx to last_avail_idx: taken, not yet given back",
    "leaked": "popped - inuse: taken, and no longer known to the device",
    "past_used_event": "descriptors given back past the wished interrupt",
    "notification": "whether the device listens for kicks",
}


def print_positions(page: Page, queue: Queue, packed: PackedRing | None) -> None:
    """Print where the device stands, what both sides ask for, then the distances."""
    values: dict[str, Any] = {
        "last_avail_idx": last_avail(queue),
        "used_idx": used(queue),
        "signalled_used": shown(queue, "signalled_used"),
    }
    if packed is not None:
        values["driver_event"] = event_cell(packed.guest.driver_event)
        values["device_event"] = event_cell(packed.guest.device_event)
    print_pointers(page, queue, values, MEANINGS)


def print_slots(
    page: Page, queue: Queue, packed: PackedRing, places: Sequence[str], *, detailed: bool
) -> None:
    """Print the ring; without ``detailed`` the slots that are in use or near a pointer.

    :param places: where the ring and the two event suppression structures lie, in words
    """
    page.line()
    page.line(f"Descriptor ring: {places[0]}", "bold")
    for name, place in zip(("Driver", "Device"), places[1:], strict=True):
        page.line(f"{name} event suppression: {place}", FAINT)
    if isinstance(packed.descriptors, Absent):
        page.line(page.notes.text(packed.descriptors), ALARM)
        return
    kept = _kept(packed.descriptors, detailed=detailed)
    page.table(
        [
            Column("slot", [str(each.slot) for each in kept], numeric=True),
            Column("address", [hexadecimal(each.address) for each in kept], numeric=True),
            Column("length", [str(each.length) for each in kept], numeric=True),
            Column("id", [str(each.id) for each in kept], numeric=True),
            Column("flags", [_flags(each) for each in kept]),
            Column("state", [clean(each.state) or NOTHING for each in kept]),
            Column("pointers", [_marks(each, queue) for each in kept], foldable=True),
        ],
        [STAND_OUT if each.marks or each.state in ("taken", "available") else "" for each in kept],
    )


def _kept(slots: Sequence[PackedSlot], *, detailed: bool) -> list[PackedSlot]:
    if detailed:
        return list(slots)
    count = len(slots)
    marked = {at for at, slot in enumerate(slots) if slot.marks}
    near = {(at + step) % count for at in marked for step in range(-AROUND, AROUND + 1)}
    busy = {at for at, slot in enumerate(slots) if slot.state in ("taken", "available")}
    return [slot for at, slot in enumerate(slots) if at in near | busy]


def _flags(slot: PackedSlot) -> str:
    return "|".join(map(clean, slot.flag_names)) or "0"


def _marks(slot: PackedSlot, queue: Queue) -> str:
    """Return the pointers at a slot, the device's with their wrap counters."""
    counters = {
        "last_avail_idx": queue.last_avail_wrap_counter,
        "used_idx": queue.used_wrap_counter,
    }
    words = []
    for mark in slot.marks:
        counter = counters.get(mark)
        wrap = f" w{int(counter)}" if isinstance(counter, bool) else ""
        words.append(clean(mark) + wrap)
    return "<- " + ", ".join(words) if words else ""
