"""``vringcore ring`` as text: a queue's pointers, each with what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.model.queues import Counts
from vringcore.report.page import STAND_OUT, Column, column_of
from vringcore.report.queues import outstanding, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vringcore.model.queues import Queue
    from vringcore.report.page import Page

AROUND = 4
"""Slots shown on either side of a pointer."""

BUSY = ("inuse", "unseen", "outstanding")
"""What tells that a queue has requests that wait for the device."""


DISTANCES = ("unseen", "popped", "leaked", "past_used_event")
"""What :class:`Counts` has of every ring."""


def print_pointers(
    page: Page,
    queue: Queue,
    values: Mapping[str, Any],
    meanings: Mapping[str, str],
    distances: Sequence[str] = DISTANCES,
) -> None:
    """Print the indices and events of a ring, then the distances and the notification state.

    :param values: the indices and events by name, in the order in which a request passes them
    :param meanings: what each means, and each distance
    :param distances: attributes of :class:`Counts`
    """
    values = {**values, "inuse": shown(queue, "in_use")}
    if isinstance(queue.counts, Counts):
        for name in distances:
            values[name] = getattr(queue.counts, name)
    values["notification"] = shown(queue, "notification")
    busy = outstanding(queue)
    page.table(
        [
            Column("pointer", list(values)),
            column_of("value", values.values()),
            Column("meaning", [meanings[name] for name in values], foldable=True),
        ],
        [
            STAND_OUT if busy and name in BUSY and isinstance(value, int) and value else ""
            for name, value in values.items()
        ],
    )
