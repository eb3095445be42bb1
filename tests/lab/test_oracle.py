"""The truth against itself: what gdb read by one way is what it read by another.

Nothing of vringcore is asked. What its decoding of packed rings, of IOMMUs and of vhost is held
against has to be right first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cores import has_devices, lab_cores
from tests.lab.cases import CoreCase

_PACKED, _IN_ORDER = 34, 35
_AVAILABLE, _USED = 1 << 7, 1 << 15
"""VirtIO 1.2, 2.8.1: the two wrap bits of a descriptor."""


def queues(core: CoreCase) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield every queue that was set up, with its device."""
    for device in core.gdb["devices"]:
        for queue in device["queues"]:
            if queue["rings"] is not None:
                yield device, queue


def negotiated(bit: int) -> Callable[[CoreCase], bool]:
    """Return a condition: some device's driver has taken a feature."""

    def condition(core: CoreCase) -> bool:
        return has_devices(core) and any(
            device["fields"]["guest_features"] >> bit & 1 for device in core.gdb["devices"]
        )

    return condition


def has(member: str) -> Callable[[CoreCase], bool]:
    """Return a condition: some device has this part of the truth."""

    def condition(core: CoreCase) -> bool:
        return has_devices(core) and any(device.get(member) for device in core.gdb["devices"])

    return condition


def words(part: str, queue: dict[str, Any]) -> tuple[int, ...]:
    """Return a part of a ring as 16-bit words."""
    raw = bytes.fromhex(queue["rings"][part])
    return struct.unpack(f"<{len(raw) // 2}H", raw)


@pytest.mark.parametrize("core", lab_cores(has("iommu")))
def test_an_iommu_leads_to_the_buffers_that_qemu_mapped(core: CoreCase) -> None:
    devices = {device["address"]: device for device in core.gdb["devices"]}
    compared = 0
    for request in core.gdb["requests"]:
        mappings = devices[request["device"]]["iommu"]["mappings"]
        for buffer in request["in_buffers"] + request["out_buffers"]:
            physical = translated(mappings, buffer["dma_address"])
            assert host_address(core, physical) == buffer["host_address"]
            compared += 1
    assert compared >= 3 * len(core.gdb["requests"]) > 0


def translated(mappings: list[dict[str, int]], iova: int) -> int:
    found = next(m for m in mappings if m["iova"] <= iova < m["iova"] + m["size"])
    return found["physical"] + iova - found["iova"]


def host_address(core: CoreCase, physical: int) -> int:
    """Return where QEMU has a guest-physical address."""
    for part in core.gdb["flat_view"]:
        if part["host"] and part["start"] <= physical < part["start"] + part["size"]:
            return int(part["host"] + physical - part["start"])
    raise AssertionError(f"no RAM at guest-physical {physical:#x}")


@pytest.mark.parametrize("core", lab_cores(has("iommu")))
def test_rings_behind_an_iommu_have_what_qemu_took_and_used(core: CoreCase) -> None:
    for device, queue in queues(core):
        fields, packed = queue["fields"], device["fields"]["guest_features"] >> _PACKED & 1
        if queue["rings_through"] == "iommu" and not packed:
            assert words("avail", queue)[1] == fields["shadow_avail_idx"]
            assert words("used", queue)[1] == fields["used_idx"]


@pytest.mark.parametrize("core", lab_cores(negotiated(_PACKED)))
def test_packed_descriptors_in_use_are_neither_free_nor_used(core: CoreCase) -> None:
    """From used_idx to last_avail_idx lies what QEMU has taken; what it has used comes before."""
    for device, queue in queues(core):
        if not device["fields"]["guest_features"] >> _PACKED & 1:
            continue
        fields, table = queue["fields"], bytes.fromhex(queue["rings"]["desc"])
        size = fields["vring.num"]
        laps = fields["last_avail_wrap_counter"] != fields["used_wrap_counter"]
        assert fields["inuse"] == fields["last_avail_idx"] - fields["used_idx"] + size * laps
        (flags,) = struct.unpack_from("<H", table, 16 * fields["last_avail_idx"] + 14)
        waits = bool(flags & _AVAILABLE) == bool(fields["last_avail_wrap_counter"])
        is_next = bool(flags & _AVAILABLE) != bool(flags & _USED) and waits
        assert not is_next or "net" in device["id"] or device["id"] in FILLED_BY_DRIVER


FILLED_BY_DRIVER = {"balloon0", "console0", "keyboard0", "scsi0"}
"""Devices with queues of buffers that wait for something to be put into them."""


@pytest.mark.parametrize("core", lab_cores(negotiated(_IN_ORDER)))
def test_what_is_in_use_in_order_is_asked_of_a_server_or_held_back(core: CoreCase) -> None:
    for device, queue in queues(core):
        fields, elements = queue["fields"], queue["used_elems"]
        count, at, ended = 0, fields["used_idx"], 0
        while count < fields["inuse"]:
            element = elements[at % len(elements)]
            ended += element["in_order_filled"]
            count += element["ndescs"]
            at += element["ndescs"]
        asked = [
            request
            for request in core.gdb["requests"]
            if (request["device"], request["queue"]) == (device["address"], fields["queue_index"])
        ]
        assert count == fields["inuse"]
        assert ended + sum(request["ndescs"] for request in asked) == count


@pytest.mark.parametrize("core", lab_cores(has("vhost")))
def test_a_vhost_queue_is_where_the_ring_is(core: CoreCase) -> None:
    for device, queue in queues(core):
        vhost = device["vhost"]
        if not vhost["listed"]:
            assert vhost["fields"]["started"] == 0
            continue
        ours = vhost["queues"][queue["fields"]["queue_index"]]["fields"]
        caches = queue["caches"]["fields"]
        assert [ours[part] for part in ("desc", "avail", "used")] == [
            caches[f"{part}.ptr"] for part in ("desc", "avail", "used")
        ]
        assert ours["num"] == queue["fields"]["vring.num"]


@pytest.mark.parametrize("core", lab_cores(has("vhost")))
def test_what_a_back_end_noted_was_made_available_and_not_used(core: CoreCase) -> None:
    noted = 0
    for device, queue in queues(core):
        inflight = device["vhost"]["inflight"]
        if inflight is None or inflight["region"] is None:
            continue
        record, size = bytes.fromhex(inflight["region"]), queue["fields"]["vring.num"]
        _, version, count, _, used_idx = struct.unpack_from("<QHHHH", record)
        available, used = words("avail", queue), words("used", queue)
        # QEMU 10.0 makes rings larger than it tells the back-end.
        assert (version, count, used_idx) == (1, inflight["fields"]["queue_size"], used[1])
        waiting = range(used[1], used[1] + (available[1] - used[1] & 0xFFFF))
        heads = {available[2 + position % size] for position in waiting}
        marked = {head for head in range(count) if record[16 + 16 * head]}
        assert marked <= heads
        noted += len(marked)
    assert (noted > 0) == ("inflight" in core.case.scenario)
