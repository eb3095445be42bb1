"""Guest RAM that coredump_filter leaves out by default: shared files, shared huge pages.

Of each, the core by gcore is taken with the default filter, the kernel's with every bit set.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.nbd import NbdServer
from tests.lab.processes import Children
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, nbd_node, ready, traffic
from tests.lab.session import Session

EVERY_BIT = 0x7F
_HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
_PAGES = 140
"""Of 2 MiB: 256 MiB of RAM and some to spare."""

_DISK = Device(
    id="disk0",
    kind="virtio-blk",
    pci_address="00:05.0",
    serial="LABSERIAL0",
    iothread="io0",
    node="nbd0",
    queues=4,
    server="server0",
)


def _arguments(memory: str) -> tuple[str, ...]:
    return (
        *("-machine", "q35,memory-backend=ram0", "-m", "256"),
        *("-object", f"{memory},id=ram0,size=256M,share=on"),
        *("-name", "lab-vm,debug-threads=on"),
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        *(
            "-device",
            "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=4,serial=LABSERIAL0,addr=05.0",
        ),
    )


def _stop(session: Session) -> None:
    session.stop_server(_DISK)
    session.ask()


def _reserve(directory: Path, servers: list[NbdServer], children: Children) -> None:
    """Let the system set huge pages aside; those in use stay when fewer are asked for later."""
    if int(_HUGE_PAGES.read_text()) < _PAGES:
        _HUGE_PAGES.write_text(str(_PAGES))
    if int(_HUGE_PAGES.read_text()) < _PAGES:
        raise RuntimeError(f"the system has no {_PAGES} huge pages to spare")


SHARED_RAM = Scenario(
    name="shared-ram",
    summary="as stuck, RAM in a shared file (memory-backend-file): not in a core by default",
    arguments=_arguments("memory-backend-file,mem-path={directory}/ram"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    kernel_core=True,
    kernel_filter=EVERY_BIT,
    versions=("7.2",),
)

HUGE_RAM = Scenario(
    name="huge-ram",
    summary="as stuck, RAM in shared huge pages (memory-backend-memfd): not in a core by default",
    arguments=_arguments("memory-backend-memfd,hugetlb=on,hugetlbsize=2M"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    prepare=_reserve,
    incident=_stop,
    kernel_core=True,
    kernel_filter=EVERY_BIT,
    versions=("7.2",),
)
