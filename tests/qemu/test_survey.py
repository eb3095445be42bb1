"""Devices, queues and rings where a part of them is damaged, gone, or not as usual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.qemu.damaged import Hidden, Patched, core_over
from tests.qemu.support import CORES, open_lab
from vringcore.errors import NoSuchDeviceError, NoSuchQueueError, UsageError
from vringcore.model.queues import SplitGuest
from vringcore.model.report import Report
from vringcore.model.rings import SplitRing
from vringcore.model.values import Absent
from vringcore.qemu.structs import VirtIODevice, VirtQueue
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.api import Core
    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.qemu.process import Process

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not CORES, reason="no cores: run `python -m tests.lab make 7.2`"),
]

WORD = 8
NULL = bytes(WORD)


def _open(scenario: str) -> Iterator[Process]:
    # The one of an arm64 host has one queue.
    cases = [c for c in CORES if c.case.name.endswith(scenario) and not c.case.for_arm64]
    if not cases:
        pytest.skip(f"no case: `python -m tests.lab make 7.2 {scenario}`")
    process = open_lab(cases[0])
    yield process
    process.close()


@pytest.fixture(scope="module")
def stuck() -> Iterator[Process]:
    """virtio-blk, four queues, requests in flight in each."""
    yield from _open("stuck")


@pytest.fixture(scope="module")
def nine() -> Iterator[Process]:
    yield from _open("nine-devices")


def _only(core: Core) -> Device:
    (device,) = core.virtio_devices()
    return device


def _queues(device: Device) -> tuple[Queue, ...]:
    assert isinstance(device.queues, tuple)
    return device.queues


def _device_place(process: Process, member: str) -> int:
    device = _only(core_over(process, process.views.space))
    return int(device.address) + process.views.offset(VirtIODevice.c_type, member)


def _queue_place(process: Process, index: int, member: str = "vring") -> int:
    device = _only(core_over(process, process.views.space))
    return int(_queues(device)[index].address) + process.views.offset(VirtQueue.c_type, member)


def _array(process: Process) -> tuple[int, int]:
    """Address of queue 0 and size of a VirtQueue."""
    return _queue_place(process, 0), process.views.binding(VirtQueue).type.size


def _whats(report: Report) -> set[str]:
    return {limit.what for limit in report.limits}


# Queues


def test_a_queue_that_is_gone_does_not_hide_those_after_it(stuck: Process) -> None:
    start, size = _array(stuck)
    core = core_over(stuck, Hidden(stuck.views.space, [(start + size, start + 2 * size)]))
    assert [queue.index for queue in _queues(_only(core))] == [0, 2, 3]
    assert "queue 1 is not shown" in _whats(core.report({"queues"}))
    with pytest.raises(NoSuchQueueError, match=r"that could be read.*truncated"):
        core.ring("0", 1)
    assert isinstance(core.ring("0", 2).split, SplitRing)


def test_a_queue_of_another_device_is_not_shown(stuck: Process) -> None:
    patch = {_queue_place(stuck, 2, "vdev"): (0x1234).to_bytes(WORD, "little")}
    core = core_over(stuck, Patched(stuck.views.space, patch))
    assert [queue.index for queue in _queues(_only(core))] == [0, 1, 3]
    (limit,) = core.report({"queues"}).limits
    assert limit.what == "queue 2 is not shown"
    assert "names another device" in limit.why


def test_a_queue_whose_owner_cannot_be_read_is_shown(stuck: Process) -> None:
    place = _queue_place(stuck, 2, "vdev")
    core = core_over(stuck, Hidden(stuck.views.space, [(place, place + WORD)]))
    queues = _queues(_only(core))
    assert [queue.index for queue in queues] == [0, 1, 2, 3]
    assert isinstance(queues[2].fields, dict)
    assert isinstance(queues[2].fields["vdev"], Absent)


def test_a_queue_that_was_never_made_is_passed_over(stuck: Process) -> None:
    start = _queue_place(stuck, 1)
    sizes = {
        start + stuck.views.offset("struct VRing", member): bytes(4)
        for member in ("num", "num_default")
    }
    core = core_over(stuck, Patched(stuck.views.space, sizes))
    report = core.report({"queues"})
    assert [queue.index for queue in _queues(_only(core))] == [0, 2, 3]
    assert not report.limits
    with pytest.raises(NoSuchQueueError, match="one of 0, 2, 3"):
        core.ring("0", 1)


def test_a_device_that_is_being_removed_has_no_queues_and_says_so(stuck: Process) -> None:
    core = core_over(stuck, Patched(stuck.views.space, {_device_place(stuck, "vq"): NULL}))
    report = core.report({"queues"})
    assert _queues(_only(core)) == ()
    assert any("being removed" in limit.why for limit in report.limits)


# Features


def test_without_the_features_nothing_is_said_that_depends_on_them(stuck: Process) -> None:
    place = _device_place(stuck, "guest_features")
    core = core_over(stuck, Hidden(stuck.views.space, [(place, place + WORD)]))
    for queue in _queues(_only(core)):
        assert isinstance(queue.ring, Absent)
        assert isinstance(queue.guest, Absent)
        assert not isinstance(queue.counts, Absent)
        assert isinstance(queue.in_use, int)
        assert isinstance(queue.in_flight, tuple)
        assert queue.in_flight
    assert isinstance(core.ring("0", 0).split, Absent)


def test_a_legacy_driver_of_a_big_endian_guest_is_read_as_it_writes(stuck: Process) -> None:
    sound = _queues(_only(core_over(stuck, stuck.views.space)))[0].guest
    patches = {
        _device_place(stuck, "guest_features"): NULL,
        _device_place(stuck, "device_endian"): (2).to_bytes(4, "little"),
    }
    core = core_over(stuck, Patched(stuck.views.space, patches))
    bent = _queues(_only(core))[0].guest
    assert isinstance(sound, SplitGuest)
    assert isinstance(bent, SplitGuest)
    assert isinstance(sound.avail_idx, int)
    swapped = int.from_bytes(sound.avail_idx.to_bytes(2, "little"), "big")
    assert swapped not in (0, sound.avail_idx)
    assert bent.avail_idx == swapped
    ring = core.ring("0", 0).split
    assert isinstance(ring, SplitRing)
    assert ring.guest == bent


def test_a_big_endian_host_word_alone_does_not_make_a_modern_ring_big_endian(
    stuck: Process,
) -> None:
    patch = {_device_place(stuck, "device_endian"): (2).to_bytes(4, "little")}
    plain = _queues(_only(core_over(stuck, stuck.views.space)))
    assert [queue.guest for queue in plain] == [
        queue.guest for queue in _queues(_only(core_over(stuck, Patched(stuck.views.space, patch))))
    ]


# Guest memory


def test_without_a_memory_map_the_ring_is_still_shown(stuck: Process) -> None:
    """The tables are read through QEMU's own mapping; only indirect tables need the map."""
    place = int(stuck.views.address_of("address_space_memory"))
    core = core_over(stuck, Hidden(stuck.views.space, [(place, place + 512)]))
    whole = core_over(stuck, stuck.views.space)
    for index in range(4):
        document, truth = core.ring("0", index), whole.ring("0", index)
        assert document.split == truth.split
        assert [chain.head for chain in document.chains] == [c.head for c in truth.chains]
        for chain, true_chain in zip(document.chains, truth.chains, strict=True):
            if chain != true_chain:
                assert chain.end == "fault"
                assert "memory map" in chain.detail
    assert any(
        request.chain_end for queue in _queues(_only(core)) for request in queue.in_flight or ()
    )


