"""Requests that failed, and that their device keeps for another try once the VM goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Address
from vringcore.qemu import block_state_structs as structs
from vringcore.qemu.device_structs import VirtIOBlock, VirtIOBlockReq
from vringcore.view.lists import walk

if TYPE_CHECKING:
    from vringcore.qemu.process import Process

MAX_PARKED = 100_000


def parked_requests(process: Process, device: int) -> tuple[Address, ...] | None:
    """Return the addresses of a device's parked requests; None for one that keeps none.

    :param device: of the device that a back-end is attached to
    :raises VringcoreError: where they cannot be read
    """
    if process.objects.is_a(device, "virtio-blk-device"):
        return _of_virtio_blk(process, device)
    if process.objects.is_a(device, "scsi-device"):
        return _of_scsi(process, device)
    return None


def _of_virtio_blk(process: Process, device: int) -> tuple[Address, ...]:
    views = process.views
    at = views.offset(VirtIOBlockReq.c_type, "next")
    return tuple(
        Address(request)
        for request in walk(
            views.at(VirtIOBlock, device).rq,
            lambda place: views.pointer(place + at),
            what="of requests kept for another try",
            limit=MAX_PARKED,
        )
    )


def _of_scsi(process: Process, device: int) -> tuple[Address, ...]:
    views = process.views
    requests = views.elements(
        views.at(structs.SCSIDeviceRequests, device).requests,
        structs.SCSIRequest,
        "next",
        limit=MAX_PARKED,
    )
    return tuple(Address(request.address_) for request in requests if request.retry)
