"""Requests of a block device (VirtIO 1.3, 5.2.6)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import msgspec

from vringcore.errors import CorruptDataError
from vringcore.virtio.chain import ChainEnd, read_buffers
from vringcore.virtio.fields import Table

if TYPE_CHECKING:
    from vringcore.memory.space import AddressSpace
    from vringcore.virtio.chain import Chain
    from vringcore.virtio.fields import Header, Request

T_IN = 0
T_OUT = 1
T_FLUSH = 4
T_GET_ID = 8
T_DISCARD = 11
T_WRITE_ZEROES = 13
T_SECURE_ERASE = 14

T_BARRIER = 1 << 31
"""A bit beside the legacy types (5.2.6.3)."""

OPERATIONS = {
    T_IN: "read",
    T_OUT: "write",
    2: "scsi-command",  # legacy, 5.2.6.3
    3: "scsi-command-out",  # legacy, 5.2.6.3
    T_FLUSH: "flush",
    5: "flush-out",  # legacy, 5.2.6.3
    T_GET_ID: "get-id",
    10: "get-lifetime",
    T_DISCARD: "discard",
    T_WRITE_ZEROES: "write-zeroes",
    T_SECURE_ERASE: "secure-erase",
    15: "zone-append",
    16: "zone-report",
    18: "zone-open",
    20: "zone-close",
    22: "zone-finish",
    24: "zone-reset",
    26: "zone-reset-all",
}

WITHOUT_SECTOR = frozenset({T_FLUSH, 5, T_GET_ID, 10, 26})
"""Operations that are about no place, or about the whole disk."""

STATUSES = {
    0: "ok",
    1: "io-error",
    2: "unsupported",
    3: "zone-invalid-command",
    4: "zone-unaligned-write-pointer",
    5: "zone-open-resource",
    6: "zone-active-resource",
}

SECTOR_SIZE = 512
"""Bytes in a sector, whatever the device's block size (5.2.4)."""

HEADER_SIZE = 16

SEGMENTED = frozenset({T_DISCARD, T_WRITE_ZEROES, T_SECURE_ERASE})
"""Operations whose data is a list of ranges (5.2.6, ``virtio_blk_discard_write_zeroes``)."""

MAX_SEGMENTS = 256
"""Ranges that are read of a request."""

_FIELDS = Table("type:I ioprio:I sector:Q", type=OPERATIONS)
_SEGMENT = Table("sector:Q num_sectors:I flags:I")

_HEADER = {False: Struct("<IIQ"), True: Struct(">IIQ")}


class BlkHeader(msgspec.Struct, frozen=True):
    """The header of a request, ``struct virtio_blk_req`` up to its data.

    ``sector`` counts 512-byte sectors and means something for the operations that have a place;
    discard, write zeroes and secure erase carry their places in their data. ``ioprio`` is the
    legacy priority, reserved today.
    """

    type: int
    operation: str
    ioprio: int
    sector: int


class BlkRequest(msgspec.Struct, frozen=True):
    """A request as its chain shows it.

    ``bytes_to_device`` are those behind the header, ``bytes_from_device`` those before the status.
    ``status_address`` is where the device puts the status byte: the last device-writable one; None
    if there is none or the end of the chain was not seen.
    """

    header: BlkHeader
    bytes_to_device: int
    bytes_from_device: int
    status_address: int | None


def decode(request: Request) -> Header:
    """Read a request's header, and the ranges of one that has a list of them."""
    fields: dict[str, Any] = request.take(_FIELDS)
    if "type" not in fields:
        return request.header("unknown", fields)
    kind = fields["type"].value
    told = ""
    if kind & ~T_BARRIER in SEGMENTED:
        fields["segments"] = request.take_all(_SEGMENT, MAX_SEGMENTS)
        request.short |= not fields["segments"]
        told = ", ".join(
            f"{each['num_sectors']} sectors at {each['sector']}" for each in fields["segments"][:3]
        )
    elif kind & ~T_BARRIER not in WITHOUT_SECTOR and "sector" in fields:
        told = f"sector {fields['sector']}"
    return request.header(operation_name(kind), fields, told)


def operation_name(kind: int) -> str:
    """Return the name of a request type: ``read``, ``write``, ``flush`` …, else ``type N``.

    A legacy barrier is said as ``write, barrier``.
    """
    plain = kind & ~T_BARRIER
    name = OPERATIONS.get(plain) or f"type {plain}"
    return f"{name}, barrier" if kind & T_BARRIER else name


def status_name(status: int) -> str:
    """Return the name of a status byte: ``ok``, ``io-error`` …, else ``status N``."""
    return STATUSES.get(status) or f"status {status}"


def decode_header(data: bytes, *, big_endian: bool = False) -> BlkHeader:
    """Decode the first 16 bytes of a request.

    :param big_endian: as a legacy driver of a big-endian guest writes them
    :raises CorruptDataError: if there are fewer than 16
    """
    if len(data) < HEADER_SIZE:
        raise CorruptDataError(
            "a block request has no whole header",
            seen=f"{len(data)} bytes",
            expected=f"{HEADER_SIZE}",
            hint="the chain of the request is damaged",
        )
    kind, ioprio, sector = _HEADER[big_endian].unpack_from(data)
    return BlkHeader(kind, operation_name(kind), ioprio, sector)


def read_request(chain: Chain, space: AddressSpace[Any], *, big_endian: bool = False) -> BlkRequest:
    """Read the request that a chain describes.

    :param space: where the chain's buffers lie
    :raises CorruptDataError: if the chain's device-readable buffers are shorter than a header
    :raises MemoryFault: if the header cannot be read
    :raises AddressOverflowError: if the header's buffer leaves the address space
    """
    header = decode_header(read_buffers(chain, space, HEADER_SIZE), big_endian=big_endian)
    return BlkRequest(
        header=header,
        bytes_to_device=chain.readable_bytes - HEADER_SIZE,
        bytes_from_device=max(chain.writable_bytes - 1, 0),
        status_address=_status_address(chain),
    )


def _status_address(chain: Chain) -> int | None:
    filled = [buffer for buffer in chain.buffers(writable=True) if buffer.length]
    if not filled or chain.end is not ChainEnd.COMPLETE:
        return None
    return filled[-1].address + filled[-1].length - 1
