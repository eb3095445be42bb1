"""What is asked of a core, put together: devices, their queues, rings, requests in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import UNSET

from vringcore.errors import NoSuchQueueError, VringcoreError
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu import virtqueues
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.devices import Devices

if TYPE_CHECKING:
    from vringcore.memory.space import AddressSpace
    from vringcore.model.devices import Device
    from vringcore.model.queues import Counts, Ordered, PackedGuest, Queue, SplitGuest
    from vringcore.model.requests import InFlight
    from vringcore.model.rings import Chain, PackedRing, SplitRing
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process
    from vringcore.qemu.vhost_queues import VhostRing
    from vringcore.qemu.vhost_rings import VhostRings
    from vringcore.qemu.virtqueues import RawQueue, RingRules

R = TypeVar("R", "SplitRing", "PackedRing")

DEVICE_PARTS = frozenset({"devices", "device-fields", "queues", "queue-fields", "requests"})
"""What a report can hold of devices: them, whole C structures, the queues, requests in flight."""

PROCESS_PARTS = frozenset({"threads", "event-loops", "machine", "block", "coroutines", "locks"})
"""What a report can hold of the process around the devices."""

PARTS_ON_REQUEST = frozenset({"locals"})
"""What a report holds only if it is asked for: local variables of the threads' functions."""

QUEUE_PARTS = frozenset({"queues", "queue-fields", "requests"})
"""The parts of a report that lie within queues."""


