"""Requests of a SCSI host (VirtIO 1.3, 5.6.6), and the SCSI commands in them (SPC-5, SBC-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio.fields import Table, named

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

F_T10_PI = 3
"""VIRTIO_SCSI_F_T10_PI: commands carry the lengths of protection information (5.6.3)."""

ANSWER_SIZE = 12 + 96
"""Bytes that a device writes before a command's data: a response with its sense, unless the driver
has set another ``sense_size`` (5.6.6.1)."""

CDB_SIZE = 32
"""Bytes of a command block, unless the driver has set another ``cdb_size`` (5.6.4)."""

_ATTRIBUTES = {0: "simple", 1: "ordered", 2: "head-of-queue", 3: "aca"}
_TYPES = {0: "task-management", 1: "async-notification-query", 2: "async-notification-subscribe"}
_SUBTYPES = {
    0: "abort-task",
    1: "abort-task-set",
    2: "clear-aca",
    3: "clear-task-set",
    4: "i-t-nexus-reset",
    5: "logical-unit-reset",
    6: "query-task",
    7: "query-task-set",
}
_EVENTS = {
    1: "operational-change",
    2: "power-management",
    3: "external-request",
    4: "media-change",
    5: "multi-host",
    6: "device-busy",
}

_COMMAND = Table("lun:8s id:Q task_attr:B prio:B crn:B", task_attr=_ATTRIBUTES)
_PROTECTION = Table("pi_bytesout:I pi_bytesin:I")
_TYPE = Table("type:I", type=_TYPES)
_TASK_MANAGEMENT = Table("subtype:I lun:8s id:Q", subtype=_SUBTYPES)
_NOTIFICATION = Table("lun:8s event_requested:I")

COMMANDS = {
    0x00: "test-unit-ready",
    0x01: "rezero-unit",
    0x03: "request-sense",
    0x04: "format-unit",
    0x08: "read(6)",
    0x0A: "write(6)",
    0x12: "inquiry",
    0x15: "mode-select(6)",
    0x16: "reserve(6)",
    0x17: "release(6)",
    0x1A: "mode-sense(6)",
    0x1B: "start-stop-unit",
    0x1D: "send-diagnostic",
    0x1E: "prevent-allow-medium-removal",
    0x25: "read-capacity(10)",
    0x28: "read(10)",
    0x2A: "write(10)",
    0x2B: "seek(10)",
    0x2E: "write-and-verify(10)",
    0x2F: "verify(10)",
    0x34: "pre-fetch(10)",
    0x35: "synchronize-cache(10)",
    0x37: "read-defect-data(10)",
    0x3B: "write-buffer",
    0x3C: "read-buffer",
    0x41: "write-same(10)",
    0x42: "unmap",
    0x43: "read-toc",
    0x46: "get-configuration",
    0x4A: "get-event-status-notification",
    0x4C: "log-select",
    0x4D: "log-sense",
    0x51: "read-disc-information",
    0x55: "mode-select(10)",
    0x5A: "mode-sense(10)",
    0x5E: "persistent-reserve-in",
    0x5F: "persistent-reserve-out",
    0x7F: "variable-length",
    0x83: "extended-copy",
    0x84: "receive-copy-results",
    0x85: "ata-pass-through(16)",
    0x88: "read(16)",
    0x89: "compare-and-write",
    0x8A: "write(16)",
    0x8E: "write-and-verify(16)",
    0x8F: "verify(16)",
    0x90: "pre-fetch(16)",
    0x91: "synchronize-cache(16)",
    0x93: "write-same(16)",
    0x94: "zbc-out",
    0x95: "zbc-in",
    0x9E: "service-action-in(16)",
    0xA0: "report-luns",
    0xA1: "ata-pass-through(12)",
    0xA3: "maintenance-in",
    0xA4: "maintenance-out",
    0xA8: "read(12)",
    0xAA: "write(12)",
    0xAD: "read-dvd-structure",
    0xAE: "write-and-verify(12)",
    0xAF: "verify(12)",
    0xBE: "read-cd",
}
"""Operation codes by name."""

_SERVICE_ACTIONS = {(0x9E, 0x10): "read-capacity(16)", (0x9E, 0x12): "get-lba-status"}

# Where a command block has the first block and the count of blocks: (first, size), (first, size).
_BLOCKS: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {
    **dict.fromkeys((0x28, 0x2A, 0x2E, 0x2F, 0x34, 0x35, 0x41), ((2, 4), (7, 2))),
    **dict.fromkeys((0xA8, 0xAA, 0xAE, 0xAF), ((2, 4), (6, 4))),
    **dict.fromkeys((0x88, 0x8A, 0x8E, 0x8F, 0x90, 0x91, 0x93), ((2, 8), (10, 4))),
    0x89: ((2, 8), (13, 1)),
}

# Where it has the length of data or parameters, in bytes.
_LENGTHS: dict[int, tuple[int, int]] = {
    **dict.fromkeys((0x03, 0x15, 0x1A), (4, 1)),
    **dict.fromkeys((0x12, 0x1D), (3, 2)),
    **dict.fromkeys((0x42, 0x43, 0x46, 0x4A, 0x4C, 0x4D, 0x51, 0x55, 0x5A, 0x5E), (7, 2)),
    **dict.fromkeys((0x3B, 0x3C), (6, 3)),
    0x5F: (5, 4),
    0x9E: (10, 4),
    **dict.fromkeys((0xA0, 0xA3, 0xA4), (6, 4)),
}


def decode(request: Request) -> Header:
    """Read a request of any of the host's queues."""
    if request.role == "control":
        return _control(request)
    if request.role == "event":
        return request.header("event-buffer", {})
    return _command(request)


