"""Search of QEMU's own memory for the requests of a device: the last resort, bounded in bytes.

A VirtIOBlockReq names its device and its queue in two adjacent pointers, and its VirtQueueElement
lies in one block with the four arrays it points to (virtqueue_alloc_element() in
hw/virtio/virtio.c). Freed requests keep most of that: what is found is a candidate.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.qemu.device_structs import VirtIOBlockReq, VirtQueueElement
from vringcore.qemu.ramblocks import ram_blocks
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.memory.space import Range
    from vringcore.view.views import Views

BUDGET = 1 << 30
DEEP_BUDGET = 8 << 30

MAX_CHECKED = 100_000
"""Places that name the device and are looked at; a busy QEMU has some thousands."""

MAX_SEGMENTS = 1024
"""QEMU's VIRTQUEUE_MAX_SIZE: no element has more buffers in a direction."""


class Scan(msgspec.Struct):
    """What a search found and how far it came.

    ``bytes_read`` counts what was searched, ``bytes_left`` what the limits did not allow.
    """

    candidates: list[int]
    bytes_read: int
    bytes_left: int


def scan(views: Views, device: int, *, budget: int) -> Scan:
    """Search the writable memory that is not guest RAM for requests of a virtio-blk device.

    :param device: address of the VirtIOBlock
    :param budget: the most bytes to search; small ranges, the heap's arenas, come first
    """
    result = Scan([], 0, 0)
    member = views.offset(VirtIOBlockReq.c_type, "dev")
    guest, _ = collect((int(block.host), int(block.max_length)) for block in ram_blocks(views))
    checked = 0
    for part in sorted(private_ranges(views.space.ranges(), guest), key=lambda part: part.readable):
        if result.bytes_read + part.readable > budget or checked >= MAX_CHECKED:
            result.bytes_left += part.readable
            continue
        result.bytes_read += part.readable
        for at in islice(_find_pointer(views, part, device), MAX_CHECKED - checked):
            checked += 1
            if _is_element(views, at - member):
                result.candidates.append(at - member)
    return result


def private_ranges(ranges: Iterable[Range], guest: list[tuple[int, int]]) -> Iterator[Range]:
    """Yield the writable ranges that hold no guest RAM, whose places are given."""
    for part in ranges:
        end = part.address + part.readable
        shared = any(host < end and part.address < host + size for host, size in guest)
        if part.writable and part.readable and not shared:
            yield part


def _find_pointer(views: Views, part: Range, value: int) -> Iterator[int]:
    size = views.pointer_size
    order = ">" if views.layouts.big_endian else "<"
    needle = struct.pack(order + ("Q" if size == 8 else "I"), value)
    # A pointer's upper bytes are zero, and so is most memory: looking for the others is faster.
    rare = needle.strip(b"\0")
    before = needle.index(rare)
    # A pointer is aligned, and so is every piece of a range: none lies across two of them.
    for piece in views.space.scan(HostAddress(part.address), part.readable):
        data = piece.data or b""
        hit = data.find(rare)
        while hit >= 0:
            at = piece.address + hit - before
            if at % size == 0 and data.startswith(needle, max(hit - before, 0)):
                yield at
            hit = data.find(rare, hit + 1)


def _is_element(views: Views, request: int) -> bool:
    """Tell whether the request's arrays lie as the allocator puts them.

    A freed block fails here: malloc's own pointers overwrite the counts.
    """
    try:
        element = views.at(VirtQueueElement, views.at(VirtIOBlockReq, request).elem)
        size = views.binding(VirtIOBlockReq).type.size
        count_in, count_out = element.in_num, element.out_num
        in_addr, out_addr = element.in_addr, element.out_addr
        in_sg, out_sg = element.in_sg, element.out_sg
    except VringcoreError:
        return False
    return (
        count_in + count_out > 0
        and max(count_in, count_out) <= MAX_SEGMENTS
        and in_addr >= request + size
        and out_addr == in_addr + 8 * count_in
        and in_sg == out_addr + 8 * count_out
        and out_sg == in_sg + 2 * views.pointer_size * count_in
    )
