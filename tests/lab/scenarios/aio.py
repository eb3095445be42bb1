"""Requests stuck in the host's kernel: a file on a FUSE file system whose server has stopped.

With aio=threads the workers sleep uninterruptibly and no core can be taken of them, so only
linux-aio and io_uring are here.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.lab import qmp_facts
from tests.lab.machine import GuestError
from tests.lab.nbd import NbdServer
from tests.lab.processes import Children
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, ready, traffic
from tests.lab.session import Session


def mount_fuse(directory: Path, servers: list[NbdServer], children: Children) -> None:
    if not Path("/dev/fuse").exists():
        raise GuestError("no /dev/fuse here: FUSE is needed")
    point = directory / "fuse"
    point.mkdir()
    command = ["nbdfuse", str(point), "--unix", str(servers[0].socket_path)]
    children.start(command, directory / "nbdfuse.out")
    children.on_exit(["umount", "-l", str(point)])
    deadline = time.monotonic() + 20
    while not (point / "nbd").exists():
        if time.monotonic() > deadline:
            raise GuestError(f"nbdfuse: {(directory / 'nbdfuse.out').read_text()}")
        time.sleep(0.1)


def _freeze(session: Session) -> None:
    session.servers["server0"].stop()
    session.wait_until(
        lambda: all(qmp_facts.in_use(session.machine.monitor, "disk0").values()),
        "every queue has a request in flight",
    )
    time.sleep(2)
    session.ask()


def _scenario(engine: str) -> Scenario:
    serial = f"AIO{engine.upper()}"
    file_options = f"cache.direct=on,aio={engine}"
    return Scenario(
        name=f"stuck-{engine.replace('_', '-')}",
        summary=f"aio={engine} on a host file whose I/O never ends",
        arguments=(
            *Q35,
            *IOTHREAD,
            "-blockdev",
            f"driver=file,node-name=file0,filename={{directory}}/fuse/nbd,{file_options}",
            *("-blockdev", "driver=raw,node-name=raw0,file=file0,cache.direct=on"),
            "-device",
            f"virtio-blk-pci,id=disk0,drive=raw0,iothread=io0,num-queues=4,serial={serial},addr=5",
        ),
        script=traffic("vda") + ready(5),
        devices=(Device("disk0", "virtio-blk", "00:05.0", serial, "io0", "raw0", 4),),
        servers=(MEMORY_SERVER,),
        prepare=mount_fuse,
        incident=_freeze,
    )


STUCK_NATIVE = _scenario("native")
STUCK_IO_URING = _scenario("io_uring")