def test_a_device_behind_an_iommu_is_read_through_its_own_address_space(stuck: Process) -> None:
    """Its ``dma_as`` leads nowhere here: guest-physical memory must not stand in for it."""
    patch = {_device_place(stuck, "dma_as"): (0x1000).to_bytes(WORD, "little")}
    core = core_over(stuck, Patched(stuck.views.space, patch))
    whole = core_over(stuck, stuck.views.space)
    indirect = 0
    for index in range(4):
        for chain, truth in zip(
            core.ring("0", index).chains, whole.ring("0", index).chains, strict=True
        ):
            if any("indirect" in each.flag_names for each in truth.descriptors):
                indirect += 1
                assert (chain.end, truth.end) == ("fault", "complete")
    assert indirect


# Who runs the rings


def test_a_damaged_list_of_vhost_devices_makes_owners_unknown(nine: Process) -> None:
    head = nine.views.find_address_of("vhost_devices", "hw/virtio/vhost.c")
    assert head is not None
    core = core_over(nine, Patched(nine.views.space, {head: (0x1234).to_bytes(WORD, "little")}))
    assert {device.ring_owner for device in core.virtio_devices()} == {"unknown"}
    assert "whether vhost runs a ring is not known" in _whats(core.report({"devices"}))
    sound = core_over(nine, nine.views.space)
    assert {device.ring_owner for device in sound.virtio_devices()} == {"qemu"}


