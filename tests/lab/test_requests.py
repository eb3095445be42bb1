"""Requests of devices other than virtio-blk on real cores, against gdb's list of what they keep."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import vringcore
from tests.cores import cores
from tests.lab.cases import CoreCase
from tests.lab.gdb_run import write_truth
from vringcore.addresses import HostAddress
from vringcore.errors import MemoryFault
from vringcore.model.queues import Counts
from vringcore.model.requests import DeviceRequest, InFlight
from vringcore.model.values import Absent, EnumValue
from vringcore.options import Options
from vringcore.slim.slim import slim_core

SCENARIOS = {"held-devices", "nine-devices", "nine-packed", "stuck-scsi", "scsi-migration"}
SCENARIOS |= {"scsi-reset", "stuck-9p"}
HELD = Path(__file__).with_name("gdb_held.py")
NOT_BLOCK = {"virtio-scsi", "virtio-net", "virtio-serial", "virtio-balloon", "virtio-9p"}

CDB_AT = 19
"""Where a SCSI command request has its command block (VirtIO 1.3, 5.6.6.1)."""

MESSAGES = {50: "Tfsync", 116: "Tread", 118: "Twrite"}
"""Of 9P2000.L, by the numbers that QEMU's enum p9_msg_t and Linux's have for them."""

PLACE_AT = 11
"""Where in Tread and Twrite offset and count are, behind size, type, tag and fid."""

CALLS = {"295": "preadv", "296": "pwritev", "74": "fsync"}
OF_MESSAGE = {"Tread": "preadv", "Twrite": "pwritev", "Tfsync": "fsync"}
"""What the file server asks of the host for each, by the numbers and names of its system calls."""

pytestmark = pytest.mark.lab


def is_compared(core: CoreCase) -> bool:
    return core.case.scenario in SCENARIOS and core.path.name == "core"


@cache
def truth_of(core: CoreCase) -> list[dict[str, Any]]:
    with TemporaryDirectory() as scratch:
        target = Path(scratch) / "held.json"
        write_truth(core.case.executable, core.path, target, HELD)
        found: list[dict[str, Any]] = json.loads(target.read_text())
        return found


@pytest.fixture(scope="module", params=cores(is_compared))
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[CoreCase, vringcore.Core]]:
    with request.param.open() as core:
        yield request.param, core


def in_flight(core: vringcore.Core) -> dict[tuple[int, int, int], InFlight]:
    """Return the requests of all devices but disks, by device, queue and head."""
    return {
        (int(device.address), queue.index, request.head): request
        for device in core.virtio_devices()
        if device.kind in NOT_BLOCK
        for queue in device.queues or ()
        for request in queue.in_flight or ()
    }


def pairs(
    opened: tuple[CoreCase, vringcore.Core],
) -> list[tuple[dict[str, Any], InFlight, DeviceRequest]]:
    case, core = opened
    found = in_flight(core)
    result = []
    for truth in truth_of(case):
        request = found[truth["device"], truth["queue"], truth["head"]]
        assert isinstance(request.request, DeviceRequest)
        result.append((truth, request, request.request))
    return result


def test_the_requests_in_flight_are_those_that_gdb_lists(opened: Any) -> None:
    case, core = opened
    truth = {(each["device"], each["queue"], each["head"]) for each in truth_of(case)}
    assert truth
    assert set(in_flight(core)) == truth
    assert all(each.source == "element" for each in in_flight(core).values())


def test_all_that_is_in_use_is_identified(opened: Any) -> None:
    _, core = opened
    for device in core.virtio_devices():
        for queue in device.queues:
            assert isinstance(queue.counts, Counts)
            assert queue.counts.unidentified == 0


def test_the_structures_are_where_gdb_has_them(opened: Any) -> None:
    for truth, _, request in pairs(opened):
        assert int(request.address) == truth["owner"]
        assert int(request.element) == truth["element"]
        assert request.lengths["readable"] == truth["readable"]
        assert request.lengths["writable"] == truth["writable"]
        assert not request.short


def test_a_scsi_request_is_that_of_gdb(opened: Any) -> None:
    for truth, _, request in pairs(opened):
        if request.c_type != "VirtIOSCSIReq" or truth["own"] is None:
            continue
        own, told = request.qemu["SCSIRequest"], truth["own"]
        assert {name: own[name] for name in told if name != "cmd"} == {
            name: told[name] for name in told if name != "cmd"
        }
        assert {name: own["cmd"][name] for name in told["cmd"]} == told["cmd"]


def test_a_scsi_command_is_what_lies_in_guest_memory(opened: Any) -> None:
    for truth, _, request in pairs(opened):
        if request.c_type != "VirtIOSCSIReq" or truth["own"] is None:
            continue
        raw = bytes.fromhex(truth["header"])
        assert isinstance(request.header, dict)
        lun, tag = struct.unpack_from("<8sQ", raw)
        assert (request.header["lun"], request.header["id"]) == (lun.hex(), tag)
        command = raw[CDB_AT : CDB_AT + 32]
        assert request.header["cdb"] == command.hex()
        # QEMU has taken its own copy of as many bytes as the command has.
        length = truth["own"]["cmd"]["len"]
        assert bytes.fromhex(truth["own"]["cmd"]["buf"])[:length] == command[:length]
        code, lba, blocks = command[0], *struct.unpack_from(">I", command, 2), command[8]
        if code in (0x28, 0x2A):
            assert request.operation == {0x28: "read(10)", 0x2A: "write(10)"}[code]
            assert request.header["lba"] == lba == truth["own"]["cmd"]["lba"]
            assert request.header["blocks"] == command[7] << 8 | blocks
            assert request.length == truth["own"]["cmd"]["xfer"]


def test_a_packet_has_the_header_that_the_driver_wrote(opened: Any) -> None:
    for truth, _, request in pairs(opened):
        if request.kind != "virtio-net":
            continue
        names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")
        raw = bytes.fromhex(truth["header"])
        values = struct.unpack_from("<BBHHHHH", raw)
        assert isinstance(request.header, dict)
        fields = {name: plain(value) for name, value in request.header.items()}
        assert fields == dict(zip((*names, "num_buffers"), values, strict=True))
        assert request.lengths["header"] == 12


def test_output_of_a_port_is_that_of_gdb(opened: Any) -> None:
    for truth, request, model in pairs(opened):
        if model.kind == "virtio-console":
            assert model.qemu == truth["own"]
            assert [place.place for place in request.waits_in] == ["chardev"]


def test_a_9p_message_is_that_of_gdb(opened: Any) -> None:
    for truth, _, request in pairs(opened):
        if request.c_type == "V9fsPDU":
            size, kind, tag, fid = struct.unpack_from("<IBHI", bytes.fromhex(truth["header"]))
            assert request.qemu == {name: truth["own"][name] for name in request.qemu}
            assert [request.qemu[name] for name in ("size", "id", "tag")] == [size, kind, tag]
            assert request.operation == MESSAGES[kind]
            assert isinstance(request.header, dict)
            fields = [plain(request.header[name]) for name in ("size", "type", "tag", "fid")]
            assert fields == [size, kind, tag, fid]


def test_a_9p_message_waits_for_the_thread_that_gdb_finds_in_it(opened: Any) -> None:
    case, _ = opened
    for truth, request, model in pairs(opened):
        if model.c_type == "V9fsPDU":
            served, work = request.waits_in
            assert (served.place, int(served.address)) == ("plan9", truth["owner"])
            assert work.place == "thread-pool"
            assert work.thread is not None
            assert work.thread.lwp == truth["own"]["worker"]
            asleep = next(
                each for each in case.case.proc["threads"] if each["lwp"] == work.thread.lwp
            )
            assert work.thread.call == CALLS[asleep["syscall"].partition(" ")[0]]
            assert work.thread.call == OF_MESSAGE[str(model.operation)]
            assert isinstance(model.header, dict)
            told = [model.header.get("offset"), model.header.get("count")]
            if work.thread.call == "fsync":
                assert told == [None, None]
            else:
                raw = struct.unpack_from("<QI", bytes.fromhex(truth["header"]), PLACE_AT)
                assert told == list(raw)
                assert work.thread.offset == raw[0] == int(asleep["syscall"].split()[4], 16)


def test_statistics_are_those_that_the_driver_wrote(opened: Any) -> None:
    for truth, _, request in pairs(opened):
        if request.kind != "virtio-balloon":
            continue
        raw = bytes.fromhex(truth["header"])
        values = [value for _, value in struct.iter_unpack("<HQ", raw)]
        assert isinstance(request.header, dict)
        assert list(request.header.values()) == values
        assert request.lengths["header"] == truth["readable"]


def test_data_of_a_scsi_read_comes_behind_the_response(opened: Any) -> None:
    for truth, _, request in pairs(opened):
        if request.kind == "virtio-scsi" and str(request.operation).startswith("read("):
            data = sum(each.length for each in request.buffers_in)
            assert data == truth["own"]["cmd"]["xfer"]


def test_payload_is_given_on_demand_alone(opened: Any) -> None:
    case, core = opened
    report = core.report({"devices", "queues", "requests"})
    asked = core.with_payload(report, 8)
    truth = {(each["device"], each["queue"], each["head"]): each for each in truth_of(case)}
    for device in report.devices:
        assert all(each.payload is None for queue in device.queues for each in queue.in_flight)
    for device in asked.devices:
        for queue in device.queues:
            for each in queue.in_flight:
                told = truth.get((int(device.address), queue.index, each.head))
                size = each.request.lengths["header"] if told else 0
                if told and told["readable"] > size:
                    raw = bytes.fromhex(told["header"])[size : size + 8]
                    assert each.payload == raw.hex()


def test_a_small_core_has_the_headers_and_no_data(opened: Any, tmp_path: Path) -> None:
    case, core = opened
    small = tmp_path / "small"
    executable = str(case.case.executable)
    slim_core(str(case.path), str(small), options=Options(executable=executable))
    with vringcore.open_core(str(small), executable=executable) as other:
        assert in_flight(other) == in_flight(core)
        for request in in_flight(other).values():
            assert isinstance(request.request, DeviceRequest)
            # The last byte of each buffer: a header may lie in the page before it.
            for each in (*request.request.buffers, *request.request.buffers_in):
                with pytest.raises(MemoryFault):
                    other.process.views.space.read(HostAddress(each.address + each.length - 1), 1)


def plain(value: Any) -> Any:
    assert not isinstance(value, Absent)
    return value.value if isinstance(value, EnumValue) else value
