"""Virtio devices as the model has them: everything above, below and beside a VirtIODevice."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.model.devices import Device, Disk
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address, Flags
from vringcore.qemu.absence import attempt
from vringcore.qemu.discovery import Found, find_virtio_devices
from vringcore.qemu.pci import Proxy, pci_address, proxy_of
from vringcore.qemu.structs import DeviceState, VirtIODevice, VirtQueue
from vringcore.qemu.upstream import unknown_members
from vringcore.qemu.vhost import Vhost
from vringcore.qemu.virtqueues import RawQueue, RingRules, read_queues
from vringcore.virtio.constants import status_names
from vringcore.virtio.features import (
    EVENT_IDX,
    IN_ORDER,
    RING_PACKED,
    VERSION_1,
    feature_names,
    has_feature,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.qemu import kinds
    from vringcore.qemu.block import BlockLayer
    from vringcore.qemu.qom import ObjectModel
    from vringcore.view.views import Views

DEVICE_ENDIAN_BIG = 2
"""``VIRTIO_DEVICE_ENDIAN_BIG`` (include/hw/virtio/virtio.h)."""


class RawDevice:
    """A VirtIODevice with what was worked out about it; queues are read when first asked for.

    :ivar limits: what could not be had of its queues
    :ivar complete: whether all of its queues were found; known once they were asked for
    """

    def __init__(self, views: Views, objects: ObjectModel, found: Found) -> None:
        self._views = views
        self.address = HostAddress(found.address)
        self.ways = found.ways
        self.view = views.at(VirtIODevice, found.address)
        self.type_name = objects.type_name(found.address) or "virtio-device"
        self.limits: list[Limitation] = []
        self._queues: list[RawQueue] | None = None
        self.complete = True

    @property
    def queues(self) -> list[RawQueue]:
        """The queues that exist."""
        if self._queues is None:
            self._queues, limits = self._read_queues()
            self.complete = not limits
            self.limits += limits
        return self._queues

    def _read_queues(self) -> tuple[list[RawQueue], list[Limitation]]:
        vq = attempt(lambda: self.view.vq)
        if isinstance(vq, Absent):
            return [], [Limitation(f"the queues of {self.type_name} are not shown", vq.describe())]
        if not vq:
            why = "its vq is NULL: it is not realized yet, or being removed"
            return [], [Limitation(f"{self.type_name} has no queues", why)]
        return read_queues(self._views, vq, self.address)

    @property
    def queue_count(self) -> int | None:
        """The number of queues, None if some of them may not have been found."""
        count = len(self.queues)
        return count if self.complete else None

    def features(self, side: str) -> int:
        """Return a feature word with all the bits this QEMU keeps.

        :param side: ``guest`` (negotiated) or ``host`` (offered)
        """
        view = self.view
        if side == "guest":
            word, wide = view.guest_features, view.guest_features_ex
        else:
            word, wide = view.host_features, view.host_features_ex
        if wide is None:
            return word
        # Since 10.2: X_ex[2] shares its first 64 bits with X.
        return word | self._views.integer(wide + 8, 8) << 64

    @cached_property
    def device_id(self) -> int:
        """The VirtIO device id, 0 if it cannot be read."""
        value = attempt(lambda: self.view.device_id)
        return 0 if isinstance(value, Absent) else value

    @cached_property
    def guest_features(self) -> int | Absent:
        """The negotiated features."""
        return attempt(lambda: self.features("guest"))

    @cached_property
    def ring_rules(self) -> RingRules | Absent:
        """What the negotiated features say of the device's rings."""
        features = self.guest_features
        if isinstance(features, Absent):
            return features
        big = False
        if not has_feature(features, VERSION_1):
            # virtio_access_is_big_endian(): with VERSION_1 everything is little-endian.
            endian = attempt(lambda: self.view.device_endian)
            if isinstance(endian, Absent):
                return endian
            big = endian == DEVICE_ENDIAN_BIG
        return RingRules(
            packed=has_feature(features, RING_PACKED),
            event_idx=has_feature(features, EVENT_IDX),
            big_endian=big,
            in_order=has_feature(features, IN_ORDER),
        )


