"""``vringcore loops`` as text: event loops, and the machine around the devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from vringcore.model.values import Absent
from vringcore.report.cells import NOTHING, clean, hexadecimal, text_of
from vringcore.report.header import print_header
from vringcore.report.machine import print_interrupts, print_machine, spans
from vringcore.report.page import FAINT, STAND_OUT, Column, Page, column_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.model.loops import BottomHalf, EventLoop, Handler, Timer
    from vringcore.model.report import Report


def print_loops(page: Page, report: Report, *, detailed: bool) -> None:
    """Print the machine, the event loops, and interrupts; with ``detailed`` line by line."""
    print_header(page, report.core, report.qemu)
    if report.machine is not UNSET:
        print_machine(page, report.machine)
    for loop in report.event_loops or ():
        _print_loop(page, loop, detailed=detailed)
    if report.machine is not UNSET:
        devices = () if report.devices is UNSET else report.devices
        print_interrupts(page, report.machine.interrupts, devices, detailed=detailed)
    page.close(report.limits)


def _print_loop(page: Page, loop: EventLoop, *, detailed: bool) -> None:
    page.line()
    page.line(_title(page, loop), "bold")
    page.line(f"  {_state(page, loop)}")
    for what, rows, table in (
        ("handlers", loop.handlers, _handlers if detailed else _brief_handlers),
        ("bottom halves", loop.bottom_halves, _bottom_halves),
        ("timers", loop.timers, _timers),
    ):
        if isinstance(rows, Absent):
            page.line(f"  {what}: {page.notes.mark(rows)}")
        elif rows:
            columns, styles = table(rows)  # type: ignore[arg-type]
            page.table(columns, styles)
    if isinstance(loop.scheduled, Absent) or loop.scheduled:
        scheduled = page.notes.text(_all(loop.scheduled))
        page.line(f"  coroutines that it is to enter: {scheduled}")


def _title(page: Page, loop: EventLoop) -> str:
    name = page.notes.text(loop.name)
    thread = "no thread is known to run it" if loop.lwp is None else f"thread {loop.lwp}"
    return f"event loop {name}, {thread}, at {hexadecimal(loop.address)}"


def _state(page: Page, loop: EventLoop) -> str:
    text = page.notes.text
    facts = [
        f"sleeps by {text(loop.waits_by)}",
        f"polling {text(loop.polling)} (at most {text(loop.poll_max_ns)} ns)",
        f"notify_me {text(loop.notify_me)}",
        f"notified {text(loop.notified)}",
    ]
    if loop.external_disabled is not None:
        facts.append(f"external {text(loop.external_disabled)}")
    return ", ".join(facts)


def _all(addresses: Iterable[int] | Absent) -> str | Absent:
    return addresses if isinstance(addresses, Absent) else ", ".join(map(hexadecimal, addresses))


Table = tuple[list[Column], list[str]]


# Handlers


def _brief_handlers(handlers: tuple[Handler, ...]) -> Table:
    """Return one row for handlers of neighbouring queues that are alike else."""
    runs: list[list[Handler]] = []
    for handler in handlers:
        if runs and _goes_on(runs[-1][-1], handler):
            runs[-1].append(handler)
        else:
            runs.append([handler])
    firsts = [run[0] for run in runs]
    columns = [
        Column("fd", [spans(each.fd for each in run) for run in runs], numeric=True, foldable=True),
        column_of("watched for", [_events(each) for each in firsts], 1, numeric=False),
        Column("what it is", [_what(run) for run in runs], foldable=True),
    ]
    return columns, ["" if each.live else FAINT for each in firsts]


def _goes_on(last: Handler, handler: Handler) -> bool:
    """Tell whether a handler is of the queue below, and else as the one before it."""
    before, queue = last.queue, handler.queue
    if before is None or queue is None:
        return False
    return (queue.device, queue.side, queue.queue, handler.events, handler.live) == (
        before.device,
        before.side,
        before.queue - 1,
        last.events,
        last.live,
    )


def _events(handler: Handler) -> str:
    names = " ".join(handler.events) or "nothing"
    return names if handler.live or not handler.events else f"{names} (held)"


def _what(run: list[Handler]) -> str | Absent:
    first, last = run[0].queue, run[-1].queue
    owner = clean(run[0].owner)
    if not owner:
        return _function(run[0])
    if first is None or last is None or len(run) == 1:
        return owner
    return owner.replace(f"queue {first.queue} of", f"queues {last.queue} to {first.queue} of", 1)


def _function(handler: Handler) -> str | Absent:
    name = handler.write if handler.read is None else handler.read
    return name if isinstance(name, Absent) else text_of(name)


def _handlers(handlers: tuple[Handler, ...]) -> Table:
    columns = [
        column_of("fd", [each.fd for each in handlers]),
        column_of("watched for", [_events(each) for each in handlers], numeric=False),
        column_of("live", [each.live for each in handlers], 1, numeric=False),
        column_of("polled", [each.polled for each in handlers], 2, numeric=False),
        Column("what it is", [clean(each.owner) or NOTHING for each in handlers], foldable=True),
        column_of("read", [each.read for each in handlers], 4, numeric=False),
        column_of("write", [each.write for each in handlers], 5, numeric=False),
        column_of("poll", [each.poll for each in handlers], 5, numeric=False),
        column_of("opaque", [each.opaque for each in handlers], 6),
        column_of("address", [each.address for each in handlers], 6),
    ]
    return columns, ["" if each.live else FAINT for each in handlers]


# What is yet to run


def _bottom_halves(halves: tuple[BottomHalf, ...]) -> Table:
    columns = [
        column_of("BH", [_half(each) for each in halves], numeric=False),
        column_of("flags", [_flags(each) for each in halves], numeric=False),
        column_of("function", [each.callback for each in halves], 1, numeric=False),
        column_of("opaque", [each.opaque for each in halves], 2),
        column_of("address", [each.address for each in halves], 3),
    ]
    return columns, [STAND_OUT if "scheduled" in each.flags else "" for each in halves]


def _half(half: BottomHalf) -> Any:
    return half.callback if half.name is None else half.name


def _flags(half: BottomHalf) -> str:
    return " ".join([*half.flags, *(["taken"] if half.taken else [])]) or NOTHING


def _timers(timers: tuple[Timer, ...]) -> Table:
    columns = [
        column_of("timer", [each.callback for each in timers], numeric=False),
        column_of("clock", [each.clock for each in timers], numeric=False),
        column_of("expires at (ns)", [each.expires_ns for each in timers]),
        column_of("opaque", [each.opaque for each in timers], 1),
        column_of("address", [each.address for each in timers], 2),
    ]
    return columns, []
