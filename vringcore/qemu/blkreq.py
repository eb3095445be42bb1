"""A virtio-blk request as the model shows it, from QEMU's VirtIOBlockReq."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.model.requests import BlockRequest, Buffer, Segment
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import CORRUPT, attempt
from vringcore.virtio import blk

if TYPE_CHECKING:
    from vringcore.qemu.device_structs import VirtIOBlockReq
    from vringcore.view.views import Views

MAX_BUFFERS = 1024
"""QEMU's VIRTQUEUE_MAX_SIZE: it takes no element with more."""

NOT_APPLICABLE = Absent("not-applicable")
"""The operation has no such thing: a flush has no sector."""

NOT_RECORDED = Absent("not-recorded", None, "QEMU notes no start time for this operation")

_ZONE_APPEND = 15
_SEGMENT_SIZE = 16

# block_acct_start() is called for these only; for the rest ``acct`` was never written.
_ACCOUNTED = frozenset({blk.T_IN, blk.T_OUT, blk.T_FLUSH, blk.T_WRITE_ZEROES, _ZONE_APPEND})
WITH_DATA = frozenset({blk.T_IN, blk.T_OUT, _ZONE_APPEND})
_WITHOUT_SECTOR = frozenset({blk.T_FLUSH, blk.T_GET_ID})


class Submitted(msgspec.Struct, frozen=True):
    """What was handed to the block layer for a request (``BlkAioEmAIOCB``), in bytes."""

    offset: int
    length: int


def block_request(
    views: Views,
    request: VirtIOBlockReq,
    submitted: Submitted | None,
    *,
    big_endian: bool | Absent,
) -> BlockRequest:
    """Return a request as the model shows it.

    :param submitted: what the block layer was asked to do, if the request was found through it
    :param big_endian: the byte order of the device, in which QEMU keeps the request's header;
        Absent if it is not known: then of the request nothing is told that the header decides
    :raises MemoryFault: if the request's header is not in the core
    """
    if isinstance(big_endian, Absent):
        return _unread(request, big_endian)
    header = blk.decode_header(
        views.space.read(request.out, blk.HEADER_SIZE), big_endian=big_endian
    )
    kind = header.type & ~blk.T_BARRIER
    segments: tuple[Segment, ...] | Absent = ()
    if kind in blk.SEGMENTED:
        segments = attempt(lambda: _segments(views, request, big_endian=big_endian))
    sector, length = _extent(request, kind, header.sector, submitted, segments)
    buffers: tuple[Buffer, ...] = ()
    if kind in WITH_DATA and not isinstance(length, Absent):
        size = length
        found = attempt(lambda: _data_buffers(views, request, kind, size))
        if isinstance(found, Absent):
            length = found
        else:
            buffers = found
    return BlockRequest(
        kind="virtio-blk",
        address=Address(request.address_),
        operation=header.operation,
        type=header.type,
        sector=sector,
        length=length,
        started_ns=request.start_time_ns if kind in _ACCOUNTED else NOT_RECORDED,
        buffers=buffers,
        segments=segments,
    )


def _unread(request: VirtIOBlockReq, why: Absent) -> BlockRequest:
    return BlockRequest(
        kind="virtio-blk",
        address=Address(request.address_),
        operation="unknown",
        type=why,
        sector=why,
        length=why,
        started_ns=why,
    )


def summary(request: BlockRequest) -> str:
    """Return a request in a line: ``read 8 sectors at 2048 (4096 bytes)``."""
    text = request.operation if request.operation != "unknown" else "unknown operation"
    if isinstance(request.sector, Absent):
        return text
    if isinstance(request.length, Absent):
        return f"{text} at sector {request.sector}"
    count, rest = divmod(request.length, blk.SECTOR_SIZE)
    if rest:
        return f"{text} {request.length} bytes at sector {request.sector}"
    sectors = "sector" if count == 1 else "sectors"
    return f"{text} {count} {sectors} at {request.sector} ({request.length} bytes)"


def _extent(
    request: VirtIOBlockReq,
    kind: int,
    sector: int,
    submitted: Submitted | None,
    segments: tuple[Segment, ...] | Absent,
) -> tuple[int | Absent, int | Absent]:
    """Return the first sector and the length in bytes."""
    if kind in _WITHOUT_SECTOR:
        return NOT_APPLICABLE, 0 if kind == blk.T_FLUSH else NOT_APPLICABLE
    if kind in blk.SEGMENTED:
        if submitted is not None:
            return submitted.offset // blk.SECTOR_SIZE, submitted.length
        if isinstance(segments, tuple) and len(segments) == 1:
            return segments[0].sector, segments[0].num_sectors * blk.SECTOR_SIZE
        unknown = Absent("not-reachable", None, "it is in the request's data, in guest memory")
        return unknown, request.acct_bytes if kind == blk.T_WRITE_ZEROES else unknown
    if kind in WITH_DATA:
        # Not qiov.size: the first of several merged requests has the data of all in its qiov.
        return sector, request.acct_bytes
    return sector, NOT_APPLICABLE


def _segments(views: Views, request: VirtIOBlockReq, *, big_endian: bool) -> tuple[Segment, ...]:
    """Return the ranges that a request's data is a list of.

    They come behind the header, of which QEMU has cut the part that shared a buffer with them
    (iov_discard_front_undoable() in util/iov.c).
    """
    pieces = _iovec(views, request.out_sg, request.out_num)
    cut = 0
    if request.cut_iov and request.cut_length is not None:
        whole = views.pointer_size
        cut = request.cut_length - views.integer(request.cut_iov + whole, whole)
    data = b""
    for base, size in _skip(pieces, blk.HEADER_SIZE - cut):
        step = min(size, blk.MAX_SEGMENTS * _SEGMENT_SIZE - len(data))
        data += views.space.read(HostAddress(base), step) if step else b""
    code = (">" if big_endian else "<") + "QII"
    count = len(data) // _SEGMENT_SIZE
    return tuple(Segment(*each) for each in struct.iter_unpack(code, data[: count * _SEGMENT_SIZE]))


def _data_buffers(
    views: Views, request: VirtIOBlockReq, kind: int, length: int
) -> tuple[Buffer, ...] | Absent:
    """Return the request's data among its element's buffers.

    Header and status lie around it: a read's data comes first in what the device writes, a write's
    comes last in what the device reads. QEMU may have cut the buffer it shares with them already.
    """
    if kind == blk.T_IN:
        pieces = _iovec(views, request.in_sg, request.in_num)
        return _cut(pieces, length)
    pieces = _iovec(views, request.out_sg, request.out_num)
    before = sum(size for _, size in pieces) - length
    return _cut(_skip(pieces, before), length)


def _iovec(views: Views, address: int, count: int) -> list[tuple[int, int]]:
    size = 2 * views.pointer_size
    data = views.space.read(HostAddress(address), min(count, MAX_BUFFERS) * size)
    code = (">" if views.layouts.big_endian else "<") + ("QQ" if size == 16 else "II")
    return list(struct.iter_unpack(code, data))


def _skip(pieces: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    rest = []
    for base, size in pieces:
        step = min(max(count, 0), size)
        count -= step
        if size > step:
            rest.append((base + step, size - step))
    return rest


def _cut(pieces: list[tuple[int, int]], length: int) -> tuple[Buffer, ...] | Absent:
    found = []
    left = length
    for base, size in pieces:
        if left <= 0:
            break
        found.append(Buffer(Address(base), min(size, left)))
        left -= size
    if left > 0 or length < 0:
        return Absent(CORRUPT, None, f"{length} bytes of data in buffers that hold less")
    return tuple(found)
