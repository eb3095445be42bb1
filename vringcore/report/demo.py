"""``vringcore demo`` as text: three questions to the sample, and how their answers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from vringcore.model.queues import Counts
from vringcore.model.values import Absent, Pointer
from vringcore.report.backtrace import print_backtraces
from vringcore.report.page import STAND_OUT
from vringcore.report.queues import print_queues
from vringcore.report.requests import print_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.report import Report
    from vringcore.model.threads import Thread
    from vringcore.report.page import Page

INTRODUCTION = """\
A virtual machine whose migration never ends and whose monitor no longer answers. gcore took a \
core of its QEMU, and `vringcore slim` made it small: {size:.0f} KB, nothing of the guest's data \
in it."""

MIGRATION = "migration"
MAIN_LOOP = "main-loop"

BIG_LOCK = {"bql", "qemu_global_mutex"}
"""QEMU's big lock: its name since 9.0, and before (system/cpus.c)."""

DRAINS = ("bdrv_do_drained_begin", "bdrv_drain_all_begin")
"""Functions that wait until no request is left (block/io.c)."""


def pages(report: Report, size: int) -> Iterator[Callable[[Page], None]]:
    """Yield the demo page by page.

    :param report: of the sample, with queues, requests and threads
    :param size: of the sample, in bytes
    """
    name = report.core.path.rpartition("/")[2]
    short = msgspec.structs.replace(report, core=msgspec.structs.replace(report.core, path=name))
    thread = _migration(report)
    alone = msgspec.structs.replace(short, threads=(thread,), coroutines=UNSET, limits=())

    def introduction(page: Page) -> None:
        page.line(INTRODUCTION.format(size=size / 1000))

    def queues(page: Page) -> None:
        _ask(page, f"queues {name}")
        print_queues(page, short, detailed=False)
        _read(page, _of_queues(report))

    def requests(page: Page) -> None:
        _ask(page, f"requests {name}")
        print_requests(page, short, detailed=False)
        _read(page, _of_requests(report))

    def backtrace(page: Page) -> None:
        _ask(page, f"backtrace {name} --thread {thread.lwp}")
        print_backtraces(page, alone, detailed=False)
        _read(page, _of_threads(report, thread))

    yield from (introduction, queues, requests, backtrace)


def _ask(page: Page, words: str) -> None:
    page.line()
    page.line(f"$ vringcore {words}", "bold")


def _read(page: Page, text: str) -> None:
    page.line()
    page.line(f"=> {text}", STAND_OUT)


def _of_queues(report: Report) -> str:
    queues = [queue for _, queue in _queues(report)]
    busy = [queue for queue in queues if queue.in_use]
    total = sum(queue.in_use for queue in busy if not isinstance(queue.in_use, Absent))
    unseen = sum(
        queue.counts.unseen
        for queue in queues
        if isinstance(queue.counts, Counts) and isinstance(queue.counts.unseen, int)
    )
    return (
        f"{len(busy)} of {len(queues)} queues have requests inside QEMU, {total} in all (inuse);"
        f" {unseen} are left in the rings that QEMU has not seen (unseen). The guest and its rings"
        " are well: what was taken never came back."
    )


def _of_requests(report: Report) -> str:
    requests = [each for _, queue in _queues(report) for each in queue.in_flight or ()]
    places = sorted({f"{w.node} ({w.place})" for each in requests for w in each.waits_in[-1:]})
    return (
        f"All {len(requests)} wait in the same place, {' and '.join(places)}: QEMU has sent them to"
        " the disk's NBD server, and no answer has come. The server is where to look next."
        if len(places) == 1
        else f"The {len(requests)} requests wait in {' and '.join(places)}."
    )


def _of_threads(report: Report, migration: Thread) -> str:
    drain = next((f.function for f in migration.frames if f.function in DRAINS), None)
    text = f"To stop the VM, the migration waits in {drain}() until those requests have ended."
    for thread in report.threads or ():
        if thread.role == MAIN_LOOP and _wants_big_lock(thread):
            text += (
                " Meanwhile it holds QEMU's big lock, and the main loop, which serves the monitor,"
                f" waits for that lock in thread {thread.lwp}."
            )
    return text


def _wants_big_lock(thread: Thread) -> bool:
    call = thread.system_call
    if call is None or isinstance(call, Absent):
        return False
    place = call.arguments.get("address")
    return isinstance(place, Pointer) and place.symbol in BIG_LOCK


def _migration(report: Report) -> Thread:
    return next(thread for thread in report.threads or () if thread.role == MIGRATION)


def _queues(report: Report) -> Iterator[tuple[Device, Queue]]:
    for device in report.devices or ():
        for queue in device.queues or ():
            yield device, queue
