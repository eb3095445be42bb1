"""``vringcore block`` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from vringcore.model.values import Absent
from vringcore.report.cells import NOTHING, clean, hexadecimal, text_of
from vringcore.report.header import print_header
from vringcore.report.page import STAND_OUT, Column, Page, column_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vringcore.model.block import (
        BackendState,
        BlockState,
        Engine,
        Job,
        NbdConnection,
        Node,
        ThrottleGroup,
        TrackedRequest,
    )
    from vringcore.model.report import Report


GIVEN = "/machine/peripheral/"
"""Where QEMU keeps the devices that the user gave an id; a back-end's own device is below it."""


def print_block(page: Page, report: Report, *, detailed: bool) -> None:
    """Print the block layer; with ``detailed`` each request, slot and worker's element too."""
    print_header(page, report.core, report.qemu)
    if report.block is not UNSET:
        _print_state(page, report.block, detailed=detailed)
    page.close(report.limits)


def _print_state(page: Page, block: BlockState, *, detailed: bool) -> None:
    drained = block.drain_all_count
    if isinstance(drained, Absent) or drained:
        page.line()
        page.line(
            f"All nodes are drained: bdrv_drain_all_count {page.notes.text(drained)}", STAND_OUT
        )
    nodes = _rows(page, "nodes", block.nodes)
    engines = _rows(page, "engines", block.engines)
    for title, rows, columns, busy in (
        ("Back-ends", _rows(page, "back-ends", block.backends), _backends, _is_busy_backend),
        ("Nodes", nodes, _nodes, _is_busy_node),
        ("Engines", engines, _engines, _is_busy_engine),
        ("Jobs", _rows(page, "jobs", block.jobs), _jobs, _never),
    ):
        if rows:
            _head(page, title)
            page.table(columns(rows), [STAND_OUT if busy(row) else "" for row in rows])
    for node in nodes:
        if node.nbd is not None and not isinstance(node.nbd, Absent):
            _print_nbd(page, node.name, node.nbd, detailed=detailed)
    for group in _rows(page, "throttle groups", block.throttle_groups):
        _print_group(page, group)
    if detailed:
        _print_requests(page, nodes)
        _print_work(page, engines)


def _head(page: Page, title: str) -> None:
    page.line()
    page.line(title, "bold")


def _rows(page: Page, what: str, rows: Sequence[Any] | Absent) -> list[Any]:
    """Return the rows; that they are absent is said where they would stand."""
    if isinstance(rows, Absent):
        page.line(f"{what}: {page.notes.mark(rows)}")
        return []
    return list(rows)


def _count(things: Sequence[Any] | Absent | None) -> Any:
    return things if things is None or isinstance(things, Absent) else len(things)


def _some(number: Any) -> bool:
    return isinstance(number, int) and number > 0


def _never(_row: Any) -> bool:
    return False


# Back-ends


def _is_busy_backend(row: BackendState) -> bool:
    parked = _count(row.parked)
    return _some(row.backend.in_flight) or _some(_count(row.queued)) or _some(parked)


def _user(row: BackendState) -> str | Absent | None:
    user = row.backend.name if row.device is None else row.device
    return _called(user) if isinstance(user, str) else user


def _called(path: str) -> str:
    """Return the id that a device was given, of its QOM path; another name as it is."""
    _, given, rest = path.partition(GIVEN)
    return rest.partition("/")[0] if given and path.startswith(GIVEN) else path


def _backends(rows: list[BackendState]) -> list[Column]:
    return [
        column_of("used by", [_user(row) for row in rows], numeric=False),
        column_of("root node", [row.backend.node for row in rows], numeric=False),
        column_of("in flight", [row.backend.in_flight for row in rows]),
        column_of("drained", [row.backend.quiesce_counter for row in rows]),
        column_of("queued", [_count(row.queued) for row in rows]),
        column_of("parked", [_count(row.parked) for row in rows]),
        column_of("status", [row.backend.io_status for row in rows], 1, numeric=False),
        column_of("rerror", [row.on_read_error for row in rows], 2, numeric=False),
        column_of("werror", [row.on_write_error for row in rows], 2, numeric=False),
        column_of("throttle", [row.throttle_group for row in rows], 3, numeric=False),
        column_of("address", [row.backend.address for row in rows], 4),
        column_of("event loop", [row.event_loop for row in rows], 5),
    ]


# Nodes


def _is_busy_node(row: Node) -> bool:
    return _some(row.in_flight) or _some(_count(row.tracked)) or _some(_count(row.flushes))


def _nodes(rows: list[Node]) -> list[Column]:
    return [
        column_of("node", [row.name for row in rows], numeric=False),
        column_of("driver", [row.driver for row in rows], numeric=False),
        column_of("in flight", [row.in_flight for row in rows]),
        column_of("drained", [row.quiesce_counter for row in rows]),
        column_of("tracked", [_count(row.tracked) for row in rows]),
        column_of("flushes", [_count(row.flushes) for row in rows]),
        column_of("used by", [_list(row.parents) for row in rows], 1, numeric=False),
        column_of("works on", [_children(row) for row in rows], 1, numeric=False),
        Column("file", [_text(row.file) for row in rows], 2, foldable=True),
        column_of("address", [row.address for row in rows], 4),
        column_of("event loop", [row.event_loop for row in rows], 5),
    ]


def _text(value: Any) -> str | Absent:
    return value if isinstance(value, Absent) else text_of(value)


def _list(names: Iterable[str] | Absent) -> str | Absent:
    if isinstance(names, Absent):
        return names
    return ", ".join(clean(_called(name)) for name in names) or NOTHING


