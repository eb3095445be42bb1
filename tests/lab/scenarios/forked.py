"""A fork of QEMU (tests/lab/fork.py) with two disks; the second has nine queues and hangs."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.lab import fork, hold
from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session

QUEUES = 9

_FIRST = Device("disk0", "virtio-blk", "00:05.0", "FORKSERIAL0", None, "nbd0", 1, "server0")
_BUSY = Device("disk0", "virtio-blk", "00:05.0", "FORKSERIAL0", "io0", "nbd0", 4)
_SECOND = Device("disk1", "virtio-blk", "00:06.0", "FORKSERIAL1", "io0", "nbd1", QUEUES, "server1")


_QUEUES = f"iothread=io0,num-queues={QUEUES}"


def _names(device: Device) -> str:
    return f",id={device.id},serial={device.serial}"


def _traffic() -> str:
    """Every vCPU reads from the second disk, so that every queue is used; some write as well.

    These are fewer than the 16 requests that QEMU's NBD client has on the wire at once. The first
    disk has done its I/O before; some of its reads failed.
    """
    read = "dd if=/dev/vdb of=/dev/null bs=16k skip=$((cpu * 1000)) count=20 iflag=direct"
    write = "dd if=/dev/zero of=/dev/vdb bs=4k seek=$((cpu * 4000 + 20000)) count=20 oflag=direct"
    cpus = " ".join(map(str, range(QUEUES)))
    return f"""
dd if=/dev/vda of=/dev/null bs=16k count=100 iflag=direct conv=noerror 2>/dev/null
for cpu in {cpus}; do
  taskset -c $cpu sh -c "while :; do {read} 2>/dev/null; done" &
done
for cpu in 0 1 2 3; do
  taskset -c $cpu sh -c "while :; do {write} 2>/dev/null; done" &
done
"""


def _stop_and_migrate(session: Session) -> None:
    session.stop_server(_SECOND)
    session.ask()
    session.migrate_until_hung()


FORK_STUCK = Scenario(
    name="fork-stuck",
    summary="a fork's QEMU: nine queues, their NBD server has stopped, a migration hangs",
    arguments=(
        *Q35,
        *("-smp", str(QUEUES)),
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        *nbd_node("nbd1", "server1"),
        *("-device", "virtio-blk-pci,drive=nbd0,num-queues=1,addr=05.0" + _names(_FIRST)),
        *("-device", f"virtio-blk-pci,drive=nbd1,{_QUEUES},addr=06.0" + _names(_SECOND)),
    ),
    script=_traffic() + ready(20),
    devices=(_FIRST, _SECOND),
    servers=(
        ServerPlan("server0", ("memory", "256M", "error-pread-rate=20%"), filters=("error",)),
        ServerPlan("server1", ("memory", "256M")),
    ),
    incident=_stop_and_migrate,
    monitor_answers_after=False,
    versions=("7.2-fork",),
)


def _deadlock(session: Session) -> None:
    """Switches the fork's monitoring on; from then on main loop and I/O thread wait for ever."""
    session.ask()
    pid = session.machine.pid
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(hold.address_of(pid, fork.COLLECTING, "bBdD"))
        memory.write((1).to_bytes(4, sys.byteorder))
    session.settle()
    session.expect_silence("query-status")
    session.settle()


FORK_DEADLOCK = Scenario(
    name="fork-deadlock",
    summary="a fork's QEMU: an I/O thread holds a lock and wants the BQL, the main loop vice versa",
    arguments=(
        *Q35,
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        "-device",
        "virtio-blk-pci,drive=nbd0,iothread=io0,num-queues=4,addr=05.0" + _names(_BUSY),
    ),
    script=traffic("vda") + ready(5),
    devices=(_BUSY,),
    servers=(MEMORY_SERVER,),
    incident=_deadlock,
    monitor_answers_after=False,
    at_rest=False,
    versions=("7.2-fork", "10.0-fork"),
)
