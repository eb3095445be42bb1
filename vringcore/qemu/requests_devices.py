"""Requests in flight of the devices that are no virtio-blk, identified from QEMU's own elements.

Each element leads to its queue and its head; its header is read through the host addresses that
QEMU mapped for it, which hold even where the ring's own descriptors do so no more.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.model.report import Limitation
from vringcore.model.requests import Buffer, DeviceRequest, InFlight
from vringcore.model.values import Absent, Address, EnumValue
from vringcore.qemu.absence import attempt
from vringcore.qemu.clock import age_of, newest_stamp
from vringcore.qemu.device_structs import VirtQueueElement
from vringcore.qemu.requests_held import HOLDERS, MAX_HELD, Held
from vringcore.view.lists import collect
from vringcore.virtio.constants import device_name
from vringcore.virtio.fields import Code, GuestPointer, Header
from vringcore.virtio.headers import header_of_buffers
from vringcore.virtio.roles import queue_role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from vringcore.memory.space import AddressSpace
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.view.views import Views

MAX_SEGMENTS = 1024
"""QEMU's VIRTQUEUE_MAX_SIZE: no element has more buffers in a direction."""

InFlightByQueue = dict[int, list[InFlight]]


def device_requests(
    process: Process,
    device: RawDevice,
    memory: Callable[[], AddressSpace[Any]],
    *,
    deep: bool = False,
) -> tuple[InFlightByQueue, list[Limitation]]:
    """Return the requests in flight of a device by queue index, oldest first.

    ``descriptors`` and ``chain_end`` are left for the caller, who knows the ring. What is in use
    and was not found where the device model keeps it is searched for in QEMU's memory.

    :param memory: gives the guest's memory as the device sees it
    :param deep: allow a longer search
    :return: the requests, and what could not be found or read
    """
    finder = _Finder(process, device)
    finder.by_device()
    finder.by_search(memory, deep=deep)
    return finder.found, finder.limits


class _Finder:
    def __init__(self, process: Process, device: RawDevice) -> None:
        self._process = process
        self._views = process.views
        self._device = device
        self._queues = {int(queue.view.address_): queue for queue in device.queues}
        self._heads: set[tuple[int, int]] = set()
        self.found: InFlightByQueue = {queue.index: [] for queue in device.queues}
        self.limits: list[Limitation] = []

    def by_device(self) -> None:
        """Ask the device's own structure."""
        objects, address = self._process.objects, self._device.address
        holders = [find for type_, find in HOLDERS.items() if objects.is_a(address, type_)]
        for find in holders:
            held, error = collect(islice(find(self._process, address), MAX_HELD))
            if error is not None:
                what = f"not all requests of {self._device.type_name} are shown"
                self.limits.append(Limitation(what, str(error), error.hint))
            newest = self._newest(held)
            for each in sorted(held, key=_age_order):
                self._add(each, newest)

    def by_search(self, memory: Callable[[], AddressSpace[Any]], *, deep: bool) -> None:
        """Search QEMU's memory for the elements of chains that are in use and were not found."""
        missing = {queue.index: self._missing(queue) for queue in self._device.queues}
        if not any(count > 0 for count in missing.values()):
            return
        from vringcore.qemu.requests_search import search

        held, limits = search(self._views, self._device, memory(), missing, self._heads, deep=deep)
        self.limits += limits
        for each in held:
            self._add(each, 0)

    def _missing(self, queue: RawQueue) -> int:
        in_use = attempt(lambda: queue.view.inuse)
        if isinstance(in_use, Absent):
            return 0
        return in_use - sum(each.ndescs for each in self.found[queue.index])

    def _newest(self, held: Iterable[Held]) -> int:
        """Return the newest time that anything says, if a request has a time of its own."""
        started = [each.started_ns for each in held if isinstance(each.started_ns, int)]
        return max(newest_stamp(self._process.block), *started) if started else 0

    def _add(self, held: Held, newest: int) -> None:
        queue = self._queues.get(held.queue)
        try:
            if queue is None:
                raise _stray(held, f"the queue at {held.queue:#x}", "a queue of this device")
            element = self._views.at(VirtQueueElement, held.element)
            if element.index >= queue.view.num:
                raise _stray(held, f"head {element.index}", f"below {queue.view.num}")
            key = queue.index, element.index
            if key in self._heads:
                raise _stray(held, f"head {element.index} once more", "each head once")
            model = self._model(queue, held, element, newest)
        except VringcoreError as error:
            what = f"a request of {self._device.type_name} without a head"
            self.limits.append(Limitation(what, str(error), error.hint))
            return
        self._heads.add(key)
        self.found[queue.index].append(model)

    def _model(
        self, queue: RawQueue, held: Held, element: VirtQueueElement, newest: int
    ) -> InFlight:
        views = self._views
        readable = buffers_of(views, element.out_sg, element.out_num)
        writable = buffers_of(views, element.in_sg, element.in_num)
        header = self._header(queue, readable, sum(length for _, length in writable))
        request = request_model(
            device_name(self._device.device_id),
            held,
            header,
            readable,
            writable,
        )
        started = held.started_ns
        return InFlight(
            head=element.index,
            source="element",
            summary=_summary(header),
            ndescs=element.ndescs,
            request=request,
            waits_in=held.waits_in,
            age=age_of(self._process.block, started, newest)
            if isinstance(started, int)
            else started,
        )

    def _header(
        self, queue: RawQueue, readable: list[tuple[int, int]], writable: int
    ) -> Header | Absent | None:
        space: AddressSpace[Any] = self._views.space
        return attempt(lambda: read_header_of(self._device, queue, readable, writable, space))