def command_name(cdb: bytes) -> str:
    """Return the name of the command in a command block: ``read(10)``, else ``command 0xNN``."""
    if not cdb:
        return "unknown"
    action = _SERVICE_ACTIONS.get((cdb[0], cdb[1] & 0x1F)) if len(cdb) > 1 else None
    return action or COMMANDS.get(cdb[0]) or f"command {cdb[0]:#04x}"


def command_place(cdb: bytes) -> dict[str, int]:
    """Return a command's ``lba`` and ``blocks``, or its ``allocation_length``, if it has them."""
    if not cdb:
        return {}
    if cdb[0] in (0x08, 0x0A) and len(cdb) > 4:
        # SBC-4, 5.10: 21 bits, and a length of 0 stands for 256.
        return {"lba": _number(cdb, 1, 3) & 0x1FFFFF, "blocks": cdb[4] or 256}
    blocks, length = _BLOCKS.get(cdb[0]), _LENGTHS.get(cdb[0])
    if blocks is not None and sum(max(blocks)) <= len(cdb):
        return {"lba": _number(cdb, *blocks[0]), "blocks": _number(cdb, *blocks[1])}
    if length is not None and sum(length) <= len(cdb):
        return {"allocation_length": _number(cdb, *length)}
    return {}


def unit(lun: str) -> str:
    """Return the target and unit that the eight bytes of a request name: ``target 0 lun 1``.

    5.6.6.1: the first byte is 1, the second the target, then a unit in single-level form.
    """
    data = bytes.fromhex(lun)
    if data[:2] == b"\xc1\x01":
        return "report-luns unit"
    if data[0] != 1:
        return f"lun {lun}"
    return f"target {data[1]} lun {_number(data, 2, 2) & 0x3FFF}"


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _subject(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _command(request: Request) -> Header:
    fields: dict[str, Any] = request.take(_COMMAND)
    if request.has(F_T10_PI):
        fields |= request.take(_PROTECTION)
    # The device decides how many bytes a command block has; the rest of them is data.
    cdb = request.bytes(min(CDB_SIZE, request.rest)) if not request.short else b""
    request.short |= not cdb
    place = command_place(cdb)
    fields |= {"cdb": cdb.hex(), **place}
    where = unit(fields["lun"]) if "lun" in fields else ""
    told = " ".join(f"{name} {value}" for name, value in place.items())
    subject = _subject(where, told)
    return request.header(command_name(cdb), fields, subject, answer=ANSWER_SIZE)


def _control(request: Request) -> Header:
    fields: dict[str, Any] = request.take(_TYPE)
    kind = fields["type"].value if "type" in fields else None
    operation = named(fields.get("type"))
    told = ""
    if kind == 0:
        fields |= request.take(_TASK_MANAGEMENT)
        operation = named(fields.get("subtype"), "task-management")
        told = f"tag {fields['id']:#x}" if "id" in fields else ""
    elif kind in (1, 2):
        fields |= request.take(_NOTIFICATION)
        wanted = fields.get("event_requested", 0)
        told = " ".join(name for bit, name in _EVENTS.items() if wanted >> bit & 1)
    where = unit(fields["lun"]) if "lun" in fields else ""
    return request.header(operation, fields, _subject(where, told))
