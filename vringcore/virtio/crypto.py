"""Requests of a crypto device (VirtIO 1.3, 5.9.7). Keys, IVs and texts are not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.virtio.fields import Table, named, words

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

_CONTROL_OPCODES = {
    0x002: "cipher-create-session",
    0x003: "cipher-destroy-session",
    0x102: "hash-create-session",
    0x103: "hash-destroy-session",
    0x202: "mac-create-session",
    0x203: "mac-destroy-session",
    0x302: "aead-create-session",
    0x303: "aead-destroy-session",
    0x404: "akcipher-create-session",
    0x405: "akcipher-destroy-session",
}
"""A service in the upper bits, the operation in the lower eight."""

_DATA_OPCODES = {
    0x000: "cipher-encrypt",
    0x001: "cipher-decrypt",
    0x100: "hash",
    0x200: "mac",
    0x300: "aead-encrypt",
    0x301: "aead-decrypt",
    0x400: "akcipher-encrypt",
    0x401: "akcipher-decrypt",
    0x402: "akcipher-sign",
    0x403: "akcipher-verify",
}

_CONTROL = Table("opcode:I algo:I flag:I queue_id:I", opcode=_CONTROL_OPCODES)
_SESSION = Table("session_id:Q")
_DATA = Table("opcode:I algo:I session_id:Q flag:I _:I", opcode=_DATA_OPCODES)


def decode(request: Request) -> Header:
    """Read a request of the control queue or of a data queue."""
    if request.role != "control":
        fields: dict[str, Any] = request.take(_DATA)
    else:
        fields = request.take(_CONTROL)
        if named(fields.get("opcode")).endswith("destroy-session") and not request.short:
            fields |= request.take(_SESSION)
    told = words(fields, "session_id", "algo")
    return request.header(named(fields.get("opcode"), "opcode"), fields, told)
