"""Packed rings and rings in order on real cores, against what gdb read of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import UNSET

import vringcore
from tests.cores import cores
from tests.lab.cases import CoreCase
from vringcore.model.devices import Device
from vringcore.model.queues import Counts, EventSuppression, PackedGuest, Queue
from vringcore.model.rings import PackedRing
from vringcore.model.values import Flags

RING_PACKED = 34
IN_ORDER = 35

NEXT, AVAIL, USED = 1, 1 << 7, 1 << 15


def has(bit: int) -> Any:
    """Return the choice of cores with a device that has a feature."""

    def wanted(core: CoreCase) -> bool:
        devices = (core.gdb or {}).get("devices", ())
        return any(device["fields"]["guest_features"] >> bit & 1 for device in devices)

    return wanted


def opened_core(case: CoreCase) -> Iterator[tuple[CoreCase, vringcore.Core]]:
    with case.open() as core:
        yield case, core


@pytest.fixture(scope="module", params=cores(has(RING_PACKED)))
def packed(request: pytest.FixtureRequest) -> Iterator[tuple[CoreCase, vringcore.Core]]:
    yield from opened_core(request.param)


@pytest.fixture(scope="module", params=cores(has(IN_ORDER)))
def ordered(request: pytest.FixtureRequest) -> Iterator[tuple[CoreCase, vringcore.Core]]:
    yield from opened_core(request.param)


def queue_pairs(
    opened: tuple[CoreCase, vringcore.Core], bit: int
) -> Iterator[tuple[Device, Queue, dict[str, Any]]]:
    """Yield each queue of the devices that have a feature, and gdb's view of it."""
    case, core = opened
    devices = {int(device.address): device for device in core.virtio_devices()}
    for truth in case.gdb["devices"]:
        device = devices[truth["address"]]
        assert isinstance(device.queues, tuple)
        if truth["fields"]["guest_features"] >> bit & 1:
            yield from (
                (device, *pair) for pair in zip(device.queues, truth["queues"], strict=True)
            )


def raw_rings(
    opened: tuple[CoreCase, vringcore.Core],
) -> Iterator[tuple[Device, Queue, dict[str, Any], dict[str, bytes]]]:
    """Yield each packed queue whose ring gdb could read, with its bytes."""
    for device, queue, truth in queue_pairs(opened, RING_PACKED):
        rings = truth.get("rings") or {}
        if all(rings.get(part) for part in ("desc", "avail", "used")):
            yield device, queue, truth, {part: bytes.fromhex(rings[part]) for part in rings}


def test_there_are_packed_rings(packed: Any) -> None:
    found = list(raw_rings(packed))
    assert found
    assert all(queue.ring == "packed" for _, queue, _, _ in found)


def test_descriptors_equal_the_raw_bytes(packed: Any) -> None:
    _case, core = packed
    for device, queue, truth, raw in raw_rings(packed):
        document = core.ring(str(device.index), queue.index)
        ring = document.packed
        assert document.split is UNSET
        assert isinstance(ring, PackedRing)
        assert isinstance(ring.descriptors, tuple)
        assert [slot.slot for slot in ring.descriptors] == list(range(truth["fields"]["vring.num"]))
        assert (
            b"".join(
                struct.pack("<QIHH", slot.address, slot.length, slot.id, slot.flags)
                for slot in ring.descriptors
            )
            == raw["desc"]
        )
        for slot in ring.descriptors:
            assert ("avail" in slot.flag_names) == bool(slot.flags & AVAIL)
            assert ("used" in slot.flag_names) == bool(slot.flags & USED)


def test_event_suppression_equals_the_raw_bytes(packed: Any) -> None:
    for _, queue, _, raw in raw_rings(packed):
        assert isinstance(queue.guest, PackedGuest)
        for event, part in (
            (queue.guest.driver_event, "avail"),
            (queue.guest.device_event, "used"),
        ):
            assert isinstance(event, EventSuppression)
            off_wrap, flags = struct.unpack("<HH", raw[part])
            assert (event.off_wrap, event.flags) == (off_wrap, flags)
            assert (event.slot, event.wrap) == (off_wrap & 0x7FFF, bool(off_wrap >> 15))
            assert event.name == ("enable", "disable", "desc", "reserved")[flags]


def test_positions_are_marked_where_gdb_has_them(packed: Any) -> None:
    _case, core = packed
    for device, queue, truth, _ in raw_rings(packed):
        fields = truth["fields"]
        assert queue.last_avail_wrap_counter is bool(fields["last_avail_wrap_counter"])
        assert queue.used_wrap_counter is bool(fields["used_wrap_counter"])
        ring = core.ring(str(device.index), queue.index).packed
        places = {mark: slot.slot for slot in ring.descriptors for mark in slot.marks}
        assert places["last_avail_idx"] == fields["last_avail_idx"]
        assert places["used_idx"] == fields["used_idx"]
        taken = [slot for slot in ring.descriptors if slot.state == "taken"]
        assert len(taken) == fields["inuse"]


