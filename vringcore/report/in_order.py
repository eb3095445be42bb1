"""Queues whose chains are given back in order (VIRTIO_F_IN_ORDER), as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.report.page import ALARM, STAND_OUT, Column, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.queues import Ordered, Queue
    from vringcore.report.page import Page


def in_order_note(queue: Queue) -> str | None:
    """Return who holds back whom in a queue whose chains are given back in order, if anybody."""
    if not isinstance(queue.in_order, tuple):
        return None
    blocker, held = head_of_line(queue.in_order)
    if blocker is None or not held:
        return None
    heads = ", ".join(str(each.head) for each in held)
    what = "request is" if len(held) == 1 else "requests are"
    return (
        f"in order: {len(held)} {what} done (head {heads}) and held back by head {blocker.head},"
        " which is not"
    )


def head_of_line(entries: Sequence[Ordered]) -> tuple[Ordered | None, list[Ordered]]:
    """Return the oldest chain that the device is not done with, and those it holds back."""
    for at, entry in enumerate(entries):
        if not entry.filled:
            return entry, [each for each in entries[at:] if each.filled]
    return None, []


def print_in_order(page: Page, queue: Queue) -> None:
    """Print the chains in flight of a queue that gives them back in order."""
    if isinstance(queue.in_order, Absent):
        page.line()
        page.line(f"Chains in order cannot be shown: {page.notes.text(queue.in_order)}", ALARM)
        return
    if not queue.in_order:
        return
    blocker, _ = head_of_line(queue.in_order)
    page.line()
    page.line("In the order in which they are given back (VIRTIO_F_IN_ORDER)", "bold")
    page.table(
        [
            Column("head", [str(each.head) for each in queue.in_order], numeric=True),
            Column("descriptors", [str(each.ndescs) for each in queue.in_order], numeric=True),
            column_of("written", [each.written for each in queue.in_order]),
            Column("state", [_state(each, blocker) for each in queue.in_order], foldable=True),
        ],
        [STAND_OUT if each is blocker else "" for each in queue.in_order],
    )


def _state(entry: Ordered, blocker: Ordered | None) -> str:
    if entry is blocker:
        return "not done: all others wait for it"
    if not entry.filled:
        return "not done"
    return "done, to be given back" if blocker is None else f"done, held back by {blocker.head}"
