"""Requests taken late: after a drain had begun, or several at once, which QEMU merges."""

from __future__ import annotations

import time
from typing import Any

from tests.lab.hold import HeldThread, thread_named
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session

_DISK = Device("disk0", "virtio-blk", "00:05.0", "LATESERIAL", "io0", "nbd0", 4, "server0")
_DEVICE = "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=4,serial=LATESERIAL,addr=05.0"

_SNAPSHOT: dict[str, Any] = {
    "node-name": "nbd0",
    "snapshot-node-name": "snapshot0",
    "snapshot-file": "/dev/null",  # Never opened: the drain comes first.
}

# One more reader every two seconds, each where the one before it ended, so that there are new
# requests after the server has stopped; and an end, so that core and server show one moment.
_READ = "dd if=/dev/vda of=/dev/null bs=8k skip=$((8000 + late)) count=1 iflag=direct 2>/dev/null"
_LATE_READERS = f"""
late=0
while [ $late -lt 8 ] && sleep 2; do
  late=$((late + 1))
  taskset -c 0 {_READ} &
done &
"""


def _hold_iothread(session: Session) -> HeldThread:
    pid = session.machine.pid
    return HeldThread(pid, thread_named(pid, "IO io0"), "virtio_blk_handle_output")


def _drain(session: Session) -> None:
    """Drains while the iothread is between the guest's kick and taking the request.

    The drain cannot end, for the server has stopped; the request that the iothread then takes has
    to wait for its end.
    """
    session.stop_server(_DISK)
    session.ask()
    held = _hold_iothread(session)
    session.expect_silence("blockdev-snapshot-sync", **_SNAPSHOT)
    held.release()
    session.settle()


def _merge(session: Session) -> None:
    """Lets adjacent reads gather in a queue before the iothread takes them all at once."""
    session.stop_server(_DISK)
    held = _hold_iothread(session)
    time.sleep(7)
    held.release()
    session.settle()
    session.ask()


_ARGUMENTS = (
    *Q35,
    *("-name", "late,debug-threads=on"),
    *IOTHREAD,
    *nbd_node("nbd0", "server0"),
    *("-device", _DEVICE),
)

DRAIN_QUEUE = Scenario(
    name="drain-queue",
    summary="a drain that cannot end, and a request that came after its beginning",
    arguments=_ARGUMENTS,
    script=traffic("vda") + _LATE_READERS + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_drain,
    monitor_answers_after=False,
)

MERGED = Scenario(
    name="merged",
    summary="several adjacent reads that QEMU sent to the server as one",
    arguments=_ARGUMENTS,
    script=traffic("vda") + _LATE_READERS + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_merge,
)
