"""Every core against what gdb, QEMU itself and the disk server said of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

import vringcore
from tests.cores import cores, has_devices
from tests.lab.cases import CoreCase
from tests.lab.compare import differences, flatten, held_back, symbols
from vringcore.model.devices import Device
from vringcore.model.queues import Counts, Queue, SplitGuest
from vringcore.model.requests import Descriptor
from vringcore.model.rings import SplitRing
from vringcore.model.values import Absent, Flags

OF_LIBRARIES = {"g_free"}
"""gdb reads the symbols of shared libraries, too."""

EVENT_IDX = 29
RING_PACKED = 34


@pytest.fixture(scope="module", params=cores(has_devices))
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[CoreCase, vringcore.Core]]:
    case: CoreCase = request.param
    with case.open() as core:
        yield case, core


def pairs(opened: tuple[CoreCase, vringcore.Core]) -> Iterator[tuple[Device, dict[str, Any]]]:
    case, core = opened
    devices = {int(d.address): d for d in core.virtio_devices()}
    for truth in case.gdb["devices"]:
        yield devices[truth["address"]], truth


def queue_pairs(
    opened: tuple[CoreCase, vringcore.Core],
) -> Iterator[tuple[Device, Queue, dict[str, Any]]]:
    for device, truth in pairs(opened):
        assert isinstance(device.queues, tuple)
        assert len(device.queues) == len(truth["queues"])
        for queue, queue_truth in zip(device.queues, truth["queues"], strict=True):
            assert int(queue.address) == queue_truth["address"]
            yield device, queue, queue_truth


def test_the_devices_are_those_that_gdb_finds(opened: Any) -> None:
    case, core = opened
    ours = {int(d.address) for d in core.virtio_devices()}
    assert ours == {d["address"] for d in case.gdb["devices"]}
    assert all(len(d.found_by) >= 2 for d in core.virtio_devices())


def test_identity_of_every_device(opened: Any) -> None:
    for device, truth in pairs(opened):
        assert device.id == truth["id"]
        assert device.qom_path == truth["canonical_path"]
        assert device.type_name == truth["qom_types"][0]


def test_devices_are_those_that_were_asked_for(opened: Any) -> None:
    case, core = opened
    for expected in case.case.manifest["expected"]["devices"]:
        device = core.find_device(expected["id"])
        assert device.kind == expected["kind"]
        assert device.pci_address == expected["pci_address"]
        assert device.serial == expected["serial"]
        assert device.iothread == expected["iothread"]
        if expected["node"] is not None:
            assert device.backend is not None
            assert not isinstance(device.backend, Absent)
            assert device.backend.node == expected["node"]


def test_scsi_disks_have_their_place_serial_and_back_end(opened: Any) -> None:
    case, core = opened
    words = [w for w in case.case.manifest["argv"] if w.startswith("scsi-hd,")]
    expected = [dict(p.split("=", 1) for p in w.split(",")[1:]) for w in words]
    ours = [disk for device in core.virtio_devices() for disk in device.disks or ()]
    assert len(ours) == len(expected)
    for disk, given in zip(ours, expected, strict=True):
        assert disk.id == given["id"]
        assert disk.serial == given["serial"]
        assert disk.unit == "0:0:0"
        assert not isinstance(disk.backend, Absent)
        assert disk.backend.node == given["drive"]


def test_every_member_of_every_device_equals_gdb(opened: Any) -> None:
    for device, truth in pairs(opened):
        assert differences(flatten(device.fields), truth["fields"]) == []
        own = {path: name for path, name in truth["symbols"].items() if name not in OF_LIBRARIES}
        assert symbols(device.fields) == own


def test_every_member_of_every_queue_equals_gdb(opened: Any) -> None:
    count = 0
    for _device, queue, truth in queue_pairs(opened):
        assert differences(flatten(queue.fields), truth["fields"]) == []
        assert symbols(queue.fields) == truth["symbols"]
        count += len(truth["fields"])
    assert count > 0


def test_attributes_are_the_fields(opened: Any) -> None:
    for _device, queue, truth in queue_pairs(opened):
        fields = truth["fields"]
        assert queue.size == fields["vring.num"]
        assert queue.last_avail_idx == fields["last_avail_idx"]
        assert queue.shadow_avail_idx == fields["shadow_avail_idx"]
        assert queue.used_idx == fields["used_idx"]
        assert queue.in_use == fields["inuse"]
        assert queue.vector == fields["vector"]
        assert queue.notification == bool(fields["notification"])
        # An event queue of virtio-iommu has no function.
        assert queue.handle_output == (truth["role"] or f"{fields['handle_output']:#x}")


def word(data: bytes, at: int) -> int:
    """Return the little-endian 16-bit word of a ring at an offset."""
    return int.from_bytes(data[at : at + 2], "little")


def test_guest_side_indices_equal_the_raw_rings(opened: Any) -> None:
    for device, queue, truth in queue_pairs(opened):
        rings = truth.get("rings") or {}
        if queue.ring != "split" or not rings.get("avail") or not rings.get("used"):
            continue
        assert isinstance(queue.guest, SplitGuest)
        avail, used = bytes.fromhex(rings["avail"]), bytes.fromhex(rings["used"])
        assert (queue.guest.avail_flags, queue.guest.avail_idx) == (word(avail, 0), word(avail, 2))
        assert (queue.guest.used_flags, queue.guest.used_idx) == (word(used, 0), word(used, 2))
        assert isinstance(device.guest_features, Flags)
        size = truth["fields"]["vring.num"]
        if int(device.guest_features.value) >> EVENT_IDX & 1:
            assert queue.guest.used_event == word(avail, 4 + 2 * size)
            assert queue.guest.avail_event == word(used, 4 + 8 * size)
        else:
            assert queue.guest.used_event is None


def raw_descriptor(descriptor: Descriptor) -> bytes:
    """Return a descriptor of a split ring as it lies in memory (``struct virtq_desc``)."""
    assert isinstance(descriptor.next, int)
    address, length = int(descriptor.address), descriptor.length
    return struct.pack("<QIHH", address, length, descriptor.flags, descriptor.next)


def test_rings_equal_the_raw_bytes(opened: Any) -> None:
    _case, core = opened
    for device, queue, truth in queue_pairs(opened):
        rings = truth.get("rings") or {}
        if queue.ring != "split" or not rings.get("desc"):
            continue
        document = core.ring(str(device.index), queue.index)
        split = document.split
        assert isinstance(split, SplitRing)
        assert isinstance(split.descriptors, tuple)
        assert isinstance(split.available, tuple)
        assert isinstance(split.used, tuple)
        table = b"".join(map(raw_descriptor, split.descriptors))
        assert table == bytes.fromhex(rings["desc"])
        size = truth["fields"]["vring.num"]
        heads = b"".join(e.head.to_bytes(2, "little") for e in split.available)
        assert heads == bytes.fromhex(rings["avail"])[4 : 4 + 2 * size]
        used = b"".join(
            e.id.to_bytes(4, "little") + e.length.to_bytes(4, "little") for e in split.used
        )
        assert used == bytes.fromhex(rings["used"])[4 : 4 + 8 * size]


READ, WRITE = 0, 1


def test_requests_in_flight_are_those_that_gdb_finds(opened: Any) -> None:
    case, core = opened
    truth = sorted(
        (r["device"], r["queue"], r["address"], r["index"], r["type"]) for r in case.gdb["requests"]
    )
    ours = sorted(
        (int(device.address), queue.index, int(r.request.address), r.head, r.request.type)
        for device, queue, r in in_flight(core)
    )
    assert ours == truth


def test_reads_and_writes_have_the_sector_and_length_that_gdb_finds(opened: Any) -> None:
    case, core = opened
    truth = {r["address"]: r for r in case.gdb["requests"]}
    for _device, _queue, r in in_flight(core):
        if r.request.type in (READ, WRITE):
            seen = truth[int(r.request.address)]
            assert r.request.sector == seen["sector_num"]
            assert r.request.length == seen["acct_bytes"]
            buffers = seen["in_buffers"] if r.request.type == READ else seen["out_buffers"]
            # The header or the status byte lies in a buffer of its own in these guests.
            assert {int(b.address) for b in r.request.buffers} <= {
                b["host_address"] for b in buffers
            }


def test_chains_of_requests_lead_to_the_buffers_that_qemu_mapped(opened: Any) -> None:
    case, core = opened
    truth = {r["address"]: r for r in case.gdb["requests"]}
    for device, queue, r in in_flight(core):
        if r.chain_end != "complete" or queue.ring != "split":
            continue
        seen = truth[int(r.request.address)]
        mapped = [b["dma_address"] for b in seen["out_buffers"] + seen["in_buffers"]]
        walked = [int(d.address) for d in r.descriptors if "indirect" not in d.flag_names]
        assert walked == mapped, (device.id, queue.index, r.head)


def in_flight(core: vringcore.Core) -> Iterator[Any]:
    """Yield the disks' requests that QEMU itself has: ``struct VirtIOBlockReq``.

    Those of vhost are in tests/qemu/test_vhost.py, other devices' in test_requests_devices.py.
    """
    for device in core.virtio_devices():
        if device.kind != "virtio-blk":
            continue
        assert isinstance(device.queues, tuple)
        for queue in device.queues:
            assert isinstance(queue.in_flight, tuple)
            for request in queue.in_flight:
                if request.source == "element":
                    yield device, queue, request


def test_every_request_in_use_is_identified(opened: Any) -> None:
    """As many as the scenario made at least: a guest may go on after the count was noted."""
    case, _core = opened
    noted = case.case.manifest["expected"]["in_flight"]
    for device, queue, truth in queue_pairs(opened):
        queues = noted.get(device.qom_path, {})
        assert queue.in_use >= queues.get(str(queue.index), 0)
        if device.kind == "virtio-blk":
            ended = held_back(truth)
            # Each is one entry of a split ring, and as many as its descriptors of a packed one.
            entries = [
                r["ndescs"]
                for r in case.gdb["requests"]
                if (r["device"], r["queue"]) == (device.address, queue.index)
            ]
            assert isinstance(queue.in_flight, tuple)
            assert isinstance(queue.counts, Counts)
            assert len(queue.in_flight) == len(entries)
            assert queue.in_use == sum(entries) + ended
            assert queue.counts.unidentified == 0


def test_requests_are_those_that_the_server_holds(opened: Any) -> None:
    """What the disk server held is what QEMU has in flight, byte for byte of the disk.

    QEMU merges neighbours into one request to the server, so extents are compared.
    """
    case, core = opened
    servers = {s["name"]: s["held"] for s in case.case.servers or []}
    for expected in case.case.manifest["expected"]["devices"]:
        held = servers.get(expected["server"])
        if expected["kind"] != "virtio-blk" or not held:
            continue
        ours = [
            (r.request.operation, r.request.sector * 512, r.request.length)
            for device, _queue, r in in_flight(core)
            if device.id == expected["id"] and r.request.operation in ("read", "write")
        ]
        theirs = [
            (h["type"], h["offset"], h["length"]) for h in held if h["type"] in ("read", "write")
        ]
        for operation in ("read", "write"):
            mine, its = extents(ours, operation), extents(theirs, operation)
            assert its <= mine, "the server holds something that QEMU does not have in flight"
            if len(theirs) == len(held) == len(ours):
                assert its == mine


def extents(requests: list[tuple[str, int, int]], operation: str) -> set[int]:
    """Return the 512-byte sectors that requests of one kind touch."""
    return {
        sector
        for kind, offset, length in requests
        if kind == operation
        for sector in range(offset // 512, (offset + length) // 512)
    }
