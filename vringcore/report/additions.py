"""The members of VirtQueue that a fork of QEMU added, beside the queues they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.report.cells import clean
from vringcore.report.header import device_name
from vringcore.report.page import STAND_OUT, Column, Page, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.values import Fields


def print_additions(page: Page, rows: Sequence[tuple[Device, Queue]]) -> None:
    """Print what the build keeps in VirtQueue and no upstream QEMU has; nothing if it keeps none.

    Of a pair of counters named like ``nr_request`` and ``nr_response`` the difference is shown too:
    the requests that are outstanding by the fork's own count.
    """
    found = [
        (device, queue, queue.fields) for device, queue in rows if isinstance(queue.fields, dict)
    ]
    names = list(dict.fromkeys(name for _, queue, _ in found for name in queue.unknown_members))
    if not names:
        return
    everything = [fields for _, _, fields in found]
    columns = [
        Column("device", [device_name(device) for device, _, _ in found]),
        Column("queue", [str(queue.index) for _, queue, _ in found], numeric=True),
    ]
    plain = [name for name in names if not any(_nested(fields, name) for fields in everything)]
    columns += [
        column_of(clean(name), [each.get(name) for each in everything], 1) for name in plain
    ]
    ahead = [False] * len(found)
    for request, response in _pairs(plain):
        differences = [_difference(fields, request, response) for fields in everything]
        columns.append(column_of(clean(f"{request} - {response}"), differences))
        ahead = [one or bool(each) for one, each in zip(ahead, differences, strict=True)]
    page.line()
    listed = ", ".join(map(clean, names))
    page.line(f"this build keeps in VirtQueue what no upstream QEMU has: {listed}", "bold")
    page.table(columns, [STAND_OUT if each else "" for each in ahead])


def _nested(fields: Fields, name: str) -> bool:
    return isinstance(fields.get(name), (dict, list, tuple))


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the counters that belong together by their names."""
    return [
        (name, response)
        for name in names
        if "request" in name and (response := name.replace("request", "response")) in names
    ]


def _difference(fields: Fields, request: str, response: str) -> int | None:
    """Return how many more requests than responses were counted, None if that cannot be told."""
    asked, answered = fields.get(request), fields.get(response)
    if isinstance(asked, int) and isinstance(answered, int):
        return asked - answered
    return None
