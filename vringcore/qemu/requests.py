"""virtio-blk requests in flight, identified from QEMU's own structures.

A coroutine that waits in the block layer leads to the request it works for: its ``entry_arg`` is
the BlkAioEmAIOCB whose ``opaque`` virtio-blk's callback will get, the VirtIOBlockReq. Each step is
checked against the device, so no symbols are needed, and a torn or hostile core cannot invent one:
a request counts only if it names this device, one of its queues, and a head within that queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.model.requests import InFlight, Waiting
from vringcore.model.values import Absent, Address
from vringcore.qemu import heapscan
from vringcore.qemu.absence import attempt
from vringcore.qemu.aio_structs import AioTask, AioTaskPool
from vringcore.qemu.blkreq import Submitted, block_request, summary
from vringcore.qemu.block_structs import BlkAioEmAIOCB, Coroutine
from vringcore.qemu.clock import age_of, newest_stamp
from vringcore.qemu.device_structs import VirtIOBlock, VirtIOBlockReq
from vringcore.qemu.structs import VirtIODevice
from vringcore.qemu.waiting import Place, places_below, places_in_loops
from vringcore.view.lists import walk
from vringcore.virtio.features import IN_ORDER, RING_PACKED, VERSION_1, has_feature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.model.report import Limitation
    from vringcore.model.requests import BlockRequest
    from vringcore.qemu.block import BlockLayer
    from vringcore.qemu.virtqueues import RawQueue

MAX_REQUESTS = 100_000
MAX_MERGED = 1024
"""Requests merged into one; virtio-blk stops at VIRTIO_BLK_MAX_MERGE_REQS, 32."""

_BIG_ENDIAN = 2
"""``VIRTIO_DEVICE_ENDIAN_BIG`` (include/hw/virtio/virtio.h)."""

_RETRY_RANK = (-2, 0)


def virtio_blk_requests(
    layer: BlockLayer, device: int, queues: Sequence[RawQueue], *, deep: bool = False
) -> tuple[dict[int, list[InFlight]], list[Limitation]]:
    """Return the requests in flight of a virtio-blk device by queue index, oldest first.

    Every queue given has its list. ``descriptors`` and ``chain_end`` are left for the caller, who
    knows the ring: the chain starts at ``head``. If fewer requests are found than are in use, the
    heap is searched, up to :data:`heapscan.BUDGET` bytes, and that is told.

    :param device: address of the VirtIOBlock (and VirtIODevice)
    :param deep: allow the search :data:`heapscan.DEEP_BUDGET` bytes
    :return: the requests, and what could not be found or read
    :raises LayoutMissingError: if the build does not define the structures
    """
    finder = _Finder(layer, device, queues)
    return layer.noting(lambda: finder.find(heapscan.DEEP_BUDGET if deep else heapscan.BUDGET))


class _Finder:
    def __init__(self, layer: BlockLayer, device: int, queues: Sequence[RawQueue]) -> None:
        self._layer = layer
        self._views = layer.views
        for view in (BlkAioEmAIOCB, Coroutine):
            self._views.binding(view)  # a type that is missing is no empty list
        self._size = self._views.binding(VirtIOBlockReq).type.size
        self._device = device
        self._disk = self._views.at(VirtIOBlock, device)
        self._queues = {int(queue.view.address_): queue for queue in queues}
        self._found: dict[int, VirtIOBlockReq] = {}
        self._places: dict[int, list[Place]] = {}
        self._submitted: dict[int, Submitted] = {}
        self._owned: dict[int, list[int]] = {}
        self._added = 0

    def find(self, budget: int) -> dict[int, list[InFlight]]:
        """Go all the ways, the search only for what the others did not find."""
        self.by_block_layer()
        self.by_retry_list()
        self.by_search(budget)
        return self.in_flight()

    # Ways to a request

    def by_block_layer(self) -> None:
        """Find the requests of all coroutines that wait below the device's back-end."""
        blk = attempt(lambda: self._disk.blk)
        if isinstance(blk, Absent):
            self._layer.limit("the device's block back-end", blk.reason, blk.hint)
            return
        if not blk:
            return
        for place in places_below(self._layer, blk):
            self._add(place)
        coroutines = [co for co, requests in self._owned.items() if requests]
        for place in places_in_loops(self._layer, blk, coroutines):
            self._add(place)

    def by_retry_list(self) -> None:
        """Find the requests that failed and wait for the VM to go on (``VirtIOBlock.rq``)."""
        what = "the requests kept for another try"
        for address in self._layer.keep(what, self._retries()):
            detail = "failed; tried again when the VM goes on"
            waiting = Waiting("retry-list", Address(self._device), detail=detail)
            self._places.setdefault(address, []).append(Place(0, _RETRY_RANK, waiting))

    def by_search(self, budget: int) -> None:
        """Search the heap for requests that are in use and that no list led to."""
        missing = {index: count for index, count in self._missing().items() if count > 0}
        if not missing:
            return
        total = sum(missing.values())
        scan = heapscan.scan(self._views, self._device, budget=budget)
        taken = self._accept(scan.candidates, missing)
        why = f"searched {scan.bytes_read >> 20} MiB of QEMU's memory for them"
        if scan.bytes_left:
            why += f", {scan.bytes_left >> 20} MiB were beyond the limit"
        what = "descriptors" if self._has(RING_PACKED) else "requests"
        self._layer.limit(
            f"{total} {what} in use are in no list of QEMU's", f"{why}: {taken} identified"
        )

    # Steps

    def _add(self, place: Place) -> None:
        for address in self._requests_of(place.coroutine):
            if self._added >= MAX_REQUESTS:
                self._layer.limit("the requests in flight", f"more than {MAX_REQUESTS} places")
                return
            self._added += 1
            self._places.setdefault(address, []).append(place)

    def _requests_of(self, coroutine: int) -> list[int]:
        """Return the requests that a coroutine works for: one, or several merged into one."""
        requests = self._owned.get(coroutine)
        if requests is None:
            requests = self._owned[coroutine] = self._resolve(coroutine)
        return requests

    def _resolve(self, coroutine: int) -> list[int]:
        try:
            argument = self._views.at(Coroutine, coroutine).entry_arg
            found = self._of_submission(argument)
            if not found:
                # Format drivers run parts of a request in coroutines of their own (qcow2).
                pool = self._views.at(AioTask, argument).pool
                main = self._views.at(AioTaskPool, pool).main_co
                found = self._of_submission(self._views.at(Coroutine, main).entry_arg)
        except VringcoreError:
            return []  # somebody else's coroutine: its argument means something else
        return found

    def _of_submission(self, address: int) -> list[int]:
        acb = self._views.at(BlkAioEmAIOCB, address)
        if acb.blk != self._disk.blk:
            return []
        first = self._valid(acb.opaque)
        if first is None:
            # ioctl and zone commands wrap the request; it is the wrapper's first member.
            first = self._valid(self._views.pointer(acb.opaque))
        if first is None:
            return []
        merged = self._layer.keep("merged requests", self._chain(first.address_))
        if len(merged) == 1:
            self._submitted[merged[0]] = Submitted(acb.offset, acb.bytes)
        return merged

    def _chain(self, first: int) -> Iterator[int]:
        """Yield a request and those merged with it (``mr_next``)."""
        at = self._views.offset(VirtIOBlockReq.c_type, "mr_next")
        for address in walk(
            first,
            lambda a: self._views.pointer(a + at),
            what="of merged requests",
            limit=MAX_MERGED,
        ):
            yield self._checked(address)

    def _retries(self) -> Iterator[int]:
        at = self._views.offset(VirtIOBlockReq.c_type, "next")
        for address in walk(
            self._disk.rq,
            lambda a: self._views.pointer(a + at),
            what="of requests kept for another try",
            limit=MAX_REQUESTS,
        ):
            yield self._checked(address)

    def _checked(self, address: int) -> int:
        if self._valid(address) is None:
            raise CorruptDataError(
                "a list of requests leads to something that is none of this device's",
                where=f"{address:#x}",
                hint="the core may have been taken while the list was changed",
            )
        return address

    def _valid(self, address: int) -> VirtIOBlockReq | None:
        """Return the request at an address, if it is one of this device's."""
        known = self._found.get(address)
        if known is not None:
            return known
        request = self._views.at(VirtIOBlockReq, address)
        try:
            # All of it: what is here in part only cannot be checked, nor shown.
            self._views.space.read(HostAddress(address), self._size)
            queue = self._queues.get(request.vq)
            valid = (
                queue is not None and request.dev == self._device and request.index < queue.view.num
            )
        except VringcoreError:
            return None
        if not valid:
            return None
        self._found[address] = request
        return request

    def _accept(self, candidates: list[int], missing: dict[int, int]) -> int:
        """Take candidates where they are no more than the queue misses; return how many."""
        by_queue: dict[int, list[int]] = {}
        heads = {self._key(address) for address in self._places}
        for address in candidates:
            request = self._valid(address)
            if request is not None and address not in self._places:
                key = self._key(address)
                if key not in heads and missing.get(key[0], 0):
                    heads.add(key)
                    by_queue.setdefault(key[0], []).append(address)
        taken = 0
        for index, addresses in by_queue.items():
            if sum(self._found[a].ndescs for a in addresses) > missing[index]:
                self._layer.limit(
                    f"the requests in use of queue {index}",
                    f"{len(addresses)} candidates for {missing[index]}: which are freed memory "
                    "cannot be told",
                )
                continue
            taken += len(addresses)
            for address in addresses:
                self._places[address] = []
        return taken

    def _key(self, address: int) -> tuple[int, int]:
        request = self._found[address]
        return self._queues[request.vq].index, request.index

    def _missing(self) -> dict[int, int]:
        """Return by queue how many elements (descriptors, if packed) in use are unidentified."""
        missing = {}
        for queue in self._queues.values():
            in_use = attempt(lambda q=queue: q.view.inuse)  # type: ignore[misc]
            missing[queue.index] = 0 if isinstance(in_use, Absent) else in_use - self._done(queue)
        for address in self._places:
            missing[self._key(address)[0]] -= self._found[address].ndescs
        return missing

    def _done(self, queue: RawQueue) -> int:
        """Return how many of those in use QEMU is done with: they wait for one before them."""
        if not self._has(IN_ORDER):
            return 0
        from vringcore.qemu.in_order import done, ordered

        return done(ordered(self._views, queue, packed=self._has(RING_PACKED)))

    def _has(self, bit: int) -> bool:
        """Tell whether the driver accepted a feature; a word that is not there says it did not."""
        features = attempt(lambda: self._views.at(VirtIODevice, self._device).guest_features)
        return not isinstance(features, Absent) and has_feature(features, bit)

    # The result

    def in_flight(self) -> dict[int, list[InFlight]]:
        """Return what was found by queue index, oldest first."""
        found: dict[int, list[InFlight]] = {queue.index: [] for queue in self._queues.values()}
        requests = self._block_requests()
        started = [r.started_ns for r in requests.values() if isinstance(r.started_ns, int)]
        # A request that was started last was seen by this clock too.
        newest = max(newest_stamp(self._layer), *started) if started else 0
        for address in sorted(requests, key=lambda a: _age_order(requests[a])):
            model = self._model(address, requests[address], newest)
            found[self._key(address)[0]].append(model)
        return found

    def _block_requests(self) -> dict[int, BlockRequest]:
        requests = {}
        big_endian = attempt(self._is_big_endian) if self._places else False
        for address in self._places:
            raw, submitted = self._found[address], self._submitted.get(address)
            try:
                requests[address] = block_request(
                    self._views, raw, submitted, big_endian=big_endian
                )
            except VringcoreError as error:
                self._layer.limit(f"the request at {address:#x}", str(error))
        return requests

    def _model(self, address: int, request: BlockRequest, newest: int) -> InFlight:
        raw = self._found[address]
        started = request.started_ns
        places = sorted(self._places[address], key=lambda place: place.rank)
        return InFlight(
            head=raw.index,
            source="element",
            summary=summary(request),
            ndescs=raw.ndescs,
            request=request,
            waits_in=tuple(place.waiting for place in places),
            age=started if isinstance(started, Absent) else age_of(self._layer, started, newest),
        )

    def _is_big_endian(self) -> bool:
        """Tell the byte order of the device (virtio_access_is_big_endian())."""
        device = self._views.at(VirtIODevice, self._device)
        if has_feature(device.guest_features, VERSION_1):
            return False
        return device.device_endian == _BIG_ENDIAN


def _age_order(request: BlockRequest) -> tuple[bool, int, int]:
    started = request.started_ns
    if isinstance(started, Absent):
        return True, 0, request.address
    return False, started, request.address