def _children(row: Node) -> str | Absent:
    if isinstance(row.children, Absent):
        return row.children
    return _list([": ".join(child) for child in row.children])


# Engines and jobs


def _is_busy_engine(row: Engine) -> bool:
    return _some(row.in_flight) or _some(row.in_queue)


def _engines(rows: list[Engine]) -> list[Column]:
    return [
        column_of("engine", [row.kind for row in rows], numeric=False),
        column_of("in flight", [row.in_flight for row in rows]),
        column_of("in queue", [row.in_queue for row in rows]),
        column_of("not handed on", [row.unprocessed for row in rows], 1),
        column_of("blocked", [row.blocked for row in rows], 1, numeric=False),
        column_of("plugged", [row.plugged for row in rows], 2),
        column_of("threads", [row.total_threads for row in rows], 1),
        column_of("idle", [row.idle_threads for row in rows], 1),
        column_of("event loop", [row.event_loop for row in rows], 2),
        column_of("address", [row.address for row in rows], 4),
    ]


def _jobs(rows: list[Job]) -> list[Column]:
    return [
        column_of("job", [row.id for row in rows], numeric=False),
        column_of("kind", [row.kind for row in rows], numeric=False),
        column_of("status", [row.status for row in rows], numeric=False),
        column_of("paused", [row.paused for row in rows], numeric=False),
        column_of("pauses", [row.pause_count for row in rows], 1),
        column_of("busy", [row.busy for row in rows], 1, numeric=False),
        column_of("cancelled", [row.cancelled for row in rows], 1, numeric=False),
        column_of("nodes", [_list(row.nodes) for row in rows], 1, numeric=False),
        column_of("coroutine", [row.coroutine for row in rows], 2),
    ]


# NBD and throttling


def _print_nbd(page: Page, node: str, nbd: NbdConnection, *, detailed: bool) -> None:
    text = page.notes.text
    _head(page, f"NBD client of node {clean(node)}: {text(nbd.state)}")
    pairs = [
        ("server", text(nbd.server)),
        ("requests in slots", text(nbd.in_flight)),
        ("waiting for a slot", text(_count(nbd.waiting))),
        ("reconnect delay", f"{text(nbd.reconnect_delay)} s"),
        ("gives up at", _time(page, nbd.reconnect_expires_ns)),
    ]
    if detailed and not isinstance(nbd.slots, Absent):
        for slot in nbd.slots:
            more = ", its reply is being received" if slot.receiving is True else ""
            what = f"offset {text(slot.offset)}, coroutine {hexadecimal(slot.coroutine)}{more}"
            pairs.append((f"slot {slot.slot}", what))
    page.listing(pairs)


def _print_group(page: Page, group: ThrottleGroup) -> None:
    text = page.notes.text
    _head(page, f"Throttle group {text(group.name)}")
    limits = group.limits
    told = text(limits) if isinstance(limits, Absent) else _limits(limits)
    page.listing([("limits", told), ("whose turn", text(_list(group.tokens)))])
    for member in group.members:
        pending = member.pending
        held = (
            text(pending)
            if isinstance(pending, Absent)
            else " and ".join(
                f"{count} {what}" for count, what in zip(pending, ("reads", "writes"), strict=False)
            )
        )
        pairs = [("held back", held), ("limits disabled", text(member.limits_disabled))]
        timers = member.timers
        if isinstance(timers, Absent):
            pairs.append(("timers", text(timers)))
        else:
            pairs += [
                (f"timer for {clean(each.direction)}", _time(page, each.expires_ns))
                for each in timers
            ]
        page.line(f"  member {clean(_called(member.user))}")
        page.listing(pairs, indent=4)


def _limits(limits: dict[str, int]) -> str:
    return ", ".join(f"{clean(name)} {value}" for name, value in limits.items()) or "none"


def _time(page: Page, expires: Any) -> str:
    if expires is None:
        return "no timer runs"
    return page.notes.text(expires) if isinstance(expires, Absent) else f"{expires} ns"


# Requests and work, one by one


def _print_requests(page: Page, nodes: list[Node]) -> None:
    rows: list[tuple[str, TrackedRequest]] = [
        (node.name, request)
        for node in nodes
        if not isinstance(node.tracked, Absent)
        for request in node.tracked
    ]
    if not rows:
        return
    _head(page, "Tracked requests")
    requests = [request for _, request in rows]
    page.table(
        [
            column_of("node", [name for name, _ in rows], numeric=False),
            column_of("kind", [each.kind for each in requests], numeric=False),
            column_of("offset", [each.offset for each in requests]),
            column_of("bytes", [each.bytes for each in requests]),
            column_of("serialising", [each.serialising for each in requests], 2, numeric=False),
            column_of("coroutine", [each.coroutine for each in requests]),
            column_of("address", [each.address for each in requests], 1),
            Column("waits for", [_chain(each) for each in requests], 1, foldable=True),
            column_of("awaited by", [len(each.waiters) for each in requests], 2),
        ]
    )


def _chain(request: TrackedRequest) -> str:
    return " then ".join(map(hexadecimal, request.waiting_for)) or NOTHING


def _print_work(page: Page, engines: list[Engine]) -> None:
    rows = [element for engine in engines for element in engine.elements]
    if rows:
        _head(page, "Work of thread pools")
        page.table(
            [
                column_of("state", [row.state for row in rows], numeric=False),
                column_of("function", [row.function for row in rows], numeric=False),
                column_of("thread", [row.lwp for row in rows]),
                column_of("coroutine", [row.coroutine for row in rows]),
                column_of("address", [row.address for row in rows], 1),
            ]
        )
