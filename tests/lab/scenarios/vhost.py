"""A vhost-user-blk disk: another process takes its requests, and then stops or ends."""

from __future__ import annotations

import struct
import time
from typing import Any

from tests.lab.backend import BackendPlan
from tests.lab.machine import GuestError
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import MEMORY_SERVER, ready, traffic
from tests.lab.session import Session

_QUEUES = 4
_DISK = Device("disk0", "virtio-blk", "00:05.0", queues=_QUEUES)

_ARGUMENTS = (
    *("-machine", "q35,memory-backend=ram0", "-m", "256"),
    *("-object", "memory-backend-memfd,id=ram0,size=256M,share=on"),
    *("-chardev", "socket,id=vhost0,path={backend0.vhost}"),
    *("-device", f"vhost-user-blk-pci,id=disk0,chardev=vhost0,num-queues={_QUEUES},addr=5"),
)

# One more reader every two seconds: some come when the back-end takes no requests any more.
_LATE_READERS = """
late=0
while [ $late -lt 40 ] && sleep 2; do
  late=$((late + 1))
  dd if=/dev/vda of=/dev/null bs=4k skip=$((8000 + late)) count=1 iflag=direct 2>/dev/null &
done &
"""


def _stop(session: Session) -> None:
    """Stops the NBD server, then the back-end with the requests that it has passed on."""
    session.servers["server0"].stop()
    session.settle()
    session.backends["backend0"].stop()
    time.sleep(5)
    session.ask()


def _kill(session: Session) -> None:
    session.servers["server0"].stop()
    session.settle()
    session.backends["backend0"].kill()
    session.settle()
    session.ask()


def _check_shared(truth: Any, servers: Any) -> None:
    """The back-end has noted requests of every queue, and others wait that it has not taken."""
    vhost = truth["devices"][0]["vhost"]
    if not vhost["listed"] or vhost["inflight"] is None or vhost["inflight"]["region"] is None:
        raise GuestError("no inflight region in the core")
    region = bytes.fromhex(vhost["inflight"]["region"])
    stride = len(region) // _QUEUES
    noted = [_noted(region[number * stride :]) for number in range(_QUEUES)]
    held = sum(len(server["held"]) for server in servers)
    if not all(noted) or sum(noted) < held:
        raise GuestError(f"the back-end notes {noted} requests, its server holds {held}")
    waiting = [_waiting(queue["rings"]) for queue in truth["devices"][0]["queues"]]
    if sum(waiting) <= sum(noted):
        raise GuestError("no request came after the back-end had stopped")


def _noted(record: bytes) -> int:
    """How many descriptors are marked in one queue's record (QEMU, vhost-user protocol)."""
    count = struct.unpack_from("<H", record, 10)[0]
    return sum(record[16 + 16 * number] for number in range(count))


def _waiting(rings: dict[str, str]) -> int:
    available, used = (bytes.fromhex(rings[part])[2:4] for part in ("avail", "used"))
    return int.from_bytes(available, "little") - int.from_bytes(used, "little") & 0xFFFF


STUCK_VHOST_USER = Scenario(
    name="stuck-vhost-user",
    summary="vhost-user-blk; the back-end has stopped with requests in it",
    arguments=_ARGUMENTS,
    script=traffic("vda") + _LATE_READERS + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    backends=(BackendPlan("backend0", "server0", _QUEUES),),
    incident=_stop,
    check=_check_shared,
)

VHOST_USER_GONE = Scenario(
    name="vhost-user-gone",
    summary="vhost-user-blk; the back-end has died with requests in it",
    arguments=_ARGUMENTS,
    script=traffic("vda") + _LATE_READERS + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    backends=(BackendPlan("backend0", "server0", _QUEUES),),
    incident=_kill,
)
