"""Disks that did their work and have nothing in flight, and a VM stopped by QMP."""

from __future__ import annotations

import time

from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session

_DISK = Device(
    id="disk0",
    kind="virtio-blk",
    pci_address="00:05.0",
    serial="IDLESERIAL",
    iothread="io0",
    node="nbd0",
    queues=2,
    server="server0",
)
_SCSI = Device(id="scsi0", kind="virtio-scsi", pci_address="00:06.0", queues=4)
_DISK_DEVICE = (
    "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=2,serial=IDLESERIAL,addr=05.0"
)

_FINISHED_WORK = """
for disk in vda sda; do
  dd if=/dev/$disk of=/dev/null bs=16k count=300 iflag=direct
  dd if=/dev/zero of=/dev/$disk bs=4k seek=9000 count=100 oflag=direct conv=fsync
done 2>/dev/null
"""


def _settle(session: Session) -> None:
    time.sleep(3)
    session.ask()


def _stop_vm(session: Session) -> None:
    session.machine.monitor.execute("stop")
    session.ask()


IDLE = Scenario(
    name="idle",
    summary="virtio-blk and virtio-scsi disks that have finished their I/O",
    arguments=(
        *Q35,
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        *nbd_node("nbd1", "server1"),
        *("-device", _DISK_DEVICE),
        *("-device", "virtio-scsi-pci,id=scsi0,num_queues=2,addr=06.0"),
        *("-device", "scsi-hd,id=sd0,bus=scsi0.0,drive=nbd1,serial=IDLESCSI"),
    ),
    script=_FINISHED_WORK + ready(),
    devices=(_DISK, _SCSI),
    servers=(MEMORY_SERVER, ServerPlan("server1", ("memory", "256M"))),
    incident=_settle,
)

PAUSED = Scenario(
    name="paused",
    summary="QMP stop while the guest was doing I/O: drained, nothing in flight",
    arguments=(*Q35, *IOTHREAD, *nbd_node("nbd0", "server0"), *("-device", _DISK_DEVICE)),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop_vm,
)
