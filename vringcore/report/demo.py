"""``vringcore demo`` as text: two questions to the sample, and how the answer is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.model.queues import Counts
from vringcore.model.values import Absent
from vringcore.report.page import STAND_OUT
from vringcore.report.queues import print_queues
from vringcore.report.why import print_verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.report import Report
    from vringcore.report.page import Page

INTRODUCTION = """\
A virtual machine whose migration never ends and whose monitor no longer answers. gcore took a \
core of its QEMU, and `vringcore slim` made it small: {size:.0f} KB, nothing of the guest's data \
in it."""


def pages(report: Report, size: int) -> Iterator[Callable[[Page], None]]:
    """Yield the demo page by page.

    :param report: of the sample, with its verdict
    :param size: of the sample, in bytes
    """
    name = report.core.path.rpartition("/")[2]
    short = msgspec.structs.replace(report, core=msgspec.structs.replace(report.core, path=name))

    def introduction(page: Page) -> None:
        page.line(INTRODUCTION.format(size=size / 1000))

    def why(page: Page) -> None:
        _ask(page, f"why {name}")
        print_verdict(page, short, detailed=False)

    def queues(page: Page) -> None:
        _ask(page, f"queues {name}")
        print_queues(page, short, detailed=False)
        _read(page, _of_queues(report))

    yield from (introduction, why, queues)


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


def _queues(report: Report) -> Iterator[tuple[Device, Queue]]:
    for device in report.devices or ():
        for queue in device.queues or ():
            yield device, queue
