"""``vringcore devices`` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.devices import Backend
from vringcore.model.values import Flags
from vringcore.report.cells import NOTHING, Footnotes, clean, flatten, hexadecimal
from vringcore.report.header import device_name, nothing_found, print_header, status_word
from vringcore.report.page import ALARM, STAND_OUT, Column, Page, column_of
from vringcore.report.vhost import vhost_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import UnsetType

    from vringcore.model.devices import Device
    from vringcore.model.report import Report
    from vringcore.model.values import Absent


def print_devices(page: Page, report: Report, *, detailed: bool) -> None:
    """Print the table of devices, or with ``detailed`` everything known of each."""
    print_header(page, report.core, report.qemu)
    devices = report.devices or ()
    if not devices:
        page.line(nothing_found(report))
    elif detailed:
        for device in devices:
            page.line()
            print_device(page, device)
    else:
        page.line()
        page.table(_columns(devices, page.notes), [_style(device) for device in devices])
    page.close(report.limits)


def print_device(page: Page, device: Device) -> None:
    """Print everything known of one device, its C members last if they were asked for."""
    style = _style(device) or "bold"
    page.line(f"{device_name(device)}  {clean(device.kind)}  (device {device.index})", style)
    page.listing(_facts(device, page.notes))
    if isinstance(device.fields, dict):
        page.line("  struct VirtIODevice")
        page.listing(flatten(device.fields, page.notes), indent=4)


def _style(device: Device) -> str:
    if device.broken is True:
        return ALARM
    if isinstance(device.status, Flags) and _trouble(device.status):
        return ALARM
    return STAND_OUT if device.ring_owner.endswith("disconnected") else ""


def _trouble(status: Flags) -> bool:
    return any("RESET" in name or "FAILED" in name for name in status.names)


def _columns(devices: Sequence[Device], notes: Footnotes) -> list[Column]:
    def column(header: str, attribute: str, rank: int) -> Column:
        return column_of(
            header, [getattr(each, attribute) for each in devices], rank, numeric=False
        )

    plain = all(each.ring_owner == "qemu" for each in devices)
    columns = [
        Column("#", [str(each.index) for each in devices], numeric=True),
        Column("id", [notes.text(each.id) for each in devices], foldable=True),
        Column("kind", [clean(each.kind) for each in devices]),
        Column("place", [_place(each, notes) for each in devices], rank=1),
        column("serial", "serial", rank=2),
        Column("queues", [_queue_count(each) for each in devices], rank=3, numeric=True),
        Column("rings", [clean(each.ring_owner) for each in devices], rank=3 if plain else 0),
        Column("status", [status_word(each, notes) for each in devices]),
        column("iothread", "iothread", rank=2),
        Column("back-end", [_names(each, notes) for each in devices]),
        Column("file", [_files(each, notes) for each in devices], rank=1, foldable=True),
        column("qom_path", "qom_path", rank=6),
    ]
    return [column for column in columns if any(cell != NOTHING for cell in column.cells)]


def _place(device: Device, notes: Footnotes) -> str:
    if device.pci_address is None:
        return clean(device.transport)
    return f"{clean(device.transport)} {notes.text(device.pci_address)}"


def _queue_count(device: Device) -> str:
    """Return the number of queues; every device has some, so none means that they are lost."""
    if not isinstance(device.queues, tuple):
        return NOTHING
    return str(len(device.queues)) if device.queues else "lost"


def _names(device: Device, notes: Footnotes) -> str:
    """Return node and driver of the device's back-end, or of the disks' behind it, one a line."""
    if not device.disks:
        return _name(device.backend, notes)
    return "\n".join(f"{clean(disk.unit)} {_name(disk.backend, notes)}" for disk in device.disks)


def _name(backend: Backend | Absent | UnsetType | None, notes: Footnotes) -> str:
    if not isinstance(backend, Backend):
        return notes.text(backend)
    parts = [notes.text(part) for part in (backend.node, backend.driver) if part not in (None, "")]
    return " ".join(parts) or notes.text(backend.name)


def _files(device: Device, notes: Footnotes) -> str:
    backends = [disk.backend for disk in device.disks] if device.disks else [device.backend]
    return "\n".join(
        notes.text(each.file) if isinstance(each, Backend) else NOTHING for each in backends
    )


def _facts(device: Device, notes: Footnotes) -> list[tuple[str, str]]:
    facts = [
        ("qom_path", notes.text(device.qom_path)),
        ("type", f"{clean(device.type_name)} (device id {notes.text(device.device_id)})"),
        ("address", hexadecimal(device.address)),
        ("transport", _place(device, notes)),
        ("serial", notes.text(device.serial)),
        ("status", notes.text(device.status)),
        ("broken", notes.text(device.broken)),
        ("vm_running", notes.text(device.vm_running)),
        ("rings moved by", clean(device.ring_owner)),
        ("iothread", notes.text(device.iothread)),
    ]
    if device.queue_iothreads:
        facts.append(("iothread per queue", " ".join(map(notes.text, device.queue_iothreads))))
    if device.backend is not None or not device.disks:
        facts += _backend_facts(device.backend, notes)
    for disk in device.disks or ():
        name = f"{notes.text(disk.id)}, serial {notes.text(disk.serial)}"
        facts.append((f"disk {clean(disk.unit)}", name))
        facts += _backend_facts(disk.backend, notes)
    if isinstance(device.vhost, tuple):
        for vhost in device.vhost:
            facts += vhost_facts(vhost, notes)
    facts += [
        ("host_features", notes.text(device.host_features)),
        ("guest_features", notes.text(device.guest_features)),
        ("found by", ", ".join(map(clean, device.found_by)) or "-"),
    ]
    if device.unknown_members:
        facts.append(("members no upstream QEMU has", _listed(device.unknown_members)))
    if isinstance(device.queues, tuple):
        roles = ", ".join(f"{queue.index} {clean(queue.role)}" for queue in device.queues)
        facts.append(("queues", roles or "none"))
    return facts


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(clean, names))


def _backend_facts(
    backend: Backend | Absent | UnsetType | None, notes: Footnotes
) -> list[tuple[str, str]]:
    if not isinstance(backend, Backend):
        return [("back-end", notes.text(backend))]
    facts = [
        ("back-end", f"{notes.text(backend.name)} at {hexadecimal(backend.address)}".lstrip()),
        ("  node", notes.text(backend.node)),
        ("  driver", notes.text(backend.driver)),
        ("  file", notes.text(backend.file)),
        ("  in_flight", notes.text(backend.in_flight)),
        ("  quiesce_counter", notes.text(backend.quiesce_counter)),
        ("  io_status", notes.text(backend.io_status)),
    ]
    if backend.unknown_members:
        facts.append(("  members no upstream QEMU has", _listed(backend.unknown_members)))
    return facts
