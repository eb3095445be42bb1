"""Requests of bus adapters: I2C (VirtIO 1.3, 5.16.6), SCMI (5.17.6), GPIO (5.18.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.virtio.fields import Table, named, words

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

_I2C = Table("addr:H padding:H flags:I")
_I2C_READ = 1 << 1

_SCMI = Table("hdr:I")

_GPIO_TYPES = {
    1: "get-line-names",
    2: "get-direction",
    3: "set-direction",
    4: "get-value",
    5: "set-value",
    6: "set-irq-type",
}
_GPIO = Table("type:H gpio:H value:I", type=_GPIO_TYPES)
_GPIO_EVENT = Table("gpio:H")


def i2c(request: Request) -> Header:
    """Read a transfer of an I2C adapter."""
    fields = request.take(_I2C)
    operation = "unknown"
    if "flags" in fields:
        operation = "read" if fields["flags"] & _I2C_READ else "write"
    told = f"address {fields['addr'] >> 1:#x}" if "addr" in fields else ""
    return request.header(operation, fields, told)


def scmi(request: Request) -> Header:
    """Read the message header of an SCMI command: protocol in bits 10 to 17, message in 0 to 7."""
    if request.role == "event":
        return request.header("event-buffer", {})
    fields = request.take(_SCMI)
    told = ""
    if "hdr" in fields:
        told = f"protocol {fields['hdr'] >> 10 & 0xFF:#x} message {fields['hdr'] & 0xFF:#x}"
    return request.header("command", fields, told)


def gpio(request: Request) -> Header:
    """Read a request of a GPIO device, or the line of an interrupt that is waited for."""
    if request.role == "event":
        fields = request.take(_GPIO_EVENT)
        return request.header("interrupt-buffer", fields, words(fields, "gpio"))
    fields = request.take(_GPIO)
    return request.header(named(fields.get("type")), fields, words(fields, "gpio", "value"))
