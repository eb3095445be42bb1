"""Requests of a block device from their chains (VirtIO 1.3, 5.2.6)."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from tests.synth.rings import Buffer, GuestMemory, SplitQueue
from tests.virtio.spaces import GuestSpace, ring_of
from vringcore.errors import CorruptDataError, MemoryFault
from vringcore.virtio.blk import (
    BlkRequest,
    decode_header,
    operation_name,
    read_request,
    status_name,
)
from vringcore.virtio.chain import walk_chain

LINUX_BLK = Path("/usr/include/linux/virtio_blk.h")


def request(queue: SplitQueue, head: int) -> BlkRequest:
    space = GuestSpace(queue.memory)
    chain = walk_chain(ring_of(queue, space).table, head, space)
    return read_request(chain, space, big_endian=queue.big_endian)


@pytest.fixture
def queue() -> SplitQueue:
    return SplitQueue(GuestMemory(0x100000), 8)


def test_a_write(queue: SplitQueue) -> None:
    queue.memory.write(0x50000, struct.pack("<IIQ", 1, 7, 0x123456789A))
    head = queue.publish(
        [Buffer(0x50000, 16), Buffer(0x60000, 4096), Buffer(0x61000, 512), Buffer(0x70000, 1, True)]
    )
    found = request(queue, head)
    assert (found.header.type, found.header.operation) == (1, "write")
    assert (found.header.ioprio, found.header.sector) == (7, 0x123456789A)
    assert (found.bytes_to_device, found.bytes_from_device) == (4608, 0)
    assert found.status_address == 0x70000


def test_a_read_of_a_big_endian_legacy_driver_2_7_3() -> None:
    queue = SplitQueue(GuestMemory(0x100000), 8, big_endian=True)
    queue.memory.write(0x50000, struct.pack(">IIQ", 0, 0, 2048))
    head = queue.publish([Buffer(0x50000, 16), Buffer(0x60000, 513, True)], indirect_from=0)
    found = request(queue, head)
    assert (found.header.operation, found.header.sector) == ("read", 2048)
    assert (found.bytes_to_device, found.bytes_from_device) == (0, 512)
    assert found.status_address == 0x60000 + 512


def test_a_header_in_two_buffers_2_7_4(queue: SplitQueue) -> None:
    header = struct.pack("<IIQ", 4, 0, 0)
    queue.memory.write(0x50000, header[:5])
    queue.memory.write(0x51000, header[5:])
    head = queue.publish([Buffer(0x50000, 5), Buffer(0x51000, 11), Buffer(0x70000, 1, True)])
    assert request(queue, head).header.operation == "flush"


def test_no_whole_header(queue: SplitQueue) -> None:
    head = queue.publish([Buffer(0x50000, 15), Buffer(0x70000, 1, True)])
    with pytest.raises(CorruptDataError, match="no whole header: saw 15 bytes, expected 16"):
        request(queue, head)


def test_a_header_that_is_not_in_the_core(queue: SplitQueue) -> None:
    queue.memory.remove(0x50008, 4)
    with pytest.raises(MemoryFault):
        request(queue, queue.publish([Buffer(0x50000, 16), Buffer(0x70000, 1, True)]))


def test_the_status_of_a_chain_without_a_known_end_is_not_guessed(queue: SplitQueue) -> None:
    head = queue.publish(
        [Buffer(0x50000, 16), Buffer(0x60000, 512, True), Buffer(0x70000, 1, True)]
    )
    queue.memory.remove(queue.descriptors + 32, 16)
    assert request(queue, head).status_address is None
    nothing_to_write = queue.publish([Buffer(0x50000, 16)])
    assert request(queue, nothing_to_write).status_address is None


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (0, "read"),
        (1, "write"),
        (8, "get-id"),
        (11, "discard"),
        (13, "write-zeroes"),
        (14, "secure-erase"),
        (26, "zone-reset-all"),
        (12, "type 12"),
        (0x80000001, "write, barrier"),
        (0xFFFFFFFF, "type 2147483647, barrier"),
    ],
)
def test_operation_names(kind: int, name: str) -> None:
    assert operation_name(kind) == name
    assert decode_header(struct.pack("<IIQ", kind, 0, 0)).operation == name


def test_status_names() -> None:
    assert [status_name(n) for n in (0, 1, 2, 7)] == ["ok", "io-error", "unsupported", "status 7"]


@pytest.mark.skipif(not LINUX_BLK.exists(), reason="linux-libc-dev is not installed")
def test_numbers_are_linux_s() -> None:
    text = LINUX_BLK.read_text()
    ours = {"IN": "read", "OUT": "write", "SCSI_CMD": "scsi-command"}
    types = re.findall(r"define VIRTIO_BLK_T_(\w+)\s+(\d+)\b", text)
    assert len(types) >= 8
    for name, number in types:
        assert operation_name(int(number)) == ours.get(name, name.lower().replace("_", "-"))
