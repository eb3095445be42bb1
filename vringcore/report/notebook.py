"""Devices, queues and verdicts as HTML for notebooks: ``%load_ext vringcore``."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from vringcore.model.devices import Device
from vringcore.model.findings import Verdict
from vringcore.model.queues import Queue
from vringcore.model.values import Absent
from vringcore.report.cells import clean, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_COLORS = {"stuck": "#b00020", "faulty": "#b00020", "healthy": "#1b7f3b"}

_COLUMNS = ("queue", "role", "size", "last_avail_idx", "used_idx", "in use", "in flight")


def register(shell: Any) -> None:
    """Let an IPython shell show our objects as tables; objects without a table stay as they are."""
    formatter = shell.display_formatter.formatters["text/html"]
    for kind, show in ((Device, device_html), (Queue, queue_html), (Verdict, verdict_html)):
        formatter.for_type(kind, show)


def device_html(device: Device) -> str:
    """Return a device: a line of what it is, and a table of its queues."""
    name = device.id if isinstance(device.id, str) else device.kind
    title = f"<b>{_text(name)}</b> {_text(device.kind)}, {_text(device.pci_address)}"
    broken = " <b>broken</b>" if device.broken is True else ""
    return f"<p>{title}{broken}</p>" + _table(map(_row, device.queues or ()))


def queue_html(queue: Queue) -> str:
    """Return a queue as a table, its requests in flight below it."""
    requests = "".join(
        f"<li>head {each.head}: {_text(each.summary)}</li>" for each in queue.in_flight or ()
    )
    return _table([_row(queue)]) + (f"<ul>{requests}</ul>" if requests else "")


def verdict_html(verdict: Verdict) -> str:
    """Return a verdict: its sentence, the way to the cause, what would prove it wrong."""
    color = _COLORS.get(verdict.state, "#7a5b00")
    state = f"{_text(verdict.state)}, {_text(verdict.confidence)} confidence"
    steps = "".join(f"<li>{_text(step)}</li>" for step in verdict.chain)
    wrong = "".join(f"<li>{_text(each)}</li>" for each in verdict.refuted_by)
    return (
        f'<p style="border-left:4px solid {color};padding-left:.6em"><b>{_text(verdict.summary)}'
        f"</b><br>{state} <code>{_text(verdict.code)}</code></p>"
        + (f"<ol>{steps}</ol>" if steps else "")
        + (f"<p>What would prove it wrong:</p><ul>{wrong}</ul>" if wrong else "")
    )


def _row(queue: Queue) -> Sequence[Any]:
    return (
        queue.index,
        queue.role,
        queue.size,
        queue.last_avail_idx,
        queue.used_idx,
        queue.in_use,
        len(queue.in_flight) if queue.in_flight else 0 if queue.in_flight == () else "",
    )


def _table(rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>" if body else "<p>No queues.</p>"


def _text(value: Any) -> str:
    if isinstance(value, Absent):
        hint = escape(clean(value.hint))
        return f'<i title="{hint}">absent: {escape(clean(value.reason))}</i>'
    return escape(clean(text_of(value)))
