"""The beginning of the data of requests in flight: the guest's own, read only on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from vringcore.addresses import HostAddress
from vringcore.model.requests import BlockRequest
from vringcore.model.values import Absent
from vringcore.qemu.absence import attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.requests import Buffer, InFlight
    from vringcore.view.views import Views

NO_BUFFERS = Absent("not-reachable", None, "QEMU has no buffers of this request")


def with_payload(views: Views, devices: Sequence[Device], size: int) -> tuple[Device, ...]:
    """Return devices whose requests in flight have the first ``size`` bytes of their data.

    Of a request that has data in both directions it is what the device reads; the header is none
    of it.
    """
    return tuple(
        replace(device, queues=tuple(_with_payload(views, queue, size) for queue in device.queues))
        if isinstance(device.queues, tuple)
        else device
        for device in devices
    )


def _with_payload(views: Views, queue: Queue, size: int) -> Queue:
    if not isinstance(queue.in_flight, tuple):
        return queue
    found = tuple(
        replace(each, payload=attempt(lambda r=each: _payload(views, r, size)))  # type: ignore[misc]
        for each in queue.in_flight
    )
    return replace(queue, in_flight=found)


def _payload(views: Views, request: InFlight, size: int) -> str | Absent:
    own = request.request
    if own is None or request.source != "element":
        return NO_BUFFERS
    if isinstance(own, BlockRequest):
        return _read(views, own.buffers, size).hex()
    if isinstance(own.header, Absent):
        return own.header  # where it ends, and data begins, is not known
    buffers = own.buffers or own.buffers_in
    return _read(views, buffers, size).hex()


def _read(views: Views, buffers: Sequence[Buffer], size: int) -> bytes:
    data = b""
    for each in buffers:
        if len(data) == size:
            break
        data += views.space.read(HostAddress(each.address), min(each.length, size - len(data)))
    return data
