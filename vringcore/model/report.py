"""The documents that the verbs print as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.values import Absent, Hex

if TYPE_CHECKING:  # a report rarely holds them all, and each costs time to import
    from vringcore.model.block import BlockState
    from vringcore.model.coroutines import Coroutine
    from vringcore.model.devices import Device
    from vringcore.model.findings import Finding, Verdict, WaitGraph
    from vringcore.model.locks import Lock
    from vringcore.model.loops import EventLoop
    from vringcore.model.machine import Machine
    from vringcore.model.queues import Queue
    from vringcore.model.rings import Chain, PackedRing, SplitRing
    from vringcore.model.threads import Thread


class Tool(msgspec.Struct, frozen=True):
    """Who made the document."""

    name: str
    version: str


class Module(msgspec.Struct, frozen=True, omit_defaults=True):
    """An ELF file that was mapped in the process."""

    path: str
    address: Hex
    build_id: str = ""
    file: str = ""
    """The file it is read from on this machine; empty if none was found."""


class CoreInfo(msgspec.Struct, frozen=True):
    """The core file itself.

    ``kind`` is ``gcore``, ``kernel``, ``slim`` or ``unknown``. ``complete`` is False for a
    truncated file. ``near_match`` says whose types were used, if not this build's own.
    ``captured_at`` is an ISO 8601 time in UTC, where something tells: ``captured_at_source`` says
    what, such as the file's name or the core's own note; "" where the time is absent.
    """

    path: str
    size: int
    kind: str
    machine: str
    build_id: str
    captured_at: str | Absent
    complete: bool
    guest_ram: str
    threads: int | Absent
    modules: tuple[Module, ...]
    near_match: str | UnsetType = UNSET
    captured_at_source: str = ""


class QemuInfo(msgspec.Struct, frozen=True):
    """The QEMU process. ``command_line`` has its secrets replaced by ``<redacted>``."""

    version: str | Absent
    machine_type: str | Absent
    command_line: tuple[str, ...] | Absent
    pid: int | Absent
    vm_name: str | Absent | None
    vm_uuid: str | Absent | None
    run_state: str | Absent
    migration: str | Absent | None


class Limitation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that was not done or not found, and why: partial truth, said aloud."""

    what: str
    why: str
    hint: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/report/1``: one core. A key that is missing was not asked for.

    ``signature`` is the same for cores with the same cause, "" if nothing is wrong. ``findings``
    are in the order of their weight: the first decides the verdict.
    """

    schema: str = "vringcore/report/1"
    tool: Tool
    core: CoreInfo
    qemu: QemuInfo
    devices: tuple[Device, ...] | UnsetType = UNSET
    threads: tuple[Thread, ...] | UnsetType = UNSET
    coroutines: tuple[Coroutine, ...] | UnsetType = UNSET
    idle_coroutines: int | UnsetType = UNSET
    """Of those found: they have ended, and wait to be used again."""
    block: BlockState | UnsetType = UNSET
    event_loops: tuple[EventLoop, ...] | UnsetType = UNSET
    locks: tuple[Lock, ...] | UnsetType = UNSET
    machine: Machine | UnsetType = UNSET
    verdict: Verdict | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    findings: tuple[Finding, ...] | UnsetType = UNSET
    wait_for: WaitGraph | UnsetType = UNSET
    limits: tuple[Limitation, ...] = ()


class RingDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/ring/1``: one queue's ring.

    A split ring is ``split``, a packed one ``packed``; the other is left out. Both are there, and
    absent, where nobody can tell which it is. ``chains`` are the descriptor chains of the heads the
    driver has published and the device has not taken, and of those in flight.
    """

    schema: str = "vringcore/ring/1"
    tool: Tool
    device_id: str | Absent | None
    qom_path: str | Absent
    queue: Queue
    split: SplitRing | Absent | UnsetType = UNSET
    packed: PackedRing | Absent | UnsetType = UNSET
    chains: tuple[Chain, ...]
    limits: tuple[Limitation, ...] = ()
