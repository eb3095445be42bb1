"""``vringcore requests`` as text: the ledger of requests in flight."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from vringcore.model.queues import Counts, Queue
from vringcore.model.requests import Age, BlockRequest, DeviceRequest
from vringcore.model.values import Absent, Address, EnumValue
from vringcore.report.cells import NOTHING, clean, hexadecimal, seconds, size
from vringcore.report.header import device_name, nothing_found, print_header
from vringcore.report.in_order import in_order_note
from vringcore.report.page import ALARM, STAND_OUT, Column, Page, column_of
from vringcore.report.queues import filled_by_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.model.devices import Device
    from vringcore.model.report import Report
    from vringcore.model.requests import Buffer, InFlight, Waiting, WorkerThread

CANDIDATES = (
    "note: source ring: published and not given back; which of them the back-end has taken it alone"
    " knows"
)

PAYLOAD = (
    "note: guest data below is what the guest reads or writes: it may be secret. What the device"
    " has not written yet is what the buffer held before"
)

Row = tuple["Device", Queue, "InFlight"]


def print_requests(page: Page, report: Report, *, detailed: bool) -> None:
    """Print every request in flight, and with ``detailed`` its buffers and where it waits."""
    print_header(page, report.core, report.qemu)
    rows = list(_rows(report.devices or ()))
    page.line()
    if rows:
        page.table(_columns(rows))
        page.line()
        page.line(_summary(rows))
        if any(request.source == "ring" for _, _, request in rows):
            page.line(CANDIDATES)
    elif any(device.queues for device in report.devices or ()):
        page.line("No request in flight was identified.")
    else:
        page.line(nothing_found(report))
    if any(request.payload is not None for _, _, request in rows):
        page.line(PAYLOAD, ALARM)
        if not detailed:
            page.listing([(_name(*row), _guest_data(row[2].payload)) for row in rows])
    if detailed:
        for row in rows:
            _print_details(page, *row)
    _print_untaken(page, report.devices or ())
    _print_unidentified(page, report.devices or ())
    page.close(report.limits)


def _rows(devices: Sequence[Device]) -> Iterator[Row]:
    for device in devices:
        for queue in device.queues or ():
            for request in queue.in_flight or ():
                yield device, queue, request


def _columns(rows: Sequence[Row]) -> list[Column]:
    requests = [request for _, _, request in rows]
    cut = any(each.chain_end not in ("", "complete") for each in requests)
    disks = any(isinstance(each.request, BlockRequest) for each in requests)
    sector = [column_of("sector", [_sector(each) for each in requests])] if disks else []
    return [
        Column("device", [device_name(device) for device, _, _ in rows]),
        Column("queue", [str(queue.index) for _, queue, _ in rows], numeric=True),
        Column("head", [str(each.head) for each in requests], numeric=True),
        Column("operation", [_operation(each) for each in requests], foldable=True),
        *sector,
        Column("length", [_length(each) for each in requests], numeric=True),
        Column("age", [_age_cell(each) for each in requests], rank=1, numeric=True),
        Column("waits in", [_waits(each) for each in requests], foldable=True),
        Column(
            "chain", [clean(each.chain_end) or NOTHING for each in requests], rank=0 if cut else 4
        ),
        Column(
            "source",
            [clean(each.source) for each in requests],
            rank=5 if all(each.source == "element" for each in requests) else 0,
        ),
        Column("address", [_address(each) for each in requests], rank=6),
    ]


def _summary(rows: Sequence[Row]) -> str:
    """Return how many requests there are, in how many queues, and how old the oldest is."""
    queues = len({(device.index, queue.index) for device, queue, _ in rows})
    text = f"{len(rows)} request{_s(len(rows))} in flight in {queues} queue{_s(queues)}"
    ages = [request.age for _, _, request in rows if isinstance(request.age, Age)]
    if ages:
        oldest = max(ages, key=lambda each: each.nanoseconds)
        text += f"; the oldest is {_age(oldest)} old"
    return text


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _age_cell(request: InFlight) -> str | Absent:
    if request.age is None:
        return NOTHING
    return request.age if isinstance(request.age, Absent) else _age(request.age)


def _operation(request: InFlight) -> str:
    """Return a block request's operation, which has a sector beside it, or a whole summary."""
    if isinstance(request.request, BlockRequest):
        return clean(request.request.operation)
    return clean(request.summary)


