"""Headers of requests of every device type: what a driver wrote is what is read, and no more."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.synth import requests as written
from tests.synth.requests import KINDS, Kind
from tests.synth.rings import Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, ring_of
from vringcore.errors import MemoryFault
from vringcore.virtio.chain import Chain, walk_chain
from vringcore.virtio.fields import Code, Header
from vringcore.virtio.headers import DECODERS, read_header

PLACE = 0x50000
ANSWER = 0x70000


def chain_of(
    data: bytes, *, cuts: tuple[int, ...] = (), writable: int = 0, big_endian: bool = False
) -> tuple[Chain, GuestSpace]:
    """Return the chain of a request whose readable bytes are cut into buffers at ``cuts``."""
    queue = SplitQueue(GuestMemory(0x100000), 16, big_endian=big_endian)
    buffers = []
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    for number, (start, end) in enumerate(pairwise(places)):
        at = PLACE + number * 0x1000
        queue.memory.write(at, data[start:end])
        if end > start:
            buffers.append(Buffer(at, end - start))
    if writable or not buffers:
        buffers.append(Buffer(ANSWER, writable, True))
    space = GuestSpace(queue.memory)
    chain = walk_chain(ring_of(queue, space).table, queue.publish(buffers), space)
    space.bytes_read = 0
    return chain, space


def header(
    data: bytes, device_id: int, role: str, *, features: int = 1 << 32, **more: Any
) -> tuple[Header, GuestSpace]:
    chain, space = chain_of(data, **more)
    found = read_header(
        chain,
        space,
        device_id=device_id,
        role=role,
        features=features,
        big_endian=more.get("big_endian", False),
    )
    assert found is not None
    return found, space


def plain(value: Any) -> Any:
    """Return a field without its name."""
    if isinstance(value, Code):
        return value.value
    return value


def flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields with those of inner structures under ``outer.inner``."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": plain(each) for inner, each in value.items()}
        else:
            found[name] = plain(value)
    return found


def values_of(kind: Kind, draw: st.DrawFn) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, code in kind.layout:
        if code == "8s":
            values[name] = draw(st.binary(min_size=8, max_size=8))
        elif not code.endswith("x"):
            values[name] = draw(st.integers(0, (1 << 8 * struct.calcsize(code)) - 1))
    return values | kind.fixed


def expected(values: dict[str, Any]) -> dict[str, Any]:
    return {name: each.hex() if isinstance(each, bytes) else each for name, each in values.items()}


@st.composite
def requests(draw: st.DrawFn) -> tuple[Kind, dict[str, Any]]:
    kind = draw(st.sampled_from(KINDS))
    return kind, values_of(kind, draw)


def test_every_device_of_the_builder_has_a_decoder_and_every_decoder_a_test() -> None:
    without_header = {4, 5}  # entropy and balloon: below
    assert {kind.device_id for kind in KINDS} | without_header | {8} == set(DECODERS)


@given(requests(), st.binary(max_size=40), st.lists(st.integers(1, 90), max_size=3))
def test_what_was_written_is_read_and_no_byte_behind_it(
    request_: tuple[Kind, dict[str, Any]], behind: bytes, cuts: list[int]
) -> None:
    kind, values = request_
    data = kind.pack(values)
    found, space = header(
        data + behind, kind.device_id, kind.role, features=kind.features, cuts=tuple(cuts)
    )
    assert flat(found.fields) == expected(values)
    assert found.operation == kind.operation
    assert (found.size, found.short) == (kind.size, False)
    assert space.bytes_read == kind.size


@given(requests(), st.data())
def test_a_short_header_gives_the_members_that_are_whole(
    request_: tuple[Kind, dict[str, Any]], data: st.DataObject
) -> None:
    kind, values = request_
    whole = kind.pack(values)
    length = data.draw(st.integers(0, len(whole) - 1))
    found, _ = header(whole[:length], kind.device_id, kind.role, features=kind.features)
    assert found.short
    assert found.size == length
    read, wanted = flat(found.fields), expected(values)
    assert read == {name: wanted[name] for name in read}
    at = 0
    for name, code in kind.layout:
        at += struct.calcsize(code)
        if not code.endswith("x") and at <= length:
            assert name in read


@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=128), st.integers(0, 1 << 20))
def test_any_bytes_are_a_header_or_a_short_one(device_id: int, data: bytes, writable: int) -> None:
    for role in ("requests", "request0", "control", "control-tx", "cursor", "event", "status"):
        found, space = header(data, device_id, role, writable=writable)
        assert found.size == min(found.size, len(data))
        assert space.bytes_read <= len(data)
        assert found.operation


@given(requests())
def test_a_legacy_driver_of_a_big_endian_guest_2_7_3(
    request_: tuple[Kind, dict[str, Any]],
) -> None:
    kind, values = request_
    # 9P is little-endian always.
    data = kind.pack(values, "<" if kind.device_id == 9 else ">")
    found, _ = header(data, kind.device_id, kind.role, features=kind.features, big_endian=True)
    assert flat(found.fields) == expected(values)


def test_a_header_that_is_not_there() -> None:
    chain, _ = chain_of(bytes(16))
    hole = GuestSpace(GuestMemory(0x1000))
    with pytest.raises(MemoryFault):
        read_header(chain, hole, device_id=2, role="requests")


def test_a_device_that_has_no_decoder() -> None:
    chain, space = chain_of(bytes(16))
    assert read_header(chain, space, device_id=36, role="queue 0") is None


# SCSI


CDBS = {
    "read(6)": (bytes((0x08, 0x01, 0x02, 0x03, 0, 0)), {"lba": 0x10203, "blocks": 256}),
    "read(10)": (struct.pack(">BBIBHB", 0x28, 0, 2048, 0, 32, 0), {"lba": 2048, "blocks": 32}),
    "write(10)": (struct.pack(">BBIBHB", 0x2A, 8, 9, 0, 1, 0), {"lba": 9, "blocks": 1}),
    "read(12)": (struct.pack(">BBIIBB", 0xA8, 0, 7, 99, 0, 0), {"lba": 7, "blocks": 99}),
    "write(16)": (
        struct.pack(">BBQIBB", 0x8A, 0, 1 << 33, 8, 0, 0),
        {"lba": 1 << 33, "blocks": 8},
    ),
    "synchronize-cache(10)": (
        struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0),
        {"lba": 0, "blocks": 0},
    ),
    "compare-and-write": (
        struct.pack(">BBQBBBBBB", 0x89, 0, 77, 0, 0, 0, 2, 0, 0),
        {"lba": 77, "blocks": 2},
    ),
    "unmap": (struct.pack(">BBIBHB", 0x42, 0, 0, 0, 24, 0), {"allocation_length": 24}),
    "inquiry": (struct.pack(">BBBHB", 0x12, 0, 0, 36, 0), {"allocation_length": 36}),
    "mode-sense(6)": (bytes((0x1A, 0, 0x3F, 0, 192, 0)), {"allocation_length": 192}),
    "read-capacity(16)": (
        struct.pack(">BBQIBB", 0x9E, 0x10, 0, 32, 0, 0),
        {"allocation_length": 32},
    ),
    "report-luns": (struct.pack(">B5xIBB", 0xA0, 512, 0, 0), {"allocation_length": 512}),
    "test-unit-ready": (bytes(6), {}),
    "command 0xfe": (b"\xfe" + bytes(15), {}),
}


@pytest.mark.parametrize("name", CDBS)
def test_a_scsi_command_5_6_6_1(name: str) -> None:
    cdb, place = CDBS[name]
    data = written.scsi_command(3, 0x123, 0xFEED, cdb)
    found, space = header(data + b"data out", 8, "request0", writable=108)
    assert found.operation == name
    assert found.fields["cdb"] == cdb.ljust(32, b"\0").hex()
    assert {key: found.fields[key] for key in place} == place
    assert found.fields["id"] == 0xFEED
    assert found.fields["task_attr"] == Code(1, "ordered")
    assert found.subject.startswith("target 3 lun 291")
    assert (found.size, space.bytes_read) == (51, 51)


def test_a_scsi_command_with_protection_information_5_6_6_1() -> None:
    command = written.scsi_command(0, 0, 1, CDBS["read(10)"][0])
    data = command[:19] + struct.pack("<II", 512, 8) + command[19:]
    found, _ = header(data, 8, "request3", features=1 << 32 | 1 << 3)
    assert found.operation == "read(10)"
    assert (found.fields["pi_bytesout"], found.fields["pi_bytesin"]) == (512, 8)
    assert found.size == 59


@given(st.integers(0, 50))
def test_a_scsi_command_that_is_cut_off(length: int) -> None:
    data = written.scsi_command(0, 1, 2, CDBS["write(16)"][0])[:length]
    found, _ = header(data, 8, "request0")
    # A device may have a shorter cdb_size: a command block that is there in part is no short one.
    assert found.short is (length < 20)
    assert found.size == length


# Requests that are lists, or nothing but buffers


@given(
    st.sampled_from(((11, "discard"), (13, "write-zeroes"), (14, "secure-erase"))),
    st.lists(
        st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, 1)),
        min_size=1,
        max_size=20,
    ),
)
def test_ranges_of_a_disk_5_2_6(kind: tuple[int, str], ranges: list[tuple[int, int, int]]) -> None:
    found, space = header(written.segments(kind[0], ranges), 2, "requests", writable=1)
    assert found.operation == kind[1]
    assert [tuple(each.values()) for each in found.fields["segments"]] == ranges
    assert not found.short
    assert space.bytes_read == 16 + 16 * len(ranges)


def test_ranges_without_end_are_read_up_to_a_limit() -> None:
    found, space = header(written.segments(11, [(1, 1, 0)]) + bytes(16 * 300), 2, "requests")
    assert len(found.fields["segments"]) == 256
    assert space.bytes_read == 16 + 16 * 256


def test_a_write_reads_no_data() -> None:
    found, space = header(struct.pack("<IIQ", 1, 0, 8) + b"secret" * 100, 2, "requests")
    assert (found.operation, found.subject, space.bytes_read) == ("write", "sector 8", 16)


def test_a_legacy_barrier_5_2_6_3() -> None:
    found, _ = header(struct.pack("<IIQ", 1 << 31 | 1, 0, 8), 2, "requests")
    assert found.operation == "write, barrier"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, (1 << 64) - 1)), max_size=10))
def test_statistics_of_a_balloon_5_5_6_3(values: list[tuple[int, int]]) -> None:
    found, _ = header(written.statistics(values), 5, "stats")
    names = (
        *("swap-in", "swap-out", "major-faults", "minor-faults", "free-memory", "total-memory"),
        *("available-memory", "disk-caches", "hugetlb-allocations", "hugetlb-failures"),
    )
    assert found.fields == {names[tag]: value for tag, value in values}
    assert not found.short


def test_statistics_that_nobody_knows() -> None:
    found, _ = header(written.statistics([(999, 1)]) + b"\0", 5, "stats")
    assert found.fields == {"tag 999": 1}
    assert found.short


def test_pages_of_a_balloon_are_told_by_their_number_alone() -> None:
    found, space = header(bytes(4 * 256), 5, "inflate")
    assert (found.operation, found.subject, space.bytes_read) == ("inflate", "256 pages", 0)
    assert found.fields == {"num_pfns": 256}


def test_hints_and_reports_of_free_pages_5_5_6() -> None:
    command, _ = header(struct.pack("<I", 2), 5, "free-page")
    assert (command.operation, command.fields) == ("free-page-command", {"cmd_id": 2})
    hint, _ = header(b"", 5, "free-page", writable=4 << 20)
    assert (hint.operation, hint.subject) == ("free-page-hint", "4194304 bytes of free pages")
    report, _ = header(b"", 5, "reporting", writable=8192)
    assert (report.operation, report.subject) == ("free-page-report", "8192 bytes of free pages")


def test_entropy_5_4_6() -> None:
    found, _ = header(b"", 4, "requests", writable=64)
    assert (found.operation, found.subject, found.size) == ("entropy", "64 bytes wanted", 0)


@pytest.mark.parametrize(
    ("device_id", "role", "operation"),
    [
        (1, "rx0", "receive-buffer"),
        (3, "rx0", "receive-buffer"),
        (3, "control-rx", "control-buffer"),
        (8, "event", "event-buffer"),
        (18, "event", "event-buffer"),
        (19, "rx", "receive-buffer"),
        (19, "event", "event-buffer"),
        (23, "event", "event-buffer"),
        (25, "event", "event-buffer"),
    ],
)
def test_buffers_that_wait_for_the_device(device_id: int, role: str, operation: str) -> None:
    found, space = header(b"", device_id, role, writable=64)
    assert (found.operation, found.fields, space.bytes_read) == (operation, {}, 0)


def test_a_packet_that_is_cut_into_segments_5_1_6() -> None:
    data = struct.pack("<BBHHHHH", 1, 0x81, 54, 1448, 34, 16, 0) + bytes(3000)
    found, _ = header(data, 1, "tx0")
    assert found.fields["gso_type"] == Code(0x81, "tcpv4|ecn")
    assert found.fields["flags"] == Code(1, "needs-csum")
    assert found.subject == "packet of 3000 bytes, gso tcpv4|ecn, needs-csum"


def test_output_of_a_console_is_told_by_its_length_alone() -> None:
    found, space = header(b"password", 3, "tx0")
    assert (found.operation, found.fields, space.bytes_read) == ("output", {}, 0)
