"""Requests of a network device (VirtIO 1.3, 5.1.6): packets' headers, and control commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio.features import VERSION_1
from vringcore.virtio.fields import Code, Table

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

F_MRG_RXBUF = 15
F_HASH_REPORT = 57

_FLAGS = {0: "needs-csum", 1: "data-valid", 2: "rsc-info"}
_GSO_TYPES = {0: "none", 1: "tcpv4", 3: "udp", 4: "tcpv6", 5: "udp-l4"}
_GSO_ECN = 0x80

_HEADER = Table("flags:B gso_type:B hdr_len:H gso_size:H csum_start:H csum_offset:H")
_NUM_BUFFERS = Table("num_buffers:H")
_HASH = Table("hash_value:I hash_report:H padding_reserved:H")
_CONTROL = Table("class:B command:B")

_COMMANDS = {
    0: ("rx", ("promisc", "allmulti", "alluni", "nomulti", "nouni", "nobcast")),
    1: ("mac", ("table-set", "addr-set")),
    2: ("vlan", ("add", "del")),
    3: ("announce", ("ack",)),
    4: ("mq", ("vq-pairs-set", "rss-config", "hash-config")),
    5: ("guest-offloads", ("set",)),
    6: ("notf-coal", ("tx-set", "rx-set", "vq-set", "vq-get")),
    8: ("stats", ("query", "get")),
}
"""Classes of control commands, and each one's commands from 0 on (5.1.6.5)."""


def decode(request: Request) -> Header:
    """Read a request of any of the device's queues; of a packet nothing but its header."""
    if request.role == "control":
        return _control(request)
    if request.role.startswith("rx"):
        return request.header("receive-buffer", {})
    fields: dict[str, Any] = request.take(_HEADER)
    # 5.1.6.1: a legacy device without mergeable buffers has a shorter header.
    if request.has(VERSION_1) or request.has(F_MRG_RXBUF):
        fields |= request.take(_NUM_BUFFERS)
    if request.has(F_HASH_REPORT):
        fields |= request.take(_HASH)
    told = [f"packet of {request.rest} bytes"]
    if "gso_type" in fields:
        kind = fields["gso_type"]
        name = _GSO_TYPES.get(kind & ~_GSO_ECN)
        fields["gso_type"] = Code(kind, f"{name}|ecn" if name and kind & _GSO_ECN else name)
        if kind:
            told.append(f"gso {fields['gso_type'].name or kind}")
        flags = [name for bit, name in _FLAGS.items() if fields["flags"] >> bit & 1]
        fields["flags"] = Code(fields["flags"], "|".join(flags) or None)
        told += flags
    return request.header("transmit", fields, ", ".join(told))


def _control(request: Request) -> Header:
    fields: dict[str, Any] = request.take(_CONTROL)
    kind, number = fields.get("class"), fields.get("command")
    name, commands = _COMMANDS.get(kind, (None, ())) if kind is not None else (None, ())
    command = commands[number] if number is not None and number < len(commands) else None
    if kind is not None:
        fields["class"] = Code(kind, name)
    if number is not None:
        fields["command"] = Code(number, command)
    operation = f"{name or f'class {kind}'} {command or f'command {number}'}"
    # Arguments are told by their length alone; the last readable byte is not the ack, which the
    # device writes.
    arguments = f"{request.rest} bytes of arguments" if request.rest else ""
    return request.header(operation if fields else "unknown", fields, arguments)