def _sector(request: InFlight) -> int | Absent | None:
    sector = request.request.sector if isinstance(request.request, BlockRequest) else None
    return None if isinstance(sector, Absent) and sector.reason == "not-applicable" else sector


def _length(request: InFlight) -> str | Absent:
    if request.request is None:
        return NOTHING
    length = request.request.length
    return length if isinstance(length, Absent) else size(length)


def _age(age: Age) -> str:
    """Return a duration; ``>=`` where only a lower bound is known."""
    return f"{'' if age.exact else '>= '}{seconds(age.nanoseconds)}"


def _waits(request: InFlight) -> str:
    """Return the places from the outermost to the innermost: ``nbd0: tracked-request > nbd``.

    Where a request was split, its parts are in one place: ``throttle (8)``.
    """
    texts, node = [], ""
    for (place, of_node), alike in groupby(request.waits_in, lambda each: (each.place, each.node)):
        count = len(list(alike))
        text = f"{clean(of_node)}: " if of_node and of_node != node else ""
        texts.append(text + clean(place) + (f" ({count})" if count > 1 else ""))
        node = of_node or node
    return " > ".join(texts) or NOTHING


def _address(request: InFlight) -> str:
    return hexadecimal(request.request.address) if request.request else NOTHING


def _print_details(page: Page, device: Device, queue: Queue, request: InFlight) -> None:
    page.line()
    page.line(f"{_name(device, queue, request)}: {clean(request.summary)}", "bold")
    pairs = [(f"waits in {clean(each.place)}", _place(each)) for each in request.waits_in]
    if isinstance(request.request, BlockRequest):
        pairs += _of_block(request.request, own=request.source == "element")
    elif request.request is not None:
        pairs += _of_device(request.request)
    if request.payload is not None:
        pairs.append(("guest data", _guest_data(request.payload)))
    for each in request.descriptors or ():
        flags = "|".join(map(clean, each.flag_names)) or "0"
        where = "" if each.table is None else f" of the table at {hexadecimal(each.table)}"
        address = hexadecimal(each.address)
        if isinstance(each.guest_address, Absent):
            address += f" ({each.guest_address.reason})"
        elif each.guest_address is not None:
            address += f" (guest-physical {hexadecimal(each.guest_address)})"
        text = f"guest address {address}, {size(each.length)}, flags {flags}"
        pairs.append((f"descriptor {each.index}{where}", text))
    if request.chain_end:
        pairs.append(("chain ends", clean(request.chain_end)))
    page.listing(pairs)


def _name(device: Device, queue: Queue, request: InFlight) -> str:
    return f"{device_name(device)} queue {queue.index} head {request.head}"


def _guest_data(payload: str | Absent | None) -> str:
    return payload.describe() if isinstance(payload, Absent) else payload or "none"


def _of_block(request: BlockRequest, *, own: bool) -> list[tuple[str, str]]:
    label = "VirtIOBlockReq" if own else "header, guest address"
    pairs = [(label, hexadecimal(request.address))]
    segments = () if isinstance(request.segments, Absent) else request.segments
    pairs += [
        (f"range {index}", f"{each.num_sectors} sectors at {each.sector}, flags {each.flags:#x}")
        for index, each in enumerate(segments)
    ]
    return pairs + _buffers("buffer", request.buffers)


