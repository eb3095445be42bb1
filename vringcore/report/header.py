"""The line that says which core this is, and the name of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.values import Absent
from vringcore.report.cells import clean

if TYPE_CHECKING:
    from vringcore.model.devices import Device
    from vringcore.model.report import CoreInfo, QemuInfo, Report
    from vringcore.report.cells import Footnotes
    from vringcore.report.page import Page


NO_DEVICES = "No virtio devices."


def print_header(page: Page, core: CoreInfo, qemu: QemuInfo) -> None:
    """Print core, QEMU version, machine, VM name and run state in one line."""
    notes = page.notes
    parts = [f"QEMU {notes.text(qemu.version)}", notes.text(qemu.machine_type)]
    if qemu.vm_name is not None:
        parts.append(f"VM {notes.text(qemu.vm_name)}")
    parts.append(f"run state {notes.text(qemu.run_state)}")
    if qemu.migration not in (None, "none"):
        parts.append(f"migration {notes.text(qemu.migration)}")
    if not core.complete:
        parts.append("TRUNCATED CORE")
    if core.near_match:
        parts.append("TYPES OF ANOTHER BUILD")
    page.header(f"{clean(core.path)}: {', '.join(parts)}")
    if core.complete and _lacks_ram(core.guest_ram):  # of a cut one, another note says why
        page.remark(
            f"guest RAM is {clean(core.guest_ram)} in this core, and the rings lie in guest RAM;"
            " for the next one: -machine dump-guest-core=on, and coredump_filter 0x7f if guest"
            " memory is shared or in huge pages; RAM in a file: --ram-file"
        )


def _lacks_ram(state: str) -> bool:
    """Tell whether memory is missing that rings can lie in: a ROM holds none."""
    what, _, missing = state.partition(" (missing: ")
    names = missing.removesuffix(")").split(", ")
    return (
        what == "absent"
        or what.startswith("absent ")
        or (what == "partial" and not all(name.endswith((".rom", ".bios")) for name in names))
    )


def nothing_found(report: Report) -> str:
    """Return the line that stands in the place of an empty table."""
    if not report.devices:
        return "No virtio device was found; the notes say why." if report.limits else NO_DEVICES
    return "No queue could be read; the notes say why." if report.limits else "No virtqueues."


def device_name(device: Device) -> str:
    """Return a short name by which ``--device`` finds the device: its id, or ``#3``."""
    known = isinstance(device.id, str) and device.id
    return clean(known) if known else f"#{device.index}"


def status_word(device: Device, notes: Footnotes) -> str:
    """Return what the device status says in a word or two.

    ``DRIVER_OK`` when that is all there is to say; trouble and a half-done set-up by their bits.
    """
    status = device.status
    if isinstance(status, Absent):
        word = f"status {notes.text(status)}"
    else:
        names = [clean(name) for name in status.names]
        trouble = [name for name in names if "RESET" in name or "FAILED" in name]
        served = ["DRIVER_OK"] if "DRIVER_OK" in names else names
        word = " ".join(trouble + served) or "not set up"
    return f"{word} BROKEN" if device.broken is True else word
