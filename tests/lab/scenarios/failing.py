"""Requests that wait inside QEMU: for a throttle group, or for an error to be resolved."""

from __future__ import annotations

import time

from tests.lab.nbd import ServerPlan
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session

_THROTTLED = Device("disk0", "virtio-blk", "00:05.0", "SLOWSERIAL", "io0", "slow0", 4, "server0")
_FAILING = Device("disk0", "virtio-blk", "00:05.0", "FAILSERIAL", "io0", "nbd0", 4, "server0")
_FAILING_DEVICE = (
    "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=4,serial=FAILSERIAL,addr=05.0"
)


def _throttle(session: Session) -> None:
    session.machine.monitor.execute(
        "qom-set", path="/objects/group0", property="limits", value={"bps-total": 1}
    )
    time.sleep(5)
    session.ask()


def _fail(session: Session) -> None:
    session.servers["server0"].close_gate()
    monitor = session.machine.monitor
    session.wait_until(
        lambda: monitor.execute("query-status")["status"] == "io-error", "the VM stops on an error"
    )
    session.ask()


STUCK_THROTTLE = Scenario(
    name="stuck-throttle",
    summary="requests parked in a throttle group that lets one byte per second through",
    arguments=(
        *Q35,
        *IOTHREAD,
        *("-object", "throttle-group,id=group0"),
        *nbd_node("nbd0", "server0"),
        *("-blockdev", "driver=throttle,node-name=slow0,throttle-group=group0,file=nbd0"),
        "-device",
        "virtio-blk-pci,id=disk0,drive=slow0,iothread=io0,num-queues=4,serial=SLOWSERIAL,addr=05.0",
    ),
    script=traffic("vda") + ready(5),
    devices=(_THROTTLED,),
    servers=(MEMORY_SERVER,),
    incident=_throttle,
)

IO_ERROR = Scenario(
    name="io-error",
    summary="requests that failed and wait for the VM to be continued (werror=stop, rerror=stop)",
    arguments=(
        *Q35,
        *IOTHREAD,
        *nbd_node("nbd0", "server0"),
        *("-device", f"{_FAILING_DEVICE},werror=stop,rerror=stop"),
    ),
    script=traffic("vda") + ready(5),
    devices=(_FAILING,),
    servers=(
        ServerPlan(
            "server0",
            ("memory", "256M", "error=EIO", "error-rate=100%", "error-file={gate}"),
            filters=("error",),
        ),
    ),
    incident=_fail,
)
