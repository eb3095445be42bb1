"""A VirtIOBlockReq as the model shows it, from built memory: layouts of buffers, byte orders."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from tests.qemu.support import Image, NoSymbols
from vringcore.layout.bundle import Bundle, Typed
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Base, Definition, Member, Pointer, Record, Void
from vringcore.model.requests import BlockRequest
from vringcore.model.values import Absent, Address
from vringcore.qemu.blkreq import (
    NOT_APPLICABLE,
    NOT_RECORDED,
    Submitted,
    block_request,
    summary,
)
from vringcore.qemu.device_structs import VirtIOBlockReq
from vringcore.view.views import Views

U32, I64 = Base("unsigned int", 4, "unsigned"), Base("long", 8, "signed")
POINTER = Pointer(Void())

REQUEST, SEGMENTS, DATA = 0x10000, 0x20000, 0x7F0000000000

IN, OUT, FLUSH, DISCARD, WRITE_ZEROES, BARRIER = 0, 1, 4, 11, 13, 1 << 31


def record(name: str, *members: tuple[str, Any, int]) -> Record:
    fields = tuple(Member(*member) for member in members)
    return Record("struct", name, 256, fields)


ELEMENT = record(
    "VirtQueueElement",
    *(("index", U32, 0), ("ndescs", U32, 4), ("out_num", U32, 8), ("in_num", U32, 12)),
    *(("in_sg", POINTER, 16), ("out_sg", POINTER, 24)),
)
LAYOUT: dict[str, Definition] = {
    "struct VirtIOBlockReq": record(
        "VirtIOBlockReq",
        *(("elem", ELEMENT, 0), ("sector_num", I64, 32), ("dev", POINTER, 40), ("vq", POINTER, 48)),
        *(
            ("out", record("virtio_blk_outhdr"), 56),
            ("next", POINTER, 72),
            ("mr_next", POINTER, 80),
        ),
        ("acct", record("BlockAcctCookie", ("bytes", I64, 0), ("start_time_ns", I64, 8)), 88),
    )
}


def model(
    kind: int,
    *,
    reads: tuple[int, ...] = (16,),
    writes: tuple[int, ...] = (1,),
    length: int = 0,
    submitted: Submitted | None = None,
    big_endian: bool = False,
) -> BlockRequest:
    """Return the model of a request at sector 2048.

    :param reads: sizes of the buffers that the device reads, ``writes`` of those it writes
    :param length: ``acct.bytes``
    """
    header = struct.pack(">IIQ" if big_endian else "<IIQ", kind, 0, 2048)
    element = struct.pack("<4I2Q", 3, 1, len(reads), len(writes), SEGMENTS, SEGMENTS + 0x1000)
    body = (
        element + struct.pack("<q2Q", -1, 0xD, 0xE) + header + struct.pack("<2Q2q", 0, 0, length, 5)
    )
    segments = {SEGMENTS: writes, SEGMENTS + 0x1000: reads}
    memory = {REQUEST: body.ljust(256, b"\0")}
    for place, sizes in segments.items():
        starts = [DATA + place + 0x10000 * number for number in range(len(sizes))]
        memory[place] = b"".join(
            struct.pack("<2Q", *pair) for pair in zip(starts, sizes, strict=True)
        )
    types = {key: msgspec.Raw(msgspec.json.encode(Typed(of))) for key, of in LAYOUT.items()}
    views = Views(Image(memory), Layouts(Bundle(types=types)), 0, NoSymbols())
    return block_request(views, views.at(VirtIOBlockReq, REQUEST), submitted, big_endian=big_endian)


def sizes(request: BlockRequest) -> list[int]:
    return [buffer.length for buffer in request.buffers]


def offsets(request: BlockRequest, place: int) -> list[int]:
    return [buffer.address - DATA - place for buffer in request.buffers]


def test_a_read_has_its_data_before_the_status() -> None:
    request = model(IN, writes=(4096, 512, 1), length=4608)
    assert (request.operation, request.sector, request.length) == ("read", 2048, 4608)
    assert request.started_ns == 5
    assert sizes(request) == [4096, 512]
    assert offsets(request, SEGMENTS) == [0, 0x10000]


def test_a_status_that_shared_the_last_buffer_was_cut_off_by_qemu() -> None:
    assert sizes(model(IN, writes=(4096,), length=4096)) == [4096]


def test_a_write_has_its_data_behind_the_header() -> None:
    request = model(OUT, reads=(16, 512, 512), length=1024)
    assert sizes(request) == [512, 512]
    assert offsets(request, SEGMENTS + 0x1000) == [0x10000, 0x20000]


def test_a_header_in_pieces_and_one_that_qemu_cut_off() -> None:
    assert offsets(model(OUT, reads=(8, 8, 512), length=512), SEGMENTS + 0x1000) == [0x20000]
    assert offsets(model(OUT, reads=(512,), length=512), SEGMENTS + 0x1000) == [0]


def test_a_header_that_still_shares_its_buffer() -> None:
    request = model(OUT, reads=(528,), length=512)
    assert offsets(request, SEGMENTS + 0x1000) == [16]


@pytest.mark.parametrize("length", [-1, 4098, 1 << 62])
def test_a_length_that_the_buffers_do_not_hold_is_absent(length: int) -> None:
    request = model(IN, writes=(4096, 1), length=length)
    assert isinstance(request.length, Absent)
    assert request.length.reason == "corrupt"
    assert request.buffers == ()


def test_a_flush_has_no_place() -> None:
    request = model(FLUSH)
    assert (request.sector, request.length) == (NOT_APPLICABLE, 0)
    assert summary(request) == "flush"


def test_a_discard_is_told_by_what_was_submitted() -> None:
    request = model(DISCARD, submitted=Submitted(1 << 20, 65536))
    assert summary(request) == "discard 128 sectors at 2048 (65536 bytes)"
    assert request.started_ns == NOT_RECORDED


def test_a_range_that_only_guest_memory_knows_is_absent() -> None:
    discard = model(DISCARD)
    assert isinstance(discard.sector, Absent)
    assert isinstance(discard.length, Absent)
    assert summary(discard) == "discard"
    assert model(WRITE_ZEROES, length=512).length == 512


def test_an_unknown_operation_keeps_its_number() -> None:
    request = model(99)
    assert (request.operation, request.type) == ("type 99", 99)
    assert summary(request) == "type 99 at sector 2048"


def test_a_barrier_is_still_a_write() -> None:
    request = model(OUT | BARRIER, reads=(16, 512), length=512)
    assert sizes(request) == [512]
    assert summary(request) == "write, barrier 1 sector at 2048 (512 bytes)"


def test_a_header_in_the_byte_order_of_a_big_endian_guest() -> None:
    request = model(OUT, reads=(16, 512), length=512, big_endian=True)
    assert (request.operation, request.sector) == ("write", 2048)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "read 8 sectors at 2048 (4096 bytes)"),
        ({"length": 512}, "read 1 sector at 2048 (512 bytes)"),
        ({"length": 100}, "read 100 bytes at sector 2048"),
        ({"operation": "zone-report", "length": NOT_APPLICABLE}, "zone-report at sector 2048"),
    ],
)
def test_summary(changes: dict[str, Any], line: str) -> None:
    base = {"kind": "virtio-blk", "address": Address(1), "operation": "read", "type": 0}
    place = {"sector": 2048, "length": 4096, "started_ns": 1}
    assert summary(BlockRequest(**{**base, **place, **changes})) == line
