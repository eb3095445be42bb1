"""The HTML page of a core: everything that `vringcore why` knows, and the rings."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from vringcore.errors import UsageError
from vringcore.model.values import Absent
from vringcore.report.block import print_block
from vringcore.report.cells import NOTHING, Footnotes, clean, hexadecimal, text_of
from vringcore.report.devices import print_device, print_devices
from vringcore.report.header import device_name
from vringcore.report.html.graph import draw
from vringcore.report.html.groups import edges_of
from vringcore.report.html.locks import print_locks
from vringcore.report.html.ring import RingDrawing, draw_ring
from vringcore.report.html.sheet import Sheet, sheet_of, verb_sheet
from vringcore.report.html.slots import BRIEF, CANDIDATE, IN_FLIGHT, caption
from vringcore.report.html.stacks import coroutine_stacks, thread_stacks
from vringcore.report.loops import print_loops
from vringcore.report.queues import never_used, outstanding, print_queues, queue_columns
from vringcore.report.requests import print_requests
from vringcore.report.why import GRAVE, evidence_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.report import Report, RingDocument

DETAILED_REQUESTS = 256
"""Requests of which each is shown with its buffers; where there are more, the table alone."""

EDGES = 400
"""Rows of the table of who waits for whom; JSON has them all."""

LISTED = 8
"""Requests in flight that are named beside a ring."""

CARD_RANK = 2
"""Columns of the queue table that matter so much are shown beside the ring, too."""

BESIDE = ("", "device", "queue", "role")
"""Columns of the queue table that the heading of a ring's card has."""

SIGNS = {"stuck": "✖", "faulty": "⚠", "healthy": "✔", "unknown": "?"}


class Card(msgspec.Struct, frozen=True):
    """A queue with its ring, drawn if it could be read.

    :param facts: names and values of its indices and counts
    :param requests: the first of those in flight, in words
    :param held: the state of those in flight: a ring that vhost runs tells candidates
    :param more: how many requests are not among them
    """

    anchor: str
    device: Device
    name: str
    queue: Queue
    drawing: RingDrawing | None
    missing: str
    caption: str
    facts: tuple[tuple[str, str], ...]
    requests: tuple[str, ...]
    more: int
    in_flight: int
    held: str
    unseen: int
    busy: bool


def render_page(report: Report, rings: Sequence[RingDocument]) -> str:
    """Return the page. The same report and rings always give the same page.

    :param report: with a verdict, as ``Core.why()`` returns it
    :param rings: those of the report's queues, device by device, in their order
    :raises UsageError: if jinja2 is not installed
    """
    environment = _environment()
    style = _style(environment)
    rings_sheet, stacks, evidence, process = Sheet(), Sheet(), Sheet(), Sheet()
    requests = _in_flight(report)
    edges = edges_of(report.wait_for) if report.wait_for else []
    cards = _cards(report, rings, rings_sheet)
    context: dict[str, Any] = {
        "report": report,
        "style": style,
        "style_hash": _hash(style),
        "sign": SIGNS.get(report.verdict.state, "?") if report.verdict else "?",
        "facts": _facts(report),
        "findings": [each for each in report.findings or () if each.severity in GRAVE],
        "lesser": [each for each in report.findings or () if each.severity not in GRAVE],
        "drawing": draw(report.wait_for) if report.wait_for else None,
        "edges": edges[:EDGES],
        "more_edges": len(edges[EDGES:]),
        "busy": [card for card in cards if card.busy],
        "calm": [card for card in cards if not card.busy and not never_used(card.queue)],
        "unused": [card for card in cards if not card.busy and never_used(card.queue)],
        "request_count": requests,
        "requests": verb_sheet(print_requests, report, detailed=requests <= DETAILED_REQUESTS),
        "devices": verb_sheet(print_devices, report, detailed=False),
        "device_sheets": [
            (f"{device_name(each)} ({clean(each.kind)})", _device_sheet(each))
            for each in report.devices or ()
        ],
        "queues": verb_sheet(print_queues, report, detailed=False),
        "threads": thread_stacks(stacks, report),
        "coroutines": coroutine_stacks(stacks, report),
        "block": verb_sheet(print_block, report, detailed=True),
        "loops": verb_sheet(print_loops, report, detailed=True),
        "locks": verb_sheet(print_locks, report, detailed=True),
        "limits": _limits(report, rings),
        "process": _process(report, process.notes),
        "evidence_value": lambda value: evidence_value(evidence, value),
        "hexadecimal": hexadecimal,
        "brief": BRIEF,
        "noted": {
            "rings": rings_sheet.notes,
            "stacks": stacks.notes,
            "evidence": evidence.notes,
            "process": process.notes,
        },
    }
    return environment.get_template("page.html").render(context)


