"""``vringcore queues`` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.model.queues import Counts, EventSuppression, PackedGuest, Queue, SplitGuest
from vringcore.model.values import Absent
from vringcore.report.additions import print_additions
from vringcore.report.cells import NOTHING, clean, flatten, hexadecimal, text_of
from vringcore.report.header import device_name, nothing_found, print_header
from vringcore.report.in_order import in_order_note
from vringcore.report.page import FAINT, STAND_OUT, Column, Page, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import UnsetType

    from vringcore.model.devices import Device
    from vringcore.model.report import Report

Row = tuple["Device", Queue]

LEGEND = (
    "> has requests outstanding: not yet seen by the device (unseen) or inside it (inuse);"
    " `vringcore requests` names them"
)

STALE = (
    "note: (in parentheses) QEMU's copy from the last time that it ran the ring itself: it says"
    " nothing about now"
)


def print_queues(page: Page, report: Report, *, detailed: bool) -> None:
    """Print the table of all queues, and with ``detailed`` every member of each VirtQueue."""
    print_header(page, report.core, report.qemu)
    rows = [
        (device, queue)
        for device in report.devices or ()
        if isinstance(device.queues, tuple)
        for queue in device.queues
    ]
    page.line()
    if rows:
        shown = rows if page.unbounded or detailed else _without_unused(rows)
        busy = [outstanding(queue) for _, queue in shown]
        page.table(queue_columns(shown), [STAND_OUT if each else "" for each in busy])
        _print_unused(page, [row for row in rows if row not in shown])
        if any(busy):
            page.line()
            page.line(LEGEND)
        print_additions(page, shown)
    else:
        page.line(nothing_found(report))
    if detailed:
        for device, queue in rows:
            _print_members(page, device, queue)
    _print_warnings(page, report.devices or ())
    page.close(report.limits)


def _without_unused(rows: list[Row]) -> list[Row]:
    """Return the rows without the queues that were never used, unless that leaves none."""
    return [row for row in rows if not never_used(row[1])] or rows


def never_used(queue: Queue) -> bool:
    """Tell whether a ring is as it was set up: nothing was ever published."""
    if queue.ring_state != "ready":
        return False
    if isinstance(queue.guest, PackedGuest):
        # What was not used looks like this; so does what went round an even number of times.
        unseen = queue.counts.unseen if isinstance(queue.counts, Counts) else None
        at_start = last_avail(queue) == used(queue) == "0 w1"
        return at_start and queue.in_use == 0 and unseen == 0
    if not isinstance(queue.guest, SplitGuest):
        return False
    if queue.stale:
        return queue.guest.avail_idx == queue.guest.used_idx == 0
    indices = (queue.guest.avail_idx, queue.last_avail_idx, queue.used_idx, queue.in_use)
    return all(index == 0 for index in indices)


def _print_unused(page: Page, rows: Sequence[Row]) -> None:
    kinds = {"split": "never used, all indices 0", "packed": "empty, at the start of their rings"}
    for kind, what in kinds.items():
        by_device: dict[str, list[int]] = {}
        for device, queue in rows:
            if queue.ring == kind:
                by_device.setdefault(device_name(device), []).append(queue.index)
        if by_device:
            names = ", ".join(f"{name} {ranges(indices)}" for name, indices in by_device.items())
            page.line(f"{what} (-v shows them): queues {names}", FAINT)


def ranges(indices: Sequence[int]) -> str:
    """Return sorted numbers as people write them: ``1 4-63``."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def outstanding(queue: Queue) -> bool:
    """Tell whether a queue has requests that wait for the device.

    Queues in which the driver keeps empty buffers for the device to fill are never told so: there
    buffers that were not taken are the normal state.
    """
    if filled_by_device(queue.role):
        return False
    counts = queue.counts
    if queue.stale:
        waiting = counts.outstanding if isinstance(counts, Counts) else None
        return isinstance(waiting, int) and waiting > 0
    unseen = counts.unseen if isinstance(counts, Counts) else 0
    return any(isinstance(count, int) and count > 0 for count in (queue.in_use, unseen))


def filled_by_device(role: str) -> bool:
    """Tell whether the driver posts empty buffers in a queue of this role, ahead of any event."""
    return role.startswith(("rx", "event", "stats", "control-rx"))


