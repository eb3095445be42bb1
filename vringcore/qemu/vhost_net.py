"""virtio-net devices whose queues a back-end of the network runs (TAP, vhost-user, vDPA)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.qemu.enums import enumerator
from vringcore.qemu.vhost import GONE, Run
from vringcore.qemu.vhost_structs import (
    NET_BACKENDS,
    Chardev,
    NetClientInfo,
    NetClientState,
    NetVhostUserState,
    NICState,
    VirtIONet,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.devices import RawDevice
    from vringcore.view.views import Views

MAX_PEERS = 1024
"""``MAX_QUEUE_NUM`` of QEMU (include/net/net.h)."""


class Peer(msgspec.Struct, frozen=True):
    """A network back-end of a queue pair: its netdev id, and its ``vhost_net`` (0: it has none).

    ``pair`` counts from 0. ``chr`` and ``handler`` are of a vhost-user back-end's character device
    and of the function that hears of its connection, 0 of others.
    """

    pair: int
    name: str | None
    kind: str
    vhost: int
    chr: int = 0
    handler: int = 0


def peers(views: Views, device: int) -> Iterator[Peer]:
    """Yield the network back-ends of a virtio-net device that can have vhost.

    :raises VringcoreError: where one cannot be read
    """
    net = views.at(VirtIONet, device)
    count = max(net.peers, 1)
    if count > MAX_PEERS:
        raise CorruptDataError(
            "a network device with an impossible number of back-ends",
            where=f"VirtIONet.nic_conf.peers.queues at {device:#x}",
            seen=str(count),
            expected=f"at most {MAX_PEERS}",
        )
    if not net.nic:
        return
    clients = views.at(NICState, net.nic).ncs
    size = views.binding(NetClientState).type.size
    for pair in range(count):
        address = views.at(NetClientState, clients + pair * size).peer
        if not address:
            continue
        client = views.at(NetClientState, address)
        number = views.at(NetClientInfo, client.info).type_
        kind = enumerator(views, NetClientInfo, "type", number, "NET_CLIENT_DRIVER_")
        view = NET_BACKENDS.get(kind)
        if view is None:
            continue
        name = views.string_or_none(client.name)
        state = views.at(view, address)
        if isinstance(state, NetVhostUserState):
            yield Peer(pair, name, kind, state.vhost_net, state.chr, state.handler)
        else:
            yield Peer(pair, name, kind, state.vhost_net)


def disconnected(views: Views, device: RawDevice) -> list[Run]:
    """Return the queue pairs of a virtio-net device whose vhost-user back-end is not there."""
    try:
        return [
            Run(GONE, peer.vhost, 2 * peer.pair, 2)
            for peer in peers(views, device.address)
            if peer.kind == "vhost-user" and not _is_open(views, peer.chr)
        ]
    except VringcoreError:
        return [Run("unknown", 0)]


def _is_open(views: Views, chardev: int) -> bool:
    return bool(chardev and views.at(Chardev, chardev).be_open)
