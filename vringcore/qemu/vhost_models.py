"""What QEMU knows of a device's vhost back-end, as the model has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from vringcore.errors import CorruptDataError
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address, Flags
from vringcore.model.vhost import Chardev, InflightRegion, ShadowQueue, Vhost, VhostQueue
from vringcore.qemu import vhost_structs as structs
from vringcore.qemu.absence import attempt
from vringcore.qemu.enums import enumerator
from vringcore.qemu.vhost import BACKENDS
from vringcore.qemu.virtqueues import VIRTIO_QUEUE_MAX
from vringcore.virtio import features
from vringcore.virtio.constants import bit_names
from vringcore.virtio.vhost_user import PROTOCOL_FEATURES, VHOST_FEATURES, VHOST_USER_FEATURES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.qom import ObjectModel
    from vringcore.qemu.vhost import Run
    from vringcore.view.views import Views

NO_STRUCTURE = Absent("not-reachable", None, "the structure of this device type is not known")


class Place(msgspec.Struct, frozen=True):
    """A ``vhost_dev`` and what its device's own structure says beside it.

    ``chr`` and ``handler`` are 0 where there is no character device, ``inflight`` is the address
    of a ``vhost_inflight`` or 0. Absent: not known for this device type.
    """

    dev: int
    netdev: str | Absent | None = None
    chr: int | Absent = 0
    handler: int | Absent = 0
    inflight: int | Absent = 0


def places(views: Views, objects: ObjectModel, device: RawDevice, runs: list[Run]) -> list[Place]:
    """Return the vhost devices of a device, those that are not started among them.

    :raises VringcoreError: as :func:`own_places`
    """
    found = own_places(views, objects, device)
    known = {place.dev for place in found}
    found += [
        Place(run.address, None, NO_STRUCTURE, NO_STRUCTURE, NO_STRUCTURE)
        for run in runs
        if run.address and run.address not in known
    ]
    return found


def own_places(views: Views, objects: ObjectModel, device: RawDevice) -> list[Place]:
    """Return the vhost devices that a device's own structure has; empty if its type has none.

    :raises VringcoreError: if it cannot be read
    """
    if objects.is_a(device.address, "virtio-net-device"):
        from vringcore.qemu.vhost_net import peers

        return [
            Place(views.at(structs.VhostNet, each.vhost).dev, each.name, each.chr, each.handler)
            for each in peers(views, device.address)
            if each.vhost
        ]
    for name, view in structs.DEVICES.items():
        if objects.is_a(device.address, name):
            return [_place(views.at(view, device.address))]
    return []


def _place(own: structs.VHostDevice) -> Place:
    return Place(
        own.dev,
        chr=attempt(lambda: own.chr or 0),
        handler=attempt(lambda: own.handler or 0),
        inflight=attempt(lambda: own.inflight or 0),
    )


def vhost_models(
    views: Views,
    objects: ObjectModel,
    device: RawDevice,
    runs: list[Run],
    limits: list[Limitation],
) -> tuple[Vhost, ...]:
    """Return what QEMU knows of a device's vhost back-ends; empty for a device without."""
    found = attempt(lambda: places(views, objects, device, runs))
    if isinstance(found, Absent):
        limits.append(Limitation(f"the vhost back-end of {device.type_name}", found.describe()))
        return ()
    return tuple(_model(views, objects, device, place) for place in found)


def _model(views: Views, objects: ObjectModel, device: RawDevice, place: Place) -> Vhost:
    dev = views.at(structs.VHostDev, place.dev)
    number = attempt(lambda: _backend_type(views, dev))
    # A back-end in another process has a feature bit of its own; one that is gone has none.
    own = VHOST_USER_FEATURES if number == 2 else VHOST_FEATURES
    device_id = device.device_id

    def named(word: int) -> Flags:
        known = features.RESERVED_FEATURES | features.DEVICE_FEATURES.get(device_id, {}) | own
        return Flags(Address(word), bit_names(word, known))

    shadow: tuple[ShadowQueue, ...] | Absent = ()
    if number == 3:
        from vringcore.qemu.shadow import shadow_queues

        shadow = attempt(lambda: shadow_queues(views, dev))
    return Vhost(
        address=Address(place.dev),
        backend=number if isinstance(number, Absent) else BACKENDS.get(number),
        started=attempt(lambda: dev.started),
        vq_index=attempt(lambda: dev.vq_index),
        nvqs=attempt(lambda: dev.nvqs),
        features=attempt(lambda: named(dev.features)),
        acked_features=attempt(lambda: named(dev.acked_features)),
        protocol_features=attempt(
            lambda: Flags(
                Address(dev.protocol_features),
                bit_names(dev.protocol_features, PROTOCOL_FEATURES),
            )
        ),
        log_enabled=attempt(lambda: dev.log_enabled),
        netdev=place.netdev,
        chardev=_chardev(views, objects, place),
        inflight=inflight_region(views, place.inflight),
        queues=attempt(lambda: _queues(views, device, dev)),
        shadow=shadow,
    )