def _of_device(request: DeviceRequest) -> list[tuple[str, str]]:
    pairs = [(clean(request.c_type), hexadecimal(request.address))]
    if isinstance(request.header, Absent):
        pairs.append(("header", request.header.describe()))
    else:
        pairs += [(clean(name), _value(each)) for name, each in request.header.items()]
    lengths = ", ".join(f"{clean(name)} {each}" for name, each in request.lengths.items())
    pairs.append(("lengths in bytes", lengths + (", header short" if request.short else "")))
    pairs += [(f"QEMU's {clean(name)}", _value(each)) for name, each in request.qemu.items()]
    pairs += _buffers("buffer to the device", request.buffers)
    return pairs + _buffers("buffer from the device", request.buffers_in)


def _buffers(what: str, buffers: Sequence[Buffer]) -> list[tuple[str, str]]:
    return [
        (f"{what} {index}", f"{hexadecimal(each.address)}, {size(each.length)}")
        for index, each in enumerate(buffers)
    ]


def _value(value: Any) -> str:
    """Return a field of a header, or of a structure of QEMU's, in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{clean(name)} {_value(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_value, value))
    if isinstance(value, EnumValue):
        return str(value.value) if value.name is None else f"{value.value} ({clean(value.name)})"
    if isinstance(value, Address):
        return hexadecimal(value)
    return clean(str(value).lower() if isinstance(value, bool) else str(value))


def _place(waiting: Waiting) -> str:
    parts = [
        f"node {clean(waiting.node)}" if waiting.node else "",
        clean(waiting.detail),
        _thread(waiting.thread) if waiting.thread else "",
        f"at {hexadecimal(waiting.address)}",
    ]
    return ", ".join(part for part in parts if part)


def _thread(thread: WorkerThread) -> str:
    """Return ``thread 1234 (worker, state D) in preadv of fd 11 (/dev/sdb) at 5963776``."""
    known = [clean(thread.name)] if thread.name else []
    known += [f"state {clean(thread.state)}"] if thread.state else []
    text = f"thread {thread.lwp}" + (f" ({', '.join(known)})" if known else "")
    if thread.result is None:
        text += f" in {clean(thread.call)} of fd {thread.fd}"
    else:
        text += f" has got {thread.result} from {clean(thread.call)} of fd {thread.fd}"
    text += f" ({clean(thread.file)})" if thread.file else ""
    return text if thread.offset is None else f"{text} at {thread.offset}"


def _print_untaken(page: Page, devices: Sequence[Device]) -> None:
    """Say which queues have requests that the device has not seen: the ring alone has those."""
    for device in devices:
        for queue in device.queues or ():
            count = queue.counts.unseen if isinstance(queue.counts, Counts) else None
            if isinstance(count, int) and count > 0 and not filled_by_device(queue.role):
                name = device_name(device)
                taker = "the back-end that runs the ring" if queue.stale else "QEMU"
                what = f"{count} published by the driver and not yet taken by {taker}"
                if isinstance(queue.size, int) and count > queue.size:
                    what = f"avail.idx is {count} ahead in a ring of {queue.size}, which cannot be"
                page.line(
                    f"note: {name} queue {queue.index}: {what}:"
                    f" `vringcore ring --device {name} --queue {queue.index}` shows the ring",
                    STAND_OUT,
                )


def _print_unidentified(page: Page, devices: Sequence[Device]) -> None:
    """Say what is in use and only waits, or was not found: counted, never guessed."""
    for device in devices:
        for queue in device.queues or ():
            count = queue.counts.unidentified if isinstance(queue.counts, Counts) else None
            name = f"{device_name(device)} queue {queue.index}"
            held = in_order_note(queue)
            if held:
                page.line(f"note: {name}: {held}", STAND_OUT)
            if isinstance(count, Absent):
                page.line(f"note: {name}: unidentified {page.notes.text(count)}", ALARM)
            elif count:
                page.line(
                    f"note: {name}: {count} of {page.notes.text(queue.in_use)} in use were not"
                    " identified",
                    STAND_OUT,
                )
