"""What is asked of a core, put together: devices, their queues, rings, requests in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import NoSuchQueueError, VringcoreError
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu import virtqueues
from vringcore.qemu.absence import absence_of
from vringcore.qemu.devices import Devices
from vringcore.virtio.features import EVENT_IDX, RING_PACKED, has_feature

if TYPE_CHECKING:
    from vringcore.addresses import HostAddress
    from vringcore.model.devices import Device
    from vringcore.model.queues import Chain, PackedGuest, Queue, SplitGuest
    from vringcore.model.queues import SplitRing as SplitRingModel
    from vringcore.model.requests import InFlight
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process
    from vringcore.qemu.virtqueues import RawQueue
    from vringcore.virtio.split import SplitRing


class Survey:
    """The devices of one process and everything the verbs show of them.

    :ivar limits: what was not done or not found, in the order it was met
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._views = process.views
        self.devices = Devices(process.views, process.objects, process.block)
        self.limits: list[Limitation] = list(self.devices.limits)

    def models(self, parts: frozenset[str], *, only: int | None = None) -> tuple[Device, ...]:
        """Return the devices with the parts asked for (see :meth:`vringcore.Core.report`).

        :param only: the index of the one device to return
        """
        models = []
        for index in range(len(self.devices.raw)) if only is None else (only,):
            model = self.devices.model(index, fields="device-fields" in parts)
            if "queues" in parts or "requests" in parts:
                model = msgspec.structs.replace(model, queues=self.queues(index, parts))
            models.append(model)
            self.limits += self.devices.raw[index].limits
        return tuple(models)

    def queues(self, index: int, parts: frozenset[str]) -> tuple[Queue, ...]:
        """Return the queues of a device with the parts asked for."""
        raw = self.devices.raw[index]
        in_flight = self._in_flight(raw) if "requests" in parts else None
        return tuple(
            self._queue(raw, queue, parts, None if in_flight is None else in_flight[queue.index])
            for queue in raw.queues
        )

    def ring(
        self, index: int, queue_index: int
    ) -> tuple[Queue, SplitRingModel | Absent, tuple[Chain, ...]]:
        """Return a queue, its ring, and the chains that are published or in flight.

        :raises NoSuchQueueError: if the device has no such queue
        """
        raw = self.devices.raw[index]
        found = next((q for q in raw.queues if q.index == queue_index), None)
        if found is None:
            count = len(raw.queues)
            raise NoSuchQueueError(
                f"the device has no queue {queue_index}",
                expected=f"0 to {count - 1}" if count else "a device with queues",
                hint="`vringcore queues` lists them",
            )
        in_flight = self._in_flight(raw)[queue_index]
        queue = self._queue(raw, found, frozenset({"queue-fields"}), in_flight)
        state = found.place.state
        if queue.ring == "packed" or state != "ready":
            why = Absent("packed-ring", None, "packed rings are not decoded yet")
            return queue, why if state == "ready" else _first_absent(found), ()
        from vringcore.qemu import rings

        try:
            reader = self._reader(raw, found)
            ring = rings.ring_model(reader, found)
            self.limits += [
                Limitation("the ring breaks a rule of the specification", breach)
                for breach in reader.breaches()
            ]
            heads = rings.published_heads(reader, found) + [r.head for r in in_flight]
            chains = rings.chains_of(reader, heads, self._process.guest_memory)
        except VringcoreError as error:
            return queue, absence_of(error), ()
        return queue, ring, tuple(chains)

    def _queue(
        self,
        raw: RawDevice,
        queue: RawQueue,
        parts: frozenset[str],
        in_flight: list[InFlight] | None,
    ) -> Queue:
        features = raw.guest_features
        model = virtqueues.queue_model(
            self._views,
            queue,
            device_id=raw.device_id,
            features=features,
            total=raw.queue_count,
            fields="queue-fields" in parts or bool(self._unknown),
        )
        identified = None if in_flight is None else len(in_flight)
        guest: SplitGuest | PackedGuest | Absent
        if has_feature(features, RING_PACKED):
            guest = virtqueues.packed_guest(self._views, queue)
            # A packed ring counts descriptors, not requests.
            taken = None if in_flight is None else sum(r.ndescs for r in in_flight)
            counts = virtqueues.packed_counts(queue, taken)
        else:
            guest = virtqueues.split_guest(
                self._views, queue, event_idx=has_feature(features, EVENT_IDX)
            )
            counts = virtqueues.split_counts(queue, guest, identified)
        model = msgspec.structs.replace(
            model, guest=guest, counts=counts, unknown_members=self._unknown
        )
        if in_flight is not None:
            model = msgspec.structs.replace(
                model, in_flight=self._with_chains(raw, queue, in_flight)
            )
        return model

    @property
    def _unknown(self) -> tuple[str, ...]:
        return self.devices.unknown_queue_members()

    def _reader(self, raw: RawDevice, queue: RawQueue) -> SplitRing[HostAddress]:
        return virtqueues.split_ring(
            self._views, queue, event_idx=has_feature(raw.guest_features, EVENT_IDX)
        )

    def _in_flight(self, raw: RawDevice) -> dict[int, list[InFlight]]:
        """Return the requests in flight by queue index, from QEMU's own elements."""
        requests, limits = self._process.requests_of(raw)
        self.limits += limits
        return {queue.index: requests.get(queue.index, []) for queue in raw.queues}

    def _with_chains(
        self, raw: RawDevice, queue: RawQueue, in_flight: list[InFlight]
    ) -> tuple[InFlight, ...]:
        """Join requests to their descriptors, which stay the device's until it uses the chain."""
        if not in_flight or queue.place.state != "ready":
            return tuple(in_flight)
        if has_feature(raw.guest_features, RING_PACKED):
            return tuple(in_flight)
        try:
            table = self._reader(raw, queue).table
            guest = self._process.guest_memory
        except VringcoreError as error:
            self.limits.append(
                Limitation(f"the descriptors of queue {queue.index} are not shown", str(error))
            )
            return tuple(in_flight)
        from vringcore.qemu.rings import descriptor_model
        from vringcore.virtio.chain import walk_chain

        joined = []
        for request in in_flight:
            chain = walk_chain(table, request.head, guest)
            joined.append(
                msgspec.structs.replace(
                    request,
                    chain_end=chain.end.value,
                    descriptors=tuple(descriptor_model(d) for d in chain.descriptors),
                )
            )
        return tuple(joined)


def _first_absent(queue: RawQueue) -> Absent:
    for part in (queue.place.desc, queue.place.avail, queue.place.used):
        if isinstance(part, Absent):
            return part
    raise AssertionError("a ring that is not ready has a part that is absent")
