"""Where a device sits: its proxy on the transport bus, and its PCI address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.qemu.structs import BusState, DeviceState, PCIBus, PCIDevice, PXBDev

if TYPE_CHECKING:
    from vringcore.addresses import HostAddress
    from vringcore.qemu.qom import ObjectModel
    from vringcore.view.views import Views

PCI_SECONDARY_BUS = 0x19
"""Offset of the secondary bus number in a bridge's configuration space (PCI-to-PCI Bridge 3.2)."""

_TRANSPORTS = (("virtio-pci", "pci"), ("virtio-mmio", "mmio"), ("virtio-ccw-device", "ccw"))

_EXTRA_ROOT_BUSES = ("pxb-bus", "pxb-pcie-bus", "pxb-cxl-bus")


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


def pci_address(views: Views, objects: ObjectModel, proxy: int) -> str:
    """Return a PCI device's address as ``bus:slot.function`` in hexadecimal.

    The bus number is the one the guest gave the bridge above (``PCIBus.parent_dev->config``), 0 on
    the root bus, and ``bus_nr`` of its expander on an extra root bus (``pxb_bus_num()``).

    :raises MemoryFault: if the way there is not in the core
    """
    devfn = views.at(PCIDevice, proxy).devfn
    bus_address = views.at(DeviceState, proxy).parent_bus
    bridge = views.at(PCIBus, bus_address).parent_dev
    if not bridge:
        number = 0
    elif any(objects.is_a(bus_address, each) for each in _EXTRA_ROOT_BUSES):
        number = views.at(PXBDev, bridge).bus_nr
    else:
        number = views.integer(views.at(PCIDevice, bridge).config + PCI_SECONDARY_BUS, 1)
    return f"{number:02x}:{devfn >> 3 & 31:02x}.{devfn & 7}"
