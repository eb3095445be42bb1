"""Where a device sits: its proxy on the transport bus, and its PCI address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.model.values import Absent
from vringcore.qemu.structs import BusState, DeviceState, PCIBus, PCIDevice

if TYPE_CHECKING:
    from vringcore.addresses import HostAddress
    from vringcore.qemu.qom import ObjectModel
    from vringcore.view.views import Views

PCI_SECONDARY_BUS = 0x19
"""Offset of the secondary bus number in a bridge's configuration space (PCI-to-PCI Bridge 3.2)."""

_TRANSPORTS = (("virtio-pci", "pci"), ("virtio-mmio", "mmio"), ("virtio-ccw-device", "ccw"))


class Proxy(msgspec.Struct, frozen=True):
    """The device that carries a virtio device on its transport."""

    address: int
    transport: str


def proxy_of(views: Views, objects: ObjectModel, device: HostAddress) -> Proxy | None:
    """Return the proxy of a VirtIODevice: the parent of the bus it sits on.

    :raises MemoryFault: if the way there is not in the core
    """
    bus = views.at(DeviceState, device).parent_bus
    parent = views.at(BusState, bus).parent if bus else 0
    if not parent:
        return None
    for type_name, transport in _TRANSPORTS:
        if objects.is_a(parent, type_name):
            return Proxy(int(parent), transport)
    return Proxy(int(parent), "unknown")


def pci_address(views: Views, objects: ObjectModel, proxy: int) -> str | Absent:
    """Return a PCI device's address as ``bus:slot.function`` in hexadecimal.

    The bus number is the one the guest gave the bridge above (``PCIBus.parent_dev->config``), 0 on
    the root bus.

    :raises MemoryFault: if the way there is not in the core
    """
    devfn = views.at(PCIDevice, proxy).devfn
    bus_address = views.at(DeviceState, proxy).parent_bus
    bridge = views.at(PCIBus, bus_address).parent_dev
    if bridge:
        number = views.integer(views.at(PCIDevice, bridge).config + PCI_SECONDARY_BUS, 1)
    elif (objects.type_name(bus_address) or "").startswith("pxb-"):
        return Absent(
            "extra-root-bus", None, "the number of a pxb root bus is kept in its host bridge"
        )
    else:
        number = 0
    return f"{number:02x}:{devfn >> 3 & 31:02x}.{devfn & 7}"