def test_counts_are_those_of_gdb_and_of_the_raw_bits(packed: Any) -> None:
    for _, queue, truth, raw in raw_rings(packed):
        assert isinstance(queue.counts, Counts)
        assert queue.counts.popped == queue.counts.in_use == truth["fields"]["inuse"]
        assert queue.counts.leaked == 0
        assert queue.counts.unseen == available(truth["fields"], raw["desc"])


def available(fields: dict[str, Any], table: bytes) -> int:
    """Count the chains that begin at ``last_avail_idx`` and behind it, by their bits."""
    size, count, chain = fields["vring.num"], 0, False
    for step in range(size):
        turns, slot = divmod(fields["last_avail_idx"] + step, size)
        wrap = bool(fields["last_avail_wrap_counter"]) ^ bool(turns)
        (flags,) = struct.unpack_from("<H", table, 16 * slot + 14)
        if bool(flags & AVAIL) != wrap or bool(flags & USED) == wrap:
            break
        count += not chain
        chain = bool(flags & NEXT)
    return count


def test_requests_are_joined_to_the_buffers_that_qemu_mapped(packed: Any) -> None:
    case, core = packed
    truth = {request["address"]: request for request in case.gdb["requests"]}
    seen = 0
    for device, queue, _, _ in raw_rings(packed):
        assert isinstance(queue.in_flight, tuple)
        if device.kind != "virtio-blk":
            continue
        for request in queue.in_flight:
            assert request.request is not None
            theirs = truth[int(request.request.address)]
            assert (request.head, request.ndescs) == (theirs["index"], theirs["ndescs"])
            assert request.chain_end == "complete"
            assert isinstance(request.descriptors, tuple)
            mapped = theirs["out_buffers"] + theirs["in_buffers"]
            walked = [d for d in request.descriptors if "indirect" not in d.flag_names]
            assert [int(d.address) for d in walked] == [b["dma_address"] for b in mapped]
            assert [d.length for d in walked] == [b["length"] for b in mapped]
            assert sum(d.table is None for d in request.descriptors) == theirs["ndescs"]
            seen += 1
        chains = core.ring(str(device.index), queue.index).chains
        heads = [request.head for request in queue.in_flight]
        assert [chain.head for chain in chains[len(chains) - len(heads) :]] == heads
        assert isinstance(queue.counts, Counts)
        assert len(chains) == queue.counts.unseen + len(heads)
    assert seen == len(case.gdb["requests"])


def test_features_of_packed_devices_are_named(packed: Any) -> None:
    for device, _, _ in queue_pairs(packed, RING_PACKED):
        assert isinstance(device.guest_features, Flags)
        assert "VIRTIO_F_RING_PACKED" in device.guest_features.names


def test_chains_in_order_are_what_gdb_has_in_used_elems(ordered: Any) -> None:
    checked = 0
    for device, queue, truth in queue_pairs(ordered, IN_ORDER):
        fields, elements = truth["fields"], truth.get("used_elems")
        if not elements:
            continue  # a build that has no marks there
        assert isinstance(queue.in_order, tuple)
        at, expected, left = fields["used_idx"] % fields["vring.num"], [], fields["inuse"]
        while left > 0:
            element = elements[at]
            expected.append((element["index"], element["ndescs"], element["in_order_filled"]))
            left -= element["ndescs"]
            at = (at + element["ndescs"]) % fields["vring.num"]
        ours = [(each.head, each.ndescs, each.filled) for each in queue.in_order]
        assert ours == [(head, count, bool(filled)) for head, count, filled in expected]
        checked += len(ours)
        if device.kind != "virtio-blk":
            continue
        assert isinstance(queue.in_flight, tuple)
        # What QEMU still works on is just what is not marked as done.
        waiting = [each.head for each in queue.in_order if not each.filled]
        assert sorted(waiting) == sorted(request.head for request in queue.in_flight)
        assert isinstance(queue.counts, Counts)
        assert queue.counts.unidentified == 0
    assert checked


def test_the_held_request_is_the_one_that_holds_back(ordered: Any) -> None:
    case, core = ordered
    if case.case.scenario != "in-order-held":
        pytest.skip("nothing is held back")
    (device,) = core.virtio_devices()
    (queue,) = device.queues
    (held,) = [each for server in case.case.servers for each in server["held"]]
    first, *others = queue.in_order
    (request,) = [request for request in queue.in_flight if request.head == first.head]
    assert not first.filled
    assert request.request.sector * 512 == held["offset"]
    assert len([each for each in others if each.filled]) >= 5
    assert core.report().limits == ()
