"""Requests of devices that carry streams and events: console, socket, input (VirtIO 1.3).

5.3.6 console, 5.8.6 input, 5.10.6 socket. The bytes of a stream are told by their length alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio.fields import Table, named, words

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

_CONSOLE_EVENTS = {
    0: "device-ready",
    1: "device-add",
    2: "device-remove",
    3: "port-ready",
    4: "console-port",
    5: "resize",
    6: "port-open",
    7: "port-name",
}
_CONSOLE_CONTROL = Table("id:I event:H value:H", event=_CONSOLE_EVENTS)

_SOCKET_TYPES = {1: "stream", 2: "seqpacket"}
_SOCKET_OPERATIONS = {
    0: "invalid",
    1: "request",
    2: "response",
    3: "rst",
    4: "shutdown",
    5: "rw",
    6: "credit-update",
    7: "credit-request",
}
_SOCKET = Table(
    "src_cid:Q dst_cid:Q src_port:I dst_port:I len:I type:H op:H flags:I buf_alloc:I fwd_cnt:I",
    type=_SOCKET_TYPES,
    op=_SOCKET_OPERATIONS,
)

_INPUT_TYPES = {
    0x00: "syn",
    0x01: "key",
    0x02: "rel",
    0x03: "abs",
    0x04: "msc",
    0x05: "sw",
    0x11: "led",
    0x12: "snd",
    0x14: "rep",
    0x15: "ff",
    0x16: "pwr",
    0x17: "ff-status",
}
_INPUT = Table("type:H code:H value:I", type=_INPUT_TYPES)


def console(request: Request) -> Header:
    """Read a request of a console: a message of its control queues, else a stream's bytes."""
    if request.role == "control-tx":
        fields: dict[str, Any] = request.take(_CONSOLE_CONTROL)
        return request.header(
            named(fields.get("event"), "event"), fields, words(fields, "id", "value")
        )
    if request.role == "control-rx":
        return request.header("control-buffer", {})
    if request.role.startswith("rx"):
        return request.header("receive-buffer", {})
    return request.header("output", {})


def socket(request: Request) -> Header:
    """Read a packet of a socket device."""
    if request.role == "event":
        return request.header("event-buffer", {})
    if request.role == "rx":
        return request.header("receive-buffer", {})
    fields = request.take(_SOCKET)
    told = ""
    if "dst_port" in fields:
        source = f"{fields['src_cid']}:{fields['src_port']}"
        told = f"{source} > {fields['dst_cid']}:{fields['dst_port']}"
    if "len" in fields:
        told += f", {fields['len']} bytes"
    return request.header(named(fields.get("op"), "op"), fields, told)


def events(request: Request) -> Header:
    """Read an event that a driver sends to an input device: a lamp, a sound."""
    if request.role == "event":
        return request.header("event-buffer", {})
    fields = request.take(_INPUT)
    return request.header(named(fields.get("type")), fields, words(fields, "code", "value"))
