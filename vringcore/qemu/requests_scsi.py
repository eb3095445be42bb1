"""Requests of a virtio-scsi device: what its SCSI devices were given and have not ended.

A command is a SCSIRequest in ``SCSIDevice.requests``; ``hba_private`` is the VirtIOSCSIReq. One
that is being cancelled, by an abort or a reset, is no more in that list, but in the block layer.
A task management request that waits for others to be cancelled hangs in their
``cancel_notifiers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import VringcoreError
from vringcore.model.requests import Waiting
from vringcore.model.values import Absent, Address, Fields
from vringcore.qemu.absence import attempt
from vringcore.qemu.element_structs import (
    Notifier,
    SCSIDiskReq,
    SCSIRequest,
    SCSIRequests,
    VirtIOSCSICancelNotifier,
    VirtIOSCSIManagement,
    VirtIOSCSIReq,
)
from vringcore.qemu.enums import enumerator
from vringcore.qemu.requests_held import MAX_HELD, Held
from vringcore.qemu.requests_scsi_block import RequestsBelow
from vringcore.qemu.structs import BusChild, BusState, DeviceState
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

MAX_UNITS = 16_384
MAX_NOTIFIERS = 1024

CDB_BUFFER = 16
"""``SCSI_CMD_BUF_SIZE`` (include/hw/scsi/scsi.h)."""

NOT_RECORDED = Absent("not-recorded", None, "QEMU notes a start time for transfers of disks alone")

_CANCEL = "virtio_scsi_cancel_notify"


def scsi_requests(process: Process, device: int) -> Iterator[Held]:
    """Yield the requests that the SCSI devices on a host's bus have, and those that wait for them.

    :raises VringcoreError: after what there is, if a list ended early
    """
    views = process.views
    waiting: set[int] = set()
    first_error: VringcoreError | None = None
    for unit, is_disk in _units(process, device):
        found, error = collect(views.elements(unit.requests, SCSIRequest, "next", limit=MAX_HELD))
        first_error = first_error or error
        below = RequestsBelow(process, unit, found)
        for request in (*found, *below.dropped):
            ours = _ours(views, request.hba_private, device)
            if ours is None:
                continue
            started = attempt(lambda r=request: _started(views, r)) if is_disk else NOT_RECORDED  # type: ignore[misc]
            yield _held(views, ours, request, below.places.get(request.address_, ()), started)
            waiting.update(_cancelling(views, request))
    management = views.at(VirtIOSCSIManagement, device).tmf_bh_list
    if management is not None:
        queued = views.elements(management, VirtIOSCSIReq, "next", limit=MAX_HELD)
        waiting.update(each.address_ for each in queued)
    for address in sorted(waiting):
        ours = _ours(views, address, device)
        if ours is not None:
            place = Waiting(
                "cancel", Address(address), detail="until the requests it ends are over"
            )
            yield Held(ours.elem, ours.vq, address, "VirtIOSCSIReq", waits_in=(place,))
    if first_error is not None:
        raise first_error


def _units(process: Process, device: int) -> Iterator[tuple[SCSIRequests, bool]]:
    """Yield the SCSI devices on a host's bus, and whether each is a disk (hw/scsi/scsi-disk.c)."""
    views = process.views
    bus_head = views.at(DeviceState, device).child_bus
    for bus in views.elements(bus_head, BusState, "sibling", limit=MAX_UNITS):
        for child in views.elements(bus.children, BusChild, "sibling", limit=MAX_UNITS):
            if process.objects.is_a(child.child, "scsi-device"):
                is_disk = process.objects.is_a(child.child, "scsi-disk-base")
                yield views.at(SCSIRequests, child.child), is_disk


def _ours(views: Views, address: int, device: int) -> VirtIOSCSIReq | None:
    """Return the host's own request at an address, if it is one of this device's."""
    if not address:
        return None
    request = views.at(VirtIOSCSIReq, address)
    owner = attempt(lambda: request.dev)
    return request if owner == device else None


def _held(
    views: Views,
    ours: VirtIOSCSIReq,
    request: SCSIRequest,
    places: tuple[Waiting, ...],
    started: int | Absent,
) -> Held:
    return Held(
        ours.elem,
        ours.vq,
        ours.address_,
        "VirtIOSCSIReq",
        {"sreq": Address(request.address_), "SCSIRequest": _members(views, request)},
        places or (Waiting("scsi-device", Address(request.address_), detail=_state(request)),),
        started,
        request.cmd_xfer,
    )


def _members(views: Views, request: SCSIRequest) -> Fields:
    command = views.space.read(request.cmd_buf, CDB_BUFFER)
    host_status = request.host_status
    return {
        "refcount": request.refcount,
        "tag": request.tag,
        "lun": request.lun,
        "status": request.status,
        **({} if host_status is None else {"host_status": host_status}),
        "residual": request.residual,
        "cmd": {
            "buf": command.hex(),
            "len": request.cmd_len,
            "xfer": request.cmd_xfer,
            "lba": request.cmd_lba,
            "mode": enumerator(views, SCSIRequest, "cmd.mode", request.cmd_mode, "SCSI_XFER_"),
        },
        "enqueued": request.enqueued,
        "io_canceled": request.io_canceled,
        "retry": request.retry,
        "dma_started": request.dma_started,
        "aiocb": Address(request.aiocb),
    }


def _state(request: SCSIRequest) -> str:
    if request.io_canceled:
        return "cancelled"
    return "tried again when the VM goes on" if request.retry else "no block request seen"


def _started(views: Views, request: SCSIRequest) -> int | Absent:
    """Return when a disk began to account for a request: 0 until it has."""
    return views.at(SCSIDiskReq, request.address_).start_time_ns or NOT_RECORDED


def _cancelling(views: Views, request: SCSIRequest) -> Iterator[int]:
    """Yield the task management requests that wait for a request's end."""
    for notifier in views.elements(request.cancel_notifiers, Notifier, "node", limit=MAX_NOTIFIERS):
        symbol = views.symbols.lookup(notifier.notify)
        if symbol is not None and symbol[0] == _CANCEL:
            yield views.at(VirtIOSCSICancelNotifier, notifier.address_).tmf_req