def queue_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of the queue table, in the order in which a request passes them."""
    queues = [queue for _, queue in rows]

    def member(name: str, rank: int = 0) -> Column:
        return column_of(name, [shown(queue, name) for queue in queues], rank)

    columns = [
        Column("", [">" if outstanding(queue) else "" for queue in queues]),
        Column("device", [device_name(device) for device, _ in rows]),
        Column("kind", [clean(device.kind) for device, _ in rows], rank=4),
        Column("queue", [str(queue.index) for queue in queues], numeric=True),
        Column("role", [clean(queue.role) for queue in queues], rank=3),
        Column("ring_owner", [clean(queue.ring_owner) for queue in queues]),
        Column("ring_state", [clean(queue.ring_state) for queue in queues], rank=1),
        member("size", rank=5),
        *_guest_columns(queues),
        member("shadow_avail_idx", rank=7),
        column_of("last_avail_idx", [last_avail(queue) for queue in queues]),
        column_of("used_idx", [used(queue) for queue in queues]),
        *_count_columns(queues),
        member("signalled_used", rank=8),
        member("signalled_used_valid", rank=9),
        member("notification", rank=6),
        member("vector", rank=9),
        column_of("ring", [queue.ring for queue in queues], 9, numeric=False),
        column_of("handle_output", [each.handle_output for each in queues], 10, numeric=False),
        Column("address", [hexadecimal(queue.address) for queue in queues], rank=11),
    ]
    for column in columns:
        if column.rank == 0 and column.cells and all(map(_of_no_use_now, column.cells)):
            column.rank = 1
    return [column for column in columns if not _says_nothing(column)]


def _of_no_use_now(cell: str | Absent) -> bool:
    """Tell whether a cell is QEMU's stale copy, or kept by the back-end that runs the ring."""
    return by_vhost(cell) or (isinstance(cell, str) and cell.startswith("("))


def last_avail(queue: Queue) -> int | str | Absent:
    """Return where the device looks next, in a packed ring with its wrap counter: ``51 w0``."""
    return _position(queue, "last_avail_idx", queue.last_avail_wrap_counter)


def used(queue: Queue) -> int | str | Absent:
    """Return where the device gives back next, in a packed ring with its wrap counter."""
    return _position(queue, "used_idx", queue.used_wrap_counter)


def shown(queue: Queue, name: str) -> Any:
    """Return an attribute of a queue; one that is stale in parentheses."""
    value = getattr(queue, name)
    return f"({text_of(value)})" if name in queue.stale and not _is_absent(value) else value


def _is_absent(value: object) -> bool:
    return isinstance(value, Absent)


def _position(queue: Queue, name: str, wrap: bool | Absent | UnsetType) -> int | str | Absent:
    index = getattr(queue, name)
    if isinstance(index, Absent) or not isinstance(wrap, bool):
        found: int | str | Absent = shown(queue, name)
        return found
    return f"({index} w{int(wrap)})" if name in queue.stale else f"{index} w{int(wrap)}"


def _says_nothing(column: Column) -> bool:
    """Tell whether a column can go: no queue is marked, every ring is ready, or QEMU's."""
    if column.header == "ring_owner":
        return all(cell == "qemu" for cell in column.cells)
    if column.header == "ring_state":
        return all(cell == "ready" for cell in column.cells)
    return all(cell == "" for cell in column.cells)


def _guest_columns(queues: Sequence[Queue]) -> list[Column]:
    """Return what the driver and the device wrote into guest memory, as far as it was asked for."""
    split = [None if queue.ring == "packed" else queue.guest for queue in queues]
    packed = [queue.guest if queue.ring == "packed" else None for queue in queues]
    columns = []
    if any(isinstance(guest, (SplitGuest, Absent)) for guest in split):
        columns += [
            _part(split, SplitGuest, "avail_idx", header="avail.idx"),
            _part(split, SplitGuest, "used_idx", header="used.idx", rank=6),
            _part(split, SplitGuest, "used_event", rank=2),
            _part(split, SplitGuest, "avail_event", rank=8),
            _part(split, SplitGuest, "avail_flags", header="avail.flags", rank=10),
            _part(split, SplitGuest, "used_flags", header="used.flags", rank=10),
        ]
    if any(isinstance(guest, (PackedGuest, Absent)) for guest in packed):
        columns += [
            _event_column(packed, "driver_event", rank=3),
            _event_column(packed, "device_event", rank=8),
        ]
    return columns


