"""Headers of requests as drivers write them, packed from the tables of VirtIO 1.3, chapter 5.

Nothing of vringcore is imported. A ``Kind`` is one sort of request: which device and queue it goes
to, the number that says what is asked, and the members after it with their formats. The members'
names are the specification's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A sort of request.

    :param layout: name and struct code of each member in order; ``x`` codes are padding
    :param fixed: members whose value makes it this sort
    :param operation: what a reader must call it
    :param order: byte order, ``<`` unless the request says another
    """

    device_id: int
    role: str
    operation: str
    layout: tuple[tuple[str, str], ...]
    fixed: dict[str, int] = field(default_factory=dict)
    features: int = 1 << 32

    @property
    def size(self) -> int:
        return struct.calcsize("<" + "".join(code for _, code in self.layout))

    def pack(self, values: dict[str, Any], order: str = "<") -> bytes:
        """Write the header; ``fixed`` members have their own values."""
        data = b""
        for name, code in self.layout:
            if code.endswith("x"):
                data += bytes(struct.calcsize(code))
            else:
                data += struct.pack(order + code, {**values, **self.fixed}[name])
        return data


def _members(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for number, word in enumerate(text.split()):
        name, _, code = word.rpartition(":")
        pairs.append((name or f"padding {number}", code))
    return tuple(pairs)


def _kinds(
    device_id: int,
    role: str,
    head: str,
    member: str,
    rows: dict[int, tuple[str, str]],
    tail: str = "",
) -> list[Kind]:
    """One kind for each number of ``member``: its name, and the members it adds."""
    return [
        Kind(device_id, role, name, _members(f"{head} {more} {tail}"), {member: number})
        for number, (name, more) in rows.items()
    ]


_BLOCK = [
    Kind(2, "requests", name, _members("type:I ioprio:I sector:Q"), {"type": number})
    for number, name in {
        0: "read",
        1: "write",
        4: "flush",
        8: "get-id",
        10: "get-lifetime",
        15: "zone-append",
        16: "zone-report",
        18: "zone-open",
        20: "zone-close",
        22: "zone-finish",
        24: "zone-reset",
        26: "zone-reset-all",
    }.items()
]

_NET_HEADER = "flags:B gso_type:B hdr_len:H gso_size:H csum_start:H csum_offset:H"
_NET = [
    Kind(1, "tx0", "transmit", _members(f"{_NET_HEADER} num_buffers:H")),
    Kind(1, "tx1", "transmit", _members(_NET_HEADER), features=0),
    Kind(
        1,
        "tx0",
        "transmit",
        _members(f"{_NET_HEADER} num_buffers:H hash_value:I hash_report:H padding_reserved:H"),
        features=1 << 32 | 1 << 57,
    ),
    *(
        Kind(1, "control", name, _members("class:B command:B"), {"class": group, "command": number})
        for (group, number), name in {
            (0, 0): "rx promisc",
            (0, 5): "rx nobcast",
            (1, 0): "mac table-set",
            (1, 1): "mac addr-set",
            (2, 0): "vlan add",
            (2, 1): "vlan del",
            (3, 0): "announce ack",
            (4, 0): "mq vq-pairs-set",
            (4, 1): "mq rss-config",
            (5, 0): "guest-offloads set",
            (6, 0): "notf-coal tx-set",
            (8, 0): "stats query",
        }.items()
    ),
]

_CONSOLE = _kinds(
    3,
    "control-tx",
    "id:I event:H value:H",
    "event",
    {
        0: ("device-ready", ""),
        1: ("device-add", ""),
        3: ("port-ready", ""),
        4: ("console-port", ""),
        5: ("resize", ""),
        6: ("port-open", ""),
        7: ("port-name", ""),
    },
)

_SCSI_CONTROL = [
    *(
        Kind(
            8,
            "control",
            name,
            _members("type:I subtype:I lun:8s id:Q"),
            {"type": 0, "subtype": number},
        )
        for number, name in enumerate(
            (
                *("abort-task", "abort-task-set", "clear-aca", "clear-task-set"),
                *("i-t-nexus-reset", "logical-unit-reset", "query-task", "query-task-set"),
            )
        )
    ),
    *(
        Kind(8, "control", name, _members("type:I lun:8s event_requested:I"), {"type": number})
        for number, name in (
            (1, "async-notification-query"),
            (2, "async-notification-subscribe"),
        )
    ),
]

_PLAN9 = _kinds(
    9,
    "requests",
    "size:I type:B tag:H",
    "type",
    {
        8: ("Tstatfs", "fid:I"),
        12: ("Tlopen", "fid:I"),
        24: ("Tgetattr", "fid:I"),
        40: ("Treaddir", "fid:I offset:Q count:I"),
        50: ("Tfsync", "fid:I"),
        100: ("Tversion", ""),
        104: ("Tattach", ""),
        108: ("Tflush", "oldtag:H"),
        110: ("Twalk", "fid:I"),
        116: ("Tread", "fid:I offset:Q count:I"),
        118: ("Twrite", "fid:I offset:Q count:I"),
        120: ("Tclunk", "fid:I"),
    },
)

_FUSE = _kinds(
    26,
    "request0",
    "len:I opcode:I unique:Q nodeid:Q uid:I gid:I pid:I total_extlen:H :2x",
    "opcode",
    {
        1: ("lookup", ""),
        2: ("forget", ""),
        15: ("read", ""),
        16: ("write", ""),
        20: ("fsync", ""),
        26: ("init", ""),
        36: ("interrupt", ""),
        44: ("readdirplus", ""),
        51: ("tmpfile", ""),
    },
)

_GPU_HEAD = "type:I flags:I fence_id:Q ctx_id:I ring_idx:B :3x"
_RECT = "r.x:I r.y:I r.width:I r.height:I"
_CURSOR = "pos.scanout_id:I pos.x:I pos.y:I :4x resource_id:I hot_x:I hot_y:I :4x"
_BOX = "box.x:I box.y:I box.z:I box.w:I box.h:I box.d:I"
_TRANSFER = f"{_BOX} offset:Q resource_id:I level:I stride:I layer_stride:I"
_GPU = [
    *_kinds(
        16,
        "control",
        _GPU_HEAD,
        "type",
        {
            0x100: ("get-display-info", ""),
            0x101: ("resource-create-2d", "resource_id:I format:I width:I height:I"),
            0x102: ("resource-unref", "resource_id:I :4x"),
            0x103: ("set-scanout", f"{_RECT} scanout_id:I resource_id:I"),
            0x104: ("resource-flush", f"{_RECT} resource_id:I :4x"),
            0x105: ("transfer-to-host-2d", f"{_RECT} offset:Q resource_id:I :4x"),
            0x106: ("resource-attach-backing", "resource_id:I nr_entries:I"),
            0x107: ("resource-detach-backing", "resource_id:I :4x"),
            0x108: ("get-capset-info", "capset_index:I :4x"),
            0x109: ("get-capset", "capset_id:I capset_version:I"),
            0x10A: ("get-edid", "scanout:I :4x"),
            0x10C: (
                "resource-create-blob",
                "resource_id:I blob_mem:I blob_flags:I nr_entries:I blob_id:Q size:Q",
            ),
            0x10D: (
                "set-scanout-blob",
                f"{_RECT} scanout_id:I resource_id:I width:I height:I format:I :4x",
            ),
            0x200: ("ctx-create", "nlen:I context_init:I"),
            0x201: ("ctx-destroy", ""),
            0x202: ("ctx-attach-resource", "resource_id:I :4x"),
            0x205: ("transfer-to-host-3d", _TRANSFER),
            0x206: ("transfer-from-host-3d", _TRANSFER),
            0x207: ("submit-3d", "size:I :4x"),
            0x208: ("resource-map-blob", "resource_id:I :4x offset:Q"),
        },
    ),
    *_kinds(
        16,
        "cursor",
        _GPU_HEAD,
        "type",
        {0x300: ("update-cursor", _CURSOR), 0x301: ("move-cursor", _CURSOR)},
    ),
]

_INPUT = _kinds(
    18, "status", "type:H code:H value:I", "type", {0x11: ("led", ""), 0x12: ("snd", "")}
)

_SOCKET = _kinds(
    19,
    "tx",
    "src_cid:Q dst_cid:Q src_port:I dst_port:I len:I type:H op:H flags:I buf_alloc:I fwd_cnt:I",
    "op",
    {
        number: (name, "")
        for number, name in enumerate(
            (
                *("request", "response", "rst", "shutdown"),
                *("rw", "credit-update", "credit-request"),
            ),
            1,
        )
    },
)

_CRYPTO = [
    *_kinds(
        20,
        "control",
        "opcode:I algo:I flag:I queue_id:I",
        "opcode",
        {
            0x002: ("cipher-create-session", ""),
            0x003: ("cipher-destroy-session", "session_id:Q"),
            0x102: ("hash-create-session", ""),
            0x203: ("mac-destroy-session", "session_id:Q"),
            0x302: ("aead-create-session", ""),
            0x404: ("akcipher-create-session", ""),
        },
    ),
    *_kinds(
        20,
        "data0",
        "opcode:I algo:I session_id:Q flag:I :4x",
        "opcode",
        {
            0x000: ("cipher-encrypt", ""),
            0x001: ("cipher-decrypt", ""),
            0x100: ("hash", ""),
            0x300: ("aead-encrypt", ""),
            0x402: ("akcipher-sign", ""),
        },
    ),
]

_RANGE = "addr:Q nb_blocks:H :6x"
_MEMORY = _kinds(
    24,
    "request",
    "type:H :6x",
    "type",
    {0: ("plug", _RANGE), 1: ("unplug", _RANGE), 2: ("unplug-all", ""), 3: ("state", _RANGE)},
)
_PMEM = _kinds(27, "request", "type:I", "type", {0: ("flush", "")})
_IOMMU = _kinds(
    23,
    "request",
    "type:B :3x",
    "type",
    {
        1: ("attach", "domain:I endpoint:I flags:I :4x"),
        2: ("detach", "domain:I endpoint:I :8x"),
        3: ("map", "domain:I virt_start:Q virt_end:Q phys_start:Q flags:I"),
        4: ("unmap", "domain:I virt_start:Q virt_end:Q :4x"),
        5: ("probe", "endpoint:I :64x"),
    },
)

_PARAMETERS = "buffer_bytes:I period_bytes:I features:I channels:B format:B rate:B :x"
_SOUND = [
    *_kinds(
        25,
        "control",
        "code:I",
        "code",
        {
            1: ("jack-info", "start_id:I count:I size:I"),
            2: ("jack-remap", "jack_id:I association:I sequence:I"),
            0x100: ("pcm-info", "start_id:I count:I size:I"),
            0x101: (
                "pcm-set-params",
                f"stream_id:I {_PARAMETERS}",
            ),
            0x102: ("pcm-prepare", "stream_id:I"),
            0x103: ("pcm-release", "stream_id:I"),
            0x104: ("pcm-start", "stream_id:I"),
            0x105: ("pcm-stop", "stream_id:I"),
            0x200: ("chmap-info", "start_id:I count:I size:I"),
            0x302: ("ctl-read", "control_id:I"),
        },
    ),
    Kind(25, "tx", "playback", _members("stream_id:I")),
    Kind(25, "rx", "capture", _members("stream_id:I")),
]

_BUSES = [
    Kind(34, "request", "read", _members("addr:H padding:H flags:I"), {"flags": 2}),
    Kind(34, "request", "write", _members("addr:H padding:H flags:I"), {"flags": 0}),
    *_kinds(
        41,
        "request",
        "type:H gpio:H value:I",
        "type",
        {2: ("get-direction", ""), 5: ("set-value", ""), 6: ("set-irq-type", "")},
    ),
    Kind(32, "command", "command", _members("hdr:I")),
]

KINDS = (
    *_BLOCK,
    *_NET,
    *_CONSOLE,
    *_SCSI_CONTROL,
    *_PLAN9,
    *_FUSE,
    *_GPU,
    *_INPUT,
    *_SOCKET,
    *_CRYPTO,
    *_MEMORY,
    *_PMEM,
    *_IOMMU,
    *_SOUND,
    *_BUSES,
)


def scsi_command(target: int, lun: int, tag: int, cdb: bytes, size: int = 32) -> bytes:
    """Write a SCSI command request; ``size`` is the host's ``cdb_size`` (5.6.6.1)."""
    unit = bytes((1, target, 0x40 | lun >> 8, lun & 0xFF, 0, 0, 0, 0))
    return struct.pack("<8sQBBB", unit, tag, 1, 0, 0) + cdb.ljust(size, b"\0")


def segments(kind: int, ranges: list[tuple[int, int, int]]) -> bytes:
    """Write a discard, write zeroes or secure erase: header, then (sector, count, flags)."""
    return struct.pack("<IIQ", kind, 0, 0) + b"".join(struct.pack("<QII", *each) for each in ranges)


def statistics(values: list[tuple[int, int]]) -> bytes:
    """Write a balloon's statistics: (tag, value) each (5.5.6.3)."""
    return b"".join(struct.pack("<HQ", *each) for each in values)
