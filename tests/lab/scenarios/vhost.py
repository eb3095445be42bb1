"""A vhost-user-blk disk: another process takes its requests, and then stops or ends."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lab.backend import BackendPlan
from tests.lab.machine import GuestError
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.aio import mount_fuse
from tests.lab.scenarios.parts import MEMORY_SERVER, ready, traffic
from tests.lab.session import Session

_QUEUES = 4
_LATE = 5
"""Seconds in which requests come that the back-end does not take."""


def _arguments(queues: int) -> tuple[str, ...]:
    return (
        *("-machine", "q35,memory-backend=ram0", "-m", "256"),
        *("-object", "memory-backend-memfd,id=ram0,size=256M,share=on"),
        *("-chardev", "socket,id=vhost0,path={backend0.vhost}"),
        *("-device", f"vhost-user-blk-pci,id=disk0,chardev=vhost0,num-queues={queues},addr=5"),
    )


_EXPORT = (
    "vhost-user-blk,id=export0,node-name=nbd0,addr.type=unix,addr.path={backend0.vhost}"
    f",writable=on,num-queues={_QUEUES}"
)
_STORAGE_DAEMON = BackendPlan(
    "backend0",
    (
        "qemu-storage-daemon",
        *("--blockdev", "driver=nbd,node-name=nbd0,server.type=unix,server.path={server0.nbd}"),
        *("--export", _EXPORT),
    ),
)
"""It has many requests at once, and keeps no record of them that QEMU could see."""

_RECORDING = BackendPlan(
    "backend0",
    (
        "vhost-user-blk",
        *("--socket-path={backend0.vhost}", "--blk-file={directory}/fuse/nbd"),
    ),
)
"""It has one queue, takes one request at a time and notes it in memory shared with QEMU."""

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
    time.sleep(_LATE)
    session.ask()


def _hang(session: Session) -> None:
    """Stops the server of the file; the back-end sleeps in the kernel over its next request."""
    session.servers["server0"].stop()
    session.settle()
    time.sleep(_LATE)
    session.ask()


def _kill(session: Session) -> None:
    session.servers["server0"].stop()
    session.settle()
    session.backends["backend0"].kill()
    session.settle()
    session.ask()


def _die(session: Session) -> None:
    """As `_hang`; then the back-end dies, without another step, as its file is taken away."""
    session.servers["server0"].stop()
    session.settle()
    session.backends["backend0"].condemn()
    point = session.servers["server0"].socket_path.parent / "fuse"
    # It cannot be taken away while it is open; what waits for it is ended all the same.
    subprocess.run(["umount", "-f", str(point)], check=False, capture_output=True)
    session.backends["backend0"].kill()
    time.sleep(_LATE)
    session.ask()


def _check_waiting(truth: Any, servers: Any) -> None:
    """Every queue has requests, and more than the back-end has taken."""
    device = truth["devices"][0]
    waiting = [_waiting(queue["rings"]) for queue in device["queues"]]
    held = sum(len(server["held"]) for server in servers)
    if not device["vhost"]["listed"] or not all(waiting) or not 0 < held < sum(waiting):
        raise GuestError(f"requests by queue: {waiting}; the server holds {held}")


def _check_noted(truth: Any, servers: Any) -> None:
    """The back-end has noted the one request that it has taken."""
    _check_waiting(truth, servers)
    _check_record(truth, servers)


def _check_record(truth: Any, _servers: Any) -> None:
    """QEMU has the record, and one request is in it."""
    inflight = truth["devices"][0]["vhost"]["inflight"]
    if inflight is None or inflight["region"] is None:
        raise GuestError("no inflight region in the core")
    noted = _noted(bytes.fromhex(inflight["region"]))
    if noted != 1:
        raise GuestError(f"the back-end notes {noted} requests")


def _noted(record: bytes) -> int:
    """How many descriptors are marked in the record of the first queue.

    vhost-user protocol, "Inflight I/O tracking": a header of 16 bytes, then 16 per descriptor.
    """
    count = struct.unpack_from("<H", record, 10)[0]
    return sum(record[16 + 16 * number] for number in range(count))


def _waiting(rings: dict[str, str]) -> int:
    available, used = (bytes.fromhex(rings[part])[2:4] for part in ("avail", "used"))
    return int.from_bytes(available, "little") - int.from_bytes(used, "little") & 0xFFFF


def _scenario(
    name: str,
    summary: str,
    backend: BackendPlan,
    incident: Callable[[Session], None],
    queues: int = _QUEUES,
) -> Scenario:
    return Scenario(
        name=name,
        summary=summary,
        arguments=_arguments(queues),
        script=traffic("vda") + _LATE_READERS + ready(5),
        devices=(Device("disk0", "vhost-user-blk", "00:05.0", queues=queues),),
        servers=(MEMORY_SERVER,),
        backends=(backend,),
        incident=incident,
    )


STUCK_VHOST_USER = replace(
    _scenario(
        "stuck-vhost-user",
        "vhost-user-blk; the back-end has stopped with requests in it",
        _STORAGE_DAEMON,
        _stop,
    ),
    check=_check_waiting,
)

STUCK_VHOST_INFLIGHT = replace(
    _scenario(
        "stuck-vhost-inflight",
        "vhost-user-blk; the back-end hangs in a request that it has noted in shared memory",
        _RECORDING,
        _hang,
        queues=1,
    ),
    prepare=mount_fuse,
    check=_check_noted,
)

VHOST_GONE_INFLIGHT = replace(
    _scenario(
        "vhost-gone-inflight",
        "vhost-user-blk; the back-end has died, and left its record of requests to the next one",
        _RECORDING,
        _die,
        queues=1,
    ),
    prepare=mount_fuse,
    check=_check_record,
)

VHOST_USER_GONE = _scenario(
    "vhost-user-gone",
    "vhost-user-blk; the back-end has died with requests in it",
    _STORAGE_DAEMON,
    _kill,
)