def _event_column(guests: Sequence[Any], name: str, *, rank: int) -> Column:
    values = [
        event_cell(getattr(each, name)) if isinstance(each, PackedGuest) else each
        for each in guests
    ]
    return column_of(name, values, rank, numeric=False)


def event_cell(event: EventSuppression | Absent) -> str | Absent:
    """Return what an event suppression structure asks for: ``at 51 w0`` or ``disable``."""
    if isinstance(event, Absent) or event.name != "desc":
        return event if isinstance(event, Absent) else event.name
    return f"at {event.slot} w{int(event.wrap)}"


def _count_columns(queues: Sequence[Queue]) -> list[Column]:
    asked = [queue.counts for queue in queues]
    inuse = column_of("inuse", [shown(queue, "in_use") for queue in queues])
    stale = any(queue.stale for queue in queues)
    if not any(isinstance(counts, Counts) for counts in asked):
        return [inuse]

    def count(name: str, rank: int) -> Column:
        """Return a count that is worth its place only where it is not zero."""
        column = _part(asked, Counts, name, rank=rank)
        if any(cell not in ("0", NOTHING) for cell in column.cells if not by_vhost(cell)):
            column.rank = 0
        return column

    return [
        *([_part(asked, Counts, "outstanding")] if stale else []),
        _part(asked, Counts, "unseen"),
        _part(asked, Counts, "popped", rank=0 if stale else 5),
        inuse,
        count("leaked", rank=5),
        count("unidentified", rank=7),
        _part(asked, Counts, "past_used_event", rank=1),
    ]


def by_vhost(cell: str | Absent) -> bool:
    """Tell whether a value is not there because the back-end keeps it to itself."""
    return isinstance(cell, Absent) and cell.reason == "run-by-vhost"


def _part(
    parts: Sequence[Any], kind: type, name: str, *, header: str = "", rank: int = 0
) -> Column:
    """Return one member of a part that some queues have, others lack, and some lost."""
    values = []
    for part in parts:
        if isinstance(part, kind):
            values.append(getattr(part, name))
        else:
            values.append(part if isinstance(part, Absent) else None)
    return column_of(header or name, values, rank)


def _print_members(page: Page, device: Device, queue: Queue) -> None:
    if not isinstance(queue.fields, dict):
        return
    page.line()
    name = f"{device_name(device)} queue {queue.index}: struct VirtQueue"
    page.line(f"{name} at {hexadecimal(queue.address)}", "bold")
    page.listing(flatten(queue.fields, page.notes))
    if queue.unknown_members:
        names = ", ".join(map(clean, queue.unknown_members))
        page.line(f"  members that no upstream QEMU has: {names}")


def _print_warnings(page: Page, devices: Sequence[Device]) -> None:
    """Say which numbers above are not QEMU's own, and which devices it gave up."""
    for device in devices:
        name = device_name(device)
        if device.broken is True:
            page.line(f"note: {name}: broken, QEMU serves it no more until it is reset", STAND_OUT)
    if any(queue.stale for device in devices for queue in device.queues or ()):
        page.line(STALE)
    if any(_waits(queue) for device in devices for queue in device.queues or ()):
        page.line("note: rx, event and stats queues hold empty buffers; unseen is normal there")
    if any(queue.ring == "packed" for device in devices for queue in device.queues or ()):
        page.line("note: w0 and w1 are wrap counters of packed rings, whose indices are slots")
    for device in devices:
        for queue in device.queues or ():
            note = in_order_note(queue)
            if note:
                page.line(f"note: {device_name(device)} queue {queue.index}: {note}", STAND_OUT)
    if any(_past_used_event(queue) for device in devices for queue in device.queues or ()):
        page.line(
            "note: past_used_event is a hint only: a driver that polls, or waits for no completion,"
            " leaves used_event behind"
        )


def _past_used_event(queue: Queue) -> bool:
    past = queue.counts.past_used_event if isinstance(queue.counts, Counts) else None
    return isinstance(past, int) and past > 0


def _waits(queue: Queue) -> bool:
    counts = queue.counts
    unseen = counts.unseen if isinstance(counts, Counts) else 0
    return filled_by_device(queue.role) and isinstance(unseen, int) and unseen > 0