def _backend_type(views: Views, dev: structs.VHostDev) -> int:
    return views.at(structs.VHostOps, dev.vhost_ops).backend_type if dev.vhost_ops else 0


def _queues(views: Views, device: RawDevice, dev: structs.VHostDev) -> tuple[VhostQueue, ...]:
    count = dev.nvqs if dev.vqs else 0
    if count > VIRTIO_QUEUE_MAX:
        raise CorruptDataError(
            "a vhost device with an impossible number of queues",
            where=f"vhost_dev.nvqs at {dev.address_:#x}",
            seen=str(count),
            expected=f"at most {VIRTIO_QUEUE_MAX}",
        )
    size = views.binding(structs.VHostVirtQueue).type.size
    queues = {queue.index: queue.view.address_ for queue in device.queues}
    return tuple(
        _queue(views, dev.vq_index + number, dev.vqs + number * size, queues)
        for number in range(count)
    )


def _queue(views: Views, index: int, address: int, queues: Mapping[int, int]) -> VhostQueue:
    own = views.at(structs.VHostVirtQueue, address)
    if index not in queues:
        lost = Absent("no-such-queue", None, "the device has no queue of this index")
        return VhostQueue(index, Address(address), attempt(lambda: own.num), lost, lost, _fd(own))
    files = views.at(structs.Notifiers, queues[index])
    return VhostQueue(
        index=index,
        address=Address(address),
        num=attempt(lambda: own.num),
        kick_fd=attempt(lambda: files.kick_fd),
        call_fd=attempt(lambda: files.call_fd),
        masked_fd=_fd(own),
    )


def _fd(queue: structs.VHostVirtQueue) -> int | Absent:
    return attempt(lambda: queue.masked_fd)


def inflight_region(views: Views, address: int | Absent) -> InflightRegion | Absent | None:
    """Return where a back-end notes its requests; None if it does not, or has none yet.

    :param address: of a ``vhost_inflight``, 0 where there is none
    """
    if isinstance(address, Absent):
        return address
    if not address:
        return None
    raw = views.at(structs.VHostInflight, address)
    region = attempt(
        lambda: InflightRegion(Address(raw.addr), raw.size, raw.offset, raw.fd, raw.queue_size)
    )
    return None if isinstance(region, InflightRegion) and not region.address else region


def _chardev(views: Views, objects: ObjectModel, place: Place) -> Chardev | Absent | None:
    if isinstance(place.chr, Absent):
        return place.chr
    if not place.chr:
        return None
    address = place.chr
    own = views.at(structs.Chardev, address)
    plain = Chardev(
        label=attempt(lambda: views.string_or_none(own.label)),
        address=Address(address),
        file=attempt(lambda: views.string_or_none(own.filename)),
        connected=attempt(lambda: bool(own.be_open)),
        state=None,
        reconnect_ms=None,
        reconnect_armed=None,
        handler=_handler(views, place.handler),
    )
    is_socket = attempt(lambda: objects.is_a(address, "chardev-socket"))
    if is_socket is False:
        return plain
    if isinstance(is_socket, Absent):
        return replace(plain, state=is_socket, reconnect_ms=is_socket, reconnect_armed=is_socket)
    socket = views.at(structs.SocketChardev, address)
    return replace(
        plain,
        state=attempt(
            lambda: enumerator(
                views, structs.SocketChardev, "state", socket.state, "TCP_CHARDEV_STATE_"
            )
        ),
        reconnect_ms=attempt(lambda: _reconnect(socket)),
        reconnect_armed=attempt(lambda: bool(socket.reconnect_timer)),
    )


def _reconnect(socket: structs.SocketChardev) -> int:
    if socket.reconnect_time_ms is not None:
        return socket.reconnect_time_ms
    return 1000 * (socket.reconnect_time or 0)


def _handler(views: Views, address: int | Absent) -> str | Absent | None:
    if isinstance(address, Absent):
        return address
    if not address:
        return None
    symbol = views.symbols.lookup(address)
    return f"{address:#x}" if symbol is None else symbol[0]
