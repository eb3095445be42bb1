"""The guest kernel's VMCOREINFO note: where it tells dump tools of its symbols and structures."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import GuestAddress
from vringcore.errors import CorruptDataError, MemoryFault, VringcoreError
from vringcore.model.values import Absent
from vringcore.qemu.absence import absence_of
from vringcore.qemu.guest_structs import VMCoreInfoState
from vringcore.qemu.guestsearch import Scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.qemu.process import Process

    Progress = Callable[[int, int], None]

_HEAD = Struct("<III")
_PLACE = Struct("<HHIQ")
"""``struct FWCfgVMCoreInfo``: host format, guest format, size, guest-physical address."""

_FORMAT_ELF = 1
_NAME = b"VMCOREINFO\0"
_BEGIN = _NAME.ljust(12, b"\0") + b"OSRELEASE="
"""How a Linux guest's note goes on behind its head of 12 bytes (kernel/crash_core.c)."""

MAX_SIZE = 1 << 20
"""Of a note, as QEMU has it (MAX_GUEST_NOTE_SIZE, dump/dump.c)."""


def vmcoreinfo_of_device(process: Process) -> bytes | Absent:
    """Return the note that the guest gave to QEMU's vmcoreinfo device, or why there is none."""
    try:
        place = next(process.objects.instances("vmcoreinfo"), None)
        if place is None:
            return Absent("no-device", None, "QEMU was started without `-device vmcoreinfo`")
        state = process.views.at(VMCoreInfoState, place)
        if not state.has_vmcoreinfo:
            return Absent("not-set-up", None, "the guest has told its vmcoreinfo device nothing")
        data = process.views.space.read(state.vmcoreinfo, _PLACE.size)
        _, kind, size, address = _PLACE.unpack(data)
        if kind != _FORMAT_ELF or not _HEAD.size < size <= MAX_SIZE:
            raise CorruptDataError(
                "the guest's vmcoreinfo is nothing that can be used",
                seen=f"format {kind}, {size} bytes",
                expected=f"format {_FORMAT_ELF}, at most {MAX_SIZE} bytes",
            )
        return _note_at(process, address)
    except VringcoreError as error:
        return absence_of(error)


def find_vmcoreinfo(process: Process, progress: Progress | None = None) -> bytes | Absent:
    """Return the note of a Linux guest that is found by its text in guest RAM.

    The kernel keeps a copy of the text alone, and its template; neither has the note's head.
    """
    scan = Scan(process, progress)
    for address in scan.find(_BEGIN):
        if address < _HEAD.size:
            continue
        try:
            return _note_at(process, address - _HEAD.size)
        except (CorruptDataError, MemoryFault):
            continue
        finally:
            if progress is not None:
                progress(scan.total, scan.total)
    return Absent("not-found", None, "no VMCOREINFO note in the guest's RAM, as far as it is there")


def _note_at(process: Process, address: int) -> bytes:
    """Return the note at a guest-physical address, whole.

    :raises CorruptDataError: if there is none
    """
    memory = process.guest_memory
    head = memory.read(GuestAddress(address), _HEAD.size)
    name_size, size, kind = _HEAD.unpack(head)
    if name_size != len(_NAME) or kind != 0 or not 0 < size <= MAX_SIZE:
        raise CorruptDataError(
            "no VMCOREINFO note",
            where=f"guest-physical {address:#x}",
            seen=f"a name of {name_size} bytes, {size} bytes, type {kind}",
        )
    length = len(head) + _round(name_size) + _round(size)
    note = memory.read(GuestAddress(address), length)
    if not note[_HEAD.size :].startswith(_NAME):
        raise CorruptDataError("no VMCOREINFO note", where=f"guest-physical {address:#x}")
    return note


def _round(size: int) -> int:
    return -(-size // 4) * 4
