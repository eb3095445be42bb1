"""Where the requests of a SCSI device wait in the block layer, and those that are only there.

``scsi_req_cancel_async()`` takes a request out of its device's list at once (hw/scsi/scsi-bus.c),
and its end comes when the block layer gives it back: after an abort or a reset of a disk whose
server hangs no list of the SCSI layer has it any more. The coroutine that serves it still leads
to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.qemu.absence import attempt
from vringcore.qemu.block_structs import BlockAIOCB, BlockBackend, Coroutine
from vringcore.qemu.element_structs import SCSIRequest
from vringcore.qemu.waiting import Place, places_below, places_in_loops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vringcore.model.requests import Waiting
    from vringcore.qemu.element_structs import SCSIRequests
    from vringcore.qemu.process import Process


class RequestsBelow:
    """The requests of one SCSI device as the block layer has them.

    :ivar dropped: those that the device has no more in its list, in the order of their addresses
    :ivar places: where each waits, from the outermost inwards, by the address of the SCSIRequest
    """

    def __init__(self, process: Process, unit: SCSIRequests, listed: Sequence[SCSIRequest]) -> None:
        self._views = process.views
        self._unit = unit
        self._owners: dict[int, int] = {}
        self.dropped: list[SCSIRequest] = []
        self.places: dict[int, tuple[Waiting, ...]] = {}
        for each in listed:
            # A transfer goes through a DMAAIOCB, which is the request's aiocb; a flush has the
            # request itself for the argument of its callback.
            self._owners[int(each.address_)] = self._owners[int(each.aiocb)] = int(each.address_)
        self._owners.pop(0, None)
        if listed or self._has_any():
            self._walk(process)

    def _has_any(self) -> bool:
        backend = self._unit.conf_blk
        in_flight = attempt(lambda: self._views.at(BlockBackend, backend).in_flight)
        return bool(backend) and not isinstance(in_flight, Absent) and in_flight > 0

    def _walk(self, process: Process) -> None:
        backend, layer = self._unit.conf_blk, process.block
        if not backend:
            return
        found: dict[int, list[Place]] = {}
        by_coroutine: dict[int, int] = {}
        places, _ = layer.noting(lambda: places_below(layer, backend))
        for place in places:
            owner = self._owner(place.coroutine)
            if owner is not None:
                by_coroutine[place.coroutine] = owner
                found.setdefault(owner, []).append(place)
        inner, _ = layer.noting(lambda: places_in_loops(layer, backend, list(by_coroutine)))
        for place in inner:
            owner = by_coroutine.get(place.coroutine) or self._owner(place.coroutine)
            if owner is not None:
                found.setdefault(owner, []).append(place)
        for owner, every in found.items():
            in_order = sorted(every, key=lambda place: place.rank)
            self.places[owner] = tuple(each.waiting for each in in_order)
        self.dropped.sort(key=lambda request: int(request.address_))

    def _owner(self, coroutine: int) -> int | None:
        """Return the SCSI request that a coroutine works for."""
        found = attempt(lambda: self._owner_by(self._views.at(Coroutine, coroutine).entry_arg))
        return None if isinstance(found, Absent) else found

    def _owner_by(self, control_block: int) -> int | None:
        """Return the request of a BlockAIOCB, which is that of the blk_aio_*() call itself."""
        known = self._owners.get(control_block)
        opaque = self._views.at(BlockAIOCB, control_block).opaque
        known = known or self._owners.get(opaque)
        if known is not None:
            return known
        for address in (opaque, attempt(lambda: self._views.at(BlockAIOCB, opaque).opaque)):
            if not isinstance(address, Absent) and self._is_ours(address):
                self._owners[address] = self._owners[opaque] = address
                self.dropped.append(self._views.at(SCSIRequest, address))
                return address
        return None

    def _is_ours(self, address: int) -> bool:
        """Tell whether a request of this device lies at an address."""
        if not address:
            return False
        return attempt(lambda: self._views.at(SCSIRequest, address).dev) == self._unit.address_
