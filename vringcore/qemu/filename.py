"""The file or URL that a block node reads, without the secrets such a name can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.qemu.aio_structs import BDRVNBDState, SocketAddress
from vringcore.qemu.enums import enumerator
from vringcore.qemu.redact import redact

if TYPE_CHECKING:
    from vringcore.model.values import Absent
    from vringcore.qemu.block_structs import BlockDriverState
    from vringcore.view.views import Views

_JSON = "json:"


def file_name(views: Views, node: BlockDriverState, driver: str | Absent) -> str | None:
    """Return a node's file name: ``exact_filename``, ``filename``, or what its driver connects to.

    :raises MemoryFault: if it is not in the core
    """
    name = node.exact_filename or node.filename
    if not name and isinstance(driver, str) and driver.startswith("nbd") and node.opaque:
        name = _nbd_url(views, node.opaque)
    return redact_name(name) or None


def redact_name(name: str) -> str:
    """Return a file name with what is secret in it replaced by ``<redacted>``."""
    if name.startswith(_JSON):
        return _JSON + redact((name.removeprefix(_JSON),))[0]
    return redact((name,))[0]


def _nbd_url(views: Views, state: int) -> str:
    """Build the name that QEMU itself gives such a node, once somebody asks it for one."""
    client = views.at(BDRVNBDState, state)
    if not client.saddr:
        return ""
    server = views.at(SocketAddress, client.saddr)
    export = views.string_or_none(client.export)
    kind = enumerator(views, SocketAddress, "type", server.type_, "SOCKET_ADDRESS_TYPE_")
    if kind == "unix":
        path = views.string(server.unix_path)
        return f"nbd+unix://{'' if export is None else '/' + export}?socket={path}"
    if kind == "inet":
        host, port = views.string(server.inet_host), views.string(server.inet_port)
        return f"nbd://{host}:{port}{'' if export is None else '/' + export}"
    return ""