def read_header_of(
    device: RawDevice,
    queue: RawQueue,
    readable: list[tuple[int, int]],
    writable: int,
    space: AddressSpace[Any],
) -> Header | None:
    """Return the header of a request of a device's queue; None for a device without a decoder.

    :param readable: address and length of the buffers that the device may read
    :param space: where they lie
    :raises VringcoreError: if it cannot be read
    """
    features = device.guest_features
    word = 0 if isinstance(features, Absent) else features
    rules = device.ring_rules
    return header_of_buffers(
        readable,
        writable,
        space,
        device_id=device.device_id,
        role=queue_role(device.device_id, queue.index, device.queue_count, word),
        features=word,
        big_endian=not isinstance(rules, Absent) and rules.big_endian,
    )


def buffers_of(views: Views, address: int, count: int) -> list[tuple[int, int]]:
    """Return the address and length of each buffer of an array of ``struct iovec``.

    :raises CorruptDataError: if there are more than QEMU takes
    :raises MemoryFault: if the array is not in the core
    """
    if count > MAX_SEGMENTS:
        raise CorruptDataError(
            "an element has more buffers than QEMU takes",
            where=f"{address:#x}",
            seen=str(count),
            expected=f"at most {MAX_SEGMENTS}",
        )
    size = 2 * views.pointer_size
    data = views.space.read(HostAddress(address), count * size) if count else b""
    code = (">" if views.layouts.big_endian else "<") + ("QQ" if size == 16 else "II")
    return list(struct.iter_unpack(code, data))


def request_model(
    kind: str,
    held: Held,
    header: Header | Absent | None,
    readable: list[tuple[int, int]],
    writable: list[tuple[int, int]],
) -> DeviceRequest:
    """Return a request as the model shows it, from its header and its buffers."""
    lengths = {
        "readable": sum(length for _, length in readable),
        "writable": sum(length for _, length in writable),
    }
    if isinstance(header, Absent):
        # Where the data begins is not known either.
        return DeviceRequest(
            kind=kind,
            address=Address(held.owner),
            c_type=held.c_type,
            element=Address(held.element),
            operation=header,
            header=header,
            length=held.length or header,
            lengths=lengths,
            qemu=held.qemu,
            started_ns=held.started_ns,
        )
    read = header or Header("unknown", {}, 0)
    behind = lengths["readable"] - read.size
    return DeviceRequest(
        kind=kind,
        address=Address(held.owner),
        c_type=held.c_type,
        element=Address(held.element),
        operation=read.operation,
        header=_fields(read.fields),
        length=held.length or behind or lengths["writable"] or read.size,
        lengths={"header": read.size, **lengths},
        short=read.short,
        qemu=held.qemu,
        started_ns=held.started_ns,
        buffers=_behind(readable, read.size),
        buffers_in=_behind(writable, read.answer),
    )


def _behind(buffers: list[tuple[int, int]], size: int) -> tuple[Buffer, ...]:
    """Return the buffers without their first ``size`` bytes."""
    found = []
    for address, length in buffers:
        step = min(size, length)
        size -= step
        if length > step:
            found.append(Buffer(Address(address + step), length - step))
    return tuple(found)


def _fields(value: Any) -> Any:
    """Return decoded fields with the model's own kinds of numbers."""
    if isinstance(value, dict):
        return {name: _fields(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_fields(each) for each in value]
    if isinstance(value, Code):
        return EnumValue(value.value, value.name)
    return Address(value) if isinstance(value, GuestPointer) else value


def _summary(header: Header | Absent | None) -> str:
    if not isinstance(header, Header):
        return "unknown operation"
    text = f"{header.operation} {header.subject}".strip()
    return f"{text} (short)" if header.short else text


def _stray(held: Held, seen: str, expected: str) -> CorruptDataError:
    return CorruptDataError(
        "an element that QEMU keeps fits no chain in flight",
        where=f"{held.c_type} at {held.owner:#x}, VirtQueueElement at {held.element:#x}",
        seen=seen,
        expected=expected,
        hint="the core may have been taken while it was given back",
    )


def _age_order(held: Held) -> tuple[bool, int, int]:
    started = held.started_ns
    return (False, started, held.owner) if isinstance(started, int) else (True, 0, held.owner)