# Finding devices


def test_devices_are_found_and_kept_in_order_with_a_bus_broken(nine: Process) -> None:
    """A device's list of buses leads nowhere: only what hangs there is lost to the bus tree."""
    sound = core_over(nine, nine.views.space).virtio_devices()
    first = _parent_bus(nine.views, sound[0])
    patch = {first + nine.views.offset("struct BusState", "children"): (0x10).to_bytes(8, "little")}
    core = core_over(nine, Patched(nine.views.space, patch))
    found = core.virtio_devices()
    assert {device.address for device in found} == {device.address for device in sound}
    by_tree = [device for device in found if "qdev-tree" in device.found_by]
    assert len(by_tree) == len(sound) - 1
    whats = _whats(core.report({"devices"}))
    assert "the search for devices by qdev-tree ended early" in whats
    assert not any("half removed" in limit.why for limit in core.report({"devices"}).limits)


def test_a_device_that_a_finished_search_did_not_meet_may_be_half_removed(nine: Process) -> None:
    sound = core_over(nine, nine.views.space).virtio_devices()
    vmstate = int(sound[3].address) + nine.views.offset(VirtIODevice.c_type, "vmstate")
    core = core_over(nine, Patched(nine.views.space, {vmstate: NULL}))
    assert core.virtio_devices()[3].found_by == ("qdev-tree", "qom-tree")
    (limit,) = core.report({"devices"}).limits
    assert f"{int(sound[3].address):#x}" in limit.what
    assert "vm-state-handlers" in limit.why


def _parent_bus(views: Views, device: Device) -> int:
    offset = views.offset("struct DeviceState", "parent_bus", ("hw/virtio/virtio.c",))
    return int(views.pointer(int(device.address) + offset))


# The library's front door


def test_questions_do_not_change_the_answers_to_others(stuck: Process) -> None:
    """Limits of one question are not shown with another, and nothing piles up."""
    start, size = _array(stuck)
    space = Hidden(stuck.views.space, [(start + size, start + 2 * size)])
    fresh = core_over(stuck, space).report({"devices"})
    used = core_over(stuck, space)
    for _ in range(3):
        used.virtio_devices()
        used.find_device("0")
        used.report()
        used.ring("0", 0)
    assert used.report({"devices"}) == fresh
    assert used.report() == core_over(stuck, space).report()


def test_a_part_brings_what_it_lies_in(stuck: Process) -> None:
    core = core_over(stuck, stuck.views.space)
    assert not isinstance(core.report(()).devices, tuple)
    for part in ("queues", "queue-fields", "requests"):
        devices = core.report({part}).devices
        assert isinstance(devices, tuple)
        queue = _queues(devices[0])[0]
        assert isinstance(queue.fields, dict) == (part == "queue-fields")
        assert isinstance(queue.in_flight, tuple) == (part == "requests")
    devices = core.report({"device-fields"}).devices
    assert isinstance(devices, tuple)
    assert isinstance(devices[0].fields, dict)
    assert not isinstance(devices[0].queues, tuple)
    with pytest.raises(UsageError, match="no such part"):
        core.report({"queue"})


@pytest.mark.parametrize("name", ["9" * 5000, "-1", "1e0", "", "4"])
def test_a_name_that_is_no_device_is_an_error_of_ours(stuck: Process, name: str) -> None:
    with pytest.raises(NoSuchDeviceError):
        core_over(stuck, stuck.views.space).find_device(name)