class Devices:
    """All virtio devices of a process.

    :param block: gives the block layer, which is needed for their back-ends alone
    """

    def __init__(self, views: Views, objects: ObjectModel, block: Callable[[], BlockLayer]) -> None:
        self._views = views
        self._objects = objects
        self._block = block
        found, self.limits = find_virtio_devices(views, objects)
        self.raw = [RawDevice(views, objects, each) for each in found]
        self.vhost = Vhost(views)
        if self.vhost.error is not None:
            self.limits.append(
                Limitation("whether vhost runs a ring is not known", str(self.vhost.error))
            )

    def model(self, index: int, *, own: bool, fields: bool, limits: list[Limitation]) -> Device:
        """Return the model of a device, without its queues.

        :param own: include what its type's own structure says: serial, I/O threads, back-ends
        :param fields: include the whole VirtIODevice
        :param limits: is added to: what could not be had of it
        """
        raw = self.raw[index]
        views, objects = self._views, self._objects
        proxy = attempt(lambda: proxy_of(views, objects, raw.address))
        _ = raw.queues  # what cannot be read of them is among the device's limits
        limits += raw.limits
        device = Device(
            index=index,
            id=self._id(raw.address, proxy),
            kind=kind_of(objects.ancestry(raw.address) or (raw.type_name,)),
            type_name=raw.type_name,
            qom_path=attempt(lambda: objects.path(raw.address)),
            address=Address(raw.address),
            transport=proxy.transport if isinstance(proxy, Proxy) else "unknown",
            pci_address=self._pci_address(proxy),
            device_id=attempt(lambda: raw.view.device_id),
            status=attempt(lambda: _status(raw.view.status)),
            host_features=attempt(lambda: _features(raw, "host")),
            guest_features=attempt(lambda: _features(raw, "guest")),
            broken=attempt(lambda: raw.view.broken),
            vm_running=attempt(lambda: raw.view.vm_running),
            ring_owner=self.vhost.owner(raw),
            found_by=raw.ways,
            unknown_members=self._unknown(VirtIODevice.c_type),
        )
        if own:
            device = self._with_own(device, raw, limits)
        if fields:
            type_ = views.layouts.named(VirtIODevice.c_type)
            whole = attempt(lambda: views.value(type_, raw.address).read())
            device = msgspec.structs.replace(device, fields=whole)
        return device

    def name(self, index: int) -> str:
        """Return what reports call a device: its id, or ``#3`` where it has or shows none."""
        address = self.raw[index].address
        proxy = attempt(lambda: proxy_of(self._views, self._objects, address))
        known = self._id(address, proxy)
        return known if isinstance(known, str) and known else f"#{index}"

    def _with_own(self, device: Device, raw: RawDevice, limits: list[Limitation]) -> Device:
        from vringcore.qemu import kinds

        own = attempt(lambda: kinds.own_facts(self._views, self._objects, raw.address, raw.queues))
        if isinstance(own, Absent):
            limits.append(
                Limitation(f"{raw.type_name}'s own structure is not shown", own.describe())
            )
            own = kinds.Own()
        limits += own.limits
        disks = tuple(self._disk(disk) for disk in own.disks)
        single = disks[0] if len(disks) == 1 and not own.disks[0].unit else None
        device = self._with_vhost(device, raw, limits)
        return msgspec.structs.replace(
            device,
            serial=single.serial if single else None,
            iothread=own.iothread,
            queue_iothreads=own.queue_iothreads,
            backend=single.backend if single else None,
            disks=disks if not single else (),
            unknown_members=device.unknown_members + self._unknown_of_own(own),
        )

    def _with_vhost(self, device: Device, raw: RawDevice, limits: list[Limitation]) -> Device:
        """Add what QEMU knows of the device's vhost back-end, if it has one."""
        runs = self.vhost.runs(raw)
        if not (runs or self.vhost.idle or raw.type_name.startswith("vhost")):
            return device
        from vringcore.qemu.vhost_models import vhost_models

        found = vhost_models(self._views, self._objects, raw, runs, limits)
        return msgspec.structs.replace(device, vhost=found) if found else device

    def unknown_queue_members(self) -> tuple[str, ...]:
        """Return the members of VirtQueue that no upstream QEMU has."""
        return self._unknown(VirtQueue.c_type)

    def _unknown_of_own(self, own: kinds.Own) -> tuple[str, ...]:
        """Return what the device's own structure adds: ``VirtIOBlock.conf.conf.retry_interval``."""
        name = own.c_type.removeprefix("struct ")
        return tuple(f"{name}.{member}" for member in self._unknown(own.c_type))

    def _unknown(self, c_type: str) -> tuple[str, ...]:
        return unknown_members(self._views.layouts, c_type)

    def _disk(self, disk: kinds.Disk) -> Disk:
        blk = disk.blk
        return Disk(
            unit=disk.unit,
            id=disk.id,
            serial=disk.serial,
            backend=blk
            if isinstance(blk, Absent)
            else (attempt(lambda: self._block().backend_of(blk)) if blk else None),
        )

    def _id(self, device: HostAddress, proxy: Proxy | Absent | None) -> str | Absent | None:
        """Return the user's id: on the device itself (virtio-mmio), else on its proxy."""
        own = attempt(lambda: self._id_at(device))
        if isinstance(own, str):
            return own
        if isinstance(proxy, Proxy):
            its = attempt(lambda: self._id_at(proxy.address))
            return own if its is None else its
        return own if proxy is None else proxy

    def _id_at(self, device: int) -> str | None:
        return self._views.string_or_none(self._views.at(DeviceState, device).id_)

    def _pci_address(self, proxy: Proxy | Absent | None) -> str | Absent | None:
        if isinstance(proxy, Absent):
            return proxy
        if proxy is None or proxy.transport != "pci":
            return None
        return attempt(lambda: pci_address(self._views, self._objects, proxy.address))


def kind_of(ancestry: tuple[str, ...]) -> str:
    """Return a device type's name in words: ``virtio-blk-device`` is ``virtio-blk``.

    Keyboards, mice and tablets are all ``virtio-input``.

    :param ancestry: QOM type names, the device's own first
    """
    name = "virtio-input" if "virtio-input-device" in ancestry else ancestry[0]
    return name.removesuffix("-device")


def _status(value: int) -> Flags:
    return Flags(Address(value), status_names(value))


def _features(raw: RawDevice, side: str) -> Flags:
    word = raw.features(side)
    return Flags(Address(word), feature_names(raw.device_id, word))
