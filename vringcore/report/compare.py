"""Two cores of one VM, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.report.cells import clean
from vringcore.report.header import print_header
from vringcore.report.page import ALARM, Column, column_of

if TYPE_CHECKING:
    from vringcore.model.compare import CompareDocument, IndexMove, QueueChange
    from vringcore.report.page import Page

MAX_LASTING = 8
"""Requests of one queue that are shown, but for -v."""

_SECOND = 1_000_000_000
_TOLD = _SECOND // 10
"""A shorter time, which a request had at least, tells nothing."""


def print_compare(page: Page, document: CompareDocument, *, detailed: bool = False) -> None:
    """Write what the comparison says, each queue, the requests that last, and the threads."""
    print_header(page, document.first.core, document.first.qemu)
    print_header(page, document.second.core, document.second.qemu)
    page.line()
    page.line(clean(document.summary))
    verdicts = _verdict(document.first.verdict), _verdict(document.second.verdict)
    if document.first.signature != document.second.signature:
        page.line(f"the verdict changed: {verdicts[0]}, then {verdicts[1]}")
    else:
        page.line(f"the verdict of each alone: {verdicts[1]}")
    shown = [each for each in document.queues if detailed or each.state != "idle"]
    if shown:
        _queues(page, shown)
    _lasting(page, shown, detailed=detailed)
    _threads(page, document, detailed=detailed)
    idle = len(document.queues) - len(shown)
    if idle:
        queues = "queue" if idle == 1 else "queues"
        page.remark(f"{idle} {queues} where nothing moved and nothing waits: -v shows them")
    page.close(document.limits)


def _queues(page: Page, queues: list[QueueChange]) -> None:
    names = list(dict.fromkeys(move.name for each in queues for move in each.indices))
    columns = [
        Column("device", [_device(each) for each in queues]),
        column_of("queue", [each.queue for each in queues]),
        Column("role", [clean(each.role) for each in queues], 2),
    ]
    columns += [
        Column(f"{name} moved", [_steps(each, name) for each in queues], rank, numeric=True)
        for rank, name in enumerate(names, 2)
    ]
    columns += [
        column_of("lasting", [len(each.lasting) for each in queues]),
        column_of("gone", [each.gone for each in queues], 1),
        column_of("new", [each.new for each in queues], 1),
        Column("state", [each.state for each in queues]),
    ]
    page.line()
    page.table(columns, [ALARM if each.state == "stuck" else "" for each in queues])


def _lasting(page: Page, queues: list[QueueChange], *, detailed: bool) -> None:
    for each in queues:
        if not each.lasting:
            continue
        page.line()
        page.line(f"in flight in both, {_device(each)} queue {each.queue}:")
        rows = each.lasting if detailed else each.lasting[:MAX_LASTING]
        for request in rows:
            time = request.at_least_ns
            age = f", for at least {time / _SECOND:.1f} s" if time and time >= _TOLD else ""
            place = f", waits in {clean(request.waits_in)}" if request.waits_in else ""
            page.line(f"head {request.head}: {clean(request.summary)}{age}{place}", indent=2)
        if len(rows) < len(each.lasting):
            page.line(f"and {len(each.lasting) - len(rows)} more: -v shows them", indent=2)


def _threads(page: Page, document: CompareDocument, *, detailed: bool) -> None:
    still = [each for each in document.threads if each.state == "same"]
    others = [each for each in document.threads if each.state != "same"]
    page.line()
    page.line(f"threads: {len(still)} of {len(document.threads)} are where they were")
    for each in document.threads if detailed else others:
        way = " < ".join(clean(name) for name in (each.second or each.first)[:4])
        page.line(f"{clean(each.role or 'thread')} ({each.lwp}) {each.state}: {way}", indent=2)


def _steps(queue: QueueChange, name: str) -> str | Absent:
    move: IndexMove | None = next((each for each in queue.indices if each.name == name), None)
    if move is None:
        return "-"
    return move.steps if isinstance(move.steps, Absent) else str(move.steps)


def _device(each: QueueChange) -> str:
    return clean(each.device_id) if isinstance(each.device_id, str) else clean(each.kind)


def _verdict(code: str) -> str:
    return clean(code) or "nothing stuck"
