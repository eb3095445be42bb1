"""Requests that no list leads to any more, and lists that lead astray: found or said, not hidden.

Each test changes bytes of a real core as a core taken in mid-update has them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.cores import lab_cores
from tests.qemu.damaged import Patched, core_over
from vringcore.model.queues import Counts
from vringcore.model.requests import DeviceRequest, InFlight
from vringcore.model.values import Absent
from vringcore.qemu.device_structs import VirtQueueElement
from vringcore.qemu.element_structs import (
    SCSIRequest,
    SCSIRequests,
    VirtIOBalloon,
    VirtIOSCSIReq,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.model.devices import Device
    from vringcore.model.queues import Queue
    from vringcore.model.report import Report
    from vringcore.qemu.process import Process
    from vringcore.view.declare import View

PARTS = {"devices", "queues", "requests"}


def of_scenario(*names: str) -> list[Any]:
    return lab_cores(lambda core: core.case.scenario in names)


def place_of(process: Process, view: type[View], member: str) -> int:
    return process.views.offset(view.c_type, member, view.unit)


def asked(process: Process, patches: Mapping[int, bytes]) -> Report:
    return core_over(process, Patched(process.views.space, patches)).report(PARTS)


def device_of(report: Report, kind: str) -> Device:
    return next(device for device in report.devices or () if device.kind == kind)


def queue_in_use(device: Device) -> Queue:
    return next(queue for queue in device.queues or () if queue.in_use)


def only_request(device: Device) -> InFlight:
    [request] = [each for queue in device.queues or () for each in queue.in_flight or ()]
    return request


def whys(report: Report) -> str:
    return "\n".join(f"{each.what}: {each.why}" for each in report.limits)


@pytest.mark.parametrize("core", of_scenario("nine-devices"), indirect=True)
def test_an_element_that_no_member_leads_to_is_searched_for(opened: Process) -> None:
    whole = device_of(asked(opened, {}), "virtio-balloon")
    known = only_request(whole)
    at = int(whole.address) + place_of(opened, VirtIOBalloon, "stats_vq_elem")
    report = asked(opened, {at: bytes(8)})
    found = only_request(device_of(report, "virtio-balloon"))
    assert isinstance(found.request, DeviceRequest)
    assert isinstance(known.request, DeviceRequest)
    assert found.request.element == known.request.element
    assert (found.head, found.request.header) == (known.head, known.request.header)
    assert "a search of its memory found them all" in whys(report)


@pytest.mark.parametrize("core", of_scenario("nine-devices"), indirect=True)
def test_an_element_whose_head_no_queue_has_is_said_to_be_without_one(opened: Process) -> None:
    known = only_request(device_of(asked(opened, {}), "virtio-balloon"))
    assert isinstance(known.request, DeviceRequest)
    report = asked(opened, {int(known.request.element): struct.pack("<I", 4096)})
    queue = queue_in_use(device_of(report, "virtio-balloon"))
    assert queue.in_flight == ()
    assert isinstance(queue.counts, Counts)
    assert queue.counts.unidentified == 1
    assert "without a head" in whys(report)
    assert "head 4096" in whys(report)


@pytest.mark.parametrize("core", of_scenario("nine-devices"), indirect=True)
def test_an_element_with_impossible_buffers_is_no_request(opened: Process) -> None:
    known = only_request(device_of(asked(opened, {}), "virtio-balloon"))
    assert isinstance(known.request, DeviceRequest)
    element = int(known.request.element)
    # out_num: the number of device-readable buffers.
    at = element + place_of(opened, VirtQueueElement, "out_num")
    report = asked(opened, {at: struct.pack("<I", 1 << 30)})
    assert queue_in_use(device_of(report, "virtio-balloon")).in_flight == ()
    assert "more buffers than QEMU takes" in whys(report)


@pytest.mark.parametrize("core", of_scenario("nine-devices"), indirect=True)
def test_a_header_that_is_not_there_is_absent(opened: Process) -> None:
    known = only_request(device_of(asked(opened, {}), "virtio-balloon"))
    assert isinstance(known.request, DeviceRequest)
    views = opened.views
    out_sg = views.at(VirtQueueElement, int(known.request.element)).out_sg
    report = asked(opened, {int(out_sg): struct.pack("<Q", 0x10)})
    found = only_request(device_of(report, "virtio-balloon"))
    assert isinstance(found.request, DeviceRequest)
    assert isinstance(found.request.header, Absent)
    assert found.request.operation == found.request.header
    assert found.request.buffers == ()
    assert found.summary == "unknown operation"


def scsi_requests(report: Report) -> dict[int, InFlight]:
    """Return the commands in flight of a SCSI host by the address of QEMU's SCSIRequest."""
    return {
        int(request.request.qemu["sreq"]): request
        for queue in device_of(report, "virtio-scsi").queues or ()
        for request in queue.in_flight or ()
        if isinstance(request.request, DeviceRequest) and "sreq" in request.request.qemu
    }


@pytest.mark.parametrize("core", of_scenario("stuck-scsi"), indirect=True)
def test_a_list_that_runs_into_itself_keeps_what_it_gave(opened: Process) -> None:
    whole = scsi_requests(asked(opened, {}))
    link = place_of(opened, SCSIRequest, "next")
    first = min(whole)
    following = opened.views.pointer(first + link)
    if following:
        report = asked(opened, {following + link: struct.pack("<Q", following)})
        assert "runs into itself" in whys(report)
        assert 0 < len(scsi_requests(report)) <= len(whole)


@pytest.mark.parametrize("core", of_scenario("stuck-scsi"), indirect=True)
def test_a_request_of_another_device_is_not_shown_here(opened: Process) -> None:
    whole = scsi_requests(asked(opened, {}))
    changed, request = next(iter(whole.items()))
    assert isinstance(request.request, DeviceRequest)
    at = int(request.request.address) + place_of(opened, VirtIOSCSIReq, "dev")
    report = asked(opened, {at: struct.pack("<Q", 0x1000)})
    assert set(scsi_requests(report)) == set(whole) - {changed}
    # Its element was taken from this device's ring all the same: the search finds it.
    assert int(request.request.element) in elements(report)


def elements(report: Report) -> set[int]:
    return {
        int(request.request.element)
        for queue in device_of(report, "virtio-scsi").queues or ()
        for request in queue.in_flight or ()
        if isinstance(request.request, DeviceRequest)
    }


@pytest.mark.parametrize("core", of_scenario("stuck-scsi"), indirect=True)
def test_all_units_of_a_host_are_asked(opened: Process) -> None:
    """The requests found are those of the list heads, counted by hand."""
    views = opened.views
    listed = 0
    for unit in opened.objects.instances("scsi-device", "/machine"):
        head = views.at(SCSIRequests, unit).requests
        listed += sum(1 for _ in views.elements(head, SCSIRequest, "next"))
    assert listed == len(scsi_requests(asked(opened, {})))
