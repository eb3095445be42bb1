"""Requests in rings that vhost runs, from guest memory: no structure of QEMU's stands for them.

What the back-end noted in its inflight region it has taken (source ``inflight_region``). Without a
region the ring gives candidates (source ``ring``): published and not given back, taken or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.errors import VringcoreError
from vringcore.model.report import Limitation
from vringcore.model.requests import BlockRequest, InFlight
from vringcore.model.values import Absent, Address
from vringcore.qemu import blkreq
from vringcore.qemu.flat_space import FlatSpace
from vringcore.qemu.rings import descriptor_model
from vringcore.qemu.vhost_structs import VHostDev
from vringcore.qemu.virtqueues import split_ring
from vringcore.virtio import blk
from vringcore.virtio.chain import Chain, ChainBuilder, ChainEnd, walk_chain
from vringcore.virtio.constants import DESC_F_INDIRECT, ID_BLOCK, USUAL_CHAIN_LIMIT
from vringcore.virtio.roles import queue_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.memory.space import AddressSpace
    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.vhost_queues import VhostRing
    from vringcore.qemu.virtqueues import RingRules
    from vringcore.view.views import Views
    from vringcore.virtio.inflight import Taken

NO_CLOCK = Absent("run-by-vhost", None, "nothing of QEMU's tells when the back-end took it")
NO_STATE = "the requests of queue {} that vhost has"


def requests_of_ring(
    views: Views,
    ring: VhostRing,
    device: RawDevice,
    memory: AddressSpace[Any],
    limits: list[Limitation],
) -> list[InFlight]:
    """Return the requests that are with the back-end of a ring, as far as can be told.

    In a queue that is not for requests the driver keeps empty buffers: none of those is told to be
    one unless the back-end noted it.

    :param memory: the guest's memory as the device sees it
    :param limits: is added to: what could not be told
    """
    limits += ring.limits
    try:
        return list(_requests(views, ring, device, memory, limits))
    except VringcoreError as error:
        limits.append(Limitation(NO_STATE.format(ring.index), str(error)))
        return []


def _requests(
    views: Views,
    ring: VhostRing,
    device: RawDevice,
    memory: AddressSpace[Any],
    limits: list[Limitation],
) -> Iterator[InFlight]:
    if not ring.is_stale:
        from vringcore.qemu.shadow import shadow_requests

        yield from shadow_requests(views, views.at(VHostDev, ring.run.address), ring.index)
        return
    rules = ring.rules
    if isinstance(rules, Absent) or ring.raw.place.missing is not None:
        return
    record = ring.record
    if isinstance(record, Absent):
        what = f"what the back-end noted of queue {ring.index}"
        limits.append(Limitation(what, record.describe(), record.hint))
    elif record is not None:
        for taken in record.taken:
            chain = _chain(views, ring, rules, taken, memory)
            yield _model(chain, taken.head, "inflight_region", device, rules, memory)
        return
    role = queue_role(device.device_id, ring.index, device.queue_count)
    if rules.packed or not role.startswith("request"):
        return
    table, count = split_ring(views, ring.raw, rules).table, ring.count()
    chains = [walk_chain(table, head, memory) for head in ring.candidates()]
    if len(chains) > count:
        # What the driver has got back is free: it may lead anywhere by now.
        chains = [chain for chain in chains if _leads_to_ram(chain, memory)]
    if len(chains) != count:
        limits.append(
            Limitation(
                f"which requests of queue {ring.index} are outstanding",
                f"the ring has {len(chains)} candidates for {count}",
                "only the back-end knows: it needs a core of its own",
            )
        )
    for chain in chains:
        yield _model(chain, chain.head, "ring", device, rules, memory)


def _leads_to_ram(chain: Chain, memory: AddressSpace[Any]) -> bool:
    """Tell whether a chain was followed to its end and all its buffers are in the guest's RAM."""
    if chain.end is not ChainEnd.COMPLETE or not isinstance(memory, FlatSpace):
        return chain.end is ChainEnd.COMPLETE
    try:
        for each in chain.descriptors:
            memory.host_address(each.address)
    except VringcoreError:
        return False
    return True


def _chain(
    views: Views, ring: VhostRing, rules: RingRules, taken: Taken, memory: AddressSpace[Any]
) -> Chain:
    """Return the chain of a noted request: of a packed ring the back-end's own copy."""
    if not rules.packed:
        return walk_chain(split_ring(views, ring.raw, rules).table, taken.head, memory)
    size = ring.raw.view.num
    walk = ChainBuilder(size, memory, max(size, USUAL_CHAIN_LIMIT))
    end: ChainEnd | None = None
    for descriptor in taken.descriptors:
        if descriptor.flags & DESC_F_INDIRECT:
            walk.descriptors.append(descriptor)
            end = walk.enter(descriptor.address, descriptor.length, descriptor.flags, packed=True)
        else:
            end = walk.take(descriptor)
        if end is not None:
            break
    return walk.result(taken.head, end or ChainEnd.COMPLETE)


def _model(
    chain: Chain,
    head: int,
    source: str,
    device: RawDevice,
    rules: RingRules,
    memory: AddressSpace[Any],
) -> InFlight:
    request, summary = decoded(chain, device.device_id, memory, big_endian=rules.big_endian)
    own = [each for each in chain.descriptors if each.table is None]
    return InFlight(
        head=head,
        source=source,
        summary=summary,
        ndescs=max(len(own), 1) if rules.packed else 1,
        chain_end=chain.end.value,
        descriptors=tuple(
            descriptor_model(each, packed=rules.packed) for each in chain.descriptors
        ),
        request=request,
    )


def decoded(
    chain: Chain, device_id: int, memory: AddressSpace[Any], *, big_endian: bool
) -> tuple[BlockRequest | None, str]:
    """Return a request as its chain shows it, and a line about it.

    Only virtio-blk's are decoded. ``address`` is the guest's, of the request's header.
    """
    size = f"{chain.readable_bytes} bytes to the device, {chain.writable_bytes} from it"
    if device_id != ID_BLOCK:
        return None, size
    first = next(chain.buffers(writable=False), None)
    try:
        raw = blk.read_request(chain, memory, big_endian=big_endian)
    except VringcoreError as error:
        return None, f"{size}; its header cannot be read: {error}"
    kind = raw.header.type & ~blk.T_BARRIER
    request = BlockRequest(
        kind="virtio-blk-header",
        address=Address(0 if first is None else first.address),
        operation=raw.header.operation,
        type=raw.header.type,
        sector=raw.header.sector if kind in blkreq.WITH_DATA else blkreq.NOT_APPLICABLE,
        length=raw.bytes_from_device if kind == blk.T_IN else raw.bytes_to_device,
        started_ns=NO_CLOCK,
    )
    return request, blkreq.summary(request)