@cache
def _environment() -> Environment:
    """Return what renders the templates: it cleans and escapes every value that they write."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise UsageError(
            "a page cannot be made without jinja2", hint="pip install 'vringcore[html]'"
        ) from error
    return Environment(
        loader=PackageLoader("vringcore.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _cleaned(value: Any) -> Any:
    """Return a value as a template writes it: text of a core without what could steer a reader.

    Control characters and bidirectional overrides become visible; what is markup already, because
    a template made it, stays. Escaping comes after this.
    """
    if isinstance(value, Absent):
        return f"absent: {clean(value.describe())}"
    return clean(value) if type(value) is str else value


def _style(environment: Environment) -> Any:
    from markupsafe import Markup

    loader = environment.loader
    assert loader is not None
    source, _, _ = loader.get_source(environment, "style.css")
    return Markup(source)  # noqa: S704 - our own file


def _hash(style: str) -> str:
    """Return the hash by which the page's policy allows its one style sheet and nothing else."""
    return "sha256-" + b64encode(sha256(style.encode()).digest()).decode()


def _in_flight(report: Report) -> int:
    queues = [queue for device in report.devices or () for queue in device.queues or ()]
    return sum(len(queue.in_flight or ()) for queue in queues)


def _device_sheet(device: Device) -> Sheet:
    def write(sheet: Sheet) -> None:
        print_device(sheet, device)
        sheet.close(())

    return sheet_of(write)


# Rings


def _cards(report: Report, rings: Sequence[RingDocument], notes: Sheet) -> list[Card]:
    by_queue = {int(document.queue.address): document for document in rings}
    return [
        _card(device, queue, by_queue.get(int(queue.address)), notes)
        for device in report.devices or ()
        for queue in device.queues or ()
    ]


def _card(device: Device, queue: Queue, document: RingDocument | None, notes: Sheet) -> Card:
    drawing = None if document is None else draw_ring(document)
    in_flight = queue.in_flight or ()
    unseen = queue.counts.unseen if queue.counts else 0
    told = [f"head {each.head}: {each.summary}" for each in in_flight[:LISTED]]
    return Card(
        anchor=f"ring-{device.index}-{queue.index}",
        device=device,
        name=device_name(device),
        queue=queue,
        drawing=drawing,
        missing="" if drawing else _missing(queue, document, notes.notes),
        caption="" if document is None else caption(document),
        facts=tuple(
            (column.header, notes.notes.text(column.cells[0]))
            for column in queue_columns([(device, queue)])
            if column.header not in BESIDE and column.rank <= CARD_RANK
        ),
        requests=tuple(told),
        more=len(in_flight) - len(told),
        in_flight=len(in_flight),
        held=CANDIDATE if any(each.source == "ring" for each in in_flight) else IN_FLIGHT,
        unseen=unseen if isinstance(unseen, int) else 0,
        busy=outstanding(queue),
    )


def _missing(queue: Queue, document: RingDocument | None, notes: Footnotes) -> str:
    """Return why a ring is not drawn."""
    if queue.ring_state == "not-set-up":
        return "The driver has not set this queue up."
    part: Any = None
    if document is not None:
        part = _lost_part(document)
    reason = f": {notes.text(part)}" if isinstance(part, Absent) else ""
    return f"The ring cannot be read ({queue.ring_state}){reason}."


def _lost_part(document: RingDocument) -> Any:
    """Return the absence of a ring, or of that part of it which holds its slots."""
    for ring, slots in ((document.split, "available"), (document.packed, "descriptors")):
        if ring is not UNSET:
            return ring if isinstance(ring, Absent) else getattr(ring, slots)
    return None


# What is said in listings


def _known(value: Any) -> str:
    """Return a value where there is no room for a footnote."""
    return f"unknown ({value.reason})" if isinstance(value, Absent) else text_of(value)


def _facts(report: Report) -> list[tuple[str, str]]:
    """Return what tells one VM and one core from another."""
    core, qemu = report.core, report.qemu
    facts = [] if qemu.vm_name is None else [("VM", _known(qemu.vm_name))]
    facts += [
        ("run state", _known(qemu.run_state)),
        ("migration", _known(qemu.migration)),
        ("QEMU", _known(qemu.version)),
        ("machine", _known(qemu.machine_type)),
        ("pid", _known(qemu.pid)),
        ("core", core.path.rsplit("/", 1)[-1]),
    ]
    if not isinstance(core.captured_at, Absent):
        facts.append(("captured", core.captured_at))
    if not core.complete:
        facts.append(("core file", "TRUNCATED"))
    return facts


def _process(report: Report, notes: Footnotes) -> list[tuple[str, str]]:
    core, qemu = report.core, report.qemu
    line = qemu.command_line
    return [
        ("core", core.path),
        ("size", f"{core.size} bytes"),
        ("written by", core.kind),
        ("written at", notes.text(core.captured_at)),
        ("processor", core.machine),
        ("complete", notes.text(core.complete)),
        ("guest RAM", core.guest_ram),
        ("threads", notes.text(core.threads)),
        ("build-id of QEMU", core.build_id),
        ("UUID of the VM", notes.text(qemu.vm_uuid)),
        ("signature of the verdict", report.signature or NOTHING),
        ("command line", notes.text(line) if isinstance(line, Absent) else " ".join(line)),
    ]


def _limits(report: Report, rings: Sequence[RingDocument]) -> list[tuple[str, str, str]]:
    limits = [*report.limits, *(each for document in rings for each in document.limits)]
    return [(each.what, each.why, each.hint) for each in dict.fromkeys(limits)]
