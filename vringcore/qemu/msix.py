"""How virtio devices interrupt the guest: MSI-X, INTx (hw/pci/msix.c, hw/virtio/virtio-pci.c)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import VringcoreError
from vringcore.model.machine import Interrupts, MsixVector
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import attempt
from vringcore.qemu.machine import NOT_SET_UP
from vringcore.qemu.machine_structs import (
    DeviceInterrupts,
    PCIInterrupts,
    VirtIOIRQFD,
    VirtIOPCIVectors,
)
from vringcore.qemu.pci import proxy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.devices import RawDevice
    from vringcore.qemu.process import Process
    from vringcore.view.views import Views

NO_VECTOR = 0xFFFF
"""VIRTIO_MSI_NO_VECTOR (VirtIO 1.3, 4.1.5.1.2)."""

MAX_VECTORS = 2048
"""PCI 3.0, 6.8.2.3: Table Size has eleven bits."""

# PCI 3.0: Command (6.2.2), Message Control (6.8.2.3), table entry and pending bits (6.8.2.6 to .10)
COMMAND = 4
INTERRUPT_DISABLE = 1 << 10
MESSAGE_CONTROL = 2
MSIX_ENABLE = 1 << 15
ENTRY = Struct("<QII")
MASK_BIT = 1


def interrupts(
    process: Process, index: int, device: RawDevice, limits: list[Limitation]
) -> Interrupts:
    """Return how a device interrupts the guest.

    :param index: its number in the report
    :param limits: is added to: what could not be had
    """
    views = process.views
    own = views.at(DeviceInterrupts, device.address)
    isr, config_vector = attempt(lambda: own.isr), attempt(lambda: own.config_vector)
    proxy = attempt(lambda: proxy_of(views, process.objects, device.address))
    if proxy is None:
        proxy = Absent(NOT_SET_UP, None, "the device is on no bus")
    if isinstance(proxy, Absent):
        return Interrupts(index, proxy, proxy, isr, proxy, config_vector)
    if proxy.transport != "pci":
        return Interrupts(index, proxy.transport, None, isr, ())
    pci = views.at(PCIInterrupts, proxy.address)
    enabled = attempt(lambda: msix_enabled(views, pci))
    if isinstance(enabled, Absent):
        return Interrupts(index, enabled, enabled, isr, enabled, config_vector)
    if not enabled:
        return Interrupts(
            device=index,
            mode="intx",
            function_masked=None,
            isr=isr,
            vectors=(),
            line_raised=attempt(lambda: bool(pci.irq_state)),
            line_disabled=attempt(
                lambda: bool(views.integer(pci.config + COMMAND, 2) & INTERRUPT_DISABLE)
            ),
        )
    users = _users(device, config_vector, limits)
    return Interrupts(
        device=index,
        mode="msix",
        function_masked=attempt(lambda: pci.msix_function_masked),
        isr=isr,
        vectors=attempt(lambda: tuple(_vectors(views, pci, proxy.address, users))),
        config_vector=config_vector,
    )


def msix_enabled(views: Views, pci: PCIInterrupts) -> bool:
    """Tell whether the guest has switched MSI-X on (Message Control in configuration space).

    :raises MemoryFault: if that cannot be read
    """
    if not pci.msix_entries_nr or not pci.msix_cap:
        return False
    # Configuration space is little-endian on every machine.
    place = HostAddress(pci.config + pci.msix_cap + MESSAGE_CONTROL)
    return bool(int.from_bytes(views.space.read(place, 2), "little") & MSIX_ENABLE)


def _users(
    device: RawDevice, config_vector: int | Absent, limits: list[Limitation]
) -> dict[int, list[str]]:
    """Return who uses each vector: ``config``, and queues by number."""
    users: dict[int, list[str]] = {}
    if isinstance(config_vector, int) and config_vector != NO_VECTOR:
        users[config_vector] = ["config"]
    for queue in device.queues:
        try:
            vector = queue.view.vector
        except VringcoreError as error:
            what = f"the vector of queue {queue.index} of {device.type_name} is not known"
            limits.append(Limitation(what, str(error), error.hint))
            continue
        if vector != NO_VECTOR and queue.view.desc:
            users.setdefault(vector, []).append(str(queue.index))
    return users


def _vectors(
    views: Views, pci: PCIInterrupts, proxy: int, users: dict[int, list[str]]
) -> Iterator[MsixVector]:
    count = min(pci.msix_entries_nr, MAX_VECTORS)
    # Like configuration space, the table is little-endian on every machine.
    table = views.space.read(pci.msix_table, count * ENTRY.size)
    pending = views.space.read(pci.msix_pba, (count + 7) // 8)
    for vector in sorted(number for number in users if number < count):
        address, data, control = ENTRY.unpack_from(table, vector * ENTRY.size)
        yield MsixVector(
            vector=vector,
            address=Address(address),
            data=data,
            masked=bool(control & MASK_BIT),
            pending=bool(pending[vector // 8] >> vector % 8 & 1),
            used_by=tuple(users[vector]),
            irqfd_users=attempt(lambda v=vector: _irqfd_users(views, proxy, v)),  # type: ignore[misc]
        )


def _irqfd_users(views: Views, proxy: int, vector: int) -> int:
    table = views.at(VirtIOPCIVectors, proxy).vector_irqfd
    if not table:
        return 0
    size = views.binding(VirtIOIRQFD).type.size
    return views.at(VirtIOIRQFD, table + vector * size).users
