"""What a scenario is: a VM described by data, and an incident brought about by steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab import guest
from tests.lab.backend import BackendPlan
from tests.lab.nbd import NbdServer, ServerPlan
from tests.lab.processes import Children

if TYPE_CHECKING:
    from tests.lab.session import Session


@dataclass(frozen=True)
class Device:
    """A virtio device as its command line asks for it: what a reader of the core must find.

    `server` names the NBD server behind a disk; `queues` is the number of virtqueues where the
    command line fixes it. A device of virtio-mmio has no PCI address.
    """

    id: str
    kind: str
    pci_address: str | None
    serial: str | None = None
    iothread: str | None = None
    node: str | None = None
    queues: int | None = None
    server: str | None = None


@dataclass(frozen=True)
class Scenario:
    """One reproducible situation.

    `arguments` are QEMU's beyond the common ones; `{NAME.nbd}` stands for the socket of the NBD
    server NAME, `{NAME.vhost}` for that of the vhost-user back-end NAME and `{directory}` for the
    case's scratch directory. `script` is run by the guest's init, on the kernel of the suite
    `guest` with `kernel_arguments` besides the common ones; `programs` are C sources, by the names
    under which it finds what is built of them. `prepare` may set up more in the
    scratch directory before QEMU is started. `incident` is called once the guest has printed the
    ready line, and leaves the VM as the core shall show it. `taken_by` is "gcore", or "proc"
    (tests/lab/rawcore.py) where gcore would wait for ever. `kernel_filter` is the coredump_filter
    of the kernel's own core. `canaries` are texts by name that the
    core must hold and no output may show. `check` is handed gdb's truth and server.json, and raises
    where chance did not bring about what the case is for. `versions` are those of QEMU that can
    have it. Of a VM that is not `at_rest` what QEMU said before the core was taken binds nobody:
    requests come and go.
    """

    name: str
    summary: str
    arguments: tuple[str, ...]
    script: str
    devices: tuple[Device, ...]
    incident: Callable[[Session], None]
    servers: tuple[ServerPlan, ...] = ()
    prepare: Callable[[Path, list[NbdServer], Children], None] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    kernel_core: bool = False
    kernel_filter: int | None = None
    monitor_answers_after: bool = True
    taken_by: str = "gcore"
    canaries: dict[str, str] = field(default_factory=dict)
    backends: tuple[BackendPlan, ...] = ()
    guest: str = guest.STOCK
    kernel_arguments: str = ""
    programs: dict[str, str] = field(default_factory=dict)
    check: Callable[[Any, Any], None] | None = None
    versions: tuple[str, ...] = ("5.2", "7.2", "10.0", "10.2")
    at_rest: bool = True
