"""Rings that vhost runs: against gdb's structures, the raw rings, and what the server was asked."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UNSET

from tests.cores import cores, has_devices, told_of_virtio
from tests.qemu.damaged import Hidden, Patched, core_over
from vringcore.errors import MemoryFault
from vringcore.model.queues import Counts, InflightRecord, SplitGuest
from vringcore.model.requests import BlockRequest
from vringcore.model.rings import SplitRing
from vringcore.model.values import Absent, Flags, encode
from vringcore.model.vhost import Chardev, InflightRegion
from vringcore.qemu.devices import Devices
from vringcore.qemu.packed import (
    available_position,
    packed_counts,
    packed_guest,
    packed_ring,
    used_position,
)
from vringcore.qemu.vhost import Run
from vringcore.qemu.vhost_queues import VhostRing
from vringcore.qemu.vhost_structs import VHostDev
from vringcore.virtio.outstanding import packed_outstanding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.cases import CoreCase
    from vringcore.api import Core
    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.vhost import Vhost
    from vringcore.qemu.process import Process

STALE = {"last_avail_idx", "shadow_avail_idx", "used_idx", "signalled_used", "in_use"}
PARTS = {"devices", "queues", "requests"}


def has_vhost(core: CoreCase) -> bool:
    return has_devices(core) and any(device.get("vhost") for device in core.gdb["devices"])


def has_packed(core: CoreCase) -> bool:
    return has_devices(core) and any(
        device["fields"]["guest_features"] >> 34 & 1 for device in core.gdb["devices"]
    )


@pytest.fixture(scope="module", params=cores(has_vhost))
def core(request: pytest.FixtureRequest) -> CoreCase:
    found: CoreCase = request.param
    return found


@pytest.fixture(scope="module")
def process(core: CoreCase) -> Iterator[Process]:
    process = core.open_process()
    yield process
    process.close()


def device_of(core: Core) -> Device:
    (device,) = core.report(PARTS).devices or ()
    return device


@pytest.fixture(scope="module")
def device(process: Process) -> Device:
    return device_of(core_over(process, process.views.space))


@pytest.fixture(scope="module")
def truth(core: CoreCase) -> Any:
    (device,) = core.gdb["devices"]
    return device


def queues(device: Device) -> tuple[Queue, ...]:
    assert isinstance(device.queues, tuple)
    return device.queues


def counts(queue: Queue) -> Counts:
    assert isinstance(queue.counts, Counts)
    return queue.counts


def back_end(device: Device) -> Vhost:
    assert isinstance(device.vhost, tuple)
    (vhost,) = device.vhost
    return vhost


def word(raw: str, place: int) -> int:
    return int.from_bytes(bytes.fromhex(raw)[2 * place : 2 * place + 2], "little")


def noted(truth: Any, index: int) -> list[int]:
    """Return the heads that are marked in the back-end's record, oldest first."""
    inflight = truth["vhost"]["inflight"]
    region = bytes.fromhex(inflight["region"])
    start = index * (len(region) // len(truth["queues"]))
    (count,) = struct.unpack_from("<H", region, start + 10)
    marked = []
    for head in range(count):
        mark, counter = struct.unpack_from("<B7xQ", region, start + 16 + 16 * head)
        marked += [(counter, head)] if mark else []
    return [head for _, head in sorted(marked)]


def has_region(truth: Any) -> bool:
    inflight = truth["vhost"]["inflight"]
    return inflight is not None and inflight["region"] is not None


def test_the_owner_is_who_runs_the_rings(device: Device, truth: Any) -> None:
    owner = "vhost-user" if truth["vhost"]["listed"] else "vhost-user-disconnected"
    assert device.ring_owner == owner
    assert {queue.ring_owner for queue in queues(device)} == {owner}


def test_the_back_end_is_as_gdb_has_it(device: Device, truth: Any) -> None:
    ours, theirs = back_end(device), truth["vhost"]
    fields = theirs["fields"]
    assert ours.address == theirs["address"]
    assert ours.backend == ("user" if theirs["listed"] else None)
    assert (ours.started, ours.log_enabled) == (bool(fields["started"]), False)
    assert (ours.vq_index, ours.nvqs) == (fields["vq_index"], fields["nvqs"])
    for name in ("features", "acked_features", "protocol_features"):
        flags = getattr(ours, name)
        assert flags.value == fields[name]
        assert len(flags.names) == flags.value.bit_count()
    assert isinstance(ours.queues, tuple)
    assert [queue.address for queue in ours.queues] == [q["address"] for q in theirs["queues"]]
    for queue, its, own in zip(ours.queues, theirs["queues"], truth["queues"], strict=False):
        assert queue.num == its["fields"]["num"]
        assert queue.masked_fd == its["fields"]["masked_notifier.wfd"]
        assert queue.kick_fd == own["fields"]["host_notifier.rfd"]
        assert queue.call_fd == own["fields"]["guest_notifier.wfd"]


def test_the_back_end_is_as_qemu_says(core: CoreCase, device: Device) -> None:
    before = core.case.qmp_before
    assert before is not None
    if not told_of_virtio(core):
        pytest.skip("this QEMU says nothing of its virtio devices")
    (status,) = (each["status"] for each in before["virtio"])
    if not status["vhost-started"]:
        assert back_end(device).started is False
        return
    ours, theirs = back_end(device), status["vhost-dev"]
    assert (ours.nvqs, ours.vq_index) == (theirs["nvqs"], theirs["vq-index"])
    assert ours.log_enabled == theirs["log-enabled"]
    assert isinstance(ours.acked_features, Flags)
    assert isinstance(ours.protocol_features, Flags)
    acked = theirs["acked-features"]
    assert set(ours.acked_features.names) == names(acked["dev-features"] + acked["transports"])
    # What is the back-end's was the slave's until 8.0.
    protocols = {
        name.replace("_SLAVE_", "_BACKEND_")
        for name in names(theirs["protocol-features"]["protocols"])
    }
    assert set(ours.protocol_features.names) == protocols


def names(described: list[str]) -> set[str]:
    """Return the names of features that QMP gives with a description each."""
    known = {each.partition(":")[0] for each in described}
    return {name.replace("VIRTIO_RING_F_", "VIRTIO_F_") for name in known}


def test_the_character_device_is_as_gdb_has_it(device: Device, truth: Any) -> None:
    chardev = back_end(device).chardev
    assert isinstance(chardev, Chardev)
    model = truth["model"]
    assert chardev.address == model["fields"]["chardev.chr"]
    assert chardev.connected == bool(model["fields"]["connected"])
    assert chardev.state == ("connected" if truth["vhost"]["listed"] else "disconnected")
    assert chardev.handler == model["symbols"]["chardev.chr_event"]
    assert (chardev.label, chardev.reconnect_ms) == ("vhost0", 0)
    assert chardev.reconnect_armed is False


def test_the_region_is_as_gdb_has_it(device: Device, truth: Any) -> None:
    region = back_end(device).inflight
    theirs = truth["vhost"]["inflight"]["fields"]
    if not theirs["addr"]:
        assert region is None
        return
    assert isinstance(region, InflightRegion)
    assert (region.address, region.size, region.fd, region.offset, region.queue_size) == tuple(
        theirs[name] for name in ("addr", "size", "fd", "offset", "queue_size")
    )


def test_what_is_outstanding_is_in_guest_memory(device: Device, truth: Any) -> None:
    for queue, theirs in zip(queues(device), truth["queues"], strict=True):
        rings = theirs["rings"]
        waiting = word(rings["avail"], 1) - word(rings["used"], 1) & 0xFFFF
        assert counts(queue).outstanding == waiting
        assert set(queue.stale) >= STALE
        assert queue.last_avail_idx == theirs["fields"]["last_avail_idx"]


def test_what_the_back_end_has_is_what_it_noted(device: Device, truth: Any) -> None:
    for queue in queues(device):
        count, outstanding = counts(queue), counts(queue).outstanding
        assert isinstance(outstanding, int)
        if not has_region(truth):
            assert queue.inflight_record is UNSET
            assert isinstance(count.popped, Absent)
            assert isinstance(count.unseen, Absent)
            continue
        heads = noted(truth, queue.index)
        record = queue.inflight_record
        assert isinstance(record, InflightRecord)
        assert list(record.heads) == heads
        assert (record.version, record.given_back) == (1, ())
        assert isinstance(queue.guest, SplitGuest)
        assert record.used_idx == queue.guest.used_idx
        assert (count.popped, count.unseen) == (len(heads), outstanding - len(heads))
        assert count.unidentified == 0


def test_no_count_is_made_of_what_is_stale(process: Process, device: Device) -> None:
    """Other numbers in QEMU's copies: not one count is another."""
    layout = process.views
    members = ("last_avail_idx", "shadow_avail_idx", "used_idx", "inuse", "signalled_used")
    patches = {
        queue.address + layout.offset("struct VirtQueue", member): b"\x39\x30"
        for queue in queues(device)
        for member in members
    }
    other = device_of(core_over(process, Patched(process.views.space, patches)))
    assert {queue.last_avail_idx for queue in queues(other)} == {0x3039}
    assert [queue.counts for queue in queues(other)] == [q.counts for q in queues(device)]
    assert [q.in_flight for q in queues(other)] == [q.in_flight for q in queues(device)]
    for queue in queues(device):
        assert isinstance(counts(queue).in_use, Absent)
        assert isinstance(counts(queue).leaked, Absent)


def test_requests_are_those_that_the_server_holds(
    core: CoreCase, device: Device, truth: Any
) -> None:
    ours = set()
    for queue in queues(device):
        for request in queue.in_flight or ():
            block = request.request
            assert isinstance(block, BlockRequest)
            assert request.source == ("inflight_region" if has_region(truth) else "ring")
            assert request.chain_end == "complete"
            assert isinstance(block.sector, int)
            ours.add((block.operation, 512 * block.sector, block.length))
    held = {
        (request["type"], request["offset"], request["length"])
        for server in core.case.servers or ()
        for request in server["held"]
    }
    assert held
    assert held <= ours
    if has_region(truth):
        assert held == ours


def test_the_heads_are_outstanding_in_the_ring(device: Device, truth: Any) -> None:
    for queue, theirs in zip(queues(device), truth["queues"], strict=True):
        outstanding = counts(queue).outstanding
        assert isinstance(outstanding, int)
        size = theirs["fields"]["vring.num"]
        last = word(theirs["rings"]["avail"], 1)
        newest = {
            word(theirs["rings"]["avail"], 2 + (last - back) % size)
            for back in range(1, outstanding + 1)
        }
        heads = [request.head for request in queue.in_flight or ()]
        assert len(heads) == len(set(heads))
        if has_region(truth):
            assert set(heads) <= newest
        else:
            assert set(heads) >= newest


def test_a_ring_shows_what_is_outstanding(process: Process, device: Device) -> None:
    core = core_over(process, process.views.space)
    for queue in queues(device):
        shown = core.ring("0", queue.index)
        assert len(shown.chains) >= (counts(queue).outstanding or 0)
        assert isinstance(shown.split, SplitRing)
        marks = {
            mark for entry in (*shown.split.available, *shown.split.used) for mark in entry.marks
        }
        assert "avail.idx" in marks
        assert not marks & {"last_avail_idx", "used_idx"}


# Packed rings, of disks that QEMU runs: what their bits tell without QEMU's positions


@pytest.fixture(params=cores(has_packed))
def packed(request: pytest.FixtureRequest) -> Iterator[Process]:
    case: CoreCase = request.param
    process = case.open_process()
    yield process
    process.close()


def test_a_packed_ring_tells_where_its_driver_is(packed: Process) -> None:
    compared = 0
    devices = Devices(packed.views, packed.objects, lambda: packed.block)
    for device in devices.raw:
        rules = device.ring_rules
        for queue in device.queues:
            if isinstance(rules, Absent) or not rules.packed or queue.place.missing is not None:
                continue
            reader = packed_ring(packed.views, queue)
            try:
                slots = reader.descriptors()
            except MemoryFault:
                continue
            used, taken = used_position(queue), available_position(queue)
            driver = taken
            while slots[driver.slot].is_available(driver.wrap) and (
                driver.since(used, reader.size) < reader.size
            ):
                driver = driver.advanced(1, reader.size)
            outstanding = driver.since(used, reader.size)
            span = packed_outstanding(slots)
            assert (span.driver, span.most >= outstanding) == (driver, True)
            assert packed_outstanding(slots, used).most == outstanding
            ring = VhostRing(
                packed.views, queue, rules, Run("vhost-user", 0), inflight_at=0, queues=1
            )
            model = packed_counts(packed.views, queue, packed_guest(packed.views, queue), None)
            found = ring.counts(model, packed_guest(packed.views, queue), None)
            assert isinstance(found.popped, Absent)
            assert isinstance(found.unseen, Absent)
            if span.most:
                assert isinstance(found.outstanding, Absent)
                assert f"at most {span.most} descriptors" in found.outstanding.hint
            else:
                assert found.outstanding == 0
            compared += 1
    assert compared


# A region that is none


@pytest.fixture
def region(truth: Any) -> Any:
    if not has_region(truth):
        pytest.skip("the back-end keeps no region")
    return truth["vhost"]["inflight"]["fields"]


@pytest.mark.parametrize(
    ("place", "data"),
    [
        pytest.param(8, b"\x02\x00", id="version"),
        pytest.param(10, b"\xff\xff", id="desc_num"),
        pytest.param(10, b"\x00\x00", id="no-desc_num"),
    ],
)
def test_a_region_of_another_form_is_told(
    process: Process, region: Any, place: int, data: bytes
) -> None:
    space = Patched(process.views.space, {region["addr"] + place: data})
    report = core_over(process, space).report(PARTS)
    (device,) = report.devices or ()
    queue, *others = queues(device)
    assert isinstance(queue.inflight_record, Absent)
    assert "inflight region" in queue.inflight_record.hint
    assert isinstance(counts(queue).popped, Absent)
    assert isinstance(counts(queue).outstanding, int)
    assert all(isinstance(other.inflight_record, InflightRecord) for other in others)
    assert any("noted" in limit.what for limit in report.limits)


def test_a_region_that_was_not_begun_tells_nothing(process: Process, region: Any) -> None:
    empty = {region["addr"]: bytes(region["size"])}
    device = device_of(core_over(process, Patched(process.views.space, empty)))
    for queue in queues(device):
        assert isinstance(queue.inflight_record, InflightRecord)
        assert (queue.inflight_record.version, queue.inflight_record.heads) == (0, ())
        assert isinstance(counts(queue).popped, Absent)
        assert isinstance(counts(queue).unseen, Absent)


def test_a_last_batch_that_leads_astray_is_told(process: Process, region: Any) -> None:
    """The back-end's used_idx is one back, and its list leads out of the table."""
    address = region["addr"]
    (used_idx,) = struct.unpack("<H", process.views.space.read(address + 14, 2))
    wrong = {address + 12: struct.pack("<HH", 0xFFFF, used_idx - 1 & 0xFFFF)}
    report = core_over(process, Patched(process.views.space, wrong)).report(PARTS)
    assert any("the list of the last batch" in limit.why for limit in report.limits)


def test_a_batch_that_was_given_back_is_not_in_flight(process: Process, region: Any) -> None:
    """As the back-end dies between used.idx and its marks: the request is the driver's again."""
    address = region["addr"]
    space = process.views.space
    _, version, count, last, used_idx = struct.unpack("<QHHHH", space.read(address, 16))
    assert version == 1
    states = space.read(address + 16, 16 * count)
    head, *others = (at for at in range(count) if states[16 * at])
    patches = {
        address + 12: struct.pack("<HH", head, used_idx - 1 & 0xFFFF),
        address + 16 + 16 * head + 6: struct.pack("<H", last),
    }
    device = device_of(core_over(process, Patched(space, patches)))
    queue = queues(device)[0]
    assert isinstance(queue.inflight_record, InflightRecord)
    assert queue.inflight_record.given_back == (head,)
    assert sorted(queue.inflight_record.heads) == others
    assert isinstance(queue.in_flight, tuple)
    assert sorted(held.head for held in queue.in_flight) == others


def test_a_region_that_was_not_dumped_is_absent(process: Process, region: Any) -> None:
    space = Hidden(process.views.space, [(region["addr"], region["addr"] + region["size"])])
    device = device_of(core_over(process, space))
    for queue in queues(device):
        assert isinstance(queue.inflight_record, Absent)
        assert queue.inflight_record.reason == "truncated"
        assert isinstance(counts(queue).unseen, Absent)
        assert isinstance(counts(queue).outstanding, int)


def test_any_bytes_end_in_a_report(process: Process, truth: Any) -> None:
    """Changed bytes in all that vhost is read from: never another error than ours, nor a hang."""
    views, vhost, model = process.views, truth["vhost"], truth["model"]
    places = [(vhost["address"], views.binding(VHostDev).type.size)]
    places += [(model["fields"]["chardev.chr"], 200), (vhost["inflight"]["address"], 40)]
    if has_region(truth):
        places.append((vhost["inflight"]["fields"]["addr"], vhost["inflight"]["fields"]["size"]))
    places += [(queue["address"], 152) for queue in truth["queues"]]
    chance = random.Random(vhost["address"])
    for _ in range(60):
        start, size = chance.choice(places)
        patches = {
            start + chance.randrange(size): chance.randbytes(chance.choice([1, 2, 8]))
            for _ in range(chance.randrange(1, 20))
        }
        report = core_over(process, Patched(views.space, patches)).report(PARTS)
        encode(report)


def test_without_its_ring_a_vhost_queue_counts_nothing(process: Process, truth: Any) -> None:
    parts = [
        queue["caches"]["fields"][f"{part}.ptr"]
        for queue in truth["queues"]
        for part in ("avail", "used")
    ]
    space = Hidden(process.views.space, [(part, part + 64) for part in parts])
    device = device_of(core_over(process, space))
    for queue in queues(device):
        for count in (counts(queue).outstanding, counts(queue).popped, counts(queue).unseen):
            assert isinstance(count, Absent)
