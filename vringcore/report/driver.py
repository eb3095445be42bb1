"""``vringcore driver`` as text: the guest's driver beside QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.report.cells import NOTHING, clean, hexadecimal, text_of
from vringcore.report.page import ALARM, STAND_OUT, Column, Page, column_of

if TYPE_CHECKING:
    from vringcore.model.driver import DriverDocument, DriverQueue, DriverRequest

LOST = "nowhere"
OWED = "completed"
UNSEEN = "unseen"
ON_OFF = {None: NOTHING, True: "on", False: "off"}


def print_driver(page: Page, document: DriverDocument) -> None:
    """Print each queue's two sides, and what the driver waits for."""
    queues = document.queues
    if not queues:
        page.line("The driver's side of no queue was found.", ALARM)
        page.close(document.limits)
        return
    page.table(_queues(queues), [STAND_OUT if _is_odd(queue) else "" for queue in queues])
    waiting = [(queue, each) for queue in queues for each in _requests(queue)]
    rows = [(queue, each) for queue, each in waiting if not _is_lent(each)]
    page.line()
    if rows:
        page.table(_columns(rows), [STAND_OUT if r.place in (LOST, OWED) else "" for _, r in rows])
    else:
        page.line("The driver waits for nothing.")
    if len(waiting) > len(rows):
        count = len(waiting) - len(rows)
        page.line(
            f"note: {count} buffers that the device has not taken are not listed; --json has them"
        )
    for what, place in (
        ("the driver waits for, taken and not given back, and QEMU does not know of", LOST),
        ("were given back, and the driver has not read that", OWED),
    ):
        count = sum(each.place == place for _, each in rows)
        if count:
            page.line(f"{count} request{'s' if count > 1 else ''}: {what}", STAND_OUT)
    page.close(document.limits)


def _is_lent(request: DriverRequest) -> bool:
    """Tell whether it is no request of the block layer, and the device has not taken it."""
    return request.place == UNSEEN and request.tag is None and request.operation is None


def _is_odd(queue: DriverQueue) -> bool:
    return queue.broken or any(each.place in (LOST, OWED) for each in _requests(queue))


def _requests(queue: DriverQueue) -> tuple[DriverRequest, ...]:
    return () if isinstance(queue.requests, Absent) else queue.requests


def _name(queue: DriverQueue) -> str:
    return clean(queue.device_id) if isinstance(queue.device_id, str) else str(queue.device)


def _queues(queues: tuple[DriverQueue, ...]) -> list[Column]:
    return [
        Column("device", [_name(each) for each in queues]),
        column_of("queue", [each.queue for each in queues]),
        Column("name", [text_of(each.name) for each in queues], rank=2),
        column_of("driver: published", [each.avail_idx for each in queues]),
        column_of("QEMU: last_avail_idx", [each.last_avail_idx for each in queues]),
        column_of("unseen", [each.unseen for each in queues]),
        column_of("used.idx", [each.used_idx for each in queues]),
        column_of("driver: last_used_idx", [each.last_used_idx for each in queues]),
        column_of("used_event", [each.used_event for each in queues], rank=2),
        column_of("unread", [each.unread for each in queues]),
        Column("waits for", [_count(each) for each in queues], numeric=True),
        Column("interrupts", [ON_OFF[each.interrupts] for each in queues], rank=2),
        Column("broken", ["broken" if each.broken else "" for each in queues], rank=1),
        Column("address", [hexadecimal(each.address) for each in queues], rank=4),
    ]


def _count(queue: DriverQueue) -> str:
    if isinstance(queue.requests, Absent):
        return text_of(queue.requests)
    return str(len(queue.requests))


def _columns(rows: list[tuple[DriverQueue, DriverRequest]]) -> list[Column]:
    requests = [each for _, each in rows]
    return [
        Column("device", [_name(queue) for queue, _ in rows]),
        column_of("queue", [queue.queue for queue, _ in rows]),
        column_of("head", [each.head for each in requests]),
        Column("place", [each.place for each in requests]),
        column_of("tag", [each.tag for each in requests]),
        Column("operation", [text_of(each.operation) or NOTHING for each in requests]),
        column_of("sector", [each.sector for each in requests]),
        column_of("length", [each.length for each in requests]),
        Column("blk-mq", [text_of(each.state) or NOTHING for each in requests], rank=1),
        Column("token", [hexadecimal(each.token) for each in requests], rank=3),
    ]
