"""Requests of a sound device (VirtIO 1.3, 5.14.6). Samples are not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio.fields import Table, named, words

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

_CODES = {
    0x0001: "jack-info",
    0x0002: "jack-remap",
    0x0100: "pcm-info",
    0x0101: "pcm-set-params",
    0x0102: "pcm-prepare",
    0x0103: "pcm-release",
    0x0104: "pcm-start",
    0x0105: "pcm-stop",
    0x0200: "chmap-info",
    0x0300: "ctl-info",
    0x0301: "ctl-enum-items",
    0x0302: "ctl-read",
    0x0303: "ctl-write",
    0x0304: "ctl-tlv-read",
    0x0305: "ctl-tlv-write",
    0x0306: "ctl-tlv-command",
}

_CODE = Table("code:I", code=_CODES)
_QUERY = Table("start_id:I count:I size:I")
_STREAM = Table("stream_id:I")
_PARAMETERS = Table(
    "stream_id:I buffer_bytes:I period_bytes:I features:I channels:B format:B rate:B _:B"
)
_CONTROL = Table("control_id:I")

_BODIES = {
    **dict.fromkeys((0x0001, 0x0100, 0x0200, 0x0300), _QUERY),
    0x0002: Table("jack_id:I association:I sequence:I"),
    0x0101: _PARAMETERS,
    **dict.fromkeys((0x0102, 0x0103, 0x0104, 0x0105), _STREAM),
    **dict.fromkeys(range(0x0301, 0x0307), _CONTROL),
}


def decode(request: Request) -> Header:
    """Read a request of the control queue, or a transfer's stream."""
    if request.role == "event":
        return request.header("event-buffer", {})
    if request.role in ("tx", "rx"):
        fields: dict[str, Any] = request.take(_STREAM)
        operation = "playback" if request.role == "tx" else "capture"
        return request.header(operation, fields, words(fields, "stream_id"))
    fields = request.take(_CODE)
    body = _BODIES.get(fields["code"].value) if "code" in fields else None
    if body is not None:
        fields |= request.take(body)
    told = words(fields, "stream_id", "control_id", "jack_id", "start_id", "count")
    return request.header(named(fields.get("code"), "code"), fields, told)