class Survey:
    """The devices of one process and everything the verbs show of them.

    What a question could not get is added to its ``limits``; what hinders every question is in
    ``devices.limits``.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._views = process.views
        self.devices = Devices(process.views, process.objects, lambda: process.block)
        self._memories: dict[int | Absent, AddressSpace[Any]] = {}
        self._vhost_rings: VhostRings | None = None

    def models(
        self, parts: frozenset[str], limits: list[Limitation], *, only: int | None = None
    ) -> tuple[Device, ...]:
        """Return the devices with the parts asked for (see :meth:`vringcore.Core.report`).

        :param only: the index of the one device to return
        """
        models = []
        for index in range(len(self.devices.raw)) if only is None else (only,):
            model = self.devices.model(
                index,
                own="devices" in parts,
                fields="device-fields" in parts,
                limits=limits,
            )
            if parts & QUEUE_PARTS:
                model = msgspec.structs.replace(model, queues=self._queues(index, parts, limits))
            models.append(model)
        return tuple(models)

    def process_parts(
        self, parts: frozenset[str], limits: list[Limitation], *, thread: int | None = None
    ) -> dict[str, Any]:
        """Return what the report holds of the process around the devices, by the report's keys.

        :param parts: of :data:`PROCESS_PARTS`
        :param thread: the number of the one thread to return
        :raises UsageError: if there is no such thread
        """
        found: dict[str, Any] = {}
        process = self._process
        if "threads" in parts:
            from vringcore.qemu.threads import thread_models

            found["threads"] = thread_models(
                process,
                limits,
                only=thread,
                all_variables="locals" in parts,
            )
        if "coroutines" in parts:
            from vringcore.qemu.coroutine_models import coroutine_models

            found["coroutines"], found["idle_coroutines"] = coroutine_models(process, limits)
        if "block" in parts:
            from vringcore.qemu.block_state import block_state

            found["block"] = block_state(process, limits)
        if "event-loops" in parts:
            from vringcore.qemu.event_loops import event_loops

            found["event_loops"] = event_loops(process, self.devices, limits)
        if "locks" in parts:
            from vringcore.qemu.locks import lock_models

            found["locks"] = lock_models(process, self.devices.raw, limits)
        if "machine" in parts:
            from vringcore.qemu.machine_state import machine_state

            found["machine"] = machine_state(process, self.devices.raw, limits)
        return found

    def _queues(
        self, index: int, parts: frozenset[str], limits: list[Limitation]
    ) -> tuple[Queue, ...]:
        raw = self.devices.raw[index]
        in_flight = self._in_flight(raw, limits) if "requests" in parts else None
        # What a fork keeps in its queues is always shown.
        fields = "queue-fields" in parts or bool(self.devices.unknown_queue_members())
        return tuple(
            self._queue(raw, queue, fields, None if in_flight is None else in_flight[queue.index])
            for queue in raw.queues
        )

    def ring(
        self, index: int, queue_index: int, limits: list[Limitation]
    ) -> tuple[Queue, SplitRing | PackedRing | Absent, tuple[Chain, ...]]:
        """Return a queue, its ring, and the chains that are published or in flight.

        :raises NoSuchQueueError: if the device has no such queue, or it cannot be read
        """
        raw = self.devices.raw[index]
        found = next((q for q in raw.queues if q.index == queue_index), None)
        limits += raw.limits
        if found is None:
            raise _no_queue(raw, queue_index)
        in_flight = self._in_flight(raw, limits)[queue_index]
        queue = self._queue(raw, found, True, in_flight)
        rules = raw.ring_rules
        if isinstance(rules, Absent):
            return queue, rules, ()
        if found.place.missing is not None:
            return queue, found.place.missing, ()
        read = self._packed_ring if rules.packed else self._split_ring
        try:
            return (queue, *read(raw, found, rules, in_flight, limits))
        except VringcoreError as error:
            return queue, absence_of(error), ()

    def _split_ring(
        self,
        raw: RawDevice,
        queue: RawQueue,
        rules: RingRules,
        in_flight: list[InFlight],
        limits: list[Limitation],
    ) -> tuple[SplitRing, tuple[Chain, ...]]:
        from vringcore.qemu import rings

        reader = virtqueues.split_ring(self._views, queue, rules)
        limits += _breaches(reader.breaches())
        vhost = self._vhost_ring(raw, queue)
        stale = vhost is not None and vhost.is_stale
        if vhost is not None and stale:
            heads = vhost.candidates()
        else:
            heads = rings.published_heads(reader, queue) + [r.head for r in in_flight]
        chains = rings.chains_of(reader, heads, self.memory_of(raw))
        model = rings.ring_model(reader, queue, stale=stale)
        return _behind_iommu(queue, model, chains)

    def _packed_ring(
        self,
        raw: RawDevice,
        queue: RawQueue,
        _rules: RingRules,
        in_flight: list[InFlight],
        limits: list[Limitation],
    ) -> tuple[PackedRing, tuple[Chain, ...]]:
        from vringcore.qemu import packed, packed_rings

        reader = packed.packed_ring(self._views, queue)
        limits += _breaches(reader.breaches())
        memory = self.memory_of(raw)
        vhost = self._vhost_ring(raw, queue)
        stale = vhost is not None and vhost.is_stale
        chains = []
        if not stale:
            chains = packed_rings.chains_of(reader, queue, in_flight, self._views, memory)
        model = packed_rings.ring_model(self._views, reader, queue, stale=stale)
        return _behind_iommu(queue, model, chains)

    def _queue(
        self, raw: RawDevice, queue: RawQueue, fields: bool, in_flight: list[InFlight] | None
    ) -> Queue:
        model = virtqueues.queue_model(
            self._views,
            queue,
            device_id=raw.device_id,
            features=raw.guest_features,
            total=raw.queue_count,
            fields=fields,
        )
        rules = raw.ring_rules
        vhost = self._vhost_ring(raw, queue)
        ordered = None
        if (
            in_flight is not None
            and not isinstance(rules, Absent)
            and rules.in_order
            and vhost is None
        ):
            from vringcore.qemu import in_order

            ordered = in_order.ordered(self._views, queue, packed=rules.packed)
        guest, counts = self._guest_and_counts(queue, rules, in_flight, ordered)
        if vhost is not None:
            model, counts = vhost.described(model), vhost.counts(counts, guest, in_flight)
        model = msgspec.structs.replace(
            model,
            guest=guest,
            counts=counts,
            in_order=UNSET if ordered is None else ordered,
            unknown_members=self.devices.unknown_queue_members(),
            ring_owner=self.devices.vhost.queue_owner(raw, queue.index),
        )
        if in_flight is not None:
            joined = self._with_chains(raw, queue, in_flight)
            space = queue.place.space
            if space is not None:
                from vringcore.qemu.iommu_rings import located

                joined = tuple(located(each, space) for each in joined)
            model = msgspec.structs.replace(model, in_flight=joined)
        return model

    def _guest_and_counts(
        self,
        queue: RawQueue,
        rules: RingRules | Absent,
        in_flight: list[InFlight] | None,
        ordered: tuple[Ordered, ...] | Absent | None,
    ) -> tuple[SplitGuest | PackedGuest | Absent, Counts]:
        """Return the driver's side of a queue, and the counts.

        A packed ring counts descriptors, not requests; those that are done and only wait for an
        older one are identified, too.
        """
        identified = None
        if in_flight is not None:
            identified = sum(r.ndescs for r in in_flight)
            if ordered is not None:
                from vringcore.qemu.in_order import done

                identified += done(ordered)
        if isinstance(rules, Absent):
            return rules, virtqueues.unknown_counts(queue, rules, identified)
        if rules.packed:
            from vringcore.qemu import packed

            event = packed.packed_guest(self._views, queue)
            return event, packed.packed_counts(self._views, queue, event, identified)
        guest = virtqueues.split_guest(self._views, queue, rules)
        return guest, virtqueues.split_counts(queue, guest, identified)

    def _in_flight(self, raw: RawDevice, limits: list[Limitation]) -> dict[int, list[InFlight]]:
        """Return the requests in flight by queue index, from QEMU's own elements."""
        requests, lost = self._process.requests_of(raw, lambda: self.memory_of(raw))
        limits += lost
        found = {queue.index: requests.get(queue.index, []) for queue in raw.queues}
        for queue in raw.queues:
            vhost = self._vhost_ring(raw, queue)
            if vhost is not None:
                from vringcore.qemu.vhost_requests import requests_of_ring

                memory = self.memory_of(raw)
                found[queue.index] += requests_of_ring(self._views, vhost, raw, memory, limits)
        return found

    def _vhost_ring(self, raw: RawDevice, queue: RawQueue) -> VhostRing | None:
        """Return what is known of a queue that vhost runs; None for one that QEMU runs."""
        run = self.devices.vhost.run_of(raw, queue.index)
        if run is None:
            return None
        if self._vhost_rings is None:
            from vringcore.qemu.vhost_rings import VhostRings

            self._vhost_rings = VhostRings(self._views, self._process.objects)
        return self._vhost_rings.ring(raw, queue, run)

    def _with_chains(
        self, raw: RawDevice, queue: RawQueue, in_flight: list[InFlight]
    ) -> tuple[InFlight, ...]:
        """Join requests to their descriptors, which stay the device's until it uses the chain."""
        rules = raw.ring_rules
        if any(each.descriptors is not UNSET for each in in_flight):
            return tuple(in_flight)  # of a ring that vhost runs: found by their chains
        if not in_flight or isinstance(rules, Absent) or queue.place.missing is not None:
            return tuple(in_flight)
        if rules.packed:
            return self._with_packed_chains(raw, queue, in_flight)
        from vringcore.qemu.rings import descriptor_model
        from vringcore.virtio.chain import walk_chain

        try:
            table = virtqueues.split_ring(self._views, queue, rules).table
        except VringcoreError:
            return tuple(in_flight)  # the queue's size, which is why, is shown with it
        memory = self.memory_of(raw)
        joined = []
        for request in in_flight:
            chain = walk_chain(table, request.head, memory)
            joined.append(
                msgspec.structs.replace(
                    request,
                    chain_end=chain.end.value,
                    descriptors=tuple(descriptor_model(d) for d in chain.descriptors),
                )
            )
        return tuple(joined)

    def _with_packed_chains(
        self, raw: RawDevice, queue: RawQueue, in_flight: list[InFlight]
    ) -> tuple[InFlight, ...]:
        from vringcore.qemu.packed import available_position, packed_ring
        from vringcore.qemu.packed_rings import Joiner

        try:
            reader, avail = packed_ring(self._views, queue), available_position(queue)
        except VringcoreError:
            return tuple(in_flight)  # its size or position, which is why, is shown with it
        joiner = Joiner(self._views, reader, avail, self.memory_of(raw))
        return tuple(joiner.joined(request) for request in in_flight)

    def memory_of(self, raw: RawDevice) -> AddressSpace[Any]:
        """Return the guest's memory as a device sees it: through its ``dma_as``.

        That is guest-physical memory, but for a device that goes through an IOMMU.
        """
        address = attempt(lambda: int(raw.view.dma_as))
        memory = self._memories.get(address)
        if memory is None:
            through = next((q.place.space for q in raw.queues if q.place.space is not None), None)
            memory = self._memories[address] = through or self._open_memory(address)
        return memory

    def _open_memory(self, address: int | Absent) -> AddressSpace[Any]:
        from vringcore.qemu.flat_space import UnmappedSpace
        from vringcore.qemu.memory import dma_space

        try:
            # Where the device's own member is not there, it is taken to be no exception.
            if isinstance(address, Absent) or address == self._views.find_address_of(
                "address_space_memory"
            ):
                return self._process.guest_memory
            return dma_space(self._views, address)
        except VringcoreError as error:
            # Only what lies in guest memory is lost by it: indirect tables.
            return UnmappedSpace(error)


def _behind_iommu(queue: RawQueue, ring: R, chains: list[Chain]) -> tuple[R, tuple[Chain, ...]]:
    """Return a ring and its chains; behind an IOMMU with what their addresses lead to."""
    space = queue.place.space
    if space is None:
        return ring, tuple(chains)
    from vringcore.qemu.iommu_rings import located, with_host_addresses

    return with_host_addresses(ring, space), tuple(located(chain, space) for chain in chains)


def _breaches(found: tuple[str, ...]) -> list[Limitation]:
    return [Limitation("the ring breaks a rule of the specification", breach) for breach in found]


def _no_queue(raw: RawDevice, index: int) -> NoSuchQueueError:
    there = ", ".join(str(queue.index) for queue in raw.queues)
    if not raw.complete:
        return NoSuchQueueError(
            f"the device has no queue {index} that could be read",
            seen="; ".join(f"{each.what}: {each.why}" for each in raw.limits),
            expected=f"one of {there}" if there else "a core that holds its queues",
        )
    return NoSuchQueueError(
        f"the device has no queue {index}",
        expected=f"one of {there}" if there else "a device with queues",
        hint="`vringcore queues` lists them",
    )
